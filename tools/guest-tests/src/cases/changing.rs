//! Threads whose class, affinity and nice value change while they wait in a queue.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
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
const NICE: i32 = 5;

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
    let (until, mut changes, mut random) = (monotonic() + CHANGING, 0, 1_u64);
    while monotonic() < until {
        // Knuth's MMIX generator: the same changes in each run.
        random = random.wrapping_mul(6_364_136_223_846_793_005);
        random = random.wrapping_add(1_442_695_040_888_963_407);
        let thread = threads[(random >> 33) as usize % threads.len()];
        change(thread, (random >> 40) as u32)?;
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
fn change(thread: i32, random: u32) -> Result<()> {
    match random % 6 {
        0 => realtime::set_of(thread, libc::SCHED_FIFO, 1),
        1 | 2 => realtime::set_of(thread, libc::SCHED_OTHER, 0),
        3 => realtime::set_of(thread, libc::SCHED_BATCH, 0),
        4 => {
            let pid = Pid::from_raw(thread);
            setpriority_process(pid, (random >> 8) as i32 % NICE).context("changing a nice value")
        }
        _ => bind(thread, (random >> 8) as usize % 15 + 1),
    }
}

fn bind(thread: i32, mask: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    (0..4)
        .filter(|cpu| mask >> cpu & 1 == 1)
        .for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(Pid::from_raw(thread), &cpus).context("changing an affinity")
}
