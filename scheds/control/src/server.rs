//! Answering, the guard's side.

use crate::{MAX_REQUEST, PATIENCE, Reply, Request};
use rustix::net::sockopt::socket_peercred;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// How much more than a request is taken off the socket's buffer, in bytes.
const MAX_UNREAD: u64 = 256 * 1024;

/// Serves one connection: reads a request, has it answered where the peer may ask it, replies.
///
/// Takes at most twice [`PATIENCE`], and what `answer` takes. What goes wrong with a connection
/// is the peer's to notice.
pub fn serve(mut stream: UnixStream, answer: impl FnOnce(Request) -> Reply) {
    let reply = match receive(&mut stream) {
        Ok((request, root)) if request.needs_root() && !root => Reply::Refused {
            error: "only root may ask this".into(),
        },
        Ok((request, _)) => answer(request),
        Err(error) => Reply::Refused { error },
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = stream.write_all(&line);
    }
    // With bytes of the peer left unread the kernel would reset the connection, and the peer would
    // not receive the answer.
    let _ = stream.set_nonblocking(true);
    let _ = io::copy(&mut stream.take(MAX_UNREAD), &mut io::sink());
}

/// A request, and whether root asks.
fn receive(stream: &mut UnixStream) -> Result<(Request, bool), String> {
    let silent = |error: io::Error| format!("no request: {error}");
    stream.set_nonblocking(false).map_err(silent)?;
    let peer = socket_peercred(&*stream).map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut line = Vec::new();
    let mut piece = [0; 256];
    // A byte now and then does not extend the time.
    while !line.contains(&b'\n') && line.len() <= MAX_REQUEST {
        let left = PATIENCE.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err("no request in time".into());
        }
        stream.set_read_timeout(Some(left)).map_err(silent)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(silent(error)),
        }
    }
    let end = line.iter().position(|byte| *byte == b'\n');
    let request = Request::parse(&line[..end.unwrap_or(line.len())])?;
    Ok((request, peer.uid.is_root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_long_and_hostile_requests_are_refused() {
        let refusal = |send: &dyn Fn(&mut UnixStream)| {
            let (mut theirs, mut ours) = UnixStream::pair().unwrap();
            send(&mut theirs);
            receive(&mut ours).unwrap_err()
        };
        let started = Instant::now();
        assert!(refusal(&|_| {}).contains("no request"));
        assert!(started.elapsed() < 4 * PATIENCE);
        let long = refusal(&|stream| stream.write_all(&[b'x'; 4 * MAX_REQUEST]).unwrap());
        assert!(long.contains("at most"));
        assert!(
            refusal(&|stream| stream.write_all(b"\xff\x00\n").unwrap()).contains("not a request")
        );
    }

    #[test]
    fn a_peer_that_sends_too_much_receives_the_reason() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        theirs.write_all(&[b'x'; 64 * MAX_REQUEST]).unwrap();
        serve(ours, |_| unreachable!());
        let mut line = String::new();
        theirs.read_to_string(&mut line).unwrap();
        assert!(line.contains("at most") && line.ends_with('\n'), "{line}");
    }

    #[test]
    fn a_request_comes_with_who_asks() {
        let (mut theirs, mut ours) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"do\":\"status\"}\n").unwrap();
        let (request, root) = receive(&mut ours).unwrap();
        assert_eq!(request, Request::Status);
        assert_eq!(root, rustix::process::geteuid().is_root());
    }
}
