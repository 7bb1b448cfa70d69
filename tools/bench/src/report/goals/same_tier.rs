//! Goals inside a tier: a node on which nothing is labelled gains from infera, and no tier loses.
//!
//! Everything is against the stock scheduler as Kubernetes sets it up, where equal pods have equal weights.

use super::list::{Goals, Medians, Place};
use crate::record::Record;

/// A scenario, and how much of EEVDF's p99 is wanted of it beside a crowd, where that is less than all.
const SCENARIOS: [(&str, Option<f64>); 10] = [
    ("untouched", None),
    ("untouched-burst", Some(0.5)),
    ("untouched-memcached", Some(0.3)),
    ("untouched-chain", Some(0.5)),
    ("untouched-kernel", Some(0.1)),
    ("neighbours-critical", None),
    ("neighbours-high", None),
    ("neighbours-normal", None),
    ("neighbours-low", None),
    ("neighbours-background", None),
];

/// In the parallel guest the host's scheduler is in each figure: a ratio up to this is noise.
const PARALLEL: f64 = 1.1;

pub fn add(medians: &Medians, goals: &mut Goals) {
    for (scenario, wanted) in SCENARIOS {
        for rung in medians.rungs(scenario) {
            latency(medians, goals, (scenario, rung), wanted);
            if rung > 0 {
                crowd(medians, goals, scenario, rung);
            }
        }
    }
}

fn latency(medians: &Medians, goals: &mut Goals, at: (&str, u32), wanted: Option<f64>) {
    let (scenario, rung) = at;
    let at = |key| Place {
        scenario,
        rung,
        work: "service",
        key,
    };
    for key in ["p50_us", "p99_us", "p999_us"] {
        let exact = medians.rotation_us(at(key)).is_some();
        goals.latency(
            medians,
            at(key),
            "eevdf",
            if exact { 1.0 } else { PARALLEL },
        );
    }
    let cell = medians.cell(scenario, rung);
    let possible = scenario != "untouched-kernel" || cell.iter().all(|one| preempts_lazily(one));
    if let Some(bound) = wanted.filter(|_| rung > 0 && possible) {
        let p99 = medians.ratio(at("p99_us"), "eevdf");
        let what = format!("{scenario}/{rung}: service p99 / eevdf, beyond parity");
        goals.at_most(what, p99, bound);
    }
}

fn crowd(medians: &Medians, goals: &mut Goals, scenario: &str, rung: u32) {
    let at = |key| Place {
        scenario,
        rung,
        work: "crowd",
        key,
    };
    let work = medians.ratio(at("units_per_s"), "eevdf");
    let what = format!("{scenario}/{rung}: the crowd's work / eevdf");
    goals.at_least(what, work, 0.98);
}

/// Whether this kernel's stock scheduler lets what runs inside of the kernel go on until the next tick. From
/// 7.0 on it has no other mode but full preemption, and distributions build it so.
fn preempts_lazily(record: &Record) -> bool {
    let major = record.kernel.split('.').next();
    major.is_some_and(|major| major.parse().is_ok_and(|major: u32| major >= 7))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::records;
    use super::super::goals;
    use super::*;

    /// The records of a test as if they were of `scenario`, with what ours is to have.
    fn changed(scenario: &str, change: impl Fn(&mut Record)) -> String {
        let mut records = records();
        for record in &mut records {
            record.scenario = scenario.into();
            for work in &mut record.work {
                if work.name == "batch" {
                    work.name = "crowd".into();
                }
            }
            record.rotation_us = Some(50);
            change(record);
        }
        goals(&records)
    }

    fn set(record: &mut Record, work: usize, key: &str, value: f64) {
        if let Some(work) = record.work.get_mut(work) {
            work.values.insert(key.into(), value);
        }
    }

    #[test]
    fn each_percentile_is_held_against_eevdf() {
        let text = changed("untouched-memcached", |_| ());
        insta::assert_snapshot!(text.trim(), @r"
        goals (medians over seeds; they are meant for exact time and HZ=1000)
        infera:weighted untouched-memcached/0: service p50 / eevdf                        1.000      <= 1  met
        infera:weighted untouched-memcached/0: service p99 / eevdf                        0.305      <= 1  met
        infera:weighted untouched-memcached/0: service p99.9 / eevdf                      0.300      <= 1  met
        infera:weighted untouched-memcached/16: service p50 / eevdf                       1.000      <= 1  met
        infera:weighted untouched-memcached/16: service p99 / eevdf                       0.340      <= 1  met
        infera:weighted untouched-memcached/16: service p99.9 / eevdf                     0.300      <= 1  met
        infera:weighted untouched-memcached/16: service p99 / eevdf, beyond parity        0.340    <= 0.3  MISSED
        infera:weighted untouched-memcached/16: the crowd's work / eevdf                  0.980   >= 0.98  met
        ");
    }

    #[test]
    fn less_than_a_rotation_is_said_with_its_figure() {
        let above = |us: f64| {
            changed("untouched", |record| {
                let ours = record.arm != "eevdf";
                set(record, 0, "p99_us", if ours { 80.0 + us } else { 80.0 });
            })
        };
        assert!(above(12.0).contains("within one rotation (50 us): +12 us"));
        assert!(above(50.0).contains("MISSED"));
    }

    #[test]
    fn in_parallel_time_the_bound_is_wider_and_there_is_no_rotation() {
        let above = |factor: f64| {
            changed("untouched", |record| {
                record.rotation_us = None;
                let ours = record.arm != "eevdf";
                set(record, 0, "p50_us", if ours { 10.0 * factor } else { 10.0 });
            })
        };
        assert!(!above(1.09).contains("MISSED"), "{}", above(1.09));
        assert!(above(1.11).contains("MISSED"));
    }

    #[test]
    fn kernel_work_is_wanted_shorter_only_where_stock_preempts_lazily() {
        let on = |kernel: &str| changed("untouched-kernel", |record| record.kernel = kernel.into());
        assert!(!on("6.12.117").contains("beyond parity"));
        assert!(on("7.2-amd64").contains("beyond parity"));
    }
}
