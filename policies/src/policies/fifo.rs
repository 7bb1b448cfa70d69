//! Arrival order: the smallest complete policy, and the example to start from.

use crate::{Decision, Nanos, Policy, TaskQueue, TaskView, TierTable, ledger};

/// Runs tasks in the order they came, each for its tier's slice.
///
/// Promises neither weights nor shares: a tier's part of the CPU is its number of
/// runnable tasks times its slice. The longest wait is one turn of every queued task.
pub struct Fifo {
    tiers: TierTable,
    queue: TaskQueue,
}

impl Fifo {
    /// An empty policy with the parameters `tiers`.
    #[must_use]
    pub fn new(tiers: &TierTable) -> Self {
        Fifo {
            tiers: *tiers,
            queue: TaskQueue::new(1),
        }
    }
}

impl Policy for Fifo {
    fn configure(&mut self, tiers: &TierTable) {
        self.tiers = *tiers;
    }

    fn enqueue(&mut self, task: TaskView, _now: Nanos) -> bool {
        self.queue.push(0, 0, task)
    }

    fn pick(&mut self, _now: Nanos) -> Option<Decision> {
        let (_, task) = self.queue.pop(0)?;
        let slice = Nanos(ledger::slice(self.tiers.get(task.tier)));
        Some(Decision {
            task,
            slice,
            vtime: 0,
        })
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}
