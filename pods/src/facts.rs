//! What of a pod matters here.

use crate::keys::Keys;
use crate::quantity::parse_millis;
use infera_plan::{PodPriority, PriorityMapping, QosClass};
use infera_policy::Tier;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The longest name or id that is taken over.
const MAX_NAME: usize = 253;

/// A pod that runs or may run on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// What its cgroup is named after: not always the uid that the API server gave it.
    pub cgroup_uid: String,
    /// `namespace/name`.
    pub name: String,
    /// Decides the directory that its cgroup is in.
    pub qos: QosClass,
    /// Its tier.
    pub tier: Tier,
    /// Thousandths of a CPU that it asks for.
    pub cpu_millis: u64,
    /// Thousandths of a CPU that it may use at most; `None`: some container has no limit.
    pub limit_millis: Option<u64>,
}

impl PodFacts {
    /// `None` for one that has ended, or that has no cgroup of a name Kubernetes gives.
    pub fn of(pod: &Pod, keys: &Keys, mapping: &PriorityMapping) -> Option<PodFacts> {
        let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let annotation = |key: &str| meta.annotations.as_ref()?.get(key).map(String::as_str);
        // A static pod's cgroup is named after the hash of its file, not after its mirror.
        let uid = annotation("kubernetes.io/config.hash")
            .filter(|_| annotation("kubernetes.io/config.mirror").is_some())
            .or(meta.uid.as_deref())?;
        if !is_plain(uid) {
            return None;
        }
        let qos = match status.and_then(|status| status.qos_class.as_deref()) {
            Some("Guaranteed") => QosClass::Guaranteed,
            Some("Burstable") => QosClass::Burstable,
            Some("BestEffort") => QosClass::BestEffort,
            // Older servers leave it to the kubelet: what the containers ask for decides.
            _ if asks_for_nothing(&spec.containers) => QosClass::BestEffort,
            _ => QosClass::Burstable,
        };
        let priority = PodPriority {
            priority: spec.priority.unwrap_or(0),
            has_class: spec
                .priority_class_name
                .as_ref()
                .is_some_and(|name| !name.is_empty()),
            qos,
            asked: annotation(&keys.tier()).and_then(|name| name.parse().ok()),
        };
        let name = |text: &Option<String>| {
            let mut text = text.clone().unwrap_or_default();
            text.truncate(text.floor_char_boundary(MAX_NAME));
            text
        };
        Some(PodFacts {
            cgroup_uid: uid.to_owned(),
            name: format!("{}/{}", name(&meta.namespace), name(&meta.name)),
            qos,
            tier: mapping.tier_of(&priority),
            cpu_millis: cpu_request(
                spec.containers.iter(),
                spec.init_containers.iter().flatten(),
            ),
            limit_millis: cpu_limit(&spec.containers),
        })
    }
}

/// Part of a path: nothing that leads elsewhere.
fn is_plain(uid: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !uid.is_empty() && uid.len() <= MAX_NAME && uid.chars().all(plain)
}

fn asks_for_nothing(containers: &[Container]) -> bool {
    containers.iter().all(|container| {
        container.resources.as_ref().is_none_or(|resources| {
            let none = |map: &Option<std::collections::BTreeMap<String, Quantity>>| {
                map.as_ref().is_none_or(|map| map.is_empty())
            };
            none(&resources.requests) && none(&resources.limits)
        })
    })
}

/// What the containers may use together.
fn cpu_limit(containers: &[Container]) -> Option<u64> {
    let limits = containers.iter().map(|container| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("cpu")?;
        parse_millis(&limit.0)
    });
    limits.sum()
}

/// What the containers ask for together, or the largest initial one, or what stays beside.
fn cpu_request<'a>(
    containers: impl Iterator<Item = &'a Container>,
    initial: impl Iterator<Item = &'a Container>,
) -> u64 {
    let millis = |container: &Container| {
        let resources = container.resources.as_ref();
        let asked = resources.and_then(|r| {
            let request = r.requests.as_ref().and_then(|map| map.get("cpu"));
            request.or_else(|| r.limits.as_ref()?.get("cpu"))
        });
        asked
            .and_then(|quantity| parse_millis(&quantity.0))
            .unwrap_or(0)
    };
    let mut sum: u64 = 0;
    let mut largest = 0;
    for container in initial {
        // A side-car: it stays.
        if container.restart_policy.as_deref() == Some("Always") {
            sum = sum.saturating_add(millis(container));
        } else {
            largest = largest.max(sum.saturating_add(millis(container)));
        }
    }
    containers
        .fold(sum, |sum, container| sum.saturating_add(millis(container)))
        .max(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(pod: serde_json::Value) -> Option<PodFacts> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        PodFacts::of(&pod, &Keys::new("infera.io"), &PriorityMapping::default())
    }

    fn pod(priority: i32, annotations: serde_json::Value) -> serde_json::Value {
        json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "1234-ab", "annotations": annotations},
            "spec": {"priority": priority, "priorityClassName": "x", "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1500m"}}},
                {"name": "b", "resources": {"limits": {"cpu": "1"}}}]},
            "status": {"qosClass": "Burstable", "phase": "Running"},
        })
    }

    #[test]
    fn a_pod_is_read() {
        let facts = facts(pod(1_000_000, json!({}))).unwrap();
        assert_eq!(facts.tier, Tier::Critical);
        assert_eq!(facts.name, "shop/web");
        assert_eq!(facts.cgroup_uid, "1234-ab");
        assert_eq!(facts.cpu_millis, 2500);
        assert_eq!(facts.limit_millis, None);
    }

    #[test]
    fn an_annotation_lowers_and_never_raises() {
        let tier = |priority, asked: &str| {
            let annotations = json!({"infera.io/tier": asked});
            facts(pod(priority, annotations)).unwrap().tier
        };
        assert_eq!(tier(1_000_000, "low"), Tier::Low);
        assert_eq!(tier(0, "critical"), Tier::Normal);
        assert_eq!(tier(0, "system"), Tier::Normal);
        assert_eq!(tier(0, "\u{0}../gold"), Tier::Normal);
    }

    #[test]
    fn a_static_pods_cgroup_has_its_hash() {
        let annotations =
            json!({"kubernetes.io/config.hash": "feed", "kubernetes.io/config.mirror": "feed"});
        assert_eq!(facts(pod(0, annotations)).unwrap().cgroup_uid, "feed");
        // Without the mirror's mark anybody could name another pod's cgroup.
        let annotations = json!({"kubernetes.io/config.hash": "feed"});
        assert_eq!(facts(pod(0, annotations)).unwrap().cgroup_uid, "1234-ab");
    }

    #[test]
    fn what_has_ended_or_is_no_pod_counts_not() {
        for (key, value) in [("phase", "Succeeded"), ("phase", "Failed")] {
            let mut pod = pod(0, json!({}));
            pod["status"][key] = json!(value);
            assert_eq!(facts(pod), None);
        }
        for uid in ["", "../../x", "a/b", "a\nb", &"x".repeat(300)] {
            let mut pod = pod(0, json!({}));
            pod["metadata"]["uid"] = json!(uid);
            assert_eq!(facts(pod), None, "{uid}");
        }
        assert_eq!(facts(json!({"metadata": {"uid": "a"}})), None);
    }
}
