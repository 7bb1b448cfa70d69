//! Statistics: counters as the loop reads them from the overlay, and what happened between
//! two readings.

use infera_bpf::{LAT_BUCKETS, Path};
use infera_policy::{Nanos, Tier};
use scx_stats_derive::{Stats, stat_doc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Counters of one tier since attach.
#[derive(Clone, Copy, Debug)]
pub struct TierCounters {
    /// Nanoseconds on CPU.
    pub cpu_ns: u64,
    /// How its tasks got to their CPUs, by [`Path`].
    pub paths: [u64; Path::ALL.len()],
    /// Wakeups by latency: bucket `b` counts `2^b` to `2^(b+1)` nanoseconds.
    pub latency: [u64; LAT_BUCKETS],
    /// Waits for the budget of a cgroup with a CPU limit.
    pub throttled: u64,
    /// How long those were.
    pub throttled_ns: u64,
}

/// Counters since attach.
#[derive(Clone, Debug)]
pub struct Counters {
    /// When they began to count, on the monotonic clock.
    pub attached: Nanos,
    /// When they were read.
    pub at: Nanos,
    /// Indexed by tier.
    pub tiers: [TierCounters; Tier::COUNT],
    /// Turns given to a lower tier because its wait bound was reached.
    pub guaranteed: u64,
    /// Decisions that came too late: the task was gone or queued anew.
    pub cancelled: u64,
    /// Tasks that found the ring to user space full.
    pub congested: u64,
    /// Tasks waiting in the policy now.
    pub waiting: u64,
    /// Periods in which a cgroup with a CPU limit ran or waited.
    pub limit_periods: u64,
    /// Of those, in which its tasks waited for budget.
    pub limit_throttled: u64,
    /// Times that a limited cgroup found no room in the overlay's table.
    pub limits_refused: u64,
    /// Times that a cgroup found no room in the overlay's table of weights.
    pub weights_refused: u64,
}

impl Counters {
    /// Nothing counted.
    pub const fn zero(attached: Nanos, at: Nanos) -> Counters {
        Counters {
            attached,
            at,
            tiers: [TierCounters {
                cpu_ns: 0,
                paths: [0; Path::ALL.len()],
                latency: [0; LAT_BUCKETS],
                throttled: 0,
                throttled_ns: 0,
            }; Tier::COUNT],
            guaranteed: 0,
            cancelled: 0,
            congested: 0,
            waiting: 0,
            limit_periods: 0,
            limit_throttled: 0,
            limits_refused: 0,
            weights_refused: 0,
        }
    }
}

/// What one tier did in an interval.
#[stat_doc]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Stats)]
#[stat(desc = "one tier", _om_prefix = "tier_", _om_label = "tier")]
pub struct TierMetrics {
    #[stat(desc = "CPUs it kept busy, on average over the interval (CPU seconds per second)")]
    pub cpus: f64,
    #[stat(desc = "times a task went straight to an idle CPU (count)")]
    pub idle: u64,
    #[stat(desc = "times a task took a CPU from a lower tier (count)")]
    pub preempt: u64,
    #[stat(desc = "times a task came through the tier's queue in the kernel (count)")]
    pub queue: u64,
    #[stat(desc = "times a task was ordered by the policy (count)")]
    pub user: u64,
    #[stat(desc = "times a task ran in arrival order, the ring to the policy being full (count)")]
    pub full: u64,
    #[stat(desc = "times a task took a CPU from a task of its tier that had run more (count)")]
    pub peer: u64,
    #[stat(desc = "waits for the budget of a cgroup with a CPU limit that ended (count)")]
    pub throttled: u64,
    #[stat(desc = "how long those waits were, over all tasks (seconds)")]
    pub throttled_s: f64,
    #[stat(desc = "99 % of wakeups waited less than this (microseconds; 0: nothing woke up)")]
    pub p99_wake_us: f64,
    #[stat(
        desc = "wakeups by latency: entry b counts those of 2^b to 2^(b+1) nanoseconds (count)"
    )]
    pub wake_log2_ns: Vec<u64>,
}

#[stat_doc]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Stats)]
#[stat(
    desc = "scx_infera between two readings of one client",
    top,
    _om_prefix = "infera_"
)]
pub struct Metrics {
    #[stat(desc = "length of the interval (seconds); a client's first one began at attach")]
    pub interval_s: f64,
    #[stat(desc = "the tiers, by name")]
    pub tiers: BTreeMap<String, TierMetrics>,
    #[stat(desc = "turns given to a lower tier because its wait bound was reached (count)")]
    pub guaranteed: u64,
    #[stat(desc = "decisions that came too late, the task being gone or queued anew (count)")]
    pub cancelled: u64,
    #[stat(desc = "tasks that found the ring to the policy full (count)")]
    pub ring_full: u64,
    #[stat(desc = "tasks waiting in the policy at the end of the interval (count)")]
    pub waiting: u64,
    #[stat(
        desc = "what the kernel counted of sched_ext itself, by its name (count; bypass_duration: nanoseconds); empty on kernels that count nothing, such as 6.12"
    )]
    pub kernel_events: BTreeMap<String, u64>,
    #[stat(desc = "periods in which a cgroup with a CPU limit ran or waited (count)")]
    pub cfs_periods: u64,
    #[stat(desc = "of those, in which its tasks waited for budget (count)")]
    pub cfs_throttled_periods: u64,
    #[stat(desc = "times that a cgroup's CPU limit was not in force for want of room (count)")]
    pub limits_refused: u64,
    #[stat(desc = "times that a cgroup's cpu.weight was not in force for want of room (count)")]
    pub weights_refused: u64,
}

impl Metrics {
    /// What happened from one reading to another.
    pub fn between(before: &Counters, now: &Counters) -> Metrics {
        let interval_s = now.at.0.saturating_sub(before.at.0) as f64 / 1e9;
        let tiers = Tier::ALL.map(|tier| {
            let (a, b) = (&before.tiers[tier.index()], &now.tiers[tier.index()]);
            (tier.name().into(), TierMetrics::between(a, b, interval_s))
        });
        Metrics {
            interval_s,
            tiers: tiers.into(),
            guaranteed: now.guaranteed.saturating_sub(before.guaranteed),
            cancelled: now.cancelled.saturating_sub(before.cancelled),
            ring_full: now.congested.saturating_sub(before.congested),
            waiting: now.waiting,
            kernel_events: BTreeMap::new(),
            cfs_periods: now.limit_periods.saturating_sub(before.limit_periods),
            cfs_throttled_periods: now.limit_throttled.saturating_sub(before.limit_throttled),
            limits_refused: now.limits_refused.saturating_sub(before.limits_refused),
            weights_refused: now.weights_refused.saturating_sub(before.weights_refused),
        }
    }
}

impl TierMetrics {
    fn between(before: &TierCounters, now: &TierCounters, seconds: f64) -> TierMetrics {
        let took =
            |path: Path| now.paths[path as usize].saturating_sub(before.paths[path as usize]);
        let mut latency = now.latency;
        for (slot, before) in latency.iter_mut().zip(before.latency) {
            *slot = slot.saturating_sub(before);
        }
        let busy = now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9;
        TierMetrics {
            cpus: if seconds > 0.0 { busy / seconds } else { 0.0 },
            idle: took(Path::Idle),
            preempt: took(Path::Preempt),
            queue: took(Path::Queue),
            user: took(Path::User),
            full: took(Path::Full),
            peer: took(Path::Peer),
            throttled: now.throttled.saturating_sub(before.throttled),
            throttled_s: now.throttled_ns.saturating_sub(before.throttled_ns) as f64 / 1e9,
            p99_wake_us: quantile_us(&latency, 0.99).unwrap_or(0.0),
            wake_log2_ns: latency.into(),
        }
    }
}

/// The upper bound, in microseconds, of the bucket that holds quantile `q` of `latency`.
fn quantile_us(latency: &[u64; LAT_BUCKETS], q: f64) -> Option<f64> {
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

/// The table of `--stats` and `--monitor`: a line a tier, best first.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<11}{:>8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}{:>12}",
            "tier", "cpus", "idle", "preempt", "queue", "user", "full", "peer", "p99 wake us"
        )?;
        for tier in Tier::ALL {
            let Some(row) = self.tiers.get(tier.name()) else {
                continue;
            };
            let p99 = match row.p99_wake_us {
                0.0 => "-".into(),
                us => format!("<{us:.0}"),
            };
            writeln!(
                f,
                "{tier:<11}{:>8.2}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}{p99:>12}",
                row.cpus, row.idle, row.preempt, row.queue, row.user, row.full, row.peer
            )?;
        }
        write!(
            f,
            "limits: {} of {} periods throttled, {} refused; weights: {} refused\n\
             guaranteed turns {}, cancelled {}, ring full {}, waiting {}",
            self.cfs_throttled_periods,
            self.cfs_periods,
            self.limits_refused,
            self.weights_refused,
            self.guaranteed,
            self.cancelled,
            self.ring_full,
            self.waiting
        )?;
        let counted: Vec<String> = self
            .kernel_events
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        match counted.is_empty() {
            true => Ok(()),
            false => write!(f, "\nkernel events: {}", counted.join(", ")),
        }
    }
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

    #[test]
    fn metrics_are_differences() {
        let high = Tier::High.index();
        let mut before = Counters::zero(Nanos(0), Nanos(1_000_000_000));
        before.tiers[high].cpu_ns = 500;
        before.tiers[high].latency[30] = 7;
        let mut now = before.clone();
        now.at = Nanos(3_000_000_000);
        now.tiers[high].cpu_ns += 3_000_000_000;
        now.tiers[high].paths[Path::Preempt as usize] = 4;
        now.tiers[high].latency[10] = 1;
        now.waiting = 2;
        let metrics = Metrics::between(&before, &now);
        let row = &metrics.tiers["high"];
        assert_eq!((row.cpus, row.preempt, row.p99_wake_us), (1.5, 4, 2.048));
        let text = metrics.to_string();
        let row = text.lines().find(|line| line.starts_with("high ")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words, ["high", "1.50", "0", "4", "0", "0", "0", "0", "<2"]);
        assert!(text.ends_with("waiting 2"), "{text}");
        let mut metrics = metrics;
        let events = [("bypass_activate", 1), ("select_cpu_fallback", 0)];
        metrics.kernel_events = events.map(|(name, count)| (name.to_owned(), count)).into();
        let text = metrics.to_string();
        assert!(
            text.ends_with("\nkernel events: bypass_activate 1"),
            "{text}"
        );
    }

    #[test]
    fn no_time_between_two_readings_is_no_division() {
        let now = Counters::zero(Nanos(5), Nanos(5));
        assert_eq!(Metrics::between(&now, &now).tiers["normal"].cpus, 0.0);
    }
}
