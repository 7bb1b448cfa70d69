//! The command line, parsed and nothing more.

use clap::Parser;
use std::path::PathBuf;

/// Five CPU quality-of-service tiers, enforced in the kernel through sched_ext.
///
/// While attached, requests of cgroups (cpu.weight) are in force within each tier, and CPU limits (cpu.max) in all.
#[derive(Debug, Parser)]
#[command(name = "scx_infera", version, disable_version_flag = true)]
pub struct Args {
    /// Tier-weighting policy, one of --list-policies (default: the configuration's, or weighted).
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,

    /// Puts a cgroup and all below it into a tier: critical=/some/cgroup (repeatable; globs).
    #[arg(long = "tier", value_name = "TIER=CGROUP")]
    pub tiers: Vec<String>,

    /// Configuration file (TOML); read again on SIGHUP, without detaching.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The node agent's assignment of pods to tiers (JSON); read again on SIGHUP, need not exist.
    #[arg(long, value_name = "FILE")]
    pub assignment: Option<PathBuf>,

    /// One time slice for every tier, in microseconds, instead of each tier's own.
    #[arg(short = 's', long, value_name = "US", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub slice_us: Option<u64>,

    /// Prints statistics every SEC seconds.
    #[arg(long, value_name = "SEC", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stats: Option<u64>,

    /// Prints the statistics of a running scx_infera every SEC seconds, attaches nothing.
    #[arg(long, value_name = "SEC", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub monitor: Option<u64>,

    /// Describes every statistic, as --monitor and the socket give them, and exits.
    #[arg(long)]
    pub help_stats: bool,

    /// Lists the policies and exits.
    #[arg(long)]
    pub list_policies: bool,

    /// Prints what would be in force and why, attaches nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Says whether this kernel can run it and what is missing, attaches nothing.
    #[arg(long)]
    pub check: bool,

    /// Bytes of kernel debug dump kept when the scheduler is ejected; 0: the kernel's default.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub exit_dump_len: u32,

    /// Has the policy misbehave on purpose after N decisions, to see that this node survives
    /// it: panic, loop, slow, unknown, slice, hoard or grow.
    #[arg(long, value_name = "WHAT[@N]", hide = true)]
    pub drill: Option<String>,

    /// The page that infera-guard watches.
    #[arg(long, value_name = "FD", hide = true, value_parser = clap::value_parser!(i32).range(3..))]
    pub heartbeat_fd: Option<i32>,

    /// More log lines.
    #[arg(short, long)]
    pub verbose: bool,

    /// Prints the version and exits.
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    pub version: Option<bool>,
}
