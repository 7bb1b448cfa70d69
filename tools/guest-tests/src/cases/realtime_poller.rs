//! A real-time thread that polls keeps one CPU for good, and ordinary threads are bound to that CPU.

use super::crowds::{by_load, hogs, watch_for};
use super::realtime_crowd::spin;
use super::{PLAIN, attach, cgroups, judge};
use crate::clock::sleep;
use crate::{Context, Crowd, Findings, Row, Test, Waits};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// On kernels without a server for sched_ext (6.12) the threads bound there get CPU time every 21.5 s, when the scheduler pauses.
pub const ROW: Row = Row {
    name: "rt_poller",
    what: "a real-time thread keeps a CPU with bound threads",
    wait: Duration::from_secs(25),
    frozen: false,
    limit: Duration::from_secs(120),
    run,
};

/// [`ROW`] as a test.
pub const A_POLLER: Test = Test {
    name: "a_real_time_poller",
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

/// The CPU that is kept.
const KEPT: usize = 1;

/// One pause of the scheduler, and no second.
const TIME: Duration = Duration::from_secs(27);

/// What threads of other CPUs may wait: an attach is in it.
const ELSEWHERE: Duration = Duration::from_millis(1_500);

/// A thread that gets nothing in more than one period of the pauses is lost.
const LOST: Duration = Duration::from_secs(24);

/// In exact time the CPUs share one, and an attach beside three busy ones takes 10 s.
const BACK: Duration = Duration::from_secs(15);

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let elsewhere = [
        hogs(&cgroups, Tier::Critical, 1).pinned([2]).start()?,
        hogs(&cgroups, Tier::Normal, 4).pinned([0, 2, 3]).start()?,
    ];
    let bound = |tier: Tier, name| Crowd::hogs(&cgroups[tier.index()], name, 1).pinned([KEPT]);
    let kept = [
        bound(Tier::Normal, "bound-hog").start()?,
        bound(Tier::High, "bound-sleeper")
            .sleeping(Duration::from_millis(1), Duration::from_millis(20))
            .start()?,
    ];
    sleep(Duration::from_secs(1));
    let mut poller = spin(KEPT, TIME)?;
    let waits = watch_for(context, &kept, TIME - Duration::from_secs(1), LOST)?;
    let others = watch_for(
        context,
        &elsewhere,
        Duration::ZERO,
        Duration::from_millis(500),
    )?;
    poller.wait()?;
    by_load(findings, &kept)?;
    by_load(findings, &elsewhere)?;
    findings.expect(others.longest <= ELSEWHERE && others.lost == 0, || {
        format!(
            "a thread of another CPU waited {} ms, not at most {}",
            others.longest.as_millis(),
            ELSEWHERE.as_millis()
        )
    });
    if context.node.serves_sched_ext()? {
        scheduler.expect_steady(&context.node, findings)?;
    }
    scheduler.expect_no_eject(&context.node, BACK, findings)?;
    drop((kept, elsewhere));
    let waits = Waits {
        enabled: context.node.is_enabled()?,
        ..waits
    };
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}
