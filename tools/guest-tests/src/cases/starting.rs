//! The scheduler attaches on a crowded node.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::clock::monotonic;
use crate::{Context, Findings, Row, Test, Waits};
use anyhow::Result;
use std::time::Duration;

/// The node is as crowded for the guard and the scheduler as for a pod that asks for little.
pub const ROW: Row = Row {
    name: "attach_in_a_crowd",
    what: "attach where hardly any CPU time is left",
    // Four Background threads share a hundredth of the node.
    wait: Duration::from_secs(5),
    frozen: false,
    limit: Duration::from_secs(120),
    run,
};

/// [`ROW`] as a test.
pub const ATTACH: Test = Test {
    name: ROW.name,
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

/// Under the stock scheduler, each of the five cgroups has ten times the weight of the guard.
const WEIGHT: u32 = 1000;

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    for cgroup in &cgroups {
        cgroup.set_weight(WEIGHT)?;
    }
    let loads = USER_TIERS.map(|tier| hogs(&cgroups, tier, 4).start());
    let loads = loads.into_iter().collect::<Result<Vec<_>>>()?;
    let start = monotonic();
    let scheduler = attach(context, &cgroups)?;
    findings.figure(format!(
        "attached after {} ms",
        (monotonic() - start).as_millis()
    ));
    scheduler.expect_no_eject(&context.node, Duration::ZERO, findings)?;
    let waits = watch(context, &loads, Duration::from_secs(7))?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}
