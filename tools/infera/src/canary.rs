//! `infera canary status`: whether the candidate does as well as the rest, from what their agents
//! measure.

use crate::Output;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// Fewer wakeups than this are too few to compare a tail.
const WAKEUPS: f64 = 1000.0;
/// A tail this many times longer than the others' is worse ...
const LONGER: f64 = 1.5;
/// ... if it is at least this many seconds longer, too.
const LATER: f64 = 0.0005;
/// More of its time than this on the stock scheduler, and more than the others, is worse.
const AWAY: f64 = 0.01;

/// Whom to compare.
#[derive(Debug, Args)]
pub struct CanaryArgs {
    /// The chart's namespace.
    #[arg(short, long, default_value = "infera")]
    namespace: String,
    /// How long to look, in seconds.
    #[arg(long, value_name = "SEC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

/// What to do about the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Advice {
    /// It does as well as the rest.
    Promote,
    /// Too little is known yet.
    Wait,
    /// It does worse.
    RollBack,
}

/// One thing that speaks for an advice.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Evidence {
    advice: Advice,
    sentence: String,
}

/// Looks twice and judges. Exit status 0: promote; 1: wait; 3: roll back.
///
/// # Errors
///
/// There is no way to the API server, it does not list the namespace's pods, or the namespace has no canary agent or no
/// other agent. An agent that does not answer is no error: it counts as not ready.
pub fn print(args: &CanaryArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (canary, main) = runtime.block_on(measure(args))?;
    let evidence = judge(&canary, &main);
    let advice = evidence.iter().map(|one| one.advice).max();
    let advice = advice.unwrap_or(Advice::Wait);
    match args.output {
        Output::Json => println!(
            "{}",
            serde_json::json!({"advice": advice, "evidence": evidence, "canary": canary.nodes, "main": main.nodes})
        ),
        Output::Text => {
            println!(
                "{} of {} canary nodes against {} of {} others, {} s:",
                canary.ready, canary.nodes, main.ready, main.nodes, args.seconds
            );
            for one in &evidence {
                println!("  {:<10} {}", word(one.advice), one.sentence);
            }
            println!("{}", word(advice));
        }
    }
    Ok(ExitCode::from(match advice {
        Advice::Promote => 0,
        Advice::Wait => 1,
        Advice::RollBack => 3,
    }))
}

fn word(advice: Advice) -> &'static str {
    match advice {
        Advice::Promote => "promote",
        Advice::Wait => "wait",
        Advice::RollBack => "roll back",
    }
}

/// One side's nodes together.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    nodes: usize,
    ready: usize,
    /// Seconds that its nodes were looked at, together.
    looked: f64,
    /// By name and labels as the agents write them; counters: what came to them meanwhile.
    figures: BTreeMap<String, f64>,
}

impl Side {
    /// The sum of all that begin with `name`.
    fn sum(&self, name: &str) -> f64 {
        let ours = self.figures.iter().filter(|(key, _)| {
            let rest = key.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        // Of nothing, the sum of floats is -0.
        ours.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// Takes a node in: what it said first, and what it said last.
    fn take(&mut self, first: &Figures, last: &Figures, seconds: f64) {
        self.looked += seconds;
        for (key, value) in last {
            let name = key.split('{').next().unwrap_or(key);
            let counter = ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .any(|end| name.ends_with(end));
            let before = match counter {
                true => first.get(key).copied().unwrap_or(0.0),
                false => 0.0,
            };
            // An agent that was started anew counts from the beginning.
            let grown = if *value >= before {
                value - before
            } else {
                *value
            };
            // A gauge that was not there the first time may be over the next.
            let lasting = counter || first.get(key).is_some_and(|before| *before > 0.0);
            if lasting {
                *self.figures.entry(key.clone()).or_default() += grown;
            }
        }
    }

    /// Below this many seconds 99 of 100 wakeups of a tier were; and how many there were.
    fn p99(&self, tier: &str) -> Option<(f64, f64)> {
        let label = format!("tier=\"{tier}\"");
        let mut buckets: Vec<(f64, f64)> = self
            .figures
            .iter()
            .filter(|(key, _)| {
                key.starts_with("infera_tier_wakeup_latency_seconds_bucket{")
                    && key.contains(&label)
            })
            .filter_map(|(key, count)| {
                let bound = key.split("le=\"").nth(1)?.split('"').next()?;
                let bound = bound.parse().unwrap_or(f64::INFINITY);
                Some((bound, *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = buckets.last()?.1;
        let (bound, _) = buckets.iter().find(|(_, count)| *count >= 0.99 * all)?;
        Some((*bound, all))
    }
}

type Figures = BTreeMap<String, f64>;

/// Samples of a page of metrics.
fn parse(page: &str) -> Figures {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (key, value) = match line.rfind('}') {
                Some(end) => line.split_at(end + 1),
                None => line.split_once(' ')?,
            };
            let value = value.split_whitespace().next()?.parse().ok()?;
            Some((key.to_owned(), value))
        })
        .collect()
}

fn judge(canary: &Side, main: &Side) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let mut say = |advice, sentence: String| evidence.push(Evidence { advice, sentence });
    if canary.ready == 0 || main.ready == 0 {
        let who = if canary.ready == 0 { "canary" } else { "other" };
        say(Advice::Wait, format!("no {who} node says how it is"));
        return evidence;
    }
    if canary.ready < canary.nodes {
        say(
            Advice::Wait,
            format!("{} canary nodes do not answer", canary.nodes - canary.ready),
        );
    }
    let each = |side: &Side, name: &str| side.sum(name) / side.ready as f64;

    let ejects = canary.sum("infera_scheduler_ejects_total");
    match ejects > 0.0 {
        true => say(Advice::RollBack, format!("{ejects} ejects on canary nodes")),
        false => say(Advice::Promote, "no ejects".into()),
    }

    let lint = |side: &Side| each(side, "infera_lint_violation");
    let (ours, theirs) = (lint(canary), lint(main));
    match ours > theirs {
        true => say(
            Advice::RollBack,
            format!("{ours:.1} lint violations a node, {theirs:.1} elsewhere"),
        ),
        false => say(
            Advice::Promote,
            format!("{ours:.1} lint violations a node, {theirs:.1} elsewhere"),
        ),
    }

    let away =
        |side: &Side| side.sum("infera_stock_scheduler_seconds_total") / side.looked.max(1.0);
    let (ours, theirs) = (away(canary), away(main));
    let sentence = format!(
        "{:.1} % of the time on the stock scheduler, {:.1} % elsewhere",
        100.0 * ours,
        100.0 * theirs
    );
    match ours > AWAY && ours > 1.1 * theirs {
        true => say(Advice::RollBack, sentence),
        // Where the others are away as well there is nothing to compare with.
        false if ours > 0.5 => say(Advice::Wait, sentence),
        false => say(Advice::Promote, sentence),
    }

    for tier in ["critical", "high"] {
        let sides = canary.p99(tier).zip(main.p99(tier));
        let Some(((ours, count), (theirs, other))) = sides else {
            continue;
        };
        if count == 0.0 && other == 0.0 {
            continue; // Neither side has such pods.
        }
        if count < WAKEUPS || other < WAKEUPS {
            say(
                Advice::Wait,
                format!("{tier}: {count} wakeups, {other} elsewhere: too few to compare"),
            );
            continue;
        }
        let sentence = format!(
            "{tier}: wakeup p99 below {:.3} ms, below {:.3} ms elsewhere",
            1e3 * ours,
            1e3 * theirs
        );
        match ours > LONGER * theirs && ours - theirs > LATER {
            true => say(Advice::RollBack, sentence),
            false => say(Advice::Promote, sentence),
        }
    }
    evidence
}

/// `NAME:PORT` of an agent, as the API server's proxy wants it.
fn proxied(pod: &Pod) -> Option<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let metrics = ports.find(|port| port.name.as_deref() == Some("metrics"));
    let port = metrics.map_or(9100, |port| port.container_port);
    Some(format!("{}:{port}", pod.metadata.name.as_ref()?))
}

/// Both sides, over the time asked for.
async fn measure(args: &CanaryArgs) -> Result<(Side, Side)> {
    let client = Client::try_default()
        .await
        .context("no way to the API server: set KUBECONFIG")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &args.namespace);
    let mut sides = Vec::new();
    for component in ["agent-canary", "agent"] {
        let label = format!("app.kubernetes.io/component={component}");
        let listed = pods.list(&ListParams::default().labels(&label)).await;
        let listed = listed.with_context(|| format!("cannot list pods of {}", args.namespace))?;
        let agents = listed.items.iter().filter_map(proxied);
        sides.push(agents.collect::<Vec<String>>());
    }
    if sides[0].is_empty() {
        bail!(
            "no canary agent in namespace {}: docs/operations.md describes how to start one",
            args.namespace
        );
    }
    ensure!(!sides[1].is_empty(), "no other agent to compare with");
    let first = scrape_all(&client, args, &sides).await;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let last = scrape_all(&client, args, &sides).await;
    let mut measured = sides.iter().map(|names| {
        let mut side = Side {
            nodes: names.len(),
            ..Side::default()
        };
        for name in names {
            if let (Some(first), Some(last)) = (first.get(name), last.get(name)) {
                side.ready += 1;
                side.take(first, last, args.seconds as f64);
            }
        }
        side
    });
    let canary = measured.next().unwrap_or_default();
    Ok((canary, measured.next().unwrap_or_default()))
}

async fn scrape_all(
    client: &Client,
    args: &CanaryArgs,
    sides: &[Vec<String>],
) -> BTreeMap<String, Figures> {
    let mut pages = BTreeMap::new();
    for name in sides.iter().flatten() {
        // Through the API server, so that this machine need not be in the pods' network.
        let path = format!(
            "/api/v1/namespaces/{}/pods/{name}/proxy/metrics",
            args.namespace
        );
        let Ok(request) = http::Request::get(path).body(Vec::new()) else {
            continue;
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), client.request_text(request));
        match answer.await {
            Ok(Ok(page)) => drop(pages.insert(name.clone(), parse(&page))),
            Ok(Err(error)) => eprintln!("infera: {name}: {error}"),
            Err(_) => eprintln!("infera: {name} does not answer"),
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node after some wakeups of Critical, most of them within `most` seconds.
    fn page(ejects: u32, lint: u32, away: f64, wakeups: u32, most: f64) -> Figures {
        parse(&format!(
            "# TYPE infera_scheduler_ejects_total counter\n\
             infera_scheduler_ejects_total{{kind=\"starved\"}} {ejects}\n\
             infera_lint_violation{{invariant=\"smt_collision\"}} {lint}\n\
             infera_stock_scheduler_seconds_total{{reason=\"ejected\"}} {away}\n\
             infera_tier_wakeup_latency_seconds_bucket{{tier=\"critical\",le=\"{most}\"}} {wakeups}\n\
             infera_tier_wakeup_latency_seconds_bucket{{tier=\"critical\",le=\"+Inf\"}} {wakeups}\n"
        ))
    }

    fn side(first: Figures, last: Figures) -> Side {
        let mut side = Side {
            nodes: 1,
            ready: 1,
            ..Side::default()
        };
        side.take(&first, &last, 60.0);
        side
    }

    fn advice(canary: &Side, main: &Side) -> Advice {
        let evidence = judge(canary, main);
        evidence.iter().map(|one| one.advice).max().unwrap()
    }

    #[test]
    fn worse_is_rolled_back_equal_promoted_and_the_unknown_waits() {
        let before = || page(3, 0, 10.0, 50_000, 0.0001);
        let main = side(before(), page(3, 0, 10.0, 90_000, 0.0001));
        let after = |page| side(before(), page);
        assert_eq!(advice(&main, &main), Advice::Promote);
        for (page, expected) in [
            (page(3, 0, 10.0, 80_000, 0.0001), Advice::Promote),
            (page(4, 0, 10.0, 80_000, 0.0001), Advice::RollBack),
            (page(3, 0, 15.0, 80_000, 0.0001), Advice::RollBack),
            (page(3, 0, 10.0, 50_100, 0.0001), Advice::Wait),
        ] {
            assert_eq!(advice(&after(page.clone()), &main), expected, "{page:?}");
        }
        // What is wrong the whole time counts; what is seen once does not.
        let wrong = side(
            page(3, 2, 10.0, 50_000, 0.0001),
            page(3, 2, 10.0, 80_000, 0.0001),
        );
        assert_eq!(advice(&wrong, &main), Advice::RollBack);
        let once = after(page(3, 2, 10.0, 80_000, 0.0001));
        assert_eq!(advice(&once, &main), Advice::Promote);
        let slow = side(
            page(3, 0, 10.0, 50_000, 0.01),
            page(3, 0, 10.0, 80_000, 0.01),
        );
        assert_eq!(advice(&slow, &main), Advice::RollBack);
        let silent = Side {
            nodes: 2,
            ..Side::default()
        };
        assert_eq!(advice(&silent, &main), Advice::Wait);
    }

    #[test]
    fn an_agent_that_was_started_anew_counts_from_zero() {
        let new = side(
            page(9, 0, 90.0, 900_000, 0.0001),
            page(0, 0, 0.0, 2_000, 0.0001),
        );
        assert_eq!(new.sum("infera_scheduler_ejects_total"), 0.0);
        assert_eq!(new.p99("critical"), Some((0.0001, 2_000.0)));
    }

    #[test]
    fn a_page_is_read_with_braces_in_labels() {
        let figures = parse("a_total{x=\"}\",y=\"1\"} 3.5 1700000000\nb 4\n# b 5\nbad\n");
        assert_eq!(figures["a_total{x=\"}\",y=\"1\"}"], 3.5);
        assert_eq!(figures["b"], 4.0);
        assert_eq!(figures.len(), 2);
    }
}
