//! From pods to the assignment, the file that the scheduler follows, and to the plan of the node's CPUs.
//!
//! Caller: the agent's loop, when pods, configuration or partitions change.
//! Key decision: the agent plans with the scheduler's code and inputs, so that it needs no answer of the scheduler's to know the fence.
//! Invariant: a generation is never used for two assignments, also not by the next agent, which reads the file.

use crate::fence;
use crate::publish::Notice;
use crate::tree::Kubepods;
use infera_plan::{Assignment, AssignmentError, Config, Plan, PodCgroup, Topology, whole_cores};
use infera_pods::PodFacts;
use infera_policy::Tier;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tracing::warn;

/// How many pods an assignment has at most: a kubelet runs 110 unless configured otherwise.
pub const MAX_PODS: usize = 1200;

/// Figures of one tier's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierSum {
    /// How many.
    pub pods: u64,
    /// Thousandths of a CPU that they ask for.
    pub cpu_millis: u64,
}

/// What the pods are together.
#[must_use]
pub fn sums(pods: &[PodFacts]) -> BTreeMap<Tier, TierSum> {
    let mut sums: BTreeMap<Tier, TierSum> = Tier::ALL.map(|tier| (tier, TierSum::default())).into();
    for pod in pods {
        let sum = sums.entry(pod.tier).or_default();
        sum.pods += 1;
        sum.cpu_millis = sum.cpu_millis.saturating_add(pod.cpu_millis);
    }
    sums
}

/// The assignment of `pods`, without a generation; and how many did not fit into it, the worst
/// tiers' first.
#[must_use]
pub fn assign(
    pods: &[PodFacts],
    kubepods: &Kubepods,
    threads_per_core: usize,
) -> (Assignment, usize) {
    let mut listed: Vec<PodCgroup> = pods
        .iter()
        .map(|pod| PodCgroup {
            cgroup: kubepods.cgroup(&pod.cgroup_uid, pod.qos),
            tier: pod.tier,
        })
        .collect();
    // By cgroup within a tier: the order in which pods came changes nothing.
    listed.sort_by(|a, b| (a.tier, &a.cgroup).cmp(&(b.tier, &b.cgroup)));
    listed.dedup_by(|a, b| a.cgroup == b.cgroup);
    let left_out = listed.len().saturating_sub(MAX_PODS);
    listed.truncate(MAX_PODS);
    let critical = pods
        .iter()
        .filter(|pod| pod.tier == Tier::Critical)
        .fold(0u64, |sum, pod| sum.saturating_add(pod.cpu_millis));
    let cores = whole_cores(critical, threads_per_core);
    let assignment = Assignment {
        generation: 0,
        critical_cores: (cores > 0).then_some(cores),
        pods: listed,
    };
    (assignment, left_out)
}

/// The assignment that was published last, and the plan that follows from it.
pub struct Assigner {
    cgroup_root: PathBuf,
    file: PathBuf,
    topology: Option<Topology>,
    published: Assignment,
    plan: Option<Plan>,
}

impl Assigner {
    /// Goes on from the assignment in `file`, which an earlier agent published.
    #[must_use]
    pub fn new(cgroup_root: PathBuf, file: PathBuf, topology: Option<Topology>) -> Assigner {
        let published = Assignment::read(&file).unwrap_or_else(|error| {
            warn!("beginning anew: {error}");
            Assignment::default()
        });
        Assigner {
            cgroup_root,
            file,
            topology,
            published,
            plan: None,
        }
    }

    /// Where this node's kubelet has its pods.
    pub fn kubepods(&self) -> Kubepods {
        Kubepods::find(&self.cgroup_root).unwrap_or_else(|| {
            // No pod was here yet: what most kubelets do.
            Kubepods::Systemd(String::new(), "kubepods".into())
        })
    }

    /// Writes the assignment of `pods`, with the next generation, if it differs from the last one; returns whether it did.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The last assignment stays the published one.
    pub fn publish(&mut self, pods: &[PodFacts]) -> Result<bool, AssignmentError> {
        let threads = self.topology.as_ref().map_or(1, Topology::threads_per_core);
        let (wanted, left_out) = assign(pods, &self.kubepods(), threads);
        if left_out > 0 {
            warn!("{left_out} pods are left out: more than {MAX_PODS} on a node");
        }
        let Some(next) = next(&self.published, wanted) else {
            return Ok(false);
        };
        next.write(&self.file)?;
        self.published = next;
        Ok(true)
    }

    /// The assignment published last.
    pub fn published(&self) -> &Assignment {
        &self.published
    }

    /// Plans for what is published; returns what an operator should know of the change.
    pub fn make_plan(&mut self, config: &Config) -> Vec<Notice> {
        let Some(topology) = &self.topology else {
            return Vec::new();
        };
        let config = config.fenced_for(self.published.critical_cores);
        let plan = Plan::new(topology, &config);
        let notices = fence::changes(self.plan.as_ref(), &plan);
        self.plan = Some(plan);
        notices
    }

    /// Plans anew when cpuset partitions came or went. The scheduler does so by itself.
    pub fn follow_partitions(&mut self, config: &Config) -> Vec<Notice> {
        let Some(topology) = &mut self.topology else {
            return Vec::new();
        };
        let partitions = topology.partitions_below(&self.cgroup_root);
        if partitions == topology.partitions {
            return Vec::new();
        }
        topology.partitions = partitions;
        self.make_plan(config)
    }

    /// The plan in force, once there is one.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// The machine, if it could be read.
    pub fn topology(&self) -> Option<&Topology> {
        self.topology.as_ref()
    }
}

/// `wanted` with the next generation, if it differs from `last`.
fn next(last: &Assignment, wanted: Assignment) -> Option<Assignment> {
    let same = Assignment {
        generation: last.generation,
        ..wanted
    };
    (same != *last || last.generation == 0).then(|| Assignment {
        generation: last.generation + 1,
        ..same
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_plan::QosClass;
    use proptest::prelude::*;

    fn pod(uid: &str, tier: Tier, cpu_millis: u64) -> PodFacts {
        PodFacts {
            cgroup_uid: uid.into(),
            name: format!("n/{uid}"),
            qos: QosClass::Burstable,
            tier,
            cpu_millis,
            limit_millis: None,
        }
    }

    fn kubepods() -> Kubepods {
        Kubepods::Cgroupfs("/kubepods".into())
    }

    #[test]
    fn generations_rise_only_when_something_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("assignment.json");
        let machine = Some(Topology::uniform(8, 2));
        let new = || Assigner::new(dir.path().into(), file.clone(), machine.clone());
        let mut assigner = new();
        let publish = |assigner: &mut Assigner, pods: &[PodFacts]| {
            let published = assigner.publish(pods).unwrap();
            published.then(|| assigner.published().generation)
        };
        let (a, b) = (pod("a", Tier::High, 0), pod("b", Tier::Critical, 2500));
        // The first says that nothing is assigned.
        assert_eq!(publish(&mut assigner, &[]), Some(1));
        assert_eq!(publish(&mut assigner, &[a.clone(), b.clone()]), Some(2));
        assert_eq!(publish(&mut assigner, &[b.clone(), a.clone()]), None);
        assert_eq!(assigner.published().critical_cores, Some(2));
        let renamed = PodFacts {
            name: "other/name".into(),
            ..a.clone()
        };
        assert_eq!(publish(&mut assigner, &[renamed, b.clone()]), None);
        assert_eq!(publish(&mut assigner, &[b]), Some(3));
        let mut again = new();
        let same = [pod("b", Tier::Critical, 2500)];
        assert_eq!(publish(&mut again, &same), None);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_last_generation() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nowhere/assignment.json");
        let mut assigner = Assigner::new(dir.path().into(), file, None);
        assert!(assigner.publish(&[pod("a", Tier::High, 0)]).is_err());
        assert_eq!(assigner.published().generation, 0);
    }

    #[test]
    fn ten_thousand_pods_do_no_harm() {
        let pods: Vec<PodFacts> = (0..10_000)
            .map(|n| pod(&format!("{n:0>36}"), Tier::ALL[n % 6], u64::MAX))
            .collect();
        let (assignment, left_out) = assign(&pods, &kubepods(), 1);
        assert_eq!(
            (assignment.pods.len(), left_out),
            (MAX_PODS, 10_000 - MAX_PODS)
        );
        assert!(assignment.pods.iter().all(|pod| pod.tier == Tier::System));
        let dir = tempfile::tempdir().unwrap();
        assignment.write(&dir.path().join("a.json")).unwrap();
        assert_eq!(sums(&pods)[&Tier::Critical].cpu_millis, u64::MAX);
    }

    proptest! {
        #[test]
        fn the_order_of_pods_changes_nothing(mut uids in proptest::collection::vec("[a-z0-9-]{1,36}", 0..20), seed: u64) {
            let tier = |uid: &str| Tier::ALL[(uid.len() + seed as usize % 6) % 6];
            let pods: Vec<PodFacts> = uids.iter().map(|uid| pod(uid, tier(uid), 100)).collect();
            uids.sort_by_key(|uid| uid.len() as u64 ^ seed);
            let mixed: Vec<PodFacts> = uids.iter().map(|uid| pod(uid, tier(uid), 100)).collect();
            prop_assert_eq!(assign(&pods, &kubepods(), 2), assign(&mixed, &kubepods(), 2));
        }
    }
}
