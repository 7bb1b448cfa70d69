//! Values that the chart refuses, each in words that name the key.

use anyhow::{Result, bail};

use super::{golden::KUBERNETES, helm::Helm};

/// Arguments, and what the message has to contain.
const REFUSED: &[(&[&str], &str)] = &[
    // Keys that do not exist, at every level.
    (&["--set", "agnet.image.tag=1"], "agnet"),
    (&["--set", "agent.canary.enable=true"], "enable"),
    (&["--set", "agent.image.tags=1"], "tags"),
    (&["--set", "agent.livenessProbe.period=1"], "period"),
    (&["--set", "config.polcy=strict"], "polcy"),
    (&["--set", "config.tiers.gold.weight=1"], "gold"),
    (&["--set", "config.tiers.high.fence_cores=1"], "fence_cores"),
    (&["--set", "metrics.prometheusRule.on=true"], "on"),
    (&["--set", "rbac.write=true"], "write"),
    (
        &["--set", "agent.tolerations[0].effects=NoSchedule"],
        "effects",
    ),
    (&["--set", "agent.affinity.podAffinity.x=1"], "podAffinity"),
    // Wrong types.
    (&["--set-string", "agent.canary.enabled=yes"], "enabled"),
    (&["--set", "agent.image.tag=15"], "tag"),
    (&["--set", "agent.tolerations=all"], "tolerations"),
    (&["--set-string", "config.loans=true"], "loans"),
    (
        &["--set-string", "config.system_units=true"],
        "system_units",
    ),
    (&["--set-string", "metrics.port=9100"], "port"),
    // Out of range.
    (&["--set", "metrics.port=80"], "port"),
    (&["--set", "config.user_bound_ms=0"], "user_bound_ms"),
    (&["--set", "config.tiers.low.weight=0"], "weight"),
    (&["--set", "config.tiers.low.slice_us=10"], "slice_us"),
    (&["--set", "config.tiers.low.min_share=0.6"], "min_share"),
    (&["--set", "config.tiers.low.cgroups={a}"], "cgroups"),
    (
        &["--set", "config.priority_mapping.critical=2147483648"],
        "critical",
    ),
    (&["--set-string", "prefix=infera"], "prefix"),
    (&["--set-string", "prefix=Infera.io"], "prefix"),
    (&["--set-string", "agent.image.digest=latest"], "digest"),
    (&["--set-string", "agent.image.tag=a b"], "tag"),
    (&["--set", "agent.image.pullPolicy=Sometimes"], "pullPolicy"),
    (
        &["--set-string", "agent.nodeSelector.a=b c"],
        "nodeSelector",
    ),
    (
        &["--set-string", "fullnameOverride=In_fera"],
        "fullnameOverride",
    ),
    (&["--set", "agent.debounceMs=5"], "debounceMs"),
    (
        &["--set", "priorityClasses.preemptionPolicy=Always"],
        "preemptionPolicy",
    ),
    // What makes no sense together.
    (
        &[
            "--set",
            "agent.canary.enabled=true",
            "--set-string",
            "agent.canary.image.tag=2",
        ],
        "nodeSelector",
    ),
    (
        &[
            "--set",
            "agent.canary.enabled=true",
            "--set",
            "agent.canary.nodeSelector.a=true",
        ],
        "image",
    ),
    (
        &[
            "--set",
            "config.tiers.critical.fence_cores=1",
            "--set-string",
            "config.tiers.critical.fence_cpus=0-1",
        ],
        "critical",
    ),
    (
        &["--set", "config.priority_mapping.high=2000000"],
        "thresholds must fall",
    ),
    (
        &[
            "--set",
            "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true",
        ],
        "not both",
    ),
    (&["--set", "serviceAccount.create=false"], "name"),
    // What would hurt a node.
    (&["--set-string", "agent.resources.limits.cpu=1"], "cpu"),
    (
        &["--set", "agent.updateStrategy.rollingUpdate.maxSurge=1"],
        "maxSurge",
    ),
    (
        &["--set", "agent.securityContext.privileged=true"],
        "securityContext",
    ),
];

/// Fails when one is not refused, or without its word.
pub fn check(helm: &Helm) -> Result<String> {
    let mut wrong = Vec::new();
    for (arguments, word) in REFUSED {
        let output = helm.template(KUBERNETES, arguments)?;
        if output.status.success() {
            wrong.push(format!("{} is not refused", arguments.join(" ")));
        } else if !output.stderr.contains(word) {
            let said = output.stderr.trim_end();
            wrong.push(format!(
                "{}: {word:?} is not in: {said}",
                arguments.join(" ")
            ));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{} of {}", REFUSED.len(), REFUSED.len()))
}
