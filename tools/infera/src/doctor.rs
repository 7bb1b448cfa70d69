//! `infera doctor`: everything that must hold for infera to work on this node, looked at once.

use crate::Output;
use anyhow::Result;
use clap::Args;
use infera_control::{ClientError, Request, SOCKET, State, Status, ask};
use infera_kernel::{Need, Options, attached, check};
use infera_plan::{Config, Plan, Topology};
use infera_policy::Tier;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to look at.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/infera/infera.toml")]
    config: PathBuf,
    /// The options of a kernel that does not run here (a `.config`, packed or not): looks at those
    /// alone.
    #[arg(long, value_name = "FILE")]
    kernel_config: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    /// As it should be.
    Ok,
    /// It works, and not as well as it could.
    Warning,
    /// It cannot work like this.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    health: Health,
    name: String,
    /// What was seen, and what to do where that is not well.
    sentence: String,
}

fn finding(health: Health, name: &str, sentence: impl Into<String>) -> Finding {
    Finding {
        health,
        name: name.to_owned(),
        sentence: sentence.into(),
    }
}

/// Looks and prints. Exit status 0: all is well; 1: there are warnings; 3: something cannot work.
///
/// # Errors
///
/// The file of `--kernel-config` cannot be read or unpacked, or has no options. Everything else that is wrong is a
/// finding.
pub fn print(args: &DoctorArgs) -> Result<ExitCode> {
    let findings = match &args.kernel_config {
        Some(path) => options(&Options::read(path)?),
        None => {
            let status = ask(Path::new(SOCKET), &Request::Status);
            let root = rustix::process::geteuid().is_root();
            examine(Path::new("/"), root, &args.config, status)
        }
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&findings)?),
        Output::Text => print!("{}", text(&findings)),
    }
    let worst = findings.iter().map(|finding| finding.health).max();
    Ok(ExitCode::from(match worst {
        Some(Health::Failure) => 3,
        Some(Health::Warning) => 1,
        _ => 0,
    }))
}

fn text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let word = match finding.health {
            Health::Ok => "ok",
            Health::Warning => "WARN",
            Health::Failure => "FAIL",
        };
        format!("{word:<5}{:<26} {}\n", finding.name, finding.sentence)
    };
    findings.iter().map(line).collect()
}

/// Of a kernel's configuration.
fn options(options: &Options) -> Vec<Finding> {
    let lacks = options.lacks();
    let mut findings: Vec<Finding> = lacks
        .iter()
        .map(|line| {
            let health = match line.need {
                Need::Required => Health::Failure,
                _ => Health::Warning,
            };
            let sentence = format!("build it with {}: {}", line.setting(), line.reason);
            finding(health, &line.option, sentence)
        })
        .collect();
    if findings.is_empty() {
        findings.push(finding(
            Health::Ok,
            "kernel options",
            "all that kernel-configs/ names are there",
        ));
    }
    let hz = options.get("CONFIG_HZ").unwrap_or("?");
    findings.push(finding(
        if hz == "100" {
            Health::Warning
        } else {
            Health::Ok
        },
        "ticks",
        format!(
            "{hz} a second; slices end with a tick, so 250 or 1000 serve latency better than 100"
        ),
    ));
    findings
}

/// Of the node below `root`.
fn examine(
    root: &Path,
    is_root: bool,
    config: &Path,
    status: Result<Status, ClientError>,
) -> Vec<Finding> {
    let ours = attached(root).is_some_and(|name| name.starts_with("infera"));
    let mut findings: Vec<Finding> = check(root, is_root)
        .into_iter()
        // Ours is where it should be.
        .filter(|check| !(ours && check.name == "other scheduler"))
        .map(|check| match check.outcome {
            Ok(found) => finding(Health::Ok, check.name, found),
            Err(obstacle) => finding(Health::Failure, check.name, obstacle.sentence()),
        })
        .collect();
    match Options::running(root) {
        Ok(running) => findings.extend(options(&running)),
        Err(error) => findings.push(finding(
            Health::Warning,
            "kernel options",
            error.to_string(),
        )),
    }
    findings.extend(planned(root, config));
    findings.extend(guarded(status));
    let dumps = fs::read_dir(root.join("var/lib/infera/dumps")).into_iter();
    let dumps = dumps.flatten().flatten().count();
    if dumps > 0 {
        findings.push(finding(
            Health::Warning,
            "ejects",
            format!("{dumps} reports in /var/lib/infera/dumps: the newest shows why the node was given back"),
        ));
    }
    findings
}

/// Configuration, topology, and what comes of both.
fn planned(root: &Path, path: &Path) -> Vec<Finding> {
    let config = match Config::read_or_default(path) {
        Ok(config) => config,
        Err(error) => return vec![finding(Health::Failure, "configuration", error.to_string())],
    };
    let mut findings = vec![match path.exists() {
        true => finding(Health::Ok, "configuration", path.display().to_string()),
        false => finding(
            Health::Ok,
            "configuration",
            format!("no {}: the defaults", path.display()),
        ),
    }];
    let cgroups = root.join("sys/fs/cgroup");
    findings.push(system_units(&cgroups, &config));
    match Topology::read(&root.join("sys/devices/system/cpu")) {
        Ok(topology) => {
            let plan = Plan::new(&topology.with_partitions(&cgroups), &config);
            findings.push(finding(
                Health::Ok,
                "machine",
                format!(
                    "{} CPUs on {} physical cores, LLCs: {}",
                    plan.cpus.len(),
                    plan.cores,
                    plan.llcs
                ),
            ));
            let demoted = plan.reasons.iter().find(|text| text.contains("demoted"));
            let unwell = demoted.cloned().into_iter().chain(plan.left_out());
            findings.extend(unwell.map(|reason| finding(Health::Warning, "plan", reason)));
        }
        Err(error) => findings.push(finding(Health::Failure, "machine", error.to_string())),
    }
    findings
}

/// Which of the node's own services are System by the default rules.
fn system_units(cgroups: &Path, config: &Config) -> Finding {
    let rules = config.default_rules();
    let named = rules.iter().filter(|rule| rule.tier == Tier::System);
    let paths = named.flat_map(|rule| rule.cgroups(cgroups));
    let names: Vec<String> = paths
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let sentence = match (config.system_units, names.is_empty()) {
        (false, _) => {
            "off (system_units = false): the kubelet and the container runtime are Normal where no rule names them".to_owned()
        }
        (true, true) => "none of the default rules' cgroups is on this node".to_owned(),
        (true, false) => format!("System by default rules: {}", names.join(", ")),
    };
    finding(Health::Ok, "system units", sentence)
}

/// What the guard says.
fn guarded(status: Result<Status, ClientError>) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            return vec![finding(
                Health::Warning,
                "guard",
                format!("{error}: start it with systemctl start infera, or with the agent"),
            )];
        }
    };
    let mut findings = vec![match status.state {
        State::Attached => finding(Health::Ok, "guard", "infera schedules this node"),
        State::SafeMode => {
            let sources: Vec<String> = status
                .safe_mode
                .iter()
                .map(|(source, reason)| format!("{source} ({reason})"))
                .collect();
            finding(
                Health::Warning,
                "guard",
                format!(
                    "safe mode, wanted by {}: infera safe-mode off ends it",
                    sources.join(", ")
                ),
            )
        }
        State::Starting => finding(Health::Warning, "guard", "the scheduler is starting"),
        _ => finding(
            Health::Warning,
            "guard",
            "the stock scheduler runs this node: infera status shows what happened",
        ),
    }];
    if status.policy_deposed {
        findings.push(finding(
            Health::Warning,
            "policy",
            "deposed after a fault, arrival order decides: restart infera once it is fixed",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// A node on which all is well.
    fn node() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let required = infera_kernel::lines();
        let options: String = required.iter().map(|line| line.setting() + "\n").collect();
        for (path, text) in [
            ("sys/kernel/sched_ext/state", "disabled\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("proc/sys/kernel/ftrace_enabled", "1\n"),
            ("proc/sys/kernel/osrelease", "9.9\n"),
            ("proc/cmdline", "quiet\n"),
            ("boot/config-9.9", options.as_str()),
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            ("sys/devices/system/cpu/online", "0-7\n"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn status(state: State) -> Result<Status, ClientError> {
        Ok(Status {
            version: String::new(),
            state,
            since: 0,
            pid: None,
            safe_mode: [("file".to_owned(), "asked".to_owned())].into(),
            generation: 0,
            policy_deposed: false,
            ejects: 0,
            eject_kinds: std::collections::BTreeMap::new(),
            history: Vec::new(),
        })
    }

    fn unwell(root: &Path, config: &Path, status: Result<Status, ClientError>) -> Vec<Finding> {
        let mut findings = examine(root, true, config, status);
        findings.retain(|finding| finding.health != Health::Ok);
        findings
    }

    #[test]
    fn a_healthy_node_is_told_so_and_each_trouble_has_its_sentence() {
        let dir = node();
        let root = dir.path();
        let nowhere = Path::new("/nowhere");
        assert_eq!(unwell(root, nowhere, status(State::Attached)), []);
        let break_and_look = |path: &str, text: &str, words: &str| {
            let dir = node();
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let found = unwell(dir.path(), nowhere, status(State::Attached));
            let output = self::text(&found);
            assert!(output.contains(words), "{words}: {output}");
            assert_eq!(found.len(), 1, "{output}");
        };
        break_and_look("proc/cmdline", "isolcpus=3\n", "boot without it");
        let isolated = root.join("proc/cmdline");
        fs::write(isolated, "isolcpus=managed_irq,3\n").unwrap();
        assert_eq!(unwell(root, nowhere, status(State::Attached)), []);
        break_and_look("var/lib/infera/dumps/1.json", "{}", "1 reports");
        break_and_look("sys/devices/system/cpu/online", "x\n", "not a CPU list");
        let found = unwell(root, nowhere, status(State::SafeMode));
        assert!(found[0].sentence.contains("wanted by file (asked)"));
        let silent = || Err(ClientError::Silent(io::Error::other("no answer")));
        assert_eq!(unwell(root, nowhere, silent())[0].name, "guard");
        let bad = root.join("bad.toml");
        fs::write(&bad, "loans = 3\n").unwrap();
        let found = unwell(root, &bad, status(State::Attached));
        assert_eq!(found[0].health, Health::Failure);
        assert!(found[0].sentence.contains("bad.toml:1:"), "{found:?}");
    }

    #[test]
    fn services_that_are_system_by_default_are_shown() {
        let dir = node();
        let path = dir.path().join("infera.toml");
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            let findings = examine(dir.path(), true, &path, status(State::Attached));
            let mut units = findings.into_iter().filter(|it| it.name == "system units");
            units.next().unwrap().sentence
        };
        assert!(said("").contains("none of the default rules' cgroups"));
        for unit in ["kubelet.service", "containerd.service/4f2a"] {
            let slice = dir.path().join("sys/fs/cgroup/system.slice");
            fs::create_dir_all(slice.join(unit)).unwrap();
        }
        let by_default = "System by default rules: ";
        assert_eq!(
            said(""),
            format!("{by_default}kubelet.service, containerd.service")
        );
        let rule = "[tiers.high]\ncgroups = ['/system.slice/kubelet.service']\n";
        assert_eq!(said(rule), format!("{by_default}containerd.service"));
        assert!(said("system_units = false\n").starts_with("off "));
    }

    #[test]
    fn what_a_kernel_lacks_is_said_with_its_reason() {
        let found = options(&Options::parse("CONFIG_HZ=100\nCONFIG_BPF=y\n"));
        let output = text(&found);
        assert!(output.contains("FAIL CONFIG_SCHED_CLASS_EXT"), "{output}");
        assert!(output.contains("WARN ticks"), "{output}");
        assert!(!output.contains("CONFIG_BPF "), "{output}");
    }
}
