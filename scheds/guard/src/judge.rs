//! Whether the scheduler does its work: a pure function of what it publishes.

use infera_control::EjectKind;
use infera_heartbeat::{Phase, Vitals};
use std::fmt;
use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of its process until it has attached.
    pub attach: Duration,
    /// Without a beat of its watcher, or with work that its loop has not looked at.
    pub stall: Duration,
    /// In line for a CPU, for the head of a tier's line, when its tier gets none at all.
    pub wait: Duration,
}

/// The same when its tier is served. Ten thousand busy tasks on a few CPUs do wait for
/// seconds, under any scheduler; the timeout of the kernel's own watchdog is 30 s.
const WAIT_SERVED: Duration = Duration::from_secs(20);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has not attached.
    Attach,
    /// No thread of it runs.
    Silent(Duration),
    /// Its loop does not look at work that waits.
    Stuck(Duration),
    /// A runnable task gets no CPU.
    Starved(usize, Duration),
    /// The page cannot be true.
    Nonsense,
}

impl Trouble {
    /// What the eject is called that it leads to.
    pub fn kind(&self) -> EjectKind {
        match self {
            Trouble::Attach => EjectKind::Attach,
            Trouble::Silent(_) => EjectKind::Silent,
            Trouble::Stuck(_) => EjectKind::Stuck,
            Trouble::Starved(..) => EjectKind::Starved,
            Trouble::Nonsense => EjectKind::Nonsense,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Attach => write!(f, "it did not attach in time"),
            Trouble::Silent(time) => {
                write!(f, "it gave no sign of life for {} ms", time.as_millis())
            }
            Trouble::Stuck(time) => write!(
                f,
                "its loop did not look at waiting work for {} ms",
                time.as_millis()
            ),
            Trouble::Starved(tier, time) => write!(
                f,
                "a runnable task of tier {tier} got no CPU for {} ms",
                time.as_millis()
            ),
            Trouble::Nonsense => write!(f, "its heartbeat page holds nonsense"),
        }
    }
}

/// From when on silence counts, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// The scheduler was started.
    pub started: u64,
    /// Since when the guard has run on time. While the machine stood still, no process could give a sign of life.
    pub awake: u64,
    /// Now.
    pub now: u64,
}

/// What is wrong. `None` for the vitals means that they were being written.
pub fn judge(
    limits: &Limits,
    phase: Phase,
    vitals: Option<&Vitals>,
    patience: Patience,
) -> Option<Trouble> {
    let Patience {
        started,
        awake,
        now,
    } = patience;
    let over = |since: u64, limit: Duration| {
        let time = Duration::from_nanos(now.saturating_sub(since.max(awake)));
        (time > limit).then_some(time)
    };
    if phase == Phase::Starting {
        return over(started, limits.attach).map(|_| Trouble::Attach);
    }
    let vitals = vitals?;
    // It may have been written after `now` was read, but not in another age.
    if vitals.beat > now + 1_000_000_000 {
        return Some(Trouble::Nonsense);
    }
    if let Some(time) = over(vitals.beat, limits.stall) {
        return Some(Trouble::Silent(time));
    }
    if phase == Phase::Leaving {
        return None;
    }
    // The vitals are as of the beat: work that still waits has grown older since.
    let unseen = Duration::from_nanos(vitals.unseen);
    if unseen > limits.stall {
        return Some(Trouble::Stuck(unseen));
    }
    let starved = |tier: &usize| {
        let waited = Duration::from_nanos(vitals.waited[*tier]);
        let unserved = Duration::from_nanos(vitals.unserved[*tier]);
        waited.min(unserved) > limits.wait || waited > WAIT_SERVED
    };
    let tier = (0..vitals.waited.len()).find(starved)?;
    Some(Trouble::Starved(
        tier,
        Duration::from_nanos(vitals.waited[tier]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const LIMITS: Limits = Limits {
        attach: Duration::from_secs(30),
        stall: Duration::from_millis(500),
        wait: Duration::from_secs(3),
    };

    fn judged(phase: Phase, vitals: Vitals, now: u64) -> Option<Trouble> {
        judge(
            &LIMITS,
            phase,
            Some(&vitals),
            Patience {
                now,
                ..Patience::default()
            },
        )
    }

    fn beat(at: u64) -> Vitals {
        Vitals {
            beat: at,
            ..Vitals::default()
        }
    }

    #[test]
    fn a_beating_heart_is_well() {
        assert_eq!(judged(Phase::Attached, beat(1000 * MS), 1400 * MS), None);
        assert_eq!(judged(Phase::Attached, beat(1000 * MS), 900 * MS), None);
    }

    #[test]
    fn silence_starvation_and_a_stuck_loop_are_trouble() {
        let silent = judged(Phase::Attached, beat(1000 * MS), 1501 * MS);
        assert_eq!(silent, Some(Trouble::Silent(Duration::from_millis(501))));
        let stuck = Vitals {
            unseen: 600 * MS,
            ..beat(1000 * MS)
        };
        assert!(matches!(
            judged(Phase::Attached, stuck, 1000 * MS),
            Some(Trouble::Stuck(_))
        ));
        assert_eq!(judged(Phase::Leaving, stuck, 1000 * MS), None);
        let mut starved = beat(1000 * MS);
        starved.waited[5] = 3100 * MS;
        assert_eq!(judged(Phase::Attached, starved, 1000 * MS), None, "served");
        starved.unserved[5] = 3200 * MS;
        assert_eq!(
            judged(Phase::Attached, starved, 1000 * MS),
            Some(Trouble::Starved(5, Duration::from_millis(3100)))
        );
    }

    #[test]
    fn a_served_tier_may_wait_longer_but_not_forever() {
        let mut crowd = beat(1000 * MS);
        crowd.waited[3] = 19_000 * MS;
        assert_eq!(judged(Phase::Attached, crowd, 1000 * MS), None);
        crowd.waited[3] = 21_000 * MS;
        assert!(judged(Phase::Attached, crowd, 1000 * MS).is_some());
    }

    #[test]
    fn a_slow_start_is_no_silence() {
        assert_eq!(
            judged(Phase::Starting, Vitals::default(), 29_000 * MS),
            None
        );
        assert_eq!(
            judged(Phase::Starting, Vitals::default(), 30_001 * MS),
            Some(Trouble::Attach)
        );
    }

    #[test]
    fn a_page_full_of_ones_is_nonsense() {
        let ones = Vitals {
            beat: u64::MAX,
            ..Vitals::default()
        };
        assert_eq!(
            judged(Phase::Attached, ones, 1000 * MS),
            Some(Trouble::Nonsense)
        );
    }
}
