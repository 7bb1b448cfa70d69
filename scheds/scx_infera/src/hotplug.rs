//! CPUs that come or go while the scheduler starts: the kernel refuses it then, at the end of loading.

use crate::exit_code::{Refusal, Status};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::convert::Infallible;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

/// How often a start looks for it.
const CHECK: Duration = Duration::from_millis(50);

/// CPUs that have not changed for so many checks are at rest.
const AT_REST: u32 = 10;

/// How often CPUs came or went since the kernel booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hotplugs(Option<u64>);

impl Hotplugs {
    pub fn read() -> Hotplugs {
        Hotplugs(infera_kernel::hotplugs(Path::new("/")))
    }

    /// Whether this start is in vain.
    pub fn changed(self) -> bool {
        Hotplugs::read() != self
    }
}

pub fn refusal() -> Refusal {
    Refusal::new(
        Status::Again,
        "CPUs came or went while the scheduler started: start it again",
    )
}

/// Ends a process whose start is in vain, half a second after the last change, instead of loading to the end: with one change
/// after another, each end would mean one more start. Returns when `attached` is closed. For a process with a guard, which
/// undoes what the start has changed.
pub fn give_up(before: Hotplugs, attached: &Receiver<Infallible>) {
    let mut last = before;
    let mut unchanged = 0;
    while attached.recv_timeout(CHECK) == Err(RecvTimeoutError::Timeout) {
        let now = Hotplugs::read();
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        if now != before && unchanged >= AT_REST {
            let refusal = refusal();
            refusal.print();
            exit(refusal.status as i32);
        }
    }
}
