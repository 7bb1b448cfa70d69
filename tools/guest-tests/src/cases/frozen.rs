//! The machine stands still, three times in a row.

use super::crowds::{hogs, watch_for};
use super::{attach, cgroups};
use crate::clock::sleep;
use crate::freeze::{STANDS_STILL, stand_still};
use crate::{Context, Findings, Row, Waits};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// No eject: who was away does not judge. The time for which the machine stands still is part of a wait.
pub const ROW: Row = Row {
    name: "machine_stands_still",
    what: "the machine stands still for 0.9 s, three times",
    wait: Duration::from_millis(STANDS_STILL.as_millis() as u64 + 600),
    stopped: true,
    limit: Duration::from_secs(120),
    run,
};

const TIMES: usize = 3;

const BETWEEN: Duration = Duration::from_secs(2);

/// A thread without CPU time for as long, while the machine runs, is lost.
const LOST: Duration = Duration::from_secs(3);

fn run(context: &Context, findings: &mut Findings) -> Result<Waits> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let loads = [
        hogs(&cgroups, Tier::Critical, 1).start()?,
        hogs(&cgroups, Tier::Normal, 4).start()?,
    ];
    for _ in 0..TIMES {
        sleep(BETWEEN);
        stand_still()?;
    }
    let waits = watch_for(context, &loads, BETWEEN, LOST)?;
    scheduler.expect_steady(&context.node, findings)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}
