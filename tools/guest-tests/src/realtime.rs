//! SCHED_FIFO for the calling thread.
//!
//! What measures, times out or starts load must not wait in the queues that are being judged.

use anyhow::{Context, Result};

/// What the threads and processes are that a real-time thread starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// Of the default scheduling class.
    Ordinary,
    /// Real-time like the thread that starts them.
    Realtime,
}

/// Enters SCHED_FIFO at that priority.
pub fn enter(priority: u8, children: Children) -> Result<()> {
    let reset = match children {
        Children::Ordinary => libc::SCHED_RESET_ON_FORK,
        Children::Realtime => 0,
    };
    set(libc::SCHED_FIFO | reset, priority).context("entering SCHED_FIFO")
}

/// Becomes an ordinary thread, at the nice value that it has.
pub fn leave() -> Result<()> {
    set(libc::SCHED_OTHER, 0).context("leaving SCHED_FIFO")
}

/// Gives another thread this policy.
pub fn set_of(thread: i32, policy: libc::c_int, priority: u8) -> Result<()> {
    set_policy(thread, policy, priority).with_context(|| format!("changing the policy of {thread}"))
}

fn set(policy: libc::c_int, priority: u8) -> std::io::Result<()> {
    set_policy(0, policy, priority)
}

fn set_policy(thread: i32, policy: libc::c_int, priority: u8) -> std::io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority.into(),
    };
    // SAFETY: the parameters outlive the call, which writes no memory of ours.
    match unsafe { libc::sched_setscheduler(thread, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
