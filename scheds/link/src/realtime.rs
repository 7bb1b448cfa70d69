//! Real-time priority of the guard, of the thread that writes its vitals, and of others for a while.

use std::io;

/// Ahead of every ordinary thread, and behind every other real-time one.
pub const LOWEST: libc::c_int = 1;

/// Gives this thread, and no child of it, the lowest real-time priority.
///
/// # Errors
///
/// The process may not have real-time priorities (CAP_SYS_NICE, RLIMIT_RTPRIO).
pub fn enter() -> io::Result<()> {
    set(0, Some(LOWEST))
}

/// Gives a thread, and no child of it, this real-time priority, or an ordinary one. 0 is this thread.
///
/// # Errors
///
/// There is no such thread, or the process may not change it.
pub fn set(thread: libc::pid_t, priority: Option<libc::c_int>) -> io::Result<()> {
    let policy = match priority {
        Some(_) => libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
        None => libc::SCHED_OTHER,
    };
    let parameters = libc::sched_param {
        sched_priority: priority.unwrap_or(0),
    };
    // SAFETY: the parameters outlive the call.
    match unsafe { libc::sched_setscheduler(thread, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a thread has an ordinary priority.
pub fn is_ordinary(thread: libc::pid_t) -> bool {
    // SAFETY: it touches no memory.
    let policy = unsafe { libc::sched_getscheduler(thread) };
    policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_OTHER
}
