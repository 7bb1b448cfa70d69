//! Learns that cgroups came or went, without looking at the tree again and again.

use crate::pods::Pods;
use infera_plan::{Rule, cgroups_named};
use log::warn;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// The kernel's notices of directories in which a cgroup that a rule or a pod names may come or go.
pub struct Follower {
    notices: Result<OwnedFd, Errno>,
    directories: HashMap<i32, Directory>,
    complained: bool,
}

/// A followed directory.
struct Directory {
    path: PathBuf,
    /// A rule may name what is in it, so whatever happens there counts.
    for_rules: bool,
}

impl Follower {
    /// Follows nothing yet.
    pub fn new() -> Follower {
        Follower {
            notices: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK),
            directories: HashMap::new(),
            complained: false,
        }
    }

    /// Follows what `rules` and `pods` can name below `root`. Whether that succeeded: where it
    /// did not, the tree has to be looked at.
    pub fn follow(&mut self, root: &Path, rules: &[Rule], pods: &Pods) -> bool {
        let above: BTreeSet<&Path> = rules.iter().flat_map(above).collect();
        let result = above
            .into_iter()
            .try_for_each(|pattern| self.add_pattern(root, pattern))
            .and_then(|()| {
                let mut directories = pods.directories(root).into_iter();
                directories.try_for_each(|path| self.add(path, false))
            });
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

    /// Takes the notices so far. Pods whose cgroups came are seen; whether the tree is to be
    /// looked at beyond that.
    pub fn take(&mut self, root: &Path, pods: &mut Pods) -> bool {
        let Ok(notices) = &self.notices else {
            return true;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(notices, &mut buffer);
        let mut look = false;
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::IGNORED) {
                self.directories.remove(&event.wd());
                continue;
            }
            let (Some(directory), Some(name)) =
                (self.directories.get(&event.wd()), event.file_name())
            else {
                look = true; // the kernel had no room for more
                continue;
            };
            let path = directory.path.join(&*name.to_string_lossy());
            look |= directory.for_rules || pods.may_be_in(root, &path);
            if event
                .events()
                .intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
            {
                pods.see(root, &path);
            }
        }
        look
    }

    /// Follows the directories that `pattern` names.
    fn add_pattern(&mut self, root: &Path, pattern: &Path) -> Result<(), Errno> {
        let paths = cgroups_named(root, &pattern.to_string_lossy());
        paths.into_iter().try_for_each(|path| self.add(path, true))
    }

    fn add(&mut self, path: PathBuf, for_rules: bool) -> Result<(), Errno> {
        let flags =
            WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        let notices = self.notices.as_ref().map_err(|error| *error)?;
        match add_watch(notices, &path, flags) {
            Ok(watch) => {
                let directory = Directory { path, for_rules };
                let known = self.directories.entry(watch).or_insert(directory);
                known.for_rules |= for_rules;
                Ok(())
            }
            // Not there, or a file.
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The patterns of the directories above those that the rule names. Most of the default rules have
/// the same ones.
fn above(rule: &Rule) -> impl Iterator<Item = &Path> {
    let deep = rule.pattern.ends_with("**");
    let ancestors = Path::new(&rule.pattern).ancestors();
    ancestors.skip(usize::from(!deep))
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_plan::PodCgroup;
    use infera_policy::Tier;
    use std::fs::{create_dir, create_dir_all, remove_dir};

    /// A tree, what is looked for in it, and what is noticed of it.
    struct Case {
        root: tempfile::TempDir,
        follower: Follower,
        rules: Vec<Rule>,
        pods: Pods,
    }

    impl Case {
        fn new(patterns: &[&str], pods: &[&str], directories: &[&str]) -> Case {
            let tier = Tier::Low;
            let rule = |pattern: &&str| Rule {
                pattern: (*pattern).into(),
                tier,
            };
            let pod = |cgroup: &&str| PodCgroup {
                cgroup: (*cgroup).into(),
                tier,
            };
            let pods: Vec<PodCgroup> = pods.iter().map(pod).collect();
            let mut case = Case {
                root: tempfile::tempdir().unwrap(),
                follower: Follower::new(),
                rules: patterns.iter().map(rule).collect(),
                pods: Pods::new(&pods),
            };
            for directory in directories {
                create_dir_all(case.path(directory)).unwrap();
            }
            case.follow();
            case
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn follow(&mut self) {
            let followed = self
                .follower
                .follow(self.root.path(), &self.rules, &self.pods);
            assert!(followed);
        }

        /// Whether the tree is to be looked at, and how many pods were seen.
        fn noticed(&mut self) -> (bool, usize) {
            let look = self.follower.take(self.root.path(), &mut self.pods);
            (look, self.pods.seen().count())
        }

        fn made(&mut self, path: &str) -> (bool, usize) {
            create_dir(self.path(path)).unwrap();
            self.noticed()
        }
    }

    #[test]
    fn what_a_rule_names_is_noticed_when_it_comes_and_goes() {
        let mut case = Case::new(&["/pods/*/main"], &[], &["pods/a", "other"]);
        assert!(!case.noticed().0);
        assert!(!case.made("other/x").0, "nothing here is named");
        assert!(case.made("pods/a/main").0);
        remove_dir(case.path("pods/a/main")).unwrap();
        assert!(case.noticed().0);
        assert!(case.made("pods/b").0, "something named may come in it");
        case.follow();
        assert!(case.made("pods/b/main").0);
    }

    #[test]
    fn any_depth_is_followed_to_any_depth() {
        for pattern in ["/pods/**", "/pods/**/main"] {
            let mut case = Case::new(&[pattern], &[], &["pods/a/b"]);
            assert!(case.made("pods/a/b/main").0, "{pattern}");
        }
    }

    #[test]
    fn a_pod_is_seen_by_its_notice_alone() {
        let pods = ["/kube/burstable/pod1", "/kube/pod2"];
        let mut case = Case::new(&[], &pods, &["kube/burstable"]);
        assert_eq!(case.made("kube/burstable/pod1"), (false, 1));
        assert_eq!(case.made("kube/burstable/stranger"), (false, 1));
        assert_eq!(case.made("kube/burstable/pod1/container"), (false, 1));
        assert_eq!(case.made("kube/pod2"), (false, 2));
        remove_dir(case.path("kube/pod2")).unwrap();
        assert_eq!(case.noticed(), (false, 2));
    }

    #[test]
    fn what_pods_are_to_be_in_is_looked_at_when_it_comes() {
        let mut case = Case::new(&[], &["/kube/burstable/pod1"], &[]);
        assert_eq!(case.made("kube"), (true, 0));
        case.follow();
        assert_eq!(case.made("kube/burstable"), (true, 0));
        case.follow();
        assert_eq!(case.made("kube/burstable/pod1"), (false, 1));
    }
}
