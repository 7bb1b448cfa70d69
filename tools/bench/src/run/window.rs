//! A window: one arm on one rung of one scenario, once.

use super::load::{Measured, Running, background, measured};
use super::{SETTLE, blank};
use crate::arm::{Arm, Entered};
use crate::machine::{enable_seq, process_cpu, usage};
use crate::record::{Record, Share, Work};
use crate::scenario::{Load, Scenario, Workload};
use anyhow::Result;
use infera_node::{STATS_SOCKET, StatsClient};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often CPU time is looked at while a window is open.
const LOOK: Duration = Duration::from_millis(200);
/// A load that is not done this long after the end of the window has failed.
const LATE: Duration = Duration::from_secs(60);

/// Runs one, and records it. An error is one of the bench itself; a load that fails is in the record.
///
/// # Errors
///
/// `infera-load` cannot be started, or one of its processes cannot be waited for.
pub fn window(
    scenario: &Scenario,
    arm: &Arm,
    entered: &Entered,
    rung: u32,
    seed: u64,
) -> Result<Record> {
    let mut behind = Vec::new();
    for work in &scenario.work {
        behind.extend(background(arm, work, rung)?);
    }
    sleep(SETTLE);
    let seq = enable_seq();
    let used = |work: &Workload| usage(&work.name);
    let before: Vec<(f64, u64)> = scenario.work.iter().map(used).collect();
    // Between counts: beside a crowd of a better tier the bench itself may wait anywhere.
    let counted = Instant::now();
    let units: Vec<Vec<u64>> = behind.iter().map(Running::units).collect();
    let scheduler = || entered.pid().map_or(0.0, process_cpu);
    let mut stats = StatsClient::new(Path::new(STATS_SOCKET));
    let mut decided = || match arm {
        Arm::Infera(_) => stats.read().map_or(0, |stats| {
            stats.tiers.values().map(|tier| tier.user).sum::<u64>()
        }),
        Arm::Peer(_) => 0,
    };
    // What came before the window.
    decided();
    let spent = scheduler();
    let begun = Instant::now();
    let mut front = Vec::new();
    for work in &scenario.work {
        front.extend(measured(arm, work, scenario.window_ms, seed)?);
    }
    let length = Duration::from_millis(scenario.window_ms);
    let mut watch = Watch::new(scenario, begun);
    loop {
        sleep(LOOK);
        watch.look(scenario, entered.holds());
        let mut running = 0;
        for one in &mut front {
            running += usize::from(one.child.try_wait()?.is_none());
        }
        // Where nothing ends by itself, the window does.
        if running == 0 && (!front.is_empty() || begun.elapsed() >= length) {
            break;
        }
        if begun.elapsed() > length + LATE {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after: Vec<(f64, u64)> = scenario.work.iter().map(used).collect();
    let counting = counted.elapsed().as_secs_f64();
    let done: Vec<Vec<u64>> = behind.iter().map(Running::units).collect();
    let spent = scheduler() - spent;
    let decisions = decided();
    let mut work: Vec<Work> = Vec::new();
    for ((one, before), after) in scenario.work.iter().zip(&before).zip(&after) {
        work.push(Work {
            name: one.name.clone(),
            tier: one.tier.name().to_owned(),
            load: format!("{:?}", one.load).to_lowercase(),
            cpu_s: after.0 - before.0,
            ..Work::default()
        });
    }
    for ((one, before), after) in behind.iter_mut().zip(units).zip(done) {
        if let Some(entry) = entry(&mut work, &one.work.name) {
            entry.failed = one.ended_early()?;
            if one.work.load == Load::Hogs {
                entry.values = hogs(&before, &after, counting);
            }
        }
    }
    for one in &mut front {
        let Measured {
            values,
            cdf_us,
            failed,
        } = one.measured()?;
        if let Some(entry) = entry(&mut work, &one.work.name) {
            (entry.values, entry.cdf_us) = (values, cdf_us);
            // A server that ended is the reason why its client failed.
            entry.failed = entry.failed.take().or(failed);
        }
    }
    Ok(Record {
        ejected: !entered.holds() || enable_seq() != seq,
        stock_s: watch.away.as_secs_f64(),
        throttled: before.iter().zip(&after).map(|(a, b)| b.1 - a.1).sum(),
        scheduler_cpu_s: spent,
        decisions,
        seconds,
        work,
        shares: watch.shares,
        // Peers with a process are of sched_ext, where infera alone has limits in force.
        unlimited: matches!(arm, Arm::Peer(_))
            && entered.pid().is_some()
            && scenario.work.iter().any(|work| work.cpu_max.is_some()),
        ..blank(scenario, arm, rung, seed)
    })
}

/// What each of the hogs did in a window, from its count before and after. Windows are not of one length, as
/// they end with the last load, so figures are by second.
fn hogs(before: &[u64], after: &[u64], seconds: f64) -> BTreeMap<String, f64> {
    let did = before.iter().zip(after);
    let did: Vec<f64> = did
        .map(|(before, after)| after.saturating_sub(*before) as f64 / seconds)
        .collect();
    let (Some(least), Some(most)) = (
        did.iter().copied().reduce(f64::min),
        did.iter().copied().reduce(f64::max),
    ) else {
        return BTreeMap::new();
    };
    [
        ("units_per_s", did.iter().sum()),
        ("least_per_s", least),
        ("most_per_s", most),
        ("threads", did.len() as f64),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn entry<'a>(work: &'a mut [Work], name: &str) -> Option<&'a mut Work> {
    work.iter_mut().find(|work| work.name == name)
}

/// Looks while a window is open.
struct Watch {
    begun: Instant,
    last: (Instant, BTreeMap<String, f64>),
    away: Duration,
    shares: Vec<Share>,
}

impl Watch {
    fn new(scenario: &Scenario, begun: Instant) -> Watch {
        Watch {
            begun,
            last: (begun, by_tier(scenario)),
            away: Duration::ZERO,
            shares: Vec::new(),
        }
    }

    fn look(&mut self, scenario: &Scenario, holds: bool) {
        let (now, used) = (Instant::now(), by_tier(scenario));
        let passed = now.duration_since(self.last.0);
        if !holds {
            self.away += passed;
        }
        let cpus = used.iter().map(|(tier, seconds)| {
            let before = self.last.1.get(tier).copied().unwrap_or(0.0);
            (
                tier.clone(),
                (seconds - before) / passed.as_secs_f64().max(0.001),
            )
        });
        self.shares.push(Share {
            at_s: now.duration_since(self.begun).as_secs_f64(),
            cpus: cpus.collect(),
        });
        self.last = (now, used);
    }
}

fn by_tier(scenario: &Scenario) -> BTreeMap<String, f64> {
    let mut used = BTreeMap::new();
    for work in &scenario.work {
        *used.entry(work.tier.name().to_owned()).or_insert(0.0) += usage(&work.name).0;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hogs_are_summed_and_the_least_and_the_most_kept() {
        let values = hogs(&[10, 0, 5], &[30, 40, 5], 2.0);
        let of = |name: &str| values[name];
        assert_eq!(of("units_per_s"), 30.0);
        assert_eq!((of("least_per_s"), of("most_per_s")), (0.0, 20.0));
        assert_eq!(of("threads"), 3.0);
        assert!(hogs(&[], &[], 2.0).is_empty());
    }
}
