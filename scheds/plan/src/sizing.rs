//! The arithmetic between what pods ask for and what a node can give, with a sentence for
//! whatever does not add up. `docs/sizing.md` explains the rules.

use crate::config::{Config, Fence};
use crate::plan::Plan;
use crate::topology::{Topology, format_cpu_list};
use infera_policy::Tier;
use std::fmt;

/// Protected tiers that ask for more of a node than this, in percent, leave too little to lend
/// and too little for the rest.
const PROTECTED_PERCENT: u64 = 60;

/// How many whole cores `millis` thousandths of a CPU take, where a core has
/// `threads_per_core` threads.
#[must_use]
pub fn whole_cores(millis: u64, threads_per_core: usize) -> usize {
    millis.div_ceil(1000 * threads_per_core.max(1) as u64) as usize
}

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSize {
    /// `namespace/name`.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// Thousandths of a CPU that it asks for.
    pub request_millis: u64,
    /// Thousandths of a CPU that it may use at most; `None`: any.
    pub limit_millis: Option<u64>,
}

/// What a tier's pods ask for together, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierSize {
    /// Which.
    pub tier: Tier,
    /// How many pods.
    pub pods: usize,
    /// Thousandths of a CPU.
    pub request_millis: u64,
    /// How many CPUs it may always use.
    pub cpus: usize,
}

/// A node and its pods, added up.
#[derive(Clone, Debug)]
pub struct Sizing {
    /// What would be in force.
    pub plan: Plan,
    /// Every tier, the best first.
    pub tiers: Vec<TierSize>,
    /// Whole cores that the Critical pods, or the configuration, ask for.
    pub wanted_cores: usize,
    /// CPUs of a core.
    pub threads_per_core: usize,
    /// What the operator should change, a sentence each.
    pub warnings: Vec<String>,
}

impl Sizing {
    /// Adds up `pods` on `topology`.
    #[must_use]
    pub fn new(topology: &Topology, config: &Config, pods: &[PodSize]) -> Sizing {
        let threads_per_core = topology.threads_per_core();
        let asked = |tier| sum(pods.iter().filter(|pod| pod.tier == tier));
        let cores = whole_cores(asked(Tier::Critical), threads_per_core);
        let config = config.fenced_for((cores > 0).then_some(cores));
        let plan = Plan::new(topology, &config);
        let wanted_cores = match &config.fence {
            Fence::None => 0,
            Fence::Cores(cores) => *cores,
            Fence::Cpus(cpus) => whole_cores(1000 * cpus.len() as u64, threads_per_core),
        };
        let tiers = Tier::ALL.map(|tier| TierSize {
            tier,
            pods: pods.iter().filter(|pod| pod.tier == tier).count(),
            request_millis: asked(tier),
            cpus: match tier {
                Tier::System => plan.cpus.len(),
                Tier::Critical if !plan.fence.is_empty() => plan.fence.len(),
                _ => plan.cpus.len() - plan.fence.len(),
            },
        });
        let mut sizing = Sizing {
            plan,
            tiers: tiers.into(),
            wanted_cores,
            threads_per_core,
            warnings: Vec::new(),
        };
        sizing.warnings = sizing.judge(pods);
        sizing
    }

    fn asked(&self, tier: Tier) -> u64 {
        self.tiers[tier as usize].request_millis
    }

    fn judge(&self, pods: &[PodSize]) -> Vec<String> {
        let mut warnings = Vec::new();
        let cpus = self.plan.cpus.len();
        let critical: Vec<&PodSize> = pods
            .iter()
            .filter(|pod| pod.tier == Tier::Critical)
            .collect();
        if !critical.is_empty() || self.wanted_cores > 0 {
            let demoted = self.plan.reasons.iter();
            warnings.extend(demoted.filter(|reason| reason.contains("demoted")).cloned());
        }
        let protected = self
            .asked(Tier::Critical)
            .saturating_add(self.asked(Tier::High));
        let percent = protected / (10 * cpus.max(1) as u64);
        if percent > PROTECTED_PERCENT {
            warnings.push(format!(
                "critical and high ask for {} of {cpus} CPUs, {percent} %: above {PROTECTED_PERCENT} % the other tiers wait for them much of the time; move pods to another node, or to a lower tier",
                cpus_of(protected)
            ));
        }
        let all = Tier::ALL
            .iter()
            .fold(0u64, |sum, tier| sum.saturating_add(self.asked(*tier)));
        let others = all.saturating_sub(self.asked(Tier::Critical));
        let left = cpus - self.plan.fence.len();
        if others > 1000 * left as u64 {
            let leaves = match self.plan.fence.is_empty() {
                true => "the node has",
                false => "the fence leaves",
            };
            warnings.push(format!(
                "the other tiers ask for {} CPUs and {leaves} {left}: they depend on what critical lends them",
                cpus_of(others)
            ));
        }
        let core = 1000 * self.threads_per_core as u64;
        for pod in &critical {
            match pod.request_millis {
                0 => warnings.push(format!(
                    "critical pod {} asks for no CPU: no core is fenced for it; set its request",
                    pod.name
                )),
                millis if millis < 1000 => warnings.push(format!(
                    "critical pod {} asks for {} CPU, less than one: a fence is whole cores, so it pays for a core or shares one with other Critical pods",
                    pod.name,
                    cpus_of(millis)
                )),
                _ => {}
            }
            let fence = 1000 * self.plan.fence.len() as u64;
            if let Some(limit) = pod.limit_millis.filter(|limit| fence > 0 && *limit > fence) {
                warnings.push(format!(
                    "critical pod {} may use {} CPUs by its limit, and the fence has {}: it never gets more than those; raise its request to grow the fence",
                    pod.name,
                    cpus_of(limit),
                    self.plan.fence.len()
                ));
            }
        }
        let limits: Option<u64> = critical.iter().map(|pod| pod.limit_millis).sum();
        let fence = 1000 * self.plan.fence.len() as u64;
        if let Some(limits) = limits.filter(|limits| *limits + core <= fence) {
            warnings.push(format!(
                "the limits of the critical pods add up to {} CPUs and the fence has {}: at least one core of it can only be lent",
                cpus_of(limits),
                self.plan.fence.len()
            ));
        }
        warnings
    }
}

fn sum<'a>(pods: impl Iterator<Item = &'a PodSize>) -> u64 {
    pods.fold(0, |sum, pod| sum.saturating_add(pod.request_millis))
}

fn cpus_of(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizing { plan, .. } = self;
        writeln!(
            f,
            "{} CPUs on {} physical cores, {} thread{} each",
            plan.cpus.len(),
            plan.cores,
            self.threads_per_core,
            if self.threads_per_core == 1 { "" } else { "s" },
        )?;
        writeln!(
            f,
            "\n{:<12}{:>6}{:>12}  where",
            "tier", "pods", "CPUs asked"
        )?;
        for size in &self.tiers {
            let place = match size.tier {
                Tier::System => "every CPU, before all others".to_owned(),
                Tier::Critical if !plan.fence.is_empty() => {
                    let idle = 1000 * plan.fence.len() as u64;
                    format!(
                        "CPUs {}: {} whole core{}, {} CPUs more than asked for",
                        format_cpu_list(&plan.fence),
                        plan.fence.len() / self.threads_per_core,
                        if plan.fence.len() == self.threads_per_core {
                            ""
                        } else {
                            "s"
                        },
                        cpus_of(idle.saturating_sub(size.request_millis)),
                    )
                }
                tier => {
                    let how = match tier {
                        Tier::Critical | Tier::High => ", before lower tiers",
                        Tier::Normal => "",
                        _ => ", whatever is idle",
                    };
                    format!("{} CPUs shared{how}", size.cpus)
                }
            };
            writeln!(
                f,
                "{:<12}{:>6}{:>12}  {place}",
                size.tier.name(),
                size.pods,
                cpus_of(size.request_millis),
            )?;
        }
        if !plan.fence.is_empty() {
            let others = self.tiers.iter().filter(|size| size.tier != Tier::Critical);
            let others = others.fold(0u64, |sum, size| sum.saturating_add(size.request_millis));
            let lent = plan.cpus.iter().any(|cpu| cpu.loan != 0);
            writeln!(
                f,
                "\nheadroom: {} of {} cores stay outside of the fence: {} CPUs, {} of them asked for; the fence is {}",
                plan.cores - plan.fence.len() / self.threads_per_core,
                plan.cores,
                plan.cpus.len() - plan.fence.len(),
                cpus_of(others),
                if lent {
                    "lent while idle"
                } else {
                    "never lent"
                },
            )?;
        }
        for reason in &plan.reasons {
            if !self.warnings.contains(reason) {
                writeln!(f, "note: {reason}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        write!(
            f,
            "note: while attached, cpu.weight of cgroups is in force within each tier, and cpu.max in all, unless `limits` is off"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pod(name: &str, tier: Tier, request: u64, limit: Option<u64>) -> PodSize {
        PodSize {
            name: name.into(),
            tier,
            request_millis: request,
            limit_millis: limit,
        }
    }

    fn size(cpus: usize, threads: usize, pods: &[PodSize]) -> Sizing {
        let topology = Topology::uniform(cpus, threads);
        Sizing::new(&topology, &Config::default(), pods)
    }

    fn warned(sizing: &Sizing, words: &str) -> bool {
        sizing
            .warnings
            .iter()
            .any(|warning| warning.contains(words))
    }

    #[test]
    fn a_node_that_adds_up_has_no_warning() {
        let pods = [
            pod("shop/web", Tier::Critical, 3500, Some(4000)),
            pod("shop/db", Tier::High, 2000, None),
            pod("shop/batch", Tier::Background, 0, None),
        ];
        let sizing = size(16, 2, &pods);
        assert_eq!(sizing.warnings, [""; 0]);
        assert_eq!(sizing.plan.fence, [6, 7, 14, 15].into());
        assert_eq!((sizing.wanted_cores, sizing.threads_per_core), (2, 2));
        let text = sizing.to_string();
        assert!(
            text.contains("CPUs 6-7,14-15: 2 whole cores, 0.5 CPUs more than asked for"),
            "{text}"
        );
        assert!(text.contains("headroom: 6 of 8 cores"), "{text}");
    }

    #[test]
    fn each_rule_warns() {
        let critical = |request, limit| pod("a/c", Tier::Critical, request, limit);
        for (cpus, threads, pods, words) in [
            (
                8,
                1,
                vec![critical(4000, None), pod("a/h", Tier::High, 1000, None)],
                "62 %",
            ),
            (
                4,
                2,
                vec![critical(1000, None)],
                "2 physical cores is never fenced",
            ),
            (
                4,
                1,
                vec![critical(4000, None)],
                "one must stay for the rest",
            ),
            (
                8,
                1,
                vec![critical(500, None)],
                "a/c asks for 0.5 CPU, less than one",
            ),
            (8, 1, vec![critical(0, None)], "a/c asks for no CPU"),
            (
                8,
                1,
                vec![critical(2000, Some(4000))],
                "may use 4 CPUs by its limit, and the fence has 2",
            ),
            (
                8,
                1,
                vec![critical(4000, None), pod("a/n", Tier::Normal, 5000, None)],
                "the fence leaves 4",
            ),
            (
                8,
                1,
                vec![pod("a/n", Tier::Normal, 9000, None)],
                "the node has 8",
            ),
        ] {
            let sizing = size(cpus, threads, &pods);
            assert!(warned(&sizing, words), "{words}: {:?}", sizing.warnings);
            // All of four cores is above the share for protected tiers, too.
            let count = if cpus == 4 && threads == 1 { 2 } else { 1 };
            assert_eq!(sizing.warnings.len(), count, "{:?}", sizing.warnings);
        }
        let config = Config {
            fence: Fence::Cores(3),
            ..Config::default()
        };
        let pods = [critical(1000, Some(2000))];
        let sizing = Sizing::new(&Topology::uniform(8, 1), &config, &pods);
        assert!(warned(&sizing, "can only be lent"), "{:?}", sizing.warnings);
    }

    #[test]
    fn an_untouched_cluster_is_fenced_nowhere_and_not_scolded() {
        let pods = [
            pod("a/n", Tier::Normal, 1000, None),
            pod("a/b", Tier::Background, 0, None),
        ];
        for cpus in [1, 2, 4, 64] {
            let sizing = size(cpus, 1, &pods);
            assert!(sizing.plan.fence.is_empty());
            assert_eq!(sizing.warnings, [""; 0]);
        }
    }

    proptest! {
        #[test]
        fn the_fence_holds_what_critical_asks_for_or_there_is_a_warning(
            cores in 1usize..40, threads in 1usize..3, asked in proptest::collection::vec(0u64..9000, 0..6)
        ) {
            let pods: Vec<PodSize> = asked.iter().map(|m| pod("a/c", Tier::Critical, *m, None)).collect();
            let sizing = size(cores * threads, threads, &pods);
            let total: u64 = asked.iter().sum();
            let holds = 1000 * sizing.plan.fence.len() as u64 >= total;
            prop_assert!(holds || !sizing.warnings.is_empty());
            prop_assert!(sizing.plan.fence.len() < cores * threads);
        }
    }
}
