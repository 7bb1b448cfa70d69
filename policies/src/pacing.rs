//! How fast a policy is asked, and for how long its tasks run: the part of a scheduler's loop that decides something.
//!
//! The loop of `scx_infera` holds a [`Pacing`] beside its policy, and so does the simulator of the conformance suite: what the loop does
//! about crowds and about decisions ahead is measured without a kernel.

use crate::{Nanos, TierParams, TierTable};

/// A call that takes longer holds up the node: a hundred times what the slowest shipped
/// policy needs.
const SLOW: u64 = 1_000_000;

/// This many slow rounds in a row are the policy's fault: no interrupt or real-time task causes them.
const SLOW_ROUNDS: u32 = 8;

/// In about which time each waiting task runs once, in milliseconds.
const ROUND_MS: u64 = 1_000;

/// The pace of one policy on a machine.
#[derive(Debug)]
pub struct Pacing {
    cpus: usize,
    tiers: TierTable,
    /// The longest slice in force; none before the first [`Pacing::fit`].
    longest: Option<Nanos>,
    slow: u32,
}

impl Pacing {
    /// For a policy with these parameters on this many CPUs.
    #[must_use]
    pub fn new(tiers: &TierTable, cpus: usize) -> Pacing {
        Pacing {
            cpus: cpus.max(1),
            tiers: *tiers,
            longest: None,
            slow: 0,
        }
    }

    /// The parameters changed: the next [`Pacing::fit`] hands them out.
    pub fn configure(&mut self, tiers: &TierTable) {
        self.tiers = *tiers;
        self.longest = None;
    }

    /// The parameters with slices that fit a crowd of `waiting` tasks, where these differ from those handed out last. Small
    /// crowds, whose slices no bound reaches, cause no change.
    pub fn fit(&mut self, waiting: usize) -> Option<TierTable> {
        let slices = self.tiers.0.iter().map(|tier: &TierParams| tier.slice);
        let configured = slices.max()?;
        let longest = crowd_slice(waiting, self.cpus).min(configured);
        if let Some(now) = self.longest {
            // A crowd that only just became too small for these slices may be larger again in a moment.
            let lasting = crowd_slice(waiting + waiting / 4, self.cpus).min(configured);
            if longest == now || (longest > now && lasting <= now) {
                return None;
            }
        }
        self.longest = Some(longest);
        let mut tiers = self.tiers;
        for tier in &mut tiers.0 {
            tier.slice = tier.slice.min(longest);
        }
        Some(tiers)
    }

    /// How many decisions to make now. `ahead` decided tasks wait for a CPU already, and `woken` tasks of those that came in this
    /// round had slept.
    #[must_use]
    pub fn round(&self, ahead: u64, woken: u64) -> Round {
        let room = (self.cpus as u64)
            .div_ceil(2)
            .saturating_sub(ahead)
            .max(woken)
            .max(1);
        Round {
            room,
            woken,
            asleep: woken,
            decided: 0,
        }
    }

    /// A round of `calls` calls of the policy took `took`; returns how long a call took if the policy is too
    /// slow. Rounds without a call do not count.
    pub fn too_slow(&mut self, took: Nanos, calls: u64) -> Option<Nanos> {
        let each = took.0.checked_div(calls)?;
        self.slow = if each > SLOW { self.slow + 1 } else { 0 };
        (self.slow >= SLOW_ROUNDS).then_some(Nanos(each))
    }
}

/// The decisions of one round of the loop.
///
/// They are kept fresh: no more ahead of the CPUs than half of them can take. But what was woken may take a CPU from a
/// lower tier, so as many as were woken, and as many again where others come first; and always one, so that a task only
/// some CPUs may run does not hold up the others.
#[derive(Debug)]
pub struct Round {
    room: u64,
    woken: u64,
    /// Of the woken ones, how many are not decided on.
    asleep: u64,
    decided: u64,
}

impl Round {
    /// Whether the policy is asked for another decision.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.decided < self.room || (self.asleep > 0 && self.decided < self.room + self.woken)
    }

    /// A decision was sent, about a task that was `woken` or not.
    pub fn sent(&mut self, woken: bool) {
        self.decided += 1;
        if woken {
            self.asleep = self.asleep.saturating_sub(1);
        }
    }

    /// How many decisions were sent.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided
    }
}

/// The longest slice, a power of two in ms, with which each of `waiting` tasks runs once in about [`ROUND_MS`]
/// on `cpus` CPUs. Below a tick it would change nothing.
fn crowd_slice(waiting: usize, cpus: usize) -> Nanos {
    let ms = ROUND_MS * cpus as u64 / (waiting as u64).max(1);
    let exponent = ms.max(1).ilog2();
    Nanos::from_millis(1 << exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowds_get_shorter_slices() {
        assert!(crowd_slice(0, 4) >= Nanos::from_millis(2_048));
        assert_eq!(crowd_slice(16, 4), Nanos::from_millis(128));
        assert_eq!(crowd_slice(400, 4), Nanos::from_millis(8));
        assert_eq!(crowd_slice(100_000, 4), Nanos::from_millis(1));
    }

    #[test]
    fn parameters_are_handed_out_when_they_change() {
        let tiers = TierTable::default();
        let mut pacing = Pacing::new(&tiers, 4);
        assert_eq!(pacing.fit(0), Some(tiers));
        assert_eq!(pacing.fit(16), None, "no slice is as long");
        let fitted = pacing.fit(2_000).expect("2 ms");
        assert!(
            fitted
                .0
                .iter()
                .all(|tier| tier.slice <= Nanos::from_millis(2))
        );
        assert_eq!(pacing.fit(2_000), None);
        assert_eq!(pacing.fit(1_900), None, "2,000 may be back soon");
        assert!(pacing.fit(4_000).is_some() && pacing.fit(3_900).is_none());
        assert_eq!(pacing.fit(1_500), Some(fitted));
        pacing.configure(&tiers);
        assert_eq!(pacing.fit(2_000), Some(fitted), "after a change, again");
    }

    #[test]
    fn a_round_makes_as_many_decisions_as_the_cpus_need_soon() {
        let pacing = Pacing::new(&TierTable::default(), 8);
        let count = |ahead, woken, of_them: &[bool]| {
            let mut round = pacing.round(ahead, woken);
            for woken in of_them {
                if !round.wants() {
                    break;
                }
                round.sent(*woken);
            }
            round.decided()
        };
        assert_eq!(count(0, 0, &[false; 20]), 4);
        assert_eq!(count(3, 0, &[false; 20]), 1);
        assert_eq!(count(9, 0, &[false; 20]), 1, "always one");
        assert_eq!(count(9, 6, &[true; 20]), 6, "as many as were woken");
        assert_eq!(count(9, 6, &[false; 20]), 12, "and as many again");
    }

    #[test]
    fn an_interruption_is_not_slowness() {
        let mut pacing = Pacing::new(&TierTable::default(), 4);
        for round in 0..100 {
            let took = if round % 8 == 0 { 50_000_000 } else { 20_000 };
            assert_eq!(pacing.too_slow(Nanos(took), 2), None);
            assert_eq!(pacing.too_slow(Nanos(took), 0), None);
        }
    }

    #[test]
    fn a_slow_policy_is_found_after_some_rounds() {
        let mut pacing = Pacing::new(&TierTable::default(), 4);
        let found = (0..20).find_map(|round| Some((round, pacing.too_slow(Nanos(20_000_000), 2)?)));
        assert_eq!(found, Some((SLOW_ROUNDS - 1, Nanos(10_000_000))));
    }
}
