//! Everything under /metrics, each figure set in one place.

use crate::assigner::TierSum;
use infera_control::EjectKind;
use infera_node::{Stats, TierStats};
use infera_policy::Tier;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

type Seconds = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabel {
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: &'static str,
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvariantLabel {
    invariant: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// All figures.
pub struct Metrics {
    registry: Registry,
    lint: Family<InvariantLabel, Gauge>,
    safe_mode: Family<ReasonLabel, Gauge>,
    attached: Gauge,
    generation: Gauge,
    applied: Counter,
    gathered: Counter,
    tier_pods: Family<TierLabel, Gauge>,
    tier_cpu: Family<TierLabel, Seconds>,
    stock: Family<ReasonLabel, Seconds>,
    ejects: Family<KindLabel, Counter>,
    dispatches: Family<PathLabel, Counter>,
    ring_full: Counter,
    cfs_periods: Counter,
    cfs_throttled_periods: Counter,
    limits_refused: Counter,
    tier_throttled: Family<TierLabel, Seconds>,
    psi: Family<TierLabel, Seconds>,
    api_errors: Counter,
    own_cpu: Gauge<f64, AtomicU64>,
    own_memory: Gauge,
    latency: Arc<Mutex<Latency>>,
}

/// What a node is.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The kernel's release.
    pub kernel: String,
    /// CPUs.
    pub cpus: usize,
    /// Whether cores have several threads.
    pub smt: bool,
}

impl Metrics {
    /// Nothing counted.
    #[must_use]
    pub fn new(node: &Node) -> Metrics {
        let mut registry = Registry::with_prefix("infera");
        macro_rules! register {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                registry.register($name, $help, Clone::clone(&metric));
                metric
            }};
            ($name:literal, $help:literal, $unit:expr) => {{
                let metric = Default::default();
                registry.register_with_unit($name, $help, $unit, Clone::clone(&metric));
                metric
            }};
        }
        registry.register(
            "build",
            "The agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "node",
            "The node",
            Info::new([
                ("kernel", node.kernel.clone()),
                ("cpus", node.cpus.to_string()),
                ("smt", node.smt.to_string()),
            ]),
        );
        let latency = Arc::new(Mutex::new(Latency::default()));
        registry.register_collector(Box::new(LatencyCollector(latency.clone())));
        Metrics {
            lint: register!("lint_violation", "Violations of a placement invariant now"),
            safe_mode: register!(
                "safe_mode",
                "1: the node is in safe mode, by who asked for it"
            ),
            attached: register!("scheduler_attached", "1: infera schedules this node"),
            generation: register!("config_generation", "The assignment in force"),
            applied: register!("config_changes", "Assignments published to the scheduler"),
            gathered: register!(
                "config_events",
                "Pod events that were gathered into assignments"
            ),
            tier_pods: register!("tier_pods", "Pods of a tier"),
            tier_cpu: register!(
                "tier_cpu",
                "CPU time of a tier while attached",
                Unit::Seconds
            ),
            stock: register!(
                "stock_scheduler",
                "Time in which the stock scheduler ran this node",
                Unit::Seconds
            ),
            ejects: register!(
                "scheduler_ejects",
                "Times the scheduler was taken off the node"
            ),
            dispatches: register!("dispatches", "Tasks sent to CPUs, by the way they came"),
            ring_full: register!("ring_full", "Tasks that found the ring to the policy full"),
            cfs_periods: register!(
                "cfs_periods",
                "Periods in which a cgroup with a CPU limit ran or waited"
            ),
            cfs_throttled_periods: register!(
                "cfs_throttled_periods",
                "Periods in which tasks waited because their cgroup had used up its CPU limit"
            ),
            limits_refused: register!(
                "limits_refused",
                "Times that a CPU limit was not in force for want of room"
            ),
            tier_throttled: register!(
                "tier_cfs_throttled",
                "Time that tasks of a tier waited because of CPU limits, over all tasks",
                Unit::Seconds
            ),
            psi: register!(
                "psi_some",
                "Time in which some task of a tier's pods waited for a CPU",
                Unit::Seconds
            ),
            api_errors: register!("api_errors", "Requests that the API server did not take"),
            own_cpu: register!("agent_cpu", "CPU time of the agent itself", Unit::Seconds),
            own_memory: register!("agent_memory", "Resident memory of the agent", Unit::Bytes),
            latency,
            registry,
        }
    }

    /// The page.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Violations of an invariant.
    pub fn lint(&self, invariant: &'static str, violations: usize) {
        let label = InvariantLabel { invariant };
        self.lint.get_or_create(&label).set(violations as i64);
    }

    /// Who holds the node in safe mode.
    pub fn safe_mode<'a>(&self, sources: impl Iterator<Item = &'a String>) {
        self.safe_mode.clear();
        let mut any = false;
        for source in sources {
            let reason = source.clone();
            self.safe_mode.get_or_create(&ReasonLabel { reason }).set(1);
            any = true;
        }
        if !any {
            let reason = "none".to_owned();
            self.safe_mode.get_or_create(&ReasonLabel { reason }).set(0);
        }
    }

    /// Whether infera schedules this node; otherwise why not, and for how long since it was
    /// last said.
    pub fn attached(&self, attached: bool, reason: &str, seconds: f64) {
        self.attached.set(attached.into());
        let reason = reason.to_owned();
        let stock = self.stock.get_or_create(&ReasonLabel { reason });
        stock.inc_by(if attached { 0.0 } else { seconds });
    }

    /// The assignment in force.
    pub fn generation(&self, generation: u64) {
        self.generation.set(generation as i64);
    }

    /// An assignment was published.
    pub fn assigned(&self) {
        self.applied.inc();
    }

    /// A pod came, changed or went.
    pub fn pod_event(&self) {
        self.gathered.inc();
    }

    /// The API server refused or did not answer.
    pub fn api_error(&self) {
        self.api_errors.inc();
    }

    /// The pods.
    pub fn pods(&self, sums: &BTreeMap<Tier, TierSum>) {
        for (tier, sum) in sums {
            let tier = tier.name();
            self.tier_pods
                .get_or_create(&TierLabel { tier })
                .set(sum.pods as i64);
        }
    }

    /// Ejects of a kind since the last time.
    pub fn ejects(&self, kind: EjectKind, count: u64) {
        let kind = kind.name().to_owned();
        self.ejects.get_or_create(&KindLabel { kind }).inc_by(count);
    }

    /// How long tasks of a tier waited since the last time.
    pub fn psi(&self, tier: Tier, seconds: f64) {
        let tier = tier.name();
        self.psi.get_or_create(&TierLabel { tier }).inc_by(seconds);
    }

    /// What the agent itself uses.
    pub fn own(&self, cpu_seconds: f64, resident_bytes: u64) {
        self.own_cpu.set(cpu_seconds);
        self.own_memory.set(resident_bytes as i64);
    }

    /// What the scheduler did since the last time.
    pub fn stats(&self, stats: &Stats) {
        self.ring_full.inc_by(stats.ring_full);
        self.cfs_periods.inc_by(stats.cfs_periods);
        self.cfs_throttled_periods
            .inc_by(stats.cfs_throttled_periods);
        self.limits_refused.inc_by(stats.limits_refused);
        for tier in Tier::ALL {
            let none = TierStats::default();
            let row = stats.tiers.get(tier.name()).unwrap_or(&none);
            let label = tier.name();
            self.tier_cpu
                .get_or_create(&TierLabel { tier: label })
                .inc_by((row.cpus * stats.interval_s).max(0.0));
            self.tier_throttled
                .get_or_create(&TierLabel { tier: label })
                .inc_by(row.throttled_s.max(0.0));
            for (path, count) in [
                ("idle", row.idle),
                ("preempt", row.preempt),
                ("queue", row.queue),
                ("user", row.user),
                ("full", row.full),
                ("peer", row.peer),
            ] {
                let label = PathLabel { path, tier: label };
                self.dispatches.get_or_create(&label).inc_by(count);
            }
            if let Ok(mut latency) = self.latency.lock() {
                latency.add(tier, &row.wake_log2_ns);
            }
        }
    }
}

/// Wakeups of each tier by latency, as the scheduler counts them: powers of two nanoseconds.
#[derive(Debug, Default)]
struct Latency {
    tiers: [[u64; 32]; Tier::COUNT],
}

impl Latency {
    fn add(&mut self, tier: Tier, counts: &[u64]) {
        let row = &mut self.tiers[tier.index()];
        for (slot, count) in row.iter_mut().zip(counts) {
            *slot = slot.saturating_add(*count);
        }
    }
}

/// Buckets up to 1 microsecond are one, and so are those from 4 seconds on.
const BUCKETS: std::ops::Range<usize> = 10..32;

#[derive(Debug)]
struct LatencyCollector(Arc<Mutex<Latency>>);

impl Collector for LatencyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "tier_wakeup_latency",
            "Time from a wakeup to the CPU, by powers of two",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let Ok(latency) = self.0.lock() else {
            return Ok(());
        };
        for tier in Tier::ALL {
            let counts = &latency.tiers[tier.index()];
            // A wakeup's latency is taken to be in the middle of its bucket.
            let sum: f64 = counts
                .iter()
                .enumerate()
                .map(|(b, count)| *count as f64 * 1.5 * (1u64 << b) as f64 / 1e9)
                .sum();
            let mut buckets: Vec<(f64, u64)> = BUCKETS
                .map(|b| ((1u64 << b) as f64 / 1e9, counts[b - 1]))
                .collect();
            buckets[0].1 = counts[..BUCKETS.start].iter().sum();
            buckets.push((f64::INFINITY, counts[BUCKETS.end - 1]));
            let label = TierLabel { tier: tier.name() };
            family
                .encode_family(&label)?
                .encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name of the specification.
    const NAMES: [&str; 16] = [
        "infera_lint_violation",
        "infera_safe_mode",
        "infera_scheduler_attached",
        "infera_config_generation",
        "infera_tier_pods",
        "infera_tier_cpu_seconds_total",
        "infera_tier_wakeup_latency_seconds_bucket",
        "infera_stock_scheduler_seconds_total",
        "infera_scheduler_ejects_total",
        "infera_dispatches_total",
        "infera_psi_some_seconds_total",
        "infera_cfs_periods_total",
        "infera_cfs_throttled_periods_total",
        "infera_tier_cfs_throttled_seconds_total",
        "infera_limits_refused_total",
        "infera_build_info",
    ];

    fn full() -> Metrics {
        let metrics = Metrics::new(&Node::default());
        metrics.lint("smt_collision", 2);
        metrics.safe_mode(["annotation".to_owned()].iter());
        metrics.attached(false, "safe-mode", 1.5);
        metrics.generation(3);
        metrics.pods(&crate::assigner::sums(&[]));
        metrics.ejects(EjectKind::Starved, 1);
        metrics.psi(Tier::High, 0.5);
        let row = TierStats {
            cpus: 2.0,
            user: 4,
            wake_log2_ns: (0..32).map(|b| u64::from(b == 15)).collect(),
            ..TierStats::default()
        };
        metrics.stats(&Stats {
            interval_s: 2.0,
            tiers: [("high".to_owned(), row)].into(),
            ..Stats::default()
        });
        metrics
    }

    #[test]
    fn every_promised_name_is_there_and_set() {
        let text = full().text();
        for name in NAMES {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name}\n{text}"
            );
        }
        for line in [
            "infera_lint_violation{invariant=\"smt_collision\"} 2",
            "infera_safe_mode{reason=\"annotation\"} 1",
            "infera_tier_cpu_seconds_total{tier=\"high\"} 4.0",
            "infera_dispatches_total{path=\"user\",tier=\"high\"} 4",
            "infera_stock_scheduler_seconds_total{reason=\"safe-mode\"} 1.5",
            "infera_tier_wakeup_latency_seconds_count{tier=\"high\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    /// Names that begin with `infera_`, as in PromQL.
    fn named(text: &str) -> std::collections::BTreeSet<String> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !word(c));
        let ours = words.filter(|text| text.starts_with("infera_") && text.len() > 7);
        ours.map(str::to_owned).collect()
    }

    #[test]
    fn nothing_is_registered_that_nobody_sets() {
        let text = full().text();
        for line in text.lines() {
            let Some(name) = line.strip_prefix("# TYPE ") else {
                continue;
            };
            let name = name.split(' ').next().unwrap();
            let mut samples = text.lines().filter(|line| !line.starts_with('#'));
            assert!(samples.any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn dashboard_alerts_and_docs_name_only_what_is_there() {
        let there = named(&full().text());
        for (place, text) in [
            (
                "dashboard",
                include_str!("../../deploy/helm/infera/files/dashboard.json"),
            ),
            (
                "alerts",
                include_str!("../../deploy/helm/infera/templates/prometheusrule.yaml"),
            ),
            (
                "docs/operations.md",
                include_str!("../../docs/operations.md"),
            ),
        ] {
            let used = named(text);
            assert!(!used.is_empty(), "{place}");
            let missing: Vec<&String> = used.difference(&there).collect();
            assert!(missing.is_empty(), "{place} names {missing:?}");
        }
    }

    #[test]
    fn a_bucket_holds_what_is_below_its_bound() {
        let text = full().text();
        // 2^15 to 2^16 nanoseconds.
        let below = format!("tier=\"high\",le=\"{}\"}} 0", 32768.0 / 1e9);
        let within = format!("tier=\"high\",le=\"{}\"}} 1", 65536.0 / 1e9);
        let le = |want: &str| {
            text.lines().any(|line| {
                line.contains("wakeup_latency_seconds_bucket") && {
                    let mut parts: Vec<&str> = want.split(['{', '}', ',']).collect();
                    parts.retain(|part| !part.is_empty());
                    parts.iter().all(|part| line.contains(part.trim()))
                }
            })
        };
        assert!(le(&below) && le(&within), "{text}");
    }

    #[test]
    fn who_left_safe_mode_is_shown_no_more() {
        let metrics = full();
        metrics.safe_mode([].iter());
        assert!(!metrics.text().contains("annotation"));
    }
}
