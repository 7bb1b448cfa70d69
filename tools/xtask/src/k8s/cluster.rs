//! etcd, an API server, the controllers and the scheduler on loopback, without nodes.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    fetch,
    process::{Daemon, Output, output_within, wait_for},
    programs::Program,
};
use crate::command;

/// The administrator's.
const TOKEN: &str = "administrator";

/// What the tests need; the others would judge nodes that have no kubelet.
const CONTROLLERS: &str = "daemonset-controller,job-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller";

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(60);

/// A running API server and what belongs to it; ends when dropped.
pub struct Cluster {
    daemons: Vec<Daemon>,
    apiserver: Option<Daemon>,
    command: Command,
    kubectl: PathBuf,
    server: String,
    // Last: the daemons write there.
    directory: TempDir,
}

impl Cluster {
    /// Starts one and waits until it answers.
    pub fn start() -> Result<Cluster> {
        let [etcd, apiserver, controllers, scheduler, kubectl] = [
            Program::Etcd,
            Program::Apiserver,
            Program::ControllerManager,
            Program::Scheduler,
            Program::Kubectl,
        ]
        .map(fetch::get);
        let directory = tempfile::Builder::new().prefix("infera-k8s-").tempdir()?;
        let place = directory.path();
        let [store, peers, secure] = free_ports()?;
        let store = format!("http://127.0.0.1:{store}");
        let peers = format!("http://127.0.0.1:{peers}");
        let key = place.join("sa.key");
        command::output(Command::new("openssl").args(["genrsa", "-out"]).arg(&key))?;
        fs::write(
            place.join("tokens.csv"),
            format!("{TOKEN},administrator,administrator,system:masters\n"),
        )?;

        let etcd = Daemon::start(
            "etcd",
            Command::new(etcd?)
                .arg("--data-dir")
                .arg(place.join("etcd"))
                .args(["--listen-client-urls", &store])
                .args(["--advertise-client-urls", &store])
                .args(["--listen-peer-urls", &peers])
                // Nothing of it has to survive.
                .args(["--unsafe-no-fsync", "--log-level=warn"]),
            place,
        )?;
        let mut server = Command::new(apiserver?);
        server
            .arg(format!("--etcd-servers={store}"))
            .args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC"])
            .arg(format!("--secure-port={secure}"))
            .arg(flag("--cert-dir", &place.join("certificates")))
            .arg(flag("--token-auth-file", &place.join("tokens.csv")))
            .arg(flag("--service-account-key-file", &key))
            .arg(flag("--service-account-signing-key-file", &key))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-cluster-ip-range=10.0.0.0/24");
        let apiserver = Daemon::start("kube-apiserver", &server, place)?;
        let mut cluster = Cluster {
            daemons: vec![etcd],
            apiserver: Some(apiserver),
            command: server,
            kubectl: kubectl?,
            server: format!("https://127.0.0.1:{secure}"),
            directory,
        };
        fs::write(cluster.kubeconfig(), cluster.config_for(TOKEN).to_string())?;
        cluster.wait_until_ready()?;
        let controllers = Daemon::start(
            "kube-controller-manager",
            Command::new(controllers?)
                .arg(flag("--kubeconfig", &cluster.kubeconfig()))
                .arg(flag("--service-account-private-key-file", &key))
                .arg(format!("--controllers={CONTROLLERS}"))
                .args(["--leader-elect=false", "--secure-port=0"]),
            cluster.directory(),
        )?;
        let scheduler = Daemon::start(
            "kube-scheduler",
            Command::new(scheduler?)
                .arg(flag("--kubeconfig", &cluster.kubeconfig()))
                .args(["--leader-elect=false", "--secure-port=0"]),
            cluster.directory(),
        )?;
        cluster.daemons.extend([controllers, scheduler]);
        Ok(cluster)
    }

    /// Kills the API server, as a failing machine would.
    pub fn kill_server(&mut self) {
        self.apiserver = None;
    }

    /// Starts it again, with all that it knew.
    pub fn start_server(&mut self) -> Result<()> {
        let directory = self.directory.path();
        self.apiserver = Some(Daemon::start("kube-apiserver", &self.command, directory)?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        wait_for("the API server", Duration::from_secs(120), || {
            for daemon in self.daemons.iter_mut().chain(&mut self.apiserver) {
                daemon.alive()?;
            }
            Ok(())
        })?;
        wait_for("the API server's answer", Duration::from_secs(120), || {
            self.kubectl(&["get", "--raw", "/readyz"])
        })?;
        Ok(())
    }

    /// Where its files are, logs among them.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The administrator's configuration for clients.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// A configuration for a client with this token.
    pub fn config_for(&self, token: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.server, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
    }

    /// The same for a client in a guest, which has this machine's loopback behind its network.
    /// It verifies the server, as a pod does.
    pub fn config_in_guest(&self, token: &str) -> Result<Value> {
        let authority = self.directory().join("certificates/apiserver.crt");
        let authority = fs::read(authority).context("the API server has no certificate")?;
        let mut config = self.config_for(token);
        config["clusters"][0]["cluster"] = json!({
            "server": self.server.replace("127.0.0.1", "10.0.2.2"),
            "tls-server-name": "kubernetes",
            "certificate-authority-data": base64(&authority)?,
        });
        Ok(config)
    }

    /// A kubectl, as the administrator.
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory())
            .arg("--request-timeout=30s");
        kubectl
    }

    /// What kubectl answers; fails when it does.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.try_kubectl(arguments, "")?
            .ok(&format!("kubectl {}", arguments.join(" ")))
    }

    /// What kubectl answers, whatever that is.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        output_within(self.kubectl_command().args(arguments), input, REQUEST)
    }

    /// What kubectl answers as the user with this token.
    pub fn kubectl_as(&self, token: &str, arguments: &[&str]) -> Result<Output> {
        // One each: several may ask at once.
        let config = tempfile::NamedTempFile::new_in(self.directory())?;
        fs::write(config.path(), self.config_for(token).to_string())?;
        let mut kubectl = self.kubectl_command();
        kubectl.env("KUBECONFIG", config.path()).args(arguments);
        output_within(&mut kubectl, "", REQUEST)
    }

    /// Objects as JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        Ok(serde_json::from_str(&self.kubectl(&arguments)?)?)
    }

    /// Creates an object.
    pub fn create(&self, object: &Value) -> Result<()> {
        let output = self.try_kubectl(&["create", "-f", "-"], &object.to_string())?;
        output.ok("kubectl create").map(drop)
    }

    /// Nodes `node-1` and on that say that they are ready, and have no kubelet.
    pub fn create_nodes(&self, count: usize) -> Result<()> {
        for number in 1..=count {
            let name = format!("node-{number}");
            let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
            self.create(&json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/os": "linux", "kubernetes.io/hostname": name}},
                "status": {
                    "capacity": resources, "allocatable": resources,
                    "conditions": [{"type": "Ready", "status": "True", "reason": "Test",
                        "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null}]},
            }))?;
        }
        Ok(())
    }

    /// Keeps the logs in another directory.
    pub fn keep_logs(&self, place: &Path) -> Result<()> {
        fs::create_dir_all(place)?;
        for entry in fs::read_dir(self.directory())? {
            let path = entry?.path();
            if let (true, Some(name)) = (
                path.extension().is_some_and(|e| e == "log"),
                path.file_name(),
            ) {
                fs::copy(&path, place.join(name))?;
            }
        }
        Ok(())
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        self.daemons
            .iter()
            .map(|daemon| daemon.log_tail(25))
            .collect()
    }
}

fn base64(bytes: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut base64 = Command::new("base64");
    output_within(base64.arg("-w0"), &text, REQUEST)?.ok("base64")
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// Ports that are free now; each is held until all are found.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let held: Vec<TcpListener> = (0..COUNT)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("no free port")?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    if ports.contains(&0) {
        bail!("no free port");
    }
    Ok(ports)
}
