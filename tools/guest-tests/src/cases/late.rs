//! The kernel side schedules by itself while the policy is late, stuck or dead.

use super::{PLAIN, attach, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::{monotonic, sleep};
use crate::{Cgroup, Context, Findings, Load, Policy, Scheduler, Test, Unguarded};
use anyhow::Result;
use infera_policy::Tier;
use rustix::process::Signal;
use std::time::Duration;

/// The scheduler's process is stopped for less than its guard's patience: no task waits for it.
pub const A_STOPPED_LOOP: Test = Test {
    name: "a_stopped_loop_strands_nothing",
    run: stopped_loop,
    ..PLAIN
};

/// Without a guard, a policy that loops costs tens of ms, and the overlay leaves by itself.
pub const A_LOOPING_POLICY: Test = Test {
    name: "a_looping_policy_without_a_guard",
    run: looping_policy,
    ..PLAIN
};

/// Everything of ours is stopped for good.
pub const ALL_STOPPED: Test = Test {
    name: "everything_of_ours_is_stopped",
    run: all_stopped,
    ..PLAIN
};

/// Four hogs on each CPU of four.
const HOGS: usize = 16;

/// What a task may wait longer than before: the kernel side's patience, and the period of what wakes it.
const LATER: Duration = Duration::from_millis(100);

/// What any task waits at most where everything of ours is stopped: the period of the overlay's timer, and a slice.
const NOT_A_THREAD: Duration = Duration::from_millis(300);

/// A slice in which the policy decides thousands of times in a few seconds.
const SHORT_US: u32 = 1_000;

/// The time in which an unguarded node is back in order.
const GONE: Duration = Duration::from_secs(2);

fn stopped_loop(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let rules: Vec<_> = Tier::ALL.into_iter().zip(&cgroups).collect();
    let config = format!("[tiers.low]\nslice_us = {SHORT_US}\n");
    let scheduler = Scheduler::attach(&context.node, &context.policy, &rules, &config)?;
    // Thousands of decisions before, of which the kernel side must keep nothing.
    let decided = hogs(&cgroups, Tier::Low, HOGS).start()?;
    sleep(Duration::from_secs(3));
    drop(decided);
    let before = usual_wait(&cgroups)?;
    let load = hogs(&cgroups, Tier::Normal, HOGS).start()?;
    sleep(Duration::from_secs(1));
    if context.policy != Policy::Stock {
        for _ in 0..3 {
            scheduler.stop_for(Duration::from_millis(400))?;
            sleep(Duration::from_millis(500));
        }
    }
    judge(
        findings,
        "stopped for 0.4 s, three times",
        before,
        before + LATER,
        &load,
    )?;
    drop(load);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn looping_policy(context: &Context, findings: &mut Findings) -> Result<()> {
    let drill = ["--drill", "loop@50"];
    let most = |before| before + LATER;
    unguarded(context, findings, "the policy loops", &drill, most, |_| {
        Ok(())
    })
}

fn all_stopped(context: &Context, findings: &mut Findings) -> Result<()> {
    let most = |_| NOT_A_THREAD;
    unguarded(context, findings, "all is stopped", &[], most, |alone| {
        sleep(Duration::from_secs(1));
        alone.signal(Signal::STOP)
    })
}

/// Attaches without a guard and has `fault` happen: the node is soon back in order, and no hog waits for longer than
/// `most` of what it waits otherwise.
fn unguarded(
    context: &Context,
    findings: &mut Findings,
    what: &str,
    more: &[&str],
    most: impl FnOnce(Duration) -> Duration,
    fault: impl FnOnce(&Unguarded) -> Result<()>,
) -> Result<()> {
    let Policy::Infera(policy) = &context.policy else {
        return Ok(());
    };
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let before = usual_wait(&cgroups)?;
    scheduler.leave(&context.node, findings)?;
    let arguments = [&["--policy", policy], more].concat();
    let alone = Unguarded::attach(&context.node, &arguments)?;
    let load = hogs(&cgroups, Tier::Normal, HOGS).start()?;
    fault(&alone)?;
    let start = monotonic();
    while context.node.is_enabled()? && monotonic() - start < 4 * GONE {
        sleep(Duration::from_millis(10));
    }
    gone(context, findings, what, start)?;
    judge(findings, what, before, most(before), &load)
}

/// The longest wait of such hogs where nothing goes wrong.
fn usual_wait(cgroups: &[Cgroup]) -> Result<Duration> {
    let load = hogs(cgroups, Tier::Normal, HOGS).start()?;
    sleep(Duration::from_secs(2));
    load.longest_wait()
}

fn judge(
    findings: &mut Findings,
    what: &str,
    before: Duration,
    most: Duration,
    load: &Load,
) -> Result<()> {
    let wait = load.longest_wait()?;
    findings.figure(format!(
        "{what}: longest wait of a hog {} ms, otherwise {} ms",
        wait.as_millis(),
        before.as_millis()
    ));
    findings.expect(wait <= most, || {
        format!(
            "{what}: a hog waited {} ms, not at most {}",
            wait.as_millis(),
            most.as_millis()
        )
    });
    Ok(())
}

fn gone(context: &Context, findings: &mut Findings, what: &str, start: Duration) -> Result<()> {
    let took = monotonic() - start;
    findings.figure(format!(
        "{what}: sched_ext {} after {} ms",
        if context.node.is_enabled()? {
            "enabled"
        } else {
            "disabled"
        },
        took.as_millis()
    ));
    let limit = GONE + Duration::from_millis(500);
    findings.expect(took <= limit, || {
        format!("{what}: not back in order after {} ms", took.as_millis())
    });
    Ok(())
}
