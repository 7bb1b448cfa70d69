//! Whether the policy keeps up: judged by how long its calls take.

use infera_policy::Nanos;

/// A call that takes longer holds up the node: a hundred times what the slowest shipped
/// policy needs.
const SLOW: u64 = 1_000_000;

/// This many slow rounds in a row are the policy's fault: no interrupt or real-time task causes them.
const ROUNDS: u32 = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    slow: u32,
}

impl Pace {
    /// A round of `calls` calls took `took`; returns how long a call took if the policy is too
    /// slow. Rounds without a call do not count.
    pub fn too_slow(&mut self, took: Nanos, calls: u64) -> Option<Nanos> {
        let each = took.0.checked_div(calls)?;
        self.slow = if each > SLOW { self.slow + 1 } else { 0 };
        (self.slow >= ROUNDS).then_some(Nanos(each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_not_slowness() {
        let mut pace = Pace::default();
        for round in 0..100 {
            let took = if round % 8 == 0 { 50_000_000 } else { 20_000 };
            assert_eq!(pace.too_slow(Nanos(took), 2), None);
            assert_eq!(pace.too_slow(Nanos(took), 0), None);
        }
    }

    #[test]
    fn a_slow_policy_is_found_after_some_rounds() {
        let mut pace = Pace::default();
        let found = (0..20).find_map(|round| Some((round, pace.too_slow(Nanos(20_000_000), 2)?)));
        assert_eq!(found, Some((ROUNDS - 1, Nanos(10_000_000))));
    }
}
