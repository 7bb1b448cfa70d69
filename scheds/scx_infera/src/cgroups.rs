//! From rules (paths and globs) to the cgroup ids that exist now.

use infera_bpf::MAX_CGROUPS;
use infera_plan::Rule;
use infera_policy::Tier;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// cgroup id (the inode number of its directory) to tier.
pub type Assignment = BTreeMap<u64, Tier>;

/// Resolves `rules` below the cgroup mount `root`. A cgroup that several patterns match
/// takes the tier of the last; descendants inherit and need no entry.
pub fn resolve(root: &Path, rules: &[Rule]) -> Assignment {
    let mut assignment = Assignment::new();
    let base = glob::Pattern::escape(&root.to_string_lossy());
    for rule in rules {
        let Ok(paths) = glob::glob(&format!("{base}{}", rule.pattern)) else {
            continue; // checked when the rule was made
        };
        for path in paths.flatten() {
            if assignment.len() >= MAX_CGROUPS {
                break;
            }
            // Gone again between listing and looking: nothing to assign.
            if let Ok(meta) = path.metadata()
                && meta.is_dir()
            {
                assignment.insert(meta.ino(), rule.tier);
            }
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let assignment = resolve(root.path(), &rules);
        assert_eq!(assignment.len(), 3);
        assert_eq!(
            assignment
                .values()
                .filter(|tier| **tier == Tier::Low)
                .count(),
            2
        );
    }
}
