//! The agent's loop: events of pods and node, the guard's state, and what follows from them.
//!
//! What it knows is in the parts: `store` (pods), `assigner` (assignment and plan), `safe_mode`, `enforcement` (the guard's answer),
//! `observer` (what threads do) and `node_writer` (what is written to the API server). The loop waits for none of them, because the
//! annotation for safe mode has to take effect at once.

use crate::assigner::{Assigner, TierSum, sums};
use crate::cli::Args;
use crate::debounce::Debounce;
use crate::enforcement::Enforcement;
use crate::fence::Beside;
use crate::guard::{Paths, Supervisor, ask};
use crate::http::{Question, Shown};
use crate::lint::Snapshot;
use crate::node_writer::NodeWriter;
use crate::observer::Observer;
use crate::publish::Annotations;
use crate::safe_mode::SafeMode;
use crate::store::PodStore;
use crate::verdict::safe_mode_text;
use crate::watches::{watched, with_causes};
use futures::StreamExt;
use infera_control::Request;
use infera_node::Tiers;
use infera_plan::{Config, Topology};
use infera_pods::{Keys, PodFacts};
use infera_policy::Tier;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

/// How often the guard is asked and some threads are checked.
const TICK: Duration = Duration::from_secs(1);
/// Configuration and statistics are read once in this many ticks.
const SLOW: u64 = 5;
/// The pressure of every pod is read once in this many ticks.
const PRESSURE: u64 = 15;
/// The longest interval after which an API server that does not answer is asked again for the node, which may request safe mode.
const NODE_AGAIN: Duration = Duration::from_secs(10);
/// The same for pods, whose list is longer.
const PODS_AGAIN: Duration = Duration::from_secs(30);
/// Failures of a watch are logged no more often.
const LOG: Duration = Duration::from_secs(60);

/// All that the loop knows.
pub struct Agent {
    args: Args,
    keys: Keys,
    paths: Paths,
    config: Config,
    shown: Arc<Shown>,
    store: PodStore,
    debounce: Debounce,
    assigner: Assigner,
    /// Pods and CPU requests of each tier, at the last assignment; none before the first, until which nothing is written to the node.
    sums: Option<BTreeMap<Tier, TierSum>>,
    safe_mode: SafeMode,
    enforcement: Enforcement,
    beside: Beside,
    observer: Observer,
    writer: NodeWriter,
    /// Set when pods are to be listed again: what they map to has changed.
    reread: bool,
    /// What is wrong with the configuration's file, logged once.
    refused: Option<String>,
    /// When a failure of each watch was last logged.
    logged: BTreeMap<&'static str, Instant>,
}

impl Agent {
    /// Goes on from the assignment that an earlier agent published.
    pub fn new(args: Args, config: Config, topology: Option<Topology>, shown: Arc<Shown>) -> Agent {
        let paths = Paths::new(&args.run_dir);
        let keys = Keys::new(&args.prefix);
        Agent {
            store: PodStore::new(keys.clone(), args.pod_uid.clone()),
            debounce: Debounce::new(Duration::from_millis(args.debounce_ms)),
            assigner: Assigner::new(args.cgroup_root.clone(), paths.assignment.clone(), topology),
            sums: None,
            safe_mode: SafeMode::default(),
            enforcement: Enforcement::new(),
            beside: Beside::default(),
            observer: Observer::new(&args.stats_socket),
            writer: NodeWriter::default(),
            reread: false,
            refused: None,
            logged: BTreeMap::new(),
            keys,
            paths,
            config,
            shown,
            args,
        }
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// Signals cannot be received.
    pub async fn run(
        mut self,
        client: Option<Client>,
        mut questions: mpsc::Receiver<Question>,
    ) -> std::io::Result<()> {
        let node = self.args.node_name.clone();
        let of_node = format!("spec.nodeName={node}");
        let mut pods = watched::<Pod>(client.as_ref(), of_node.clone(), PODS_AGAIN);
        let mut nodes =
            watched::<Node>(client.as_ref(), format!("metadata.name={node}"), NODE_AGAIN);
        if client.is_none() {
            // No pods, and that is known.
            self.debounce.changed(Instant::now());
        }
        self.writer = NodeWriter::new(client.clone(), node, self.args.node_condition);
        let mut supervisor = self.supervisor();
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            let due = self.debounce.due();
            if std::mem::take(&mut self.reread) {
                pods = watched::<Pod>(client.as_ref(), of_node.clone(), PODS_AGAIN);
            }
            tokio::select! {
                // In this order: standing down comes before everything else.
                biased;
                _ = term.recv() => break,
                _ = int.recv() => break,
                event = nodes.next() => self.receive_node(event).await,
                () = supervise(&mut supervisor) => {}
                () = until(due) => self.assign().await,
                event = pods.next() => self.receive_pod(event),
                _ = tick.tick() => {
                    let refusal = supervisor.as_ref().and_then(|it| it.refusal.clone());
                    self.tick(refusal.as_deref(), ticks).await;
                    ticks += 1;
                }
                Some(question) = questions.recv() => {
                    // A client that does not wait any longer needs no answer.
                    let _ = question.send(self.observed());
                }
            }
        }
        info!("ending: the stock scheduler takes this node");
        if let Some(supervisor) = &mut supervisor {
            supervisor.end().await;
        }
        let text = "NotReady: the agent has ended".to_owned();
        let last = [(self.keys.agent_status(), text)];
        self.writer.finally(last.into()).await;
        Ok(())
    }

    /// Starts the guard and starts it again, unless the scheduler is started otherwise.
    fn supervisor(&self) -> Option<Supervisor> {
        let Args {
            guard,
            scheduler,
            config,
            ..
        } = &self.args;
        (!self.args.no_scheduler).then(|| Supervisor::new(guard, scheduler, config, &self.paths))
    }

    fn receive_pod(&mut self, event: Option<watcher::Result<Event<Pod>>>) {
        let changed = match event {
            Some(Ok(event)) => self.store.apply(event, &self.config.priority_mapping),
            Some(Err(error)) => return self.api_failed("pods", &error),
            None => return,
        };
        if changed {
            self.shown.metrics.pod_event();
            self.debounce.changed(Instant::now());
        }
    }

    async fn receive_node(&mut self, event: Option<watcher::Result<Event<Node>>>) {
        let node = match event {
            Some(Ok(Event::Apply(node) | Event::InitApply(node))) => node,
            Some(Err(error)) => return self.api_failed("its node", &error),
            _ => return,
        };
        let annotations = node.metadata.annotations.unwrap_or_default();
        let key = self.keys.safe_mode_requested();
        let requested = annotations.get(&key).is_some_and(|value| value == "true");
        self.safe_mode.request(requested, &self.paths, &key).await;
        let ours = self.keys.written();
        let ours = annotations
            .into_iter()
            .filter(|(key, _)| ours.contains(key));
        self.writer.see(ours.collect());
    }

    /// Logged at once, and then once a minute: an API server may be away for hours.
    fn api_failed(&mut self, what: &'static str, error: &watcher::Error) {
        self.shown.metrics.api_error();
        if self
            .logged
            .get(what)
            .is_none_or(|last| last.elapsed() > LOG)
        {
            warn!(
                "cannot watch {what} at the API server, what is known stays in force: {}",
                with_causes(error)
            );
            self.logged.insert(what, Instant::now());
        }
    }

    /// Publishes the assignment of the pods, if it has changed, and has the scheduler read it.
    async fn assign(&mut self) {
        self.debounce.done();
        let pods = self.store.pods();
        let sums = sums(&pods);
        self.shown.metrics.pods(&sums);
        self.sums = Some(sums);
        match self.assigner.publish(&pods) {
            Ok(true) => {
                let assignment = self.assigner.published();
                info!(
                    "assignment {}: {} pods",
                    assignment.generation,
                    assignment.pods.len()
                );
                self.shown.metrics.assigned();
                // A guard that is not there yet reads the file when it starts.
                let _ = ask(&self.paths, Request::Reload).await;
            }
            Ok(false) => {}
            Err(error) => {
                error!("the last assignment stays in force: {error}");
                return self.debounce.changed(Instant::now());
            }
        }
        let wanted = self.by_cgroup(&pods, |pod| (pod.name.clone(), pod.tier));
        let rules = self.config.all_rules();
        let assigned = &self.assigner.published().pods;
        self.observer
            .set_tiers(Tiers::new(&rules, assigned, wanted));
        self.make_plan();
        self.shown.ready();
    }

    /// Something of each pod, by its cgroup.
    fn by_cgroup<T>(&self, pods: &[PodFacts], of: impl Fn(&PodFacts) -> T) -> BTreeMap<String, T> {
        let kubepods = self.assigner.kubepods();
        let entries = pods
            .iter()
            .map(|pod| (kubepods.cgroup(&pod.cgroup_uid, pod.qos), of(pod)));
        entries.collect()
    }

    fn make_plan(&mut self) {
        for notice in self.assigner.make_plan(&self.config) {
            self.writer.warn(notice);
        }
    }

    /// What happens every second.
    async fn tick(&mut self, refusal: Option<&str>, ticks: u64) {
        let key = self.keys.safe_mode_requested();
        self.safe_mode.apply(&self.paths, &key).await;
        let status = ask(&self.paths, Request::Status).await.ok();
        let metrics = &self.shown.metrics;
        if let Some(notice) = self.enforcement.update(status, refusal, metrics) {
            self.writer.notify(notice);
        }
        if ticks.is_multiple_of(SLOW) {
            self.read_config().await;
            for notice in self.assigner.follow_partitions(&self.config) {
                self.writer.warn(notice);
            }
            self.observer.read_stats(&self.shown.metrics).await;
        }
        if ticks.is_multiple_of(PRESSURE) {
            let (root, pods) = (&self.args.cgroup_root, &self.assigner.published().pods);
            self.observer.read_pressure(root, pods, &self.shown.metrics);
            self.check_cpusets();
        }
        self.observer.lint(&self.promised(), &self.shown.metrics);
        let wanted = self.sums.as_ref().map(|sums| self.annotations(sums));
        let status = &self.enforcement.readiness().text;
        self.writer.write(wanted, status, &self.shown.metrics);
        self.shown.round();
    }

    /// Takes a changed configuration over, and has the scheduler do the same.
    async fn read_config(&mut self) {
        if !self.args.config.exists() {
            return;
        }
        match Config::read(&self.args.config) {
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

    /// Warns of Critical pods that cannot use the fence.
    fn check_cpusets(&mut self) {
        let Some(plan) = self.assigner.plan() else {
            return;
        };
        let names = self.by_cgroup(&self.store.pods(), |pod| pod.name.clone());
        let (root, pods) = (&self.args.cgroup_root, &self.assigner.published().pods);
        for notice in self.beside.look(root, &plan.fence, pods, &names) {
            self.writer.warn(notice);
        }
    }

    /// What the linter holds threads against: under the stock scheduler, and before the plan is in force, there is no fence.
    fn promised(&self) -> Snapshot {
        let enforced = self
            .enforcement
            .enforces(self.assigner.published().generation);
        let plan = self.assigner.plan().filter(|_| enforced);
        let topology = self.assigner.topology();
        Snapshot {
            threads: Vec::new(),
            fence: plan.map(|plan| plan.fence.clone()).unwrap_or_default(),
            lent: self.config.loans,
            cores: topology
                .map(|topology| topology.cores.clone())
                .unwrap_or_default(),
        }
    }

    fn annotations(&self, sums: &BTreeMap<Tier, TierSum>) -> Annotations {
        let by_tier = |figure: fn(&TierSum) -> u64| {
            let figures = sums.iter().map(|(tier, sum)| (tier.name(), figure(sum)));
            json!(figures.collect::<BTreeMap<&str, u64>>()).to_string()
        };
        let keys = &self.keys;
        let generation = self.assigner.published().generation.to_string();
        let mut annotations: Annotations = [
            (
                keys.agent_status(),
                self.enforcement.readiness().text.clone(),
            ),
            (keys.config_generation(), generation),
            (keys.tier_pods(), by_tier(|sum| sum.pods)),
            (keys.tier_cpu_millis(), by_tier(|sum| sum.cpu_millis)),
        ]
        .into();
        if let Some(text) = safe_mode_text(self.enforcement.status()) {
            annotations.insert(keys.safe_mode(), text);
        }
        annotations
    }

    /// The page `/observe`.
    fn observed(&mut self) -> serde_json::Value {
        let mut page = self.observer.page();
        let topology = self.assigner.topology();
        let status = self.enforcement.status();
        let published = self.assigner.published();
        page["node"] = json!(self.args.node_name);
        page["machine"] = json!({
            "cpus": topology.map_or(0, |topology| topology.cpus().len()),
            "cores": topology.map_or(0, |topology| topology.cores.len()),
            "llcs": topology.map_or(0, |topology| topology.llcs.len()),
        });
        page["status"] = json!(self.enforcement.readiness().text);
        page["safe_mode"] = json!(status.map(|status| &status.safe_mode));
        page["assignment"] = json!({
            "generation": published.generation,
            "in_force": status.map(|status| status.generation),
            "pods": published.pods.len(),
            "critical_cores": published.critical_cores,
        });
        page["plan"] = json!(self.assigner.plan().map(|plan| json!({
            "fence": plan.fence,
            "lent": self.config.loans,
            "reasons": plan.reasons,
        })));
        page
    }
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
