//! scx_layered, set up with a layer for each tier.

use crate::machine::GROUP;
use crate::scenario::Scenario;
use anyhow::Result;
use infera_policy::Tier;
use serde_json::{Value, json};

/// Weight and slice as our own configuration has them by default.
const LAYERS: [(Tier, u64, u64); 5] = [
    (Tier::Critical, 3000, 5_000),
    (Tier::High, 1000, 10_000),
    (Tier::Low, 100, 30_000),
    (Tier::Background, 30, 5_000),
    // The last one takes whatever no layer before it names.
    (Tier::Normal, 300, 20_000),
];

/// An hour.
const FOREVER_US: u64 = 3_600_000_000;

/// A layer for each tier that `scenario` has: Critical and High grouped and preempting, Critical's idle
/// CPUs its own; the others open.
///
/// # Errors
///
/// Never: the layers are plain JSON.
pub fn config(scenario: &Scenario, cpus: usize) -> Result<String> {
    let layers = LAYERS.iter().filter_map(|(tier, weight, slice_us)| {
        let here = scenario.work.iter().filter(|work| work.tier == *tier);
        let mut matches: Vec<Value> = here
            .map(|work| json!([{ "CgroupPrefix": format!("{GROUP}/{}", work.name) }]))
            .collect();
        if *tier == Tier::Normal {
            matches = vec![json!([])];
        }
        if matches.is_empty() {
            return None;
        }
        let kind = match tier {
            Tier::Critical | Tier::High => json!({ "Grouped": {
                // A CPU at least: a layer that has none waits for the others.
                "cpus_range": [1, (cpus / 2).max(1)],
                "util_range": [0.2, 0.8],
                // Not taken back when the machine is full, which is when it matters.
                "disallow_open_after_us": FOREVER_US,
                "disallow_preempt_after_us": FOREVER_US,
                "preempt": true,
                "preempt_first": true,
                "protected": *tier == Tier::Critical,
                "weight": weight,
                "slice_us": slice_us,
            }}),
            _ => json!({ "Open": { "weight": weight, "slice_us": slice_us } }),
        };
        Some(json!({ "name": tier.name(), "matches": matches, "kind": kind }))
    });
    let layers: Vec<Value> = layers.collect();
    Ok(serde_json::to_string_pretty(&layers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layer_takes_the_rest() {
        let scenario = Scenario::find("lone-sleeper").unwrap();
        let layers: Vec<Value> = serde_json::from_str(&config(&scenario, 4).unwrap()).unwrap();
        let names: Vec<&str> = layers
            .iter()
            .filter_map(|layer| layer["name"].as_str())
            .collect();
        assert_eq!(names, ["critical", "background", "normal"]);
        assert_eq!(layers[2]["matches"], json!([[]]));
        assert_eq!(
            layers[0]["matches"],
            json!([[{ "CgroupPrefix": "infera-bench/service" }]])
        );
    }
}
