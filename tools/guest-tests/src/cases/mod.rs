//! The tests and rows, and what they share.

mod capabilities;
mod changing;
mod churn;
mod crowds;
mod displaced;
mod dump;
mod events;
mod fairness;
mod fence;
mod frozen;
mod hotplug;
mod late;
mod leaving;
mod limits;
mod memory;
mod offline;
mod programs;
mod realtime_crowd;
mod realtime_poller;
mod refused;
mod shares;
mod sleepers;
mod starting;
mod stress;
mod turns;

use crate::{Cgroup, Context, Findings, Row, Scheduler, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// Every guest test.
pub const TESTS: &[Test] = &[
    fairness::EQUAL_WEIGHT,
    fairness::NICE_LEVELS,
    fairness::SLEEPING_ON_PURPOSE,
    crowds::PINNED_CROWDS,
    crowds::OVERCOMMITTED_CPUSET,
    crowds::A_SYSTEM_CROWD,
    offline::AN_OFFLINE_CPU,
    sleepers::A_SLEEPER_IN_A_CROWD,
    sleepers::NEW_SLEEPERS_IN_A_CROWD,
    programs::START,
    fence::WHOLE_CORES,
    turns::SHORT_TURNS,
    turns::A_PINNED_WAKEUP,
    turns::FENCE_TAKEN_BACK,
    dump::NAMES_TIERS,
    events::NAMED,
    late::A_STOPPED_LOOP,
    late::A_LOOPING_POLICY,
    late::ALL_STOPPED,
    capabilities::NAMED,
    refused::COOKIES,
    leaving::A_SIGNAL,
    stress::SOME_STRESSORS,
    displaced::BY_REAL_TIME,
    limits::QUOTAS,
    limits::MANY_THREADS,
    limits::SLEEPERS,
    limits::NESTED,
    limits::ON_THE_WAY_OUT,
    limits::OVERLOAD,
    limits::MOVED,
    limits::MANY_CGROUPS,
    shares::IN_EACH_TIER,
    shares::MANY_THREADS,
    shares::NESTED,
    shares::CHANGED,
    shares::STARVE_NONE,
    churn::CHURN,
    limits::A_CROWD,
    realtime_crowd::ON_EVERY_CPU,
    realtime_poller::A_POLLER,
    hotplug::A_CPU_FLAPS,
    hotplug::A_CPU_GOES,
    hotplug::SMT_OFF_AND_ON,
    changing::CHANGES,
    memory::ATTACH,
    starting::ATTACH,
];

/// Every row of the fault matrix that is carried out here.
pub const ROWS: &[Row] = &[
    crowds::SYSTEM_ROW,
    crowds::PINNED_ROWS[0],
    crowds::PINNED_ROWS[1],
    crowds::PINNED_ROWS[2],
    crowds::PINNED_ROWS[3],
    crowds::PINNED_ROWS[4],
    crowds::CPUSET_ROW,
    offline::ROW,
    stress::ROW,
    realtime_poller::ROW,
    hotplug::FLAPS,
    hotplug::WHILE_STARTING,
    changing::ROW,
    memory::ROW,
    starting::ROW,
    frozen::ROW,
    churn::ROW,
];

/// The tiers that workloads are in.
const USER_TIERS: [Tier; 5] = [
    Tier::Critical,
    Tier::High,
    Tier::Normal,
    Tier::Low,
    Tier::Background,
];

/// What needs four plain CPUs, as QEMU rotates by itself.
const PLAIN: Test = Test {
    name: "",
    topology: None,
    turn_us: None,
    limit: Duration::from_secs(180),
    run: |_, _| Ok(()),
};

/// A cgroup per tier of [`Tier::ALL`], by rank.
fn cgroups() -> Result<Vec<Cgroup>> {
    let create = |tier: Tier| Cgroup::create(tier.name());
    Tier::ALL.into_iter().map(create).collect()
}

/// Attached, with [`cgroups`] in their tiers.
fn attach(context: &Context, cgroups: &[Cgroup]) -> Result<Scheduler> {
    let rules: Vec<_> = Tier::ALL.into_iter().zip(cgroups).collect();
    Scheduler::attach(&context.node, &context.policy, &rules, "")
}

/// A row of the fault matrix, judged as a test.
fn judge(context: &Context, findings: &mut Findings, row: &Row) -> Result<()> {
    let waits = (row.run)(context, findings)?;
    findings.figure(format!(
        "{}: longest wait {} ms, {} threads lost{}",
        row.name,
        waits.longest.as_millis(),
        waits.lost,
        match waits.latest_wakeup {
            Some(wakeup) => format!(", latest Critical wakeup {} us", wakeup.as_micros()),
            None => String::new(),
        }
    ));
    findings.expect(waits.longest <= row.wait, || {
        format!(
            "a thread waited {} ms for a CPU, not at most {}",
            waits.longest.as_millis(),
            row.wait.as_millis()
        )
    });
    findings.expect(waits.lost == 0, || {
        format!("{} threads got no CPU any more", waits.lost)
    });
    Ok(())
}
