//! Limited cgroups that come and go while their tasks wait for budget.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, USER_TIERS, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::random::Random;
use crate::{Cgroup, Context, Findings, Row, Test, Waits};
use anyhow::{Context as _, Result, ensure};
use infera_policy::Tier;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// Tasks that wait for budget exit, are moved, frozen and killed, their limits change, and their cgroups are removed.
pub const ROW: Row = Row {
    name: "limits_churn",
    what: "limited cgroups are made, changed, frozen, emptied and removed while their tasks wait",
    wait: Duration::from_millis(3_000),
    frozen: false,
    limit: Duration::from_secs(120),
    run,
};

/// [`ROW`] as a test.
pub const CHURN: Test = Test {
    name: ROW.name,
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

/// For how long, with each seed.
const CHURNING: Duration = Duration::from_secs(3);

const SEEDS: u64 = 3;

/// Pods at a time.
const PODS: usize = 12;

/// The longest that a killed pod's cgroup may be in use.
const GONE: Duration = Duration::from_millis(200);

/// Two busy shells, which end by themselves where nothing ends them before, and the cgroup that they were put into.
struct Pod {
    cgroup: Cgroup,
    shells: [Child; 2],
    frozen: bool,
}

/// What was done.
#[derive(Default)]
struct Done {
    made: usize,
    moved: usize,
    frozen: usize,
    limited: usize,
    longest: Duration,
}

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let mut loads = Vec::new();
    // Not in Normal's own cgroup: tasks are there or in those below it.
    for tier in USER_TIERS.into_iter().filter(|tier| *tier != Tier::Normal) {
        loads.push(hogs(&cgroups, tier, 1).start()?);
    }
    let normal = &cgroups[Tier::Normal.index()];
    let mut done = Done::default();
    let waits = thread::scope(|scope| {
        let churn = scope.spawn(|| (0..SEEDS).try_for_each(|seed| churn(normal, seed, &mut done)));
        let waits = watch(
            context,
            &loads,
            CHURNING * SEEDS as u32 + Duration::from_secs(4),
        );
        churn.join().expect("the churn does not panic")?;
        waits
    })?;
    findings.figure(format!(
        "{} limited cgroups made and removed, {} changes of limits, {} of the freezer, {} moves; a killed one was in use for {} ms at most",
        done.made,
        done.limited,
        done.frozen,
        done.moved,
        done.longest.as_millis()
    ));
    findings.expect(done.made > 20 && done.longest <= GONE, || {
        format!(
            "of {} killed cgroups one was in use for {} ms, not at most {}",
            done.made,
            done.longest.as_millis(),
            GONE.as_millis()
        )
    });
    scheduler.expect_steady(&context.node, findings)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

fn churn(parent: &Cgroup, seed: u64, done: &mut Done) -> Result<()> {
    let mut random = Random::new(seed);
    let mut pods: Vec<Pod> = Vec::new();
    let until = monotonic() + CHURNING;
    while monotonic() < until {
        sleep(Duration::from_micros(random.below(4_000) as u64));
        if pods.len() < PODS {
            pods.push(start(
                parent,
                &format!("pod-{seed}-{}", done.made),
                &mut random,
            )?);
            done.made += 1;
            continue;
        }
        let (which, other) = (random.below(PODS), random.below(PODS));
        match random.below(6) {
            0 => {
                limit(&pods[which].cgroup, &mut random)?;
                done.limited += 1;
            }
            1 | 2 => {
                let pod = &mut pods[which];
                pod.frozen = !pod.frozen;
                let frozen = if pod.frozen { "1" } else { "0" };
                pod.cgroup.write("cgroup.freeze", frozen)?;
                done.frozen += 1;
            }
            3 | 4 => {
                // Fails for a task that has exited since the list was read.
                let _ = pods[other].cgroup.take_all_from(&pods[which].cgroup);
                done.moved += 1;
            }
            _ => end(pods.swap_remove(which), done)?,
        }
    }
    pods.into_iter().try_for_each(|pod| end(pod, done))
}

/// A pod whose shells use up 1 to 200 ms or so of CPU time, under a limit.
fn start(parent: &Cgroup, name: &str, random: &mut Random) -> Result<Pod> {
    let cgroup = parent.child(name)?;
    limit(&cgroup, random)?;
    let procs = cgroup.directory().join("cgroup.procs");
    let mut shell = || {
        let script = format!(
            "echo 0 > {}; i=0; while [ $i -lt {} ]; do i=$((i+1)); done",
            procs.display(),
            1_000 + random.below(200_000)
        );
        let child = Command::new("sh").arg("-c").arg(script).spawn();
        child.context("starting a shell")
    };
    Ok(Pod {
        shells: [shell()?, shell()?],
        cgroup,
        frozen: false,
    })
}

/// 1 to 10 ms of each 100.
fn limit(cgroup: &Cgroup, random: &mut Random) -> Result<()> {
    let quota = Duration::from_micros(1_000 + random.below(9_000) as u64);
    cgroup.limit(Some((quota, Duration::from_millis(100))))
}

/// Kills what is in a pod's cgroup and removes that. Shells that were moved elsewhere end with those there. One that has been
/// started but has not joined its cgroup yet does so after the first kill, so each try kills again.
fn end(mut pod: Pod, done: &mut Done) -> Result<()> {
    let start = monotonic();
    pod.cgroup.write("cgroup.kill", "1")?;
    while pod.cgroup.remove().is_err() {
        ensure!(
            monotonic() - start < Duration::from_secs(10),
            "{} is still in use 10 s after its tasks were killed: {}",
            pod.cgroup.directory().display(),
            pod.cgroup.tasks()?.join(", ")
        );
        sleep(Duration::from_millis(1));
        pod.cgroup.write("cgroup.kill", "1")?;
    }
    done.longest = done.longest.max(monotonic() - start);
    for shell in &mut pod.shells {
        // One that was moved may run on.
        shell.try_wait().context("awaiting a shell")?;
    }
    Ok(())
}
