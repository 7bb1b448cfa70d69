//! `infera-agent`: from Kubernetes pods to tiers, and the node's signals.

mod agent;
mod assigner;
mod cli;
mod debounce;
mod enforcement;
mod fence;
mod guard;
mod http;
mod lint;
mod metrics;
mod node_writer;
mod observer;
mod own;
mod publish;
mod safe_mode;
#[cfg(test)]
mod scenarios;
mod store;
mod tree;
mod verdict;
mod watches;

use agent::Agent;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use cli::{Args, Command};
use infera_plan::{Config, Topology};
use infera_pods::Keys;
use kube::Client;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

async fn run(args: Args) -> Result<()> {
    ensure!(
        !args.standalone || args.command.is_none(),
        "--standalone knows no API server to clean up at"
    );
    ensure!(
        !args.node_name.is_empty()
            || args.standalone
            || matches!(args.command, Some(Command::Cleanup { all_nodes: true })),
        "which node is this? Set NODE_NAME or --node-name"
    );
    let client = match args.standalone {
        true => None,
        false => Some(
            Client::try_default()
                .await
                .context("no way to the API server: run it in a pod, set KUBECONFIG, or use --standalone on a node without Kubernetes")?,
        ),
    };
    if let (Some(Command::Cleanup { all_nodes }), Some(client)) = (&args.command, &client) {
        let node = (!*all_nodes).then_some(args.node_name.as_str());
        let keys = Keys::new(&args.prefix);
        let cleaned = publish::clean_up(client.clone(), &keys, node).await?;
        println!("{cleaned} nodes have none of our annotations");
        return Ok(());
    }
    let config = match args.config.exists() {
        true => Config::read(&args.config)?,
        false => {
            info!("no {}: defaults", args.config.display());
            Config::default()
        }
    };
    let topology = Topology::read(Path::new("/sys/devices/system/cpu"))
        .inspect_err(|error| warn!("the shape of this machine is not known: {error}"))
        .ok()
        .map(|topology| topology.with_partitions(&args.cgroup_root));
    let node = metrics::Node {
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        cpus: topology
            .as_ref()
            .map_or(0, |topology| topology.cpus().len()),
        smt: topology
            .as_ref()
            .is_some_and(|topology| topology.cores.iter().any(|core| core.len() > 1)),
    };
    let (shown, questions) = http::Shown::new(metrics::Metrics::new(&node));
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    info!(
        "infera-agent {} on {}, {}",
        env!("CARGO_PKG_VERSION"),
        args.node_name,
        args.listen
    );
    let serving = axum::serve(listener, http::router(shown.clone()));
    let agent = Agent::new(args, config, topology, shown);
    tokio::select! {
        ended = agent.run(client, questions) => ended.context("the agent cannot go on"),
        failed = async move { serving.await } => failed.context("cannot serve metrics"),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    // What the client says of a lost connection is said here, too, in a sentence.
    let targets = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client", LevelFilter::OFF);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("infera-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
