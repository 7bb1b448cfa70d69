//! Goals between tiers: what Critical and High are worth beside the tiers below.

use super::list::{Goals, Medians, Place};

/// Best first.
const TIERS: [&str; 5] = ["critical", "high", "normal", "low", "background"];

pub fn add(medians: &Medians, goals: &mut Goals) {
    for scenario in ["lone-sleeper", "burst"] {
        for rung in medians.rungs(scenario) {
            critical(medians, goals, scenario, rung);
        }
    }
    let rungs = medians.rungs("high-beside-normal").into_iter();
    for rung in rungs.filter(|rung| *rung > 0) {
        high(medians, goals, rung);
    }
    for rung in medians.rungs("five-tiers") {
        five(medians, goals, rung);
    }
}

fn critical(medians: &Medians, goals: &mut Goals, scenario: &str, rung: u32) {
    let at = |work, key| Place {
        scenario,
        rung,
        work,
        key,
    };
    for (peer, bound) in [("eevdf-idle", 1.05), ("scx_layered", 1.0)] {
        let p99 = medians.ratio(at("service", "p99_us"), peer);
        let what = format!("{scenario}/{rung}: Critical p99 / {peer}");
        goals.at_most(what, p99, bound);
    }
    let work = medians.ratio(at("batch", "units_per_s"), "scx_layered");
    let what = format!("{scenario}/{rung}: batch work / scx_layered");
    goals.at_least(what, work, 1.0);
}

fn high(medians: &Medians, goals: &mut Goals, rung: u32) {
    let scenario = "high-beside-normal";
    let at = |rung| Place {
        scenario,
        rung,
        work: "service",
        key: "p99_us",
    };
    let (busy, idle) = (medians.ours(at(rung)), medians.ours(at(0)));
    let ratio = busy.zip(idle).map(|(busy, idle)| busy / idle);
    let what = format!("{scenario}/{rung}: High p99 / idle node");
    goals.at_most(what, ratio, 1.15);
    let excess = |busy: Option<f64>, idle: Option<f64>| Some(busy? - idle?);
    let theirs = |rung| medians.of(at(rung), "eevdf");
    let share = excess(busy, idle)
        .zip(excess(theirs(rung), theirs(0)))
        .map(|(ours, theirs)| ours / theirs);
    let what = format!("{scenario}/{rung}: excess over the idle node / eevdf's");
    goals.at_most(what, share, 0.2);
}

fn five(medians: &Medians, goals: &mut Goals, rung: u32) {
    let at = |tier| Place {
        scenario: "five-tiers",
        rung,
        work: tier,
        key: "p99_us",
    };
    for pair in TIERS.windows(2) {
        let what = format!("five-tiers/{rung}: p99 of {} / {}", pair[0], pair[1]);
        goals.order(medians, what, at(pair[0]), at(pair[1]));
    }
    for tier in TIERS {
        goals.latency(medians, at(tier), "eevdf", 1.0);
    }
}
