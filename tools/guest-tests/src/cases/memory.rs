//! The scheduler attaches while there is hardly any memory.

use super::crowds::{by_load, hogs, watch};
use super::{PLAIN, attach, cgroups, judge};
use crate::clock::{monotonic, sleep};
use crate::{Context, Findings, Row, Test, Waits};
use anyhow::{Context as _, Result, ensure};
use infera_policy::Tier;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the scheduler locks does not fit beside the load: the kernel has to kill some of that.
pub const ROW: Row = Row {
    name: "attach_without_memory",
    what: "attach while memory is short",
    wait: Duration::from_millis(3_000),
    frozen: false,
    limit: Duration::from_secs(120),
    run,
};

/// [`ROW`] as a test.
pub const ATTACH: Test = Test {
    name: ROW.name,
    run: |context, findings| judge(context, findings, &ROW),
    ..PLAIN
};

/// What is left when the scheduler starts; it locks about 100 MiB.
const LEFT_KIB: u64 = 64 * 1024;

/// How long taking the memory may last.
const TAKEN: Duration = Duration::from_secs(60);

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let loads = [
        hogs(&cgroups, Tier::High, 1).start()?,
        hogs(&cgroups, Tier::Normal, 2).start()?,
    ];
    let mut crowd = take_memory()?;
    let start = monotonic();
    while available_kib()? > 2 * LEFT_KIB {
        ensure!(
            monotonic() - start < TAKEN,
            "{} KiB are left",
            available_kib()?
        );
        sleep(Duration::from_millis(20));
    }
    findings.figure(format!("{} MiB are left", available_kib()? / 1024));
    let scheduler = attach(context, &cgroups)?;
    findings.figure(format!(
        "attached; {} MiB are left",
        available_kib()? / 1024
    ));
    let waits = watch(context, &loads, Duration::from_secs(7))?;
    scheduler.expect_no_eject(&context.node, Duration::ZERO, findings)?;
    by_load(findings, &loads)?;
    crowd.kill()?;
    crowd.wait()?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}

/// A process that has all memory but a little, and writes to it again and again. The kernel kills it first, and stress-ng starts it
/// again. One, because stress-ng divides the memory among several.
fn take_memory() -> Result<Child> {
    let all = available_kib()?.saturating_sub(LEFT_KIB);
    let mut command = Command::new("stress-ng");
    command.args(["--quiet", "--vm", "1", "--vm-bytes"]);
    command.arg(format!("{all}k"));
    command.args(["--vm-keep", "--vm-method", "write64", "--timeout", "100"]);
    command.current_dir("/tmp").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("starting stress-ng")
}

fn available_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    number
        .context("no MemAvailable")?
        .trim()
        .parse()
        .context("MemAvailable is no number")
}
