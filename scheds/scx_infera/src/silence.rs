//! How long the loop, the tasks that wait and the tiers have been without progress. The guard judges these times.
//!
//! The vitals thread (vitals.rs) reads overlay and heartbeat every 50 ms, and this module computes the times from its readings, without a clock or a
//! thread, so that each rule has a test. Time in which nothing could progress does not count: the machine stood still, or real-time threads had
//! every CPU.

use crate::vitals::PERIOD;
use infera_heartbeat::TIERS;
use std::time::Duration;

/// A reading that comes later than this after its time shows that the vitals thread was kept from running.
const STILL: Duration = Duration::from_millis(200);

/// The state of overlay and loop at one moment. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    pub now: u64,
    /// When the overlay last saw real-time threads on every CPU; 0: never.
    pub realtime_at: u64,
    /// How long the head of each tier's queue in the kernel has waited.
    pub waited: [u64; TIERS],
    /// Since when the oldest task of each tier in the policy's hands has waited; 0: none waits.
    pub oldest: [u64; TIERS],
    /// CPU time of each tier since it was attached, in nanoseconds.
    pub cpu_time: [u64; TIERS],
    /// How long work has waited for the loop.
    pub unseen: u64,
    /// The loop waits for work. One that does not is in a round, which is to end.
    pub rests: bool,
    /// How often the loop has gone round.
    pub rounds: u64,
}

/// Times without progress, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    /// The loop has had work that it has not looked at, or has been at one round.
    pub unseen: u64,
    /// The first task of each tier has waited.
    pub waited: [u64; TIERS],
    /// Each tier has had no CPU time.
    pub unserved: [u64; TIERS],
}

/// The readings before, from which silence is counted.
#[derive(Debug)]
pub struct Silence {
    /// The last reading.
    ran: u64,
    /// Since when each reading has come in time.
    awake: u64,
    /// The loop's last round that was seen, and since when it has been the last.
    round: (u64, u64),
    /// Each tier's CPU time, and when it last grew.
    served: [(u64, u64); TIERS],
}

impl Silence {
    /// Nothing has happened until `now`.
    pub fn since(now: u64) -> Silence {
        Silence {
            ran: now,
            awake: 0,
            round: (0, now),
            served: [(0, now); TIERS],
        }
    }

    /// Takes in the next reading.
    pub fn update(&mut self, seen: &Reading) -> Silent {
        let now = seen.now;
        if Duration::from_nanos(now.saturating_sub(self.ran)) > PERIOD + STILL {
            self.awake = now;
        }
        self.ran = now;
        self.awake = self.awake.max(seen.realtime_at);
        if seen.rests || seen.rounds != self.round.0 {
            self.round = (seen.rounds, now);
        }
        for (served, time) in self.served.iter_mut().zip(seen.cpu_time) {
            if served.0 != time {
                *served = (time, now);
            }
        }
        let lasted = |since| self.lasted(since).as_nanos() as u64;
        let at_most = lasted(0);
        Silent {
            unseen: seen.unseen.min(at_most).max(lasted(self.round.1)),
            waited: std::array::from_fn(|tier| {
                let since = seen.oldest[tier];
                let in_policy = if since == 0 {
                    0
                } else {
                    now.saturating_sub(since)
                };
                seen.waited[tier].max(in_policy).min(at_most)
            }),
            unserved: self.served.map(|(_, since)| lasted(since)),
        }
    }

    /// How long before the last reading `since` was, without the time in which nothing could progress.
    pub fn lasted(&self, since: u64) -> Duration {
        Duration::from_nanos(self.ran.saturating_sub(since.max(self.awake)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const START: u64 = 5_000 * MS;

    /// Takes a reading every 50 ms for `ms`, made by `reading` from the time since the start; returns the last result.
    fn watch(
        silence: &mut Silence,
        from: u64,
        ms: u64,
        reading: impl Fn(u64) -> Reading,
    ) -> Silent {
        let times = (from..=from + ms).step_by(50);
        let results = times.map(|at| {
            silence.update(&Reading {
                now: START + at * MS,
                ..reading(at)
            })
        });
        results.last().expect("one reading at least")
    }

    #[test]
    fn a_loop_that_does_not_end_its_round_is_silent() {
        let mut silence = Silence::since(START);
        let busy = watch(&mut silence, 0, 1_000, |at| Reading {
            rounds: at,
            ..Reading::default()
        });
        assert_eq!(busy.unseen, 0);
        let stuck = watch(&mut silence, 1_050, 950, |_| Reading {
            rounds: 1_000,
            ..Reading::default()
        });
        assert_eq!(stuck.unseen, 1_000 * MS);
        let rests = watch(&mut silence, 2_050, 0, |_| Reading {
            rounds: 1_000,
            rests: true,
            ..Reading::default()
        });
        assert_eq!(rests.unseen, 0, "a loop that rests has nothing to do");
        let asked = watch(&mut silence, 2_100, 0, |_| Reading {
            rests: true,
            unseen: 70 * MS,
            ..Reading::default()
        });
        assert_eq!(asked.unseen, 70 * MS, "and may be late to see that it has");
    }

    #[test]
    fn a_tier_is_unserved_since_its_cpu_time_last_grew() {
        let mut silence = Silence::since(START);
        let silent = watch(&mut silence, 0, 2_000, |at| Reading {
            cpu_time: std::array::from_fn(|tier| if tier == 0 { at } else { at.min(500) }),
            ..Reading::default()
        });
        assert_eq!(silent.unserved[0], 0);
        assert_eq!(silent.unserved[1], 1_500 * MS);
    }

    #[test]
    fn the_longer_of_two_waits_counts() {
        let mut silence = Silence::since(START - 1_000 * MS);
        let mut seen = Reading {
            now: START - 50 * MS,
            ..Reading::default()
        };
        silence.ran = seen.now - 50 * MS;
        seen.waited[2] = 30 * MS;
        seen.oldest[2] = seen.now - 80 * MS;
        seen.waited[3] = 90 * MS;
        let silent = silence.update(&seen);
        assert_eq!(&silent.waited[1..5], [0, 80 * MS, 90 * MS, 0]);
    }

    #[test]
    fn a_machine_that_stood_still_was_not_silent() {
        for stood_still in [300, 2_000, 60_000] {
            let mut silence = Silence::since(START);
            let stuck = |_| Reading {
                unseen: 70_000 * MS,
                waited: [70_000 * MS; TIERS],
                ..Reading::default()
            };
            watch(&mut silence, 0, 500, stuck);
            let woken = watch(&mut silence, 500 + stood_still, 0, stuck);
            assert_eq!(woken, Silent::default());
            let later = watch(&mut silence, 550 + stood_still, 350, stuck);
            let all = 400 * MS;
            assert_eq!(
                (later.unseen, later.waited, later.unserved),
                (all, [all; TIERS], [all; TIERS])
            );
        }
    }

    #[test]
    fn nor_was_one_whose_cpus_real_time_threads_had() {
        let mut silence = Silence::since(START);
        let silent = watch(&mut silence, 0, 3_000, |at| Reading {
            realtime_at: if at < 1_000 {
                0
            } else {
                START + at.min(2_800) * MS
            },
            waited: [3_000 * MS; TIERS],
            ..Reading::default()
        });
        assert_eq!(silent.waited, [200 * MS; TIERS]);
        assert_eq!(silence.lasted(START), Duration::from_millis(200));
    }
}
