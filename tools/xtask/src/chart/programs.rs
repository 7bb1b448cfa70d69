//! What runs in the pods: real agents, or kubectl in their place.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    guard::Guard,
    kubelet::{Pod, Programs},
    runbook::PREFIX,
    steps::keys,
};
use crate::k8s::{
    cluster::Cluster,
    process::{Daemon, output_within},
};

/// A token as the kubelet mounts it: bound to the pod, and so to its node.
pub fn token(cluster: &Cluster, pod: &Pod) -> Result<String> {
    let text = cluster.kubectl(&[
        "-n",
        &pod.namespace,
        "create",
        "token",
        &pod.account,
        "--bound-object-kind=Pod",
        &format!("--bound-object-name={}", pod.name),
        &format!("--bound-object-uid={}", pod.uid),
    ])?;
    Ok(text.trim().to_owned())
}

fn is_agent(pod: &Pod) -> bool {
    pod.component == "agent" || pod.component == "agent-canary"
}

/// Does with kubectl what the agent does at the API server, with the agent's rights.
pub struct StandIn(pub Arc<Cluster>);

impl Programs for StandIn {
    fn start(&mut self, pod: &Pod) -> Result<()> {
        if !is_agent(pod) {
            return Ok(());
        }
        let token = token(&self.0, pod)?;
        let node = pod.node.as_deref().unwrap_or_default();
        let values = [
            "infera.io/agent-status=Ready",
            "infera.io/config-generation=1",
        ];
        let arguments = [&["annotate", "--overwrite", "node", node], &values[..]].concat();
        self.0.kubectl_as(&token, &arguments)?.ok("annotating")?;
        Ok(())
    }

    fn ready(&mut self, _: &Pod) -> Result<bool> {
        Ok(true)
    }

    fn stop(&mut self, _: &Pod) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, pod: &Pod) -> Result<()> {
        if pod.component != "cleanup" {
            return Ok(());
        }
        ensure!(
            pod.arguments == ["--prefix=infera.io", "cleanup", "--all-nodes"],
            "{:?}",
            pod.arguments
        );
        let token = token(&self.0, pod)?;
        let gone: Vec<String> = keys(&self.0, PREFIX)?
            .into_iter()
            .map(|key| format!("{key}-"))
            .collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let arguments = [&["annotate", "node", "--all"], &gone[..]].concat();
        self.0.kubectl_as(&token, &arguments)?.ok("cleaning up")?;
        Ok(())
    }
}

/// The guards of all nodes: as a node's, one outlives its agents.
#[derive(Clone, Default)]
pub struct Guards(Arc<Mutex<BTreeMap<String, Guard>>>);

impl Guards {
    /// Whether each stands down.
    pub fn standing_down(&self) -> BTreeMap<String, bool> {
        let guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = guards.iter();
        all.map(|(node, guard)| (node.clone(), guard.stands_down()))
            .collect()
    }

    fn ensure(&self, node: &str, directory: &Path) -> Result<()> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !guards.contains_key(node) {
            guards.insert(node.to_owned(), Guard::start(directory)?);
        }
        Ok(())
    }
}

struct Running {
    daemon: Daemon,
    listens: String,
}

/// The port that the chart gives agents.
const PORT: u16 = 9100;

/// Addresses of this machine alone, one a node: the API server's proxy asks no loopback address.
struct Addresses(BTreeMap<String, String>);

impl Addresses {
    /// As many as there are nodes; none where this machine does not let us.
    fn take(nodes: usize) -> Addresses {
        let mut addresses = Addresses(BTreeMap::new());
        for number in 1..=nodes {
            let address = format!("198.18.213.{number}");
            if !ip("add", &address) {
                return Addresses(BTreeMap::new());
            }
            addresses.0.insert(format!("node-{number}"), address);
        }
        addresses
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        for address in self.0.values() {
            ip("del", address);
        }
    }
}

fn ip(what: &str, address: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["address", what, &format!("{address}/32"), "dev", "lo"]);
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs an infera-agent for each agent's pod, with the pod's arguments and rights.
pub struct RealAgents {
    cluster: Arc<Cluster>,
    agent: PathBuf,
    guards: Guards,
    running: BTreeMap<String, Running>,
    addresses: Addresses,
}

/// What the agent starts instead of a guard: is there as long as the agent is.
const IDLE: &str = "#!/bin/sh\nwhile kill -0 $2 2>/dev/null; do sleep 1; done\n";

impl RealAgents {
    /// None runs yet.
    pub fn new(cluster: Arc<Cluster>, agent: &Path, guards: Guards) -> Result<RealAgents> {
        Ok(RealAgents {
            cluster,
            agent: fs::canonicalize(agent).with_context(|| format!("no {}", agent.display()))?,
            guards,
            running: BTreeMap::new(),
            addresses: Addresses::take(super::runbook::NODES),
        })
    }

    /// A node's own directories.
    fn node(&self, node: &str) -> Result<PathBuf> {
        let place = self.cluster.directory().join(node);
        for directory in ["run", "cgroup/kubepods.slice"] {
            fs::create_dir_all(place.join(directory))?;
        }
        let guard = place.join("infera-guard");
        if !guard.exists() {
            fs::write(&guard, IDLE)?;
            fs::set_permissions(&guard, fs::Permissions::from_mode(0o755))?;
        }
        Ok(place)
    }

    fn kubeconfig(&self, pod: &Pod) -> Result<PathBuf> {
        let token = token(&self.cluster, pod)?;
        let path = self
            .cluster
            .directory()
            .join(format!("{}.kubeconfig", pod.name));
        fs::write(&path, self.cluster.config_for(&token).to_string())?;
        Ok(path)
    }

    /// The configuration that the pod mounts.
    fn config(&self, pod: &Pod) -> Result<String> {
        self.cluster.kubectl(&[
            "-n",
            &pod.namespace,
            "get",
            "configmap",
            "infera-config",
            "-o",
            "jsonpath={.data.infera\\.toml}",
        ])
    }
}

impl Programs for RealAgents {
    fn start(&mut self, pod: &Pod) -> Result<()> {
        if !is_agent(pod) {
            return Ok(());
        }
        let node = pod.node.clone().context("a running pod has a node")?;
        let place = self.node(&node)?;
        let run = place.join("run");
        self.guards.ensure(&node, &run)?;
        let config = place.join("infera.toml");
        fs::write(&config, self.config(pod)?)?;
        let listens = match self.address(pod) {
            Some(address) => format!("{address}:{PORT}"),
            None => TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string(),
        };
        let mut command = Command::new(&self.agent);
        for argument in &pod.arguments {
            command.arg(match argument.split_once('=') {
                Some(("--node-name", _)) => format!("--node-name={node}"),
                Some(("--config", _)) => format!("--config={}", config.display()),
                Some(("--listen", _)) => format!("--listen={listens}"),
                _ => argument.clone(),
            });
        }
        command
            .arg("--run-dir")
            .arg(&run)
            .arg("--cgroup-root")
            .arg(place.join("cgroup"))
            .arg("--stats-socket")
            .arg(run.join("stats"))
            .arg("--guard")
            .arg(place.join("infera-guard"))
            .env("KUBECONFIG", self.kubeconfig(pod)?)
            .env("NODE_NAME", &node);
        let daemon = Daemon::start(&pod.name, &command, self.cluster.directory())?;
        self.running
            .insert(pod.uid.clone(), Running { daemon, listens });
        Ok(())
    }

    fn ready(&mut self, pod: &Pod) -> Result<bool> {
        match self.running.get_mut(&pod.uid) {
            Some(running) => {
                running.daemon.alive()?;
                Ok(answers(&running.listens, "/readyz"))
            }
            None => Ok(true),
        }
    }

    fn stop(&mut self, pod: &Pod) -> Result<()> {
        match self.running.remove(&pod.uid) {
            Some(mut running) => running.daemon.end(Duration::from_secs(10)),
            None => Ok(()),
        }
    }

    fn run(&mut self, pod: &Pod) -> Result<()> {
        if pod.component != "cleanup" {
            return Ok(());
        }
        let mut command = Command::new(&self.agent);
        command
            .args(&pod.arguments)
            .env("KUBECONFIG", self.kubeconfig(pod)?);
        output_within(&mut command, "", Duration::from_secs(60))?.ok("the cleanup")?;
        Ok(())
    }

    fn address(&self, pod: &Pod) -> Option<String> {
        let node = pod.node.as_ref().filter(|_| is_agent(pod))?;
        self.addresses.0.get(node).cloned()
    }
}

/// Whether a path is answered with 200.
fn answers(address: &str, path: &str) -> bool {
    let ask = || -> Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut line = [0; 12];
        stream.read_exact(&mut line)?;
        Ok(line.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
