//! One look at the node.

use crate::status::{kernel_state, now};
use anyhow::{Context, Result};
use infera_control::{Request, SOCKET, State, Status, ask};
use infera_node::{Busiest, Busy, STATS_SOCKET, Sampler, Stats, StatsClient, Thread, Tiers};
use infera_plan::{ASSIGNMENT_FILE, Assignment, Config, Plan, Topology};
use infera_policy::Tier;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// As many threads are shown at most.
const THREADS: usize = 30;

/// A CPU, since the look before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: usize,
    /// Part of the time in which it was not idle, 0 to 1.
    pub busy: f64,
    /// Of Critical's fence.
    pub fenced: bool,
    /// Of the fence, and a lower tier runs there.
    pub lent: bool,
    /// The tier of the thread that it seems to run, by name.
    pub tier: Option<&'static str>,
}

/// All that is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Frame {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// Who schedules, as the kernel says.
    pub kernel: String,
    /// The guard's word, where it answers.
    pub guard: Option<Status>,
    /// The scheduler's statistics, since the look before.
    pub stats: Option<Stats>,
    /// Every online CPU.
    pub cpus: Vec<Cpu>,
    /// The threads that used most CPU time.
    pub busiest: Vec<Busy>,
    /// What could not be seen, and why: a sentence each.
    pub missing: Vec<String>,
}

/// Looks.
pub struct Collector {
    config: PathBuf,
    topology: Topology,
    sampler: Sampler,
    busiest: Busiest,
    stats: StatsClient,
    // By CPU: clock ticks that it was busy, and all.
    ticks: BTreeMap<usize, (u64, u64)>,
}

/// The cgroup mount.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

impl Collector {
    /// Of this node.
    ///
    /// # Errors
    ///
    /// The list of online CPUs in /sys cannot be read, or a list there is malformed.
    pub fn new(config: &Path) -> Result<Collector> {
        let topology = Topology::read(Path::new("/sys/devices/system/cpu"))
            .context("cannot read this node's CPUs")?;
        Ok(Collector {
            config: config.to_owned(),
            topology,
            sampler: Sampler::new(Path::new("/proc"), usize::MAX),
            busiest: Busiest::default(),
            stats: StatsClient::new(Path::new(STATS_SOCKET)),
            ticks: BTreeMap::new(),
        })
    }

    /// Looks: what happened since it looked before.
    pub fn look(&mut self) -> Frame {
        let mut missing = Vec::new();
        let guard = ask(Path::new(SOCKET), &Request::Status)
            .inspect_err(|error| missing.push(error.to_string()))
            .ok();
        let stats = self.stats.read();
        let stats = stats.inspect_err(|error| missing.push(without_stats(error.kind())));
        let (tiers, plan) = self.promised(&mut missing);
        let threads = self.sampler.all(&tiers);
        let seen_at = Instant::now();
        self.busiest.see(&threads, seen_at);
        let busiest = self.busiest.top(THREADS, seen_at);
        let attached = guard
            .as_ref()
            .is_some_and(|status| status.state == State::Attached);
        let seen = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = ticks_of(&seen);
        let cpus = plan.cpus.iter().map(|plan_of| {
            let cpu = plan_of.cpu;
            let before = self.ticks.get(&cpu).copied().unwrap_or_default();
            let now = ticks.get(&cpu).copied().unwrap_or_default();
            let runs = runs_on(cpu, &busiest, &threads);
            let fenced = attached && plan.fence.contains(&cpu);
            Cpu {
                cpu,
                busy: busy(before, now),
                fenced,
                lent: fenced && runs.is_some_and(|tier| tier > Tier::Critical),
                tier: runs.map(Tier::name),
            }
        });
        let cpus = cpus.collect();
        self.ticks = ticks;
        Frame {
            at: now(),
            kernel: kernel_state(Path::new("/sys/kernel/sched_ext")),
            guard,
            stats: stats.ok(),
            cpus,
            busiest: busiest
                .into_iter()
                .filter(|busy| busy.cpus >= 0.005)
                .collect(),
            missing,
        }
    }

    /// What configuration and assignment promise; read each time, for both may change.
    fn promised(&self, missing: &mut Vec<String>) -> (Tiers, Plan) {
        let config = Config::read_or_default(&self.config).unwrap_or_else(|error| {
            missing.push(error.to_string());
            Config::default()
        });
        let assignment = Assignment::read(Path::new(ASSIGNMENT_FILE)).unwrap_or_else(|error| {
            missing.push(error.to_string());
            Assignment::default()
        });
        let tiers = Tiers::new(&config.all_rules(), &assignment.pods, BTreeMap::new());
        let config = config.fenced_for(assignment.critical_cores);
        let topology = self.topology.clone();
        let topology = topology.with_partitions(Path::new(CGROUP_ROOT));
        (tiers, Plan::new(&topology, &config))
    }
}

fn without_stats(error: ErrorKind) -> String {
    match error {
        ErrorKind::PermissionDenied => "no statistics of tiers: they need root".into(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "no statistics of tiers: scx_infera does not run".into()
        }
        other => format!("no statistics of tiers: {other}"),
    }
}

/// The tier of the busiest thread that is ready to run on `cpu`; where all of them have only come,
/// of the best one.
fn runs_on(cpu: usize, busiest: &[Busy], threads: &[Thread]) -> Option<Tier> {
    let here = |thread: &&Thread| thread.cpu == cpu && thread.runnable;
    let busy = busiest.iter().map(|busy| &busy.thread).find(here);
    busy.or_else(|| threads.iter().filter(here).min_by_key(|thread| thread.tier))
        .map(|thread| thread.tier)
}

/// Of each CPU: its busy ticks and all its ticks, from `/proc/stat`.
fn ticks_of(stat: &str) -> BTreeMap<usize, (u64, u64)> {
    let cpus = stat.lines().filter_map(|line| {
        let mut words = line.strip_prefix("cpu")?.split(' ');
        let cpu = words.next()?.parse().ok()?;
        // user nice system idle iowait irq softirq steal; guests are in user.
        let ticks: Vec<u64> = words.take(8).flat_map(str::parse).collect();
        let all = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some((cpu, (all - idle, all)))
    });
    cpus.collect()
}

fn busy(before: (u64, u64), now: (u64, u64)) -> f64 {
    let (busy, all) = (
        now.0.saturating_sub(before.0),
        now.1.saturating_sub(before.1),
    );
    match all {
        0 => 0.0,
        all => busy as f64 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_busy_as_far_as_it_is_not_idle() {
        let before = ticks_of("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 10 100 0 0 0 0 0 0\n");
        let now = ticks_of("cpu0 25 5 10 115 5 0 0 0 0 0\nintr 1 2\n");
        assert_eq!(before[&0], (20, 120));
        assert_eq!(busy(before[&0], now[&0]), 0.5);
        assert_eq!(busy(now[&0], now[&0]), 0.0);
        assert!(ticks_of("cpu0 1 2\ncpux 1 2 3 4 5\n").is_empty());
    }

    #[test]
    fn this_machine_can_be_looked_at_without_any_right() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(&dir.path().join("none.toml")).unwrap();
        let _ = collector.look();
        let frame = collector.look();
        assert!(!frame.cpus.is_empty());
        assert!(serde_json::to_string(&frame).unwrap().contains("\"busy\":"));
    }
}
