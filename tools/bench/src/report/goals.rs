//! What the project wants of itself, held against what was measured.

use super::{arms, cell, distinct, figure};
use crate::record::Record;
use std::fmt::Write as _;

/// A goal in one place: what, the figure, its bound.
struct Goal {
    what: String,
    figure: f64,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

impl Goal {
    fn met(&self) -> bool {
        self.at_most.is_none_or(|bound| self.figure <= bound)
            && self.at_least.is_none_or(|bound| self.figure >= bound)
    }
}

/// Medians over the seeds.
struct Medians<'a>(&'a [Record]);

impl Medians<'_> {
    fn of(&self, scenario: &str, rung: u32, arm: &str, work: &str, key: &str) -> Option<f64> {
        let cell = cell(self.0, scenario, rung, arm);
        figure(&cell, work, key).map(|spread| spread.median)
    }

    /// Ours as a multiple of theirs.
    fn ratio(&self, at: (&str, u32, &str, &str), ours: &str, theirs: &str) -> Option<f64> {
        let (scenario, rung, work, key) = at;
        let one = self.of(scenario, rung, ours, work, key)?;
        Some(one / self.of(scenario, rung, theirs, work, key)?)
    }

    fn rungs(&self, scenario: &str) -> Vec<u32> {
        let here = self.0.iter().filter(|one| one.scenario == scenario);
        distinct(here.map(|one| one.rung))
    }
}

/// A line for each goal of each policy, as far as the records tell: `met` or `MISSED`.
#[must_use]
pub fn goals(records: &[Record]) -> String {
    let medians = Medians(records);
    let mut text = String::new();
    for arm in arms(records)
        .iter()
        .filter(|arm| arm.starts_with("infera:"))
    {
        for goal in of(&medians, arm) {
            let bound = match (goal.at_most, goal.at_least) {
                (Some(bound), _) => format!("<= {bound}"),
                (_, Some(bound)) => format!(">= {bound}"),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "{:<78}{:>9.3} {bound:>9}  {}",
                format!("{arm} {}", goal.what),
                goal.figure,
                if goal.met() { "met" } else { "MISSED" }
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

fn of(medians: &Medians, arm: &str) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut want =
        |what: String, figure: Option<f64>, at_most: Option<f64>, at_least: Option<f64>| {
            if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
                goals.push(Goal {
                    what,
                    figure,
                    at_most,
                    at_least,
                });
            }
        };
    for scenario in ["lone-sleeper", "burst"] {
        for rung in medians.rungs(scenario) {
            for (peer, bound) in [("eevdf-idle", 1.05), ("scx_layered", 1.0)] {
                let p99 = medians.ratio((scenario, rung, "service", "p99_us"), arm, peer);
                want(
                    format!("{scenario}/{rung}: Critical p99 / {peer}"),
                    p99,
                    Some(bound),
                    None,
                );
            }
            let work = medians.ratio((scenario, rung, "batch", "units_per_s"), arm, "scx_layered");
            want(
                format!("{scenario}/{rung}: batch work / scx_layered"),
                work,
                None,
                Some(1.0),
            );
        }
    }
    let scenario = "high-beside-normal";
    let p99 = |rung: u32, arm: &str| medians.of(scenario, rung, arm, "service", "p99_us");
    for rung in medians.rungs(scenario).into_iter().filter(|rung| *rung > 0) {
        let idle = p99(0, arm).and_then(|idle| Some(p99(rung, arm)? / idle));
        want(
            format!("{scenario}/{rung}: High p99 / idle node"),
            idle,
            Some(1.15),
            None,
        );
        let excess = |arm: &str| Some(p99(rung, arm)? - p99(0, arm)?);
        let share = excess(arm)
            .zip(excess("eevdf"))
            .map(|(ours, theirs)| ours / theirs);
        want(
            format!("{scenario}/{rung}: excess over the idle node / eevdf's"),
            share,
            Some(0.2),
            None,
        );
    }
    let tiers = ["critical", "high", "normal", "low", "background"];
    for rung in medians.rungs("five-tiers") {
        for pair in tiers.windows(2) {
            let of = |tier: &str| medians.of("five-tiers", rung, arm, tier, "p99_us");
            let ratio = of(pair[0])
                .zip(of(pair[1]))
                .map(|(better, worse)| better / worse);
            want(
                format!("five-tiers/{rung}: p99 of {} / {}", pair[0], pair[1]),
                ratio,
                Some(1.0),
                None,
            );
        }
    }
    for rung in medians.rungs("batch-alone") {
        let work = medians.ratio(("batch-alone", rung, "batch", "units_per_s"), arm, "eevdf");
        want(
            format!("batch-alone/{rung}: work / eevdf"),
            work,
            None,
            Some(0.97),
        );
    }
    for scenario in ["hackbench", "hackbench-pipes"] {
        let time = medians.ratio((scenario, 0, "groups", "seconds"), arm, "eevdf");
        want(format!("{scenario}: time / eevdf"), time, Some(1.0), None);
    }
    let rounds = medians.ratio(("pingpong", 0, "pair", "rounds"), arm, "eevdf");
    want("pingpong: rounds / eevdf".into(), rounds, None, Some(1.0));
    let idle = cell(medians.0, "thousand-idle", 0, arm);
    let spent = idle
        .iter()
        .map(|one| one.scheduler_cpu_s / one.seconds * 100.0);
    let spent = spent.reduce(f64::max);
    want(
        "thousand-idle: the scheduler's process, % of a CPU".into(),
        spent,
        Some(0.5),
        None,
    );
    goals
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;

    #[test]
    fn goals_are_told_as_far_as_records_go() {
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
}
