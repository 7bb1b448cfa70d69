//! stress-ng's scheduler class, which the scx project's own tests run beside a scheduler: exits, forks, timers, and threads
//! that change class and affinity while they are queued.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::{Context, Findings, Row, Test, Waits};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use std::process::{Command, Stdio};
use std::time::Duration;

/// All of the class.
pub const ROW: Row = Row {
    name: "stress_ng",
    what: "stress-ng's scheduler class but softlockup, one stressor after another",
    wait: WAIT,
    frozen: false,
    limit: Duration::from_secs(900),
    run: |context, findings| stress(context, findings, &ALL),
};

const SOME_ROW: Row = Row {
    name: "stress_ng_some",
    what: "stressors of stress-ng's scheduler class that ejected a scheduler before",
    run: |context, findings| stress(context, findings, &SOME),
    ..ROW
};

/// Those of [`ROW`] that ejected a scheduler before, and their kind.
pub const SOME_STRESSORS: Test = Test {
    name: "some_stressors_eject_nothing",
    limit: Duration::from_secs(300),
    run: |context, findings| judge(context, findings, &SOME_ROW),
    ..PLAIN
};

/// The class without `softlockup`, whose real-time threads have the highest priority, above this program's.
const ALL: [&str; 44] = [
    "affinity",
    "clone",
    "close",
    "cyclic",
    "daemon",
    "dnotify",
    "eventfd",
    "exec",
    "exit-group",
    "fanotify",
    "fault",
    "fifo",
    "fork",
    "forkheavy",
    "futex",
    "hrtimers",
    "inotify",
    "kill",
    "loadavg",
    "mmapfork",
    "mq",
    "msg",
    "mutex",
    "nanosleep",
    "nice",
    "poll",
    "pthread",
    "race-sched",
    "resched",
    "schedpolicy",
    "sem",
    "sem-sysv",
    "session",
    "sleep",
    "spawn",
    "switch",
    "tee",
    "vfork",
    "vforkmany",
    "wait",
    "yield",
    "zombie",
    "netlink-task",
    "netlink-proc",
];

const SOME: [&str; 8] = [
    "affinity",
    "exit-group",
    "hrtimers",
    "inotify",
    "nice",
    "race-sched",
    "schedpolicy",
    "yield",
];

/// Four of each, one to a CPU; some keep real-time threads busy for as long as they run.
const WAIT: Duration = Duration::from_secs(3);

/// How long each stressor runs.
const RUN: Duration = Duration::from_secs(1);

/// After real-time threads took every CPU the scheduler is back: the guard's back-off, and attaching.
const BACK: Duration = Duration::from_secs(15);

/// When to stop waiting for one to end.
const END: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

fn stress(context: &Context, findings: &mut Findings, stressors: &[&str]) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let loads = [
        hogs(&cgroups, Tier::High, 1).start()?,
        hogs(&cgroups, Tier::Normal, 2).start()?,
    ];
    for name in stressors {
        let before = context.node.attaches()?;
        run(name)?;
        if context.node.attaches()? != before || !context.node.is_enabled()? {
            findings.figure(format!("{name}: the scheduler left"));
        }
    }
    if context.node.serves_sched_ext()? {
        scheduler.expect_steady(&context.node, findings)?;
    } else {
        // Some stressors have real-time threads on every CPU.
        scheduler.expect_back(&context.node, BACK, findings)?;
    }
    let waits = watch(context, &loads, Duration::ZERO)?;
    by_load(findings, &loads)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

/// Runs a stressor. That it ends in an error, such as for a kernel without what it stresses, is no finding.
fn run(name: &str) -> Result<()> {
    let mut command = Command::new("stress-ng");
    command.args([&format!("--{name}"), "4", "--quiet", "--timeout"]);
    command.arg(RUN.as_secs().to_string()).current_dir("/tmp");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("starting stress-ng")?;
    let until = monotonic() + RUN + END;
    while child.try_wait()?.is_none() {
        if monotonic() > until {
            child.kill()?;
        }
        sleep(POLL);
    }
    Ok(())
}
