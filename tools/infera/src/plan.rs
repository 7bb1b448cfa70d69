//! `infera plan`: what would be enforced for these pods on this node, and what does not add up.

use crate::Output;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use infera_plan::{Config, PodSize, Sizing, Topology};
use infera_pods::{Keys, PodFacts, parse_millis};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The longest file that is read, in bytes: ten thousand pods are some fifty million.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Which node and which pods.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The node, as `kubectl get node NAME -o json` prints it; `-` is standard input. Without it
    /// the machine that this runs on.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// The pods, as `kubectl get pods -A -o json` prints them; `-` is standard input. Those bound
    /// to another node do not count.
    #[arg(long, value_name = "FILE", required_unless_present = "live")]
    pods: Option<PathBuf>,
    /// Asks the API server for the node's pods, and for the node unless this machine is it.
    #[arg(long, conflicts_with_all = ["pods", "node"])]
    live: bool,
    /// The node's name, for --live.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", requires = "live")]
    node_name: Option<String>,
    /// Threads of a core, where the node is another machine: Kubernetes does not report them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=8))]
    threads_per_core: u16,
    /// Configuration file (TOML) of the node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What annotation keys begin with.
    #[arg(long, value_name = "DOMAIN", default_value = "infera.io")]
    prefix: String,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

/// Adds up and prints. Exit status 0: all adds up; 1: there are warnings.
///
/// # Errors
///
/// The configuration is wrong, a file of nodes or pods cannot be read or is not what kubectl prints, or the CPUs of
/// this machine cannot be read. With `--live`: the API server does not answer, or has no such node.
pub fn print(args: &PlanArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let (topology, name, pods) = match args.live {
        true => live(args)?,
        false => files(args)?,
    };
    let keys = Keys::new(&args.prefix);
    let here = pods.iter().filter(|pod| is_on(pod, name.as_deref()));
    let sizes: Vec<PodSize> = here
        .filter_map(|pod| PodFacts::of(pod, &keys, &config.priority_mapping))
        .map(|pod| PodSize {
            name: pod.name,
            tier: pod.tier,
            request_millis: pod.cpu_millis,
            limit_millis: pod.limit_millis,
        })
        .collect();
    let sizing = Sizing::new(&topology, &config, &sizes);
    match output_of(&sizing, args.output) {
        text if args.output == Output::Json => println!("{text}"),
        text => {
            let node = name.as_deref().unwrap_or("this machine");
            println!("{node}: {text}");
        }
    }
    Ok(ExitCode::from(u8::from(!sizing.warnings.is_empty())))
}

fn output_of(sizing: &Sizing, output: Output) -> String {
    if output == Output::Text {
        return sizing.to_string();
    }
    let tiers = sizing.tiers.iter().map(|size| {
        json!({
            "tier": size.tier.name(),
            "pods": size.pods,
            "request_millis": size.request_millis,
            "cpus": size.cpus,
        })
    });
    json!({
        "cpus": sizing.plan.cpus.len(),
        "cores": sizing.plan.cores,
        "threads_per_core": sizing.threads_per_core,
        "wanted_cores": sizing.wanted_cores,
        "fence": sizing.plan.fence,
        "tiers": tiers.collect::<Vec<Value>>(),
        "reasons": sizing.plan.reasons,
        "warnings": sizing.warnings,
    })
    .to_string()
}

/// Pods that no node has are taken to come here.
fn is_on(pod: &Pod, node: Option<&str>) -> bool {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match (bound, node) {
        (Some(bound), Some(node)) => bound == node,
        _ => true,
    }
}

type Parts = (Topology, Option<String>, Vec<Pod>);

fn files(args: &PlanArgs) -> Result<Parts> {
    let pods = args.pods.as_deref().context("no --pods")?;
    ensure!(
        args.node.as_deref() != Some(pods) || pods != Path::new("-"),
        "only one of --node and --pods can be standard input"
    );
    let (topology, name) = match &args.node {
        None => (this_machine()?, None),
        Some(path) => {
            let mut nodes: Vec<Node> = objects(path, "Node")?;
            ensure!(
                nodes.len() == 1,
                "{}: there are {} nodes, and a plan is of one: kubectl get node NAME -o json",
                path.display(),
                nodes.len()
            );
            let node = nodes.remove(0);
            let topology = topology_of(&node, args.threads_per_core)
                .with_context(|| path.display().to_string())?;
            (topology, node.metadata.name)
        }
    };
    Ok((topology, name, objects(pods, "Pod")?))
}

fn this_machine() -> Result<Topology> {
    let topology = Topology::read(Path::new("/sys/devices/system/cpu"))?;
    Ok(topology.with_partitions(Path::new("/sys/fs/cgroup")))
}

fn topology_of(node: &Node, threads_per_core: u16) -> Result<Topology> {
    let capacity = node.status.as_ref().and_then(|it| it.capacity.as_ref());
    let cpus = capacity.and_then(|it| parse_millis(&it.get("cpu")?.0));
    let cpus = cpus.context("status.capacity.cpu is missing, or no quantity")? / 1000;
    ensure!(
        (1..=1024).contains(&cpus),
        "status.capacity.cpu is {cpus}; a node has between 1 and 1024"
    );
    Ok(Topology::uniform(
        cpus as usize,
        usize::from(threads_per_core),
    ))
}

/// What kubectl prints: one object, or a list of them.
fn objects<K: DeserializeOwned>(path: &Path, kind: &str) -> Result<Vec<K>> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        kind: String,
        items: Option<Vec<Value>>,
    }
    let place = match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let text = read(path).with_context(|| format!("cannot read {place}"))?;
    let object: Value = serde_json::from_str(&text)
        .with_context(|| format!("{place}: not JSON: kubectl's -o json prints it"))?;
    let what = Kind::deserialize(&object)
        .with_context(|| format!("{place}: not an object of Kubernetes"))?;
    let items = match what.items {
        Some(items) => items,
        None if what.kind == kind => vec![object],
        None => bail!("{place}: kind is '{}', not {kind} or List", what.kind),
    };
    let items = items.into_iter().enumerate().map(|(at, item)| {
        if let Some(other) = item["kind"].as_str().filter(|other| *other != kind) {
            bail!("{place}: items[{at}]: kind is '{other}', not {kind}");
        }
        serde_json::from_value(item).with_context(|| format!("{place}: items[{at}]"))
    });
    items.collect()
}

fn read(path: &Path) -> io::Result<String> {
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(path)?),
    };
    let mut text = String::new();
    if source.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large"));
    }
    Ok(text)
}

fn live(args: &PlanArgs) -> Result<Parts> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let name = args.node_name.as_deref().unwrap_or(host);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (node, pods) = runtime.block_on(ask(name))?;
    let topology = match name == host {
        true => this_machine()?,
        false => topology_of(&node, args.threads_per_core)?,
    };
    Ok((topology, Some(name.to_owned()), pods))
}

async fn ask(node: &str) -> Result<(Node, Vec<Pod>)> {
    let client = Client::try_default()
        .await
        .context("no way to the API server: set KUBECONFIG")?;
    let nodes: Api<Node> = Api::all(client.clone());
    let hint = || format!("node {node}: give its name in Kubernetes with --node-name");
    let found = nodes.get(node).await.with_context(hint)?;
    let pods: Api<Pod> = Api::all(client);
    let bound = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let listed = pods.list(&bound).await.context("cannot list pods")?;
    Ok((found, listed.items))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(value: &Value) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), value.to_string()).unwrap();
        file
    }

    fn pod(node: &str, priority: i32, cpu: &str) -> Value {
        json!({"kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"nodeName": node, "priority": priority, "priorityClassName": "x",
                "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn args(node: &Path, pods: &Path) -> PlanArgs {
        PlanArgs {
            node: Some(node.into()),
            pods: Some(pods.into()),
            live: false,
            node_name: None,
            threads_per_core: 2,
            config: None,
            prefix: "infera.io".into(),
            output: Output::Text,
        }
    }

    fn node(cpus: &str) -> Value {
        json!({"kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": cpus}}})
    }

    #[test]
    fn what_kubectl_prints_is_read_and_other_nodes_pods_are_not_counted() {
        let list = json!({"kind": "List", "items": [
            pod("n", 1_000_000, "2"), pod("other", 1_000_000, "50")]});
        let (nodes, pods) = (file(&node("8")), file(&list));
        let (topology, name, found) = files(&args(nodes.path(), pods.path())).unwrap();
        assert_eq!((topology.cores.len(), found.len()), (4, 2));
        let here = found.iter().filter(|pod| is_on(pod, name.as_deref()));
        assert_eq!(here.count(), 1);
        let code = print(&args(nodes.path(), pods.path())).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn warnings_are_an_exit_status_for_ci() {
        let (nodes, pods) = (file(&node("8")), file(&pod("n", 1_000_000, "9")));
        let code = print(&args(nodes.path(), pods.path())).unwrap();
        assert_eq!(code, ExitCode::from(1));
    }

    #[test]
    fn what_is_no_node_or_pod_is_refused_with_its_place() {
        let good = file(&node("8"));
        for (nodes, pods, words) in [
            (node("many"), json!([]), "status.capacity.cpu"),
            (node("0"), json!([]), "between 1 and 1024"),
            (
                json!({"kind": "NodeList", "items": [node("8"), node("8")]}),
                json!([]),
                "2 nodes",
            ),
            (node("8"), json!([]), "not an object"),
            (node("8"), json!({"kind": "Service"}), "kind is 'Service'"),
            (node("8"), json!({"items": [{"kind": "Node"}]}), "items[0]"),
            (
                node("8"),
                json!({"items": [{"spec": {"containers": 3}}]}),
                "items[0]",
            ),
        ] {
            let (nodes, pods) = (file(&nodes), file(&pods));
            let error = print(&args(nodes.path(), pods.path())).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(words), "{words}: {error}");
        }
        let error = print(&args(good.path(), Path::new("/nowhere"))).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere"));
    }
}
