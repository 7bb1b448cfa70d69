//! Two threads that wake each other, as fast as they can.

use std::io::{Read, Write};
use std::thread;

use anyhow::Result;
use serde::Serialize;

use crate::chain::pipe;
use crate::clock::{self, MS};
use crate::signal;

/// Options of `pingpong`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many such pairs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub pairs: u16,
    /// How long to measure.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
}

/// What they did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Rounds, there and back, of all pairs.
    pub rounds: u64,
}

/// Plays.
///
/// # Errors
///
/// A pipe cannot be made because the process or the node has no file descriptor left.
pub fn run(args: &Args) -> Result<Report> {
    let end = clock::monotonic().saturating_add(args.duration_ms.saturating_mul(MS));
    let mut ends = Vec::new();
    for _ in 0..args.pairs {
        ends.push((pipe()?, pipe()?));
    }
    let rounds = thread::scope(|scope| {
        let pairs: Vec<_> = ends
            .into_iter()
            .map(|((mut there, mut serve), (mut home, mut back))| {
                scope.spawn(move || {
                    let mut ball = [0];
                    while there.read_exact(&mut ball).is_ok() && back.write_all(&ball).is_ok() {}
                });
                scope.spawn(move || {
                    let mut rounds = 0;
                    while clock::monotonic() < end && !signal::stop_requested() {
                        if serve.write_all(&[1]).is_err() || home.read_exact(&mut [0]).is_err() {
                            break;
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        pairs.into_iter().map(|pair| pair.join().unwrap_or(0)).sum()
    });
    Ok(Report { rounds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_play_and_end() {
        let args = Args {
            pairs: 2,
            duration_ms: 20,
        };
        assert!(run(&args).unwrap().rounds > 0);
    }
}
