//! Tier order, with a floor under every tier.

use crate::{
    Decision, Nanos, Policy, TaskQueue, TaskView, Tier, TierTable,
    guarantee::{Guarantees, queued},
    ledger::{self, Ledger},
};

/// Serves the best tier that has tasks, each tier in arrival order.
///
/// First come the guarantees: a tier that waited longer than its `max_wait`, then a tier below
/// its `min_share`. So every tier progresses, and what the guarantees leave goes to the best
/// tier. Tier weights and nice weights play no part.
pub struct Strict {
    tiers: TierTable,
    queue: TaskQueue,
    ledger: Ledger,
    guarantees: Guarantees,
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
        let ns = self
            .ledger
            .settle(&task, ledger::slice(self.tiers.get(tier)));
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        if self.queue.lane_is_empty(tier.index()) {
            self.guarantees.restart_wait(tier, now);
        }
        self.queue.push(tier.index(), 0, task)
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
        let (_, task) = self.queue.pop(tier.index())?;
        Some(Decision {
            task,
            slice: Nanos(slice),
            // Not 0: tells the ledger that the task was charged in advance.
            vtime: 1,
        })
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}
