//! Reports: from records, and from nothing else.

mod args;
mod compare;
mod goals;
mod html;
mod marks;
mod table;

pub use args::ReportArgs;
pub use compare::compare;
pub use goals::goals;
pub use html::html;
pub use table::{ratios, table};

use crate::record::{Record, Work};
use crate::statistics::{Spread, spread};

/// What is worth most about a workload: its name, and whether less is better.
fn headline(work: &Work) -> Option<(&'static str, bool)> {
    [
        ("p99_us", true),
        ("seconds", true),
        ("units_per_s", false),
        ("rounds", false),
    ]
    .into_iter()
    .find(|(key, _)| work.values.contains_key(*key))
}

/// In the order in which they first occur.
fn distinct<T: PartialEq + Clone>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

/// Arms in one order whatever the seed: peers, then ours.
fn arms(records: &[Record]) -> Vec<String> {
    let mut arms = distinct(records.iter().map(|record| record.arm.clone()));
    let place = |arm: &String| {
        let peers = crate::arm::PEERS.iter();
        peers
            .map(|(name, _)| *name)
            .position(|name| name == arm)
            .unwrap_or(usize::MAX)
    };
    arms.sort_by(|a, b| place(a).cmp(&place(b)).then(a.cmp(b)));
    arms
}

/// Records of one arm on one rung of one scenario, a seed each.
fn cell<'a>(records: &'a [Record], scenario: &str, rung: u32, arm: &str) -> Vec<&'a Record> {
    let here =
        |record: &&Record| record.scenario == scenario && record.rung == rung && record.arm == arm;
    records.iter().filter(here).collect()
}

/// A figure of a workload, over the seeds.
fn figure(cell: &[&Record], work: &str, key: &str) -> Option<Spread> {
    spread(&values(cell, work, key))
}

fn values(cell: &[&Record], work: &str, key: &str) -> Vec<f64> {
    let works = cell
        .iter()
        .flat_map(|record| &record.work)
        .filter(|one| one.name == work);
    works
        .filter_map(|one| one.values.get(key).copied())
        .collect()
}

/// The workloads of these records, each as the first record has it that measured it: an arm under which a load
/// failed has no figures of it, and others do.
fn workloads<'a>(records: &[&'a Record]) -> Vec<&'a Work> {
    let works = || records.iter().flat_map(|record| &record.work);
    let names = distinct(works().map(|work| &work.name));
    let named = names.into_iter().filter_map(|name| {
        let here = || works().filter(|work| work.name == *name);
        here()
            .find(|work| headline(work).is_some())
            .or_else(|| here().next())
    });
    named.collect()
}

#[cfg(test)]
#[allow(missing_docs)]
mod testing {
    use super::*;

    /// A run of two arms, three seeds, one scenario.
    pub(super) fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for seed in 1..=3 {
            for (arm, p99, units) in [("infera:weighted", 90.0, 98.0), ("eevdf", 300.0, 100.0)] {
                for rung in [0, 16] {
                    let latency = Work {
                        name: "service".into(),
                        tier: "critical".into(),
                        load: "wake".into(),
                        values: [
                            ("p50_us".to_owned(), 10.0),
                            ("p99_us".to_owned(), p99 + seed as f64 + f64::from(rung)),
                            ("p999_us".to_owned(), 2.0 * p99),
                        ]
                        .into(),
                        cdf_us: vec![(0.5, 10.0), (0.9, 0.9 * p99), (0.99, p99)],
                        cpu_s: 0.1,
                        failed: None,
                    };
                    let batch = Work {
                        name: "batch".into(),
                        tier: "background".into(),
                        load: "hogs".into(),
                        values: [("units_per_s".to_owned(), units)].into(),
                        cpu_s: 3.5,
                        ..Work::default()
                    };
                    let mut work = vec![latency];
                    work.extend((rung > 0).then_some(batch));
                    records.push(Record {
                        scenario: "lone-sleeper".into(),
                        rung,
                        arm: arm.into(),
                        seed,
                        kernel: "6.12.117".into(),
                        cpus: 4,
                        attached: "x".into(),
                        seconds: 4.0,
                        scheduler_cpu_s: 0.02,
                        work,
                        shares: vec![crate::record::Share {
                            at_s: 0.2,
                            cpus: [("critical".to_owned(), 0.1), ("background".to_owned(), 3.5)]
                                .into(),
                        }],
                        ..Record::default()
                    });
                }
            }
        }
        records
    }
}
