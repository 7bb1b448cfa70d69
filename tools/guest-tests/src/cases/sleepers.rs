//! A sleeper in a tier that is full.

use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::sleep;
use crate::{Context, Crowd, Findings, Sleeper, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// A woken thread that is behind its tier takes a CPU at once, in each tier.
pub const A_SLEEPER_IN_A_CROWD: Test = Test {
    name: "a_sleeper_in_a_crowd",
    turn_us: Some(50),
    limit: Duration::from_secs(120),
    run,
    ..PLAIN
};

/// What the 99th percentile may be, in microseconds. The stock scheduler's is below 100 in exact time.
const P99_US: f64 = 1_000.0;

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    for tier in USER_TIERS {
        let cgroup = &cgroups[tier.index()];
        let hogs = Crowd::hogs(cgroup, "hog", 16).start()?;
        sleep(Duration::from_millis(300));
        let wakeups = Sleeper::start(cgroup, Duration::from_secs(3))?.finish()?;
        findings.figure(format!(
            "{tier}: wakeups beside 16 hogs of the tier: p50 {:.0} us, p99 {:.0} us, latest {:.0} us of {}; \
             longest wait of a hog {} ms",
            wakeups.p50_us,
            wakeups.p99_us,
            wakeups.max_us,
            wakeups.count,
            hogs.longest_wait()?.as_millis()
        ));
        findings.expect(wakeups.count > 0 && wakeups.p99_us <= P99_US, || {
            format!(
                "{tier}: p99 of a sleeper beside 16 hogs is {:.0} us, not at most {P99_US}",
                wakeups.p99_us
            )
        });
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// A thread that is new in a crowded tier is placed where the crowd is, and does not wait for the furthest of it.
pub const NEW_SLEEPERS_IN_A_CROWD: Test = Test {
    name: "new_sleepers_in_a_crowd",
    turn_us: Some(50),
    limit: Duration::from_secs(120),
    run: run_new,
    ..PLAIN
};

/// How many start, one after the other.
const NEWCOMERS: usize = 12;

/// What the latest wakeup of one may be, in microseconds. The stock scheduler's is 4,000 at times, which is one of its slices.
const LATEST_US: f64 = 5_000.0;

fn run_new(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    for tier in [Tier::Normal, Tier::Background] {
        let cgroup = &cgroups[tier.index()];
        let hogs = Crowd::hogs(&cgroup.child("crowd")?, "hog", 16).start()?;
        let service = cgroup.child("service")?;
        sleep(Duration::from_millis(300));
        let mut latest = vec![];
        for _ in 0..NEWCOMERS {
            let wakeups = Sleeper::touring(&service, Duration::from_millis(400))?.finish()?;
            latest.push(wakeups.max_us);
        }
        findings.figure(format!(
            "{tier}: the latest wakeup of each of {NEWCOMERS} new sleepers beside 16 hogs, us: {latest:.0?}"
        ));
        for us in latest {
            findings.expect(us <= LATEST_US, || {
                format!("{tier}: a new sleeper waited for {us:.0} us, not at most {LATEST_US}")
            });
        }
        drop(hogs);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
