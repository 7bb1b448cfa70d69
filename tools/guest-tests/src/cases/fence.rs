//! The fence holds whole cores.

use super::{PLAIN, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::{monotonic, sleep};
use crate::trace::{Trace, intervals};
use crate::{Context, Findings, Scheduler, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::collections::BTreeMap;
use std::time::Duration;

/// Nothing below Critical runs on the sibling of a busy Critical thread.
pub const WHOLE_CORES: Test = Test {
    name: "the_fence_is_whole_cores",
    topology: Some([1, 4, 2]),
    run,
    ..PLAIN
};

/// How much of a busy Critical thread's time its sibling may run lower tiers: what a preemption takes.
const SHARED: f64 = 0.01;

const BELOW: [Tier; 3] = [Tier::High, Tier::Normal, Tier::Background];

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    let mut siblings = BTreeMap::new();
    for cpu in context.node.cpus()? {
        let core = context.node.core_of(cpu)?;
        findings.expect(core.len() == 2, || {
            format!(
                "CPU {cpu} shares its core with {} CPUs: run this with --topology 1,4,2",
                core.len() - 1
            )
        });
        siblings.insert(cpu, core.into_iter().find(|other| *other != cpu));
    }
    let cgroups = cgroups()?;
    let rules: Vec<_> = Tier::ALL.into_iter().zip(&cgroups).collect();
    let config = "[tiers.critical]\nfence_cores = 2\n";
    let scheduler = Scheduler::attach(&context.node, &context.policy, &rules, config)?;
    // From the beginning: a thread that never leaves its CPU is in one line of the trace alone.
    let trace = Trace::start()?;
    let mut loads = Vec::new();
    for tier in BELOW {
        loads.push(hogs(&cgroups, tier, 6).start()?);
    }
    // The idle fence is lent meanwhile, and what is there has to leave.
    sleep(Duration::from_millis(500));
    loads.push(hogs(&cgroups, Tier::Critical, 2).start()?);
    sleep(Duration::from_millis(100));
    let since = monotonic();
    sleep(Duration::from_secs(3));
    let switches = trace.take()?;
    let (mut busy, mut shared) = (Duration::ZERO, BTreeMap::<&str, Duration>::new());
    intervals(&switches, since, |time, running| {
        for (cpu, name) in running {
            if !is_of(name, Tier::Critical) {
                continue;
            }
            busy += time;
            let beside = siblings.get(cpu).copied().flatten();
            let beside = beside.and_then(|cpu| running.get(&cpu));
            let below = beside.and_then(|name| BELOW.into_iter().find(|tier| is_of(name, *tier)));
            if let Some(tier) = below {
                *shared.entry(tier.name()).or_default() += time;
            }
        }
    });
    let all: Duration = shared.values().sum();
    let share = all.as_secs_f64() / busy.as_secs_f64();
    findings.figure(format!(
        "2 Critical threads were busy for {} ms, and shared a core with lower tiers for {:.2} % of that: {shared:?}",
        busy.as_millis(),
        share * 100.0
    ));
    findings.expect(busy >= Duration::from_secs(5), || {
        format!(
            "2 Critical threads had {} ms of CPU time in 3 s",
            busy.as_millis()
        )
    });
    findings.expect(share <= SHARED, || {
        format!(
            "lower tiers shared a core with Critical for {:.1} % of its time",
            share * 100.0
        )
    });
    drop(loads);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// Whether that is a thread of the tier's load.
fn is_of(name: &str, tier: Tier) -> bool {
    name.strip_prefix(tier.name())
        .is_some_and(|rest| rest.starts_with('-'))
}
