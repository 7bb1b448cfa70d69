//! The assignment in force: from pods to what the scheduler is told, and when.

use crate::tree::Kubepods;
use infera_plan::{Assignment, PodCgroup, whole_cores};
use infera_pods::PodFacts;
use infera_policy::Tier;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many pods the scheduler is told of: a kubelet runs 110 unless told otherwise.
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

/// The assignment that the scheduler was told of last.
#[derive(Clone, Debug, Default)]
pub struct Book {
    told: Assignment,
}

impl Book {
    /// Goes on from what an earlier agent told.
    #[must_use]
    pub fn new(told: Assignment) -> Book {
        Book { told }
    }

    /// The generation told last.
    pub fn generation(&self) -> u64 {
        self.told.generation
    }

    /// What the scheduler was told last.
    pub fn told(&self) -> &Assignment {
        &self.told
    }

    /// The next generation, if `wanted` differs from the last.
    pub fn next(&self, wanted: &Assignment) -> Option<Assignment> {
        let generation = self.told.generation;
        let same = Assignment {
            generation,
            ..wanted.clone()
        };
        (same != self.told || generation == 0).then(|| Assignment {
            generation: generation + 1,
            ..same
        })
    }

    /// The scheduler was told of this.
    pub fn tell(&mut self, assignment: Assignment) {
        self.told = assignment;
    }
}

/// Gathers changes: the scheduler hears of them when they pause, or when the first one has waited
/// long enough.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    pause: Duration,
    longest: Duration,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    /// Waits for a pause of this length, and at most for four of them.
    #[must_use]
    pub fn new(pause: Duration) -> Debounce {
        Debounce {
            pause,
            longest: 4 * pause,
            first: None,
            last: None,
        }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to tell; `None`: there is nothing to tell.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        Some((first + self.longest).min(last + self.pause))
    }

    /// It was told.
    pub fn done(&mut self) {
        (self.first, self.last) = (None, None);
    }
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
        let mut book = Book::default();
        let tell = |book: &mut Book, pods: &[PodFacts]| {
            let next = book.next(&assign(pods, &kubepods(), 2).0);
            if let Some(next) = next.clone() {
                book.tell(next);
            }
            next.map(|next| next.generation)
        };
        let (a, b) = (pod("a", Tier::High, 0), pod("b", Tier::Critical, 2500));
        // The first says that nothing is assigned.
        assert_eq!(tell(&mut book, &[]), Some(1));
        assert_eq!(tell(&mut book, &[a.clone(), b.clone()]), Some(2));
        assert_eq!(tell(&mut book, &[b.clone(), a.clone()]), None);
        assert_eq!(book.told().critical_cores, Some(2));
        let renamed = PodFacts {
            name: "other/name".into(),
            ..a.clone()
        };
        assert_eq!(tell(&mut book, &[renamed, b.clone()]), None);
        assert_eq!(tell(&mut book, &[b]), Some(3));
        let mut again = Book::new(book.told().clone());
        assert_eq!(tell(&mut again, &[pod("b", Tier::Critical, 2500)]), None);
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

    #[test]
    fn changes_are_gathered_and_not_forever() {
        let pause = Duration::from_millis(500);
        let mut debounce = Debounce::new(pause);
        assert_eq!(debounce.due(), None);
        let start = Instant::now();
        for n in 0..100 {
            debounce.changed(start + Duration::from_millis(100) * n);
        }
        assert_eq!(debounce.due(), Some(start + 4 * pause));
        debounce.done();
        debounce.changed(start);
        assert_eq!(debounce.due(), Some(start + pause));
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
