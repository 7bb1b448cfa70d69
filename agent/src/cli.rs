//! The command line, parsed and nothing more.

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// From Kubernetes pods to tiers in the kernel's scheduler, and the node's signals.
#[derive(Clone, Debug, Parser)]
#[command(name = "infera-agent", version)]
pub struct Args {
    /// This node's name in Kubernetes.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", default_value = "")]
    pub node_name: String,
    /// The uid of this agent's own pod, which is of the System tier.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Configuration file (TOML), the scheduler's and the agent's: [priority_mapping].
    #[arg(long, value_name = "FILE", default_value = "/etc/infera/infera.toml")]
    pub config: PathBuf,
    /// Where to serve /metrics, /observe, /healthz and /readyz.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9100")]
    pub listen: SocketAddr,
    /// Debounce: pod changes within this time become one assignment.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub debounce_ms: u64,
    /// What annotation keys begin with.
    #[arg(long, value_name = "DOMAIN", default_value = "infera.io")]
    pub prefix: String,
    /// Starts no scheduler: one is started otherwise, or none is wanted.
    #[arg(long)]
    pub no_scheduler: bool,
    /// On a node without Kubernetes: tiers are those of the configuration's cgroups; metrics,
    /// placement linter and safe mode as ever.
    #[arg(long, conflicts_with = "node_condition")]
    pub standalone: bool,
    /// Sets the node condition InferaReady, too.
    #[arg(long)]
    pub node_condition: bool,
    /// Where the guard listens and the assignment is written.
    #[arg(long, value_name = "DIR", default_value = "/run/infera")]
    pub run_dir: PathBuf,
    /// The cgroup mount.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// The scheduler's statistics socket.
    #[arg(
        long,
        value_name = "FILE",
        default_value = infera_node::STATS_SOCKET,
        hide = true
    )]
    pub stats_socket: PathBuf,
    /// The guard's program.
    #[arg(long, value_name = "FILE", default_value = "infera-guard", hide = true)]
    pub guard: PathBuf,
    /// The scheduler's program.
    #[arg(long, value_name = "FILE", default_value = "scx_infera", hide = true)]
    pub scheduler: PathBuf,
    /// Something else than running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else it does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Removes what the agent wrote to nodes: annotations and the condition.
    Cleanup {
        /// Of every node, not of this one alone.
        #[arg(long)]
        all_nodes: bool,
    },
}
