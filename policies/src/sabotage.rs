//! A policy that goes wrong on purpose, to drill what must hold when one does.

use crate::{Decision, Nanos, Policy, Slept, TaskView, Tier, TierTable, WakeRule};
use std::{fmt, hint::black_box, str::FromStr};

/// How many iterations of its busy loop a [`Drill::Slow`] policy makes for a decision by default:
/// about 10 ms. An iteration is nine instructions on x86-64, which take some 4 ns; 9 ns where a
/// simulated clock counts instructions.
pub const SPIN: u64 = 1_500_000;

/// What a [`Drill::Grow`] policy leaks at each decision.
const LEAK: usize = 1 << 20;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Panics.
    Panic,
    /// Never returns.
    Loop,
    /// Takes about 10 ms for each decision.
    Slow,
    /// Answers tasks that it was never given.
    Unknown,
    /// Answers slices of nothing and of 584 years, by turns.
    Slice,
    /// Answers nothing while tasks wait.
    Hoard,
    /// Leaks 1 MiB at each decision.
    Grow,
}

impl Drill {
    /// Every drill.
    pub const ALL: [Drill; 7] = [
        Drill::Panic,
        Drill::Loop,
        Drill::Slow,
        Drill::Unknown,
        Drill::Slice,
        Drill::Hoard,
        Drill::Grow,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Drill::Panic => "panic",
            Drill::Loop => "loop",
            Drill::Slow => "slow",
            Drill::Unknown => "unknown",
            Drill::Slice => "slice",
            Drill::Hoard => "hoard",
            Drill::Grow => "grow",
        }
    }

    /// One line for help texts.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Drill::Panic => "panics at a decision",
            Drill::Loop => "never returns from a decision",
            Drill::Slow => "takes about 10 ms for each decision",
            Drill::Unknown => "answers tasks that it was never given",
            Drill::Slice => "answers slices of 0 and of 584 years by turns",
            Drill::Hoard => "answers nothing while tasks wait",
            Drill::Grow => "leaks 1 MiB at each decision",
        }
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no drill's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDrill(pub String);

impl fmt::Display for UnknownDrill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Drill::ALL.map(Drill::name).join(", ");
        write!(f, "unknown drill '{}': use one of {names}", self.0)
    }
}

impl std::error::Error for UnknownDrill {}

impl FromStr for Drill {
    type Err = UnknownDrill;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Drill::ALL
            .into_iter()
            .find(|drill| drill.name() == name)
            .ok_or_else(|| UnknownDrill(name.to_owned()))
    }
}

/// A policy that behaves as the one inside for a number of decisions, and then fails its
/// drill at every further one.
///
/// For drills only. What should happen: [`Contained`](crate::Contained) deposes it at once
/// (panic, unknown, hoard), or hands out other slices (slice); the loop notices (slow); who
/// watches the process notices (loop, grow: the scheduler's allocator is empty after some 20
/// decisions, and that aborts).
pub struct Sabotage {
    inner: Box<dyn Policy>,
    drill: Drill,
    after: u64,
    spin: u64,
    /// Decisions so far.
    decided: u64,
}

impl Sabotage {
    /// `inner`, which fails the `drill` once it has made `after` decisions.
    #[must_use]
    pub fn new(inner: Box<dyn Policy>, drill: Drill, after: u64) -> Self {
        Sabotage {
            inner,
            drill,
            after,
            spin: SPIN,
            decided: 0,
        }
    }

    /// With `turns` of the busy loop, instead of [`SPIN`], for a decision of [`Drill::Slow`].
    #[must_use]
    pub fn with_spin(mut self, turns: u64) -> Self {
        self.spin = turns;
        self
    }

    fn honest(&mut self, now: Nanos) -> Option<Decision> {
        let decision = self.inner.pick(now)?;
        self.decided += 1;
        Some(decision)
    }
}

/// Keeps the CPU busy; a chain of multiplications, so that the time does not depend much on
/// how many instructions a CPU executes at once.
fn spin(turns: u64) {
    let mut chain = 1_u64;
    for turn in 0..turns {
        chain = black_box(chain).wrapping_mul(turn | 1);
    }
    black_box(chain);
}

impl Policy for Sabotage {
    fn configure(&mut self, tiers: &TierTable) {
        self.inner.configure(tiers);
    }

    fn enqueue(&mut self, task: TaskView, now: Nanos) -> bool {
        self.inner.enqueue(task, now)
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        // With nothing queued there is no decision to fail at.
        if self.decided < self.after || self.inner.is_empty() {
            return self.honest(now);
        }
        match self.drill {
            Drill::Panic => panic!("a drill, after {} decisions", self.decided),
            // Centuries.
            Drill::Loop => spin(u64::MAX),
            Drill::Slow => spin(self.spin),
            Drill::Hoard => return None,
            Drill::Grow => _ = black_box(vec![1_u8; LEAK].leak()),
            Drill::Unknown | Drill::Slice => {}
        }
        let mut decision = self.honest(now)?;
        match self.drill {
            // Negative, which no pid is.
            Drill::Unknown => decision.task.pid = !decision.task.pid,
            Drill::Slice if self.decided.is_multiple_of(2) => decision.slice = Nanos(0),
            Drill::Slice => decision.slice = Nanos(u64::MAX),
            _ => {}
        }
        Some(decision)
    }

    fn wakeups(&self, tier: Tier) -> Option<WakeRule> {
        self.inner.wakeups(tier)
    }

    fn slept(&mut self, tier: Tier, slept: Slept) {
        self.inner.slept(tier, slept);
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contained, Fifo, MAX_SLICE, MIN_SLICE, testing::task};
    use std::time::{Duration, Instant};

    const NOW: Nanos = Nanos(1_000_000_000);

    fn sabotage(drill: Drill) -> Sabotage {
        Sabotage::new(Box::new(Fifo::new(&TierTable::default())), drill, 2)
    }

    /// Five tasks, five decisions in containment; what became of it.
    fn run(policy: Sabotage) -> (Vec<Decision>, Contained) {
        let mut contained = Contained::new(Box::new(policy), "fifo", &TierTable::default());
        for pid in 1..=5 {
            assert!(contained.enqueue(task(pid), NOW));
        }
        let decisions: Vec<_> = std::iter::from_fn(|| contained.pick(NOW))
            .take(10)
            .collect();
        let pids: Vec<_> = decisions.iter().map(|found| found.task.pid).collect();
        assert_eq!(pids, [1, 2, 3, 4, 5]);
        (decisions, contained)
    }

    #[test]
    fn names_round_trip() {
        for drill in Drill::ALL {
            assert_eq!(drill.to_string().parse(), Ok(drill));
            assert!(!drill.summary().is_empty());
        }
        let error = "fire".parse::<Drill>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown drill 'fire': use one of panic, loop, slow, unknown, slice, hoard, grow"
        );
    }

    #[test]
    fn honest_until_its_time_comes() {
        for drill in Drill::ALL {
            let mut policy = sabotage(drill);
            assert_eq!(policy.pick(NOW), None);
            for pid in 1..=2 {
                assert!(policy.enqueue(task(pid), NOW));
                assert_eq!(policy.pick(NOW).map(|found| found.task), Some(task(pid)));
            }
            assert_eq!(policy.pick(NOW), None, "nothing to fail at");
        }
    }

    #[test]
    fn the_drills_that_depose() {
        for (drill, what) in [
            (Drill::Panic, "panicked in pick: a drill, after 2 decisions"),
            (
                Drill::Unknown,
                "answered task -4, never given to it or decided before",
            ),
            (Drill::Hoard, "answered nothing while 3 tasks wait"),
        ] {
            let (_, contained) = run(sabotage(drill));
            let fault = contained.fault().map(ToString::to_string);
            assert_eq!(fault, Some(format!("policy fifo {what}")));
        }
    }

    #[test]
    fn the_drills_that_do_not() {
        for drill in [Drill::Slice, Drill::Grow] {
            let (decisions, contained) = run(sabotage(drill));
            assert_eq!(contained.fault(), None);
            if drill == Drill::Slice {
                let slices: Vec<_> = decisions[2..].iter().map(|found| found.slice).collect();
                assert_eq!(slices, [MAX_SLICE, MIN_SLICE, MAX_SLICE]);
                assert_eq!(contained.clamped(), 3);
            }
        }
    }

    #[test]
    fn spinning_is_not_optimised_away() {
        // The same code as for Drill::Loop. No CPU multiplies in a third of a nanosecond.
        let started = Instant::now();
        let (_, contained) = run(sabotage(Drill::Slow).with_spin(1_000_000));
        assert!(started.elapsed() > Duration::from_micros(300));
        assert_eq!(contained.fault(), None);
    }
}
