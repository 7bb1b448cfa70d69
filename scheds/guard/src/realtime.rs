//! Out of sched_ext's reach: real-time priority and locked memory.

pub use infera_link::realtime::enter;
use std::io;

/// Locks what is mapped and what will be.
///
/// # Errors
///
/// The memory is more than RLIMIT_MEMLOCK allows a process without CAP_IPC_LOCK.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: it changes no memory's contents.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
