//! CPU requests (`cpu.weight`) hold within a tier while attached, by the kernel's own account of each cgroup.

use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::sleep;
use crate::random::Random;
use crate::{Cgroup, Context, Crowd, Findings, Load, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// Two cgroups share by weight, in each tier.
pub const IN_EACH_TIER: Test = Test {
    name: "shares_in_each_tier",
    run: in_each_tier,
    ..TEST
};

/// The number of threads does not matter, nor do nice levels inside of a cgroup for the others.
pub const MANY_THREADS: Test = Test {
    name: "shares_of_many_threads",
    run: many_threads,
    ..TEST
};

/// At each level siblings share what their parent has.
pub const NESTED: Test = Test {
    name: "shares_of_nested_cgroups",
    run: nested,
    ..TEST
};

/// A weight that changes is in force at once, and the smallest one is honoured.
pub const CHANGED: Test = Test {
    name: "shares_follow_changes",
    run: changed,
    ..TEST
};

/// The lightest cgroup beside the heaviest waits, but its wait is not taken for a stall: in a tier that the kernel side serves, and
/// in one that the policy orders.
pub const STARVE_NONE: Test = Test {
    name: "shares_starve_none",
    run: starve_none,
    ..TEST
};

const TEST: Test = Test {
    limit: Duration::from_secs(400),
    ..PLAIN
};

/// By how much what a cgroup gets may differ from its share.
const OFF: f64 = 0.03;

/// The same where threads differ by ten times and more.
const FAR_OFF: f64 = 0.05;

/// The same for a hundredth: eight threads of that have some 25 slices each in the window.
const FARTHEST_OFF: f64 = 0.1;

/// What is measured begins when new threads have found their places, and weights are known.
const SETTLE: Duration = Duration::from_millis(1_500);

const WINDOW: Duration = Duration::from_secs(5);

const CPUS: f64 = 4.0;

/// A cgroup with busy threads, and the part of the node that it should have.
struct Part<'a> {
    cgroup: &'a Cgroup,
    part: f64,
}

/// Notes what each cgroup gets over `window`, by which none may be more than `most` off its part; of the figures, the worst.
fn judge(
    findings: &mut Findings,
    what: &str,
    parts: &[Part],
    window: Duration,
    most: f64,
) -> Result<()> {
    let usage =
        || -> Result<Vec<Duration>> { parts.iter().map(|part| part.cgroup.usage()).collect() };
    let before = usage()?;
    sleep(window);
    let used: Vec<f64> = usage()?
        .into_iter()
        .zip(before)
        .map(|(after, before)| (after - before).as_secs_f64())
        .collect();
    let all: f64 = used.iter().sum();
    let busy = all / (CPUS * window.as_secs_f64());
    let mut worst = (0.0f64, String::new());
    for (part, used) in parts.iter().zip(used) {
        let off = used / all / part.part - 1.0;
        let name = part.cgroup.pattern();
        let figure = format!(
            "{name} has {:.2} % of {:.2} %: {:+.2} %",
            100.0 * used / all,
            100.0 * part.part,
            100.0 * off
        );
        if off.abs() >= worst.0.abs() {
            worst = (off, figure);
        }
    }
    findings.figure(format!("{what}, the worst of {}: {}", parts.len(), worst.1));
    findings.expect(worst.0.abs() <= most, || {
        format!("{what}: {}, not within {:.0}", worst.1, 100.0 * most)
    });
    findings.expect(busy > 0.97, || {
        format!("{what}: the cgroups use {busy:.3} of the node")
    });
    Ok(())
}

fn in_each_tier(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    for tier in USER_TIERS {
        let of_tier = &cgroups[tier.index()];
        let (light, heavy) = (of_tier.child("light")?, of_tier.child("heavy")?);
        heavy.set_weight(300)?;
        let loads = [
            Crowd::hogs(&light, "light", 8).start()?,
            Crowd::hogs(&heavy, "heavy", 8).start()?,
        ];
        sleep(SETTLE);
        let parts = [(&light, 0.25), (&heavy, 0.75)].map(|(cgroup, part)| Part { cgroup, part });
        judge(
            findings,
            &format!("{tier}, weights of 100 and 300"),
            &parts,
            WINDOW,
            OFF,
        )?;
        drop(loads);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn many_threads(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    let (few, many) = (normal.child("few")?, normal.child("many")?);
    let halves = || [(&few, 0.5), (&many, 0.5)].map(|(cgroup, part)| Part { cgroup, part });
    for (threads, nice) in [(4, 0), (20, 5), (64, 0), (200, 0)] {
        let loads = [
            Crowd::hogs(&few, "few", 4).start()?,
            Crowd::hogs(&many, "many", threads).nice(nice).start()?,
        ];
        sleep(SETTLE);
        let most = if threads < 100 { OFF } else { FAR_OFF };
        let what = format!("4 threads and {threads} at nice {nice}");
        judge(findings, &what, &halves(), WINDOW, most)?;
        drop(loads);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// Pods, and containers of each.
const PODS: usize = 6;
const CONTAINERS: usize = 4;

fn nested(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    for seed in 1..=3 {
        let mut random = Random::new(seed);
        let mut pods = Vec::new();
        let mut containers: Vec<(Cgroup, f64)> = Vec::new();
        let mut loads: Vec<Load> = Vec::new();
        let weights = |random: &mut Random, count: usize| -> Vec<u32> {
            (0..count).map(|_| 100 + random.below(300) as u32).collect()
        };
        let pod_weights = weights(&mut random, PODS);
        let all: u32 = pod_weights.iter().sum();
        for (number, weight) in pod_weights.iter().enumerate() {
            let pod = normal.child(&format!("pod{seed}-{number}"))?;
            pod.set_weight(*weight)?;
            let container_weights = weights(&mut random, CONTAINERS);
            let inside: u32 = container_weights.iter().sum();
            for (number, own) in container_weights.iter().enumerate() {
                let container = pod.child(&format!("container{number}"))?;
                container.set_weight(*own)?;
                let threads = 1 + random.below(8);
                loads.push(Crowd::hogs(&container, "hog", threads).start()?);
                let part =
                    f64::from(*weight) / f64::from(all) * f64::from(*own) / f64::from(inside);
                containers.push((container, part));
            }
            pods.push(pod);
        }
        // About a hundred threads: a round of their slices takes half a second.
        sleep(4 * SETTLE);
        let parts: Vec<Part> = containers
            .iter()
            .map(|(cgroup, part)| Part {
                cgroup,
                part: *part,
            })
            .collect();
        let what = format!("seed {seed}, {CONTAINERS} containers in each of {PODS} pods");
        judge(findings, &what, &parts, 4 * WINDOW, OFF)?;
        drop(loads);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn changed(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    let (one, other) = (normal.child("one")?, normal.child("other")?);
    let loads = [
        Crowd::hogs(&one, "one", 8).start()?,
        Crowd::hogs(&other, "other", 8).start()?,
    ];
    for weight in [100, 1_000, 10, 1] {
        one.set_weight(weight)?;
        sleep(SETTLE);
        let (window, most) = match weight {
            100 => (WINDOW, OFF),
            1 => (4 * WINDOW, FARTHEST_OFF),
            _ => (WINDOW, FAR_OFF),
        };
        let weight = f64::from(weight);
        let part = weight / (weight + 100.0);
        let parts =
            [(&one, part), (&other, 1.0 - part)].map(|(cgroup, part)| Part { cgroup, part });
        judge(
            findings,
            &format!("a weight of {weight} beside 100"),
            &parts,
            window,
            most,
        )?;
    }
    drop(loads);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// Longer than the guard and the kernel let a task wait.
const LONG: Duration = Duration::from_secs(32);

fn starve_none(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let mut loads = Vec::new();
    for (tier, cpus) in [(Tier::High, 0..2), (Tier::Low, 2..4)] {
        let of_tier = &cgroups[tier.index()];
        of_tier.set_cpus(&cpus.collect())?;
        let (light, heavy) = (of_tier.child("light")?, of_tier.child("heavy")?);
        light.set_weight(1)?;
        heavy.set_weight(10_000)?;
        loads.push((tier, Crowd::hogs(&light, "light", 12).start()?));
        loads.push((tier, Crowd::hogs(&heavy, "heavy", 30).start()?));
    }
    sleep(LONG);
    for (tier, load) in &loads {
        let wait = load.longest_wait()?;
        findings.figure(format!(
            "{tier}, {}: longest wait {} ms",
            load.name(),
            wait.as_millis()
        ));
        findings.expect(wait < Duration::from_secs(10), || {
            format!(
                "{tier}, {}: a thread waited {} ms",
                load.name(),
                wait.as_millis()
            )
        });
    }
    drop(loads);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
