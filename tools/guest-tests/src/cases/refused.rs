//! What keeps the scheduler from attaching on this machine as it runs now: a sentence and a status, no attempt.

use super::PLAIN;
use crate::{Context, Findings, Policy, Test};
use anyhow::{Context as _, Result};
use infera_control::{ExitStatus, STATE_DIR};
use rustix::thread::{CoreSchedulingScope, Pid, create_core_scheduling_cookie};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Core scheduling cookies on a machine with SMT can hang it beside sched_ext: `scheds/kernel/src/cookies.rs`.
pub const COOKIES: Test = Test {
    name: "a_core_scheduling_cookie_is_refused",
    topology: Some([1, 2, 2]),
    run: cookies,
    ..PLAIN
};

fn cookies(context: &Context, findings: &mut Findings) -> Result<()> {
    if context.policy == Policy::Stock {
        return Ok(());
    }
    // The kernel shows a cookie as a hash, and as 0 before it has random bytes for the hash's key.
    let mut random = File::open("/dev/random").context("opening /dev/random")?;
    random
        .read_exact(&mut [0])
        .context("waiting for random bytes")?;
    let mut sleeper = Sleeper::start()?;
    let created = create_core_scheduling_cookie(sleeper.pid(), CoreSchedulingScope::Thread);
    let wanted = match created {
        Ok(_) => ExitStatus::Kernel,
        Err(error) => {
            findings.figure(format!(
                "this kernel or machine has no core scheduling ({error})"
            ));
            ExitStatus::Done
        }
    };
    let check = output(&["scx_infera", "--check"])?;
    findings.expect(check.status.code() == Some(wanted.code()), || {
        format!(
            "--check: {}, not {wanted:?}: {}",
            check.status,
            said(&check)
        )
    });
    if wanted == ExitStatus::Kernel {
        for command in [
            &["scx_infera"][..],
            &["infera-guard", "--back-off-ms", "10", "--", "scx_infera"],
        ] {
            let output = output(command)?;
            let said = said(&output);
            findings.expect(
                output.status.code() == Some(wanted.code())
                    && said.contains("core scheduling cookie")
                    && said.contains("nosmt"),
                || format!("{command:?}: {}: {said}", output.status),
            );
        }
        findings.expect(context.node.is_disabled()?, || "it attached".into());
        let memory = Path::new(STATE_DIR).join("safe-mode.json");
        findings.expect(!memory.exists(), || {
            "a refusal is remembered as safe mode".into()
        });
        let doctor = said(&output(&["infera", "doctor"])?);
        findings.expect(doctor.contains("FAIL core scheduling"), || {
            format!("infera doctor does not say so: {doctor}")
        });
    }
    sleeper.end();
    let check = output(&["scx_infera", "--check"])?;
    findings.expect(check.status.success(), || {
        format!("without the thread: {}: {}", check.status, said(&check))
    });
    Ok(())
}

/// A process that does nothing.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Result<Sleeper> {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null());
        command.spawn().map(Sleeper).context("starting sleep")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn output(command: &[&str]) -> Result<Output> {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).stdin(Stdio::null());
    process
        .output()
        .with_context(|| format!("starting {}", command[0]))
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}
