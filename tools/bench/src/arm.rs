//! Who schedules: how each is set up, and taken away again.

use crate::layered;
use crate::machine::{self, attached, cgroup};
use crate::scenario::{Scenario, Workload};
use anyhow::{Context, Result, bail, ensure};
use infera_policy::{Tier, names};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a scheduler may take to attach, and to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where configurations and logs go.
const SCRATCH: &str = "/tmp";

/// What to compare with, and how each is set up.
pub const PEERS: [(&str, &str); 9] = [
    (
        "eevdf",
        "the stock scheduler, with the weights that Kubernetes sets: 39 for a CPU requested, 4 for a tenth, 1 for BestEffort",
    ),
    (
        "eevdf-idle",
        "the stock scheduler set up as well as cgroups allow: cpu.idle for Background, weights 10000, 5000, 100, 20",
    ),
    (
        "eevdf-slice",
        "the same, with slices of 0.1 ms for Critical and High (sched_setattr)",
    ),
    (
        "fifo",
        "SCHED_FIFO for Critical and High: a floor for latency, and no protection for anybody else",
    ),
    (
        "cpuset",
        "the last quarter of the CPUs for Critical alone, the others for the rest; weights as in eevdf",
    ),
    ("scx_layered", "scx_layered with a layer for each tier"),
    ("scx_rustland", "scx_rustland as it comes"),
    ("scx_bpfland", "scx_bpfland as it comes"),
    ("scx_lavd", "scx_lavd as it comes"),
];

/// One who schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The stock scheduler, or another one of sched_ext: one of [`PEERS`].
    Peer(&'static str),
    /// infera, with this policy.
    Infera(String),
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arm::Peer(name) => f.write_str(name),
            Arm::Infera(policy) => write!(f, "infera:{policy}"),
        }
    }
}

impl Arm {
    /// The peer of that name.
    ///
    /// # Errors
    ///
    /// [`PEERS`] has no such name. The error has those that there are.
    pub fn peer(name: &str) -> Result<Arm> {
        let peer = PEERS.iter().find(|(known, _)| *known == name);
        let (name, _) = peer.with_context(|| {
            let names: Vec<&str> = PEERS.iter().map(|(name, _)| *name).collect();
            format!("no peer is called {name}; there are {}", names.join(", "))
        })?;
        Ok(Arm::Peer(name))
    }

    /// infera with the policy of that name.
    ///
    /// # Errors
    ///
    /// infera has no such policy. The error has those that there are.
    pub fn policy(name: &str) -> Result<Arm> {
        let known: Vec<&str> = names().collect();
        ensure!(
            known.contains(&name),
            "no policy is called {name}; there are {}",
            known.join(", ")
        );
        Ok(Arm::Infera(name.to_owned()))
    }

    /// Whether it can be measured here: a scheduler's program has to be there.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.program().is_none_or(|name| find(name).is_some())
    }

    fn program(&self) -> Option<&str> {
        match self {
            Arm::Peer(name) if name.starts_with("scx_") => Some(name),
            Arm::Peer(_) => None,
            Arm::Infera(_) => Some("scx_infera"),
        }
    }

    /// What the ops of its scheduler begin with; `None`: the stock one is to run.
    fn ops(&self) -> Option<&str> {
        match self {
            Arm::Infera(_) => Some("infera"),
            Arm::Peer(name) => name.strip_prefix("scx_"),
        }
    }

    /// Options of `infera-load` for a workload of that tier.
    #[must_use]
    pub fn load_options(&self, tier: Tier) -> Vec<String> {
        let protected = matches!(tier, Tier::Critical | Tier::High);
        let options: &[&str] = match self {
            Arm::Peer("fifo") if tier == Tier::Critical => &["--fifo", "2"],
            Arm::Peer("fifo") if protected => &["--fifo", "1"],
            Arm::Peer("eevdf-slice") if protected => &["--fair-slice-us", "100"],
            _ => &[],
        };
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    /// Sets it up for the workloads of `scenario`, whose cgroups are there.
    ///
    /// # Errors
    ///
    /// A sched_ext scheduler is attached already, a setting of a cgroup cannot be written, the scheduler's program is
    /// missing, or a file in /tmp cannot be written. Or the scheduler ends or does not attach within a minute: then the
    /// error has the last lines of its log.
    pub fn enter(&self, scenario: &Scenario) -> Result<Entered> {
        ensure!(
            attached() == "stock",
            "{} is attached already: stop it first",
            attached()
        );
        for work in &scenario.work {
            self.set_up(work)?;
        }
        let Some(program) = self.program() else {
            return Ok(Entered {
                arm: self.clone(),
                scheduler: None,
            });
        };
        let path = find(program).with_context(|| format!("{program} is not installed"))?;
        let mut command = Command::new(path);
        match self {
            Arm::Infera(policy) => {
                let config = Path::new(SCRATCH).join("infera-bench.toml");
                fs::write(&config, configuration(scenario))?;
                command.args(["--policy", policy, "--config"]).arg(config);
            }
            Arm::Peer("scx_layered") => {
                let config = Path::new(SCRATCH).join("infera-bench-layers.json");
                fs::write(&config, layered::config(scenario, machine::cpus())?)?;
                command.arg(format!("f:{}", config.display()));
            }
            Arm::Peer(_) => {}
        }
        let log = Path::new(SCRATCH).join("infera-bench-scheduler.log");
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut entered = Entered {
            arm: self.clone(),
            scheduler: Some(child),
        };
        let begun = Instant::now();
        while !entered.holds() {
            let ended = entered
                .scheduler
                .as_mut()
                .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            if ended || begun.elapsed() > PATIENCE {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("{program} does not attach:\n{}", last.join("\n"));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(entered)
    }

    fn set_up(&self, work: &Workload) -> Result<()> {
        let tier = work.tier;
        let (idle, weight) = match (self, tier) {
            (Arm::Peer("eevdf-idle" | "eevdf-slice"), tier) => match tier {
                Tier::System | Tier::Critical => (false, 10_000),
                Tier::High => (false, 5_000),
                Tier::Normal => (false, 100),
                Tier::Low => (false, 20),
                Tier::Background => (true, 0),
            },
            // Kubernetes: 1 + (shares - 2) * 9999 / 262142, shares of 1024 a CPU, 2 for none.
            (Arm::Peer(_), Tier::Low) => (false, 4),
            (Arm::Peer(_), Tier::Background) => (false, 1),
            (Arm::Peer(_), _) => (false, 39),
            (Arm::Infera(_), _) => (false, 100),
        };
        let write = |file: &str, text: &str| {
            let path = cgroup(&work.name).join(file);
            fs::write(&path, text)
                .with_context(|| format!("cannot write {text} to {}", path.display()))
        };
        // A cgroup that is idle has no weight.
        write("cpu.idle", if idle { "1" } else { "0" })?;
        if !idle {
            write("cpu.weight", &weight.to_string())?;
        }
        let limit = work
            .cpu_max
            .map_or("max".to_owned(), |[us, of]| format!("{us} {of}"));
        write("cpu.max", &limit)?;
        let last = machine::cpus() - 1;
        let kept = (machine::cpus() / 4).max(1);
        let cpus = match (self, tier) {
            (Arm::Peer("cpuset"), _) if last == 0 => String::new(),
            (Arm::Peer("cpuset"), Tier::Critical) => format!("{}-{last}", last + 1 - kept),
            (Arm::Peer("cpuset"), _) => format!("0-{}", last - kept),
            _ => String::new(),
        };
        write("cpuset.cpus", &format!("{cpus}\n"))
    }
}

/// An arm that is in force.
pub struct Entered {
    arm: Arm,
    scheduler: Option<Child>,
}

impl Entered {
    /// Whether it schedules now.
    pub fn holds(&self) -> bool {
        let now = attached();
        match self.arm.ops() {
            Some(ops) => now.starts_with(ops),
            None => now == "stock",
        }
    }

    /// The scheduler's process.
    pub fn pid(&self) -> Option<u32> {
        self.scheduler.as_ref().map(Child::id)
    }

    /// Takes it away.
    ///
    /// # Errors
    ///
    /// The scheduler has not ended a minute after SIGINT, and was killed; or its process cannot be waited for.
    pub fn leave(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.scheduler.take() else {
            return Ok(());
        };
        // What is asked for with Ctrl-C; a plain kill leaves some of them on the node for seconds.
        let _ = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("{} did not end when it was asked to", self.arm);
            }
            sleep(Duration::from_millis(50));
        }
        while attached() != "stock" && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn configuration(scenario: &Scenario) -> String {
    let tiers = Tier::ALL.map(|tier| {
        let rules = scenario.work.iter().filter(|work| work.tier == tier);
        let rules: Vec<String> = rules
            .map(|work| format!("\"{}\"", machine::rule(&work.name)))
            .collect();
        match rules.is_empty() {
            true => String::new(),
            false => format!("[tiers.{tier}]\ncgroups = [{}]\n", rules.join(", ")),
        }
    });
    tiers.concat()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
    places.find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_found_by_name() {
        assert_eq!(Arm::peer("eevdf-idle").unwrap().to_string(), "eevdf-idle");
        assert_eq!(
            Arm::policy("weighted").unwrap().to_string(),
            "infera:weighted"
        );
        assert!(
            Arm::peer("cfs")
                .unwrap_err()
                .to_string()
                .contains("scx_layered")
        );
        assert!(
            Arm::policy("lottery")
                .unwrap_err()
                .to_string()
                .contains("weighted")
        );
        assert!(Arm::Peer("eevdf").is_installed());
    }

    #[test]
    fn a_configuration_names_each_workload_in_its_tier() {
        let scenario = Scenario::find("five-tiers").unwrap();
        let text = configuration(&scenario);
        assert!(text.contains("[tiers.normal]\ncgroups = [\"/infera-bench/normal\", \"/infera-bench/normal-crowd\"]"), "{text}");
    }
}
