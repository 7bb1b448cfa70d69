//! What the kernel counts of sched_ext itself, for statistics: fallbacks, bypass, tasks put back.
//!
//! The file shows what the kernel function `scx_bpf_events()` returns, by name, so that a newer kernel's counters appear
//! without a change here, and no BPF program has to collect them. 6.12 has neither.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Of the attached scheduler.
pub const FILE: &str = "/sys/kernel/sched_ext/root/events";

/// Counters since attach, by the kernel's name in lower case without its prefix.
pub type Events = BTreeMap<String, u64>;

/// Reads them; none where the kernel has no such file.
pub fn read(file: &Path) -> Events {
    parse(&fs::read_to_string(file).unwrap_or_default())
}

fn parse(text: &str) -> Events {
    let event = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        let name = name.strip_prefix("SCX_EV_")?.to_lowercase();
        Some((name, count.trim().parse().ok()?))
    };
    text.lines().filter_map(event).collect()
}

/// What was counted from `before` to `now`.
pub fn between(before: &Events, now: &Events) -> Events {
    let since = |(name, count): (&String, &u64)| {
        let earlier = before.get(name).copied().unwrap_or(0);
        (name.clone(), count.saturating_sub(earlier))
    };
    now.iter().map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_name_and_are_differences() {
        let text =
            "SCX_EV_SELECT_CPU_FALLBACK 3\nSCX_EV_BYPASS_DURATION 1000\nnonsense\nSCX_EV_X y\n";
        let events = parse(text);
        assert_eq!(events["select_cpu_fallback"], 3);
        assert_eq!(events.len(), 2);
        let before = parse("SCX_EV_SELECT_CPU_FALLBACK 1\n");
        let between = between(&before, &events);
        assert_eq!(between["select_cpu_fallback"], 2);
        assert_eq!(between["bypass_duration"], 1000);
        assert!(read(Path::new("/no/such/file")).is_empty());
    }
}
