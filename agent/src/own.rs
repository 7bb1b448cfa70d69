//! What the agent itself uses.

use std::fs;
use std::path::Path;

/// Its CPU time in seconds, and its resident bytes.
#[must_use]
pub fn usage(proc: &Path) -> (f64, u64) {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9;
    let status = fs::read_to_string(proc.join("self/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (seconds, kilobytes.unwrap_or(0) * 1024)
}
