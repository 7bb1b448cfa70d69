//! Threads that have little to do: what most of a node's threads are.

use std::thread;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::clock::{self, MS};
use crate::signal;

/// Enough for a thread that does nothing.
const STACK: usize = 32 * 1024;

/// Options of `idle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many threads.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub threads: u32,
    /// The interval between two wakeups of each thread, in milliseconds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub every_ms: u64,
    /// How long; until a signal comes, where absent.
    #[arg(long)]
    pub duration_ms: Option<u64>,
}

/// What `idle` reports.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How often the threads woke.
    pub wakeups: u64,
}

/// Sleeps and wakes.
///
/// # Errors
///
/// A thread cannot be started because of a limit on threads or memory; those before it go on until the process ends.
pub fn run(args: &Args) -> Result<Report> {
    let start = clock::monotonic();
    let end = args.duration_ms.map_or(u64::MAX, |ms| start + ms * MS);
    let every = args.every_ms * MS;
    let workers = (0..args.threads).map(|n| {
        // Not all at the same moment.
        let first = start + every * u64::from(n) / u64::from(args.threads);
        let work = move || {
            let (mut next, mut wakeups) = (first, 0);
            while next < end && !signal::stop_requested() {
                clock::sleep_until(next);
                wakeups += 1;
                next += every;
            }
            wakeups
        };
        let spawned = thread::Builder::new().stack_size(STACK).spawn(work);
        spawned.context("starting a thread")
    });
    let workers: Vec<_> = workers.collect::<Result<_>>()?;
    let wakeups = workers.into_iter().map(|worker| worker.join().unwrap_or(0));
    Ok(Report {
        wakeups: wakeups.sum(),
    })
}
