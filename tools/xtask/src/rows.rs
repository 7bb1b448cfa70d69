//! The `PHASE JSON` lines that measuring scripts print.

use serde_json::Value;

/// What a script measured.
pub struct Rows(Vec<(String, Value)>);

impl Rows {
    /// Takes the lines that are measurements, and leaves the rest.
    pub fn parse(output: &str) -> Self {
        let rows = output
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(phase, json)| Some((phase.to_owned(), serde_json::from_str(json).ok()?)));
        Self(rows.collect())
    }

    /// One measurement.
    pub fn row(&self, phase: &str, kind: &str) -> Option<&Value> {
        let row = |(name, value): &&(String, Value)| name == phase && value["kind"] == kind;
        self.0.iter().find(row).map(|(_, value)| value)
    }

    /// A figure of one kind of load in one phase.
    pub fn get(&self, phase: &str, kind: &str, key: &str) -> Option<f64> {
        self.row(phase, kind)?[key].as_f64()
    }

    /// Three percentiles in whole microseconds.
    pub fn percentiles(&self, phase: &str, kind: &str) -> String {
        ["p50_us", "p99_us", "p999_us"]
            .map(|key| match self.get(phase, kind, key) {
                Some(figure) => format!("{figure:.0}"),
                None => "-".to_owned(),
            })
            .join(" / ")
    }
}
