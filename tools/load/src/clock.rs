//! The clocks in nanoseconds, and sleeping to an absolute time.

use anyhow::{Context, Result};

use crate::signal;

/// One microsecond in nanoseconds.
pub const US: u64 = 1_000;
/// One millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
const SEC: u64 = 1_000_000_000;

/// The longest single sleep: how soon any thread notices a stop.
const SLICE: u64 = SEC;

/// CLOCK_MONOTONIC now.
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The CPU time the calling thread has used.
pub fn thread_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid timespec to write to.
    let rc = unsafe { libc::clock_gettime(clock, &mut ts) };
    assert_eq!(rc, 0, "clock {clock} exists on every Linux");
    ts.tv_sec as u64 * SEC + ts.tv_nsec as u64
}

/// Sleeps until CLOCK_MONOTONIC reaches `when`, or a stop is requested.
pub fn sleep_until(when: u64) {
    while !signal::stop_requested() {
        let now = monotonic();
        if now >= when {
            return;
        }
        let target = when.min(now + SLICE);
        let ts = libc::timespec {
            tv_sec: (target / SEC) as libc::time_t,
            tv_nsec: (target % SEC) as libc::c_long,
        };
        // SAFETY: `ts` is a valid timespec; an absolute sleep has no remainder to write.
        let rc = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &ts,
                std::ptr::null_mut(),
            )
        };
        if rc == 0 && target == when {
            return;
        }
        assert!(rc == 0 || rc == libc::EINTR, "clock_nanosleep: error {rc}");
    }
}

/// Removes the 50 us by which the kernel may delay the timers of this thread, and of those it
/// starts from now on.
///
/// # Errors
///
/// A seccomp filter refuses PR_SET_TIMERSLACK; the kernel itself never does.
pub fn tighten_timers() -> Result<()> {
    // SAFETY: PR_SET_TIMERSLACK takes an integer and touches no memory.
    let rc = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    if rc != 0 {
        return Err(std::io::Error::last_os_error()).context("setting the timer slack");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_no_shorter_than_asked() {
        let when = monotonic() + 2 * MS;
        sleep_until(when);
        assert!(monotonic() >= when);
    }
}
