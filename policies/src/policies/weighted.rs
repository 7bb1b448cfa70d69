//! Tier-weighted fair virtual time.

use crate::{
    Decision, Nanos, Policy, Slept, TaskQueue, TaskView, Tier, TierTable, WakeRule,
    clock::TierClocks,
    guarantee::Guarantees,
    ledger::{self, Ledger},
    task_time::TaskTimes,
};

/// Shares the CPU among tiers by tier weight, and within a tier by nice weight.
///
/// The tier with the least virtual runtime (CPU time / tier weight) is served, and in it the task
/// with the least virtual time (CPU time * 100 / nice weight). Tiers that always have more
/// queued than CPUs get their weights' shares within 5 %, however many tasks each has. A
/// tier or task that slept is put at most one slice behind the others, so sleeping saves up
/// nothing. The guarantees `max_wait` and `min_share` come first and shift shares where
/// a weight alone would give less.
pub struct Weighted {
    tiers: TierTable,
    queue: TaskQueue,
    ledger: Ledger,
    guarantees: Guarantees,
    clocks: TierClocks,
    times: TaskTimes,
}

impl Weighted {
    /// An empty policy with the parameters `tiers`.
    #[must_use]
    pub fn new(tiers: &TierTable) -> Self {
        Weighted {
            tiers: *tiers,
            queue: TaskQueue::new(Tier::COUNT),
            ledger: Ledger::default(),
            guarantees: Guarantees::default(),
            clocks: TierClocks::default(),
            times: TaskTimes::new(),
        }
    }
}

impl Policy for Weighted {
    fn configure(&mut self, tiers: &TierTable) {
        self.clocks.rescale(&self.tiers, tiers);
        self.tiers = *tiers;
        self.ledger.reset_expectations();
    }

    fn enqueue(&mut self, task: TaskView, now: Nanos) -> bool {
        if self.queue.is_full() {
            return false;
        }
        let tier = task.tier;
        let slice = ledger::slice(self.tiers.get(tier));
        let ns = self.ledger.settle(&task, slice);
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        self.clocks.charge(tier, ns, &self.tiers);
        if self.queue.lane_is_empty(tier.index()) {
            self.guarantees.restart_wait(tier, now);
            self.clocks.wake(tier, &self.tiers);
        }
        // Ending a slice late, by a tick, is no long run.
        let debit = TaskTimes::scaled(2 * slice, task.weight);
        let key = self.times.returning(&task, slice, debit);
        self.queue.push(tier.index(), key, task)
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        let least = self.clocks.least(&self.queue)?;
        let tier = self
            .guarantees
            .urgent(now, &self.tiers, &self.queue)
            .unwrap_or(least);
        let slice = ledger::slice(self.tiers.get(tier));
        let ns = self.ledger.advance(tier, slice);
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        self.guarantees.restart_wait(tier, now);
        self.clocks.charge(tier, ns, &self.tiers);
        let (vtime, task) = self.queue.pop(tier.index())?;
        self.times.picked(tier, vtime);
        Some(Decision {
            task,
            slice: Nanos(ledger::turn(slice, task.weight)),
            vtime,
        })
    }

    fn wakeups(&self, tier: Tier) -> Option<WakeRule> {
        Some(WakeRule::fair(tier, self.tiers.get(tier)))
    }

    fn slept(&mut self, tier: Tier, slept: Slept) {
        let slice = ledger::slice(self.tiers.get(tier));
        let ns = self.ledger.settle_sleepers(tier, slept, slice);
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        self.clocks.charge(tier, ns, &self.tiers);
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}
