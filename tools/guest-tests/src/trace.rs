//! Which thread ran on which CPU and when, from the kernel's trace of switches.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

const TRACING: &str = "/sys/kernel/tracing";

/// KiB a CPU: some 40,000 switches.
const BUFFER: &str = "4096";

/// The trace, running until it is taken.
#[derive(Debug)]
pub struct Trace(());

/// A CPU begins to run another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// CLOCK_MONOTONIC.
    pub at: Duration,
    /// The CPU.
    pub cpu: usize,
    /// The name of the thread that runs from now on.
    pub next: String,
}

impl Trace {
    /// Starts it.
    pub fn start() -> Result<Trace> {
        set("tracing_on", "0")?;
        set("trace", "")?;
        set("buffer_size_kb", BUFFER)?;
        set("trace_clock", "mono")?;
        set("events/sched/sched_switch/enable", "1")?;
        set("tracing_on", "1")?;
        Ok(Trace(()))
    }

    /// Stops it; every switch since it was started, in order.
    pub fn take(self) -> Result<Vec<Switch>> {
        set("tracing_on", "0")?;
        let path = Path::new(TRACING).join("trace");
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        Ok(text.lines().filter_map(parse).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = set("tracing_on", "0");
        let _ = set("events/sched/sched_switch/enable", "0");
    }
}

fn set(file: &str, value: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, value).with_context(|| format!("writing {}", path.display()))
}

/// `hog-1-99 [003] d..2. 12.345678: sched_switch: prev_comm=... ==> next_comm=yes next_pid=7 ...`
fn parse(line: &str) -> Option<Switch> {
    let (head, tail) = line.split_once(": sched_switch: ")?;
    let (_, next) = tail.split_once("next_comm=")?;
    let (next, _) = next.rsplit_once(" next_pid=")?;
    let (_, cpu) = head.rsplit_once('[')?;
    let (cpu, _) = cpu.split_once(']')?;
    let (_, at) = head.rsplit_once(' ')?;
    let (seconds, fraction) = at.split_once('.')?;
    let micros: u64 = fraction.parse().ok()?;
    Some(Switch {
        at: Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros),
        cpu: cpu.parse().ok()?,
        next: next.to_owned(),
    })
}

/// Calls back with each time between two switches from `since` on, and with what ran on each CPU then.
pub fn intervals(
    switches: &[Switch],
    since: Duration,
    mut each: impl FnMut(Duration, &BTreeMap<usize, &str>),
) {
    let mut running: BTreeMap<usize, &str> = BTreeMap::new();
    let mut before = since;
    for switch in switches {
        if switch.at > before {
            each(switch.at - before, &running);
            before = switch.at;
        }
        running.insert(switch.cpu, &switch.next);
    }
}

/// A thread's time on a CPU, from one switch to the next.
#[derive(Clone, Debug)]
pub struct Run {
    /// The thread's name.
    pub name: String,
    /// How long.
    pub time: Duration,
}

/// Every run that began at `since` or later and has ended.
pub fn runs(switches: &[Switch], since: Duration) -> Vec<Run> {
    let mut running: BTreeMap<usize, &Switch> = BTreeMap::new();
    let mut runs = Vec::new();
    for switch in switches {
        if let Some(begun) = running.insert(switch.cpu, switch)
            && begun.at >= since
        {
            runs.push(Run {
                name: begun.next.clone(),
                time: switch.at.saturating_sub(begun.at),
            });
        }
    }
    runs
}

/// What the kernel and the scheduler say of themselves on sysrq-D.
pub fn sched_ext_dump() -> Result<String> {
    const EVENT: &str = "events/sched_ext/sched_ext_dump/enable";
    set("trace", "")?;
    set(EVENT, "1")?;
    set("tracing_on", "1")?;
    fs::write("/proc/sysrq-trigger", "D").context("asking for a dump")?;
    // A work item of the kernel's writes it.
    crate::clock::sleep(Duration::from_millis(500));
    set("tracing_on", "0")?;
    set(EVENT, "0")?;
    let path = Path::new(TRACING).join("trace");
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(at: u64, cpu: usize, next: &str) -> Switch {
        Switch {
            at: Duration::from_secs(at),
            cpu,
            next: next.to_owned(),
        }
    }

    #[test]
    fn a_switch_is_read_from_its_line() {
        let line = "  critical-0-123     [003] d..2.    12.345678: sched_switch: prev_comm=critical-0 \
                    prev_pid=123 prev_prio=120 prev_state=R ==> next_comm=a [b] c next_pid=9 next_prio=120";
        let wanted = Switch {
            at: Duration::from_micros(12_345_678),
            cpu: 3,
            next: "a [b] c".to_owned(),
        };
        assert_eq!(parse(line), Some(wanted));
        assert_eq!(parse("# tracer: nop"), None);
    }

    #[test]
    fn a_run_ends_with_the_next_switch_of_its_cpu() {
        let switches = [
            switch(1, 0, "a"),
            switch(2, 1, "b"),
            switch(4, 1, "c"),
            switch(9, 0, "d"),
        ];
        let seen: Vec<_> = runs(&switches, Duration::from_secs(2))
            .into_iter()
            .map(|run| (run.name, run.time.as_secs()))
            .collect();
        assert_eq!(seen, [("b".to_owned(), 2)]);
    }

    #[test]
    fn times_before_the_first_moment_are_left_out() {
        let switches = [
            switch(1, 0, "a"),
            switch(2, 1, "b"),
            switch(5, 0, "c"),
            switch(7, 1, "d"),
        ];
        let mut seen = Vec::new();
        intervals(&switches, Duration::from_secs(3), |time, running| {
            seen.push((
                time.as_secs(),
                running[&0].to_owned(),
                running[&1].to_owned(),
            ));
        });
        let row = |time, first: &str, second: &str| (time, first.to_owned(), second.to_owned());
        assert_eq!(seen, [row(2, "a", "b"), row(2, "c", "b")]);
    }
}
