//! Turns that a wait bound gives, and who may end them.

use super::{PLAIN, attach, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::{monotonic, sleep};
use crate::trace::{Trace, runs};
use crate::{Cgroup, Context, Crowd, Findings, Scheduler, Sleeper, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// What High keeps from its CPUs has turns of a few ms there, which Critical may end.
pub const SHORT_TURNS: Test = Test {
    name: "guaranteed_turns_are_short",
    turn_us: Some(50),
    run: short_turns,
    ..PLAIN
};

/// A wakeup of a thread with one CPU takes that CPU from a lower tier.
pub const A_PINNED_WAKEUP: Test = Test {
    name: "a_pinned_wakeup_preempts_lower_tiers",
    turn_us: Some(50),
    run: pinned_wakeup,
    ..PLAIN
};

/// System's threads have a fence's CPU only until Critical wants it.
pub const FENCE_TAKEN_BACK: Test = Test {
    name: "critical_takes_its_fence_back_from_system",
    turn_us: Some(50),
    run: fence_taken_back,
    ..PLAIN
};

/// `infera_turn_ns`, the tick that ends a slice at 250 ticks a second, and a turn of QEMU's CPUs.
const TURN: Duration = Duration::from_micros(4_000 + 4_000 + 100);

/// A wakeup that may take a CPU at once, with the turn of QEMU's CPUs in it; in microseconds.
const AT_ONCE_US: f64 = 500.0;

/// No wakeup waits longer: a guaranteed turn may be in its way, and a tick.
const LATEST_US: f64 = 8_100.0;

fn short_turns(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let _high = hogs(&cgroups, Tier::High, 8).start()?;
    let _normal = hogs(&cgroups, Tier::Normal, 8).start()?;
    let service = Sleeper::start(&cgroups[Tier::Critical.index()], Duration::from_secs(4))?;
    sleep(Duration::from_millis(500));
    let trace = Trace::start()?;
    let since = monotonic();
    sleep(Duration::from_secs(3));
    let runs = runs(&trace.take()?, since);
    let turns = || runs.iter().filter(|run| run.name.starts_with("normal-"));
    let longest = turns().map(|run| run.time).max().unwrap_or_default();
    findings.figure(format!(
        "Normal beside High on every CPU: {} turns in 3 s, the longest {} us",
        turns().count(),
        longest.as_micros()
    ));
    findings.expect(turns().count() > 0, || "Normal had no turn".to_owned());
    findings.expect(longest <= TURN, || {
        format!(
            "a turn of Normal lasted {} us, not at most {}",
            longest.as_micros(),
            TURN.as_micros()
        )
    });
    at_once(findings, "Critical, beside such turns", service)?;
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn pinned_wakeup(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    // Unknown to the rules, so Normal.
    let bound = Cgroup::create("bound")?;
    bound.set_cpus(&[1].into())?;
    let scheduler = attach(context, &cgroups)?;
    let _background = hogs(&cgroups, Tier::Background, 8).start()?;
    let _too = Crowd::hogs(&cgroups[Tier::Background.index()], "bound-background", 2)
        .pinned([1])
        .start()?;
    sleep(Duration::from_millis(300));
    let sleeper = Sleeper::start(&bound, Duration::from_secs(3))?;
    at_once(findings, "Normal with one CPU, beside Background", sleeper)?;
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn fence_taken_back(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let rules: Vec<_> = Tier::ALL.into_iter().zip(&cgroups).collect();
    let config = "[tiers.critical]\nfence_cores = 1\n";
    let scheduler = Scheduler::attach(&context.node, &context.policy, &rules, config)?;
    let _system = hogs(&cgroups, Tier::System, 8).start()?;
    sleep(Duration::from_millis(300));
    let service = Sleeper::start(&cgroups[Tier::Critical.index()], Duration::from_secs(3))?;
    at_once(findings, "Critical beside 8 System hogs", service)?;
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// The sleeper's wakeups took a CPU at once.
fn at_once(findings: &mut Findings, who: &str, sleeper: Sleeper) -> Result<()> {
    let wakeups = sleeper.finish()?;
    findings.figure(format!(
        "{who}: p50 {:.0} us, p99 {:.0} us, latest {:.0} us of {}",
        wakeups.p50_us, wakeups.p99_us, wakeups.max_us, wakeups.count
    ));
    findings.expect(wakeups.count > 0 && wakeups.p99_us <= AT_ONCE_US, || {
        format!(
            "{who}: p99 is {:.0} us, not at most {AT_ONCE_US}",
            wakeups.p99_us
        )
    });
    findings.expect(wakeups.max_us <= LATEST_US, || {
        format!(
            "{who}: the latest waited {:.0} us, not at most {LATEST_US}",
            wakeups.max_us
        )
    });
    Ok(())
}
