//! Kubelets without containers: pods run in name only, and go when they are deleted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::k8s::cluster::Cluster;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// How long a program takes to end.
const ENDING: Duration = Duration::from_secs(1);

/// An image whose tag has this in it cannot be pulled.
const MISSING: &str = "missing";

/// The beginning of a complaint that no order of things excuses.
const CROWDED: &str = "two agents on one node";

/// What a pod's program would do, done for it.
pub trait Programs: Send {
    /// An agent begins on its node.
    fn start(&mut self, pod: &Pod) -> Result<()>;
    /// Whether it is ready.
    fn ready(&mut self, pod: &Pod) -> Result<bool>;
    /// An agent is gone from its node.
    fn stop(&mut self, pod: &Pod) -> Result<()>;
    /// A job's program runs to its end.
    fn run(&mut self, pod: &Pod) -> Result<()>;
    /// Where an agent can be reached, if it has an address of its own.
    fn address(&self, _pod: &Pod) -> Option<String> {
        None
    }
}

/// A pod, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Unique in time, too.
    pub uid: String,
    /// Where it is bound.
    pub node: Option<String>,
    /// Whose rights it has.
    pub account: String,
    /// The label `app.kubernetes.io/component`.
    pub component: String,
    /// The image of its container.
    pub image: String,
    /// What its container is called.
    pub container: String,
    /// Of its container.
    pub arguments: Vec<String>,
    /// Whether its deletion was requested.
    pub deleted: bool,
    /// Whether it says that it is ready.
    pub ready: bool,
    phase: String,
    to_the_end: bool,
}

impl Pod {
    fn from(object: &Value) -> Option<Pod> {
        let meta = &object["metadata"];
        let spec = &object["spec"];
        let container = &spec["containers"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = object["status"]["conditions"].as_array();
        Some(Pod {
            name: text(&meta["name"])?,
            namespace: text(&meta["namespace"])?,
            uid: text(&meta["uid"])?,
            node: text(&spec["nodeName"]),
            account: text(&spec["serviceAccountName"]).unwrap_or_default(),
            component: text(&meta["labels"]["app.kubernetes.io/component"]).unwrap_or_default(),
            image: text(&container["image"])?,
            container: text(&container["name"])?,
            arguments: container["args"]
                .as_array()
                .map(|all| all.iter().filter_map(text).collect())
                .unwrap_or_default(),
            deleted: !meta["deletionTimestamp"].is_null(),
            ready: conditions.is_some_and(|all| {
                all.iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            }),
            phase: text(&object["status"]["phase"]).unwrap_or_default(),
            to_the_end: spec["restartPolicy"] == "Never",
        })
    }

    /// The tag of its image.
    pub fn tag(&self) -> &str {
        self.image.rsplit_once(':').map_or("", |(_, tag)| tag)
    }
}

/// All pods.
pub fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let listed = cluster.get(&["pods", "--all-namespaces"])?;
    let items = listed["items"].as_array().context("no list of pods")?;
    Ok(items.iter().filter_map(Pod::from).collect())
}

/// Kubelets of all nodes; end when dropped.
pub struct Kubelets {
    stop: Arc<AtomicBool>,
    complaints: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Kubelets {
    /// Starts them.
    pub fn start(cluster: Arc<Cluster>, programs: Box<dyn Programs>) -> Kubelets {
        let stop = Arc::new(AtomicBool::new(false));
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (stopped, said) = (stop.clone(), complaints.clone());
        let thread = thread::spawn(move || {
            let mut work = Work {
                cluster,
                programs,
                running: BTreeMap::new(),
                ending: BTreeMap::new(),
            };
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = work.look()
                    && let Ok(mut said) = said.lock()
                {
                    said.push(format!("{error:#}"));
                }
                thread::sleep(PAUSE);
            }
        });
        Kubelets {
            stop,
            complaints,
            thread: Some(thread),
        }
    }

    /// Fails if a node ever had two agents at once.
    pub fn never_crowded(&self) -> Result<()> {
        let said = self.complaints();
        ensure!(!said.contains(CROWDED), "{said}");
        Ok(())
    }

    /// What did not work, to be shown when something else fails.
    pub fn complaints(&self) -> String {
        let said = self.complaints.lock();
        said.map_or_else(|_| String::new(), |said| said.join("\n"))
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    cluster: Arc<Cluster>,
    programs: Box<dyn Programs>,
    /// Agents, by their pods' uid.
    running: BTreeMap<String, Pod>,
    /// Since when pods are asked to end.
    ending: BTreeMap<String, Instant>,
}

impl Work {
    fn look(&mut self) -> Result<()> {
        let pods = pods(&self.cluster)?;
        let gone: Vec<String> = self
            .running
            .keys()
            .filter(|uid| !pods.iter().any(|pod| pod.uid == **uid))
            .cloned()
            .collect();
        for uid in gone {
            if let Some(pod) = self.running.remove(&uid) {
                self.programs.stop(&pod)?;
            }
        }
        let mut outcome = Ok(());
        for pod in pods {
            let done = self.alone(&pod).and_then(|()| self.one(pod));
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Two agents on one node would both load a scheduler.
    fn alone(&self, pod: &Pod) -> Result<()> {
        let agents = ["agent", "agent-canary"];
        let other = self
            .running
            .values()
            .find(|other| other.uid != pod.uid && pod.node.is_some() && other.node == pod.node);
        match other {
            Some(other) if agents.contains(&pod.component.as_str()) => {
                bail!("{CROWDED}: {} beside {}", pod.name, other.name)
            }
            _ => Ok(()),
        }
    }

    fn one(&mut self, pod: Pod) -> Result<()> {
        if pod.node.is_none() {
            // The scheduler's.
        } else if pod.deleted {
            let since = *self
                .ending
                .entry(pod.uid.clone())
                .or_insert_with(Instant::now);
            if self.running.contains_key(&pod.uid) && since.elapsed() < ENDING {
                return Ok(());
            }
            if let Some(pod) = self.running.remove(&pod.uid) {
                self.programs.stop(&pod)?;
            }
            let arguments = ["-n", &pod.namespace, "delete", "pod", &pod.name];
            let now = ["--grace-period=0", "--force", "--wait=false"];
            self.cluster.kubectl(&[&arguments[..], &now].concat())?;
        } else if pod.phase != "Pending" {
            if self.running.contains_key(&pod.uid) && !pod.ready && self.programs.ready(&pod)? {
                self.status(&pod, "Running", true, &json!({"running": {}}))?;
            }
        } else if pod.tag().contains(MISSING) {
            let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
            self.status(&pod, "Pending", false, &waiting)?;
        } else if pod.to_the_end {
            let (phase, code) = match self.programs.run(&pod) {
                Ok(()) => ("Succeeded", 0),
                Err(_) => ("Failed", 1),
            };
            let ended = json!({"terminated": {"exitCode": code, "reason": phase}});
            self.status(&pod, phase, false, &ended)?;
        } else {
            self.programs.start(&pod)?;
            self.running.insert(pod.uid.clone(), pod.clone());
            let ready = self.programs.ready(&pod)?;
            self.status(&pod, "Running", ready, &json!({"running": {}}))?;
        }
        Ok(())
    }

    fn status(&self, pod: &Pod, phase: &str, ready: bool, state: &Value) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let condition = |name: &str| json!({"type": name, "status": status});
        let mut patch = json!({"status": {
            "phase": phase,
            "conditions": [condition("Ready"), condition("ContainersReady")],
            "containerStatuses": [{"name": pod.container, "image": pod.image, "imageID": "",
                "restartCount": 0, "ready": ready, "state": state}],
        }});
        if let Some(address) = self.programs.address(pod) {
            patch["status"]["podIP"] = json!(address);
            patch["status"]["podIPs"] = json!([{ "ip": address }]);
        }
        let patch = patch.to_string();
        let arguments = ["-n", &pod.namespace, "patch", "pod", &pod.name];
        let how = ["--subresource=status", "--type=merge", "-p", &patch];
        self.cluster.kubectl(&[&arguments[..], &how].concat())?;
        Ok(())
    }
}
