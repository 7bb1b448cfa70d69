//! A frozen machine: its CPUs stop while its clock goes on, as when the host is paused or migrates it.
//!
//! Only xtask, which runs QEMU, can freeze it. A row prints a line to ask for that.

use crate::clock::{monotonic, sleep};
use anyhow::{Result, bail};
use std::time::Duration;

/// Each time a guest prints this line, xtask freezes it for [`FROZEN`].
pub const FREEZE_LINE: &str = "freeze this machine";

/// How long it is frozen.
pub const FROZEN: Duration = Duration::from_millis(900);

/// How often the clock is read.
const POLL: Duration = Duration::from_millis(20);

/// A jump of the clock that no late wakeup explains.
const JUMP: Duration = Duration::from_millis(700);

/// After this nothing will freeze it.
const LIMIT: Duration = Duration::from_secs(20);

/// Has the machine frozen, and returns when it goes on.
pub fn freeze() -> Result<()> {
    // Before the line: it may happen at once.
    let start = monotonic();
    println!("{FREEZE_LINE}");
    let mut before = start;
    while before - start < LIMIT {
        sleep(POLL);
        let now = monotonic();
        if now - before >= JUMP {
            return Ok(());
        }
        before = now;
    }
    bail!(
        "the machine was not frozen within {} s: run this row by `cargo xtask faults`",
        LIMIT.as_secs()
    )
}
