//! A thread is scheduled in its pod's tier.

use super::{Check, Snapshot, Verdict};

/// A thread whose cgroups give it another tier than its pod has.
pub struct LayerMismatch;

impl Check for LayerMismatch {
    fn id(&self) -> &'static str {
        "layer_mismatch"
    }

    fn why(&self) -> &'static str {
        "the tier that an operator chose is the one that must be in force"
    }

    fn run(&self, snapshot: &Snapshot) -> Verdict {
        let evidence = snapshot
            .threads
            .iter()
            .filter_map(|thread| {
                let wanted = thread.pod_tier.filter(|tier| *tier != thread.tier)?;
                Some(format!("{thread}: its pod is {wanted}"))
            })
            .collect();
        Verdict::of(
            evidence,
            "a rule of infera.toml names a cgroup inside of the pod, or the assignment is not in force yet",
        )
    }
}
