//! A request that several processes, one after the other, have a part in.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::clock::{self, MS, US};
use crate::report::{Latencies, Periodic};
use crate::rng::SplitMix64;
use crate::window::{LEAD, Turn, Window};
use crate::work::Speed;

/// Options of `chain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many processes, this one apart.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub processes: u16,
    /// CPU time that each of them takes for a request.
    #[arg(long, default_value_t = 100)]
    pub work_us: u64,
    /// Time from one request to the next, but for the jitter.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub period_us: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
    /// Seed of the jitter: each request is delayed by up to a fifth of the period.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Measures from each request's wanted start until it has passed all of them. Requests go one by
/// one; one that is late delays the next, and the delay counts.
///
/// # Errors
///
/// A pipe or a process cannot be made because of a limit, or a part of the chain was killed.
pub fn run(args: &Args) -> Result<Periodic> {
    clock::tighten_timers()?;
    let speed = Speed::calibrate();
    let (first, mut send) = pipe()?;
    let mut next = first;
    for _ in 0..args.processes {
        let (out, into) = pipe()?;
        // SAFETY: this process has one thread, so the child may do all that its parent may.
        match unsafe { libc::fork() } {
            0 => {
                drop(send);
                drop(out);
                serve(next, into, || speed.burn(args.work_us * US));
            }
            -1 => return Err(io::Error::last_os_error()).context("forking a part of the chain"),
            // It ends by itself when the pipe before it is closed.
            _ => next = out,
        }
    }
    let mut back = next;
    let start = clock::monotonic() + LEAD;
    let mut window = Window::until(start.saturating_add(args.duration_ms.saturating_mul(MS)));
    let mut rng = SplitMix64::for_thread(args.seed, 0);
    let period = args.period_us * US;
    let (mut latencies, mut missed, mut base) = (Latencies::new(), 0, start);
    loop {
        let wanted = base.saturating_add(rng.below(period / 5));
        match window.wait(wanted) {
            Turn::Go(_) => {
                send.write_all(&[1]).context("sending a request")?;
                back.read_exact(&mut [0])
                    .context("a part of the chain ended")?;
                latencies.record(clock::monotonic() - wanted);
            }
            Turn::Missed => missed += 1,
            Turn::Over => break,
        }
        base = base.saturating_add(period);
    }
    Ok(Periodic::sum([(latencies, missed)]))
}

/// The life of a forked part: ends with the one before it.
fn serve(mut from: File, mut to: File, work: impl Fn()) -> ! {
    let mut request = [0];
    while from.read_exact(&mut request).is_ok() {
        work();
        if to.write_all(&request).is_err() {
            break;
        }
    }
    // SAFETY: _exit touches no memory; the parent alone runs what is registered for exit.
    unsafe { libc::_exit(0) }
}

/// The end to read from, and the one to write to.
///
/// # Errors
///
/// The process or the node has no file descriptor left.
pub fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let rc = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    if rc != 0 {
        return Err(io::Error::last_os_error()).context("making a pipe");
    }
    // SAFETY: both were just opened, and nothing else owns them.
    let [read, write] = ends.map(|end| File::from(unsafe { OwnedFd::from_raw_fd(end) }));
    Ok((read, write))
}
