//! `cargo xtask k8s agent`: infera-agent with its own rights against a real API server, beside a
//! guard in name only.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use infera_plan::Assignment;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    objects::{SOON, done, pod, pod_object, rights},
    process::{Daemon, wait_for},
};
use crate::{cache, chart::guard::Guard};

const NODE: &str = "node-1";
/// What the agent starts instead of a guard: is there as long as the agent is.
const IDLE: &str = "#!/bin/sh\nwhile kill -0 $2 2>/dev/null; do sleep 1; done\n";

/// Which agent.
#[derive(Args)]
pub struct AgentArgs {
    /// The program.
    #[arg(value_name = "FILE")]
    agent: PathBuf,
    /// For how long the API server is away.
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    away: u64,
}

/// Runs it.
pub fn main(arguments: &AgentArgs) -> Result<()> {
    let mut test = Test::start(arguments)?;
    let outcome = test.steps(Duration::from_secs(arguments.away));
    if outcome.is_err() {
        let place = cache::dir("logs")?.join("k8s-agent");
        test.cluster.keep_logs(&place)?;
        if let Some(agent) = &test.daemon {
            eprintln!("--- the agent\n{}", agent.log_tail(60));
        }
        eprintln!("all logs are in {}", place.display());
    }
    outcome
}

struct Test {
    guard: Guard,
    daemon: Option<Daemon>,
    agent: PathBuf,
    starts: u32,
    port: u16,
    run: PathBuf,
    // Last: everything else writes to its directory.
    cluster: Cluster,
}

impl Test {
    fn start(arguments: &AgentArgs) -> Result<Test> {
        let cluster = Cluster::start()?;
        cluster.create_nodes(2)?;
        rights(&cluster)?;
        let run = cluster.directory().join("run");
        for directory in [
            run.clone(),
            cluster.directory().join("cgroup/kubepods.slice"),
        ] {
            fs::create_dir_all(directory)?;
        }
        let idle = cluster.directory().join("idle");
        fs::write(&idle, IDLE)?;
        fs::set_permissions(&idle, fs::Permissions::from_mode(0o755))?;
        let agent = fs::canonicalize(&arguments.agent);
        Ok(Test {
            guard: Guard::start(&run)?,
            daemon: None,
            agent: agent.with_context(|| format!("no {}", arguments.agent.display()))?,
            starts: 0,
            port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
            run,
            cluster,
        })
    }

    fn start_agent(&mut self) -> Result<()> {
        let cluster = &self.cluster;
        let token = cluster.kubectl(&["-n", "infera", "create", "token", "infera-agent"])?;
        let kubeconfig = cluster.directory().join("agent.kubeconfig");
        fs::write(&kubeconfig, cluster.config_for(token.trim()).to_string())?;
        let mut command = Command::new(&self.agent);
        command
            .args(["--node-name", NODE, "--config", "/nowhere"])
            .arg(format!("--listen=127.0.0.1:{}", self.port))
            .args([Path::new("--run-dir"), &self.run])
            .args([
                Path::new("--cgroup-root"),
                &cluster.directory().join("cgroup"),
            ])
            .args([Path::new("--stats-socket"), &self.run.join("stats")])
            .args([Path::new("--guard"), &cluster.directory().join("idle")])
            .env("KUBECONFIG", &kubeconfig);
        self.starts += 1;
        let name = format!("agent-{}", self.starts);
        self.daemon = Some(Daemon::start(&name, &command, cluster.directory())?);
        Ok(())
    }

    fn steps(&mut self, away: Duration) -> Result<()> {
        for (name, class, resources) in [
            (
                "critical",
                "infera-critical",
                json!({"requests": {"cpu": "1500m"}}),
            ),
            ("high", "infera-high", json!({"requests": {"cpu": "100m"}})),
            ("normal", "infera-normal", json!({})),
            ("low", "infera-low", json!({})),
            ("background", "infera-background", json!({})),
            ("asks", "", json!({"requests": {"cpu": "100m"}})),
            ("asks-not", "", json!({})),
        ] {
            pod(&self.cluster, NODE, name, class, &resources, &json!({}))?;
        }
        let lowers = json!({"infera.io/tier": "low"});
        let raises = json!({"infera.io/tier": "critical"});
        pod(
            &self.cluster,
            NODE,
            "lowered",
            "infera-critical",
            &json!({}),
            &lowers,
        )?;
        pod(
            &self.cluster,
            NODE,
            "not-raised",
            "infera-low",
            &json!({}),
            &raises,
        )?;
        pod(
            &self.cluster,
            "node-2",
            "elsewhere",
            "infera-critical",
            &json!({}),
            &json!({}),
        )?;
        self.start_agent()?;
        let tiers = [
            ("critical", "critical"),
            ("high", "high"),
            ("normal", "normal"),
            ("low", "low"),
            ("background", "background"),
            ("asks", "normal"),
            ("asks-not", "background"),
            ("lowered", "low"),
            ("not-raised", "low"),
        ];
        wait_for("the pods' tiers", SOON, || self.expect_tiers(&tiers))?;
        ensure!(self.assignment()?.critical_cores.is_some());
        done(
            "pods of five classes and of both defaults, lowered and not raised, are in their tiers",
        );

        wait_for("the annotations", SOON, || {
            let seen = self.annotations()?;
            let says = |key: &str| seen.get(key).map_or("", String::as_str);
            ensure!(says("agent-status") == "Ready", "{seen:?}");
            ensure!(says("config-generation") == self.assignment()?.generation.to_string());
            let pods: Value = serde_json::from_str(says("tier-pods"))?;
            ensure!(pods["low"] == 3 && pods["background"] == 2, "{pods}");
            Ok(())
        })?;
        done("the node says Ready, its generation and its tiers' pods");

        self.safe_mode(true)?;
        self.safe_mode(false)?;

        // Another client writes to our keys, and to a key of its own.
        self.cluster.kubectl(&[
            "annotate",
            "--overwrite",
            "node",
            NODE,
            "infera.io/agent-status=all is well",
            "example.org/theirs=1",
        ])?;
        wait_for("our own words", SOON, || {
            let seen = self.annotations()?;
            ensure!(seen["agent-status"] == "Ready", "{seen:?}");
            Ok(())
        })?;
        let theirs = "jsonpath={.metadata.annotations.example\\.org/theirs}";
        ensure!(self.cluster.kubectl(&["get", "node", NODE, "-o", theirs])? == "1");
        done("another writer is overruled in our keys and left alone in theirs");

        let before = self.assignment()?;
        self.daemon = None;
        self.start_agent()?;
        wait_for("the second agent", SOON, || self.get("/readyz"))?;
        sleep(Duration::from_secs(3));
        ensure!(
            self.assignment()? == before,
            "an agent's death changed the assignment"
        );
        done("an agent killed and started again changes nothing");

        // Before the restart below: a server that has just started does not know any rights yet, and denies.
        let log = self.daemon.as_ref().map(|daemon| daemon.log_tail(10_000));
        let log = log.unwrap_or_default();
        ensure!(!log.contains("orbidden"), "something was denied:\n{log}");
        done("nothing was denied to the agent's own rights");

        self.cluster.kill_server();
        let started = Instant::now();
        while started.elapsed() < away {
            sleep(Duration::from_secs(1));
            self.get("/healthz")
                .context("while the API server was away")?;
            self.get("/readyz")?;
        }
        ensure!(
            self.assignment()? == before,
            "the API server's absence changed the assignment"
        );
        ensure!(!self.guard.stands_down());
        self.cluster.start_server()?;
        pod(
            &self.cluster,
            NODE,
            "later",
            "infera-high",
            &json!({}),
            &json!({}),
        )?;
        let tiers = [&tiers[..], &[("later", "high")]].concat();
        wait_for("a pod after the absence", Duration::from_secs(120), || {
            self.expect_tiers(&tiers)
        })?;
        ensure!(self.assignment()?.generation == before.generation + 1);
        done(&format!(
            "the API server away for {} s: healthy, nothing changed, and pods are seen again",
            away.as_secs()
        ));

        // Safe mode, and the API server is gone at once. Before, the agent must receive events of its node
        // again: that watch comes back in its own time. Until then it overrules others only by chance, with
        // what it has to write anyway: once for what has changed, once for what failed.
        for _ in 0..4 {
            self.cluster.kubectl(&[
                "annotate",
                "--overwrite",
                "node",
                NODE,
                "infera.io/agent-status=Stolen",
            ])?;
            wait_for(
                "its node's watch after the absence",
                Duration::from_secs(60),
                || {
                    let seen = self.annotations()?;
                    ensure!(seen["agent-status"] == "Ready", "{seen:?}");
                    Ok(())
                },
            )?;
        }
        self.cluster.kubectl(&[
            "annotate",
            "node",
            NODE,
            "infera.io/safe-mode-requested=true",
        ])?;
        // The time that a watch needs to deliver it.
        sleep(Duration::from_millis(200));
        self.cluster.kill_server();
        wait_for(
            "standing down without an API server",
            Duration::from_secs(5),
            || {
                ensure!(self.guard.stands_down());
                Ok(())
            },
        )?;
        self.cluster.start_server()?;
        self.safe_mode(false)?;
        done("safe mode also when the API server goes away right after");

        // 250 pods at once.
        let before = self.assignment()?.generation;
        let pods: Vec<Value> = (0..250)
            .map(|n| {
                pod_object(
                    NODE,
                    &format!("crowd-{n}"),
                    "infera-low",
                    &json!({}),
                    &json!({}),
                )
            })
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
        self.cluster.create(&list)?;
        wait_for("the crowd", Duration::from_secs(120), || {
            let pods = self.assignment()?.pods.len();
            ensure!(pods == tiers.len() + 250, "{pods} pods");
            Ok(())
        })?;
        let generations = self.assignment()?.generation - before;
        println!("      250 pods, as fast as kubectl makes them: {generations} generations");
        let observed = self.page("/observe")?;
        let observed: Value = serde_json::from_str(&observed)?;
        println!("      the agent has used {}", observed["own"]);
        let metrics = self.page("/metrics")?;
        for name in [
            "infera_tier_pods",
            "infera_lint_violation",
            "infera_scheduler_attached 1",
        ] {
            ensure!(metrics.contains(name), "no {name} in\n{metrics}");
        }

        Ok(())
    }

    fn safe_mode(&self, on: bool) -> Result<()> {
        let word = if on { "=true" } else { "-" };
        let word = format!("infera.io/safe-mode-requested{word}");
        self.cluster.kubectl(&["annotate", "node", NODE, &word])?;
        let asked = Instant::now();
        while self.guard.stands_down() != on {
            ensure!(asked.elapsed() < SOON, "the guard got no request");
            sleep(Duration::from_millis(1));
        }
        let took = asked.elapsed();
        wait_for("the annotation about it", SOON, || {
            let seen = self.annotations()?;
            ensure!(seen.contains_key("safe-mode") == on, "{seen:?}");
            ensure!((seen["agent-status"] == "Ready") != on, "{seen:?}");
            Ok(())
        })?;
        let word = if on { "on" } else { "off" };
        done(&format!(
            "safe mode {word}, {} ms after kubectl returned",
            took.as_millis()
        ));
        Ok(())
    }

    fn assignment(&self) -> Result<Assignment> {
        Ok(Assignment::read(&self.run.join("assignment.json"))?)
    }

    /// Whether each pod's cgroup has its tier, and nothing else has one.
    fn expect_tiers(&self, wanted: &[(&str, &str)]) -> Result<()> {
        let pods = self.cluster.get(&["pods", "-n", "default"])?;
        let assigned: BTreeMap<String, String> = self
            .assignment()?
            .pods
            .into_iter()
            .map(|pod| (pod.cgroup, pod.tier.to_string()))
            .collect();
        for (name, tier) in wanted {
            let all = pods["items"].as_array().context("pods")?;
            let pod = all.iter().find(|pod| pod["metadata"]["name"] == **name);
            let uid = pod
                .and_then(|pod| pod["metadata"]["uid"].as_str())
                .context("a pod")?;
            let uid = uid.replace('-', "_");
            let found = assigned.iter().find(|(cgroup, _)| cgroup.contains(&uid));
            let found = found.map_or("none", |(_, tier)| tier);
            ensure!(found == *tier, "{name} is {found}, not {tier}");
        }
        ensure!(assigned.len() == wanted.len(), "{} pods", assigned.len());
        Ok(())
    }

    /// Ours, without their prefix.
    fn annotations(&self) -> Result<BTreeMap<String, String>> {
        let node = self.cluster.get(&["node", NODE])?;
        let all: BTreeMap<String, String> =
            serde_json::from_value(node["metadata"]["annotations"].clone()).unwrap_or_default();
        let ours = all
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("infera.io/")?.to_owned(), value)));
        Ok(ours.collect())
    }

    fn get(&self, path: &str) -> Result<()> {
        self.page(path).map(drop)
    }

    fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let output = Command::new("curl")
            .args(["-sf", "-m", "5", &url])
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => bail!("{path} is not answered"),
        }
    }
}
