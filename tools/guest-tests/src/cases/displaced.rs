//! A real-time thread takes the CPU of a thread that may run elsewhere.

use super::crowds::hogs;
use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::sleep;
use crate::realtime::set_of;
use crate::{Context, Crowd, Findings, Test};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// It takes turns with the threads of the other CPUs, in each tier, and does not wait for its own CPU.
pub const BY_REAL_TIME: Test = Test {
    name: "displaced_by_a_real_time_thread",
    run: by_real_time,
    ..PLAIN
};

/// Where the real-time thread is.
const CPU: usize = 1;

/// How long it keeps that CPU each time.
const KEEPS: Duration = Duration::from_millis(150);

const SLEEPS: Duration = Duration::from_millis(250);

/// Five times of it.
const WINDOW: Duration = Duration::from_secs(2);

/// Two slices, and what the test's own threads take; half of the time that the CPU is kept.
const TURN: Duration = Duration::from_millis(75);

/// Above the guard's, below the test's.
const PRIORITY: u8 = 10;

fn by_real_time(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let real_time = Crowd::hogs(&cgroups[Tier::System.index()], "real-time", 1)
        .pinned([CPU])
        .sleeping(KEEPS, SLEEPS)
        .start()?;
    for thread in real_time.threads()? {
        set_of(thread, libc::SCHED_FIFO, PRIORITY)?;
    }
    for tier in USER_TIERS {
        let load = hogs(&cgroups, tier, context.node.cpus()?.len()).start()?;
        sleep(WINDOW);
        let waited = load.longest_wait()?;
        findings.figure(format!("{tier}: longest wait {} ms", waited.as_millis()));
        findings.expect(waited <= TURN, || {
            format!(
                "{tier}: a displaced thread waited {} ms, not at most {}",
                waited.as_millis(),
                TURN.as_millis()
            )
        });
    }
    drop(real_time);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
