//! Asking the guard.

use crate::{MAX_REPLY, PATIENCE, Reply, Request, Status};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use thiserror::Error;

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No guard listens at the socket, or this process may not connect to it.
    #[error("cannot reach the guard at {path}: {source}")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not answer in time, or hung up.
    #[error("the guard does not answer: {0}")]
    Silent(#[from] std::io::Error),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// It answered something else.
    #[error("the guard's answer is of another version: {0}")]
    Garbled(#[from] serde_json::Error),
}

/// Asks the guard that listens at `socket`.
///
/// # Errors
///
/// No guard listens there, it refuses, does not answer in time, or answers something that this version does not know.
pub fn ask(socket: &Path, request: &Request) -> Result<Status, ClientError> {
    let mut stream = UnixStream::connect(socket).map_err(|source| ClientError::Connect {
        path: socket.display().to_string(),
        source,
    })?;
    // It may be busy taking the scheduler off the node.
    stream.set_read_timeout(Some(4 * PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(MAX_REPLY as u64).read_to_end(&mut answer)?;
    match Reply::parse(&answer)? {
        Reply::Done(status) => Ok(*status),
        Reply::Refused { error } => Err(ClientError::Refused(error)),
    }
}
