//! From rules (paths and globs) and pods to the cgroup ids that have a tier.

use crate::pods::Pods;
use infera_bpf::MAX_CGROUPS;
use infera_plan::Rule;
use infera_policy::Tier;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// cgroup id (the inode number of its directory) to tier.
pub type Assignment = BTreeMap<u64, Tier>;

/// Resolves `rules` below the cgroup mount `root`. A cgroup that several name
/// takes the tier of the last; descendants inherit and need no entry.
pub fn resolve(root: &Path, rules: &[Rule]) -> Assignment {
    let mut assignment = Assignment::new();
    for rule in rules {
        for path in rule.cgroups(root) {
            add(&mut assignment, root, &path, rule.tier);
        }
    }
    assignment
}

/// The id of the cgroup at `directory` below the mount; `None` for a directory of another file system. A version 1 hierarchy
/// may be mounted there, and its inode numbers look like cgroup ids.
pub fn id(root: &Path, directory: &Path) -> Option<u64> {
    let (mount, meta) = (root.metadata().ok()?, directory.metadata().ok()?);
    (meta.is_dir() && meta.dev() == mount.dev()).then(|| meta.ino())
}

/// The same with the pods that were seen, whose tiers come after the rules'.
pub fn with_pods(named: &Assignment, pods: &Pods) -> Assignment {
    let mut assignment = named.clone();
    assignment.extend(pods.seen().take(MAX_CGROUPS - named.len()));
    assignment
}

/// Where a cgroup is that is named by its path below the mount.
pub fn below(root: &Path, cgroup: &str) -> PathBuf {
    root.join(cgroup.trim_start_matches('/'))
}

fn add(assignment: &mut Assignment, root: &Path, path: &Path, tier: Tier) {
    // What does not exist, or not any more, needs no tier.
    if assignment.len() < MAX_CGROUPS
        && let Some(id) = id(root, path)
    {
        assignment.insert(id, tier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_plan::PodCgroup;

    #[test]
    fn paths_and_globs_become_ids() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["a", "pods/x", "pods/y"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let rule = |pattern: &str, tier| Rule {
            pattern: pattern.into(),
            tier,
        };
        let rules = [
            rule("/a", Tier::Critical),
            rule("/pods/*", Tier::Low),
            rule("/none", Tier::High),
        ];
        let pod = |cgroup: &str, tier| PodCgroup {
            cgroup: cgroup.into(),
            tier,
        };
        let mut pods = Pods::new(&[
            pod("/pods/y", Tier::Background),
            pod("/pods/later", Tier::Low),
        ]);
        pods.look(root.path());
        let assignment = with_pods(&resolve(root.path(), &rules), &pods);
        assert_eq!(assignment.len(), 3);
        assert_eq!(
            assignment
                .values()
                .filter(|tier| **tier == Tier::Low)
                .count(),
            1,
            "what the agent says of a pod comes after the rules"
        );
    }
}
