//! Hogs: threads or processes that want all the CPU time there is, and count what they do.
//!
//! A hog does one job ([`job`]): it spins, works inside the kernel ([`kernel`]), or sleeps on purpose. It has the
//! scheduling class and nice value that this process was started with, whatever its maker does meanwhile.

mod job;
mod kernel;
mod processes;
mod threads;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use serde::Serialize;

use crate::class::Class;
use crate::clock::{self, MS, US};
use crate::counters::Counters;
use job::Job;

/// Options of `hogs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many hogs.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub count: u16,
    /// How long to spin; 0 is until SIGTERM or SIGINT.
    #[arg(long, default_value_t = 0)]
    pub duration_ms: u64,
    /// Keep the counters in this file, 8 bytes for each hog.
    #[arg(long, value_name = "FILE")]
    pub progress: Option<PathBuf>,
    /// Keep in this file, 8 bytes for each hog, its longest time without a CPU, in ns.
    #[arg(long, value_name = "FILE")]
    pub gaps: Option<PathBuf>,
    /// Make each hog a process instead of a thread.
    #[arg(long)]
    pub processes: bool,
    /// Work inside the kernel instead of spinning: these kinds by turns, a kind for each hog; all of them
    /// where none is named. Units of different kinds are of about 1 ms each, and not of one length.
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "zero,faults,pipes"
    )]
    pub kernel: Vec<kernel::Kind>,
    /// Sleep on purpose: run for this many us of CPU time, then sleep for --sleep-us, and so on.
    #[arg(long, value_name = "US", requires = "sleep_us", conflicts_with_all = ["kernel", "gaps"],
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub run_us: Option<u64>,
    /// How long to sleep after each --run-us.
    #[arg(long, value_name = "US", requires = "run_us",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub sleep_us: Option<u64>,
    /// The nice value of each hog; the inherited one where absent. Without effect under SCHED_FIFO.
    #[arg(long, value_name = "NICE", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub nice: Option<i32>,
}

impl Args {
    /// What the hog of that index does.
    fn job(&self, index: usize) -> Job {
        match (self.run_us, self.sleep_us) {
            (Some(run), Some(sleep)) => Job::Pauses {
                run: run * US,
                sleep: sleep * US,
            },
            _ if self.kernel.is_empty() => Job::Spin,
            _ => Job::Kernel(self.kernel[index % self.kernel.len()]),
        }
    }
}

/// What the hogs did.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    /// How many there were.
    pub threads: u16,
    /// Units of work done by all.
    pub units: u64,
    /// Units done by the hog that did least.
    pub least: u64,
    /// Units done by the hog that did most.
    pub most: u64,
    /// CPU time of all, in seconds.
    pub cpu_s: f64,
    /// CPU time of the hog that had least.
    pub least_cpu_s: f64,
    /// CPU time of the hog that had most.
    pub most_cpu_s: f64,
}

/// Runs hogs of that class until the time is over or a stop is requested.
///
/// # Errors
///
/// A file of counters cannot be created or mapped, a hog cannot be started, or a hog ended with an error.
pub fn run(args: &Args, class: Class) -> Result<Report> {
    let count = usize::from(args.count);
    let counters = match &args.progress {
        Some(path) => Counters::in_file(count, path)?,
        None => Counters::anonymous(count)?,
    };
    let gaps = match &args.gaps {
        Some(path) => Some(Counters::in_file(count, path)?),
        None => None,
    };
    let cpu = Counters::anonymous(count)?;
    let crowd = Crowd {
        count,
        duration_ms: args.duration_ms,
        class: args.nice.map_or(class, |nice| class.with_nice(nice)),
    };
    let hog = |i| Hog {
        job: args.job(i),
        units: counters.get(i),
        gap: gaps.as_ref().map(|gaps| gaps.get(i)),
        cpu: cpu.get(i),
    };
    if args.processes {
        processes::run(hog, crowd)?;
    } else {
        threads::run(hog, crowd)?;
    }
    let seconds = |ns: u64| ns as f64 / 1e9;
    Ok(Report {
        threads: args.count,
        units: counters.values().sum(),
        least: counters.values().min().unwrap_or(0),
        most: counters.values().max().unwrap_or(0),
        cpu_s: seconds(cpu.values().sum()),
        least_cpu_s: seconds(cpu.values().min().unwrap_or(0)),
        most_cpu_s: seconds(cpu.values().max().unwrap_or(0)),
    })
}

/// What all hogs of a run have in common.
#[derive(Clone, Copy)]
struct Crowd {
    count: usize,
    duration_ms: u64,
    class: Class,
}

impl Crowd {
    /// Returns when the hogs, which all have begun, have had their time.
    fn wait(&self) {
        clock::sleep_until(match self.duration_ms {
            0 => u64::MAX,
            ms => clock::monotonic().saturating_add(ms.saturating_mul(MS)),
        });
    }
}

/// One hog, and where it, as the only writer, keeps its counts.
#[derive(Clone, Copy)]
struct Hog<'a> {
    job: Job,
    units: &'a AtomicU64,
    gap: Option<&'a AtomicU64>,
    /// CPU time in ns, written when it ends.
    cpu: &'a AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("hogs").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args)
    }

    #[test]
    fn kinds_of_kernel_work_take_turns() {
        use kernel::Kind::{Faults, Pipes, Zero};
        let jobs = |line: &str| [0, 1, 2, 3].map(|i| parse(line).unwrap().job(i));
        assert_eq!(jobs(""), [Job::Spin; 4]);
        assert_eq!(
            jobs("--kernel"),
            [Zero, Faults, Pipes, Zero].map(Job::Kernel)
        );
        assert_eq!(
            jobs("--kernel=pipes,zero --processes"),
            [Pipes, Zero, Pipes, Zero].map(Job::Kernel)
        );
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        for line in [
            "--kernel=sockets",
            "--run-us 3000",
            "--sleep-us 1000",
            "--run-us 0 --sleep-us 1000",
            "--run-us 3000 --sleep-us 1000 --kernel",
            "--run-us 3000 --sleep-us 1000 --gaps file",
            "--nice 20",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--nice -5").unwrap().nice, Some(-5));
    }
}
