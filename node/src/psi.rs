//! Pressure-stall information (PSI): how long tasks waited for a CPU.

use std::fs;
use std::path::Path;

/// Microseconds in which some task waited for a CPU, read from `file`: a cgroup's `cpu.pressure`, or
/// `/proc/pressure/cpu`; `None` where the kernel does not report it, or the cgroup is gone.
#[must_use]
pub fn cpu_some_us(file: &Path) -> Option<u64> {
    parse(&fs::read_to_string(file).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split("total=").nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_some_is_read() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 total=9\n";
        assert_eq!(parse(text), Some(1234));
        for bad in ["", "full total=1", "some avg10=0.00", "some total=x"] {
            assert_eq!(parse(bad), None);
        }
    }
}
