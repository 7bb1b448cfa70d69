//! Learns that cgroups came or went, without looking at the tree again and again.

use crate::cgroups::below;
use infera_plan::{PodCgroup, Rule};
use log::warn;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::{Errno, read};
use std::collections::BTreeSet;
use std::path::Path;

/// The kernel's notices of directories in which a cgroup that a rule names may come or go.
pub struct Follower {
    notices: Result<OwnedFd, Errno>,
    complained: bool,
}

impl Follower {
    /// Follows nothing yet.
    pub fn new() -> Follower {
        Follower {
            notices: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK),
            complained: false,
        }
    }

    /// Follows what `rules` and `pods` can name below `root`. Whether that succeeded: where it did not, the
    /// tree has to be looked at.
    pub fn follow(&mut self, root: &Path, rules: &[Rule], pods: &[PodCgroup]) -> bool {
        let result = match &self.notices {
            Ok(notices) => rules
                .iter()
                .try_for_each(|rule| add_rule(notices, root, rule))
                .and_then(|()| add_pods(notices, root, pods)),
            Err(error) => Err(*error),
        };
        if let Err(error) = result
            && !self.complained
        {
            warn!(
                "cannot follow the cgroup tree ({error}): looking at all of it instead, which \
                 costs more; raise fs.inotify.max_user_watches"
            );
            self.complained = true;
        }
        result.is_ok()
    }

    /// What becomes readable.
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.notices.as_ref().ok().map(AsFd::as_fd)
    }

    /// Forgets the notices so far: the tree is about to be looked at.
    pub fn clear(&self) {
        let mut buffer = [0; 4096];
        while let Some(notices) = self.notices()
            && read(notices, &mut buffer).is_ok()
        {}
    }
}

/// Follows each directory above those that the rule's pattern names.
fn add_rule(notices: &OwnedFd, root: &Path, rule: &Rule) -> Result<(), Errno> {
    let base = glob::Pattern::escape(&root.to_string_lossy());
    let deep = rule.pattern.ends_with("**");
    for above in Path::new(&rule.pattern)
        .ancestors()
        .skip(usize::from(!deep))
    {
        let Ok(paths) = glob::glob(&format!("{base}{}", above.display())) else {
            continue; // checked when the rule was made
        };
        for path in paths.flatten() {
            add(notices, &path)?;
        }
    }
    Ok(())
}

/// Follows each directory above a pod's cgroup: a handful for all pods of a node.
fn add_pods(notices: &OwnedFd, root: &Path, pods: &[PodCgroup]) -> Result<(), Errno> {
    let above: BTreeSet<&Path> = pods
        .iter()
        .flat_map(|pod| Path::new(&pod.cgroup).ancestors().skip(1))
        .collect();
    above
        .into_iter()
        .try_for_each(|path| add(notices, &below(root, &path.to_string_lossy())))
}

fn add(notices: &OwnedFd, directory: &Path) -> Result<(), Errno> {
    let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
    match add_watch(notices, directory, flags) {
        // Not there, or a file.
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_policy::Tier;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::fs::{create_dir, create_dir_all, remove_dir};

    fn noticed(follower: &Follower) -> bool {
        let notices = follower.notices().unwrap();
        let now = Timespec::default();
        let noticed = poll(&mut [PollFd::new(&notices, PollFlags::IN)], Some(&now)).unwrap();
        follower.clear();
        noticed > 0
    }

    fn follow(follower: &mut Follower, root: &Path, pattern: &str) {
        let rule = Rule {
            pattern: pattern.into(),
            tier: Tier::Low,
        };
        assert!(follower.follow(root, &[rule], &[]));
    }

    #[test]
    fn what_a_rule_names_is_noticed_when_it_comes_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        create_dir_all(root.join("pods/a")).unwrap();
        create_dir_all(root.join("other")).unwrap();
        let mut follower = Follower::new();
        follow(&mut follower, root, "/pods/*/main");
        assert!(!noticed(&follower));

        create_dir(root.join("other/x")).unwrap();
        assert!(!noticed(&follower), "nothing here is named");
        create_dir(root.join("pods/a/main")).unwrap();
        assert!(noticed(&follower));
        remove_dir(root.join("pods/a/main")).unwrap();
        assert!(noticed(&follower));
        create_dir(root.join("pods/b")).unwrap();
        assert!(noticed(&follower), "something named may come in it");
        follow(&mut follower, root, "/pods/*/main");
        create_dir(root.join("pods/b/main")).unwrap();
        assert!(noticed(&follower));
    }

    #[test]
    fn a_pod_is_noticed_when_its_cgroup_comes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let pod = PodCgroup {
            cgroup: "/kubepods/burstable/pod1".into(),
            tier: Tier::Low,
        };
        let mut follower = Follower::new();
        // Also the directory that it is to be in.
        for dir in ["kubepods", "kubepods/burstable", "kubepods/burstable/pod1"] {
            assert!(follower.follow(root, &[], std::slice::from_ref(&pod)));
            create_dir(root.join(dir)).unwrap();
            assert!(noticed(&follower), "{dir}");
        }
        create_dir(root.join("kubepods/burstable/pod1/container")).unwrap();
        assert!(!noticed(&follower), "below it all inherit");
    }

    #[test]
    fn any_depth_is_followed_to_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        create_dir_all(root.join("pods/a/b")).unwrap();
        for pattern in ["/pods/**", "/pods/**/main"] {
            let mut follower = Follower::new();
            follow(&mut follower, root, pattern);
            create_dir(root.join("pods/a/b/main")).unwrap();
            assert!(noticed(&follower), "{pattern}");
            remove_dir(root.join("pods/a/b/main")).unwrap();
        }
    }
}
