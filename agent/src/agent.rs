//! The agent's loop: what it hears of pods, of its node and of the guard, and what follows.

use crate::book::{Book, Debounce, TierSum, assign, sums};
use crate::cli::Args;
use crate::fence::{self, Beside};
use crate::guard::{Paths, Supervisor, ask, stand_down, take_over};
use crate::http::{Question, Shown};
use crate::lint::{self, Judge, Snapshot, Verdict};
use crate::own;
use crate::publish::{self, Annotations, Notice};
use crate::tree::Kubepods;
use crate::verdict::{Readiness, safe_mode_text};
use futures::{FutureExt, Stream, StreamExt};
use infera_control::{EjectKind, Request, Status};
use infera_node::{Busiest, Sampler, Stats, StatsClient, Thread, Tiers, cpu_some_us};
use infera_plan::{Assignment, Config, Plan, Topology};
use infera_pods::{Keys, PodFacts};
use infera_policy::Tier;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

/// How often it looks at the guard and at some threads.
const TICK: Duration = Duration::from_secs(1);
/// In so many ticks once: configuration and statistics.
const SLOW: u64 = 5;
/// In so many ticks once: the pressure of every pod.
const PRESSURE: u64 = 15;
/// Threads that the linter looks at in a tick.
const THREADS: usize = 20;
/// Annotations are written no more often.
const PUBLISH: Duration = Duration::from_secs(1);
/// After a failure they wait so much longer.
const RETRY: Duration = Duration::from_secs(5);
/// And again after so long, should somebody have changed them where we do not look.
const REPUBLISH: Duration = Duration::from_secs(300);
/// When the API server does not answer, it is asked again in growing intervals of at most so long for its
/// node, which may want safe mode ...
const NODE_AGAIN: Duration = Duration::from_secs(10);
/// ... and for its pods, of which more is to be told.
const PODS_AGAIN: Duration = Duration::from_secs(30);
/// Violations are logged no more often.
const LOG: Duration = Duration::from_secs(60);

/// The usual one, bounded.
struct Patience {
    growing: DefaultBackoff,
    longest: Duration,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.growing.next()?.min(self.longest))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.growing.reset();
    }
}

type Watched<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// Without an API server nothing is ever heard.
fn watched<K>(client: Option<&Client>, field: String, longest: Duration) -> Watched<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let Some(client) = client else {
        return Box::pin(futures::stream::pending());
    };
    let config = watcher::Config::default().fields(&field);
    let patience = Patience {
        growing: DefaultBackoff::default(),
        longest,
    };
    Box::pin(watch(Api::all(client.clone()), config).backoff(patience))
}

/// A write to the API server that is under way: the loop waits for none.
#[derive(Default)]
struct Writing {
    task: Option<JoinHandle<kube::Result<()>>>,
}

impl Writing {
    fn busy(&self) -> bool {
        self.task.is_some()
    }

    fn start(&mut self, request: impl Future<Output = kube::Result<()>> + Send + 'static) {
        self.task = Some(tokio::spawn(request));
    }

    /// How it ended, once it has.
    fn ended(&mut self) -> Option<Result<(), String>> {
        let result = self.task.as_mut()?.now_or_never()?;
        self.task = None;
        Some(match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(error) => Err(error.to_string()),
        })
    }
}

/// All that the loop knows.
pub struct Agent {
    args: Args,
    keys: Keys,
    paths: Paths,
    config: Config,
    topology: Option<Topology>,
    shown: Arc<Shown>,
    client: Option<Client>,
    // Pods, by their uid at the API server.
    pods: BTreeMap<String, PodFacts>,
    listed: Option<BTreeMap<String, PodFacts>>,
    // Set once the pods that are there have been taken care of: words come after deeds.
    acquainted: bool,
    sums: BTreeMap<Tier, TierSum>,
    book: Book,
    debounce: Debounce,
    // Safe mode, as the node's annotation wants it, and as the guard was told.
    requested: Option<bool>,
    acted: Option<bool>,
    status: Option<Status>,
    readiness: Readiness,
    since: Instant,
    // What others see of the node.
    seen: Option<Annotations>,
    written: Option<(Annotations, Instant)>,
    annotating: Writing,
    condition: Writing,
    notices: VecDeque<Notice>,
    telling: Writing,
    ejects: BTreeMap<EjectKind, u64>,
    plan: Option<Plan>,
    beside: Beside,
    // Set when pods are to be read again: what they map to has changed.
    reread: bool,
    // What is wrong with the configuration's file, said once.
    refused: Option<String>,
    sampler: Sampler,
    tiers: Tiers,
    busiest: Busiest,
    judge: Judge,
    logged: BTreeMap<&'static str, Instant>,
    // Seconds of CPU time that looking took.
    lint_cpu: f64,
    stats: Arc<Mutex<StatsClient>>,
    latest: Stats,
    pressure: BTreeMap<String, u64>,
    // By tier: seconds in which tasks of its pods waited for a CPU.
    stalled: BTreeMap<&'static str, f64>,
}

impl Agent {
    /// Knows what an earlier agent told the scheduler.
    pub fn new(args: Args, config: Config, topology: Option<Topology>, shown: Arc<Shown>) -> Agent {
        let paths = Paths::new(&args.run_dir);
        let told = Assignment::read(&paths.assignment).unwrap_or_else(|error| {
            warn!("beginning anew: {error}");
            Assignment::default()
        });
        Agent {
            keys: Keys::new(&args.prefix),
            config,
            topology,
            shown,
            client: None,
            pods: BTreeMap::new(),
            listed: None,
            acquainted: false,
            sums: BTreeMap::new(),
            book: Book::new(told),
            debounce: Debounce::new(Duration::from_millis(args.debounce_ms)),
            requested: None,
            acted: None,
            status: None,
            readiness: Readiness::of(None, Some("starting")),
            since: Instant::now(),
            seen: None,
            written: None,
            annotating: Writing::default(),
            condition: Writing::default(),
            notices: VecDeque::new(),
            telling: Writing::default(),
            ejects: BTreeMap::new(),
            plan: None,
            beside: Beside::default(),
            reread: false,
            refused: None,
            sampler: Sampler::new(Path::new("/proc"), THREADS),
            tiers: Tiers::default(),
            busiest: Busiest::default(),
            judge: Judge::default(),
            logged: BTreeMap::new(),
            lint_cpu: 0.0,
            stats: Arc::new(Mutex::new(StatsClient::new(&args.stats_socket))),
            latest: Stats::default(),
            pressure: BTreeMap::new(),
            stalled: BTreeMap::new(),
            paths,
            args,
        }
    }

    /// Runs until it is asked to end.
    pub async fn run(
        mut self,
        client: Option<Client>,
        mut questions: mpsc::Receiver<Question>,
    ) -> std::io::Result<()> {
        let node = self.args.node_name.clone();
        let mut pods = watched::<Pod>(client.as_ref(), format!("spec.nodeName={node}"), PODS_AGAIN);
        let mut nodes =
            watched::<Node>(client.as_ref(), format!("metadata.name={node}"), NODE_AGAIN);
        if client.is_none() {
            // No pods, and that is known.
            self.debounce.changed(Instant::now());
        }
        self.client = client;
        let mut supervisor = (!self.args.no_scheduler).then(|| {
            let Args {
                guard,
                scheduler,
                config,
                ..
            } = &self.args;
            Supervisor::new(guard, scheduler, config, &self.paths)
        });
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            let due = self.debounce.due();
            if std::mem::take(&mut self.reread) {
                pods = watched::<Pod>(
                    self.client.as_ref(),
                    format!("spec.nodeName={node}"),
                    PODS_AGAIN,
                );
            }
            tokio::select! {
                // In this order: standing down comes before everything else.
                biased;
                _ = term.recv() => break,
                _ = int.recv() => break,
                event = nodes.next() => self.hear_node(event).await,
                () = supervise(&mut supervisor) => {}
                () = until(due) => self.tell().await,
                event = pods.next() => self.hear_pod(event),
                _ = tick.tick() => {
                    let refusal = supervisor.as_ref().and_then(|it| it.refusal.clone());
                    self.look(refusal.as_deref(), ticks).await;
                    ticks += 1;
                }
                Some(question) = questions.recv() => {
                    // Who does not wait any longer needs no answer.
                    let _ = question.send(self.observed());
                }
            }
        }
        info!("ending: the stock scheduler takes this node");
        if let Some(supervisor) = &mut supervisor {
            supervisor.end().await;
        }
        let text = "NotReady: the agent has ended".to_owned();
        let last: Annotations = [(self.keys.agent_status(), text)].into();
        if let Some(client) = self.client.take() {
            let write = publish::annotate(client, node, last);
            let _ = tokio::time::timeout(Duration::from_secs(2), write).await;
        }
        Ok(())
    }

    fn hear_pod(&mut self, event: Option<watcher::Result<Event<Pod>>>) {
        let facts = |agent: &Agent, pod: &Pod| {
            let mut facts = PodFacts::of(pod, &agent.keys, &agent.config.priority_mapping)?;
            let uid = pod.metadata.uid.clone()?;
            // It is one of the node's own services, whatever its class.
            if agent.args.pod_uid.as_ref() == Some(&uid) {
                facts.tier = Tier::System;
            }
            Some((uid, facts))
        };
        match event {
            Some(Ok(Event::Init)) => self.listed = Some(BTreeMap::new()),
            Some(Ok(Event::InitApply(pod))) => {
                if let Some((uid, facts)) = facts(self, &pod) {
                    self.listed.get_or_insert_default().insert(uid, facts);
                }
            }
            Some(Ok(Event::InitDone)) => {
                self.pods = self.listed.take().unwrap_or_default();
                self.changed();
            }
            Some(Ok(Event::Apply(pod))) => match facts(self, &pod) {
                Some((uid, facts)) => {
                    if self.pods.get(&uid) != Some(&facts) {
                        self.pods.insert(uid, facts);
                        self.changed();
                    }
                }
                // It has ended.
                None => self.gone(&pod),
            },
            Some(Ok(Event::Delete(pod))) => self.gone(&pod),
            Some(Err(error)) => self.api_failed("pods", &error),
            None => {}
        }
    }

    fn gone(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if self.pods.remove(uid).is_some() {
            self.changed();
        }
    }

    fn changed(&mut self) {
        self.shown.metrics.pod_event();
        self.debounce.changed(Instant::now());
    }

    async fn hear_node(&mut self, event: Option<watcher::Result<Event<Node>>>) {
        let node = match event {
            Some(Ok(Event::Apply(node) | Event::InitApply(node))) => node,
            Some(Err(error)) => return self.api_failed("its node", &error),
            _ => return,
        };
        let annotations = node.metadata.annotations.unwrap_or_default();
        let requested = annotations
            .get(&self.keys.safe_mode_requested())
            .is_some_and(|value| value == "true");
        self.requested = Some(requested);
        self.act().await;
        let ours = self.keys.written();
        let ours = annotations
            .into_iter()
            .filter(|(key, _)| ours.contains(key));
        self.seen = Some(ours.collect());
    }

    /// Does what the annotation wants, without asking the API server anything.
    async fn act(&mut self) {
        let Some(requested) = self.requested.filter(|_| self.requested != self.acted) else {
            return;
        };
        let heard = Instant::now();
        let done = match requested {
            true => {
                let key = self.keys.safe_mode_requested();
                info!("{key}=true: standing down");
                stand_down(&self.paths, &format!("{key}=true")).await
            }
            false => take_over(&self.paths).await,
        };
        match done {
            Ok(()) => {
                info!(
                    "safe mode is {} as the node's annotation asks, {} ms after it was heard",
                    if requested { "on" } else { "off" },
                    heard.elapsed().as_millis()
                );
                self.acted = self.requested;
            }
            // Again with the next tick.
            Err(error) if requested => error!("cannot stand down: {error}"),
            Err(_) => {}
        }
    }

    /// Said at once, and then once a minute: an API server may be away for hours.
    fn api_failed(&mut self, what: &'static str, error: &watcher::Error) {
        self.shown.metrics.api_error();
        if self
            .logged
            .get(what)
            .is_none_or(|last| last.elapsed() > LOG)
        {
            warn!(
                "the API server does not tell of {what}, what is known stays in force: {}",
                with_causes(error)
            );
            self.logged.insert(what, Instant::now());
        }
    }

    fn kubepods(&self) -> Kubepods {
        Kubepods::find(&self.args.cgroup_root).unwrap_or_else(|| {
            // No pod was here yet: what most kubelets do.
            Kubepods::Systemd(String::new(), "kubepods".into())
        })
    }

    /// Tells the scheduler, if something has changed.
    async fn tell(&mut self) {
        self.debounce.done();
        self.acquainted = true;
        let kubepods = self.kubepods();
        let pods: Vec<PodFacts> = self.pods.values().cloned().collect();
        let threads = self.topology.as_ref().map_or(1, Topology::threads_per_core);
        let (wanted, left_out) = assign(&pods, &kubepods, threads);
        if left_out > 0 {
            warn!(
                "{left_out} pods are left out: more than {} on a node",
                crate::book::MAX_PODS
            );
        }
        self.sums = sums(&pods);
        self.shown.metrics.pods(&self.sums);
        let by_cgroup = pods.iter().map(|pod| {
            let cgroup = kubepods.cgroup(&pod.cgroup_uid, pod.qos);
            (cgroup, (pod.name.clone(), pod.tier))
        });
        let by_cgroup = by_cgroup.collect();
        if let Some(next) = self.book.next(&wanted) {
            if let Err(error) = next.write(&self.paths.assignment) {
                error!("the last assignment stays in force: {error}");
                return self.debounce.changed(Instant::now());
            }
            info!("assignment {}: {} pods", next.generation, next.pods.len());
            self.shown.metrics.told();
            self.book.tell(next);
            // Not there yet: it reads the file when it comes.
            let _ = ask(&self.paths, Request::Reload).await;
        }
        self.tiers = Tiers::new(&self.config.all_rules(), &self.book.told().pods, by_cgroup);
        self.make_plan();
        self.shown.ready();
    }

    fn make_plan(&mut self) {
        let Some(topology) = &self.topology else {
            return;
        };
        let config = self.config.fenced_for(self.book.told().critical_cores);
        let plan = Plan::new(topology, &config);
        for notice in fence::changes(self.plan.as_ref(), &plan) {
            warn!("{}", notice.note);
            self.notices.push_back(notice);
        }
        self.plan = Some(plan);
    }

    /// What happens every second.
    async fn look(&mut self, refusal: Option<&str>, ticks: u64) {
        self.act().await;
        self.look_at_guard(refusal).await;
        if ticks.is_multiple_of(SLOW) {
            self.look_at_config().await;
            self.look_at_partitions();
            self.look_at_stats().await;
        }
        if ticks.is_multiple_of(PRESSURE) {
            self.look_at_pressure();
            self.look_at_cpusets();
        }
        self.lint();
        self.write();
        self.shown.round();
    }

    async fn look_at_guard(&mut self, refusal: Option<&str>) {
        self.status = ask(&self.paths, Request::Status).await.ok();
        let readiness = Readiness::of(self.status.as_ref(), refusal);
        let metrics = &self.shown.metrics;
        metrics.attached(
            readiness.attached,
            readiness.reason,
            self.since.elapsed().as_secs_f64(),
        );
        self.since = Instant::now();
        if let Some(status) = &self.status {
            metrics.safe_mode(status.safe_mode.keys());
            metrics.generation(status.generation);
            for (kind, count) in &status.eject_kinds {
                let before = self.ejects.insert(*kind, *count).unwrap_or(0);
                metrics.ejects(*kind, count.saturating_sub(before));
            }
            // A guard that was started anew counts from none.
            self.ejects
                .retain(|kind, _| status.eject_kinds.contains_key(kind));
        }
        if readiness != self.readiness {
            info!("{}", readiness.text);
            self.notices.push_back(Notice {
                warning: !readiness.attached,
                reason: match readiness.reason {
                    "attached" => "Enforcing",
                    "safe-mode" => "SafeMode",
                    "ejected" => "Ejected",
                    "degraded" => "Degraded",
                    _ => "NotEnforcing",
                },
                note: readiness.text.clone(),
            });
            self.readiness = readiness;
        }
    }

    /// Takes a changed configuration over, as the scheduler does when it is told to.
    async fn look_at_config(&mut self) {
        let config = match self.args.config.exists() {
            true => Config::read(&self.args.config),
            false => return,
        };
        match config {
            Ok(config) if config != self.config => {
                info!("configuration read again");
                self.config = config;
                self.reread = true;
                self.make_plan();
                let _ = ask(&self.paths, Request::Reload).await;
            }
            Ok(_) => {}
            Err(error) if self.refused.as_deref() != Some(&error.to_string()) => {
                error!("configuration not changed: {error}");
                self.refused = Some(error.to_string());
            }
            Err(_) => {}
        }
    }

    /// Plans anew when cpuset partitions came or went; the scheduler does so by itself.
    fn look_at_partitions(&mut self) {
        let Some(topology) = &mut self.topology else {
            return;
        };
        let partitions = topology.partitions_below(&self.args.cgroup_root);
        if partitions != topology.partitions {
            topology.partitions = partitions;
            self.make_plan();
        }
    }

    fn look_at_cpusets(&mut self) {
        let Some(plan) = &self.plan else { return };
        let kubepods = self.kubepods();
        let names = self.pods.values().map(|pod| {
            let cgroup = kubepods.cgroup(&pod.cgroup_uid, pod.qos);
            (cgroup, pod.name.clone())
        });
        let (root, pods) = (&self.args.cgroup_root, &self.book.told().pods);
        for notice in self.beside.look(root, &plan.fence, pods, &names.collect()) {
            warn!("{}", notice.note);
            self.notices.push_back(notice);
        }
    }

    async fn look_at_stats(&mut self) {
        let client = self.stats.clone();
        let read = tokio::task::spawn_blocking(move || client.lock().ok()?.read().ok()).await;
        if let Ok(Some(stats)) = read {
            self.shown.metrics.stats(&stats);
            self.latest = stats;
        }
        let (seconds, bytes) = own::usage(Path::new("/proc"));
        self.shown.metrics.own(seconds, bytes);
    }

    fn look_at_pressure(&mut self) {
        let mut now = BTreeMap::new();
        let mut grown: BTreeMap<Tier, u64> = BTreeMap::new();
        for pod in &self.book.told().pods {
            let path = self
                .args
                .cgroup_root
                .join(pod.cgroup.trim_start_matches('/'))
                .join("cpu.pressure");
            if let Some(total) = cpu_some_us(&path) {
                let before = self.pressure.get(&pod.cgroup).copied().unwrap_or(total);
                *grown.entry(pod.tier).or_default() += total.saturating_sub(before);
                now.insert(pod.cgroup.clone(), total);
            }
        }
        self.pressure = now;
        for tier in Tier::ALL {
            let seconds = grown.get(&tier).copied().unwrap_or(0) as f64 / 1e6;
            self.shown.metrics.psi(tier, seconds);
            *self.stalled.entry(tier.name()).or_default() += seconds;
        }
    }

    fn lint(&mut self) {
        let before = own::thread_cpu();
        self.check();
        self.lint_cpu += own::thread_cpu() - before;
    }

    fn check(&mut self) {
        let now = Instant::now();
        let threads = self.sampler.sample(&self.tiers);
        self.busiest.see(&threads, now);
        let some = self.snapshot(threads);
        if self.judge.wants_all(&some, now) {
            let all = self.snapshot(self.sampler.all(&self.tiers));
            self.judge.look(&all, now);
        }
        for (id, verdict) in self.judge.verdicts() {
            self.shown.metrics.lint(id, verdict.violations());
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

    fn snapshot(&self, threads: Vec<Thread>) -> Snapshot {
        // The stock scheduler knows no fences: nothing is promised then.
        let in_force = self
            .status
            .as_ref()
            .is_some_and(|status| status.generation == self.book.generation());
        let fenced = self
            .plan
            .as_ref()
            .filter(|_| self.readiness.attached && in_force);
        Snapshot {
            threads,
            fence: fenced.map(|plan| plan.fence.clone()).unwrap_or_default(),
            lent: self.config.loans,
            cores: self
                .topology
                .as_ref()
                .map(|topology| topology.cores.clone())
                .unwrap_or_default(),
        }
    }

    fn wanted(&self) -> Annotations {
        let by_tier = |figure: fn(&TierSum) -> u64| {
            let figures: BTreeMap<&str, u64> = self
                .sums
                .iter()
                .map(|(tier, sum)| (tier.name(), figure(sum)))
                .collect();
            json!(figures).to_string()
        };
        let mut wanted: Annotations = [
            (self.keys.agent_status(), self.readiness.text.clone()),
            (
                self.keys.config_generation(),
                self.book.generation().to_string(),
            ),
            (self.keys.tier_pods(), by_tier(|sum| sum.pods)),
            (self.keys.tier_cpu_millis(), by_tier(|sum| sum.cpu_millis)),
        ]
        .into();
        if let Some(text) = safe_mode_text(self.status.as_ref()) {
            wanted.insert(self.keys.safe_mode(), text);
        }
        wanted
    }

    /// Writes what has changed, and waits for nothing.
    fn write(&mut self) {
        for (what, writing) in [
            ("annotations", &mut self.annotating),
            ("condition", &mut self.condition),
            ("events", &mut self.telling),
        ] {
            if let Some(Err(error)) = writing.ended() {
                self.shown.metrics.api_error();
                warn!("cannot write the node's {what}: {error}");
                if what == "annotations" {
                    // Not gone: to be written again, and not every second.
                    self.written = Some((Annotations::new(), Instant::now() + RETRY));
                }
            }
        }
        let Some(client) = self.client.clone() else {
            return;
        };
        let node = self.args.node_name.clone();
        let wanted = self.wanted();
        let stale = self.written.as_ref().is_none_or(|(last, at)| {
            let changed = *last != wanted || self.seen.as_ref().is_some_and(|seen| *seen != wanted);
            let since = Instant::now().checked_duration_since(*at);
            since.is_some_and(|since| since >= REPUBLISH || (changed && since >= PUBLISH))
        });
        if self.acquainted && stale && !self.annotating.busy() {
            self.written = Some((wanted.clone(), Instant::now()));
            self.annotating
                .start(publish::annotate(client.clone(), node.clone(), wanted));
            if self.args.node_condition && !self.condition.busy() {
                let now = k8s_openapi::jiff::Timestamp::now().to_string();
                let text = self.readiness.text.clone();
                self.condition
                    .start(publish::condition(client.clone(), node.clone(), text, now));
            }
        }
        if !self.telling.busy()
            && let Some(notice) = self.notices.pop_front()
        {
            let recorder = publish::recorder(client, &node);
            self.telling.start(publish::tell(recorder, node, notice));
        }
        // Nobody reads old news.
        self.notices.truncate(16);
    }

    fn linted(&self) -> BTreeMap<&str, serde_json::Value> {
        let checks = lint::CHECKS.iter().filter_map(|check| {
            let verdict = self.judge.verdicts().get(check.id())?;
            Some((check.id(), json!({"why": check.why(), "now": verdict})))
        });
        checks.collect()
    }

    fn observed(&mut self) -> serde_json::Value {
        let (cpu, resident) = own::usage(Path::new("/proc"));
        let topology = self.topology.as_ref();
        json!({
            "node": self.args.node_name,
            "machine": {
                "cpus": topology.map_or(0, |topology| topology.cpus().len()),
                "cores": topology.map_or(0, |topology| topology.cores.len()),
                "llcs": topology.map_or(0, |topology| topology.llcs.len()),
            },
            "status": self.readiness.text,
            "safe_mode": self.status.as_ref().map(|status| &status.safe_mode),
            "assignment": {
                "generation": self.book.generation(),
                "in_force": self.status.as_ref().map(|status| status.generation),
                "pods": self.book.told().pods.len(),
                "critical_cores": self.book.told().critical_cores,
            },
            "plan": self.plan.as_ref().map(|plan| json!({
                "fence": plan.fence,
                "lent": self.config.loans,
                "reasons": plan.reasons,
            })),
            "tiers": self.latest,
            "psi": {
                "node_some_seconds": cpu_some_us(Path::new("/proc/pressure/cpu"))
                    .map(|us| us as f64 / 1e6),
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

/// An error and what it came from: "client error" alone helps nobody. Causes that are said already
/// are not said again.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.contains(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
        cause = error.source();
    }
    text
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn supervise(supervisor: &mut Option<Supervisor>) {
    match supervisor {
        Some(supervisor) => supervisor.step().await,
        None => std::future::pending().await,
    }
}
