//! A thread that goes from CPU to CPU, and may go on wherever it is woken.
//!
//! A thread that is never moved measures the one CPU that it began on: its share of interrupts, its
//! siblings, and where CPUs are simulated in turns, its place in the round.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where it may go, and where it goes next.
#[derive(Debug)]
pub struct Tour {
    allowed: CpuSet,
    stops: Vec<usize>,
    next: usize,
}

impl Tour {
    /// Over the CPUs that this thread may use, from the `first`th of them on.
    ///
    /// # Errors
    ///
    /// The node has more CPUs than the 1024 of a [`CpuSet`].
    pub fn new(first: usize) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let stops = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        Ok(Self {
            stops: stops.collect(),
            allowed,
            next: first,
        })
    }

    /// To the next CPU.
    ///
    /// # Errors
    ///
    /// The CPU went offline, or the cgroup's cpuset has lost it since [`Tour::new`].
    pub fn go(&mut self) -> Result<()> {
        let Some(stop) = self.stops.get(self.next % self.stops.len().max(1)) else {
            return Ok(());
        };
        self.next += 1;
        let mut there = CpuSet::new();
        there.set(*stop);
        sched_setaffinity(None, &there).context("sched_setaffinity")?;
        sched_setaffinity(None, &self.allowed).context("sched_setaffinity")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_is_a_stop_and_none_is_kept() {
        let before = sched_getaffinity(None).unwrap();
        let mut tour = Tour::new(1).unwrap();
        assert_eq!(tour.stops.len(), before.count() as usize);
        for _ in 0..=tour.stops.len() {
            tour.go().unwrap();
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
