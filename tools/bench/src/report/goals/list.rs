//! Goals as a list, and the medians that they are of.

use super::super::{cell, distinct, figure};
use crate::record::Record;
use std::fmt;

/// How far a figure may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(bound) => write!(f, "<= {bound}"),
            Bound::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

/// By how much a latency of ours is above another, where that is less than exact time resolves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    us: f64,
    rotation_us: u32,
}

/// What has become of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Met,
    WithinRotation(Excess),
    Missed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Met => f.write_str("met"),
            Verdict::WithinRotation(Excess { us, rotation_us }) => {
                write!(f, "within one rotation ({rotation_us} us): {us:+.0} us")
            }
            Verdict::Missed => f.write_str("MISSED"),
        }
    }
}

/// A goal in one place: what, the figure, its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    pub what: String,
    pub figure: f64,
    pub bound: Bound,
    excess: Option<Excess>,
}

impl Goal {
    pub fn verdict(&self) -> Verdict {
        let met = match self.bound {
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::AtLeast(bound) => self.figure >= bound,
        };
        match self.excess {
            _ if met => Verdict::Met,
            Some(excess) => Verdict::WithinRotation(excess),
            None => Verdict::Missed,
        }
    }
}

/// The goals so far. One whose figure was not measured is left out.
#[derive(Debug, Default)]
pub struct Goals(Vec<Goal>);

impl Goals {
    pub fn at_most(&mut self, what: String, figure: Option<f64>, bound: f64) {
        self.add(what, figure, Bound::AtMost(bound), None);
    }

    pub fn at_least(&mut self, what: String, figure: Option<f64>, bound: f64) {
        self.add(what, figure, Bound::AtLeast(bound), None);
    }

    /// A latency of ours is to be at most `bound` times that of `peer`. In exact time a difference below one
    /// rotation of QEMU is the order of CPUs in it, and no scheduler's work: the verdict is of its own kind.
    pub fn latency(&mut self, medians: &Medians, at: Place, peer: &str, bound: f64) {
        let (Some(ours), Some(theirs)) = (medians.ours(at), medians.of(at, peer)) else {
            return;
        };
        let Place {
            scenario,
            rung,
            work,
            key,
        } = at;
        let percentile = key.trim_end_matches("_us").replace("p999", "p99.9");
        let what = format!("{scenario}/{rung}: {work} {percentile} / {peer}");
        let rotation = medians.rotation_us(at);
        self.latencies(what, ours, theirs, bound, rotation);
    }

    /// One of our latencies is to be at most another of them, of the same scenario and rung; by the same rule.
    pub fn order(&mut self, medians: &Medians, what: String, better: Place, worse: Place) {
        if let (Some(first), Some(second)) = (medians.ours(better), medians.ours(worse)) {
            let rotation = medians.rotation_us(better);
            self.latencies(what, first, second, 1.0, rotation);
        }
    }

    fn latencies(&mut self, what: String, us: f64, than: f64, bound: f64, rotation: Option<u32>) {
        let above = us - than;
        let rotation = rotation.filter(|most| above < f64::from(*most));
        let excess = rotation.map(|rotation_us| Excess {
            us: above,
            rotation_us,
        });
        self.add(what, Some(us / than), Bound::AtMost(bound), excess);
    }

    fn add(&mut self, what: String, figure: Option<f64>, bound: Bound, excess: Option<Excess>) {
        if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
            self.0.push(Goal {
                what,
                figure,
                bound,
                excess,
            });
        }
    }

    pub fn all(self) -> Vec<Goal> {
        self.0
    }
}

/// Where a figure is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub scenario: &'a str,
    pub rung: u32,
    pub work: &'a str,
    pub key: &'a str,
}

/// Medians over the seeds, of one policy of ours and of its peers.
pub struct Medians<'a> {
    records: &'a [Record],
    arm: &'a str,
}

impl<'a> Medians<'a> {
    pub fn new(records: &'a [Record], arm: &'a str) -> Medians<'a> {
        Medians { records, arm }
    }

    pub fn of(&self, at: Place, arm: &str) -> Option<f64> {
        let cell = cell(self.records, at.scenario, at.rung, arm);
        figure(&cell, at.work, at.key).map(|spread| spread.median)
    }

    pub fn ours(&self, at: Place) -> Option<f64> {
        self.of(at, self.arm)
    }

    /// Ours as a multiple of theirs.
    pub fn ratio(&self, at: Place, peer: &str) -> Option<f64> {
        Some(self.ours(at)? / self.of(at, peer)?)
    }

    pub fn rungs(&self, scenario: &str) -> Vec<u32> {
        let here = self.records.iter().filter(|one| one.scenario == scenario);
        distinct(here.map(|one| one.rung))
    }

    /// Our records of a rung.
    pub fn cell(&self, scenario: &str, rung: u32) -> Vec<&'a Record> {
        cell(self.records, scenario, rung, self.arm)
    }

    /// QEMU's rotation, where these records were measured in exact time.
    pub fn rotation_us(&self, at: Place) -> Option<u32> {
        self.cell(at.scenario, at.rung).first()?.rotation_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(figure: f64, bound: Bound, excess: Option<Excess>) -> Goal {
        Goal {
            what: String::new(),
            figure,
            bound,
            excess,
        }
    }

    #[test]
    fn a_difference_below_a_rotation_has_a_verdict_of_its_own() {
        let excess = Excess {
            us: 12.4,
            rotation_us: 50,
        };
        let verdict = |figure, excess| {
            goal(figure, Bound::AtMost(1.0), excess)
                .verdict()
                .to_string()
        };
        assert_eq!(verdict(1.2, None), "MISSED");
        assert_eq!(
            verdict(1.2, Some(excess)),
            "within one rotation (50 us): +12 us"
        );
        assert_eq!(verdict(1.0, Some(excess)), "met");
    }

    #[test]
    fn bounds_are_inclusive_on_either_side() {
        for (figure, bound, verdict) in [
            (0.98, Bound::AtLeast(0.98), Verdict::Met),
            (0.97, Bound::AtLeast(0.98), Verdict::Missed),
            (1.01, Bound::AtMost(1.0), Verdict::Missed),
        ] {
            assert_eq!(goal(figure, bound, None).verdict(), verdict);
        }
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let mut goals = Goals::default();
        goals.at_most("absent".into(), None, 1.0);
        goals.at_most("by zero".into(), Some(f64::INFINITY), 1.0);
        goals.at_least("there".into(), Some(1.0), 1.0);
        assert_eq!(goals.all().len(), 1);
    }
}
