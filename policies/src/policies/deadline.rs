//! Virtual deadlines with per-tier slack.

use crate::{
    Decision, Nanos, Policy, Slept, TaskQueue, TaskView, Tier, TierTable, WakeRule,
    clock::TierClocks,
    guarantee::{Guarantees, queued},
    ledger::{self, Ledger},
    task_time::TaskTimes,
};

/// How many of its requests a tier's deadline lies ahead, by rank: the better, the tighter.
const SLACK: [i128; Tier::COUNT] = [1, 1, 2, 3, 4, 6];

/// Earliest eligible virtual deadline first among the tiers, then earliest virtual deadline
/// among the tier's tasks.
///
/// A tier's deadline is its virtual runtime (CPU time / tier weight) plus slack times one
/// slice / tier weight. A tier is eligible while its virtual runtime is at or below the weighted
/// mean: it has not had more than its share. So weights are kept within 5 %, as in
/// [`Weighted`](crate::Weighted), and among tiers that are owed time the better and the
/// shorter slice comes first, which is what gives latency. A task's deadline is its virtual
/// time plus slice * 100 / nice weight. `max_wait` and `min_share` come first.
///
/// After EEVDF (Stoica and Abdel-Wahab, 1995; the kernel's fair class since 6.6). Unlike it,
/// a deadline moves with each turn, and tasks within a tier need not be eligible.
pub struct Deadline {
    tiers: TierTable,
    queue: TaskQueue,
    ledger: Ledger,
    guarantees: Guarantees,
    clocks: TierClocks,
    times: TaskTimes,
}

impl Deadline {
    /// An empty policy with the parameters `tiers`.
    #[must_use]
    pub fn new(tiers: &TierTable) -> Self {
        Deadline {
            tiers: *tiers,
            queue: TaskQueue::new(Tier::COUNT),
            ledger: Ledger::default(),
            guarantees: Guarantees::default(),
            clocks: TierClocks::default(),
            times: TaskTimes::new(),
        }
    }

    fn earliest(&self) -> Option<Tier> {
        let mean = self.clocks.mean(&self.queue, &self.tiers);
        queued(&self.queue)
            .filter(|tier| self.clocks.runtime(*tier) <= mean)
            .min_by_key(|tier| {
                let request = TierClocks::request(*tier, &self.tiers);
                self.clocks.runtime(*tier) + SLACK[tier.index()] * request
            })
    }
}

/// The virtual time of one slice of `task`, where the tier's is `slice`.
fn request(slice: u64, task: &TaskView) -> u64 {
    TaskTimes::scaled(ledger::turn(slice, task.weight), task.weight)
}

impl Policy for Deadline {
    fn configure(&mut self, tiers: &TierTable) {
        self.clocks.rescale(&self.tiers, tiers);
        // A deadline is a request ahead of the task's virtual time. With that of a longer slice, a task of a crowd would wait until
        // the others had as many of the new ones.
        for tier in Tier::ALL {
            let [before, after] = [&self.tiers, tiers].map(|tiers| ledger::slice(tiers.get(tier)));
            if before != after {
                self.queue.rekey(tier.index(), |deadline, task| {
                    deadline
                        .saturating_sub(request(before, task))
                        .max(1)
                        .saturating_add(request(after, task))
                });
            }
        }
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
        // A light task lies up to one request behind the heavier ones when its deadline comes,
        // so the credit is a request, not a slice.
        let request = request(slice, &task);
        // Ending a slice late, by a tick, is no long run.
        let vtime = self.times.returning(&task, request, 2 * request);
        self.queue
            .push(tier.index(), vtime.saturating_add(request), task)
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        let least = self.clocks.least(&self.queue)?;
        let tier = self
            .guarantees
            .urgent(now, &self.tiers, &self.queue)
            .or_else(|| self.earliest())
            .unwrap_or(least);
        let slice = ledger::slice(self.tiers.get(tier));
        let ns = self.ledger.advance(tier, slice);
        self.guarantees.charge(tier, ns, &self.tiers, &self.queue);
        self.guarantees.restart_wait(tier, now);
        self.clocks.charge(tier, ns, &self.tiers);
        let (deadline, task) = self.queue.pop(tier.index())?;
        // The key is the deadline.
        let request = request(slice, &task);
        let vtime = deadline.saturating_sub(request).max(1);
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
