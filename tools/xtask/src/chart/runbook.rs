//! `cargo xtask chart runbook`: the operations page's commands, in their order, with real helm and
//! kubectl, against a real API server and its controllers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{
    golden,
    helm::Helm,
    kubelet::{Kubelets, Programs},
    page,
    programs::{Guards, RealAgents, StandIn, token},
    steps::{Agents, Operator, annotations, expect_agents, keys},
};
use crate::{
    cache,
    k8s::{cluster::Cluster, definitions, process::wait_for},
    workspace,
};

/// Of the cluster.
pub const NODES: usize = 5;
const CANARIES: [&str; 2] = ["node-1", "node-2"];
const OLD: &str = "0.1.0";
const NEW: &str = "0.2.0";
/// What keys of ours begin with.
pub const PREFIX: &str = "infera.io/";

/// What to do.
#[derive(Args)]
pub struct RunbookArgs {
    /// Only with this helm: helm3 or helm4.
    #[arg(long)]
    helm: Option<String>,
    /// An infera-agent to run on the nodes, each beside a guard in name only. Without it, kubectl
    /// writes what an agent would.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

/// Performs it with each helm.
pub fn main(arguments: &RunbookArgs) -> Result<()> {
    let page = page::commands(&page::read()?);
    ensure!(!page.is_empty(), "no commands on the page");
    let mut performed = false;
    for helm in Helm::both()? {
        if arguments
            .helm
            .as_deref()
            .is_none_or(|only| only == helm.name)
        {
            perform(&helm, &page, arguments.agent.as_deref())?;
            performed = true;
        }
    }
    ensure!(performed, "there is no such helm: helm3 or helm4");
    Ok(())
}

fn perform(helm: &Helm, page: &[String], agent: Option<&Path>) -> Result<()> {
    eprintln!("==> the runbook, with {}", helm.name);
    let cluster = Arc::new(Cluster::start()?);
    cluster.create_nodes(NODES)?;
    let guards = agent.map(|_| Guards::default());
    let programs: Box<dyn Programs> = match (agent, &guards) {
        (Some(agent), Some(guards)) => {
            Box::new(RealAgents::new(cluster.clone(), agent, guards.clone())?)
        }
        _ => {
            eprintln!("note  no agents: kubectl writes what they would (--agent FILE)");
            Box::new(StandIn(cluster.clone()))
        }
    };
    let kubelets = Kubelets::start(cluster.clone(), programs);
    let outcome = steps(&cluster, guards.as_ref().zip(agent), helm, page)
        .and_then(|()| kubelets.never_crowded());
    if outcome.is_err() {
        eprintln!("{}--- kubelets:\n{}", cluster.logs(), kubelets.complaints());
        let pods = cluster.kubectl(&["get", "pods,jobs,daemonsets", "-A", "-o", "wide"]);
        let place = cache::dir("logs")?.join(format!("runbook-{}", helm.name));
        cluster.keep_logs(&place)?;
        eprintln!(
            "{}all logs are in {}",
            pods.unwrap_or_default(),
            place.display()
        );
    }
    outcome
}

fn steps(
    cluster: &Arc<Cluster>,
    agents: Option<(&Guards, &Path)>,
    helm: &Helm,
    page: &[String],
) -> Result<()> {
    let guards = agents.map(|(guards, _)| guards);
    let variables = vec![
        ("NEW_TAG", NEW.to_owned()),
        ("CANARY_NODES", CANARIES.join(" ")),
        ("REVISION", "1".to_owned()),
    ];
    let operator = Operator::new(cluster.clone(), helm, variables)?;
    let rollback = "helm rollback infera";
    let canary = "helm upgrade infera deploy/helm/infera --reuse-values \
                  --set agent.canary.enabled=true \
                  --set-string agent.canary.image.tag=$NEW_TAG \
                  --set agent.canary.nodeSelector.infera-canary=true";
    let promote = "helm upgrade infera deploy/helm/infera --reuse-values \
                   --set-string agent.image.tag=$NEW_TAG --set agent.canary.enabled=false";
    let enter = "kubectl annotate node --all infera.io/safe-mode-requested=true";
    let leave = "kubectl annotate node --all infera.io/safe-mode-requested-";
    let expect = |agents: Agents| expect_agents(cluster, &agents);

    // Install.
    operator
        .types("helm install infera deploy/helm/infera --namespace infera --create-namespace")?;
    operator.types("kubectl config set-context --current --namespace=infera")?;
    expect(everywhere(OLD))?;
    operator.types("kubectl -n infera get pods -o wide")?;
    let status = operator.types(
        "kubectl get nodes -o custom-columns='NODE:.metadata.name,\
         STATUS:.metadata.annotations.infera\\.io/agent-status,\
         SAFE MODE:.metadata.annotations.infera\\.io/safe-mode,\
         GENERATION:.metadata.annotations.infera\\.io/config-generation'",
    )?;
    ensure!(status.matches("Ready").count() == NODES, "{status}");
    operator.types("helm test infera")?;
    priority_classes(cluster)?;
    golden_manifests(cluster)?;

    // A canary that misbehaves.
    operator.types("kubectl label node $CANARY_NODES infera-canary=true")?;
    operator.types(canary)?;
    expect(on_canaries(NEW))?;
    operator.types(enter)?;
    safe_mode(cluster, guards, true)?;
    // Nothing of the software has moved yet.
    expect(on_canaries(NEW))?;
    operator.types(rollback)?;
    expect(everywhere(OLD))?;
    safe_mode(cluster, guards, true)?;
    operator.types(leave)?;
    safe_mode(cluster, guards, false)?;

    // One that does not: it becomes the release.
    operator.types(canary)?;
    expect(on_canaries(NEW))?;
    if let Some((guards, agent)) = agents {
        canary_status(&operator, guards, &agent.with_file_name("infera"))?;
    }
    operator.types(promote)?;
    expect(everywhere(NEW))?;

    // And is taken back all the same: to what was before the promotion, then before the canary.
    operator.types(enter)?;
    safe_mode(cluster, guards, true)?;
    expect(everywhere(NEW))?;
    operator.types(rollback)?;
    expect(on_canaries(NEW))?;
    operator.types("helm history infera")?;
    operator.types("helm rollback infera $REVISION")?;
    expect(everywhere(OLD))?;
    operator.types(leave)?;
    safe_mode(cluster, guards, false)?;

    // A canary by two labels: a node with one of them is none.
    cluster.kubectl(&["label", "node", "node-2", "node-3", "pool=web"])?;
    operator.types(&format!(
        "{canary} --set agent.canary.nodeSelector.pool=web"
    ))?;
    let mut agents = everywhere(OLD);
    agents.insert("node-2".to_owned(), format!("agent-canary {NEW}"));
    expect(agents)?;
    // A node changes sides with its labels.
    cluster.kubectl(&["label", "node", "node-2", "pool-"])?;
    expect(everywhere(OLD))?;
    operator.types(rollback)?;

    // The agent's rights.
    operator.types(
        "helm upgrade infera deploy/helm/infera --reuse-values --set admissionPolicy.enabled=true",
    )?;
    expect(everywhere(OLD))?;
    rights(cluster)?;

    // A condition, too, under the same policy.
    operator
        .types("helm upgrade infera deploy/helm/infera --reuse-values --set rbac.status=true")?;
    expect(everywhere(OLD))?;
    if guards.is_some() {
        conditions(cluster, NODES)?;
    }

    // An image that is not there: the rollout stops at one node.
    operator.types("helm upgrade infera deploy/helm/infera --reuse-values --set-string agent.image.tag=missing")?;
    one_node_waits(cluster)?;
    operator.types(rollback)?;
    expect(everywhere(OLD))?;

    // Afterwards agents that end may still ask, and have no rights any more.
    nothing_was_denied(cluster)?;
    operator.types("helm uninstall infera")?;
    expect(Agents::new())?;
    let left = keys(cluster, PREFIX)?;
    ensure!(left.is_empty(), "annotations are left: {left:?}");
    conditions(cluster, 0)?;
    nothing_is_left(cluster)?;

    let untyped = operator.untyped(page);
    ensure!(
        untyped.is_empty(),
        "commands of the page that nothing performs:\n{}",
        untyped.join("\n")
    );
    eprintln!(
        "ok    all {} commands of the page, with {}",
        page.len(),
        helm.name
    );
    Ok(())
}

fn everywhere(tag: &str) -> Agents {
    (1..=NODES)
        .map(|number| (format!("node-{number}"), format!("agent {tag}")))
        .collect()
}

fn on_canaries(tag: &str) -> Agents {
    let mut agents = everywhere(OLD);
    for node in CANARIES {
        agents.insert(node.to_owned(), format!("agent-canary {tag}"));
    }
    agents
}

/// `infera canary status` finds both sides' agents and their metrics through the API server, and judges.
fn canary_status(operator: &Operator, guards: &Guards, infera: &Path) -> Result<()> {
    if !infera.exists() {
        eprintln!("note  no infera beside the agent: `infera canary status` is not tried");
        return Ok(());
    }
    operator.has(infera)?;
    let pods =
        operator.types("kubectl -n infera get pods -o jsonpath='{.items[*].status.podIP}'")?;
    if pods.trim().is_empty() {
        eprintln!("note  no addresses for agents here: `infera canary status` is not tried");
        return Ok(());
    }
    let advice = |wanted: &str, status: u8, evidence: &str| -> Result<()> {
        let command = format!("infera canary status --seconds 5 -o json || [ $? = {status} ]");
        let text = operator.types(&command)?;
        let report: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let sides = [&report["canary"], &report["main"]];
        ensure!(
            sides == [&json!(CANARIES.len()), &json!(NODES - CANARIES.len())]
                && report["advice"] == wanted
                && report["evidence"].to_string().contains(evidence),
            "{report}"
        );
        Ok(())
    };
    advice("promote", 0, "no ejects")?;
    // Canary nodes that are on the stock scheduler while the others are not.
    let annotate = |change: &str| {
        let names = CANARIES.join(" ");
        operator.types(&format!("kubectl annotate node {names} infera.io/{change}"))
    };
    annotate("safe-mode-requested=true")?;
    wait_for(
        "the canary nodes to stand down",
        Duration::from_secs(30),
        || {
            let down = guards
                .standing_down()
                .values()
                .filter(|down| **down)
                .count();
            ensure!(down == CANARIES.len(), "{down} do");
            Ok(())
        },
    )?;
    advice(
        "roll_back",
        3,
        "100.0 % of the time on the stock scheduler, 0.0 % elsewhere",
    )?;
    annotate("safe-mode-requested-")?;
    wait_for(
        "the canary nodes to take over",
        Duration::from_secs(30),
        || {
            ensure!(
                !guards.standing_down().values().any(|down| *down),
                "not all have"
            );
            Ok(())
        },
    )?;
    eprintln!(
        "ok    infera canary status: promote, and roll back where the canary is in safe mode"
    );
    Ok(())
}

/// Whether safe mode is requested on all nodes, and, where agents run, all are in it: the annotation
/// alone requests it.
fn safe_mode(cluster: &Cluster, guards: Option<&Guards>, wanted: bool) -> Result<()> {
    let asked = Instant::now();
    let nodes = annotations(cluster, "infera.io/safe-mode-requested")?;
    let expected = if wanted { NODES } else { 0 };
    ensure!(
        nodes.len() == expected,
        "safe mode is requested on {nodes:?}"
    );
    let Some(guards) = guards else {
        return Ok(());
    };
    wait_for("safe mode, at the guards", Duration::from_secs(20), || {
        let standing_down = guards.standing_down();
        let right = standing_down.len() == NODES
            && standing_down
                .values()
                .all(|standing_down| *standing_down == wanted);
        ensure!(right, "{standing_down:?}");
        Ok(())
    })?;
    let took = asked.elapsed().as_millis();
    wait_for("safe mode, in annotations", Duration::from_secs(20), || {
        let active = annotations(cluster, "infera.io/safe-mode")?;
        let status = annotations(cluster, "infera.io/agent-status")?;
        ensure!(active.len() == expected, "{active:?}");
        ensure!(
            active.values().all(|text| text.starts_with("active: ")),
            "{active:?}"
        );
        let ready = status.values().filter(|text| *text == "Ready").count();
        ensure!(
            ready == NODES - expected && status.len() == NODES,
            "{status:?}"
        );
        Ok(())
    })?;
    let what = if wanted { "in" } else { "out of" };
    eprintln!("      all guards are {what} safe mode, at most {took} ms after the command");
    Ok(())
}

fn priority_classes(cluster: &Cluster) -> Result<()> {
    for (name, value) in [
        ("critical", 1_000_000),
        ("high", 100_000),
        ("normal", 0),
        ("low", -100),
        ("background", -1000),
    ] {
        let class = cluster.get(&["priorityclass", &format!("infera-{name}")])?;
        ensure!(class["value"] == value, "{class}");
        ensure!(class["globalDefault"] != true, "{class}");
    }
    Ok(())
}

/// The API server's own opinion of every golden manifest, hooks and monitors included.
fn golden_manifests(cluster: &Cluster) -> Result<()> {
    for definition in definitions::get()? {
        let file = definition.display().to_string();
        cluster.kubectl(&["apply", "--server-side", "-f", &file])?;
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            &file,
        ])?;
    }
    for case in golden::cases()? {
        let path = workspace().join(format!("deploy/helm/golden/{}.yaml", case.name));
        let text = std::fs::read_to_string(path)?;
        let ours: Vec<&str> = text
            .split("\n---\n")
            // Installed, and cannot be changed.
            .filter(|object| !object.contains("\nkind: PriorityClass\n"))
            .collect();
        let dry = [
            "apply",
            "--dry-run=server",
            "--server-side",
            "--force-conflicts",
        ];
        let arguments = [&dry[..], &["--validate=strict", "-f", "-"]].concat();
        let output = cluster.try_kubectl(&arguments, &ours.join("\n---\n"))?;
        output.ok(&format!("a server's dry run of golden/{}.yaml", case.name))?;
    }
    eprintln!("ok    golden manifests, by the API server");
    Ok(())
}

/// What an agent with its own token may do, and what it may not.
fn rights(cluster: &Cluster) -> Result<()> {
    let pod = super::kubelet::pods(cluster)?
        .into_iter()
        .find(|pod| pod.component == "agent" && pod.node.as_deref() == Some("node-3"));
    let Some(pod) = pod else {
        bail!("no agent on node-3");
    };
    let token = token(cluster, &pod)?;
    let annotate = |node: &str, what: &str| {
        cluster.kubectl_as(&token, &["annotate", "--overwrite", "node", node, what])
    };
    // A new policy is in force only when the server has seen it.
    wait_for("the admission policy", Duration::from_secs(60), || {
        let output = annotate("node-4", "infera.io/agent-status=Stolen")?;
        ensure!(!output.status.success(), "another node may be annotated");
        ensure!(
            output.stderr.contains("only the node it runs on"),
            "{}",
            output.stderr
        );
        Ok(())
    })?;
    annotate("node-3", "infera.io/agent-status=Ready2")?.ok("its own annotation")?;
    annotate("node-3", "infera.io/agent-status=Ready")?.ok("its own annotation")?;
    let refused: [(&[&str], &str); 4] = [
        (
            &["annotate", "node", "node-3", "example.com/other=1"],
            "only annotations",
        ),
        (
            &[
                "annotate",
                "node",
                "node-3",
                "infera.io/safe-mode-requested=true",
            ],
            "the operator's",
        ),
        (
            &["label", "node", "node-3", "a=b"],
            "neither labels nor spec",
        ),
        (
            &["taint", "node", "node-3", "a=b:NoSchedule"],
            "neither labels nor spec",
        ),
    ];
    for (arguments, word) in refused {
        let output = cluster.kubectl_as(&token, arguments)?;
        let what = arguments.join(" ");
        ensure!(
            !output.status.success(),
            "allowed: {what}\n{}",
            output.said()
        );
        ensure!(output.stderr.contains(word), "{what}: {}", output.stderr);
    }
    for (question, allowed) in [
        ("list pods", true),
        ("watch nodes", true),
        ("patch nodes", true),
        ("patch nodes --subresource=status", false),
        ("get nodes --subresource=proxy", false),
        ("update nodes", false),
        ("delete nodes", false),
        ("create pods", false),
        ("get secrets", false),
        ("create events.events.k8s.io -n infera", false),
        ("create events.events.k8s.io -n default", true),
    ] {
        let arguments: Vec<&str> = ["auth", "can-i"]
            .into_iter()
            .chain(question.split(' '))
            .collect();
        let output = cluster.kubectl_as(&token, &arguments)?;
        let answer = output.stdout.trim() == "yes";
        ensure!(answer == allowed, "{question}: {}", output.said());
    }
    eprintln!("ok    the agent's rights, with its own token");
    Ok(())
}

/// How many nodes have the agent's condition, and all of them say that they enforce.
fn conditions(cluster: &Cluster, expected: usize) -> Result<()> {
    wait_for("the nodes' conditions", Duration::from_secs(30), || {
        let nodes = cluster.get(&["nodes"])?;
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        let ours: Vec<_> = nodes
            .iter()
            .filter_map(|node| node["status"]["conditions"].as_array())
            .flatten()
            .filter(|condition| condition["type"] == "InferaReady")
            .collect();
        let right = ours.len() == expected && ours.iter().all(|one| one["status"] == "True");
        ensure!(right, "{ours:?}");
        Ok(())
    })
}

/// The agents, with their own accounts, never asked for what they may not.
fn nothing_was_denied(cluster: &Cluster) -> Result<()> {
    for entry in std::fs::read_dir(cluster.directory())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !(name.starts_with("infera-agent-") && name.ends_with(".log")) {
            continue;
        }
        let log = std::fs::read_to_string(&path)?;
        let denied = log
            .lines()
            .find(|line| line.to_lowercase().contains("forbidden"));
        ensure!(denied.is_none(), "{name}: {denied:?}");
    }
    Ok(())
}

fn one_node_waits(cluster: &Cluster) -> Result<()> {
    let waiting = || -> Result<(usize, usize)> {
        let pods = super::kubelet::pods(cluster)?;
        let agents = pods
            .iter()
            .filter(|pod| pod.component == "agent" && !pod.deleted);
        let (ready, other): (Vec<_>, Vec<_>) = agents.partition(|pod| pod.ready);
        Ok((ready.len(), other.len()))
    };
    wait_for("the broken rollout", Duration::from_secs(60), || {
        let found = waiting()?;
        ensure!(found == (NODES - 1, 1), "{found:?}");
        Ok(())
    })?;
    // And it stays at that.
    std::thread::sleep(Duration::from_secs(3));
    let found = waiting()?;
    ensure!(
        found == (NODES - 1, 1),
        "the rollout goes on without the image: {found:?}"
    );
    eprintln!("ok    an image that is not there stops at one node");
    Ok(())
}

/// Only the namespace stays, as helm has it.
fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    let kinds = "daemonsets,configmaps,serviceaccounts,jobs,roles,rolebindings,clusterroles,\
                 clusterrolebindings,priorityclasses,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    let chosen = "app.kubernetes.io/instance=infera";
    wait_for("the end of all objects", Duration::from_secs(60), || {
        let left = cluster.kubectl(&["get", kinds, "-A", "-l", chosen, "-o", "name"])?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })
}
