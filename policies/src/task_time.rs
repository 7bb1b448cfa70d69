//! The virtual times of the tasks within each tier.

use crate::{TaskView, Tier, ledger};

/// Where virtual time starts: above 0, which means "new", by more than any step back.
const START: u64 = 1 << 48;

/// Each tier's virtual time, the largest virtual time of a task picked from it.
///
/// A task's own virtual time lives in the kernel: a decision's `vtime` comes back as
/// [`TaskView::vtime`]. It advances by CPU time in nanoseconds times 100 / nice weight.
pub(crate) struct TaskTimes([u64; Tier::COUNT]);

impl TaskTimes {
    pub(crate) fn new() -> Self {
        TaskTimes([START; Tier::COUNT])
    }

    /// `ns` of CPU time as virtual time at a nice weight of 1 to 10000.
    pub(crate) fn scaled(ns: u64, weight: u32) -> u64 {
        ns.saturating_mul(100) / u64::from(weight.clamp(1, 10_000))
    }

    /// The virtual time of `task` now: what the kernel side made of it, at most `credit` behind its
    /// tier's clock and `debit` ahead.
    ///
    /// Ahead are tasks that ran on for long while none waited: that harmed none, and is not held
    /// against them when a crowd comes and each of it is to have as much first.
    pub(crate) fn returning(&mut self, task: &TaskView, credit: u64, debit: u64) -> u64 {
        let tier = &mut self.0[task.tier.index()];
        // The kernel side's clock moves on by wakeups that do not come here.
        *tier = (*tier).max(task.clock);
        if task.vtime == 0 {
            return *tier;
        }
        let used = Self::scaled(ledger::used(task), task.weight);
        // A task that yields at once is charged a switch, and so does not stay the first.
        let least = Self::scaled(ledger::MIN_CHARGE.saturating_sub(task.ran.0), task.weight);
        task.vtime.saturating_add(least).clamp(
            tier.saturating_sub(credit),
            tier.saturating_add(used.min(debit)),
        )
    }

    /// A task at `vtime` was picked from `tier`.
    pub(crate) fn picked(&mut self, tier: Tier, vtime: u64) {
        let time = &mut self.0[tier.index()];
        *time = (*time).max(vtime);
    }
}
