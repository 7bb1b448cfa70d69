//! Open work stays out of what is reserved.

use super::{Check, Finding, Findings, Snapshot};
use infera_policy::Tier;

/// Low and Background on a fence that is not lent.
pub struct OpenReserve;

impl Check for OpenReserve {
    fn id(&self) -> &'static str {
        "open_reserve"
    }

    fn why(&self) -> &'static str {
        "reserved CPUs are to be free at the moment they are needed"
    }

    fn fix(&self) -> &'static str {
        "see whether the scheduler is attached and the fence in force: infera status"
    }

    fn run(&self, snapshot: &Snapshot) -> Findings {
        if snapshot.fence.is_empty() || snapshot.lent {
            return Err("no CPU is kept free: there is no fence, or it is lent");
        }
        let inside = snapshot.running().filter(|thread| {
            thread.tier >= Tier::Low
                && snapshot.fence.contains(&thread.cpu)
                && snapshot.has_choice(thread)
        });
        let evidence = inside
            .map(|thread| Finding::of(thread, "on the fence, which is not lent").at(thread.cpu))
            .collect();
        Ok(evidence)
    }
}
