//! A protected thread has its physical core to itself.

use super::{Check, Finding, Findings, Snapshot};
use infera_policy::Tier;

/// Critical on a fence that is not lent shares no core with a lower tier.
pub struct SmtCollision;

impl Check for SmtCollision {
    fn id(&self) -> &'static str {
        "smt_collision"
    }

    fn why(&self) -> &'static str {
        "two threads of one core slow each other down by a third and more"
    }

    fn fix(&self) -> &'static str {
        "see whether the plan in force is the one that infera plan shows"
    }

    fn run(&self, snapshot: &Snapshot) -> Findings {
        if snapshot.fence.is_empty() {
            return Err("nothing is fenced");
        }
        if snapshot.lent {
            return Err("the plan lends idle CPUs of the fence, also beside a busy one");
        }
        let mut evidence = Vec::new();
        for ours in snapshot
            .running()
            .filter(|thread| thread.tier == Tier::Critical)
        {
            let Some(core) = snapshot.core_of(ours.cpu) else {
                continue;
            };
            for theirs in snapshot.running().filter(|other| {
                other.tier > Tier::Critical && other.cpu != ours.cpu && core.contains(&other.cpu)
            }) {
                let what = format!("it shares a core with {theirs}");
                let first = core.first().copied().unwrap_or(ours.cpu);
                evidence.push(Finding::of(ours, &what).at(first));
            }
        }
        Ok(evidence)
    }
}
