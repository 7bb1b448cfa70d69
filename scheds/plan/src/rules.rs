//! Rules, from cgroups to tiers: the operator's, and those of the node's own services.
//!
//! Callers: the scheduler, which resolves them in the cgroup tree; agent and command line, which
//! show what is in force.
//! Invariant: default rules come first, so that any rule of the operator's counts instead.

use crate::config::{Config, ConfigError};
use crate::system_units::{
    OTHERS, OWN_SUBGROUPS, RUNTIME_CGROUPS, RUNTIMES, SERVICES, SLICES, SYSTEM_SLICE,
};
use infera_policy::Tier;
use std::iter;
use std::path::{Path, PathBuf};

/// A cgroup path or glob, relative to the cgroup root, and its tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Without the mount point: `/kubepods.slice/*`.
    pub pattern: String,
    /// Where its tasks go.
    pub tier: Tier,
}

impl Rule {
    /// The cgroups that it names and that exist below the cgroup mount `root`.
    #[must_use]
    pub fn cgroups(&self, root: &Path) -> Vec<PathBuf> {
        cgroups_named(root, &self.pattern)
    }

    /// Whether it names the cgroup `path`, itself and not one above.
    fn names(&self, path: &str) -> bool {
        let options = glob::MatchOptions {
            require_literal_separator: true,
            ..glob::MatchOptions::default()
        };
        glob::Pattern::new(&self.pattern)
            .is_ok_and(|pattern| self.pattern == path || pattern.matches_with(path, options))
    }
}

/// The mount point of the cgroup tree, which paths may or may not begin with.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The cgroups below the cgroup mount `root` that a rule's pattern names.
///
/// Most patterns are one path, which takes one system call; `glob` takes one for each part of it, and far more time.
#[must_use]
pub fn cgroups_named(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let is_glob = |part: &str| part.contains(['*', '?', '[']);
    let fixed = pattern.split('/').take_while(|part| !is_glob(part));
    let fixed = fixed.collect::<Vec<_>>().join("/");
    let path = PathBuf::from(format!("{}{fixed}", root.display()));
    if !path.is_dir() {
        return Vec::new();
    }
    if fixed == pattern {
        return vec![path];
    }
    let base = glob::Pattern::escape(&path.to_string_lossy());
    let paths = glob::glob(&format!("{base}{}", &pattern[fixed.len()..]));
    // A pattern that is none was refused when the rule was made.
    let directories = paths.into_iter().flatten().flatten();
    directories.filter(|path| path.is_dir()).collect()
}

pub(crate) fn pattern_of(path: &str) -> Result<String, String> {
    let inner = path.strip_prefix(CGROUP_ROOT).unwrap_or(path);
    let inner = inner.trim_end_matches('/');
    if !inner.starts_with('/') {
        return Err(format!(
            "cgroup '{path}' is not an absolute path below {CGROUP_ROOT}"
        ));
    }
    if inner.split('/').any(|part| part == "..") {
        return Err(format!("cgroup '{path}' must not contain '..'"));
    }
    if inner.contains(char::is_control) {
        return Err(format!(
            "cgroup '{path}' must not contain control characters"
        ));
    }
    // Part by part, too, as it is looked for: '[/]' is a pattern only as a whole.
    for pattern in iter::once(inner).chain(inner.split('/')) {
        glob::Pattern::new(pattern).map_err(|error| format!("cgroup '{path}': {error}"))?;
    }
    Ok(inner.to_owned())
}

impl Config {
    /// The rules for the node's own services (`system_units`), without those for units that a
    /// rule of the operator's names: that rule holds for everything below the unit, too.
    #[must_use]
    pub fn default_rules(&self) -> Vec<Rule> {
        if !self.system_units {
            return Vec::new();
        }
        let mut rules = Vec::new();
        let mut add = |pattern: String, tier| rules.push(Rule { pattern, tier });
        let free = |path: &str| !self.rules.iter().any(|rule| rule.names(path));
        for path in SLICES.iter().chain(OTHERS).filter(|path| free(path)) {
            add((*path).to_owned(), Tier::System);
        }
        let unit = |name: &&str| format!("{SYSTEM_SLICE}/{name}");
        let services = SERVICES.iter().map(unit);
        let runtimes = RUNTIMES.iter().map(unit);
        for unit in services.chain(runtimes.clone()).filter(|unit| free(unit)) {
            add(unit, Tier::System);
        }
        // These are System with their slices.
        let others = RUNTIME_CGROUPS.iter().map(|path| (*path).to_owned());
        let others =
            others.filter(|path| path.rsplit_once('/').is_none_or(|(slice, _)| free(slice)));
        for runtime in runtimes.chain(others).filter(|path| free(path)) {
            // In this order: whatever is below, and then what is no container of it.
            add(format!("{runtime}/*"), Tier::Normal);
            for own in OWN_SUBGROUPS {
                add(format!("{runtime}/{own}"), Tier::System);
            }
        }
        rules
    }

    /// Every rule, in the order in which they count: the default rules, then the operator's.
    #[must_use]
    pub fn all_rules(&self) -> Vec<Rule> {
        let mut rules = self.default_rules();
        rules.extend_from_slice(&self.rules);
        rules
    }

    /// A line a rule: of the default rules those that name a cgroup below the mount `root`, then
    /// how many do not, then the operator's.
    #[must_use]
    pub fn describe_rules(&self, root: &Path) -> Vec<String> {
        let rules = self.default_rules();
        let is_here = |rule: &&Rule| !rule.cgroups(root).is_empty();
        let (here, absent): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(is_here);
        let line = |rule: &Rule| format!("tier {}: cgroup {}", rule.tier, rule.pattern);
        let mut lines: Vec<String> = here
            .into_iter()
            .map(|rule| line(rule) + " (default rule)")
            .collect();
        if !absent.is_empty() {
            lines.push(format!(
                "{} more default rules name no cgroup of this node (system_units)",
                absent.len()
            ));
        }
        lines.extend(self.rules.iter().map(line));
        lines
    }

    pub(crate) fn add_rule(&mut self, tier: Tier, path: &str) -> Result<(), String> {
        let pattern = pattern_of(path)?;
        if let Some(rule) = self.rules.iter().find(|rule| rule.pattern == pattern) {
            return Err(format!("cgroup '{path}' is already in tier {}", rule.tier));
        }
        self.rules.push(Rule { pattern, tier });
        Ok(())
    }

    /// Adds the `--tier TIER=CGROUP` arguments.
    ///
    /// # Errors
    ///
    /// An argument has no `=`, an unknown tier, or a pattern that is none. The error has the argument.
    pub fn add_arguments(&mut self, arguments: &[String]) -> Result<(), ConfigError> {
        for argument in arguments {
            let fail = |message: String| ConfigError::Rule {
                argument: argument.clone(),
                message,
            };
            let (tier, path) = argument.split_once('=').ok_or_else(|| {
                fail("write it as TIER=CGROUP, for example critical=/my.slice".into())
            })?;
            let tier: Tier = tier.parse().map_err(|error| fail(format!("{error}")))?;
            self.add_rule(tier, path).map_err(fail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;

    /// The cgroups of a node that runs several runtimes, and the files in one of them.
    fn tree(directories: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            let path = root.path().join(directory.trim_start_matches('/'));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
        root
    }

    /// What a scheduler makes of the rules: the last that names a cgroup counts.
    fn tiers(config: &Config, root: &Path) -> BTreeMap<String, Tier> {
        let mut tiers = BTreeMap::new();
        for rule in config.all_rules() {
            for path in rule.cgroups(root) {
                let inner = path.strip_prefix(root).unwrap();
                tiers.insert(format!("/{}", inner.display()), rule.tier);
            }
        }
        tiers
    }

    fn with_rule(tier: Tier, path: &str) -> Config {
        let mut config = Config::default();
        config.add_rule(tier, path).unwrap();
        config
    }

    #[test]
    fn the_kubelet_and_the_runtime_are_system_without_a_rule() {
        let system = [
            "/system.slice/kubelet.service",
            "/system.slice/containerd.service",
            "/system.slice/crio.service",
            "/system.slice/docker.service",
            "/system.slice/k3s.service",
            "/system.slice/rke2-agent.service",
            "/system.slice/k0sworker.service",
            "/system.slice/snap.microk8s.daemon-kubelite.service",
            "/system.slice/systemd-journald.service",
            "/system.slice/dbus.service",
            "/system.slice/sshd.service",
            "/system.slice/infera.service",
            "/init.scope",
            "/runtime.slice",
            "/podruntime.slice",
            "/podruntime",
        ];
        let root = tree(&[&system[..], &["/system.slice/postgresql.service"]].concat());
        let found = tiers(&Config::default(), root.path());
        for path in system {
            assert_eq!(found.get(path), Some(&Tier::System), "{path}");
        }
        assert_eq!(found.len(), system.len(), "{found:?}");
    }

    #[test]
    fn containers_below_a_runtime_are_normal() {
        let containers = [
            "/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:2",
            "/system.slice/k3s.service/kubepods",
            "/system.slice/docker.service/4f2a",
            "/runtime.slice/containerd.service/kubepods-pod1.slice:cri-containerd:3",
            "/podruntime.slice/runtime/4f2a",
            "/podruntime/runtime/4f2a",
        ];
        let own = [
            "/system.slice/k3s.service/init",
            "/system.slice/docker.service/supervisor",
            "/runtime.slice/containerd.service/supervisor",
        ];
        let root = tree(&[&containers[..], &own].concat());
        let found = tiers(&Config::default(), root.path());
        for path in containers {
            assert_eq!(found.get(path), Some(&Tier::Normal), "{path}");
        }
        for path in own {
            assert_eq!(found.get(path), Some(&Tier::System), "{path}");
        }
    }

    #[test]
    fn a_rule_of_the_operators_counts_instead() {
        let (unit, container) = (
            "/system.slice/docker.service",
            "/system.slice/docker.service/4f2a",
        );
        let root = tree(&[container, "/runtime.slice/containerd.service/4f2a"]);
        for path in [unit, "/system.slice/*", "/system.slice/docker*"] {
            let found = tiers(&with_rule(Tier::Low, path), root.path());
            assert_eq!(found.get(unit), Some(&Tier::Low), "{path}");
            assert_eq!(found.get(container), None, "{path}: inherits");
        }
        let found = tiers(&with_rule(Tier::Low, "/runtime.slice"), root.path());
        assert_eq!(found.get("/runtime.slice"), Some(&Tier::Low));
        assert_eq!(found.get("/runtime.slice/containerd.service/4f2a"), None);
        // Of the slice above, and so of what no rule names.
        let found = tiers(&with_rule(Tier::Low, "/system.slice"), root.path());
        assert_eq!(found.get(unit), Some(&Tier::System));
    }

    #[test]
    fn one_key_switches_them_off() {
        let config = Config {
            system_units: false,
            ..with_rule(Tier::High, "/a")
        };
        assert_eq!(config.default_rules(), []);
        assert_eq!(config.all_rules(), config.rules);
    }

    #[test]
    fn the_default_rules_of_this_node_are_marked() {
        let root = tree(&["/system.slice/kubelet.service", "/a"]);
        let config = with_rule(Tier::High, "/a");
        let lines = config.describe_rules(root.path());
        let count = config.default_rules().len() - 1;
        assert_eq!(
            lines,
            [
                "tier system: cgroup /system.slice/kubelet.service (default rule)".to_owned(),
                format!("{count} more default rules name no cgroup of this node (system_units)"),
                "tier high: cgroup /a".to_owned(),
            ]
        );
        let off = Config {
            system_units: false,
            ..config
        };
        assert_eq!(off.describe_rules(root.path()), ["tier high: cgroup /a"]);
    }

    #[test]
    fn default_rules_are_ones_that_an_operator_could_write() {
        let rules = Config::default().default_rules();
        for rule in &rules {
            assert_eq!(pattern_of(&rule.pattern).as_ref(), Ok(&rule.pattern));
            let same = |other: &&Rule| other.pattern == rule.pattern;
            assert_eq!(rules.iter().filter(same).count(), 1, "{}", rule.pattern);
        }
    }

    #[test]
    fn arguments_are_checked_like_the_file() {
        let mut config = Config::default();
        let refuse = |config: &mut Config, text: &str| {
            config
                .add_arguments(&[text.to_owned()])
                .unwrap_err()
                .to_string()
        };
        config.add_arguments(&["critical=/crit".into()]).unwrap();
        assert!(refuse(&mut config, "high=/crit").contains("already in tier critical"));
        assert!(refuse(&mut config, "gold=/x").contains("unknown tier 'gold'"));
        assert!(refuse(&mut config, "critical").contains("TIER=CGROUP"));
        // A default rule's cgroup may be named: it moves.
        let kubelet = "high=/system.slice/kubelet.service";
        config.add_arguments(&[kubelet.into()]).unwrap();
    }
}
