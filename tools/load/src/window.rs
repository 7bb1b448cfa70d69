//! The time during which a measurement makes its scheduled events.

use crate::{
    clock::{self, MS},
    signal,
};

/// From the decision on a schedule to its first event: in that time the threads start, which is not
/// what is measured, and which beside a crowd takes a process tens of milliseconds.
pub const LEAD: u64 = 100 * MS;

/// What became of a scheduled event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is due; the time now is this.
    Go(u64),
    /// The window closed before this event could start, because earlier events took too long.
    Missed,
    /// It lies beyond the window, as all later ones do.
    Over,
}

/// An interval of CLOCK_MONOTONIC, which a stop request closes early.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    end: u64,
}

impl Window {
    /// A window that closes at `end`.
    pub fn until(end: u64) -> Self {
        Self { end }
    }

    /// Whether an event wanted at that time belongs to the window.
    pub fn contains(&self, wanted: u64) -> bool {
        wanted < self.end
    }

    /// Sleeps until the event's wanted time.
    pub fn wait(&mut self, wanted: u64) -> Turn {
        if !self.contains(wanted) {
            return Turn::Over;
        }
        if clock::monotonic() >= self.end {
            return Turn::Missed;
        }
        clock::sleep_until(wanted);
        let now = clock::monotonic();
        if signal::stop_requested() {
            self.end = self.end.min(now);
        }
        if self.contains(wanted) {
            Turn::Go(now)
        } else {
            Turn::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MS;

    #[test]
    fn events_are_due_then_missed_then_over() {
        let start = clock::monotonic();
        let mut window = Window::until(start + 20 * MS);
        let Turn::Go(now) = window.wait(start + MS) else {
            panic!("not due");
        };
        assert!(now >= start + MS);
        clock::sleep_until(start + 21 * MS);
        assert_eq!(window.wait(start + 2 * MS), Turn::Missed);
        assert_eq!(window.wait(start + 20 * MS), Turn::Over);
    }
}
