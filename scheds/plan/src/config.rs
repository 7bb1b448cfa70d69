//! `infera.toml` and `--tier`: parsed, validated into a [`Config`], or refused with file,
//! line and key.

use crate::priority::PriorityMapping;
use crate::rules::Rule;
use crate::topology::{CpuSet, parse_cpu_list};
use infera_policy::{Nanos, Tier, TierTable};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::Spanned;

/// What can be wrong with a configuration. Nothing of it is taken over then.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Which key, and what is wrong with it.
        message: String,
    },
    /// A `--tier` argument is wrong.
    #[error("--tier {argument}: {message}")]
    Rule {
        /// As it was given.
        argument: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Which CPUs a tier wants to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fence {
    /// Not configured: as many cores as the Critical pods request, if there are any.
    #[default]
    None,
    /// This many whole physical cores, chosen by the plan; 0: no fence, the tier shares all CPUs.
    Cores(usize),
    /// These CPUs; rounded to whole cores by the plan.
    Cpus(CpuSet),
}

/// What becomes of the CPU limits of cgroups (`cpu.max`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limits {
    /// No cgroup has more than its quota.
    #[default]
    Strict,
    /// They are not in force.
    Off,
}

impl Limits {
    /// As the configuration names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Limits::Strict => "strict",
            Limits::Off => "off",
        }
    }
}

/// A validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The policy's name, if the file names one.
    pub policy: Option<String>,
    /// Each pattern once. Where two match one cgroup, the later rule counts; between a cgroup
    /// and its ancestor, the cgroup's own.
    pub rules: Vec<Rule>,
    /// Whether the node's own services (kubelet, container runtime, systemd, sshd, ...) are System
    /// where no rule names them: `Config::default_rules`.
    pub system_units: bool,
    /// Per-tier parameters for the policy.
    pub tiers: TierTable,
    /// What Critical wants to itself.
    pub fence: Fence,
    /// Whether its idle CPUs are lent to other tiers.
    pub loans: bool,
    /// Longest time the user tiers are kept from a CPU by the protected ones.
    pub user_bound: Nanos,
    /// What becomes of the CPU limits of cgroups.
    pub limits: Limits,
    /// From pod priorities to tiers, for the node agent.
    pub priority_mapping: PriorityMapping,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            policy: None,
            rules: Vec::new(),
            system_units: true,
            tiers: TierTable::default(),
            fence: Fence::None,
            loans: true,
            user_bound: Nanos::from_millis(100),
            limits: Limits::Strict,
            priority_mapping: PriorityMapping::default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    policy: Option<String>,
    system_units: Option<bool>,
    loans: Option<bool>,
    limits: Option<Limits>,
    /// Milliseconds.
    user_bound_ms: Option<Spanned<u64>>,
    tiers: BTreeMap<Spanned<String>, TierSection>,
    priority_mapping: Option<PrioritySection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TierSection {
    cgroups: Vec<Spanned<String>>,
    weight: Option<Spanned<u32>>,
    slice_us: Option<Spanned<u64>>,
    min_share: Option<Spanned<f64>>,
    max_wait_ms: Option<Spanned<u64>>,
    fence_cores: Option<Spanned<usize>>,
    fence_cpus: Option<Spanned<String>>,
}

/// Lowest pod priority of each tier.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrioritySection {
    critical: Spanned<i32>,
    high: Spanned<i32>,
    normal: Spanned<i32>,
    low: Spanned<i32>,
}

/// The longest configuration, in bytes: parsing takes many times its length of the memory that
/// the scheduler has, and a scheduler that runs out of it is gone.
const MAX_BYTES: u64 = 64 * 1024;

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        let sentence = format!("a configuration has at most {} KiB", MAX_BYTES / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence));
    }
    Ok(text)
}

impl Config {
    /// Reads `path`; where there is no such file, what holds without one.
    ///
    /// # Errors
    ///
    /// As [`Config::read`], but for a file that is not there.
    pub fn read_or_default(path: &Path) -> Result<Config, ConfigError> {
        match path.exists() {
            true => Config::read(path),
            false => Ok(Config::default()),
        }
    }

    /// Reads and validates `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as [`Config::parse`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = read_bounded(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(path, &text)
    }

    /// Validates `text`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// The text is not TOML, or has an unknown key or a value out of range. The error has path, line and key.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let fail = |offset: usize, message: String| ConfigError::Line {
            path: path.to_owned(),
            line: line_of(offset),
            // Names in quotes can hold anything, and the log is a line an error.
            message: message.replace(char::is_control, " "),
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            fail(offset, error.message().to_owned())
        })?;

        let mut config = Config {
            policy: file.policy,
            system_units: file.system_units.unwrap_or(true),
            loans: file.loans.unwrap_or(true),
            limits: file.limits.unwrap_or_default(),
            ..Config::default()
        };
        let (range, unit) = (1..=500, " milliseconds");
        if let Some(ms) = within(file.user_bound_ms, range, "user_bound_ms", unit, &fail)? {
            config.user_bound = Nanos::from_millis(ms);
        }
        let mut fenced: Option<(Tier, CpuSet)> = None;
        for (name, section) in file.tiers {
            let at = name.span().start;
            let tier: Tier = name
                .as_ref()
                .parse()
                .map_err(|error| fail(at, format!("tiers.{}: {error}", name.as_ref())))?;
            config.take_section(tier, section, &mut fenced, &fail)?;
        }
        if let Some(map) = file.priority_mapping {
            let order = [&map.critical, &map.high, &map.normal, &map.low];
            for pair in order.windows(2) {
                if pair[0].as_ref() <= pair[1].as_ref() {
                    return Err(fail(
                        pair[1].span().start,
                        "priority_mapping: thresholds must fall from critical over high and normal to low".into(),
                    ));
                }
            }
            config.priority_mapping = PriorityMapping {
                critical: map.critical.into_inner(),
                high: map.high.into_inner(),
                normal: map.normal.into_inner(),
                low: map.low.into_inner(),
            };
        }
        Ok(config)
    }

    fn take_section(
        &mut self,
        tier: Tier,
        section: TierSection,
        fenced: &mut Option<(Tier, CpuSet)>,
        fail: &dyn Fn(usize, String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let key = |name: &str| format!("tiers.{tier}.{name}");
        let row = &mut self.tiers.0[tier.index()];
        if let Some(weight) = within(section.weight, 1..=10_000, &key("weight"), "", fail)? {
            row.weight = weight;
        }
        let (range, unit) = (100..=1_000_000, " microseconds");
        if let Some(us) = within(section.slice_us, range, &key("slice_us"), unit, fail)? {
            row.slice = Nanos::from_micros(us);
        }
        let (range, unit) = (0.0..=0.5, " of the CPUs");
        if let Some(share) = within(section.min_share, range, &key("min_share"), unit, fail)? {
            row.min_share = (share * 1000.0).round() as u32;
        }
        // The guard gives the node back when a tier has waited for three seconds.
        let (range, unit) = (1..=1_000, " milliseconds");
        if let Some(ms) = within(section.max_wait_ms, range, &key("max_wait_ms"), unit, fail)? {
            row.max_wait = Nanos::from_millis(ms);
        }
        for path in section.cgroups {
            let at = path.span().start;
            self.add_rule(tier, path.as_ref())
                .map_err(|message| fail(at, format!("{}: {message}", key("cgroups"))))?;
        }
        self.take_fence(tier, section.fence_cores, section.fence_cpus, fenced, fail)
    }

    /// `fenced`: the last fence that was read.
    fn take_fence(
        &mut self,
        tier: Tier,
        cores: Option<Spanned<usize>>,
        cpus: Option<Spanned<String>>,
        fenced: &mut Option<(Tier, CpuSet)>,
        fail: &dyn Fn(usize, String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let wrong =
            |at: usize, key: &str, what: &str| Err(fail(at, format!("tiers.{tier}.{key}: {what}")));
        let others = "only critical can be fenced";
        if let Some(cpus) = cpus {
            let at = cpus.span().start;
            if cores.is_some() {
                return wrong(at, "fence_cpus", "give fence_cores or fence_cpus, not both");
            }
            let set = match parse_cpu_list(cpus.as_ref()) {
                Ok(set) => set,
                Err(error) => return wrong(at, "fence_cpus", &error.to_string()),
            };
            if let Some((other, theirs)) = fenced
                && let Some(cpu) = set.intersection(theirs).next()
            {
                let what = format!("overlaps the fence of {other} at CPU {cpu}");
                return wrong(at, "fence_cpus", &what);
            }
            *fenced = Some((tier, set.clone()));
            if tier != Tier::Critical {
                return wrong(at, "fence_cpus", others);
            }
            self.fence = match set.is_empty() {
                true => Fence::Cores(0),
                false => Fence::Cpus(set),
            };
        }
        if let Some(cores) = cores {
            if tier != Tier::Critical {
                return wrong(cores.span().start, "fence_cores", others);
            }
            self.fence = Fence::Cores(cores.into_inner());
        }
        Ok(())
    }

    /// With a fence of the whole cores that Critical pods request, where none is configured.
    #[must_use]
    pub fn fenced_for(&self, critical_cores: Option<usize>) -> Config {
        let mut config = self.clone();
        if let (Fence::None, Some(cores)) = (&config.fence, critical_cores) {
            config.fence = Fence::Cores(cores);
        }
        config
    }

    /// One slice for every tier.
    pub fn set_slice(&mut self, slice: Nanos) {
        for row in &mut self.tiers.0 {
            row.slice = slice;
        }
    }
}

/// What `key` says, where it is within `range`.
fn within<T: PartialOrd + Copy + Display>(
    value: Option<Spanned<T>>,
    range: RangeInclusive<T>,
    key: &str,
    unit: &str,
    fail: &dyn Fn(usize, String) -> ConfigError,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let at = value.span().start;
    let value = value.into_inner();
    if range.contains(&value) {
        return Ok(Some(value));
    }
    let (least, most) = (range.start(), range.end());
    Err(fail(
        at,
        format!("{key} = {value}: must be {least} to {most}{unit}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("infera.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_file_is_taken_over() {
        let config = parse(
            "policy = 'strict'\nsystem_units = false\nloans = false\nlimits = 'off'\n[tiers.critical]\ncgroups = ['/sys/fs/cgroup/crit', '/k/*']\n\
             slice_us = 2000\nfence_cores = 1\n[tiers.background]\nmin_share = 0.1\n\
             [priority_mapping]\ncritical = 10\nhigh = 5\nnormal = 0\nlow = -5\n",
        )
        .unwrap();
        assert_eq!(config.policy.as_deref(), Some("strict"));
        assert_eq!(config.rules[0].pattern, "/crit");
        assert_eq!(config.fence, Fence::Cores(1));
        assert!(!config.loans && !config.system_units);
        assert_eq!(config.limits, Limits::Off);
        assert!(parse("").unwrap().system_units);
        assert_eq!(config.tiers.get(Tier::Background).min_share, 100);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, expected) in [
            ("policy = 1\n", "infera.toml:1: "),
            (
                "system_units = 'all'\n",
                "infera.toml:1: invalid type: string",
            ),
            ("\nslices = 3\n", "infera.toml:2: unknown field `slices`"),
            (
                "[tiers.gold]\n",
                "infera.toml:1: tiers.gold: unknown tier 'gold'",
            ),
            (
                "[tiers.high]\n[tiers.high]\n",
                "infera.toml:2: duplicate key",
            ),
            (
                "[tiers.high]\ncgroups = ['/a']\n[tiers.low]\ncgroups = ['/a/']\n",
                "infera.toml:4: tiers.low.cgroups: cgroup '/a/' is already in tier high",
            ),
            (
                "[tiers.critical]\nfence_cpus = '0-1'\n[tiers.high]\nfence_cpus = '1-2'\n",
                "infera.toml:4: tiers.high.fence_cpus: overlaps the fence of critical at CPU 1",
            ),
            (
                "[tiers.low]\nweight = 0\n",
                "infera.toml:2: tiers.low.weight = 0: must be 1 to 10000",
            ),
            (
                "[tiers.low]\ncgroups = ['a']\n",
                "infera.toml:2: tiers.low.cgroups: cgroup 'a' is not an absolute",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        for text in [
            "\"a\\nb\" = 1\n",
            "[tiers.\"a\\u001b[2Jb\"]\n",
            "[tiers.high]\ncgroups = [\"a\\nb\"]\n",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn patterns_are_ones_that_can_be_looked_for() {
        for (path, expected) in [
            ("/a[/]b", "'/a[/]b': Pattern syntax error"),
            ("/a**", "'/a**': Pattern syntax error"),
            ("/a\\u0000", "must not contain control characters"),
        ] {
            let error = parse(&format!("[tiers.low]\ncgroups = [\"{path}\"]\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_fence_of_no_cpus_is_none() {
        let config = parse("[tiers.critical]\nfence_cpus = ''\n").unwrap();
        assert_eq!(config.fence, Fence::Cores(0));
    }
}
