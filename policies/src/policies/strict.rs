//! Tier order, with a floor under every tier.

use crate::{
    Decision, Nanos, Policy, Slept, TaskQueue, TaskView, Tier, TierTable, WakeRule,
    guarantee::{Guarantees, queued},
    ledger::{self, Ledger},
    task_time::TaskTimes,
};

/// Serves the best tier that has tasks, and in it the task with the least virtual time.
///
/// First come the guarantees: a tier that waited longer than its `max_wait`, then a tier below
/// its `min_share`. So every tier progresses, and what the guarantees leave goes to the best
/// tier. Tier weights play no part; within a tier, tasks share by nice weight.
pub struct Strict {
    tiers: TierTable,
    queue: TaskQueue,
    ledger: Ledger,
    guarantees: Guarantees,
    times: TaskTimes,
}

impl Strict {
    /// An empty policy with the parameters `tiers`.
    #[must_use]
    pub fn new(tiers: &TierTable) -> Self {
        Strict {
            tiers: *tiers,
            queue: TaskQueue::new(Tier::COUNT),
            ledger: Ledger::default(),
            guarantees: Guarantees::default(),
            times: TaskTimes::new(),
        }
    }
}

impl Policy for Strict {
    fn configure(&mut self, tiers: &TierTable) {
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
        if self.queue.lane_is_empty(tier.index()) {
            self.guarantees.restart_wait(tier, now);
        }
        let debit = TaskTimes::scaled(2 * slice, task.weight);
        let key = self.times.returning(&task, slice, debit);
        self.queue.push(tier.index(), key, task)
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        let tier = self
            .guarantees
            .urgent(now, &self.tiers, &self.queue)
            .or_else(|| queued(&self.queue).next())?;
        let slice = ledger::slice(self.tiers.get(tier));
        let ns = self.ledger.advance(tier, slice);
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        self.guarantees.restart_wait(tier, now);
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
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}
