//! A cgroup of the guest.

use anyhow::{Context, Result};
use infera_plan::{CpuSet, format_cpu_list};
use std::fs;
use std::path::{Path, PathBuf};

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

    /// Confines its tasks to these CPUs.
    pub fn set_cpus(&self, cpus: &CpuSet) -> Result<()> {
        self.write("cpuset.cpus", &format_cpu_list(cpus))
    }

    /// Sets its share of CPU time under the stock scheduler: 1 to 10000, 100 by default.
    pub fn set_weight(&self, weight: u32) -> Result<()> {
        self.write("cpu.weight", &weight.to_string())
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = self.directory.join(name);
        fs::write(&file, value).with_context(|| format!("writing {}", file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while tasks are in it, which the end of the guest ends.
        let _ = fs::remove_dir(&self.directory);
    }
}
