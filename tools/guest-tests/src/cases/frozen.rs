//! The machine freezes, three times in a row.

use super::crowds::{hogs, watch_for};
use super::{attach, cgroups};
use crate::clock::sleep;
use crate::freeze::freeze;
use crate::{Context, Findings, Row, Waits};
use anyhow::Result;
use infera_policy::Tier;
use std::time::Duration;

/// No eject: guard and overlay notice that they were late themselves. The wait has the freeze in it, and in this guest, whose time is
/// not exact, the load of the host, too. So its bound finds lost tasks alone.
pub const ROW: Row = Row {
    name: "frozen_machine",
    what: "the machine freezes for 0.9 s, three times",
    wait: Duration::from_secs(10),
    frozen: true,
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
        freeze()?;
    }
    let waits = watch_for(context, &loads, BETWEEN, LOST)?;
    scheduler.expect_steady(&context.node, findings)?;
    drop(loads);
    scheduler.leave(&context.node, findings)?;
    Ok(waits)
}
