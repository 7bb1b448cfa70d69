//! Which CPUs a node has, and which of them share a core or a last-level cache (LLC), read
//! from sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can be wrong with the topology in sysfs.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A CPU list is malformed.
    #[error("'{0}' is not a CPU list such as 0-3,8")]
    CpuList(String),
}

/// Numbers of CPUs.
pub type CpuSet = BTreeSet<usize>;

/// Parses the kernel's list format: `0-3,8`.
///
/// # Errors
///
/// The text is not in that format, a range is backwards, or a number is above 1023.
pub fn parse_cpu_list(text: &str) -> Result<CpuSet, TopologyError> {
    let bad = || TopologyError::CpuList(text.trim().to_owned());
    let mut set = CpuSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last >= 1024 {
            return Err(bad());
        }
        set.extend(first..=last);
    }
    Ok(set)
}

/// Writes the kernel's list format.
pub fn format_cpu_list(set: &CpuSet) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    ranges
        .iter()
        .map(|&(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// The online CPUs, grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Each physical core's CPUs, the cores of an LLC together.
    pub cores: Vec<CpuSet>,
    /// Each LLC's CPUs, in order of its first CPU; one of all CPUs where sysfs lists none.
    pub llcs: Vec<CpuSet>,
    /// CPUs that cpuset partitions have: no task outside of such a partition runs there.
    pub partitions: CpuSet,
}

impl Topology {
    /// Reads `sys`, normally `/sys/devices/system/cpu`.
    ///
    /// # Errors
    ///
    /// The list of online CPUs cannot be read, or a list is malformed.
    pub fn read(sys: &Path) -> Result<Topology, TopologyError> {
        let path = sys.join("online");
        let dir = |cpu: usize| sys.join(format!("cpu{cpu}"));
        match fs::read_to_string(&path) {
            Ok(online) => Topology::parse(
                &online,
                |cpu| fs::read_to_string(dir(cpu).join("topology/thread_siblings_list")).ok(),
                |cpu| shared_by_llc(&dir(cpu).join("cache")),
            ),
            Err(source) => Err(TopologyError::Read { path, source }),
        }
    }

    /// Groups the CPUs of the list `online`, given for each the list of those it shares a core
    /// with and the list of those it shares an LLC with.
    ///
    /// # Errors
    ///
    /// A list is malformed.
    pub fn parse(
        online: &str,
        siblings: impl Fn(usize) -> Option<String>,
        sharing: impl Fn(usize) -> Option<String>,
    ) -> Result<Topology, TopologyError> {
        let cpus = parse_cpu_list(online)?;
        if cpus.is_empty() {
            return Err(TopologyError::CpuList(online.trim().to_owned()));
        }
        let siblings = |cpu| match siblings(cpu) {
            Some(list) => parse_cpu_list(&list),
            // Absent where the kernel has no SMT: every CPU is a core.
            None => Ok(CpuSet::from([cpu])),
        };
        let sharing = |cpu| match sharing(cpu) {
            Some(list) => parse_cpu_list(&list),
            None => Ok(cpus.clone()),
        };
        let mut cores = partition(&cpus, siblings)?;
        let llcs = partition(&cpus, sharing)?;
        // Stable: within an LLC they stay in order of their first CPUs.
        cores.sort_by_key(|core| llcs.iter().position(|llc| !llc.is_disjoint(core)));
        Ok(Topology {
            cores,
            llcs,
            partitions: CpuSet::new(),
        })
    }

    /// The same with the CPUs that cpuset partitions below the cgroup mount `root` have now. They
    /// come and go at run time, so this is read again where it matters.
    #[must_use]
    pub fn with_partitions(self, root: &Path) -> Topology {
        let partitions = self.partitions_below(root);
        Topology { partitions, ..self }
    }

    /// The CPUs that cpuset partitions below the cgroup mount `root` have: those that the root
    /// cgroup has no more. Without cgroup v2's cpuset controller there are none.
    #[must_use]
    pub fn partitions_below(&self, root: &Path) -> CpuSet {
        let text = fs::read_to_string(root.join("cpuset.cpus.effective")).unwrap_or_default();
        match parse_cpu_list(&text) {
            Ok(left) if !left.is_empty() => self.cpus().difference(&left).copied().collect(),
            _ => CpuSet::new(),
        }
    }

    /// A hypothetical machine: `cpus` CPUs, numbered as Linux does, in cores of `threads_per_core`
    /// threads, with one LLC.
    #[must_use]
    pub fn uniform(cpus: usize, threads_per_core: usize) -> Topology {
        let threads = threads_per_core.max(1);
        let cores = (cpus / threads).max(1);
        Topology {
            cores: (0..cores)
                .map(|core| (core..cores * threads).step_by(cores).collect())
                .collect(),
            llcs: vec![(0..cores * threads).collect()],
            partitions: CpuSet::new(),
        }
    }

    /// CPUs of a core, of the largest where they differ.
    #[must_use]
    pub fn threads_per_core(&self) -> usize {
        self.cores.iter().map(CpuSet::len).max().unwrap_or(1)
    }

    /// How many LLCs some CPUs are spread over.
    pub fn llcs_of(&self, cpus: &CpuSet) -> usize {
        let touched = |llc: &&CpuSet| !llc.is_disjoint(cpus);
        self.llcs.iter().filter(touched).count()
    }

    /// Every online CPU.
    pub fn cpus(&self) -> CpuSet {
        self.cores.iter().flatten().copied().collect()
    }
}

/// Groups `cpus` in order of their first. Each is in one group, even where lists contradict
/// each other: it stays in the first that claims it.
fn partition(
    cpus: &CpuSet,
    list_of: impl Fn(usize) -> Result<CpuSet, TopologyError>,
) -> Result<Vec<CpuSet>, TopologyError> {
    let mut rest = cpus.clone();
    let mut groups = Vec::new();
    while let Some(first) = rest.pop_first() {
        let mut group: CpuSet = list_of(first)?.intersection(&rest).copied().collect();
        rest.retain(|cpu| !group.contains(cpu));
        group.insert(first);
        groups.push(group);
    }
    Ok(groups)
}

/// The CPU list of the highest cache level below a CPU's `cache` directory.
fn shared_by_llc(dir: &Path) -> Option<String> {
    let level = |index: &PathBuf| {
        let text = fs::read_to_string(index.join("level")).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let entries = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let last = entries.max_by_key(level)?;
    fs::read_to_string(last.join("shared_cpu_list")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_round_trip() {
        for text in ["0", "0-3", "0-3,8", "1,3,5-7"] {
            assert_eq!(format_cpu_list(&parse_cpu_list(text).unwrap()), text);
        }
        for bad in ["x", "3-1", "0-", "0-99999999"] {
            assert!(parse_cpu_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn siblings_make_cores() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("online"), "0-3\n").unwrap();
        for cpu in 0..4 {
            let at = dir.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&at).unwrap();
            fs::write(
                at.join("thread_siblings_list"),
                format!("{},{}\n", cpu % 2, cpu % 2 + 2),
            )
            .unwrap();
        }
        let topology = Topology::read(dir.path()).unwrap();
        assert_eq!(topology.cores, [CpuSet::from([0, 2]), CpuSet::from([1, 3])]);
        assert_eq!(topology.llcs, [CpuSet::from([0, 1, 2, 3])]);
    }

    #[test]
    fn lists_that_contradict_each_other_lose_no_cpu() {
        let lists = |lists: &'static [&str]| move |cpu: usize| Some(lists[cpu].to_owned());
        let siblings = lists(&["2", "0-2", "1", ""]);
        let topology = Topology::parse("0-3", siblings, lists(&["7", "0", "2-3", "0-3"])).unwrap();
        let cores = [vec![0, 2], vec![1], vec![3]];
        assert_eq!(topology.cores, cores.map(CpuSet::from_iter));
        let llcs = [vec![0], vec![1], vec![2, 3]];
        assert_eq!(topology.llcs, llcs.map(CpuSet::from_iter));
        assert_eq!(topology.cpus(), CpuSet::from([0, 1, 2, 3]));
    }

    #[test]
    fn a_node_without_cpus_is_none() {
        assert!(Topology::parse(" \n", |_| None, |_| None).is_err());
    }

    #[test]
    fn cpus_that_the_root_cgroup_has_no_more_are_in_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = |text: &str| {
            fs::write(dir.path().join("cpuset.cpus.effective"), text).unwrap();
            let topology = Topology::uniform(4, 1).with_partitions(dir.path());
            format_cpu_list(&topology.partitions)
        };
        assert_eq!(partitions("0-2\n"), "3");
        assert_eq!(partitions("0-3\n"), "");
        // CPUs that are offline for us, and what is no list.
        assert_eq!(partitions("0,2-7\n"), "1");
        for text in ["", "\n", "x"] {
            assert_eq!(partitions(text), "", "{text:?}");
        }
        let nowhere = dir.path().join("v1");
        assert_eq!(
            Topology::uniform(4, 1).partitions_below(&nowhere),
            [].into()
        );
    }

    #[test]
    fn the_highest_cache_level_makes_llcs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("online"), "0-3\n").unwrap();
        for cpu in 0..4 {
            for (index, level, shared) in [
                (0, 1, cpu.to_string()),
                (3, 3, format!("{},{}", cpu % 2, cpu % 2 + 2)),
                (2, 2, cpu.to_string()),
            ] {
                let at = dir.path().join(format!("cpu{cpu}/cache/index{index}"));
                fs::create_dir_all(&at).unwrap();
                fs::write(at.join("level"), format!("{level}\n")).unwrap();
                fs::write(at.join("shared_cpu_list"), format!("{shared}\n")).unwrap();
            }
        }
        let topology = Topology::read(dir.path()).unwrap();
        assert_eq!(topology.llcs, [CpuSet::from([0, 2]), CpuSet::from([1, 3])]);
        assert_eq!(topology.cores, [0, 2, 1, 3].map(|cpu| CpuSet::from([cpu])));
        assert_eq!(topology.llcs_of(&CpuSet::from([1, 3])), 1);
        assert_eq!(topology.llcs_of(&CpuSet::from([2, 3])), 2);
    }
}
