//! A machine whose CPUs stand still while its clock goes on, as one whose host is paused or that is being migrated.
//!
//! Only what runs the guest can do that. It is asked by a line of output.

use crate::clock::{monotonic, sleep};
use anyhow::{Result, bail};
use std::time::Duration;

/// Where a guest prints this line, xtask stops it for [`STANDS_STILL`].
pub const LINE: &str = "stop this machine";

/// For how long.
pub const STANDS_STILL: Duration = Duration::from_millis(900);

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A jump of the clock that is no late wakeup.
const JUMP: Duration = Duration::from_millis(700);

/// It has been asked for, and does not come.
const LIMIT: Duration = Duration::from_secs(20);

/// Has the machine stopped, and comes back when it goes on.
pub fn stand_still() -> Result<()> {
    // Before the line: it may happen at once.
    let start = monotonic();
    println!("{LINE}");
    let mut before = start;
    while before - start < LIMIT {
        sleep(LOOK);
        let now = monotonic();
        if now - before >= JUMP {
            return Ok(());
        }
        before = now;
    }
    bail!(
        "the machine did not stand still within {} s",
        LIMIT.as_secs()
    )
}
