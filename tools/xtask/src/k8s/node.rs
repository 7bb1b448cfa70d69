//! `cargo xtask k8s node`: a node in a guest, with agent, guard and the real scheduler, and a real
//! API server outside of it. A script in the guest does what a kubelet does to cgroups; where it
//! says NEED, the administrator acts.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    objects::{done, pod, pod_object, rights},
};
use crate::{
    cache, guest, kernel,
    test::{PRELUDE, build_guest_programs},
    vm::{self, VmOptions, console_tail},
};

const NODE: &str = "node-1";
const SCRIPT: &str = include_str!("../../guest-scripts/node.sh");

/// From the watch's event to the stock scheduler, in ms.
const STAND_DOWN: f64 = 100.0;

/// The linter's share of one CPU, in percent, on a node of 250 pods and 5,000 threads.
const LINTER: f64 = 0.1;

/// The agent's resident memory there, in MB.
const RESIDENT: f64 = 30.0;

/// Which node.
#[derive(Args)]
pub struct NodeArgs {
    /// The kernel: the beginning of a cached kernel's release, or `newest`: the one fetched last.
    #[arg(long, default_value = kernel::NEWEST)]
    kernel: String,
    /// Measures what agent and linter use on a node of 250 pods and 5,000 threads instead.
    #[arg(long)]
    overhead: bool,
}

/// Runs it.
pub fn main(arguments: &NodeArgs) -> Result<()> {
    build_guest_programs()?;
    let cluster = Cluster::start()?;
    cluster.create_nodes(1)?;
    rights(&cluster)?;
    let outcome = match arguments.overhead {
        true => overhead(arguments, &cluster),
        false => tiers_and_safe_mode(arguments, &cluster),
    };
    if outcome.is_err() {
        let place = cache::dir("logs")?.join("k8s-node");
        cluster.keep_logs(&place)?;
        eprintln!("the API server's logs are in {}", place.display());
    }
    outcome
}

/// Boots the node and runs `part` of the script; `on_line` is called with each line.
fn boot(
    arguments: &NodeArgs,
    cluster: &Cluster,
    part: &str,
    options: VmOptions,
    mut on_line: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let token = cluster.kubectl(&["-n", "infera", "create", "token", "infera-agent"])?;
    let config = cluster.config_in_guest(token.trim())?;
    let options = VmOptions {
        kernel: arguments.kernel.clone(),
        exact: true,
        network: true,
        timeout: Duration::from_secs(1200),
        script: format!("{PRELUDE}\nNODE={NODE} CONFIG='{config}'\n{SCRIPT}\n{part}\n"),
        ..options
    };
    let command = ["sh", "/infera/script"].map(str::to_owned);
    let mut trouble = None;
    let outcome = vm::run(&options, &command, |line| {
        println!("      {line}");
        if let Err(error) = on_line(line) {
            trouble.get_or_insert(error);
        }
    })?;
    if let Some(error) = trouble {
        return Err(error);
    }
    if outcome.status != 0 || outcome.timed_out {
        bail!("the node failed\n{}", console_tail(&outcome.console));
    }
    Ok(())
}

fn tiers_and_safe_mode(arguments: &NodeArgs, cluster: &Cluster) -> Result<()> {
    for tier in ["critical", "high", "normal", "low", "background"] {
        let resources = json!({"requests": {"cpu": "500m"}});
        let class = format!("infera-{tier}");
        pod(cluster, NODE, tier, &class, &resources, &json!({}))?;
    }
    let annotate = |word: &str| {
        let word = format!("infera.io/safe-mode-requested{word}");
        cluster.kubectl(&["annotate", "--overwrite", "node", NODE, &word])
    };
    let mut took = None;
    boot(
        arguments,
        cluster,
        "tiers; safe_mode; linter",
        guest::options(),
        |line| {
            match line {
                "NEED safe mode" => annotate("=true").map(drop),
                "NEED enforcement" => annotate("-").map(drop),
                // Another priority class decides another tier: a new pod, as Kubernetes wants it.
                "NEED another class" => {
                    cluster.kubectl(&["delete", "pod", "low", "--grace-period=0", "--force"])?;
                    let resources = json!({"requests": {"cpu": "500m"}});
                    pod(
                        cluster,
                        NODE,
                        "raised",
                        "infera-high",
                        &resources,
                        &json!({}),
                    )
                }
                _ => {
                    if let Some(words) = line.strip_prefix("DOWN ") {
                        took = Some(stand_down_ms(words)?);
                    }
                    Ok(())
                }
            }
        },
    )?;
    let took = took.context("the guest did not say when it stood down")?;
    println!(
        "      {took:.0} ms from the watch's event to the stock scheduler, at most {STAND_DOWN}"
    );
    ensure!(
        (0.0..=STAND_DOWN).contains(&took),
        "it stood down after {took:.0} ms, not within {STAND_DOWN}"
    );
    let seen = cluster.get(&["node", NODE])?;
    let annotations = &seen["metadata"]["annotations"];
    ensure!(
        annotations["infera.io/agent-status"] == "NotReady: the agent has ended",
        "the agent did not say its last word: {annotations}"
    );
    done(
        "a node in a guest: tiers by priority class, safe mode by annotation, the linter broken on purpose",
    );
    Ok(())
}

/// Of `{"ms":...,"at_ms":N} 2026-11-25T21:48:47.123456Z ...`: from the log line's moment to N.
fn stand_down_ms(words: &str) -> Result<f64> {
    let (report, line) = words.split_once("} ").context("no report")?;
    let report: Value = serde_json::from_str(&format!("{report}}}"))?;
    let at = report["at_ms"].as_f64().context("no moment")? / 1e3;
    let clock = line
        .split_once('T')
        .and_then(|(_, rest)| rest.split_once('Z'))
        .context("no time in the log's line")?;
    let mut seconds = 0.0;
    for part in clock.0.split(':') {
        seconds = 60.0 * seconds + part.parse::<f64>()?;
    }
    // Of the same day, or of two that meet at midnight.
    Ok((at % 86_400.0 - seconds).rem_euclid(86_400.0) * 1e3)
}

fn overhead(arguments: &NodeArgs, cluster: &Cluster) -> Result<()> {
    let classes = ["critical", "high", "normal", "low", "background"];
    let pods: Vec<Value> = (0..250)
        .map(|n| {
            let class = format!("infera-{}", classes[n % 5]);
            let resources = json!({"requests": {"cpu": "10m"}});
            pod_object(NODE, &format!("pod-{n}"), &class, &resources, &json!({}))
        })
        .collect();
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": pods}))?;
    // On several CPUs that take turns a thread's time has the others' turns in it.
    let options = VmOptions {
        cpus: 1,
        memory: 4096,
        ..guest::options()
    };
    let mut figures = None;
    boot(arguments, cluster, "overhead", options, |line| {
        if let Some(row) = line.strip_prefix("OVERHEAD ") {
            figures = Some(serde_json::from_str::<Value>(row)?);
        }
        Ok(())
    })?;
    let figures = figures.context("the guest did not say")?;
    let figure = |key: &str| figures[key].as_f64().with_context(|| format!("no {key}"));
    let share = |key: &str| Ok::<f64, anyhow::Error>(100.0 * figure(key)? / figure("seconds")?);
    let (agent, linter) = (share("cpu_seconds")?, share("lint_cpu_seconds")?);
    let resident = figure("resident_bytes")? / 1e6;
    println!(
        "{} pods, {} threads, {} s at 1 ns an instruction:",
        figures["pods"], figures["threads"], figures["seconds"]
    );
    println!("  agent    {agent:.3} % of one CPU, {resident:.1} MB resident, at most {RESIDENT}");
    println!("  linter   {linter:.3} % of one CPU, at most {LINTER}");
    ensure!(linter <= LINTER, "the linter uses {linter:.3} % of a CPU");
    ensure!(resident <= RESIDENT, "the agent takes {resident:.1} MB");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_a_log_line_and_a_moment_is_found() {
        let at = 1_800_000_000_250u64;
        let line = format!(
            "{{\"command\":\"await\",\"ms\":1.0,\"at_ms\":{at}}} 2027-01-15T08:00:00.200000Z  INFO x"
        );
        let took = stand_down_ms(&line).unwrap();
        assert!((took - 50.0).abs() < 1.0, "{took}");
        assert!(stand_down_ms("{} no time").is_err());
    }
}
