//! The plan for any configuration on any topology: whole cores are fenced, one core stays, and
//! no CPU and no tier is without the other.
//!
//! The input is four parts between lines of three dashes: the list of online CPUs, the lists of
//! those that share a core with CPU 0, 1 ..., the same for LLCs, and the configuration.
#![no_main]

use infera_plan::{Config, Plan, TierMask, Topology, bit};
use infera_policy::Tier;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let mut parts = text.split("---\n");
    let mut part = || parts.next().unwrap_or_default();
    let online = part();
    let [siblings, sharing] = [part(), part()].map(|lists| lists.lines().collect::<Vec<_>>());
    let list = |lists: &[&str], cpu: usize| lists.get(cpu).map(|list| (*list).to_owned());
    let topology = Topology::parse(
        online,
        |cpu| list(&siblings, cpu),
        |cpu| list(&sharing, cpu),
    );
    let config = Config::parse(Path::new("infera.toml"), part());
    if let (Ok(topology), Ok(config)) = (topology, config) {
        check_topology(&topology, online);
        check_plan(&Plan::new(&topology, &config), &topology, &config);
    }
});

/// Every online CPU is in one core and in one LLC.
fn check_topology(topology: &Topology, online: &str) {
    let online = infera_plan::parse_cpu_list(online).unwrap();
    assert!(!online.is_empty());
    assert_eq!(topology.cpus(), online);
    for groups in [&topology.cores, &topology.llcs] {
        assert!(groups.iter().all(|group| !group.is_empty()));
        assert_eq!(
            groups.iter().map(|group| group.len()).sum::<usize>(),
            online.len()
        );
        assert!(groups.iter().flatten().all(|cpu| online.contains(cpu)));
    }
}

fn check_plan(plan: &Plan, topology: &Topology, config: &Config) {
    let planned = plan.cpus.iter().map(|cpu| cpu.cpu);
    assert!(planned.eq(topology.cpus()));
    let whole = topology
        .cores
        .iter()
        .filter(|core| core.is_subset(&plan.fence));
    let fenced = whole.flatten().copied().collect();
    assert_eq!(plan.fence, fenced, "only whole cores");
    let free = |core: &&_| plan.fence.is_disjoint(core);
    assert!(
        topology.cores.iter().any(|core| free(&core)),
        "one core stays"
    );
    assert!(
        !plan.fence.is_empty() || !plan.reasons.is_empty(),
        "no fence, no reason"
    );
    for sentence in &plan.reasons {
        assert!(!sentence.contains(char::is_control));
    }

    let all = Tier::ALL
        .iter()
        .fold(0, |mask: TierMask, tier| mask | bit(*tier));
    for cpu in &plan.cpus {
        assert_ne!(
            cpu.home & bit(Tier::System),
            0,
            "the system tier runs everywhere"
        );
        assert_eq!(cpu.home & cpu.loan, 0, "home and loan are disjoint");
        assert_eq!(
            (cpu.home | cpu.loan) & !all,
            0,
            "no tier that does not exist"
        );
        assert!(config.loans || cpu.loan == 0);
    }
    let homes = plan.cpus.iter().fold(0, |mask, cpu| mask | cpu.home);
    assert_eq!(homes, all, "every tier has a home");
    assert!(plan.to_string().starts_with("plan: "));
}
