//! What the unit tests share.

use crate::{Nanos, TaskView, Tier};

/// A task that never ran.
pub(crate) fn task(pid: i32) -> TaskView {
    TaskView {
        pid,
        enq_cnt: 0,
        tier: Tier::Normal,
        weight: 100,
        ran: Nanos(0),
        vtime: 0,
        clock: 0,
        picked: false,
        cpu: 0,
        cpus_allowed: 1,
        flags: 0,
    }
}
