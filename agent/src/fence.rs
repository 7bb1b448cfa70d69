//! What an operator should learn of Critical's fence: events of the node about pods that do not
//! get what their tier promises.
//!
//! Callers: the agent's loop, whenever it plans, and every 15 s for the pods' cpusets.
//! Key decision: the agent plans with the same code and the same inputs as the scheduler, so that
//! it needs no answer of the scheduler's.
//! Invariant: a state that lasts is one event.

use crate::publish::Notice;
use infera_plan::{CpuSet, Plan, PodCgroup, format_cpu_list, parse_cpu_list};
use infera_policy::Tier;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn notice(reason: &'static str, note: String) -> Notice {
    Notice {
        warning: true,
        reason,
        note,
    }
}

/// What is to be said of `plan`, which replaces `before`.
#[must_use]
pub fn changes(before: Option<&Plan>, plan: &Plan) -> Vec<Notice> {
    if before.is_some_and(|before| before.reasons == plan.reasons) {
        return Vec::new();
    }
    let demoted = plan.reasons.iter().find(|text| text.contains("demoted"));
    let demoted = demoted.map(|reason| notice("CriticalDemoted", reason.clone()));
    let beside = plan
        .left_out()
        .map(|reason| notice("CpusetBesideFence", reason));
    demoted.into_iter().chain(beside).collect()
}

/// The Critical pods whose cpusets have none of the fence's CPUs.
#[derive(Debug, Default)]
pub struct Beside {
    /// Their cgroups, of which an event says so.
    said: BTreeSet<String>,
}

impl Beside {
    /// Looks at the cgroups of `pods` below the mount `root`. `names` are the pods' names by
    /// cgroup.
    pub fn look(
        &mut self,
        root: &Path,
        fence: &CpuSet,
        pods: &[PodCgroup],
        names: &BTreeMap<String, String>,
    ) -> Vec<Notice> {
        let mut found = BTreeSet::new();
        let mut notices = Vec::new();
        let critical = pods.iter().filter(|pod| pod.tier == Tier::Critical);
        for pod in critical.filter(|_| !fence.is_empty()) {
            let path = root.join(pod.cgroup.trim_start_matches('/'));
            let Some(cpus) = beside(&path, fence) else {
                continue;
            };
            if !self.said.contains(&pod.cgroup) {
                let name = names.get(&pod.cgroup).unwrap_or(&pod.cgroup);
                notices.push(notice(
                    "CpusetBesideFence",
                    format!(
                        "critical pod {name}: a container of it has CPUs {} by its cpuset and the fence is {}: it runs there without the fence; set tiers.critical.fence_cpus to CPUs that the pod has, or give it no exclusive CPUs",
                        format_cpu_list(&cpus),
                        format_cpu_list(fence)
                    ),
                ));
            }
            found.insert(pod.cgroup.clone());
        }
        self.said = found;
        notices
    }
}

/// The CPUs of the first container of the pod's cgroup that has none of the fence's. Of containers,
/// because the kubelet's CPU manager binds those and leaves the pod's own cpuset as it is.
fn beside(pod: &Path, fence: &CpuSet) -> Option<CpuSet> {
    let containers = fs::read_dir(pod).ok()?.flatten();
    containers
        .filter_map(|container| {
            let text = fs::read_to_string(container.path().join("cpuset.cpus.effective")).ok()?;
            parse_cpu_list(&text).ok()
        })
        .find(|cpus| !cpus.is_empty() && cpus.is_disjoint(fence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_plan::{Config, Fence, Topology};

    fn plan(partitions: &[usize], cores: usize) -> Plan {
        let topology = Topology {
            partitions: partitions.iter().copied().collect(),
            ..Topology::uniform(4, 1)
        };
        let config = Config {
            fence: Fence::Cores(cores),
            ..Config::default()
        };
        Plan::new(&topology, &config)
    }

    fn reasons(notices: &[Notice]) -> Vec<&str> {
        notices.iter().map(|notice| notice.reason).collect()
    }

    #[test]
    fn a_plan_beside_a_partition_is_one_event() {
        let (plain, beside) = (plan(&[], 1), plan(&[3], 1));
        assert_eq!(changes(None, &plain), []);
        let said = changes(Some(&plain), &beside);
        assert_eq!(reasons(&said), ["CpusetBesideFence"]);
        assert!(said[0].note.contains("CPUs 3"), "{}", said[0].note);
        assert_eq!(changes(Some(&beside), &beside.clone()), []);
        let full = changes(Some(&beside), &plan(&[3], 3));
        assert_eq!(reasons(&full), ["CriticalDemoted", "CpusetBesideFence"]);
    }

    #[test]
    fn a_critical_pod_with_other_cpus_than_the_fences_is_one_event() {
        let root = tempfile::tempdir().unwrap();
        let pod = |name: &str, tier| PodCgroup {
            cgroup: format!("/kubepods/{name}"),
            tier,
        };
        let pods = [
            pod("bound", Tier::Critical),
            pod("free", Tier::Critical),
            pod("high", Tier::High),
            pod("to-come", Tier::Critical),
        ];
        let bind = |name: &str, cpus: &str| {
            let container = root.path().join("kubepods").join(name);
            fs::create_dir_all(&container).unwrap();
            fs::write(container.join("cpuset.cpus.effective"), cpus).unwrap();
        };
        // The sandbox has all CPUs, the container its exclusive ones.
        for (container, cpus) in [
            ("bound/sandbox", "0-3\n"),
            ("bound/main", "1\n"),
            ("free/main", "0-3\n"),
            ("free/empty", "\n"),
            ("high/main", "1\n"),
        ] {
            bind(container, cpus);
        }
        let names = [("/kubepods/bound".to_owned(), "shop/web".to_owned())].into();
        let mut beside = Beside::default();
        let mut look = |fence: &[usize]| {
            let fence = fence.iter().copied().collect();
            beside.look(root.path(), &fence, &pods, &names)
        };
        let said = look(&[3]);
        assert_eq!(reasons(&said), ["CpusetBesideFence"]);
        for words in ["pod shop/web", "has CPUs 1 ", "the fence is 3"] {
            assert!(said[0].note.contains(words), "{}", said[0].note);
        }
        assert_eq!(look(&[3]), []);
        // Said again after it was well, or there was no fence.
        assert_eq!(look(&[1, 3]), []);
        assert_eq!(look(&[3]).len(), 1);
        assert_eq!(look(&[]), []);
        assert_eq!(look(&[3]).len(), 1);
    }
}
