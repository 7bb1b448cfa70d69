//! Scenarios: what runs, in which tiers, beside how much.

use anyhow::{Context, Result, ensure};
use infera_policy::Tier;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Timers: how late a thread wakes.
    Wake,
    /// Threads that need milliseconds at once: how long until they have had them.
    Burst,
    /// A request through several processes.
    Chain,
    /// memcached, and an open-loop client.
    Memcached,
    /// PostgreSQL, and pgbench as an open-loop client.
    Pgbench,
    /// Two threads that wake each other: rounds.
    Pingpong,
    /// hackbench of rt-tests: seconds for a fixed job.
    Hackbench,
    /// A C compiler on a number of files: seconds for all of them.
    Compile,
    /// Threads that spin: units of work.
    Hogs,
    /// Threads that are mostly asleep.
    Idle,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is called in reports, and its cgroup.
    pub name: String,
    /// Its tier.
    #[serde(deserialize_with = "tier")]
    pub tier: Tier,
    /// What it does.
    pub load: Load,
    /// Its options, as those of `infera-load` or of the program itself.
    #[serde(default)]
    pub args: Vec<String>,
    /// Hogs and idle threads: how many. Absent: as many as the rung says.
    #[serde(default)]
    pub count: Option<u32>,
    /// Its cgroup's `cpu.max`: microseconds of CPU, and in how many. Of sched_ext schedulers, infera alone has it in force.
    #[serde(default)]
    pub cpu_max: Option<[u32; 2]>,
}

fn tier<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Tier, D::Error> {
    let name = String::deserialize(from)?;
    name.parse().map_err(serde::de::Error::custom)
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows, a sentence.
    pub what: String,
    /// How much background load: how many threads the workloads without a count have. One window each.
    #[serde(default = "one_rung")]
    pub ladder: Vec<u32>,
    /// How long a window is, in milliseconds.
    #[serde(default = "window")]
    pub window_ms: u64,
    /// What runs.
    pub work: Vec<Workload>,
}

fn one_rung() -> Vec<u32> {
    vec![0]
}

fn window() -> u64 {
    4000
}

/// Those that come with it, in the order of a report.
pub const SHIPPED: [&str; 24] = [
    include_str!("../scenarios/lone-sleeper.toml"),
    include_str!("../scenarios/burst.toml"),
    include_str!("../scenarios/five-tiers.toml"),
    include_str!("../scenarios/high-beside-normal.toml"),
    include_str!("../scenarios/untouched.toml"),
    include_str!("../scenarios/untouched-burst.toml"),
    include_str!("../scenarios/untouched-memcached.toml"),
    include_str!("../scenarios/untouched-chain.toml"),
    include_str!("../scenarios/untouched-kernel.toml"),
    include_str!("../scenarios/neighbours-critical.toml"),
    include_str!("../scenarios/neighbours-high.toml"),
    include_str!("../scenarios/neighbours-normal.toml"),
    include_str!("../scenarios/neighbours-low.toml"),
    include_str!("../scenarios/neighbours-background.toml"),
    include_str!("../scenarios/chain.toml"),
    include_str!("../scenarios/memcached.toml"),
    include_str!("../scenarios/postgres.toml"),
    include_str!("../scenarios/batch-alone.toml"),
    include_str!("../scenarios/hackbench.toml"),
    include_str!("../scenarios/hackbench-pipes.toml"),
    include_str!("../scenarios/pingpong.toml"),
    include_str!("../scenarios/compile.toml"),
    include_str!("../scenarios/thousand-idle.toml"),
    include_str!("../scenarios/many-wakeups.toml"),
];

/// Those that come with it.
///
/// # Panics
///
/// Never: a test parses all of them.
#[must_use]
pub fn shipped() -> Vec<Scenario> {
    let parse = |text: &&str| Scenario::parse(text).expect("shipped scenarios are right");
    SHIPPED.iter().map(parse).collect()
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// The text is not TOML, has an unknown key, tier or load, no workload or no rung, a window out of range, or
    /// workloads whose names are not plain or not unique.
    pub fn parse(text: &str) -> Result<Scenario> {
        let scenario: Scenario = toml::from_str(text)?;
        ensure!(!scenario.work.is_empty(), "a scenario needs [[work]]");
        ensure!(!scenario.ladder.is_empty(), "a ladder needs a rung");
        ensure!(
            (100..=600_000).contains(&scenario.window_ms),
            "window_ms is 100 to 600000"
        );
        let word = |name: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !name.is_empty() && name.chars().all(plain)
        };
        for work in &scenario.work {
            ensure!(
                word(&work.name),
                "the name of a workload is of small letters, digits and dashes: '{}'",
                work.name
            );
        }
        let mut names: Vec<&str> = scenario.work.iter().map(|work| &*work.name).collect();
        names.sort_unstable();
        names.dedup();
        ensure!(
            names.len() == scenario.work.len(),
            "two workloads have one name"
        );
        Ok(scenario)
    }

    /// Whether the programs are installed that it needs and that not every machine has.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let database = self.work.iter().any(|work| work.load == Load::Pgbench);
        !database || Path::new("/usr/lib/postgresql").is_dir()
    }

    /// The scenarios that `name` selects: what [`Scenario::find`] finds, or else every shipped scenario whose
    /// name starts with `name` and a dash. So `neighbours` selects one scenario for each tier, and `untouched`,
    /// which is a scenario itself, only that one.
    ///
    /// # Errors
    ///
    /// `name` selects no shipped scenario, and is no file that [`Scenario::find`] can read.
    pub fn select(name: &str) -> Result<Vec<Scenario>> {
        let prefix = format!("{name}-");
        let found = Scenario::find(name);
        if found.is_err() && !Path::new(name).exists() {
            let shipped = shipped().into_iter();
            let family: Vec<Scenario> = shipped
                .filter(|one| one.name.starts_with(&prefix))
                .collect();
            if !family.is_empty() {
                return Ok(family);
            }
        }
        Ok(vec![found?])
    }

    /// The one called `name`, or the file of that path.
    ///
    /// # Errors
    ///
    /// No shipped scenario has this name and no file of this path can be read, or the file is wrong
    /// ([`Scenario::parse`]).
    pub fn find(name: &str) -> Result<Scenario> {
        if let Some(scenario) = shipped().into_iter().find(|one| one.name == name) {
            return Ok(scenario);
        }
        let path = Path::new(name);
        let text = fs::read_to_string(path).with_context(|| {
            let names: Vec<String> = shipped().into_iter().map(|one| one.name).collect();
            format!(
                "no scenario and no file: {name}; there are {}",
                names.join(", ")
            )
        })?;
        Scenario::parse(&text).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_scenarios_are_right_and_named_once() {
        let mut names: Vec<String> = shipped().into_iter().map(|one| one.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), SHIPPED.len());
    }

    #[test]
    fn a_prefix_selects_every_scenario_of_its_family() {
        let names = |name: &str| -> Vec<String> {
            let selected = Scenario::select(name).unwrap().into_iter();
            selected.map(|one| one.name).collect()
        };
        let tiers = ["critical", "high", "normal", "low", "background"];
        assert_eq!(
            names("neighbours"),
            tiers.map(|tier| format!("neighbours-{tier}"))
        );
        assert_eq!(names("untouched"), ["untouched"]);
        assert_eq!(names("neighbours-low"), ["neighbours-low"]);
        assert!(Scenario::select("neighbour").is_err());
    }

    #[test]
    fn neighbours_and_untouched_scenarios_have_one_tier_each() {
        for scenario in shipped() {
            let family = scenario
                .name
                .split_once('-')
                .map_or("", |(family, _)| family);
            let tier = match (family, &*scenario.name) {
                ("neighbours", name) => name.trim_start_matches("neighbours-").parse().unwrap(),
                ("untouched", _) | (_, "untouched") => Tier::Normal,
                _ => continue,
            };
            let tiers = scenario.work.iter().map(|work| work.tier);
            assert_eq!(tiers.collect::<Vec<_>>(), [tier, tier], "{}", scenario.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let work = "[[work]]\nname = \"a\"\ntier = \"high\"\nload = \"wake\"\n";
        let head = "name = \"x\"\nwhat = \"y\"\n";
        assert!(Scenario::parse(&format!("{head}{work}")).is_ok());
        for (text, word) in [
            (head.to_owned(), "work"),
            (format!("{head}ladder = []\n{work}"), "rung"),
            (format!("{head}window_ms = 1\n{work}"), "window_ms"),
            (format!("{head}{work}{work}"), "one name"),
            (
                format!("{head}{}", work.replace("high", "urgent")),
                "urgent",
            ),
            (format!("{head}{work}cpu = 1\n"), "cpu"),
            (
                format!("{head}{}", work.replace("\"a\"", "\"../a\"")),
                "../a",
            ),
        ] {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        let error = format!("{:#}", Scenario::find("nothing-like-it").unwrap_err());
        assert!(error.contains("lone-sleeper"), "{error}");
    }
}
