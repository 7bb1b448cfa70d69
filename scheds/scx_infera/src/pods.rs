//! The pods of the assignment, and which of their cgroups exist.

use crate::cgroups::{below, id};
use infera_plan::PodCgroup;
use infera_policy::Tier;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

/// A pod's tier, and its cgroup's id once that was seen.
struct Pod {
    tier: Tier,
    id: Option<u64>,
}

/// Pods by the directory that their cgroups are in, a handful on a node, and by name in it. To
/// list such a directory once costs less than to ask for each.
#[derive(Default)]
pub struct Pods {
    parents: BTreeMap<String, BTreeMap<String, Pod>>,
}

impl Pods {
    /// Pods of whose cgroups nothing is known.
    pub fn new(assigned: &[PodCgroup]) -> Pods {
        let mut pods = Pods::default();
        for pod in assigned {
            if let Some((parent, name)) = pod.cgroup.trim_end_matches('/').rsplit_once('/') {
                let (tier, id) = (pod.tier, None);
                let siblings = pods.parents.entry(parent.to_owned()).or_default();
                siblings.insert(name.to_owned(), Pod { tier, id });
            }
        }
        pods
    }

    /// Looks for the cgroups that were not seen yet below the cgroup mount `root`. A pod
    /// whose cgroup is gone keeps its id, which the kernel gives to no other cgroup.
    pub fn look(&mut self, root: &Path) {
        for (parent, pods) in &mut self.parents {
            if pods.values().all(|pod| pod.id.is_some()) {
                continue;
            }
            let parent = below(root, parent);
            if id(root, &parent).is_none() {
                continue; // not there yet
            }
            let Ok(entries) = fs::read_dir(parent) else {
                continue;
            };
            for entry in entries.flatten() {
                if let Some(name) = entry.file_name().to_str()
                    && let Some(pod) = pods.get_mut(name)
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
                {
                    // A cgroup's id is its directory's inode number, and the listing has it.
                    pod.id = Some(entry.ino());
                }
            }
        }
    }

    /// Looks for all of them anew.
    pub fn look_again(&mut self, root: &Path) {
        for pod in self.parents.values_mut().flat_map(BTreeMap::values_mut) {
            pod.id = None;
        }
        self.look(root);
    }

    /// `path` below the cgroup mount `root` came: if it is a pod's cgroup, it is seen.
    pub fn see(&mut self, root: &Path, path: &Path) {
        if let Some((parent, name)) = split(root, path)
            && let Some(pod) = self
                .parents
                .get_mut(parent)
                .and_then(|pods| pods.get_mut(name))
            && let Some(id) = id(root, path)
        {
            pod.id = Some(id);
        }
    }

    /// Whether pods' cgroups may be below `path`, which came or went.
    pub fn may_be_in(&self, root: &Path, path: &Path) -> bool {
        let Ok(inner) = path.strip_prefix(root) else {
            return false;
        };
        let inner = Path::new("/").join(inner);
        self.parents
            .keys()
            .any(|parent| Path::new(parent).starts_with(&inner))
    }

    /// The ids of those that were seen, and their tiers.
    pub fn seen(&self) -> impl Iterator<Item = (u64, Tier)> + '_ {
        let pods = self.parents.values().flat_map(BTreeMap::values);
        pods.filter_map(|pod| Some((pod.id?, pod.tier)))
    }

    /// The directories that their cgroups are in and those above, below the cgroup mount `root`.
    pub fn directories(&self, root: &Path) -> BTreeSet<PathBuf> {
        let above = self.parents.keys().flat_map(|parent| {
            let ancestors = Path::new(parent).ancestors();
            ancestors.map(|path| below(root, &path.to_string_lossy()))
        });
        above.collect()
    }
}

/// The directory, as an assignment names it, and the name in it.
fn split<'a>(root: &Path, path: &'a Path) -> Option<(&'a str, &'a str)> {
    let inner = path.to_str()?.strip_prefix(root.to_str()?)?;
    inner.rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn pod(cgroup: &str, tier: Tier) -> PodCgroup {
        PodCgroup {
            cgroup: cgroup.into(),
            tier,
        }
    }

    #[test]
    fn pods_are_seen_once_their_cgroups_exist() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let mut pods = Pods::new(&[
            pod("/kube/burstable/pod1", Tier::High),
            pod("/kube/pod2", Tier::Low),
            pod("/kube/file", Tier::Low),
        ]);
        pods.look(root);
        assert_eq!(pods.seen().count(), 0);
        fs::create_dir_all(root.join("kube/burstable/pod1")).unwrap();
        fs::create_dir(root.join("kube/other")).unwrap();
        fs::write(root.join("kube/file"), "").unwrap();
        pods.look(root);
        let id = root.join("kube/burstable/pod1").metadata().unwrap().ino();
        assert_eq!(pods.seen().collect::<Vec<_>>(), [(id, Tier::High)]);
        fs::create_dir(root.join("kube/pod2")).unwrap();
        pods.look(root);
        assert_eq!(pods.seen().count(), 2);
        fs::remove_dir(root.join("kube/pod2")).unwrap();
        pods.look_again(root);
        assert_eq!(pods.seen().count(), 1);
    }

    #[test]
    fn directories_are_each_there_once() {
        let pods = Pods::new(&[
            pod("/kube/burstable/pod1", Tier::High),
            pod("/kube/burstable/pod2", Tier::High),
            pod("/kube/pod3", Tier::High),
        ]);
        let expected = ["/c", "/c/kube", "/c/kube/burstable"].map(PathBuf::from);
        assert_eq!(pods.directories(Path::new("/c")), expected.into());
    }
}
