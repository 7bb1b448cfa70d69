//! A protected thread runs in its set while that has room.

use super::{Check, Snapshot, Verdict};
use infera_policy::Tier;

/// Critical outside of its fence while CPUs of the fence are free.
pub struct ProtectedFallback;

impl Check for ProtectedFallback {
    fn id(&self) -> &'static str {
        "protected_fallback"
    }

    fn why(&self) -> &'static str {
        "what is fenced for a thread protects it only where it runs"
    }

    fn run(&self, snapshot: &Snapshot) -> Verdict {
        if snapshot.fence.is_empty() {
            return Verdict::Skip {
                reason: "nothing is fenced",
            };
        }
        let busy = |cpu: &usize| {
            let mut running = snapshot.running();
            running.any(|thread| thread.cpu == *cpu && thread.tier <= Tier::Critical)
        };
        let free = snapshot.fence.iter().filter(|cpu| !busy(cpu)).count();
        if free == 0 {
            return Verdict::Pass;
        }
        let outside = snapshot.running().filter(|thread| {
            thread.tier == Tier::Critical
                && !snapshot.fence.contains(&thread.cpu)
                && snapshot.has_choice(thread)
        });
        let evidence = outside
            .map(|thread| {
                format!("{thread} is outside of the fence, {free} CPUs of which are free")
            })
            .collect();
        Verdict::of(
            evidence,
            "see whether the scheduler is attached and the fence in force: infera status",
        )
    }
}
