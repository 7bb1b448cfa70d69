//! What can be seen of the node without asking the scheduler: where threads run, their pressure, and the agent's own cost; and the
//! scheduler's statistics.
//!
//! Caller: the agent's loop. Every look is bounded: some threads a second, pods' pressure four times a minute.

use crate::lint::{self, Judge, Snapshot, Verdict};
use crate::metrics::Metrics;
use crate::own;
use infera_node::{Busiest, Sampler, Stats, StatsClient, Thread, Tiers, cpu_some_us};
use infera_plan::PodCgroup;
use infera_policy::Tier;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::warn;

/// Threads that the linter samples a second.
const THREADS: usize = 20;
/// The violations of a check are logged no more often.
const LOG: Duration = Duration::from_secs(60);

/// What was seen, and the sums of it.
pub struct Observer {
    sampler: Sampler,
    tiers: Tiers,
    busiest: Busiest,
    judge: Judge,
    logged: BTreeMap<&'static str, Instant>,
    /// CPU time of the linter, in seconds.
    lint_cpu: f64,
    stats: Arc<Mutex<StatsClient>>,
    latest: Stats,
    /// By cgroup of a pod: microseconds in which some task waited for a CPU, as last read.
    pressure: BTreeMap<String, u64>,
    /// By tier: seconds in which tasks of its pods waited for a CPU.
    stalled: BTreeMap<&'static str, f64>,
}

impl Observer {
    /// Reads the scheduler's statistics at the socket `stats`.
    #[must_use]
    pub fn new(stats: &Path) -> Observer {
        Observer {
            sampler: Sampler::new(Path::new("/proc"), THREADS),
            tiers: Tiers::default(),
            busiest: Busiest::default(),
            judge: Judge::default(),
            logged: BTreeMap::new(),
            lint_cpu: 0.0,
            stats: Arc::new(Mutex::new(StatsClient::new(stats))),
            latest: Stats::default(),
            pressure: BTreeMap::new(),
            stalled: BTreeMap::new(),
        }
    }

    /// From now on cgroups are of these tiers.
    pub fn set_tiers(&mut self, tiers: Tiers) {
        self.tiers = tiers;
    }

    /// Reads the scheduler's statistics, on a thread of its own, and the agent's cost.
    pub async fn read_stats(&mut self, metrics: &Metrics) {
        let client = self.stats.clone();
        let read = tokio::task::spawn_blocking(move || client.lock().ok()?.read().ok()).await;
        if let Ok(Some(stats)) = read {
            metrics.stats(&stats);
            self.latest = stats;
        }
        let (seconds, bytes) = own::usage(Path::new("/proc"));
        metrics.own(seconds, bytes);
    }

    /// Reads the CPU pressure of the cgroups of `pods` below the mount `root`.
    pub fn read_pressure(&mut self, root: &Path, pods: &[PodCgroup], metrics: &Metrics) {
        let mut now = BTreeMap::new();
        let mut grown: BTreeMap<Tier, u64> = BTreeMap::new();
        for pod in pods {
            let cgroup = root.join(pod.cgroup.trim_start_matches('/'));
            if let Some(total) = cpu_some_us(&cgroup.join("cpu.pressure")) {
                let before = self.pressure.get(&pod.cgroup).copied().unwrap_or(total);
                *grown.entry(pod.tier).or_default() += total.saturating_sub(before);
                now.insert(pod.cgroup.clone(), total);
            }
        }
        self.pressure = now;
        for tier in Tier::ALL {
            let seconds = grown.get(&tier).copied().unwrap_or(0) as f64 / 1e6;
            metrics.psi(tier, seconds);
            *self.stalled.entry(tier.name()).or_default() += seconds;
        }
    }

    /// Samples threads and checks where they run. `node` is what is promised: the snapshot without threads.
    pub fn lint(&mut self, node: &Snapshot, metrics: &Metrics) {
        let before = own::thread_cpu();
        self.check(node, metrics);
        self.lint_cpu += own::thread_cpu() - before;
    }

    fn check(&mut self, node: &Snapshot, metrics: &Metrics) {
        let now = Instant::now();
        let with = |threads: Vec<Thread>| Snapshot {
            threads,
            ..node.clone()
        };
        let threads = self.sampler.sample(&self.tiers);
        self.busiest.see(&threads, now);
        if self.judge.wants_all(&with(threads), now) {
            let all = self.sampler.all(&self.tiers);
            self.judge.look(&with(all), now);
        }
        for (id, verdict) in self.judge.verdicts() {
            metrics.lint(id, verdict.violations());
            if let Verdict::Fail { evidence, fix } = verdict
                && self.logged.get(id).is_none_or(|last| last.elapsed() > LOG)
            {
                warn!(
                    "{id}: {}, and {} more; {fix}",
                    evidence[0],
                    evidence.len() - 1
                );
                self.logged.insert(id, Instant::now());
            }
        }
    }

    fn linted(&self) -> BTreeMap<&str, Value> {
        let checks = lint::CHECKS.iter().filter_map(|check| {
            let verdict = self.judge.verdicts().get(check.id())?;
            Some((check.id(), json!({"why": check.why(), "now": verdict})))
        });
        checks.collect()
    }

    /// Its part of `/observe`.
    pub fn page(&mut self) -> Value {
        let (cpu, resident) = own::usage(Path::new("/proc"));
        let node = cpu_some_us(Path::new("/proc/pressure/cpu"));
        json!({
            "tiers": self.latest,
            "psi": {
                "node_some_seconds": node.map(|us| us as f64 / 1e6),
                "tier_some_seconds": self.stalled,
            },
            "busiest": self.busiest.top(10, Instant::now()),
            "lint": self.linted(),
            "own": {
                "cpu_seconds": cpu,
                "lint_cpu_seconds": self.lint_cpu,
                "resident_bytes": resident,
            },
        })
    }
}
