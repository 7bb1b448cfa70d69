//! RCU's grace periods, of which leaving takes five.
//!
//! While a scheduler leaves, the kernel runs everything in arrival order: the thread that ends
//! grace periods would wait behind each busy task, five times. It is given a real-time priority
//! while there is a scheduler, for that may be killed at any moment; kernels with RCU
//! boosting give it the lowest for good.

use crate::realtime;
use std::fs;

/// That of the kernel's own thread that carries a scheduler's leaving out: below it, real-time threads on every CPU would hold
/// the leaving up.
const PRIORITY: libc::c_int = 50;

const NAMES: [&str; 2] = ["rcu_preempt", "rcu_sched"];

/// The kernel's thread, where it has an ordinary priority.
#[derive(Debug)]
pub struct GraceThread {
    pid: libc::pid_t,
    boosted: bool,
}

impl GraceThread {
    /// Looks for it once: its number never changes.
    pub fn find() -> Option<GraceThread> {
        // Kernel threads come first; it is among the first twenty.
        let pid = (2..200).find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            NAMES.contains(&name.trim())
        })?;
        realtime::is_ordinary(pid).then_some(GraceThread {
            pid,
            boosted: false,
        })
    }

    /// Before or after; does nothing when it is so already.
    pub fn boost(&mut self, on: bool) {
        if self.boosted == on {
            return;
        }
        if realtime::set(self.pid, on.then_some(PRIORITY)).is_ok() {
            self.boosted = on;
        }
    }
}

impl Drop for GraceThread {
    fn drop(&mut self) {
        self.boost(false);
    }
}
