//! Threads whose class, affinity and nice value change while they wait in a queue.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::random::Random;
use crate::realtime;
use crate::{Context, Findings, Row, Test, Waits};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::time::Duration;

/// Ten busy threads on four CPUs, changed from outside.
pub const ROW: Row = Row {
    name: "class_and_affinity_change",
    what: "threads that change class and affinity while queued",
    wait: Duration::from_millis(3_000),
    frozen: false,
    limit: Duration::from_secs(90),
    run,
};

/// [`ROW`] as a test.
pub const CHANGES: Test = Test {
    name: ROW.name,
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

/// For how long threads are changed.
const CHANGING: Duration = Duration::from_secs(4);

/// Nice values below this. At 19 a thread beside one at 0 has a 69th of what both have, and waits for seconds by right.
const NICE: usize = 5;

/// Between two changes: many in a slice.
const STEP: Duration = Duration::from_micros(500);

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let mut loads = Vec::new();
    for tier in USER_TIERS {
        loads.push(hogs(&cgroups, tier, 2).start()?);
    }
    let mut threads = Vec::new();
    for load in &loads {
        threads.extend(load.threads()?);
    }
    let (until, mut changes, mut random) = (monotonic() + CHANGING, 0, Random::new(1));
    while monotonic() < until {
        let thread = threads[random.below(threads.len())];
        change(thread, &mut random)?;
        changes += 1;
        sleep(STEP);
    }
    for thread in &threads {
        realtime::set_of(*thread, libc::SCHED_OTHER, 0)?;
        bind(*thread, 0b1111)?;
    }
    findings.figure(format!("{changes} changes of {} threads", threads.len()));
    let waits = watch(context, &loads, Duration::from_secs(4))?;
    scheduler.expect_steady(&context.node, findings)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

/// One change; a thread is real-time for a few steps at most, because every third change ends that.
fn change(thread: i32, random: &mut Random) -> Result<()> {
    match random.below(6) {
        0 => realtime::set_of(thread, libc::SCHED_FIFO, 1),
        1 | 2 => realtime::set_of(thread, libc::SCHED_OTHER, 0),
        3 => realtime::set_of(thread, libc::SCHED_BATCH, 0),
        4 => {
            let nice = random.below(NICE) as i32;
            setpriority_process(Pid::from_raw(thread), nice).context("changing a nice value")
        }
        _ => bind(thread, 1 + random.below(15)),
    }
}

fn bind(thread: i32, mask: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    (0..4)
        .filter(|cpu| mask >> cpu & 1 == 1)
        .for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(Pid::from_raw(thread), &cpus).context("changing an affinity")
}
