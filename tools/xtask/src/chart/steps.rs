//! Commands as an operator types them, and what has to be true afterwards.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{helm::Helm, kubelet};
use crate::{
    k8s::{
        cluster::Cluster,
        fetch,
        process::{output_within, wait_for},
        programs::Program,
    },
    workspace,
};

/// For one command; an uninstall waits for its Job.
const COMMAND: Duration = Duration::from_secs(180);

/// For pods to be where they should be: an agent after the other is replaced.
const SETTLED: Duration = Duration::from_secs(180);

/// A person with a terminal in the workspace.
pub struct Operator {
    cluster: Arc<Cluster>,
    programs: PathBuf,
    typed: RefCell<BTreeSet<String>>,
    variables: Vec<(&'static str, String)>,
}

impl Operator {
    /// One whose `helm` is this one.
    pub fn new(
        cluster: Arc<Cluster>,
        helm: &Helm,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Operator> {
        let programs = cluster.directory().join(format!("bin-{}", helm.name));
        fs::create_dir_all(&programs)?;
        unix::fs::symlink(helm.program(), programs.join("helm"))?;
        unix::fs::symlink(fetch::get(Program::Kubectl)?, programs.join("kubectl"))?;
        Ok(Operator {
            cluster,
            programs,
            typed: RefCell::default(),
            variables,
        })
    }

    /// Has one more program.
    pub fn has(&self, program: &Path) -> Result<()> {
        let name = program.file_name().context("a program needs a name")?;
        unix::fs::symlink(fs::canonicalize(program)?, self.programs.join(name))?;
        Ok(())
    }

    /// Types a command as it is on the page; fails when it does.
    pub fn types(&self, command: &str) -> Result<String> {
        eprintln!("$ {command}");
        self.typed.borrow_mut().insert(command.to_owned());
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(
            [self.programs.clone()]
                .into_iter()
                .chain(env::split_paths(&path)),
        )?;
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", command])
            .env("PATH", path)
            .env("HOME", &self.programs)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(workspace());
        output_within(&mut shell, "", COMMAND)?.ok(command)
    }

    /// Which of the page's commands were not typed.
    pub fn untyped(&self, page: &[String]) -> Vec<String> {
        let typed = self.typed.borrow();
        page.iter()
            .filter(|command| !typed.contains(*command))
            .cloned()
            .collect()
    }
}

/// Node to `COMPONENT TAG` of the agent that is ready on it.
pub type Agents = BTreeMap<String, String>;

/// What runs on which node.
pub fn agents(cluster: &Cluster) -> Result<Agents> {
    let mut agents = Agents::new();
    for pod in kubelet::pods(cluster)? {
        let component = pod.component.as_str();
        if !["agent", "agent-canary"].contains(&component) {
            continue;
        }
        ensure!(!pod.deleted, "{} is going", pod.name);
        ensure!(pod.ready, "{} is not ready", pod.name);
        let node = pod.node.clone().context("a ready pod has a node")?;
        let what = format!("{component} {}", pod.tag());
        let before = agents.insert(node.clone(), what);
        ensure!(before.is_none(), "two agents on {node}");
    }
    Ok(agents)
}

/// Waits until exactly these agents run.
pub fn expect_agents(cluster: &Cluster, expected: &Agents) -> Result<()> {
    wait_for("the agents", SETTLED, || {
        let found = agents(cluster)?;
        ensure!(found == *expected, "{found:?} instead of {expected:?}");
        Ok(())
    })?;
    for (node, agent) in expected {
        eprintln!("      {node}: {agent}");
    }
    Ok(())
}

/// An annotation of every node that has it.
pub fn annotations(cluster: &Cluster, key: &str) -> Result<BTreeMap<String, String>> {
    let nodes = cluster.get(&["nodes"])?;
    let nodes = nodes["items"].as_array().context("no list of nodes")?;
    let found = nodes.iter().filter_map(|node| {
        let meta = &node["metadata"];
        let value = meta["annotations"][key].as_str()?;
        Some((meta["name"].as_str()?.to_owned(), value.to_owned()))
    });
    Ok(found.collect())
}

/// Every key of ours on any node.
pub fn keys(cluster: &Cluster, prefix: &str) -> Result<BTreeSet<String>> {
    let nodes = cluster.get(&["nodes"])?;
    let nodes = nodes["items"].as_array().context("no list of nodes")?;
    let keys = nodes
        .iter()
        .filter_map(|node| node["metadata"]["annotations"].as_object())
        .flat_map(|annotations| annotations.keys());
    Ok(keys
        .filter(|key| key.starts_with(prefix))
        .cloned()
        .collect())
}
