//! Load of known shape, in a process of its own.

use crate::cgroup::Cgroup;
use crate::clock::{monotonic, sleep};
use crate::page::{self, Reading};
use anyhow::{Context, Result, ensure};
use infera_plan::{CpuSet, format_cpu_list};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a load may take to begin: in a starved tier its threads are made slowly.
const BEGIN: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Threads that are wanted.
#[derive(Clone, Debug)]
pub struct Crowd<'a> {
    cgroup: &'a Cgroup,
    name: String,
    threads: usize,
    nice: i32,
    cpus: Option<CpuSet>,
    pattern: Option<(Duration, Duration)>,
}

impl<'a> Crowd<'a> {
    /// Threads that are always busy, called `name-0` and so on.
    #[must_use]
    pub fn hogs(cgroup: &'a Cgroup, name: &str, threads: usize) -> Crowd<'a> {
        Crowd {
            cgroup,
            name: name.to_owned(),
            threads,
            nice: 0,
            cpus: None,
            pattern: None,
        }
    }

    /// With this nice value.
    #[must_use]
    pub fn nice(self, nice: i32) -> Crowd<'a> {
        Crowd { nice, ..self }
    }

    /// On these CPUs alone, by their affinity.
    #[must_use]
    pub fn pinned(self, cpus: impl IntoIterator<Item = usize>) -> Crowd<'a> {
        let cpus = Some(cpus.into_iter().collect());
        Crowd { cpus, ..self }
    }

    /// Sleeping for `sleep` after each `run` of CPU time.
    #[must_use]
    pub fn sleeping(self, run: Duration, sleep: Duration) -> Crowd<'a> {
        let pattern = Some((run, sleep));
        Crowd { pattern, ..self }
    }

    /// Starts them; all threads have begun when this returns, though not all have run.
    pub fn start(self) -> Result<Load> {
        static LOADS: AtomicU32 = AtomicU32::new(0);
        let number = LOADS.fetch_add(1, Ordering::Relaxed);
        let page = std::env::temp_dir().join(format!("load-{}-{number}", std::process::id()));
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("work").arg("--page").arg(&page);
        command.arg("--threads").arg(self.threads.to_string());
        command.arg("--name").arg(&self.name);
        command.arg("--cgroup").arg(self.cgroup.directory());
        command.arg("--nice").arg(self.nice.to_string());
        if let Some(cpus) = &self.cpus {
            command.arg("--cpus").arg(format_cpu_list(cpus));
        }
        if let Some((run, sleep)) = self.pattern {
            command.arg("--run-us").arg(run.as_micros().to_string());
            command.arg("--sleep-us").arg(sleep.as_micros().to_string());
        }
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.with_context(|| format!("starting load {}", self.name))?;
        let mut load = Load {
            name: self.name,
            page,
            child,
        };
        load.await_begin(self.threads)?;
        Ok(load)
    }
}

/// Threads that run; they are killed with the handle.
#[derive(Debug)]
pub struct Load {
    name: String,
    page: PathBuf,
    child: Child,
}

impl Load {
    fn await_begin(&mut self, threads: usize) -> Result<()> {
        let start = monotonic();
        loop {
            if self.page.exists() {
                let readings = self.readings()?;
                let begun = |reading: &Reading| reading.due > Duration::ZERO;
                if readings.len() == threads && readings.iter().all(begun) {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("load {} ended with {status} while starting", self.name);
            }
            ensure!(
                monotonic() - start < BEGIN,
                "load {} has not begun after {} s",
                self.name,
                BEGIN.as_secs()
            );
            sleep(POLL);
        }
    }

    /// What its threads are called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's numbers of its threads.
    pub fn threads(&self) -> Result<Vec<i32>> {
        let directory = format!("/proc/{}/task", self.child.id());
        let mut threads = Vec::new();
        for entry in
            std::fs::read_dir(&directory).with_context(|| format!("reading {directory}"))?
        {
            let task = entry?.path();
            let comm = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            let number = task
                .file_name()
                .and_then(|name| name.to_str()?.parse::<i32>().ok());
            if comm.starts_with(&format!("{}-", self.name)) {
                threads.extend(number);
            }
        }
        Ok(threads)
    }

    /// What each thread has published.
    pub fn readings(&self) -> Result<Vec<Reading>> {
        page::read(&self.page)
    }

    /// The longest time that any of the threads was runnable without a CPU, until now.
    pub fn longest_wait(&self) -> Result<Duration> {
        let readings = self.readings()?;
        let now = monotonic();
        let longest = readings.iter().map(|reading| reading.waited(now)).max();
        Ok(longest.unwrap_or_default())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.page);
    }
}

/// The CPU time that each thread of each load gets in `time` from now on.
pub fn cpu_over(loads: &[&Load], time: Duration) -> Result<Vec<Vec<Duration>>> {
    let all = || -> Result<Vec<_>> { loads.iter().map(|load| load.readings()).collect() };
    let before = all()?;
    sleep(time);
    let after = all()?;
    let used = |(before, after): (Vec<Reading>, Vec<Reading>)| {
        let pairs = before.iter().zip(&after);
        pairs
            .map(|(before, after)| after.cpu - before.cpu)
            .collect()
    };
    Ok(before.into_iter().zip(after).map(used).collect())
}
