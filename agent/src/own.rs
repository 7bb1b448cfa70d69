//! What the agent itself uses.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;

/// Its CPU time in seconds, and its resident bytes.
#[must_use]
pub fn usage(proc: &Path) -> (f64, u64) {
    let seconds = cpu(ClockId::ProcessCPUTime);
    let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (seconds, kilobytes.unwrap_or(0) * 1024)
}

/// CPU time of this thread in seconds.
#[must_use]
pub fn thread_cpu() -> f64 {
    cpu(ClockId::ThreadCPUTime)
}

fn cpu(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
