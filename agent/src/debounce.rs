//! Debounce: pod changes within a short time become one assignment.
//!
//! Caller: the agent's loop. A rollout of fifty pods would otherwise be fifty generations, each of which the scheduler reads.

use std::time::{Duration, Instant};

/// When changes are due: when they pause, or when the first one has waited for four pauses.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    pause: Duration,
    longest: Duration,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    /// Waits for a pause of this length, and at most for four of them.
    #[must_use]
    pub fn new(pause: Duration) -> Debounce {
        Debounce {
            pause,
            longest: 4 * pause,
            first: None,
            last: None,
        }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to publish; `None`: nothing has changed.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        Some((first + self.longest).min(last + self.pause))
    }

    /// The changes are published.
    pub fn done(&mut self) {
        (self.first, self.last) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_gathered_until_they_pause_and_for_four_pauses_at_most() {
        let pause = Duration::from_millis(500);
        let mut debounce = Debounce::new(pause);
        assert_eq!(debounce.due(), None);
        let start = Instant::now();
        for n in 0..100 {
            debounce.changed(start + Duration::from_millis(100) * n);
        }
        assert_eq!(debounce.due(), Some(start + 4 * pause));
        debounce.done();
        debounce.changed(start);
        assert_eq!(debounce.due(), Some(start + pause));
    }
}
