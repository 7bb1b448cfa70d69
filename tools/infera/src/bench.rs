//! `infera bench`: which scheduler, for which work, by how much.

use anyhow::Result;
use clap::Args;
use infera_bench::report::{compare, goals, html, ratios, table};
use infera_bench::{RECORD, Record, RunArgs, read_records, run, write_records};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to run, and what to make of it.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    runs: RunArgs,
    /// Prints the scenarios, peers and policies that there are.
    #[arg(long)]
    list: bool,
    /// Keeps what was measured in this file, for `--records` and `--compare`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Tells what has changed since an earlier run.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// RunArgs nothing: reports what an earlier run measured.
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    records: Option<PathBuf>,
    /// Prints each record as it comes, a line each, and no report.
    #[arg(long, hide = true)]
    raw: bool,
}

/// RunArgs and reports. Exit status 1: a scheduler was ejected in some window.
pub fn print(args: &BenchArgs) -> Result<ExitCode> {
    if args.list {
        print!("{}", RunArgs::list());
        return Ok(ExitCode::SUCCESS);
    }
    let old = args.compare.as_deref().map(read_records).transpose()?;
    let records = match &args.records {
        Some(path) => read_records(path)?,
        None => measure(args)?,
    };
    if args.raw {
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}{}{}", table(&records), ratios(&records), goals(&records));
    if let Some(old) = old {
        print!("{}", compare(&old, &records));
    }
    if let Some(path) = &args.html {
        fs::write(path, html(&records)?)?;
    }
    let ejected = records.iter().any(|record| record.ejected);
    Ok(ExitCode::from(u8::from(ejected)))
}

fn measure(args: &BenchArgs) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let keep = |record: &Record| {
        if args.raw {
            println!("{RECORD}{}", serde_json::to_string(record)?);
        }
        records.push(record.clone());
        // As they come: a run may be cut off.
        match &args.out {
            Some(path) => write_records(path, &records),
            None => Ok(()),
        }
    };
    run(&args.runs, keep, |line| eprintln!("{line}"))?;
    Ok(records)
}
