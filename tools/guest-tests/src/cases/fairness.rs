//! Fairness inside a tier: equal weights, nice levels, and a thread that sleeps on purpose.

use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::sleep;
use crate::load::cpu_over;
use crate::{Context, Crowd, Findings, Load, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// Hogs of one weight get the same, in each tier.
pub const EQUAL_WEIGHT: Test = Test {
    name: "hogs_of_equal_weight",
    run: equal_weight,
    ..PLAIN
};

/// Hogs of different nice levels get CPU time in the ratio of the kernel's weights.
pub const NICE_LEVELS: Test = Test {
    name: "nice_levels",
    run: nice_levels,
    ..PLAIN
};

/// A thread that sleeps in between gains nothing by it, and loses nothing.
pub const SLEEPING_ON_PURPOSE: Test = Test {
    name: "sleeping_on_purpose",
    run: sleeping_on_purpose,
    ..PLAIN
};

/// What is measured begins when new threads have found their places.
const SETTLE: Duration = Duration::from_millis(500);

const WINDOW: Duration = Duration::from_secs(5);

/// By how much hogs of equal weight may differ, from the least to the most.
const EQUAL: f64 = 0.03;

/// By how much a nice level may miss its share.
const NICE: f64 = 0.05;

/// By how much the sleeping thread may miss its fair share.
const SLEEPING: f64 = 0.05;

fn equal_weight(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    for tier in USER_TIERS {
        // Not a multiple of the CPUs: who shares one must change.
        let hogs = Crowd::hogs(&cgroups[tier.index()], "hog", 6).start()?;
        sleep(SETTLE);
        let used = cpu_over(&[&hogs], WINDOW)?.concat();
        let least = used.iter().min().copied().unwrap_or_default();
        let most = used.iter().max().copied().unwrap_or_default();
        let mean = mean(&used);
        let spread = (most - least).as_secs_f64() / mean;
        findings.figure(format!(
            "{tier}: {} to {} ms of CPU time each, {:.2} % apart",
            least.as_millis(),
            most.as_millis(),
            spread * 100.0
        ));
        findings.expect(spread <= EQUAL, || {
            format!(
                "{tier}: hogs of equal weight are {:.1} % apart, not {:.0}",
                spread * 100.0,
                EQUAL * 100.0
            )
        });
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// Nice values, and what `sched_prio_to_weight` in the kernel gives each.
const LEVELS: [(i32, f64); 3] = [(-5, 3121.0), (0, 1024.0), (5, 335.0)];

fn nice_levels(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    // As many of each level that no fair share exceeds a CPU.
    const EACH: usize = 4;
    let tier = Tier::Normal;
    let start = |(nice, _)| {
        Crowd::hogs(&cgroups[tier.index()], &format!("nice{nice}"), EACH)
            .nice(nice)
            .start()
    };
    let hogs = LEVELS
        .into_iter()
        .map(start)
        .collect::<Result<Vec<Load>>>()?;
    sleep(SETTLE);
    let used = cpu_over(&hogs.iter().collect::<Vec<_>>(), 2 * WINDOW)?;
    let sums: Vec<f64> = used.iter().map(|used| mean(used)).collect();
    let all: f64 = sums.iter().sum();
    let weights: f64 = LEVELS.iter().map(|(_, weight)| weight).sum();
    for ((nice, weight), got) in LEVELS.into_iter().zip(sums) {
        let (share, fair) = (got / all, weight / weights);
        let off = share / fair - 1.0;
        findings.figure(format!(
            "nice {nice}: {:.0} ms each, {:.2} % of all, by weight {:.2} %: {:+.2} %",
            got * 1000.0,
            share * 100.0,
            fair * 100.0,
            off * 100.0
        ));
        findings.expect(off.abs() <= NICE, || {
            format!(
                "nice {nice} is {:+.1} % off its weight, not within {:.0}",
                off * 100.0,
                NICE * 100.0
            )
        });
    }
    drop(hogs);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn sleeping_on_purpose(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    for tier in USER_TIERS {
        let cgroup = &cgroups[tier.index()];
        let hogs = Crowd::hogs(cgroup, "hog", 8).start()?;
        let (run, pause) = (Duration::from_millis(3), Duration::from_millis(1));
        let sleeper = Crowd::hogs(cgroup, "sleeper", 1)
            .sleeping(run, pause)
            .start()?;
        sleep(SETTLE);
        let used = cpu_over(&[&hogs, &sleeper], WINDOW)?;
        let fair = mean(&used.concat());
        let got = mean(&used[1]) / fair;
        findings.figure(format!(
            "{tier}: a thread that sleeps 1 ms after each 3 ms has {:.3} of its fair share",
            got
        ));
        findings.expect((got - 1.0).abs() <= SLEEPING, || {
            format!("{tier}: sleeping on purpose gives {got:.3} of a fair share, not 1 within {SLEEPING:.2}")
        });
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// In seconds; of nothing it is not a number, which no limit admits.
fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64
}
