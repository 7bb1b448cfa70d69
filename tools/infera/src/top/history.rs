//! What was seen in the looks before.

use super::frame::Frame;
use infera_policy::Tier;
use std::collections::{BTreeMap, VecDeque};

/// Looks that are remembered.
const LOOKS: usize = 60;

/// By tier: the p99 of wakeup latency in microseconds, a look each.
#[derive(Default)]
pub struct History {
    p99_us: BTreeMap<Tier, VecDeque<f64>>,
}

impl History {
    /// One look more.
    pub fn add(&mut self, frame: &Frame) {
        for tier in Tier::ALL {
            let stats = frame.stats.as_ref();
            let row = stats.and_then(|stats| stats.tiers.get(tier.name()));
            let past = self.p99_us.entry(tier).or_default();
            past.push_back(row.map_or(0.0, |row| row.p99_wake_us));
            past.drain(..past.len().saturating_sub(LOOKS));
        }
    }

    /// The last `count` figures as a line of bars, the newest at its end. What is measured doubles
    /// from one bucket to the next, so a bar of one step more is latency of four times as much.
    pub fn sparkline(&self, tier: Tier, count: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let Some(past) = self.p99_us.get(&tier) else {
            return String::new();
        };
        let bars = past.iter().skip(past.len().saturating_sub(count));
        bars.map(|us| match *us {
            0.0 => ' ',
            us => {
                let step = (us.log2() / 2.0).clamp(0.0, 7.0);
                BARS[step as usize]
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_node::{Stats, TierStats};

    #[test]
    fn a_step_is_four_times_the_latency() {
        let mut history = History::default();
        for p99_wake_us in [0.0, 1.0, 4.0, 16.0, 20_000.0, 1e9] {
            let row = TierStats {
                p99_wake_us,
                ..TierStats::default()
            };
            let stats = Stats {
                tiers: [("high".to_owned(), row)].into(),
                ..Stats::default()
            };
            history.add(&Frame {
                stats: Some(stats),
                ..Frame::default()
            });
        }
        assert_eq!(history.sparkline(Tier::High, 6), " ▁▂▃██");
        assert_eq!(history.sparkline(Tier::High, 2), "██");
        assert_eq!(history.sparkline(Tier::Low, 3), "   ");
    }
}
