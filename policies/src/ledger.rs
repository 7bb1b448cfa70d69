//! How much CPU time each tier is charged, and when.

use crate::{Nanos, Slept, TaskView, Tier, TierParams};

/// The slice of the lightest task. The overlay has the same for tiers that it serves.
pub const SHORTEST_SLICE: Nanos = Nanos::from_millis(1);

/// The most one task is charged at once: ten seconds, twice the kernel's stall watchdog.
/// Larger values are faults upstream; the cap keeps every sum far from overflow.
pub(crate) const MAX_CHARGE: u64 = 10_000_000_000;

/// The least one turn costs: one microsecond, about a context switch. Without it a task that
/// yields at once would never advance, and stay first in its tier.
pub(crate) const MIN_CHARGE: u64 = 1_000;

/// The outstanding advances are halved above this many, so that tasks that vanished are
/// forgotten.
const POOL_LIMIT: u64 = crate::CAPACITY as u64;

/// How many slices the outstanding advances may be above what is expected of them.
const OUTSTANDING: u64 = 8;

/// The slice of a tier in use: one microsecond to one second.
pub(crate) fn slice(params: &TierParams) -> u64 {
    params.slice.0.clamp(MIN_CHARGE, 1_000_000_000)
}

/// The slice of a task of this weight, where one of 100 has `slice`. Light tasks have shorter ones, so that none is far ahead of the
/// others after it, and all have their shares within a short time.
pub(crate) fn turn(slice: u64, weight: u32) -> u64 {
    let share = slice / 100 * u64::from(weight.clamp(1, 100));
    share.clamp(slice.min(SHORTEST_SLICE.0), slice)
}

/// What `task` used since it was last seen, in nanoseconds, within the charge limits.
pub(crate) fn used(task: &TaskView) -> u64 {
    task.ran.0.clamp(MIN_CHARGE, MAX_CHARGE)
}

#[derive(Clone, Copy, Default)]
struct Account {
    /// What a turn of this tier is expected to use; 0 before the first turn.
    expected: u64,
    /// Sum of the advances not settled yet, and how many they are.
    advanced: u64,
    turns: u64,
}

/// Charges tiers in advance when a task is picked and corrects that when it comes back.
///
/// Without the advance a tier with many tasks on CPUs would look as if it used nothing until
/// they return. The advance is the tier's expected turn: its whole slice at first, then a
/// moving average (weight 1/8) of what returning tasks used, at most the slice. So a task
/// that sleeps or exits without coming back costs its tier what its tasks use on average: the
/// error does not build up in either direction. On return the advance is replaced by
/// what the task used; the advance taken back is the mean of the outstanding ones, which
/// keeps the sum right without a record for each task. All that is outstanding is at most
/// eight slices above as many expected turns: when a crowd comes back that was charged long
/// ago, for longer turns, what it was charged too much is past, and giving it all back at once
/// would let it run for nothing.
#[derive(Default)]
pub(crate) struct Ledger([Account; Tier::COUNT]);

impl Ledger {
    /// A task of `tier` was picked: the charge in nanoseconds.
    pub(crate) fn advance(&mut self, tier: Tier, slice: u64) -> i64 {
        let account = &mut self.0[tier.index()];
        if account.expected == 0 {
            account.expected = slice;
        }
        account.expected = account.expected.min(slice);
        if account.turns >= POOL_LIMIT {
            account.turns /= 2;
            account.advanced /= 2;
        }
        account.turns += 1;
        account.advanced += account.expected;
        account.expected as i64
    }

    /// `task` is back: the correction in nanoseconds, within plus or minus [`MAX_CHARGE`].
    pub(crate) fn settle(&mut self, task: &TaskView, slice: u64) -> i64 {
        let used = used(task);
        // A task that was not picked has no advance to take back.
        if !task.picked {
            return used as i64;
        }
        used as i64 - self.take_back(task.tier, used, slice)
    }

    /// Tasks of `tier` went to sleep: the correction in nanoseconds, within plus or minus
    /// [`MAX_CHARGE`].
    pub(crate) fn settle_sleepers(&mut self, tier: Tier, slept: Slept, slice: u64) -> i64 {
        let mut correction =
            (slept.woken.0.min(MAX_CHARGE) + slept.picked.0.min(MAX_CHARGE)) as i64;
        let sample = slept.picked.0.checked_div(slept.turns).unwrap_or(0);
        // More would be a fault upstream, and the loop has no time for it.
        for _ in 0..slept.turns.min(4_096) {
            correction -= self.take_back(tier, sample, slice);
        }
        correction.clamp(-(MAX_CHARGE as i64), MAX_CHARGE as i64)
    }

    /// A turn of `tier` that used `used` ended: its advance, as far as that can be known.
    fn take_back(&mut self, tier: Tier, used: u64, slice: u64) -> i64 {
        let account = &mut self.0[tier.index()];
        let sample = used.min(slice) as i64;
        let expected = account.expected as i64;
        account.expected = (expected + (sample - expected) / 8).max(1) as u64;
        let most = account.turns.saturating_mul(account.expected) + OUTSTANDING * slice;
        account.advanced = account.advanced.min(most);
        let back = account.advanced.checked_div(account.turns).unwrap_or(0);
        account.advanced -= back;
        account.turns = account.turns.saturating_sub(1);
        back as i64
    }

    /// The tiers' parameters changed: the next turn is expected to use its whole slice.
    pub(crate) fn reset_expectations(&mut self) {
        for account in &mut self.0 {
            account.expected = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(ran: u64) -> TaskView {
        TaskView {
            pid: 1,
            enq_cnt: 0,
            tier: Tier::High,
            weight: 100,
            ran: Nanos(ran),
            vtime: 1,
            clock: 0,
            picked: true,
            cpu: 0,
            cpus_allowed: 1,
            flags: 0,
        }
    }

    #[test]
    fn charges_add_up_to_what_was_used() {
        let mut ledger = Ledger::default();
        let (mut charged, mut used) = (0, 0);
        for turn in 0..1_000 {
            let ran = 1_000_000 + turn * 1_000;
            charged += ledger.advance(Tier::High, 5_000_000);
            charged += ledger.settle(&task(ran), 5_000_000);
            used += ran as i64;
        }
        assert_eq!(charged, used);
    }

    #[test]
    fn a_crowd_that_was_charged_too_much_long_ago_does_not_run_for_nothing() {
        let mut ledger = Ledger::default();
        // It comes to being, and waits for something.
        for _ in 0..10_000 {
            ledger.advance(Tier::High, 20_000_000);
        }
        let charged: i64 = (0..10_000)
            .map(|_| {
                let back = ledger.settle(&task(4_000_000), 4_000_000);
                back + ledger.advance(Tier::High, 4_000_000)
            })
            .sum();
        assert!(charged + 8 * 20_000_000 > 10_000 * 4_000_000, "{charged}");
    }

    #[test]
    fn vanished_tasks_cost_an_average_turn() {
        let mut ledger = Ledger::default();
        let mut charged = 0;
        for turn in 0..1_000_000 {
            charged += ledger.advance(Tier::High, 5_000_000);
            if turn % 2 == 0 {
                charged += ledger.settle(&task(1_000_000), 5_000_000);
            }
        }
        let used = 1_000_000_i64 * 1_000_000;
        assert!((charged - used).abs() * 20 < used, "{charged}");
    }
}
