//! Programs that are started where every CPU has work.

use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::{monotonic, sleep};
use crate::{Cgroup, Context, Crowd, Findings, Test};
use anyhow::{Context as _, Result, ensure};
use infera_policy::Tier;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

/// A new process, and the one that waits for its end, have a CPU as soon as under the stock scheduler, also where it is their only one.
pub const START: Test = Test {
    name: "programs_start_beside_a_crowd",
    turn_us: Some(50),
    run,
    ..PLAIN
};

/// How many are started, one after the other. Each is a `sleep`, so that they are not a load themselves.
const PROGRAMS: u32 = 20;

const PAUSE: Duration = Duration::from_millis(50);

/// The crowd is new itself: its first wake slices use up the credit of wakeups.
const SETTLE: Duration = Duration::from_millis(1_000);

/// How long it may take, beyond its pause, to start one and notice its end, in times of what the stock scheduler takes.
const TIMES: f64 = 1.25;

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let normal = &cgroups[Tier::Normal.index()];
    let mut stock = Vec::new();
    for (what, cpus) in PLACES {
        let each = beside_a_crowd(normal, cpus)?;
        findings.figure(format!(
            "the stock scheduler, {what}: {} us",
            each.as_micros()
        ));
        stock.push(each);
    }
    let scheduler = attach(context, &cgroups)?;
    for tier in USER_TIERS {
        for ((what, cpus), stock) in PLACES.into_iter().zip(&stock) {
            let each = beside_a_crowd(&cgroups[tier.index()], cpus)?;
            findings.figure(format!("{tier}, {what}: {} us", each.as_micros()));
            findings.expect(each <= stock.mul_f64(TIMES), || {
                format!(
                    "{tier}: a program beside 16 hogs on {what} takes {} us, and {} under the stock scheduler",
                    each.as_micros(),
                    stock.as_micros()
                )
            });
        }
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

const PLACES: [(&str, Range<usize>); 2] = [("one CPU", 1..2), ("four CPUs", 0..4)];

/// How long a program takes beyond its pause where 16 hogs share `cpus` with it.
fn beside_a_crowd(cgroup: &Cgroup, cpus: Range<usize>) -> Result<Duration> {
    cgroup.set_cpus(&cpus.collect())?;
    let _hogs = Crowd::hogs(cgroup, "hog", 16).start()?;
    sleep(SETTLE);
    let procs = cgroup.directory().join("cgroup.procs");
    let script = format!(
        "echo 0 > {} || exit 1; i=0; while [ $i -lt {PROGRAMS} ]; do sleep {}; i=$((i+1)); done",
        procs.display(),
        PAUSE.as_secs_f64()
    );
    let start = monotonic();
    let status = Command::new("sh").arg("-c").arg(script).status();
    ensure!(
        status.context("starting a shell")?.success(),
        "the shell could not join its cgroup"
    );
    Ok((monotonic() - start).saturating_sub(PROGRAMS * PAUSE) / PROGRAMS)
}
