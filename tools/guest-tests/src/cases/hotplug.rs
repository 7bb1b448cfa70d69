//! CPUs that come and go. The scheduler is started again with a new plan, which is no eject.

use super::crowds::{by_load, hogs, watch_for};
use super::{PLAIN, USER_TIERS, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::{Cgroup, Context, Findings, Load, Row, Scheduler, Test, Waits};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use std::time::Duration;

/// A CPU of the fence that goes and comes.
pub const FLAPS: Row = Row {
    name: "cpu_flaps",
    what: "a CPU goes and comes twenty times",
    wait: WAIT,
    frozen: false,
    limit: Duration::from_secs(120),
    run: flaps,
};

/// The same CPU goes at twenty moments of a start.
pub const WHILE_STARTING: Row = Row {
    name: "cpu_goes_while_it_starts",
    what: "a CPU goes while the scheduler starts, twenty times",
    wait: WAIT,
    frozen: false,
    limit: Duration::from_secs(400),
    run: |context, findings| while_starting(context, findings, MOMENTS, STEP),
};

/// A quarter of its moments, over the same time.
const SOME_MOMENTS: Row = Row {
    limit: Duration::from_secs(200),
    run: |context, findings| while_starting(context, findings, MOMENTS / 4, STEP * 4),
    ..WHILE_STARTING
};

const SMT: Row = Row {
    name: "smt_off_and_on",
    what: "SMT is switched off and on, five times",
    wait: WAIT,
    frozen: false,
    limit: Duration::from_secs(120),
    run: smt,
};

/// [`FLAPS`] as a test.
pub const A_CPU_FLAPS: Test = Test {
    name: "a_cpu_flaps",
    run: |context, findings| judge(context, findings, &FLAPS),
    ..PLAIN
};

/// [`SOME_MOMENTS`] as a test.
pub const A_CPU_GOES: Test = Test {
    name: "a_cpu_goes_while_it_starts",
    limit: SOME_MOMENTS.limit,
    run: |context, findings| judge(context, findings, &SOME_MOMENTS),
    ..PLAIN
};

/// [`SMT`] as a test.
pub const SMT_OFF_AND_ON: Test = Test {
    name: SMT.name,
    topology: Some([1, 2, 2]),
    run: |context, findings| judge(context, findings, &SMT),
    ..PLAIN
};

/// With the time in which the stock scheduler has the node, and the kernel's own time to take a CPU away.
const WAIT: Duration = Duration::from_millis(1_500);

/// One of five threads on three or four CPUs is lost if it gets no CPU time for this long once the scheduler is attached again.
const LOST: Duration = Duration::from_secs(1);

/// How often the CPU goes and comes.
const TIMES: u32 = 20;

/// In how many moments of a start it goes.
const MOMENTS: u32 = 20;

/// How long the CPU stays away, and stays.
const PERIOD: Duration = Duration::from_millis(300);

/// The guard's longest wait for the next attempt, and attaching.
const BACK: Duration = Duration::from_secs(15);

/// Between two moments at which the CPU goes; a start takes less than twenty of them.
const STEP: Duration = Duration::from_millis(40);

fn flaps(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let last = last_cpu(context)?;
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups, last, || Ok(()))?;
    let loads = load(&cgroups)?;
    for _ in 0..TIMES {
        let offline = context.node.take_offline(last)?;
        sleep(PERIOD);
        drop(offline);
        sleep(PERIOD);
    }
    finish(context, findings, scheduler, loads)
}

fn smt(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let last = last_cpu(context)?;
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups, last, || Ok(()))?;
    let loads = load(&cgroups)?;
    for _ in 0..5 {
        let off = context.node.switch_smt_off()?;
        sleep(PERIOD);
        drop(off);
        sleep(PERIOD);
    }
    finish(context, findings, scheduler, loads)
}

fn while_starting(
    context: &Context,
    findings: &mut Findings,
    moments: u32,
    step: Duration,
) -> Result<Waits> {
    let last = last_cpu(context)?;
    let cgroups = cgroups()?;
    let mut all = Waits::default();
    for moment in 0..moments {
        let mut offline = None;
        let start = monotonic();
        let scheduler = attach(context, &cgroups, last, || {
            sleep(step * moment);
            offline = Some(context.node.take_offline(last)?);
            Ok(())
        })?;
        findings.figure(format!(
            "gone after {} ms, attached after {} ms",
            (step * moment).as_millis(),
            (monotonic() - start).as_millis()
        ));
        let loads = load(&cgroups)?;
        let waits = finish(context, findings, scheduler, loads)?;
        all.longest = all.longest.max(waits.longest);
        all.lost += waits.lost;
        all.enabled = waits.enabled;
        drop(offline);
    }
    Ok(all)
}

/// Attached, with the last CPU as Critical's fence.
fn attach(
    context: &Context,
    cgroups: &[Cgroup],
    last: usize,
    event: impl FnOnce() -> Result<()>,
) -> Result<Scheduler> {
    let rules: Vec<_> = Tier::ALL.into_iter().zip(cgroups).collect();
    let config = format!("[tiers.critical]\nfence_cpus = \"{last}\"\n");
    Scheduler::attach_while(&context.node, &context.policy, &rules, &config, event)
}

fn last_cpu(context: &Context) -> Result<usize> {
    let cpus = context.node.cpus()?;
    cpus.last().copied().context("a node has CPUs")
}

fn load(cgroups: &[Cgroup]) -> Result<Vec<Load>> {
    let start = |tier| hogs(cgroups, tier, 1).start();
    USER_TIERS.into_iter().map(start).collect()
}

fn finish(
    context: &Context,
    findings: &mut Findings,
    scheduler: Scheduler,
    loads: Vec<Load>,
) -> Result<Waits> {
    scheduler.expect_no_eject(&context.node, BACK, findings)?;
    let waits = watch_for(context, &loads, Duration::ZERO, LOST)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}
