//! Real-time threads on every CPU: no task of sched_ext can run, and the scheduler is not at fault.

use super::crowds::hogs;
use super::{PLAIN, attach, cgroups};
use crate::clock::{monotonic, sleep};
use crate::{Context, Findings, Test};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// On kernels with a server for sched_ext the scheduler stays; on others the stock scheduler, which has one, takes over for as
/// long.
pub const ON_EVERY_CPU: Test = Test {
    name: "real_time_threads_on_every_cpu",
    run: on_every_cpu,
    ..PLAIN
};

/// Above the guard's priority, below the test's.
const PRIORITY: &str = "10";

/// How long real-time threads have every CPU.
const CROWDED: Duration = Duration::from_secs(4);

/// After this the node is on the stock scheduler where the kernel has no server for sched_ext: half a second, a
/// period of the overlay's timer, and the kernel's own steps.
const GONE: Duration = Duration::from_millis(1_000);

/// After the end of the crowd the scheduler is back: the guard's back-off, and attaching.
const BACK: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(20);

fn on_every_cpu(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let load = hogs(&cgroups, Tier::Normal, 2).start()?;
    sleep(Duration::from_secs(1));
    // One bound to each CPU: where two start on the same, the kernel may leave another CPU without any.
    let mut crowd = Vec::new();
    for cpu in context.node.cpus()? {
        crowd.push(spin(cpu, CROWDED)?);
    }
    // Not before: as long as the last one is not there a CPU is left for others.
    let start = monotonic();
    let mut gone = None;
    while running(&mut crowd)? {
        if gone.is_none() && context.node.is_disabled()? {
            gone = Some(monotonic() - start);
        }
        sleep(POLL);
    }
    if context.node.serves_sched_ext()? {
        findings.figure(format!(
            "the scheduler stayed; longest wait of a hog {} ms",
            load.longest_wait()?.as_millis()
        ));
        sleep(Duration::from_secs(2));
        scheduler.expect_steady(&context.node, findings)?;
    } else {
        let after = gone.map_or("not".to_owned(), |time| {
            format!("after {} ms", time.as_millis())
        });
        findings.figure(format!("the stock scheduler had the node {after}"));
        findings.expect(gone.is_some_and(|time| time <= GONE), || {
            format!(
                "the stock scheduler had the node {after}, not within {} ms",
                GONE.as_millis()
            )
        });
        let took = scheduler.expect_back(&context.node, BACK, findings)?;
        findings.figure(format!(
            "back {} ms after the last real-time thread",
            took.as_millis()
        ));
    }
    drop(load);
    scheduler.leave(&context.node, findings)
}

/// A real-time thread that keeps `cpu` for `time`.
pub fn spin(cpu: usize, time: Duration) -> Result<Child> {
    let mut command = Command::new("taskset");
    command.arg(format!("{:x}", 1_u64 << cpu));
    command.args(["infera-load", "--fifo", PRIORITY, "hogs", "--count", "1"]);
    command.arg("--duration-ms");
    command.arg(time.as_millis().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("starting infera-load")
}

fn running(crowd: &mut [Child]) -> Result<bool> {
    let mut some = false;
    for child in crowd {
        some |= child.try_wait()?.is_none();
    }
    Ok(some)
}
