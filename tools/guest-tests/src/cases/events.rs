//! The kernel's own counters of sched_ext, in the statistics.

use super::{PLAIN, attach, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::sleep;
use crate::{Context, Findings, Policy, Test};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The statistics name each event that the kernel counts, where it counts any: 6.12 does not.
pub const NAMED: Test = Test {
    name: "statistics_name_the_kernels_events",
    run,
    ..PLAIN
};

const FILE: &str = "/sys/kernel/sched_ext/root/events";

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    if context.policy == Policy::Stock {
        return Ok(());
    }
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let _load = hogs(&cgroups, Tier::Normal, 8).start()?;
    sleep(Duration::from_secs(1));
    let names = std::fs::read_to_string(FILE).unwrap_or_default();
    let output = Command::new("infera")
        .args(["top", "--once", "-o", "json"])
        .output()
        .context("starting infera top")?;
    let frame: Value = serde_json::from_slice(&output.stdout).context("infera top's JSON")?;
    let shown = frame["stats"]["kernel_events"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    findings.figure(format!(
        "{shown} events: {}",
        frame["stats"]["kernel_events"]
    ));
    findings.expect(shown == names.lines().count(), || {
        format!("{shown} events in the statistics, and in {FILE}:\n{names}")
    });
    findings.expect(Path::new(FILE).exists() || shown == 0, || {
        "events without the file".into()
    });
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
