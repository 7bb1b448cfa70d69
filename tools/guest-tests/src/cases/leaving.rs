//! The time from a signal that ends the scheduler's process to the stock scheduler.

use super::{PLAIN, cgroups};
use crate::cases::crowds::hogs;
use crate::clock::{monotonic, sleep};
use crate::{Context, Findings, Policy, Test, Unguarded};
use anyhow::Result;
use infera_policy::Tier;
use rustix::process::Signal;
use std::time::Duration;

/// Under load and on an idle node, whatever ends the scheduler's process.
pub const A_SIGNAL: Test = Test {
    name: "a_signal_gives_the_node_back",
    run: a_signal,
    ..PLAIN
};

/// Four hogs on each CPU of four.
const HOGS: usize = 16;

/// From the signal to sched_ext's state `disabled`.
const BACK: Duration = Duration::from_millis(150);

/// When to stop waiting.
const NEVER_BACK: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(1);

fn a_signal(context: &Context, findings: &mut Findings) -> Result<()> {
    let Policy::Infera(policy) = &context.policy else {
        return Ok(());
    };
    let cgroups = cgroups()?;
    let background = &cgroups[Tier::Background.index()];
    let rule = format!("{}={}", Tier::Background, background.pattern());
    let arguments = ["--policy", policy, "--tier", &rule];
    let signals = [
        ("SIGINT", Signal::INT),
        ("SIGTERM", Signal::TERM),
        ("SIGKILL", Signal::KILL),
    ];
    // On an idle node nothing else wakes the process.
    for (hogs_running, (name, signal)) in [HOGS, 0]
        .iter()
        .flat_map(|hogs| signals.map(|signal| (*hogs, signal)))
    {
        let alone = Unguarded::attach(&context.node, &arguments)?;
        let load = match hogs_running {
            0 => None,
            threads => Some(hogs(&cgroups, Tier::Background, threads).start()?),
        };
        sleep(Duration::from_secs(2));
        let sent = monotonic();
        alone.signal(signal)?;
        while !context.node.is_disabled()? && monotonic() - sent < NEVER_BACK {
            sleep(POLL);
        }
        let took = monotonic() - sent;
        let wait = load.map_or(Ok(Duration::ZERO), |load| load.longest_wait())?;
        findings.figure(format!(
            "{name}, {hogs_running} hogs: disabled after {} ms, longest wait of a hog {} ms",
            took.as_millis(),
            wait.as_millis()
        ));
        findings.expect(took <= BACK, || {
            format!(
                "{name}: disabled after {} ms, not within {}",
                took.as_millis(),
                BACK.as_millis()
            )
        });
        let complaints = context.node.complaints()?;
        findings.expect(complaints.is_empty(), || {
            format!("{name}: the kernel complains: {}", complaints.join(" | "))
        });
    }
    Ok(())
}
