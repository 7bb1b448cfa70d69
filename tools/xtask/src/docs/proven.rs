//! Which test runs a command that the pages show.

/// Beginnings of commands, and what runs them.
const PROVEN: &[(&str, &str)] = &[
    ("cargo xtask setup", ".ci/run"),
    ("cargo xtask test", ".ci/run"),
    ("cargo xtask docs", ".ci/run"),
    ("cargo xtask k8s fetch", ".ci/run"),
    ("cargo xtask k8s agent", ".ci/run"),
    ("cargo xtask k8s node", ".ci/run"),
    ("cargo xtask chart check", ".ci/run"),
    ("cargo build --release --locked --workspace", ".ci/run"),
    ("cargo test -p infera-policy", ".ci/run, with --locked"),
    ("cargo xtask kernel fetch", ".ci/run"),
    // Too long for .ci/run: run by hand, with figures in the pages that show them.
    ("cargo xtask chart runbook", "by hand"),
    ("cargo xtask bench", "by hand, and unit tests"),
    ("cargo xtask peers", "by hand"),
    ("cargo xtask profile", "by hand, and unit tests"),
    ("cargo xtask compare", "by hand"),
    ("cargo xtask demo", "by hand"),
    (
        "cargo xtask faults",
        "its fast half by .ci/run, the rest by hand",
    ),
    ("cargo xtask kernel build", "by hand"),
    ("cargo xtask package", "by hand, and unit tests"),
    ("cargo xtask soak", "by hand"),
    ("cargo xtask vm run", "every guest test runs through it"),
    (
        "cargo xtask kernel check",
        "unit tests of scheds/kernel, and by hand",
    ),
    ("infera bench", "cargo xtask bench runs it in a guest"),
    ("infera status", "guest tests: the guard's"),
    ("infera safe-mode", "the fault matrix, package --boot"),
    (
        "infera doctor",
        "guest test doctor_finds_a_healthy_node_and_an_ill_one",
    ),
    ("infera top", "guest test monitor_shows_the_tiers"),
    ("infera plan", "unit tests of tools/infera; --live by hand"),
    (
        "infera-guard -- scx_infera",
        "the fault matrix, guest tests",
    ),
    ("scx_infera --check", "guest test refusals_name_the_reason"),
    ("scx_infera --config", "guest tests"),
    ("scx_infera --policy", "guest tests"),
    ("scx_infera --monitor", "guest test monitor_shows_the_tiers"),
    (
        "scx_infera --list-policies",
        "guest test attaches_and_leaves",
    ),
    (
        "kubectl annotate node --all infera.io/safe-mode-requested",
        "chart runbook",
    ),
    ("helm install infera deploy/helm/infera", "chart runbook"),
];

/// What runs `command`.
pub fn by(command: &str) -> Option<&'static str> {
    let known = PROVEN
        .iter()
        .find(|(beginning, _)| command.starts_with(beginning));
    known.map(|(_, by)| *by)
}
