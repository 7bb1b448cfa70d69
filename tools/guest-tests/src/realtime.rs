//! SCHED_FIFO for the calling thread.
//!
//! What measures, times out or starts load must not wait in the queues that are being judged.

use anyhow::{Context, Result};

/// Enters SCHED_FIFO at that priority. What the thread starts from then on is an ordinary task again.
pub fn enter(priority: u8) -> Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority.into(),
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters outlive the call, which writes no memory of ours.
    if unsafe { libc::sched_setscheduler(0, policy, &parameters) } != 0 {
        return Err(std::io::Error::last_os_error()).context("entering SCHED_FIFO");
    }
    Ok(())
}
