//! The threads that use most CPU time, of those that the sampler has seen.

use crate::Thread;
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Clock ticks a second, as user space sees them on every Linux.
const TICKS: f64 = 100.0;
/// A thread that was not seen for this long counts as ended.
const FORGET: Duration = Duration::from_secs(300);
/// How many are remembered.
const MOST: usize = 20_000;

/// A thread and what it uses.
#[derive(Clone, Debug, Serialize)]
pub struct Busy {
    /// As it was seen last.
    #[serde(flatten)]
    pub thread: Thread,
    /// CPUs, between the last two times it was seen.
    pub cpus: f64,
}

/// What was seen of each thread.
#[derive(Default)]
pub struct Busiest {
    seen: HashMap<u32, (Instant, Busy)>,
}

impl Busiest {
    /// These threads were seen.
    pub fn see(&mut self, threads: &[Thread], now: Instant) {
        for thread in threads {
            let before = self.seen.get(&thread.tid);
            let cpus = before.map_or(0.0, |(at, busy)| {
                let ticks = thread.ticks.saturating_sub(busy.thread.ticks) as f64;
                ticks / TICKS / now.duration_since(*at).as_secs_f64().max(0.01)
            });
            let thread = thread.clone();
            if before.is_some() || self.seen.len() < MOST {
                self.seen.insert(thread.tid, (now, Busy { thread, cpus }));
            }
        }
    }

    /// The `count` busiest, and forgets who has ended.
    pub fn top(&mut self, count: usize, now: Instant) -> Vec<Busy> {
        self.seen
            .retain(|_, (at, _)| now.duration_since(*at) < FORGET);
        let mut all: Vec<&Busy> = self.seen.values().map(|(_, busy)| busy).collect();
        all.sort_by(|a, b| {
            b.cpus
                .total_cmp(&a.cpus)
                .then(a.thread.tid.cmp(&b.thread.tid))
        });
        all.into_iter().take(count).cloned().collect()
    }
}
