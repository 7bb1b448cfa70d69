//! What sysrq-D shows of a node, as an exit dump does.

use super::{PLAIN, attach, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::sleep;
use crate::trace;
use crate::{Context, Findings, Policy, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// The dump names tiers and queues, the tier that each CPU runs, and the tier of each task that waits.
pub const NAMES_TIERS: Test = Test {
    name: "a_dump_names_tiers",
    run,
    ..PLAIN
};

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    if context.policy == Policy::Stock {
        return Ok(());
    }
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let _loads = [Tier::Critical, Tier::Background]
        .map(|tier| hogs(&cgroups, tier, 6).start())
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    sleep(Duration::from_millis(500));
    let dump = trace::sched_ext_dump()?;
    let critical = Tier::Critical.index();
    let background = Tier::Background.index();
    for (what, wanted) in [
        ("a queue of each tier", format!("tier={background} queued=")),
        (
            "a CPU that runs Critical",
            format!("tier={critical} runs={critical}"),
        ),
        (
            "a Background task that waits",
            format!("tier={background} flags="),
        ),
    ] {
        findings.expect(dump.contains(&wanted), || {
            format!("the dump does not name {what} ({wanted:?}):\n{dump}")
        });
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
