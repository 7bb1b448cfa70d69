//! More busy threads than CPUs for them: nothing may be ejected, lost, or kept waiting for long.

use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::page::Reading;
use crate::{Cgroup, Context, Crowd, Findings, Load, Row, Sleeper, Test, Waits};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// More busy System threads than CPUs beside work of the other tiers.
pub const SYSTEM_ROW: Row = Row {
    name: "system_crowd",
    what: "8 busy System threads, 8 of other tiers, 4 CPUs",
    wait: Duration::from_millis(3_000),
    frozen: false,
    limit: Duration::from_secs(90),
    run: system_crowd,
};

/// [`SYSTEM_ROW`] as a test.
pub const A_SYSTEM_CROWD: Test = Test {
    name: "a_system_crowd",
    run: |context, findings| judge(context, findings, &SYSTEM_ROW),
    ..PLAIN
};

const fn pinned_row(
    name: &'static str,
    what: &'static str,
    run: fn(&Context, &mut Findings) -> Result<Waits>,
) -> Row {
    Row {
        name,
        what,
        wait: PROMISED,
        frozen: false,
        limit: Duration::from_secs(90),
        run,
    }
}

/// A crowd of each tier that is pinned to one CPU, in the order of the tiers.
pub const PINNED_ROWS: [Row; 5] = [
    pinned_row(
        "pinned_crowd_critical",
        "8 busy Critical threads pinned to one CPU",
        |context, findings| pinned_crowd(context, findings, Tier::Critical),
    ),
    pinned_row(
        "pinned_crowd_high",
        "8 busy High threads pinned to one CPU",
        |context, findings| pinned_crowd(context, findings, Tier::High),
    ),
    pinned_row(
        "pinned_crowd_normal",
        "8 busy Normal threads pinned to one CPU",
        |context, findings| pinned_crowd(context, findings, Tier::Normal),
    ),
    pinned_row(
        "pinned_crowd_low",
        "8 busy Low threads pinned to one CPU",
        |context, findings| pinned_crowd(context, findings, Tier::Low),
    ),
    pinned_row(
        "pinned_crowd_background",
        "8 busy Background threads pinned to one CPU",
        |context, findings| pinned_crowd(context, findings, Tier::Background),
    ),
];

/// [`PINNED_ROWS`] as a test.
pub const PINNED_CROWDS: Test = Test {
    name: "pinned_crowds",
    run: |context, findings| {
        PINNED_ROWS
            .iter()
            .try_for_each(|row| judge(context, findings, row))
    },
    ..PLAIN
};

/// A cpuset with more busy threads than CPUs, and a sleeper outside of it.
pub const CPUSET_ROW: Row = Row {
    name: "overcommitted_cpuset",
    what: "24 busy threads in a cpuset of one CPU",
    wait: Duration::from_millis(3_000),
    frozen: false,
    limit: Duration::from_secs(60),
    run: overcommitted_cpuset,
};

/// [`CPUSET_ROW`] as a test; in turns short enough for the sleeper's figure.
pub const OVERCOMMITTED_CPUSET: Test = Test {
    name: CPUSET_ROW.name,
    turn_us: Some(50),
    run: |context, findings| judge(context, findings, &CPUSET_ROW),
    ..PLAIN
};

/// The CPU of crowds that are bound to one.
const CROWDED: usize = 1;

/// The longest wait in a tier that is served: five seconds in the policy's hands (docs/safety.md), and then a turn of
/// the CPU's own queue, which has one each `user_bound_ms` where Critical keeps that CPU busy.
pub const PROMISED: Duration = Duration::from_secs(6);

/// A thread that gets nothing for longer than [`PROMISED`] is lost.
const LOST: Duration = Duration::from_millis(6_200);

/// What a sleeper's 99th percentile may be beside a cpuset that is none of its CPUs, in microseconds. The
/// fault matrix rotates the CPUs in turns of up to 1 ms, which are in it.
const ELSEWHERE_US: f64 = 2_000.0;

fn system_crowd(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let others = [Tier::Critical, Tier::High, Tier::Normal, Tier::Background];
    let start = |tier: Tier| hogs(&cgroups, tier, 2).start();
    let mut loads = others.map(start).into_iter().collect::<Result<Vec<_>>>()?;
    sleep(Duration::from_secs(1));
    let service = Sleeper::start(&cgroups[Tier::Critical.index()], Duration::from_secs(8))?;
    loads.push(hogs(&cgroups, Tier::System, 8).start()?);
    let waits = watch(context, &loads, Duration::from_secs(8))?;
    scheduler.expect_steady(&context.node, findings)?;
    for (tier, load) in others.into_iter().chain([Tier::System]).zip(&loads) {
        let wait = load.longest_wait()?;
        findings.figure(format!("{tier}: longest wait {} ms", wait.as_millis()));
    }
    drop(loads);
    let latest_wakeup = Some(latest(service)?);
    scheduler.leave(&context.node, findings)?;
    Ok(Waits {
        latest_wakeup,
        ..waits
    })
}

fn pinned_crowd(context: &Context, findings: &mut Findings, tier: Tier) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    // In every other tier a free hog, and one that has no other CPU either.
    let mut loads = Vec::new();
    for other in USER_TIERS.into_iter().filter(|other| *other != tier) {
        loads.push(hogs(&cgroups, other, 1).start()?);
        let cgroup = &cgroups[other.index()];
        let bound = Crowd::hogs(cgroup, &format!("bound-{other}"), 1);
        loads.push(bound.pinned([CROWDED]).start()?);
    }
    loads.push(hogs(&cgroups, tier, 8).pinned([CROWDED]).start()?);
    let waits = watch(context, &loads, Duration::from_secs(7))?;
    scheduler.expect_steady(&context.node, findings)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

fn overcommitted_cpuset(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let normal = &cgroups[Tier::Normal.index()];
    // Unknown to the rules, so Normal like the sleeper.
    let cpuset = Cgroup::create("cpuset")?;
    cpuset.set_cpus(&[CROWDED].into())?;
    let scheduler = attach(context, &cgroups)?;
    let loads = [Crowd::hogs(&cpuset, "cpuset", 24).start()?];
    sleep(Duration::from_millis(500));
    let sleeper = Sleeper::start(normal, Duration::from_secs(5))?;
    let waits = watch(context, &loads, Duration::from_secs(6))?;
    let wakeups = sleeper.finish()?;
    findings.figure(format!(
        "a sleeper elsewhere: p50 {:.0} us, p99 {:.0} us, latest {:.0} us",
        wakeups.p50_us, wakeups.p99_us, wakeups.max_us
    ));
    findings.expect(wakeups.count > 0 && wakeups.p99_us <= ELSEWHERE_US, || {
        format!(
            "p99 of a sleeper elsewhere is {:.0} us, not at most {ELSEWHERE_US}",
            wakeups.p99_us
        )
    });
    scheduler.expect_steady(&context.node, findings)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

/// Busy threads in a tier's cgroup, called after it.
pub fn hogs(cgroups: &[Cgroup], tier: Tier, threads: usize) -> Crowd<'_> {
    Crowd::hogs(&cgroups[tier.index()], tier.name(), threads)
}

/// Lets the loads run for `time`, and returns how long their threads waited, and which got nothing at the end.
pub fn watch(context: &Context, loads: &[Load], time: Duration) -> Result<Waits> {
    watch_for(context, loads, time, LOST)
}

/// The same, where a thread is lost that gets nothing for as long as `patience`.
pub fn watch_for(
    context: &Context,
    loads: &[Load],
    time: Duration,
    patience: Duration,
) -> Result<Waits> {
    let all = || -> Result<Vec<Reading>> {
        let readings: Result<Vec<_>> = loads.iter().map(Load::readings).collect();
        Ok(readings?.concat())
    };
    sleep(time.saturating_sub(patience));
    let before = all()?;
    sleep(patience);
    let after = all()?;
    let now = monotonic();
    let longest = after.iter().map(|reading| reading.waited(now)).max();
    let lost = before
        .iter()
        .zip(&after)
        .filter(|(then, now)| then.cpu == now.cpu);
    Ok(Waits {
        longest: longest.unwrap_or_default(),
        latest_wakeup: None,
        lost: lost.count(),
        enabled: context.node.is_enabled()?,
    })
}

/// Prints the longest wait of each load's threads.
pub fn by_load(findings: &mut Findings, loads: &[Load]) -> Result<()> {
    for load in loads {
        let wait = load.longest_wait()?;
        findings.figure(format!("  {}: {} ms", load.name(), wait.as_millis()));
    }
    Ok(())
}

/// The latest wakeup of a sleeper.
fn latest(sleeper: Sleeper) -> Result<Duration> {
    Ok(Duration::from_secs_f64(sleeper.finish()?.max_us / 1e6))
}
