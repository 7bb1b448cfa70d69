//! Which CPUs a node has, and which of them share a core or a last-level cache (LLC), read
//! from sysfs.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Each LLC's CPUs, in order of its first CPU; one of all CPUs where sysfs tells of none.
    pub llcs: Vec<CpuSet>,
}

impl Topology {
    /// Reads `sys`, normally `/sys/devices/system/cpu`.
    pub fn read(sys: &Path) -> Result<Topology, TopologyError> {
        let read = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(source) => Err(TopologyError::Read { path, source }),
        };
        let online = parse_cpu_list(&read(sys.join("online"))?)?;
        let mut cores = BTreeMap::new();
        let mut llcs = BTreeMap::new();
        for &cpu in &online {
            let dir = sys.join(format!("cpu{cpu}"));
            // Absent where the kernel has no SMT: every CPU is a core.
            let siblings = match fs::read_to_string(dir.join("topology/thread_siblings_list")) {
                Ok(text) => parse_cpu_list(&text)?,
                Err(_) => CpuSet::from([cpu]),
            };
            let sharing = match shared_by_llc(&dir.join("cache")) {
                Some(text) => parse_cpu_list(&text)?,
                None => online.clone(),
            };
            for (groups, members) in [(&mut cores, siblings), (&mut llcs, sharing)] {
                let members: CpuSet = members.intersection(&online).copied().collect();
                let first = members.first().copied().unwrap_or(cpu);
                groups.entry(first).or_insert(members);
            }
        }
        let llcs: Vec<CpuSet> = llcs.into_values().collect();
        let mut cores: Vec<CpuSet> = cores.into_values().collect();
        // Stable: within an LLC they stay in order of their first CPUs.
        cores.sort_by_key(|core| llcs.iter().position(|llc| !llc.is_disjoint(core)));
        Ok(Topology { cores, llcs })
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
