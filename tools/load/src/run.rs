//! Running another command in the cgroup.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Replaces this process by the command; returns only if that fails.
///
/// # Errors
///
/// The command is empty, is not in `PATH`, or cannot be executed. It returns only with an error.
pub fn run(args: &Args) -> Result<()> {
    let (program, rest) = args.command.split_first().context("no command to run")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("running {}", program.display()))
}
