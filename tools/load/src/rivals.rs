//! What the stock scheduler offers a service by itself: a real-time priority, or a short slice.

use std::io;

use anyhow::{Context, Result};

use crate::clock::US;

/// `struct sched_attr` of the kernel, in its first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Nanoseconds; for ordinary tasks the slice, from Linux 6.12 on.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// For this process, the threads that it starts and the command that it becomes.
pub fn apply(fifo: Option<u32>, fair_slice_us: Option<u64>) -> Result<()> {
    let attr = match (fifo, fair_slice_us) {
        (Some(priority), _) => SchedAttr {
            policy: libc::SCHED_FIFO as u32,
            priority,
            ..SchedAttr::default()
        },
        (None, Some(us)) => SchedAttr {
            policy: libc::SCHED_OTHER as u32,
            runtime: us * US,
            ..SchedAttr::default()
        },
        (None, None) => return Ok(()),
    };
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..attr
    };
    // SAFETY: the kernel reads `size` bytes, which are there and initialised.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("sched_setattr"),
    }
}
