//! `infera bench`: which scheduler, for which work, by how much.

use anyhow::Result;
use clap::Args;
use infera_bench::report::ReportArgs;
use infera_bench::{RECORD, Record, RunArgs, read_records, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to run, and what to make of it.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    runs: RunArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Prints the scenarios, peers and policies that there are.
    #[arg(long)]
    list: bool,
    /// Runs nothing: reports what an earlier run measured.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    records: Option<PathBuf>,
    /// Prints each record as it comes, a line each, and no report.
    #[arg(long, hide = true)]
    raw: bool,
}

/// Runs and reports. Exit status 1: in some window a scheduler did not attach or was ejected, or a load failed.
///
/// # Errors
///
/// A file of records cannot be read, written or parsed, a page cannot be drawn or written, or as [`run`]. A scheduler
/// that does not attach and a load that fails are in the records, and in the exit status.
pub fn print(args: &BenchArgs) -> Result<ExitCode> {
    if args.list {
        print!("{}", RunArgs::list());
        return Ok(ExitCode::SUCCESS);
    }
    let earlier = args.report.earlier()?;
    let records = match &args.records {
        Some(path) => read_records(path)?,
        None => measure(args)?,
    };
    let well = args.raw || args.report.report(&records, earlier)?;
    Ok(ExitCode::from(u8::from(!well)))
}

fn measure(args: &BenchArgs) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let keep = |record: &Record| {
        if args.raw {
            println!("{RECORD}{}", serde_json::to_string(record)?);
        }
        records.push(record.clone());
        args.report.keep(&records)
    };
    run(&args.runs, keep, |line| eprintln!("{line}"))?;
    Ok(records)
}
