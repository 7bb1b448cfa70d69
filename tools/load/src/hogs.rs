//! Hogs: threads or processes that spin, counting what they do.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::clock::{self, MS};
use crate::counters::Counters;
use crate::{signal, work};

/// Iterations in one unit of work.
const UNIT: u64 = 10_000;

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
}

/// What the hogs did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Units of work done by all.
    pub units: u64,
    /// Units done by the hog that did least.
    pub min: u64,
    /// Units done by the hog that did most.
    pub max: u64,
}

/// Spins.
pub fn run(args: &Args) -> Result<Report> {
    let count = usize::from(args.count);
    let counters = match &args.progress {
        Some(path) => Counters::in_file(count, path)?,
        None => Counters::anonymous(count)?,
    };
    let gaps = match &args.gaps {
        Some(path) => Some(Counters::in_file(count, path)?),
        None => None,
    };
    let marks = |i| Marks {
        units: counters.get(i),
        gap: gaps.as_ref().map(|gaps| gaps.get(i)),
    };
    if args.processes {
        in_processes(marks, count, args.duration_ms)?;
    } else {
        in_threads(marks, count, args.duration_ms)?;
    }
    Ok(Report {
        units: counters.values().sum(),
        min: counters.values().min().unwrap_or(0),
        max: counters.values().max().unwrap_or(0),
    })
}

/// Returns when the hogs, which all have begun, have spun for so long.
fn spun(duration_ms: u64) {
    clock::sleep_until(match duration_ms {
        0 => u64::MAX,
        ms => clock::monotonic().saturating_add(ms.saturating_mul(MS)),
    });
}

/// Where a hog, as the only writer, keeps its counts.
#[derive(Clone, Copy)]
struct Marks<'a> {
    units: &'a AtomicU64,
    gap: Option<&'a AtomicU64>,
}

/// Does units of work until stopped.
fn spin(marks: Marks<'_>) {
    let mut units = 0;
    let (mut before, mut longest) = (clock::monotonic(), 0);
    while !signal::stop_requested() {
        work::mix(UNIT);
        units += 1;
        marks.units.store(units, Ordering::Relaxed);
        if let Some(gap) = marks.gap {
            // A unit's own time is a fraction of any wait that matters.
            let now = clock::monotonic();
            longest = longest.max(now - before);
            before = now;
            gap.store(longest, Ordering::Relaxed);
        }
    }
}

fn in_threads<'a>(
    marks: impl Fn(usize) -> Marks<'a>,
    count: usize,
    duration_ms: u64,
) -> Result<()> {
    stand_aside();
    // All begin at once, and each by itself: with a lock they would stand in line for it.
    let begun = AtomicBool::new(false);
    let mut hogs = Vec::with_capacity(count);
    thread::scope(|scope| {
        let started = (0..count).try_for_each(|i| {
            let hog = thread::Builder::new()
                .name(format!("hog-{i}"))
                .spawn_scoped(scope, {
                    let marks = marks(i);
                    let begun = &begun;
                    move || {
                        while !begun.load(Ordering::Acquire) {
                            thread::park();
                        }
                        spin(marks);
                    }
                })
                .with_context(|| format!("starting hog {i}"))?;
            hogs.push(hog.thread().clone());
            Ok(())
        });
        begun.store(true, Ordering::Release);
        hogs.iter().for_each(thread::Thread::unpark);
        if started.is_ok() {
            spun(duration_ms);
        }
        signal::request_stop();
        started
    })
}

/// The maker of a crowd would wait for its turn in it after each few hogs that it starts or wakes:
/// where it may, it runs outside of what is measured.
fn stand_aside() {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters outlive the call. Without the right to it, it stays as it was.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) };
}

fn in_processes<'a>(
    marks: impl Fn(usize) -> Marks<'a>,
    count: usize,
    duration_ms: u64,
) -> Result<()> {
    // SAFETY: getpid always succeeds and touches no memory.
    let parent = unsafe { libc::getpid() };
    let mut hogs = Vec::with_capacity(count);
    let mut outcome = Ok(());
    for i in 0..count {
        // SAFETY: this process has one thread, so the child may do all that its parent may.
        match unsafe { libc::fork() } {
            0 => hog_process(marks(i), i, parent),
            -1 => {
                outcome =
                    Err(io::Error::last_os_error()).with_context(|| format!("forking hog {i}"));
                break;
            }
            pid => hogs.push(pid),
        }
    }
    if outcome.is_ok() {
        spun(duration_ms);
    }
    for &pid in &hogs {
        // SAFETY: kill touches no memory; `pid` is a child not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    for pid in hogs {
        outcome = outcome.and(wait(pid));
    }
    outcome
}

/// The life of a forked hog.
fn hog_process(marks: Marks<'_>, index: usize, parent: libc::pid_t) -> ! {
    let name = std::ffi::CString::new(format!("hog-{index}")).unwrap_or_default();
    // SAFETY: PR_SET_NAME reads the string, which is terminated and lives; a failure only leaves
    // the name as it was.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // A hog must not outlive a parent that is killed.
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    // SAFETY: getppid touches no memory.
    if unsafe { libc::getppid() } == parent {
        spin(marks);
    }
    // SAFETY: _exit touches no memory; the parent alone runs what is registered for exit.
    unsafe { libc::_exit(0) }
}

/// Waits for a hog to exit.
fn wait(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid integer to write to.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).with_context(|| format!("waiting for hog {pid}"));
        }
    }
    ensure!(status == 0, "hog {pid} ended with wait status {status:#x}");
    Ok(())
}
