//! What the checks look at.

use infera_node::Thread;
use infera_plan::CpuSet;

/// The node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Those that were looked at.
    pub threads: Vec<Thread>,
    /// The CPUs fenced for Critical.
    pub fence: CpuSet,
    /// Whether idle CPUs of the fence are lent.
    pub lent: bool,
    /// The CPUs of each physical core.
    pub cores: Vec<CpuSet>,
}

impl Snapshot {
    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Thread> {
        self.threads.iter().filter(|thread| thread.runnable)
    }

    /// Whether `thread` may run on the fence and elsewhere: who is bound to either is where it
    /// must be.
    pub fn has_choice(&self, thread: &Thread) -> bool {
        thread.allowed.as_ref().is_none_or(|allowed| {
            !allowed.is_disjoint(&self.fence) && !allowed.is_subset(&self.fence)
        })
    }

    /// The CPUs of the core that `cpu` is of.
    pub fn core_of(&self, cpu: usize) -> Option<&CpuSet> {
        self.cores.iter().find(|core| core.contains(&cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::CHECKS;
    use infera_policy::Tier;

    fn thread(tier: Tier, cpu: usize) -> Thread {
        Thread {
            tid: 7,
            name: "t".into(),
            pod: String::new(),
            tier,
            pod_tier: None,
            cpu,
            runnable: true,
            allowed: None,
            ticks: 0,
        }
    }

    /// Four cores of two threads; the last two cores fenced.
    fn node(threads: Vec<Thread>) -> Snapshot {
        Snapshot {
            threads,
            fence: CpuSet::from([2, 3, 6, 7]),
            lent: false,
            cores: (0..4).map(|core| CpuSet::from([core, core + 4])).collect(),
        }
    }

    fn broken(snapshot: &Snapshot) -> Vec<&'static str> {
        let broken = CHECKS.iter().filter(|check| {
            let found = check.run(snapshot);
            found.is_ok_and(|found| !found.is_empty())
        });
        broken.map(|check| check.id()).collect()
    }

    #[test]
    fn each_invariant_fires_when_it_is_broken_and_only_then() {
        let good = node(vec![thread(Tier::Critical, 2), thread(Tier::Normal, 0)]);
        assert_eq!(broken(&good), [""; 0]);
        let collision = node(vec![thread(Tier::Critical, 2), thread(Tier::Normal, 6)]);
        assert_eq!(broken(&collision), ["smt_collision"]);
        let fallback = node(vec![thread(Tier::Critical, 0)]);
        assert_eq!(broken(&fallback), ["protected_fallback"]);
        let reserve = node(vec![thread(Tier::Background, 3)]);
        assert_eq!(broken(&reserve), ["open_reserve"]);
        let mut mismatch = node(vec![thread(Tier::Low, 0)]);
        mismatch.threads[0].pod_tier = Some(Tier::High);
        assert_eq!(broken(&mismatch), ["layer_mismatch"]);
    }

    #[test]
    fn what_the_plan_allows_is_no_violation() {
        let mut lent = node(vec![thread(Tier::Critical, 2), thread(Tier::Background, 6)]);
        lent.lent = true;
        assert_eq!(broken(&lent), [""; 0]);
        let mut unfenced = node(vec![thread(Tier::Critical, 0), thread(Tier::Background, 4)]);
        unfenced.fence.clear();
        assert_eq!(broken(&unfenced), [""; 0]);
        assert!(CHECKS[0].run(&unfenced).is_err());
        let mut bound = node(vec![thread(Tier::Critical, 0), thread(Tier::Low, 3)]);
        bound.threads[0].allowed = Some(CpuSet::from([0, 1]));
        bound.threads[1].allowed = Some(CpuSet::from([3]));
        assert_eq!(broken(&bound), [""; 0]);
        // Every CPU of the fence is taken.
        let full = [2, 3, 6, 7, 0].map(|cpu| thread(Tier::Critical, cpu));
        assert_eq!(broken(&node(full.into())), [""; 0]);
    }
}
