//! What a window measured. Records are kept as they are; reports come from them.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A distribution: quantiles, and the latency at each in microseconds.
pub type Cdf = Vec<(f64, f64)>;

/// What one workload measured of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// As in the scenario.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Its kind of load.
    pub load: String,
    /// By name, with its unit as the name's end: `p99_us`, `units_per_s`, `seconds`, `missed`.
    pub values: BTreeMap<String, f64>,
    /// Of its latencies.
    #[serde(default)]
    pub cdf_us: Cdf,
    /// CPU time of its cgroup in seconds.
    pub cpu_s: f64,
    /// Why it failed, and measured nothing or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// CPUs that each tier's workloads used, at one moment of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Seconds since the window began.
    pub at_s: f64,
    /// By tier.
    pub cpus: BTreeMap<String, f64>,
}

/// A window: one arm on one rung of one scenario, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The scenario's name.
    pub scenario: String,
    /// Threads of each workload of background.
    pub rung: u32,
    /// In exact time: virtual microseconds within which QEMU visits every CPU at least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_us: Option<u32>,
    /// Who was to schedule.
    pub arm: String,
    /// Of the arrivals.
    pub seed: u64,
    /// The kernel's release.
    pub kernel: String,
    /// CPUs that the bench might use: its affinity and the CPU quota of its cgroup count.
    pub cpus: usize,
    /// Who did schedule, as the kernel says, at the window's end; `stock`: no sched_ext scheduler.
    pub attached: String,
    /// A scheduler that was to be there was gone, or another one.
    pub ejected: bool,
    /// Why it did not attach, and nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Seconds of the window in which the stock scheduler ran the node though another was to.
    pub stock_s: f64,
    /// Times that cpu.max held one of the workloads.
    pub throttled: u64,
    /// A workload has a `cpu.max` that who scheduled does not enforce.
    #[serde(default)]
    pub unlimited: bool,
    /// CPU time of the scheduler's own process in seconds; what it does in the kernel is not in it.
    pub scheduler_cpu_s: f64,
    /// Decisions that a policy of infera made.
    #[serde(default)]
    pub decisions: u64,
    /// The window's length in seconds.
    pub seconds: f64,
    /// What was measured.
    pub work: Vec<Work>,
    /// CPUs over time.
    pub shares: Vec<Share>,
}

impl Record {
    /// The workloads that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        let works = self.work.iter();
        works.filter_map(|work| Some((&*work.name, work.failed.as_deref()?)))
    }

    /// Whether the arm's scheduler attached and stayed, and every load did what it was to.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.ejected && self.refused.is_none() && self.failures().next().is_none()
    }
}

/// Reads the records of an earlier run.
///
/// # Errors
///
/// The file cannot be read, or is not what [`write_records`] wrote. The error has the path.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} has no records of `infera bench --out`", path.display()))
}

/// Keeps them.
///
/// # Errors
///
/// The file cannot be written. It may be cut off then: it is not replaced in one step.
pub fn write_records(path: &Path, records: &[Record]) -> Result<()> {
    let text = serde_json::to_vec(records)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
