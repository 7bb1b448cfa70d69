//! Kubelets without containers: pods are bound, run in name only, and go when they are deleted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::k8s::cluster::Cluster;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// An image whose tag has this in it cannot be pulled.
const MISSING: &str = "missing";

/// What a pod's program would do, done for it.
pub trait Programs: Send {
    /// An agent begins on its node.
    fn start(&mut self, pod: &Pod) -> Result<()>;
    /// An agent is gone from its node.
    fn stop(&mut self, pod: &Pod) -> Result<()>;
    /// A job's program runs to its end.
    fn run(&mut self, pod: &Pod) -> Result<()>;
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
    /// Whether somebody deleted it.
    pub deleted: bool,
    /// Whether it says that it is ready.
    pub ready: bool,
    phase: String,
    wanted_node: Option<String>,
    to_the_end: bool,
}

impl Pod {
    fn from(object: &Value) -> Option<Pod> {
        let meta = &object["metadata"];
        let spec = &object["spec"];
        let container = &spec["containers"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"];
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
            // How the DaemonSet controller says for which node it made a pod.
            wanted_node: text(&terms[0]["matchFields"][0]["values"][0]),
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
    pub fn start(cluster: Arc<Cluster>, programs: impl Programs + 'static) -> Kubelets {
        let stop = Arc::new(AtomicBool::new(false));
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (stopped, said) = (stop.clone(), complaints.clone());
        let thread = thread::spawn(move || {
            let mut work = Work {
                cluster,
                programs,
                running: BTreeMap::new(),
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

struct Work<P> {
    cluster: Arc<Cluster>,
    programs: P,
    /// Agents, by their pods' uid.
    running: BTreeMap<String, Pod>,
}

impl<P: Programs> Work<P> {
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
        for pod in pods {
            self.one(pod)?;
        }
        Ok(())
    }

    fn one(&mut self, pod: Pod) -> Result<()> {
        if pod.node.is_none() {
            return if pod.deleted { Ok(()) } else { self.bind(&pod) };
        }
        if pod.deleted {
            if let Some(pod) = self.running.remove(&pod.uid) {
                self.programs.stop(&pod)?;
            }
            let arguments = ["-n", &pod.namespace, "delete", "pod", &pod.name];
            let now = ["--grace-period=0", "--force", "--wait=false"];
            self.cluster.kubectl(&[&arguments[..], &now].concat())?;
        } else if pod.phase != "Pending" {
            // It runs, or has run.
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
            self.status(&pod, "Running", true, &json!({"running": {}}))?;
        }
        Ok(())
    }

    fn bind(&self, pod: &Pod) -> Result<()> {
        let node = pod.wanted_node.as_deref().unwrap_or("node-1");
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/binding",
            pod.namespace, pod.name
        );
        let arguments = ["create", "--raw", &path, "-f", "-"];
        let output = self.cluster.try_kubectl(&arguments, &binding.to_string())?;
        output.ok("binding a pod").map(drop)
    }

    fn status(&self, pod: &Pod, phase: &str, ready: bool, state: &Value) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let condition = |name: &str| json!({"type": name, "status": status});
        let patch = json!({"status": {
            "phase": phase,
            "conditions": [condition("Ready"), condition("ContainersReady")],
            "containerStatuses": [{"name": pod.container, "image": pod.image, "imageID": "",
                "restartCount": 0, "ready": ready, "state": state}],
        }});
        let patch = patch.to_string();
        let arguments = ["-n", &pod.namespace, "patch", "pod", &pod.name];
        let how = ["--subresource=status", "--type=merge", "-p", &patch];
        self.cluster.kubectl(&[&arguments[..], &how].concat())?;
        Ok(())
    }
}
