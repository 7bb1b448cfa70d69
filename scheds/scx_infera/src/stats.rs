//! Statistics: read from the overlay's counters by the loop, printed by a helper thread.

use infera_bpf::{LAT_BUCKETS, Path};
use infera_policy::Tier;
use std::fmt::Write as _;

/// Figures of one tier since attach.
#[derive(Clone, Copy, Debug)]
pub struct TierStats {
    /// Nanoseconds on CPU.
    pub cpu_ns: u64,
    /// How its tasks got to their CPUs, by [`Path`].
    pub paths: [u64; Path::ALL.len()],
    /// Wakeups by latency: bucket `b` counts `2^b` to `2^(b+1)` nanoseconds.
    pub latency: [u64; LAT_BUCKETS],
}

/// Figures since attach.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Indexed by tier.
    pub tiers: [TierStats; Tier::COUNT],
    /// Turns given to a lower tier because its wait bound was reached.
    pub guaranteed: u64,
    /// Decisions that came too late: the task was gone or queued anew.
    pub cancelled: u64,
    /// Tasks that found the ring to user space full.
    pub congested: u64,
    /// Tasks waiting in the policy now.
    pub waiting: u64,
}

impl Stats {
    /// Nothing counted.
    pub const ZERO: Stats = Stats {
        tiers: [TierStats {
            cpu_ns: 0,
            paths: [0; Path::ALL.len()],
            latency: [0; LAT_BUCKETS],
        }; Tier::COUNT],
        guaranteed: 0,
        cancelled: 0,
        congested: 0,
        waiting: 0,
    };
}

/// The upper bound, in microseconds, of the bucket that holds quantile `q` of `latency`.
pub fn quantile_us(latency: &[u64; LAT_BUCKETS], q: f64) -> Option<f64> {
    let total: u64 = latency.iter().sum();
    let rank = (total as f64 * q).ceil() as u64;
    let mut seen = 0;
    for (bucket, count) in latency.iter().enumerate() {
        seen += count;
        if total > 0 && seen >= rank {
            return Some((1u64 << (bucket + 1)) as f64 / 1000.0);
        }
    }
    None
}

/// What happened between two readings, a line a tier.
pub fn render(before: &Stats, now: &Stats, seconds: f64) -> String {
    let mut text = format!(
        "{:<11}{:>8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>12}\n",
        "tier", "cpus", "idle", "preempt", "queue", "user", "full", "p99 wake us"
    );
    for tier in Tier::ALL {
        let (a, b) = (&before.tiers[tier.index()], &now.tiers[tier.index()]);
        let mut latency = [0; LAT_BUCKETS];
        for (slot, (x, y)) in latency.iter_mut().zip(a.latency.iter().zip(&b.latency)) {
            *slot = y.saturating_sub(*x);
        }
        let _ = write!(
            text,
            "{tier:<11}{:>8.2}",
            b.cpu_ns.saturating_sub(a.cpu_ns) as f64 / 1e9 / seconds
        );
        for path in Path::ALL {
            let width = if path == Path::Full { 8 } else { 10 };
            let _ = write!(
                text,
                "{:>width$}",
                b.paths[path as usize].saturating_sub(a.paths[path as usize])
            );
        }
        let _ = match quantile_us(&latency, 0.99) {
            Some(us) => writeln!(text, "{:>12}", format!("<{us:.0}")),
            None => writeln!(text, "{:>12}", "-"),
        };
    }
    let _ = write!(
        text,
        "guaranteed turns {}, cancelled {}, ring full {}, waiting {}",
        now.guaranteed - before.guaranteed,
        now.cancelled - before.cancelled,
        now.congested - before.congested,
        now.waiting
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bucket_bounds() {
        let mut latency = [0; LAT_BUCKETS];
        assert_eq!(quantile_us(&latency, 0.5), None);
        latency[10] = 99;
        latency[20] = 1;
        assert_eq!(quantile_us(&latency, 0.99), Some(2.048));
        assert_eq!(quantile_us(&latency, 1.0), Some(2097.152));
    }
}
