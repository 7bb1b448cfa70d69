//! Whether tiers are enforced on this node: the guard's last answer, and what follows for metrics, annotation and events.
//!
//! Caller: the agent's loop, once a second.

use crate::metrics::Metrics;
use crate::publish::Notice;
use crate::verdict::Readiness;
use infera_control::{EjectKind, Status};
use std::collections::BTreeMap;
use std::time::Instant;
use tracing::info;

/// The guard's state, as far as the agent knows it.
pub struct Enforcement {
    status: Option<Status>,
    readiness: Readiness,
    /// Of the guard that answered last, by kind.
    ejects: BTreeMap<EjectKind, u64>,
    updated: Instant,
}

impl Enforcement {
    /// Before the guard has answered.
    #[must_use]
    pub fn new() -> Enforcement {
        Enforcement {
            status: None,
            readiness: Readiness::of(None, Some("starting")),
            ejects: BTreeMap::new(),
            updated: Instant::now(),
        }
    }

    /// The guard's answer, if there is one; else `refusal`, why no guard runs. Returns an event if readiness changed.
    pub fn update(
        &mut self,
        status: Option<Status>,
        refusal: Option<&str>,
        metrics: &Metrics,
    ) -> Option<Notice> {
        self.status = status;
        let readiness = Readiness::of(self.status.as_ref(), refusal);
        let since = self.updated.elapsed().as_secs_f64();
        metrics.attached(readiness.attached, readiness.reason, since);
        self.updated = Instant::now();
        if let Some(status) = &self.status {
            metrics.safe_mode(status.safe_mode.keys());
            metrics.generation(status.generation);
            for (kind, count) in &status.eject_kinds {
                let before = self.ejects.insert(*kind, *count).unwrap_or(0);
                metrics.ejects(*kind, count.saturating_sub(before));
            }
            // A guard that was started anew counts from none.
            self.ejects
                .retain(|kind, _| status.eject_kinds.contains_key(kind));
        }
        if readiness == self.readiness {
            return None;
        }
        info!("{}", readiness.text);
        self.readiness = readiness;
        Some(self.notice())
    }

    fn notice(&self) -> Notice {
        Notice {
            warning: !self.readiness.attached,
            reason: match self.readiness.reason {
                "attached" => "Enforcing",
                "safe-mode" => "SafeMode",
                "ejected" => "Ejected",
                "degraded" => "Degraded",
                _ => "NotEnforcing",
            },
            note: self.readiness.text.clone(),
        }
    }

    /// The guard's last answer; `None`: it did not answer.
    pub fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Whether the node is protected, and why not.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The assignment of this generation is in force.
    pub fn enforces(&self, generation: u64) -> bool {
        let in_force = self.status.as_ref().map(|status| status.generation);
        self.readiness.attached && in_force == Some(generation)
    }
}
