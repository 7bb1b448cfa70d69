//! A thread is scheduled in its pod's tier.

use super::{Check, Finding, Findings, Snapshot};

/// A thread whose cgroups give it another tier than its pod has.
pub struct LayerMismatch;

impl Check for LayerMismatch {
    fn id(&self) -> &'static str {
        "layer_mismatch"
    }

    fn why(&self) -> &'static str {
        "the tier that an operator chose is the one that must be in force"
    }

    fn fix(&self) -> &'static str {
        "a rule of infera.toml names a cgroup inside of the pod, or the assignment is not in force yet"
    }

    fn run(&self, snapshot: &Snapshot) -> Findings {
        let evidence = snapshot
            .threads
            .iter()
            .filter_map(|thread| {
                let wanted = thread.pod_tier.filter(|tier| *tier != thread.tier)?;
                Some(Finding::of(thread, &format!("its pod is {wanted}")))
            })
            .collect();
        Ok(evidence)
    }
}
