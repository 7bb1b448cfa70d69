//! How long something takes to change who schedules the node.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::clock::{self, MS};

const STATE: &str = "/sys/kernel/sched_ext/state";

/// Real-time priority of the one who looks, above all that is looked at.
const PRIORITY: libc::c_int = 50;

/// Options of `await`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The state to wait for: enabled or disabled.
    #[arg(long, default_value = "disabled")]
    pub state: String,
    /// How long to wait for it.
    #[arg(long, default_value_t = 30_000)]
    pub timeout_ms: u64,
    /// Send this signal, by number, to every --pid.
    #[arg(long, requires = "pid")]
    pub signal: Option<i32>,
    /// Who gets the signal.
    #[arg(long)]
    pub pid: Vec<i32>,
    /// What to run instead; its time counts.
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// What `await` reports.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From the cause to the state, or to giving up.
    pub ms: f64,
    /// Whether it came to that state.
    pub reached: bool,
    /// When that was, in ms since 1970, to compare with others' logs.
    pub at_ms: u64,
}

/// Causes the change and waits for the state, in the real-time class so that no scheduler of ordinary
/// tasks delays the check.
///
/// # Errors
///
/// The process may not use SCHED_FIFO, a signal cannot be sent, the command cannot be started, there is neither a
/// process nor a command, or the kernel has no sched_ext. A state that is not reached in time is no error.
pub fn run(args: &Args) -> Result<Report> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters outlive the call.
    if unsafe { libc::sched_setscheduler(0, policy, &parameters) } != 0 {
        return Err(std::io::Error::last_os_error()).context("entering SCHED_FIFO");
    }
    let start = clock::monotonic();
    for &pid in &args.pid {
        let signal = args.signal.unwrap_or(0);
        // SAFETY: kill touches no memory.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("sending signal {signal} to {pid}"));
        }
    }
    let mut child = match args.command.split_first() {
        Some((program, rest)) => Some(
            Command::new(program)
                .args(rest)
                .spawn()
                .with_context(|| format!("starting {program}"))?,
        ),
        None if args.pid.is_empty() => {
            bail!("nothing to do: give --signal and --pid, or a command")
        }
        None => None,
    };
    let reached = loop {
        let state = fs::read_to_string(STATE).with_context(|| format!("reading {STATE}"))?;
        if state.trim() == args.state {
            break true;
        }
        let now = clock::monotonic();
        if now - start > args.timeout_ms * MS {
            break false;
        }
        clock::sleep_until(now + MS);
    };
    let at_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64);
    let ms = (clock::monotonic() - start) as f64 / MS as f64;
    if let Some(child) = &mut child {
        child.wait()?;
    }
    Ok(Report { ms, reached, at_ms })
}
