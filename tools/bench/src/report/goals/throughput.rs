//! Goals for work done, and for what the scheduler's own process takes.

use super::list::{Goals, Medians, Place};

pub fn add(medians: &Medians, goals: &mut Goals) {
    let against_eevdf = |scenario, rung, work, key| {
        let at = Place {
            scenario,
            rung,
            work,
            key,
        };
        medians.ratio(at, "eevdf")
    };
    for rung in medians.rungs("batch-alone") {
        let work = against_eevdf("batch-alone", rung, "batch", "units_per_s");
        goals.at_least(format!("batch-alone/{rung}: work / eevdf"), work, 0.97);
    }
    for scenario in ["hackbench", "hackbench-pipes"] {
        let time = against_eevdf(scenario, 0, "groups", "seconds");
        goals.at_most(format!("{scenario}: time / eevdf"), time, 1.0);
    }
    let rounds = against_eevdf("pingpong", 0, "pair", "rounds");
    goals.at_least("pingpong: rounds / eevdf".into(), rounds, 1.0);
    for (scenario, most) in [("thousand-idle", 0.5), ("many-wakeups", 3.0)] {
        for rung in medians.rungs(scenario) {
            let cell = medians.cell(scenario, rung);
            let spent = cell
                .iter()
                .map(|one| one.scheduler_cpu_s / one.seconds * 100.0);
            let what = format!("{scenario}/{rung}: the scheduler's process, % of a CPU");
            goals.at_most(what, spent.reduce(f64::max), most);
        }
    }
}
