//! What goes on beside loading. The kernel verifies the overlay for a second or so of a CPU's time.
//!
//! - A crowded node would make minutes of it, and a pod of 100m hardly runs there: the thread that loads
//!   gets half of a CPU, by a real-time priority for 20 ms of each 40.
//! - A CPU that comes or goes makes it in vain, which the kernel says at the end: the process ends before.

use crate::exit_code::{Refusal, Status};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use infera_link::realtime;
use rustix::thread::gettid;
use std::convert::Infallible;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

/// The longest time for which the loading thread keeps a CPU from others, and the shortest that they have next.
const TURN: Duration = Duration::from_millis(20);

/// CPUs are at rest after so many turns without a change.
const AT_REST: u32 = 25;

/// How often CPUs came or went since the kernel booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hotplugs(Option<u64>);

impl Hotplugs {
    pub fn read() -> Hotplugs {
        Hotplugs(infera_kernel::hotplugs(Path::new("/")))
    }

    /// Whether the start that began then is in vain.
    pub fn changed(self) -> bool {
        Hotplugs::read() != self
    }
}

/// Why a start is in vain.
pub fn in_vain() -> Refusal {
    Refusal::new(
        Status::Again,
        "CPUs came or went while the scheduler started: start it again",
    )
}

/// What a thread needs to accompany the one that loads, which makes it.
pub struct Companion {
    loader: libc::pid_t,
    before: Hotplugs,
    guarded: bool,
}

impl Companion {
    pub fn new(before: Hotplugs, guarded: bool) -> Companion {
        Companion {
            loader: gettid().as_raw_nonzero().get(),
            before,
            guarded,
        }
    }

    /// Returns when `loading` is closed, with the loading thread's priority as it was.
    pub fn run(&self, loading: &Receiver<Infallible>) {
        // Where it may not, it lacks CAP_SYS_NICE, of which the vitals thread warns.
        let lifts = realtime::enter().is_ok() && realtime::is_ordinary(self.loader);
        let mut lifted = false;
        let mut cpus = AtRest::since(self.before);
        while loading.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
            // Its guard starts the next one, and undoes what this start has changed.
            if self.guarded && cpus.gave_up(Hotplugs::read()) {
                let why = in_vain();
                why.print();
                exit(why.status as i32);
            }
            if lifts {
                lifted = !lifted;
                let _ = realtime::set(self.loader, lifted.then_some(realtime::LOWEST));
            }
        }
        if lifted {
            let _ = realtime::set(self.loader, None);
        }
    }
}

/// Waits for CPUs to rest: if each change ended a start, each would be followed by one more.
struct AtRest {
    before: Hotplugs,
    last: Hotplugs,
    unchanged: u32,
}

impl AtRest {
    fn since(before: Hotplugs) -> AtRest {
        AtRest {
            before,
            last: before,
            unchanged: 0,
        }
    }

    /// Whether they have changed, and rest now.
    fn gave_up(&mut self, now: Hotplugs) -> bool {
        self.unchanged = if now == self.last {
            self.unchanged + 1
        } else {
            0
        };
        self.last = now;
        now != self.before && self.unchanged >= AT_REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_ends_once_changed_cpus_rest() {
        let at = |seq| Hotplugs(Some(seq));
        let mut cpus = AtRest::since(at(7));
        assert!((0..1000).all(|_| !cpus.gave_up(at(7))), "nothing changed");
        let flaps = (8..20).flat_map(|seq| [seq; AT_REST as usize]);
        assert!(
            flaps.map(at).all(|now| !cpus.gave_up(now)),
            "they do not rest"
        );
        assert!(cpus.gave_up(at(19)));
    }
}
