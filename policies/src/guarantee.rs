//! The two guarantees that override a policy's own order: longest wait and minimum share.

use crate::{Nanos, TaskQueue, Tier, TierTable, ledger};

/// How many slices a tier may be owed.
const OWED: i64 = 8;

/// How many slices a tier may be ahead of its share: the less, the shorter the window in
/// which the share holds; below two, ordinary bunching of turns would set the guarantee off.
const AHEAD: i64 = 2;

/// Keeps track of each tier's wait and share, and names the tier that must be served now.
///
/// *Longest wait*: a tier is overdue when it has had queued tasks for more than its
/// `max_wait` since it was last picked. It is about the tier, not each task: under overload
/// every task may wait longer than that, and serving all overdue tasks first would undo
/// every weight. The wait that ran out first is served first, the lower tier among
/// equals; each tier then waits at most `max_wait` plus one turn of each other tier on the
/// CPU that frees up next.
///
/// *Minimum share*: each nanosecond charged to any tier earns every tier with queued tasks
/// `min_share`/1000 of it; what a tier uses is taken off. A tier whose account is above zero
/// is below its share. A tier is owed at most eight of its slices and
/// ahead by at most two, so it neither saves up nor is long punished for using an idle
/// machine.
/// When the shares add up to more than 1000, the tier owed the most comes first.
#[derive(Default)]
pub(crate) struct Guarantees {
    since: [Nanos; Tier::COUNT],
    /// Owed time in nanoseconds, times 1000.
    owed: [i64; Tier::COUNT],
}

impl Guarantees {
    /// The wait of `tier` starts: it was picked, or got its first task.
    pub(crate) fn restart_wait(&mut self, tier: Tier, now: Nanos) {
        self.since[tier.index()] = now;
    }

    /// `tier` is charged `ns`; call it while a picked task still counts as queued.
    pub(crate) fn charge(&mut self, tier: Tier, ns: i64, tiers: &TierTable, queue: &TaskQueue) {
        for other in Tier::ALL {
            let params = tiers.get(other);
            let mut change = 0;
            if !queue.lane_is_empty(other.index()) {
                change += ns * i64::from(params.min_share.min(1_000));
            }
            if other == tier {
                change -= ns * 1_000;
            }
            let slice = ledger::slice(params) as i64 * 1_000;
            let owed = &mut self.owed[other.index()];
            *owed = (*owed + change).clamp(-AHEAD * slice, OWED * slice);
        }
    }

    /// The tier that must be served before any other, if there is one.
    pub(crate) fn urgent(&self, now: Nanos, tiers: &TierTable, queue: &TaskQueue) -> Option<Tier> {
        self.overdue(now, tiers, queue)
            .or_else(|| self.below_share(tiers, queue))
    }

    fn overdue(&self, now: Nanos, tiers: &TierTable, queue: &TaskQueue) -> Option<Tier> {
        queued(queue)
            .filter(|tier| now.since(self.since[tier.index()]) > tiers.get(*tier).max_wait)
            .min_by_key(|tier| {
                let due = self.since[tier.index()].plus(tiers.get(*tier).max_wait);
                (due, std::cmp::Reverse(*tier))
            })
    }

    fn below_share(&self, tiers: &TierTable, queue: &TaskQueue) -> Option<Tier> {
        queued(queue)
            .filter(|tier| tiers.get(*tier).min_share > 0 && self.owed[tier.index()] > 0)
            .max_by_key(|tier| self.owed[tier.index()])
    }
}

/// The tiers with queued tasks, best first, when lane numbers are tier ranks.
pub(crate) fn queued(queue: &TaskQueue) -> impl Iterator<Item = Tier> + '_ {
    Tier::ALL
        .into_iter()
        .filter(|tier| !queue.lane_is_empty(tier.index()))
}
