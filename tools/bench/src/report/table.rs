//! For a terminal.

use super::marks::marks;
use super::{arms, cell, distinct, figure, headline, workloads};
use crate::record::{Record, Work};
use std::fmt::Write as _;

/// A table for each rung of each scenario.
#[must_use]
pub fn table(records: &[Record]) -> String {
    let mut text = String::new();
    for scenario in distinct(records.iter().map(|record| record.scenario.clone())) {
        let here: Vec<&Record> = records
            .iter()
            .filter(|one| one.scenario == scenario)
            .collect();
        for rung in distinct(here.iter().map(|record| record.rung)) {
            // The record of an arm that did not attach holds nothing but the reason.
            let attached = |record: &&&Record| record.rung == rung && record.refused.is_none();
            let first = here.iter().find(attached).or_else(|| here.first());
            let Some(first) = first else { continue };
            let seeds = distinct(here.iter().map(|record| record.seed)).len();
            let _ = writeln!(
                text,
                "\n{scenario}, {rung} threads of background ({}, {} CPUs, seeds: {seeds}, {:.0} s each)",
                first.kernel, first.cpus, first.seconds
            );
            let of_rung = here.iter().copied().filter(|record| record.rung == rung);
            let of_rung: Vec<&Record> = of_rung.collect();
            let columns = workloads(&of_rung).into_iter();
            let columns: Vec<&Work> = columns.filter(|work| headline(work).is_some()).collect();
            let _ = write!(text, "{:<18}", "");
            for work in &columns {
                let unit = match headline(work) {
                    Some(("p99_us", _)) => "p50/p99/p99.9 us",
                    Some((key, _)) => key,
                    None => "",
                };
                let _ = write!(text, "{:>28}", format!("{} {unit}", work.name));
            }
            let _ = writeln!(text, "{:>12}", "scheduler");
            for arm in arms(records) {
                let cell = cell(records, &scenario, rung, &arm);
                if cell.is_empty() {
                    continue;
                }
                let _ = write!(text, "{arm:<18}");
                for work in &columns {
                    let _ = write!(text, "{:>28}", shown(&cell, work));
                }
                let measured = cell.iter().filter(|one| one.refused.is_none());
                let spent: Vec<f64> = measured
                    .map(|one| one.scheduler_cpu_s / one.seconds * 100.0)
                    .collect();
                let spent = match spent.len() {
                    0 => "-".to_owned(),
                    n => format!("{:.2} %", spent.iter().sum::<f64>() / n as f64),
                };
                let _ = writeln!(text, "{spent:>12}  {}", marks(&cell));
            }
        }
    }
    text
}

/// The range of n values that are independent holds the median of all with probability 1 - 2^(1-n).
fn confidence(records: &[Record]) -> String {
    match distinct(records.iter().map(|record| record.seed)).len() {
        0 | 1 => String::new(),
        n => format!(", {:.0} %", (1.0 - 0.5_f64.powi(n as i32 - 1)) * 100.0),
    }
}

fn shown(cell: &[&Record], work: &Work) -> String {
    let median = |key: &str| figure(cell, &work.name, key).map(|spread| spread.median);
    match headline(work) {
        Some(("p99_us", _)) => ["p50_us", "p99_us", "p999_us"]
            .map(|key| median(key).map_or("-".to_owned(), |us| format!("{us:.0}")))
            .join(" / "),
        Some((key, _)) => match figure(cell, &work.name, key) {
            Some(spread) if key == "seconds" => format!("{:.3}", spread.median),
            Some(spread) => format!("{:.0}", spread.median),
            None => "-".into(),
        },
        None => String::new(),
    }
}

/// Each policy of ours against each peer: the median and the range, over the seeds, of the ratios.
#[must_use]
pub fn ratios(records: &[Record]) -> String {
    let all = arms(records);
    let (ours, peers): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|arm| arm.starts_with("infera:"));
    let heads: Vec<String> = peers.iter().map(|peer| format!("{peer:>22}")).collect();
    let mut text = format!(
        "\n{:<52}{}\n",
        format!(
            "ours / theirs, median (range) over seeds{}",
            confidence(records)
        ),
        heads.join("")
    );
    for scenario in distinct(records.iter().map(|record| record.scenario.clone())) {
        let here = records.iter().filter(|one| one.scenario == scenario);
        for rung in distinct(here.map(|record| record.rung)) {
            for arm in &ours {
                let mine = cell(records, &scenario, rung, arm);
                for work in workloads(&mine) {
                    let Some((key, less)) = headline(work) else {
                        continue;
                    };
                    let against = peers.iter().map(|peer| {
                        let theirs = cell(records, &scenario, rung, peer);
                        let pairs = mine.iter().filter_map(|one| {
                            let other = theirs.iter().find(|other| other.seed == one.seed)?;
                            let of = |record: &Record| {
                                let work = record.work.iter().find(|other| other.name == work.name);
                                work.and_then(|work| work.values.get(key).copied())
                            };
                            Some(of(one)? / of(other)?)
                        });
                        match crate::statistics::spread(&pairs.collect::<Vec<f64>>()) {
                            Some(s) if s.median.is_finite() => {
                                format!("{:.3} ({:.2}-{:.2})", s.median, s.least, s.most)
                            }
                            _ => "-".into(),
                        }
                    });
                    let against: Vec<String> = against.map(|text| format!("{text:>22}")).collect();
                    let better = if less {
                        "less is better"
                    } else {
                        "more is better"
                    };
                    let _ = writeln!(
                        text,
                        "{:<52}{}   {better}",
                        format!("{scenario}/{rung} {arm} {} {key}", work.name),
                        against.join("")
                    );
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;

    #[test]
    fn arms_are_rows_and_workloads_columns() {
        let text = table(&records());
        assert!(
            text.contains(
                "lone-sleeper, 16 threads of background (6.12.117, 4 CPUs, seeds: 3, 4 s each)"
            ),
            "{text}"
        );
        assert!(text.contains("10 / 108 / 180"), "{text}");
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("eevdf"))
            .collect();
        assert_eq!(rows.len(), 2, "{text}");
    }

    #[test]
    fn who_was_ejected_is_marked() {
        let mut records = records();
        records[0].ejected = true;
        records[0].stock_s = 1.5;
        assert!(table(&records).contains("EJECTED in 1 of 3, 1.5 s on the stock scheduler"));
    }

    #[test]
    fn who_did_not_attach_is_marked() {
        let mut records = records();
        for record in records.iter_mut().filter(|one| one.arm == "eevdf") {
            *record = Record {
                scenario: record.scenario.clone(),
                arm: record.arm.clone(),
                rung: record.rung,
                seed: record.seed,
                refused: Some("no BTF\nand more".into()),
                ..Record::default()
            };
        }
        let text = table(&records);
        assert!(
            text.contains("DID NOT ATTACH in 3 of 3: no BTF\n"),
            "{text}"
        );
        assert!(ratios(&records).contains("-   less is better"));
    }

    #[test]
    fn a_column_stays_where_the_first_arm_failed() {
        let mut records = records();
        for record in records.iter_mut().filter(|one| one.arm != "eevdf") {
            record.work[0].values.clear();
            record.work[0].failed = Some("no event was measured".into());
        }
        let text = table(&records);
        assert!(text.contains("service p50/p99/p99.9 us"), "{text}");
        assert!(text.contains("service FAILED in 3 of 3"), "{text}");
        assert!(text.contains("10 / 318 / 600"), "{text}");
    }

    #[test]
    fn ratios_are_of_the_same_seed() {
        let text = ratios(&records());
        assert!(
            text.contains("lone-sleeper/16 infera:weighted batch units_per_s"),
            "{text}"
        );
        assert!(text.contains("0.980 (0.98-0.98)"), "{text}");
    }
}
