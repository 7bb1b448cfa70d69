//! Alerts and dashboard: rules that Prometheus accepts and that fire when they should, and names
//! of metrics that the agent promises.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    golden::{self, KUBERNETES},
    helm::Helm,
    page,
};
use crate::{
    k8s::{fetch, process::output_within, programs::Program},
    workspace,
};

/// What the agent exports, by its contract; a histogram's series are named after it.
const METRICS: [&str; 13] = [
    "infera_lint_violation",
    "infera_safe_mode",
    "infera_scheduler_attached",
    "infera_config_generation",
    "infera_tier_pods",
    "infera_tier_cpu_seconds_total",
    "infera_tier_wakeup_latency_seconds",
    "infera_stock_scheduler_seconds_total",
    "infera_scheduler_ejects_total",
    "infera_dispatches_total",
    "infera_psi_some_seconds_total",
    "infera_build_info",
    "infera_node_info",
];

/// With which all of them are rendered.
const ENABLED: [&str; 4] = [
    "--set",
    "metrics.prometheusRule.enabled=true",
    "--set",
    "metrics.dashboard.enabled=true",
];

/// Checks both.
pub fn check(helm: &Helm) -> Result<String> {
    let show = |template: &str| {
        let more = [&ENABLED[..], &["--show-only", template]].concat();
        helm.template(KUBERNETES, &more)?.ok("helm template")
    };
    let rule = show("templates/prometheusrule.yaml")?;
    let dashboard = show("templates/dashboard.yaml")?;
    let rules = rules(&rule).context("the PrometheusRule has no spec")?;

    let page = page::read()?;
    let unknown: BTreeSet<String> = names(&rules)
        .chain(names(&dashboard))
        .chain(names(&page))
        .filter(|name| !known(name))
        .collect();
    ensure!(unknown.is_empty(), "unknown metrics: {unknown:?}");
    let dashboard = golden::block(&dashboard, "infera.json").context("no dashboard")?;
    let dashboard = serde_json::from_str(&dashboard).context("the dashboard")?;
    runbooks(&page, &rules)?;
    promtool(&rules, &queries(&dashboard)?)
}

/// The rules as Prometheus reads them from a file.
fn rules(resource: &str) -> Option<String> {
    let (_, spec) = resource.split_once("\nspec:\n")?;
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

/// Words that look like metrics.
fn names(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("infera_"))
        .map(str::to_owned)
}

fn known(name: &str) -> bool {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    METRICS.contains(&name) || METRICS.contains(&base)
}

/// Every alert has its section on the operations page, and every such section its alert.
fn runbooks(page: &str, rules: &str) -> Result<()> {
    let alerts: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    let linked: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: docs/operations.md#"))
        .collect();
    let expected: BTreeSet<String> = alerts.iter().map(|name| name.to_lowercase()).collect();
    ensure!(
        linked
            .iter()
            .copied()
            .eq(expected.iter().map(String::as_str)),
        "an alert's runbook_url is not its name: {linked:?}"
    );
    let sections: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|title| title.starts_with("Infera"))
        .map(str::to_owned)
        .collect();
    ensure!(
        sections == alerts,
        "sections of the page and alerts differ: {:?}",
        sections.symmetric_difference(&alerts)
    );
    Ok(())
}

/// The dashboard's queries as rules, which promtool parses.
fn queries(dashboard: &Value) -> Result<String> {
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let queries = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .filter_map(|target| target["expr"].as_str());
    let rules: Vec<Value> = queries
        .enumerate()
        .map(|(number, query)| {
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$node", ".*");
            json!({"record": format!("dashboard:query{number}"), "expr": query})
        })
        .collect();
    ensure!(!rules.is_empty(), "no queries");
    // JSON is YAML.
    Ok(json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())
}

fn promtool(rules: &str, queries: &str) -> Result<String> {
    let promtool = fetch::get(Program::Promtool)?;
    let scratch = tempfile::tempdir()?;
    fs::write(scratch.path().join("rules.yaml"), rules)?;
    fs::write(scratch.path().join("queries.yaml"), queries)?;
    fs::copy(
        workspace().join("deploy/helm/tests/rules_test.yaml"),
        scratch.path().join("rules_test.yaml"),
    )?;
    for arguments in [
        ["check", "rules", "rules.yaml"],
        ["check", "rules", "queries.yaml"],
        ["test", "rules", "rules_test.yaml"],
    ] {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(scratch.path());
        let output = output_within(&mut command, "", Duration::from_secs(60))?;
        if !output.status.success() {
            bail!("promtool {}: {}", arguments.join(" "), output.said());
        }
    }
    let tested = fs::read_to_string(scratch.path().join("rules_test.yaml"))?;
    let untested: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .filter(|alert| !tested.contains(&format!("alertname: {alert}\n")))
        .collect();
    ensure!(untested.is_empty(), "alerts without a test: {untested:?}");
    Ok("checked and tested by promtool".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{known, names};

    #[test]
    fn series_of_a_histogram_are_known_by_its_name() {
        assert!(known("infera_tier_wakeup_latency_seconds_bucket"));
        assert!(!known("infera_lint_violations"));
        let found: Vec<String> = names("max(infera_a{x=\"infera_b\"}) kube_c").collect();
        assert_eq!(found, ["infera_a", "infera_b"]);
    }
}
