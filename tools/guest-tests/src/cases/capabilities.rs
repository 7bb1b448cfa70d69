//! Which capabilities the scheduler needs, and what it says where it lacks one.

use super::PLAIN;
use crate::clock::sleep;
use crate::{Context, Findings, Policy, Test, Unguarded};
use anyhow::{Context as _, Result};
use std::process::{Command, Output};
use std::time::Duration;

/// A missing capability is a refusal that names it. The least that the checks ask for suffices.
pub const NAMED: Test = Test {
    name: "a_missing_capability_is_named",
    run,
    ..PLAIN
};

/// Without root's other capabilities: what is kept, and what the refusal names.
const TOO_FEW: [(&str, &str); 4] = [
    ("+perfmon,+sys_resource", "CAP_BPF"),
    ("+bpf,+sys_resource", "CAP_PERFMON"),
    ("+bpf,+perfmon", "CAP_SYS_RESOURCE"),
    ("+sys_admin", "CAP_SYS_RESOURCE"),
];

const ENOUGH: [&str; 2] = ["+bpf,+perfmon,+sys_resource", "+sys_admin,+sys_resource"];

/// The exit status of such a refusal: docs/running.md.
const NOT_ROOT: i32 = 4;

fn run(context: &Context, findings: &mut Findings) -> Result<()> {
    if context.policy == Policy::Stock {
        return Ok(());
    }
    for (kept, named) in TOO_FEW {
        for arguments in [&[][..], &["--check"]] {
            let Output {
                status,
                stdout,
                stderr,
            } = with(kept)
                .arg("scx_infera")
                .args(arguments)
                .output()
                .context("starting setpriv")?;
            let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
            findings.expect(
                status.code() == Some(NOT_ROOT) && said.contains(named),
                || format!("with {kept} {arguments:?}: {status}, and {named} is not named: {said}"),
            );
        }
    }
    for kept in ENOUGH {
        let alone = Unguarded::start(&context.node, with(kept).arg("scx_infera"))?;
        sleep(Duration::from_millis(500));
        let enabled = context.node.is_enabled()?;
        findings.expect(enabled, || format!("with {kept}: it did not stay attached"));
        drop(alone);
    }
    Ok(())
}

/// Runs a program with these capabilities alone, and those to read files of every owner.
fn with(kept: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all,+dac_read_search,{kept}"));
    command.arg("--inh-caps=-all");
    command
}
