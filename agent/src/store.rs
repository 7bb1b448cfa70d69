//! The pods of this node, as the API server last described them.
//!
//! Caller: the agent's loop, with each event of the watch. While the API server is away, the store keeps what it has.

use infera_plan::PriorityMapping;
use infera_pods::{Keys, PodFacts};
use infera_policy::Tier;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;

/// Pods by their uid at the API server, which for static pods is not that of their cgroup.
pub struct PodStore {
    keys: Keys,
    own_uid: Option<String>,
    pods: BTreeMap<String, PodFacts>,
    /// The list that a watch has begun to send, until it is complete.
    listing: Option<BTreeMap<String, PodFacts>>,
}

impl PodStore {
    /// Without pods. The pod `own_uid` is the agent's own.
    #[must_use]
    pub fn new(keys: Keys, own_uid: Option<String>) -> PodStore {
        PodStore {
            keys,
            own_uid,
            pods: BTreeMap::new(),
            listing: None,
        }
    }

    /// Takes in an event; returns whether the pods may differ now.
    pub fn apply(&mut self, event: Event<Pod>, mapping: &PriorityMapping) -> bool {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(pod) => {
                if let Some((uid, facts)) = self.facts(&pod, mapping) {
                    self.listing.get_or_insert_default().insert(uid, facts);
                }
            }
            Event::InitDone => {
                self.pods = self.listing.take().unwrap_or_default();
                return true;
            }
            Event::Apply(pod) => {
                // None: it has ended.
                let Some((uid, facts)) = self.facts(&pod, mapping) else {
                    return self.remove(&pod);
                };
                if self.pods.get(&uid) != Some(&facts) {
                    self.pods.insert(uid, facts);
                    return true;
                }
            }
            Event::Delete(pod) => return self.remove(&pod),
        }
        false
    }

    fn facts(&self, pod: &Pod, mapping: &PriorityMapping) -> Option<(String, PodFacts)> {
        let mut facts = PodFacts::of(pod, &self.keys, mapping)?;
        let uid = pod.metadata.uid.clone()?;
        // The agent is one of the node's own services, whatever its class.
        if self.own_uid.as_ref() == Some(&uid) {
            facts.tier = Tier::System;
        }
        Some((uid, facts))
    }

    fn remove(&mut self, pod: &Pod) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.pods.remove(uid).is_some()
    }

    /// All of them, in the order of their uids.
    pub fn pods(&self) -> Vec<PodFacts> {
        self.pods.values().cloned().collect()
    }
}
