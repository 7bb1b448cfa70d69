//! From topology and configuration to the tables the overlay executes, with a reason for
//! every cap and demotion.

use crate::config::{Config, Fence};
use crate::topology::{CpuSet, Topology, format_cpu_list};
use infera_policy::Tier;
use std::fmt;

/// A bit per tier, as in the overlay's per-CPU masks.
pub type TierMask = u8;

/// The mask of one tier.
pub const fn bit(tier: Tier) -> TierMask {
    1 << tier as u8
}

const ALL_TIERS: TierMask = 0b11_1111;

/// What one CPU may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPlan {
    /// The CPU.
    pub cpu: usize,
    /// Tiers that may always run there.
    pub home: TierMask,
    /// Tiers that may borrow it while its own are away.
    pub loan: TierMask,
    /// The next CPU of its core, in a ring: itself where it is the only one.
    pub sibling: usize,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Every online CPU.
    pub cpus: Vec<CpuPlan>,
    /// The CPUs fenced for Critical; empty when it shares.
    pub fence: CpuSet,
    /// CPUs that would be in the fence if no cpuset partition had them.
    pub beside: CpuSet,
    /// Caps and demotions, a sentence each.
    pub reasons: Vec<String>,
    /// Physical cores.
    pub cores: usize,
    /// Last-level caches.
    pub llcs: usize,
}

impl Plan {
    /// Plans `config` on `topology`.
    pub fn new(topology: &Topology, config: &Config) -> Plan {
        let cores = topology.cores.len();
        let mut reasons = Vec::new();
        let Chosen { fence, beside } = choose_fence(topology, config, &mut reasons);
        let cpus = topology
            .cpus()
            .into_iter()
            .map(|cpu| {
                let (home, loan) = if fence.is_empty() {
                    (ALL_TIERS, 0)
                } else if fence.contains(&cpu) {
                    let home = bit(Tier::System) | bit(Tier::Critical);
                    (home, if config.loans { ALL_TIERS & !home } else { 0 })
                } else {
                    (ALL_TIERS & !bit(Tier::Critical), 0)
                };
                let sibling = next_sibling(topology, cpu);
                CpuPlan {
                    cpu,
                    home,
                    loan,
                    sibling,
                }
            })
            .collect();
        Plan {
            cpus,
            fence,
            beside,
            reasons,
            cores,
            llcs: topology.llcs.len(),
        }
    }

    /// The reason for [`Plan::beside`], if there is one.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        left_out(&self.beside)
    }
}

fn next_sibling(topology: &Topology, cpu: usize) -> usize {
    let core = topology.cores.iter().find(|core| core.contains(&cpu));
    core.and_then(|core| core.range(cpu + 1..).next().or_else(|| core.first()))
        .copied()
        .unwrap_or(cpu)
}

fn left_out(beside: &CpuSet) -> Option<String> {
    (!beside.is_empty()).then(|| {
        format!(
            "the fence of critical leaves out CPUs {}: a cpuset partition has them, and Critical's tasks outside of it cannot run there",
            format_cpu_list(beside)
        )
    })
}

/// A fence, and what it had to leave out.
#[derive(Default)]
struct Chosen {
    fence: CpuSet,
    /// As in [`Plan`].
    beside: CpuSet,
}

fn choose_fence(topology: &Topology, config: &Config, reasons: &mut Vec<String>) -> Chosen {
    let in_partition = |core: &&CpuSet| !core.is_disjoint(&topology.partitions);
    // Critical pods are outside of partitions, so a fence on one's CPUs would stand empty.
    let (taken, cores): (Vec<&CpuSet>, Vec<&CpuSet>) =
        topology.cores.iter().partition(in_partition);
    let mut beside = CpuSet::new();
    let chosen: Vec<&CpuSet> =
        match &config.fence {
            Fence::None => {
                reasons.push(
                    "critical shares all CPUs: no fence is configured (tiers.critical.fence_cores)"
                        .into(),
                );
                return Chosen::default();
            }
            Fence::Cores(0) => {
                reasons.push("critical shares all CPUs: the configuration wants no fence".into());
                return Chosen::default();
            }
            // The last cores: CPU 0's takes more interrupts than any other. Those of an
            // LLC stand together, so that the fence shares caches as far as it can.
            Fence::Cores(count) => {
                let without = topology.cores.iter().rev().take(*count);
                beside.extend(without.filter(in_partition).flatten());
                cores.iter().rev().take(*count).copied().collect()
            }
            Fence::Cpus(cpus) => {
                let whole = |core: &&CpuSet| core.is_subset(cpus);
                beside.extend(taken.iter().copied().filter(whole).flatten());
                let whole: Vec<&CpuSet> = cores.iter().copied().filter(whole).collect();
                let kept: CpuSet = whole.iter().copied().flatten().copied().collect();
                let wanted: CpuSet = cpus.difference(&beside).copied().collect();
                if kept != wanted {
                    reasons.push(format!(
                    "fence of critical cut from CPUs {} to {}: only whole online cores are fenced",
                    format_cpu_list(cpus),
                    if kept.is_empty() { "none".into() } else { format_cpu_list(&kept) },
                ));
                }
                whole
            }
        };
    reasons.extend(left_out(&beside));
    let asked = match &config.fence {
        Fence::Cores(count) => *count,
        _ => chosen.len(),
    };
    let outside = match taken.is_empty() {
        true => "",
        false => " outside of cpuset partitions",
    };
    let mut fence = CpuSet::new();
    if asked == 0 {
        // Why has been said.
    } else if cores.len() <= 2 {
        reasons.push(format!(
            "critical demoted to shared CPUs: a node with {} physical core{}{outside} is never fenced",
            cores.len(),
            if cores.len() == 1 { "" } else { "s" },
        ));
    } else if asked >= cores.len() {
        reasons.push(format!(
            "critical demoted to shared CPUs: it asks for {asked} of {} physical cores{outside} and one must stay for the rest",
            cores.len(),
        ));
    } else {
        fence = chosen.into_iter().flatten().copied().collect();
    }
    let llcs = topology.llcs_of(&fence);
    if llcs > 1 {
        reasons.push(format!(
            "the fence of critical spans {llcs} LLCs: its threads do not share one cache"
        ));
    }
    Chosen { fence, beside }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "plan: {} CPUs on {} physical cores in {} LLC{}",
            self.cpus.len(),
            self.cores,
            self.llcs,
            if self.llcs == 1 { "" } else { "s" },
        )?;
        if !self.fence.is_empty() {
            let loans = if self.cpus.iter().any(|cpu| cpu.loan != 0) {
                "lent while idle"
            } else {
                "never lent"
            };
            writeln!(
                f,
                "  CPUs {} are fenced for critical, {loans}",
                format_cpu_list(&self.fence)
            )?;
        }
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        write!(
            f,
            "  while attached, cpu.weight of cgroups is in force within each tier, and cpu.max in all, unless `limits` is off"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cores: usize, fence: Fence) -> Plan {
        Plan::new(
            &Topology::uniform(2 * cores, 2),
            &Config {
                fence,
                ..Config::default()
            },
        )
    }

    #[test]
    fn fences_are_whole_cores_from_the_end() {
        let plan = plan(4, Fence::Cores(1));
        assert_eq!(plan.fence, CpuSet::from([3, 7]));
        assert_eq!(plan.cpus[3].home, bit(Tier::System) | bit(Tier::Critical));
        assert_eq!(plan.cpus[0].home & bit(Tier::Critical), 0);
        assert_ne!(plan.cpus[3].loan & bit(Tier::Background), 0);
    }

    #[test]
    fn the_cpus_of_a_core_are_a_ring() {
        let plan = plan(4, Fence::None);
        assert_eq!((plan.cpus[3].sibling, plan.cpus[7].sibling), (7, 3));
        let alone = Plan::new(&Topology::uniform(4, 1), &Config::default());
        assert!(alone.cpus.iter().all(|cpu| cpu.sibling == cpu.cpu));
    }

    #[test]
    fn a_fence_that_outgrows_an_llc_says_so() {
        let mut topology = Topology::uniform(4, 1);
        topology.llcs = vec![CpuSet::from([0, 1]), CpuSet::from([2, 3])];
        let plan = |count| {
            let fence = Fence::Cores(count);
            let config = Config {
                fence,
                ..Config::default()
            };
            Plan::new(&topology, &config)
        };
        assert_eq!(plan(2).fence, CpuSet::from([2, 3]));
        assert!(plan(2).reasons.is_empty());
        assert_eq!(plan(3).reasons.len(), 1);
        assert!(plan(3).reasons[0].contains("spans 2 LLCs"));
    }

    #[test]
    fn a_fence_on_a_partition_stands_elsewhere_and_says_so() {
        let plan = |partitions: &[usize], fence: Fence| {
            let topology = Topology {
                partitions: partitions.iter().copied().collect(),
                ..Topology::uniform(8, 2)
            };
            let config = Config {
                fence,
                ..Config::default()
            };
            Plan::new(&topology, &config)
        };
        // Half of a core is enough: a fence is whole cores.
        for partitions in [&[3, 7][..], &[7]] {
            let moved = plan(partitions, Fence::Cores(1));
            assert_eq!(moved.fence, CpuSet::from([2, 6]));
            assert_eq!(moved.beside, CpuSet::from([3, 7]));
            assert!(moved.reasons[0].contains("leaves out CPUs 3,7: a cpuset partition"));
        }
        // One that is not in the way changes nothing.
        let apart = plan(&[0, 4], Fence::Cores(1));
        assert_eq!((apart.fence, apart.beside), ([3, 7].into(), [].into()));
        assert_eq!(apart.reasons, [""; 0]);
        let cpus = plan(&[3, 7], Fence::Cpus([2, 3, 6, 7].into()));
        assert_eq!((cpus.fence, cpus.beside), ([2, 6].into(), [3, 7].into()));
        assert_eq!(cpus.reasons.len(), 1, "{:?}", cpus.reasons);
        let none = plan(&[3, 7], Fence::Cpus([3, 7].into()));
        assert_eq!((none.fence, none.reasons.len()), ([].into(), 1));
        // What partitions leave is what one core must stay of.
        let full = plan(&[3, 7], Fence::Cores(3));
        assert!(full.fence.is_empty());
        assert!(full.reasons[1].contains("3 of 3 physical cores outside of cpuset partitions"));
        let small = plan(&[2, 3, 6, 7], Fence::Cores(1));
        assert!(small.fence.is_empty());
        assert!(small.reasons[1].contains("2 physical cores outside of cpuset partitions"));
        assert!(small.cpus.iter().all(|cpu| cpu.home == ALL_TIERS));
    }

    #[test]
    fn small_nodes_and_greedy_fences_are_demoted_with_a_reason() {
        for (cores, fence) in [
            (2, Fence::Cores(1)),
            (4, Fence::Cores(4)),
            (4, Fence::Cpus(CpuSet::from([3]))),
        ] {
            let plan = plan(cores, fence);
            assert!(plan.fence.is_empty());
            assert_eq!(plan.reasons.len(), 1, "{:?}", plan.reasons);
            assert!(plan.cpus.iter().all(|cpu| cpu.home == ALL_TIERS));
        }
    }
}
