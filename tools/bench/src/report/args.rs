//! What to make of records: the command line's part that all who run benches share.

use super::{compare, goals, html, ratios, table};
use crate::record::{Record, read_records, write_records};
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::PathBuf;

/// What to make of what was measured.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Keeps what was measured in this file, as it comes, for `infera bench --records` and `--compare`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Prints what has changed since an earlier run.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

impl ReportArgs {
    /// The run to compare with: to be read before hours are spent.
    ///
    /// # Errors
    ///
    /// The file of `--compare` cannot be read, or has no records.
    pub fn earlier(&self) -> Result<Option<Vec<Record>>> {
        self.compare.as_deref().map(read_records).transpose()
    }

    /// Keeps records so far: a run may be cut off.
    ///
    /// # Errors
    ///
    /// The file of `--out` cannot be written.
    pub fn keep(&self, records: &[Record]) -> Result<()> {
        match &self.out {
            Some(path) => write_records(path, records),
            None => Ok(()),
        }
    }

    /// Reports. Whether every scheduler attached and stayed, and every load did what it was to.
    ///
    /// # Errors
    ///
    /// The page of `--html` cannot be drawn ([`html()`]) or written.
    pub fn report(&self, records: &[Record], earlier: Option<Vec<Record>>) -> Result<bool> {
        print!("{}{}{}", table(records), ratios(records), goals(records));
        if let Some(earlier) = earlier {
            print!("{}", compare(&earlier, records));
        }
        if let Some(path) = &self.html {
            let page = html(records)?;
            fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(records.iter().all(Record::is_sound))
    }
}
