//! Two runs: what has changed from one revision to another.

use super::{cell, distinct, headline, values, workloads};
use crate::record::Record;
use crate::statistics::{permutation, spread};
use std::fmt::Write as _;

/// Below this, chance is not a good explanation.
const DOUBT: f64 = 0.05;

/// A line for each workload of each arm that both runs have: medians, ratio, and how probable it is by
/// chance alone (exact permutation test of the logarithms).
#[must_use]
pub fn compare(old: &[Record], new: &[Record]) -> String {
    let mut text = format!(
        "\n{:<56}{:>12}{:>12}{:>9}{:>9}\n",
        "", "before", "now", "ratio", "p"
    );
    let cells = distinct(
        new.iter()
            .map(|one| (one.scenario.clone(), one.rung, one.arm.clone())),
    );
    for (scenario, rung, arm) in cells {
        let (before, now) = (
            cell(old, &scenario, rung, &arm),
            cell(new, &scenario, rung, &arm),
        );
        for work in workloads(&now) {
            let Some((key, less)) = headline(work) else {
                continue;
            };
            let (a, b) = (
                values(&before, &work.name, key),
                values(&now, &work.name, key),
            );
            let (Some(was), Some(is)) = (spread(&a), spread(&b)) else {
                continue;
            };
            let logs = |sample: &[f64]| {
                sample
                    .iter()
                    .map(|value| value.max(1e-9).ln())
                    .collect::<Vec<_>>()
            };
            let chance = permutation(&logs(&a), &logs(&b));
            let ratio = is.median / was.median;
            let verdict = match chance {
                Some(p) if p <= DOUBT && (ratio < 1.0) == less => "better",
                Some(p) if p <= DOUBT => "WORSE",
                _ => "",
            };
            let _ = writeln!(
                text,
                "{:<56}{:>12.1}{:>12.1}{ratio:>9.3}{:>9}  {verdict}",
                format!("{scenario}/{rung} {arm} {} {key}", work.name),
                was.median,
                is.median,
                chance.map_or("-".to_owned(), |p| format!("{p:.3}"))
            );
        }
    }
    text += "p: by chance alone; with three seeds each it cannot be below 0.1, with four 0.03\n";
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;

    #[test]
    fn a_run_is_like_itself() {
        let text = compare(&records(), &records());
        assert!(text.contains("1.000    1.000"), "{text}");
        assert!(
            !text.contains("WORSE") && !text.contains("better"),
            "{text}"
        );
    }

    #[test]
    fn what_has_become_worse_is_said() {
        // Three seeds each cannot give a p of at most 0.05: a fourth.
        let fourth = records().into_iter().filter(|record| record.seed == 1);
        let fourth = fourth.map(|record| Record { seed: 4, ..record });
        let old: Vec<Record> = records().into_iter().chain(fourth).collect();
        let mut new = old.clone();
        for record in &mut new {
            if let Some(p99) = record.work[0].values.get_mut("p99_us") {
                *p99 *= 2.0;
            }
        }
        let text = compare(&old, &new);
        assert!(text.contains("WORSE"), "{text}");
    }
}
