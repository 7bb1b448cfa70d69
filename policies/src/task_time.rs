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

    /// The virtual time of `task` now, given that it was `picked_at` when it was last picked
    /// (0 when it never was), and may lie at most `credit` behind its tier and `debit` ahead.
    ///
    /// Ahead are tasks that come from another tier, whose clock may have been far ahead, and
    /// those that ran on for long while nobody waited: that harmed nobody, and is not held against
    /// them when a crowd comes and each of it is to have as much first.
    pub(crate) fn returning(
        &self,
        task: &TaskView,
        picked_at: u64,
        credit: u64,
        debit: u64,
    ) -> u64 {
        let tier = self.0[task.tier.index()];
        if picked_at == 0 {
            return tier;
        }
        let used = Self::scaled(ledger::used(task), task.weight);
        picked_at.saturating_add(used).clamp(
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
