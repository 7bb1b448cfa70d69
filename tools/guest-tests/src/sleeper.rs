//! A thread that sleeps, wakes at set times, and measures how late it gets a CPU.

use crate::cgroup::Cgroup;
use crate::clock::{monotonic, sleep};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a starved sleeper may take longer.
const GRACE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// How late the wakeups of a sleeper were, in microseconds: what `infera-load wake` reports.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Wakeups {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The latest.
    pub max_us: f64,
    /// How many were measured.
    pub count: u64,
}

/// A sleeper that runs; it is killed with the handle.
#[derive(Debug)]
pub struct Sleeper {
    child: Child,
    until: Duration,
}

impl Sleeper {
    /// Starts one that measures for `time`.
    pub fn start(cgroup: &Cgroup, time: Duration) -> Result<Sleeper> {
        Sleeper::spawn(cgroup, time, &[])
    }

    /// The same, and it goes from CPU to CPU.
    pub fn touring(cgroup: &Cgroup, time: Duration) -> Result<Sleeper> {
        Sleeper::spawn(cgroup, time, &["--tour"])
    }

    fn spawn(cgroup: &Cgroup, time: Duration, more: &[&str]) -> Result<Sleeper> {
        let mut command = Command::new("infera-load");
        command.arg("wake").arg("--cgroup").arg(cgroup.directory());
        command
            .arg("--duration-ms")
            .arg(time.as_millis().to_string())
            .args(more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Ok(Sleeper {
            child: child.context("starting infera-load")?,
            until: monotonic() + time + GRACE,
        })
    }

    /// Waits for its end; fails where that does not come.
    pub fn finish(mut self) -> Result<Wakeups> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if monotonic() > self.until {
                bail!("the sleeper has not ended {} s late", GRACE.as_secs());
            }
            sleep(POLL);
        };
        let stdout = self.child.stdout.take().context("its output is a pipe")?;
        if !status.success() {
            bail!("infera-load wake ended with {status}");
        }
        serde_json::from_reader(stdout).context("reading what infera-load wake reports")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
