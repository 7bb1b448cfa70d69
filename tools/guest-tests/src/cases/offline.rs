//! A CPU that tasks may use and that is offline.

use super::{PLAIN, USER_TIERS, cgroups, judge};
use crate::cases::crowds::{PROMISED, by_load, hogs, watch};
use crate::{Context, Findings, Row, Scheduler, Test, Waits};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use std::time::Duration;

/// Tasks whose mask holds a CPU that is offline, and otherwise only CPUs that are not their tier's.
pub const ROW: Row = Row {
    name: "offline_cpu_in_the_mask",
    what: "threads whose mask has an offline CPU",
    wait: PROMISED,
    frozen: false,
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
    let fence = last - 1;
    let cgroups = cgroups()?;
    let rules: Vec<_> = Tier::ALL.into_iter().zip(&cgroups).collect();
    // The offline CPU must count as no tier's own: beside the fence, it is all that these threads may use.
    let config = format!("loans = false\n[tiers.critical]\nfence_cpus = \"{fence}\"\n");
    let scheduler = Scheduler::attach(&context.node, &context.policy, &rules, &config)?;
    let mut loads = Vec::new();
    for tier in USER_TIERS {
        // Critical has the fence as its own CPU, and the others all but that.
        let foreign = match tier {
            Tier::Critical => 0,
            _ => fence,
        };
        loads.push(hogs(&cgroups, tier, 2).pinned([foreign, last]).start()?);
        if tier != Tier::Critical {
            loads.push(hogs(&cgroups, tier, 2).start()?);
        }
    }
    let waits = watch(context, &loads, Duration::from_secs(8))?;
    scheduler.expect_steady(&context.node, findings)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    drop(offline);
    Ok(waits)
}
