//! Random bytes for a Unix socket: what listens there must survive them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::rng::SplitMix64;

/// Options of `pelt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The socket.
    #[arg(long)]
    pub socket: PathBuf,
    /// How many connections.
    #[arg(long, default_value_t = 200)]
    pub count: u32,
    /// Most bytes of one.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..))]
    pub most: u64,
    /// Seed of the bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What `pelt` reports.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Connections that were made.
    pub connections: u32,
    /// Those that were answered.
    pub answered: u32,
}

/// Throws: some connections say nothing, some hang up in the middle, some send lines.
///
/// # Errors
///
/// Nothing listens at the socket, or not any more after some connections.
pub fn run(args: &Args) -> Result<Report> {
    let mut rng = SplitMix64::for_thread(args.seed, 0);
    let mut report = Report::default();
    for _ in 0..args.count {
        let mut stream = UnixStream::connect(&args.socket)
            .with_context(|| format!("connecting to {}", args.socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        report.connections += 1;
        let length = rng.below(args.most) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| rng.below(256) as u8).collect();
        if rng.below(2) == 0 {
            bytes.splice(..0, *b"{\"do\":\"");
            bytes.push(b'\n');
        }
        // It may have hung up already: that is its right.
        let _ = stream.write_all(&bytes);
        if rng.below(4) > 0 {
            let mut answer = [0; 64];
            report.answered += u32::from(stream.read(&mut answer).is_ok_and(|count| count > 0));
        }
    }
    Ok(report)
}
