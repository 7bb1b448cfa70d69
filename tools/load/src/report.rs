//! Latencies, and the JSON lines that report them.

use std::io::Write;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// The highest latency that the histogram distinguishes from higher ones: an hour, in nanoseconds.
const HIGHEST: u64 = 3_600_000_000_000;

/// What a plot of the distribution needs.
const QUANTILES: [f64; 16] = [
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999,
];

/// Latencies in nanoseconds, to three significant digits; the maximum exactly.
#[derive(Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    max: u64,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, HIGHEST, 3).expect("the bounds are valid"),
            max: 0,
        }
    }

    /// Counts one latency.
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Counts those of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all have the same bounds");
        self.max = self.max.max(other.max);
    }

    /// The figures to report.
    pub fn summary(&self) -> Summary {
        let quantile = |q| us(self.histogram.value_at_quantile(q).min(self.max));
        Summary {
            count: self.count(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: us(self.max),
            cdf_us: match self.count() {
                0 => Vec::new(),
                _ => QUANTILES.map(|q| (q, quantile(q))).to_vec(),
            },
        }
    }
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// Latencies in a few figures; all 0 if there were none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many were recorded.
    pub count: u64,
    /// The median in microseconds.
    pub p50_us: f64,
    /// The 99th percentile in microseconds.
    pub p99_us: f64,
    /// The 99.9th percentile in microseconds.
    pub p999_us: f64,
    /// The highest in microseconds.
    pub max_us: f64,
    /// Quantiles, and the latency at each in microseconds; none if there were none.
    pub cdf_us: Vec<(f64, f64)>,
}

/// What periodic events measure.
#[derive(Debug, Serialize)]
pub struct Periodic {
    /// The latencies.
    #[serde(flatten)]
    pub latencies: Summary,
    /// Events of the schedule that were not made, because earlier ones took too long.
    pub missed: u64,
}

impl Periodic {
    /// Sums up what each thread measured.
    pub fn sum(threads: impl IntoIterator<Item = (Latencies, u64)>) -> Self {
        let mut all = Latencies::new();
        let mut missed = 0;
        for (latencies, thread_missed) in threads {
            all.merge(&latencies);
            missed += thread_missed;
        }
        Self {
            latencies: all.summary(),
            missed,
        }
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

fn line<T: Serialize>(kind: &str, body: &T) -> Result<String> {
    serde_json::to_string(&Line { kind, body }).context("writing the report as JSON")
}

/// Prints `body`, which must be a struct, as one JSON line of that kind.
///
/// # Errors
///
/// `body` is no struct, or the standard output is closed.
pub fn print<T: Serialize>(kind: &str, body: &T) -> Result<()> {
    writeln!(std::io::stdout(), "{}", line(kind, body)?).context("printing the report")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_zeros() {
        assert_eq!(
            line("wake", &Latencies::new().summary()).unwrap(),
            r#"{"kind":"wake","count":0,"p50_us":0.0,"p99_us":0.0,"p999_us":0.0,"max_us":0.0,"cdf_us":[]}"#
        );
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut low = Latencies::new();
        let mut high = Latencies::new();
        for i in 1..=10_000 {
            let half = if i <= 5000 { &mut low } else { &mut high };
            half.record(i * 1000);
        }
        low.merge(&high);
        let summary = low.summary();
        let near = |got: f64, wanted: f64| (got / wanted - 1.0).abs() < 0.002;
        assert_eq!(summary.count, 10_000);
        assert!(near(summary.p50_us, 5000.0));
        assert!(near(summary.p99_us, 9900.0));
        assert!(near(summary.p999_us, 9990.0));
        assert_eq!(summary.max_us, 10_000.0);
    }

    #[test]
    fn beyond_the_bounds_is_still_counted() {
        let mut latencies = Latencies::new();
        latencies.record(2 * HIGHEST);
        let summary = latencies.summary();
        assert_eq!(summary.count, 1);
        assert_eq!(summary.max_us, 2.0 * HIGHEST as f64 / 1000.0);
    }
}
