//! A protected thread runs in its set while that has room.

use super::{Check, Finding, Findings, Snapshot};
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

    fn fix(&self) -> &'static str {
        "see whether the scheduler is attached and the fence in force: infera status"
    }

    fn run(&self, snapshot: &Snapshot) -> Findings {
        if snapshot.fence.is_empty() {
            return Err("nothing is fenced");
        }
        let busy = |cpu: &usize| {
            let mut running = snapshot.running();
            running.any(|thread| thread.cpu == *cpu && thread.tier <= Tier::Critical)
        };
        let free = snapshot.fence.iter().filter(|cpu| !busy(cpu)).count();
        if free == 0 {
            return Ok(Vec::new());
        }
        let outside = snapshot.running().filter(|thread| {
            thread.tier == Tier::Critical
                && !snapshot.fence.contains(&thread.cpu)
                && snapshot.has_choice(thread)
        });
        let evidence = outside
            .map(|thread| {
                let what = format!("outside of the fence, {free} CPUs of which are free");
                Finding::of(thread, &what)
            })
            .collect();
        Ok(evidence)
    }
}
