//! A cgroup of the guest.

use anyhow::{Context, Result};
use infera_plan::{CpuSet, format_cpu_list};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup that was made for a test; it is removed with the handle, if nothing is left in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup of that name below the root, or takes the one that is there.
    pub fn create(name: &str) -> Result<Cgroup> {
        let directory = Path::new(ROOT).join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating cgroup {}", directory.display()))?;
        Ok(Cgroup { directory })
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// As rules name it: without the mount point.
    #[must_use]
    pub fn pattern(&self) -> String {
        let below = self.directory.strip_prefix(ROOT).unwrap_or(&self.directory);
        format!("/{}", below.display())
    }

    /// Makes a cgroup in it, and gives both the cpu controller. No task may be in it then.
    pub fn child(&self, name: &str) -> Result<Cgroup> {
        for directory in [Path::new(ROOT), &self.directory] {
            let file = directory.join("cgroup.subtree_control");
            fs::write(&file, "+cpu").with_context(|| format!("writing {}", file.display()))?;
        }
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating cgroup {}", directory.display()))?;
        Ok(Cgroup { directory })
    }

    /// Limits it to a quota of CPU time in each period; `None`: no limit.
    pub fn limit(&self, limit: Option<(Duration, Duration)>) -> Result<()> {
        let text = match limit {
            Some((quota, period)) => format!("{} {}", quota.as_micros(), period.as_micros()),
            None => "max".to_owned(),
        };
        self.write("cpu.max", &text)
    }

    /// Takes every process of another cgroup.
    pub fn take_all_from(&self, other: &Cgroup) -> Result<()> {
        let file = other.directory.join("cgroup.procs");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        text.lines()
            .try_for_each(|pid| self.write("cgroup.procs", pid))
    }

    /// The start of each of its tasks' `stat`: number, name and state.
    pub fn tasks(&self) -> Result<Vec<String>> {
        let file = self.directory.join("cgroup.threads");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let stat = |task: &str| {
            let stat = fs::read_to_string(format!("/proc/{task}/stat")).unwrap_or_default();
            stat.split(' ').take(3).collect::<Vec<_>>().join(" ")
        };
        Ok(text.lines().map(stat).collect())
    }

    /// Removes it, which fails while tasks are in it.
    pub fn remove(&self) -> Result<()> {
        fs::remove_dir(&self.directory)
            .with_context(|| format!("removing {}", self.directory.display()))
    }

    /// Writes one of its files.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let file = self.directory.join(file);
        fs::write(&file, text).with_context(|| format!("writing {text} to {}", file.display()))
    }

    /// Whether the line `key 1` is among its events.
    pub fn is(&self, key: &str) -> Result<bool> {
        Ok(self.figure("cgroup.events", key)? == 1)
    }

    /// The CPU time that it has used, by the kernel's account.
    pub fn usage(&self) -> Result<Duration> {
        Ok(Duration::from_micros(
            self.figure("cpu.stat", "usage_usec")?,
        ))
    }

    /// A figure of one of its files of keys and numbers.
    fn figure(&self, file: &str, key: &str) -> Result<u64> {
        let file = self.directory.join(file);
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut words = text.split_whitespace();
        words.find(|word| *word == key);
        let number = words.next().and_then(|word| word.parse().ok());
        number.with_context(|| format!("{} has no {key}", file.display()))
    }

    /// Confines its tasks to these CPUs.
    pub fn set_cpus(&self, cpus: &CpuSet) -> Result<()> {
        self.write("cpuset.cpus", &format_cpu_list(cpus))
    }

    /// Sets its share of CPU time under the stock scheduler: 1 to 10000, 100 by default.
    pub fn set_weight(&self, weight: u32) -> Result<()> {
        self.write("cpu.weight", &weight.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while tasks are in it, which the end of the guest ends.
        let _ = fs::remove_dir(&self.directory);
    }
}
