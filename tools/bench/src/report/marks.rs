//! What a reader has to know of a cell before its figures: what failed, and what is missing in them.

use super::distinct;
use crate::record::Record;

/// Of a load's events, the share that may be missing before it is said.
const LOST: f64 = 0.01;

/// What must be said of a cell whatever its figures are.
pub fn marks(cell: &[&Record]) -> String {
    let mut marks = Vec::new();
    let refused: Vec<&str> = cell
        .iter()
        .filter_map(|record| record.refused.as_deref())
        .collect();
    if let Some(first) = refused.first() {
        let line = first.lines().next().unwrap_or_default();
        marks.push(format!(
            "DID NOT ATTACH in {} of {}: {line}",
            refused.len(),
            cell.len()
        ));
    }
    let ejected = cell.iter().filter(|record| record.ejected).count();
    if ejected > 0 {
        marks.push(format!("EJECTED in {ejected} of {}", cell.len()));
    }
    let away: f64 = cell.iter().map(|record| record.stock_s).sum();
    if away > 0.0 {
        marks.push(format!("{away:.1} s on the stock scheduler"));
    }
    marks.extend(failures(cell));
    marks.extend(losses(cell));
    if cell.iter().any(|record| record.unlimited) {
        marks.push("cpu.max NOT ENFORCED".to_owned());
    }
    let decisions: u64 = cell.iter().map(|record| record.decisions).sum();
    let seconds: f64 = cell.iter().map(|record| record.seconds).sum();
    // Of a few, what the process does besides would be taken for their cost.
    if decisions as f64 > 10.0 * seconds {
        let spent: f64 = cell.iter().map(|record| record.scheduler_cpu_s).sum();
        marks.push(format!(
            "{:.0} decisions/s, {:.1} us each",
            decisions as f64 / seconds,
            spent / decisions as f64 * 1e6
        ));
    }
    let throttled: u64 = cell.iter().map(|record| record.throttled).sum();
    if throttled > 0 {
        marks.push(format!("throttled {throttled} times"));
    }
    marks.join(", ")
}

/// The loads that failed, with the first reason.
fn failures(cell: &[&Record]) -> Vec<String> {
    let all: Vec<(&str, &str)> = cell.iter().flat_map(|record| record.failures()).collect();
    let names = distinct(all.iter().map(|(name, _)| *name));
    let mark = names.into_iter().map(|name| {
        let of = || all.iter().filter(|(other, _)| *other == name);
        let reason = of().next().map_or("", |(_, reason)| reason);
        let line = reason.lines().next().unwrap_or_default();
        format!(
            "{name} FAILED in {} of {}: {line}",
            of().count(),
            cell.len()
        )
    });
    mark.collect()
}

/// The loads whose percentiles leave out many events: a request that got no answer has no latency.
fn losses(cell: &[&Record]) -> Vec<String> {
    let works = || cell.iter().flat_map(|record| &record.work);
    let names = distinct(works().map(|work| &work.name));
    let mark = names.into_iter().filter_map(|name| {
        let sum = |keys: &[&str]| -> f64 {
            let here = works().filter(|work| work.name == *name);
            here.flat_map(|work| keys.iter().filter_map(|key| work.values.get(*key)))
                .sum()
        };
        let (made, lost) = (sum(&["count"]), sum(&["missed", "errors", "unsent"]));
        let share = lost / (made + lost);
        (share > LOST).then(|| format!("{name}: {:.0} % of its events NOT MEASURED", share * 100.0))
    });
    mark.collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::records;
    use super::*;
    use crate::record::Work;

    fn marked(change: impl Fn(&mut Work)) -> String {
        let mut records = records();
        records.retain(|record| record.arm == "eevdf" && record.rung == 16);
        change(&mut records[0].work[0]);
        marks(&records.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_load_that_failed_is_marked_with_its_reason() {
        let text = marked(|work| work.failed = Some("exit status: 1: timed out\nmore".into()));
        assert_eq!(text, "service FAILED in 1 of 3: exit status: 1: timed out");
    }

    #[test]
    fn events_that_were_not_measured_are_marked_where_they_are_many() {
        let lost = |unsent: f64| {
            marked(|work| {
                work.values.insert("count".into(), 300.0);
                work.values.insert("unsent".into(), unsent);
            })
        };
        assert_eq!(lost(100.0), "service: 25 % of its events NOT MEASURED");
        assert_eq!(lost(1.0), "");
    }
}
