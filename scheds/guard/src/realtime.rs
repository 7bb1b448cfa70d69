//! Out of sched_ext's reach: real-time priority and locked memory.

use std::io;

/// Locks what is mapped and what will be.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: it changes no memory's contents.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this thread, and no child of it, the lowest real-time priority.
pub fn enter() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters outlive the call.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
