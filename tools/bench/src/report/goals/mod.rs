//! What the project wants of itself, held against what was measured.
//!
//! Called for every report; sees records only. A file for each kind of goal: between [`tiers`], in the
//! [`same_tier`], and [`throughput`]. A scenario that was not run has no goals in a report.

mod list;
mod same_tier;
mod throughput;
mod tiers;

use super::{arms, distinct};
use crate::record::Record;
use list::{Goals, Medians};
use std::fmt::Write as _;

/// A line for each goal of each policy that the records have figures for: `met`, `MISSED`, or where less than one
/// rotation of QEMU decides, `within one rotation`.
#[must_use]
pub fn goals(records: &[Record]) -> String {
    let mut text = String::new();
    for arm in arms(records)
        .iter()
        .filter(|arm| arm.starts_with("infera:"))
    {
        for goal in of(records, arm) {
            let _ = writeln!(
                text,
                "{:<78}{:>9.3} {:>9}  {}",
                format!("{arm} {}", goal.what),
                goal.figure,
                goal.bound.to_string(),
                goal.verdict()
            );
        }
    }
    match text.is_empty() {
        true => text,
        false => format!(
            "\ngoals (medians over seeds; they are meant for exact time and HZ=1000)\n{text}"
        ),
    }
}

fn of(records: &[Record], arm: &str) -> Vec<list::Goal> {
    let medians = Medians::new(records, arm);
    let mut goals = Goals::default();
    failures(records, arm, &mut goals);
    tiers::add(&medians, &mut goals);
    same_tier::add(&medians, &mut goals);
    throughput::add(&medians, &mut goals);
    goals.all()
}

/// A load that failed has no figures, so that its goals are absent: this one is there instead.
fn failures(records: &[Record], arm: &str, goals: &mut Goals) {
    let ours = || records.iter().filter(|record| record.arm == arm);
    for scenario in distinct(ours().map(|record| record.scenario.clone())) {
        let here = ours().filter(|record| record.scenario == scenario);
        let failed = here.filter(|record| record.failures().next().is_some());
        let failed = failed.count();
        if failed > 0 {
            let what = format!("{scenario}: windows in which a load failed");
            goals.at_most(what, Some(failed as f64), 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;

    #[test]
    fn goals_are_listed_as_far_as_records_go() {
        let mut records = records();
        for record in &mut records {
            if record.arm == "eevdf" {
                record.arm = "eevdf-idle".into();
            }
        }
        let text = goals(&records);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines.iter().all(|line| line.ends_with("met")), "{text}");
        assert!(goals(&[]).is_empty());
    }

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let mut records = records();
        for record in &mut records {
            record.scenario = "batch-alone".into();
            for work in &mut record.work {
                if let (Some(units), true) =
                    (work.values.get_mut("units_per_s"), record.arm != "eevdf")
                {
                    *units = 90.0;
                }
            }
        }
        assert!(goals(&records).contains("MISSED"), "{}", goals(&records));
    }

    #[test]
    fn a_load_that_failed_is_a_missed_goal() {
        let mut records = records();
        let ours = records
            .iter_mut()
            .filter(|record| record.arm != "eevdf" && record.rung == 16);
        for record in ours {
            record.work[0].failed = Some("no event was measured".into());
            record.work[0].values.clear();
        }
        insta::assert_snapshot!(goals(&records).trim(), @r"
        goals (medians over seeds; they are meant for exact time and HZ=1000)
        infera:weighted lone-sleeper: windows in which a load failed                      3.000      <= 0  MISSED
        ");
    }
}
