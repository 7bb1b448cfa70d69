//! `infera-guest-tests`: parses, runs a test or a row of the fault matrix under its time limit, reports.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use infera_guest_tests::{
    Children, Context, Findings, Node, Policy, TESTS, Waits, WorkerArgs, enter_realtime, failure,
    row, test, work,
};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What `timeout` exits with.
const TIMED_OUT: u8 = 124;

/// Runs a test of scheduling in this guest; `cargo xtask test --guest` runs all of them.
#[derive(Debug, Parser)]
#[command(
    name = "infera-guest-tests",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// The test; without one, the names of all are listed.
    name: Option<String>,
    /// The scheduler's policy.
    #[arg(long, default_value = "weighted")]
    policy: String,
    /// Attach nothing: what the kernel's own scheduler does in this test.
    #[arg(long, conflicts_with = "policy")]
    stock: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a row of the fault matrix; prints what it found as a line of JSON.
    Row {
        /// The row.
        name: String,
    },
    /// Be the process of a load.
    #[command(hide = true)]
    Work(WorkerArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (cli.command, cli.name) {
        (Some(Command::Work(args)), _) => work(&args).map(|()| ExitCode::SUCCESS),
        (Some(Command::Row { name }), _) => run_row(&name).map(|()| ExitCode::SUCCESS),
        (None, Some(name)) => {
            let policy = match cli.stock {
                true => Policy::Stock,
                false => Policy::Infera(cli.policy),
            };
            run_test(&name, policy)
        }
        (None, None) => {
            TESTS.iter().for_each(|test| println!("{}", test.name));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        println!("FAILED: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_test(name: &str, policy: Policy) -> Result<ExitCode> {
    let test = test(name).with_context(|| format!("no test '{name}'"))?;
    let ended = within(test.limit, policy, test.run)?;
    let code = match ended {
        Some((findings, outcome)) => {
            if let Err(error) = &outcome {
                println!("FAILED: {error:#}");
            }
            if outcome.is_ok() && findings.wrong().is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            ExitCode::FAILURE
        }
        None => {
            println!("FAILED: hung: not ended after {} s", test.limit.as_secs());
            ExitCode::from(TIMED_OUT)
        }
    };
    println!("{}", failure());
    Ok(code)
}

/// A row of the fault matrix, as its table reads it.
#[derive(Serialize)]
struct Line {
    kind: &'static str,
    gap_ns: u64,
    wake_us: Option<u64>,
    stalled: usize,
    state: &'static str,
    complaints: usize,
    note: String,
}

fn run_row(name: &str) -> Result<()> {
    let row = row(name).with_context(|| format!("no row '{name}'"))?;
    let policy = Policy::Infera("weighted".to_owned());
    let ended = within(row.limit, policy, row.run)?;
    let (waits, wrong) = match ended {
        Some((findings, outcome)) => {
            let mut wrong = findings.wrong().to_vec();
            let waits = outcome.unwrap_or_else(|error| {
                wrong.push(format!("{error:#}"));
                Waits::default()
            });
            (waits, wrong)
        }
        None => (
            Waits::default(),
            vec![format!("hung: not ended after {} s", row.limit.as_secs())],
        ),
    };
    if !wrong.is_empty() {
        println!("{}", failure());
    }
    let complaints = Node::here()?.complaints()?.len();
    let line = Line {
        kind: "fault",
        gap_ns: waits.longest.as_nanos() as u64,
        wake_us: waits.latest_wakeup.map(|wakeup| wakeup.as_micros() as u64),
        stalled: waits.lost,
        state: match waits.enabled {
            true => "enabled",
            false => "disabled",
        },
        complaints,
        note: wrong.join("; "),
    };
    println!("{name} {}", serde_json::to_string(&line)?);
    Ok(())
}

/// Runs it in a thread of its own; `None` where that has not ended in time.
///
/// Both threads are real-time ones: neither measuring nor giving up may wait for what is judged. A hung
/// thread is left behind: the process, and with it all load, ends soon.
fn within<T: Send + 'static>(
    limit: Duration,
    policy: Policy,
    run: fn(&Context, &mut Findings) -> Result<T>,
) -> Result<Option<(Findings, Result<T>)>> {
    enter_realtime(30, Children::Ordinary)?;
    let context = Context {
        node: Node::here()?,
        policy,
    };
    context.node.clear_kernel_log()?;
    let (done, ended) = mpsc::channel();
    thread::Builder::new()
        .name("test".to_owned())
        .spawn(move || {
            let mut findings = Findings::default();
            let outcome =
                enter_realtime(20, Children::Ordinary).and_then(|()| run(&context, &mut findings));
            let _ = done.send((findings, outcome));
        })?;
    match ended.recv_timeout(limit) {
        Ok(ended) => Ok(Some(ended)),
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => anyhow::bail!("the test panicked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use infera_guest_tests::ROWS;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_unique_and_no_subcommands() {
        let mut names: Vec<_> = TESTS.iter().map(|test| test.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TESTS.len());
        let mut rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ROWS.len());
        for name in names {
            let cli =
                Cli::try_parse_from(["infera-guest-tests", name, "--policy", "fifo"]).unwrap();
            assert_eq!(cli.name.as_deref(), Some(name));
        }
    }
}
