//! What one hog does until it is stopped.

use std::sync::atomic::Ordering;

use anyhow::Result;

use super::Hog;
use super::kernel::{Kind, Worker};
use crate::{clock, signal, work};

/// Iterations in one unit of work.
const UNIT: u64 = 10_000;
/// How often in a unit a hog that pauses reads its clock: that is a system call, so not more often.
const LOOKS: u64 = 4;

/// The kinds of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Computes.
    Spin,
    /// Works inside the kernel.
    Kernel(Kind),
    /// Computes for `run` ns of CPU time, then sleeps for `sleep` ns: a hog that looks interactive to a
    /// scheduler.
    Pauses { run: u64, sleep: u64 },
}

impl Hog<'_> {
    /// Does its job until stopped.
    ///
    /// # Errors
    ///
    /// As [`Worker::new`] and [`Worker::unit`] for work inside the kernel, and as [`clock::tighten_timers`] for a hog
    /// that pauses.
    pub fn work(self) -> Result<()> {
        match self.job {
            Job::Spin => self.repeat(|| {
                work::mix(UNIT);
                Ok(())
            }),
            Job::Kernel(kind) => {
                let mut worker = Worker::new(kind)?;
                self.repeat(|| worker.unit())
            }
            Job::Pauses { run, sleep } => {
                clock::tighten_timers()?;
                let mut end = clock::thread_cpu() + run;
                self.repeat(|| {
                    for _ in 0..LOOKS {
                        work::mix(UNIT / LOOKS);
                        if clock::thread_cpu() >= end {
                            clock::sleep_until(clock::monotonic() + sleep);
                            end = clock::thread_cpu() + run;
                        }
                    }
                    Ok(())
                })
            }
        }
    }

    fn repeat(self, mut unit: impl FnMut() -> Result<()>) -> Result<()> {
        let mut units = 0;
        let (mut before, mut longest) = (clock::monotonic(), 0);
        while !signal::stop_requested() {
            unit()?;
            units += 1;
            self.units.store(units, Ordering::Relaxed);
            if let Some(gap) = self.gap {
                // A unit's own time is a fraction of any wait that matters.
                let now = clock::monotonic();
                longest = longest.max(now - before);
                before = now;
                gap.store(longest, Ordering::Relaxed);
            }
        }
        self.cpu.store(clock::thread_cpu(), Ordering::Relaxed);
        Ok(())
    }
}
