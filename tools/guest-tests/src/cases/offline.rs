//! A CPU that tasks may use and that is offline.

use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::cases::crowds::{hogs, watch};
use crate::{Context, Findings, Row, Test, Waits};
use anyhow::{Context as _, Result};
use std::time::Duration;

/// Tasks whose mask names a CPU that is offline.
pub const ROW: Row = Row {
    name: "offline_cpu_in_the_mask",
    what: "threads whose mask has an offline CPU",
    wait: Duration::from_millis(3_000),
    limit: Duration::from_secs(60),
    run,
};

/// [`ROW`] as a test.
pub const AN_OFFLINE_CPU: Test = Test {
    name: "an_offline_cpu_in_the_mask",
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cpus = context.node.cpus()?;
    let last = cpus.last().copied().context("a node has CPUs")?;
    // Before attaching: a CPU that goes while it is attached has it attach again, which is another row.
    let offline = context.node.take_offline(last)?;
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let mut loads = Vec::new();
    for tier in USER_TIERS {
        // With one CPU that is there, and with all of them.
        loads.push(hogs(&cgroups, tier, 2).pinned([last - 1, last]).start()?);
        loads.push(hogs(&cgroups, tier, 2).pinned(0..=last).start()?);
    }
    let waits = watch(context, &loads, Duration::from_secs(8))?;
    scheduler.expect_steady(&context.node, findings)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    drop(offline);
    Ok(waits)
}
