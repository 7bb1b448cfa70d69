//! The threads of a node, seen at little cost, and what gives them their tiers.

use infera_plan::{CpuSet, PodCgroup, Rule, parse_cpu_list};
use infera_policy::Tier;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open, openat};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A thread as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its pod's name; empty: none.
    pub pod: String,
    /// The tier that its cgroups give it.
    #[serde(serialize_with = "tier_name")]
    pub tier: Tier,
    /// Its pod's tier.
    #[serde(skip)]
    pub pod_tier: Option<Tier>,
    /// Where it runs or ran last.
    pub cpu: usize,
    /// Whether it runs or waits for a CPU.
    pub runnable: bool,
    /// The CPUs that its affinity allows; read for runnable threads alone.
    #[serde(skip)]
    pub allowed: Option<CpuSet>,
    /// Clock ticks that it has used.
    pub ticks: u64,
}

fn tier_name<S: serde::Serializer>(tier: &Tier, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(tier.name())
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.tid)?;
        if !self.pod.is_empty() {
            write!(f, ", pod {}", self.pod)?;
        }
        write!(f, ", {}) on CPU {}", self.tier, self.cpu)
    }
}

/// What gives a thread its tier.
#[derive(Clone, Debug, Default)]
pub struct Tiers {
    rules: Vec<(glob::Pattern, Tier)>,
    pods: BTreeMap<String, Tier>,
    /// By cgroup: name and tier, as the API server has them.
    wanted: BTreeMap<String, (String, Tier)>,
}

impl Tiers {
    /// Of what is in force, and of what pods want.
    #[must_use]
    pub fn new(
        rules: &[Rule],
        pods: &[PodCgroup],
        wanted: BTreeMap<String, (String, Tier)>,
    ) -> Tiers {
        let rules = rules
            .iter()
            .filter_map(|rule| Some((glob::Pattern::new(&rule.pattern).ok()?, rule.tier)));
        let pods = pods.iter().map(|pod| (pod.cgroup.clone(), pod.tier));
        Tiers {
            rules: rules.collect(),
            pods: pods.collect(),
            wanted,
        }
    }

    /// As the scheduler finds it: of the nearest named cgroup, a pod's before a rule's.
    fn of(&self, cgroup: &str) -> Tier {
        let mut path = Path::new(cgroup);
        loop {
            let text = path.to_string_lossy();
            if let Some(tier) = self.pods.get(&*text) {
                return *tier;
            }
            let options = glob::MatchOptions {
                require_literal_separator: true,
                ..glob::MatchOptions::default()
            };
            let mut rules = self.rules.iter().rev();
            if let Some((_, tier)) = rules.find(|(rule, _)| rule.matches_with(&text, options)) {
                return *tier;
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => return Tier::Normal,
            }
        }
    }

    fn pod_of(&self, cgroup: &str) -> Option<&(String, Tier)> {
        Path::new(cgroup)
            .ancestors()
            .find_map(|path| self.wanted.get(&*path.to_string_lossy()))
    }
}

/// As many threads are looked at together.
const MOST: usize = 20_000;

/// Looks at some threads each time, at all of them one after the other.
pub struct Sampler {
    proc: PathBuf,
    waiting: VecDeque<u32>,
    each: usize,
}

impl Sampler {
    /// Reads at most `each` threads a sample.
    #[must_use]
    pub fn new(proc: &Path, each: usize) -> Sampler {
        Sampler {
            proc: proc.to_owned(),
            waiting: VecDeque::new(),
            each,
        }
    }

    /// Looks.
    pub fn sample(&mut self, tiers: &Tiers) -> Vec<Thread> {
        if self.waiting.is_empty() {
            self.waiting = self.pids();
        }
        let mut threads = Vec::new();
        // A process of a thousand threads is not to cost a thousand times as much.
        while threads.len() < self.each
            && let Some(pid) = self.waiting.pop_front()
        {
            self.look_at(pid, tiers, self.each - threads.len(), &mut threads);
        }
        threads
    }

    /// Looks at all of them, up to a bound that no node should reach.
    #[must_use]
    pub fn all(&self, tiers: &Tiers) -> Vec<Thread> {
        let mut threads = Vec::new();
        for pid in self.pids() {
            if threads.len() >= MOST {
                break;
            }
            self.look_at(pid, tiers, MOST - threads.len(), &mut threads);
        }
        threads
    }

    fn pids(&self) -> VecDeque<u32> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.collect()
    }

    fn look_at(&self, pid: u32, tiers: &Tiers, most: usize, threads: &mut Vec<Thread>) {
        let path = self.proc.join(pid.to_string());
        let Ok(process) = open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
            return; // gone again
        };
        let mut buffer = [0; BUFFER];
        let cgroup = text_of(&process, "cgroup", &mut buffer);
        let cgroup = cgroup.and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("0::"));
            line.map(str::to_owned)
        });
        let Some(cgroup) = cgroup else { return };
        let tier = tiers.of(&cgroup);
        let pod = tiers.pod_of(&cgroup);
        let tasks = fs::read_dir(path.join("task")).into_iter().flatten();
        for task in tasks.flatten().take(most) {
            let task = task.file_name();
            let Some(task) = task.to_str() else { continue };
            let stat = text_of(&process, &format!("task/{task}/stat"), &mut buffer);
            let Some(seen) = stat.and_then(|text| Stat::parse(&text)) else {
                continue;
            };
            // Of those alone that are where they may not be wanted: it costs a file more.
            let status = seen
                .runnable
                .then(|| text_of(&process, &format!("task/{task}/status"), &mut buffer));
            let allowed = status.flatten().and_then(|text| allowed(&text));
            // Kernel threads have a tier of their own, whatever their cgroup.
            let tier = if seen.kernel { Tier::System } else { tier };
            threads.push(Thread {
                tid: seen.tid,
                name: seen.name,
                pod: pod.map_or(String::new(), |(name, _)| name.clone()),
                tier,
                pod_tier: pod.map(|(_, tier)| *tier),
                cpu: seen.cpu,
                runnable: seen.runnable,
                allowed,
                ticks: seen.ticks,
            });
        }
    }
}

/// More than any of these files has.
const BUFFER: usize = 8192;

/// A file below a process's directory, in one read: these are many. Names may hold any bytes.
fn text_of<'a>(
    process: &OwnedFd,
    path: &str,
    buffer: &'a mut [u8; BUFFER],
) -> Option<Cow<'a, str>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(process, path, flags, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]))
}

fn allowed(status: &str) -> Option<CpuSet> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpu_list(line.trim()).ok()
}

/// What is read from `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    tid: u32,
    name: String,
    runnable: bool,
    kernel: bool,
    cpu: usize,
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // A name may hold anything, also parentheses.
        let (head, tail) = text.rsplit_once(')')?;
        let (tid, name) = head.split_once(" (")?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        const PF_KTHREAD: u64 = 0x0020_0000;
        Some(Stat {
            tid: tid.parse().ok()?,
            name: name.replace(char::is_control, " "),
            runnable: fields.first() == Some(&"R"),
            kernel: number(6)? & PF_KTHREAD != 0,
            cpu: number(36)? as usize,
            ticks: number(11)? + number(12)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_tier_is_that_of_the_nearest_named_cgroup() {
        let rule = Rule {
            pattern: "/pods/*/side".into(),
            tier: Tier::Low,
        };
        let pod = PodCgroup {
            cgroup: "/pods/a".into(),
            tier: Tier::High,
        };
        let tiers = Tiers::new(&[rule], &[pod], BTreeMap::new());
        assert_eq!(tiers.of("/pods/a/main"), Tier::High);
        assert_eq!(tiers.of("/pods/a/side/x"), Tier::Low);
        assert_eq!(tiers.of("/pods/b"), Tier::Normal);
        assert_eq!(tiers.of("/"), Tier::Normal);
    }

    #[test]
    fn names_of_any_kind_are_read() {
        let tail = "R 1 1 1 0 -1 4194304 0 0 0 0 12 30 0 0 20 0 1 0 5 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0";
        let stat = Stat::parse(&format!("42 (a) b) {tail}")).unwrap();
        assert_eq!((stat.tid, stat.name.as_str()), (42, "a) b"));
        assert_eq!(
            (stat.runnable, stat.kernel, stat.cpu, stat.ticks),
            (true, false, 3, 42)
        );
        assert_eq!(Stat::parse("garbage"), None);
    }

    #[test]
    fn this_machine_can_be_sampled_bit_by_bit() {
        let mut sampler = Sampler::new(Path::new("/proc"), 5);
        let tiers = Tiers::default();
        assert!((1..=5).contains(&sampler.sample(&tiers).len()));
    }
}
