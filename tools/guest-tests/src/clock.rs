//! Times since boot as [`Duration`]s, which processes can compare with each other; `Instant` cannot be
//! passed on.

use rustix::thread::{NanosleepRelativeResult, clock_nanosleep_absolute, clock_nanosleep_relative};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// CLOCK_MONOTONIC now.
pub fn monotonic() -> Duration {
    of(clock_gettime(ClockId::Monotonic))
}

/// The CPU time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    of(clock_gettime(ClockId::ThreadCPUTime))
}

/// Sleeps until CLOCK_MONOTONIC reaches `when`.
pub fn sleep_until(when: Duration) {
    let when = timespec(when);
    while clock_nanosleep_absolute(ClockId::Monotonic, &when).is_err() {}
}

/// Sleeps for `time`.
pub fn sleep(time: Duration) {
    let mut left = timespec(time);
    while let NanosleepRelativeResult::Interrupted(rest) =
        clock_nanosleep_relative(ClockId::Monotonic, &left)
    {
        left = rest;
    }
}

fn of(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
