//! Tests of scheduling that run inside a guest.
//!
//! Callers: `cargo xtask test` boots a guest per [`Test`], `cargo xtask faults` runs every [`Row`], and
//! `xtask vm run -- infera-guest-tests NAME` runs one test by hand. The registry is here, so that the
//! program in the guest and xtask outside have one list.
//!
//! A test holds four handles: [`Node`], [`Cgroup`], [`Scheduler`] and [`Load`]. Each undoes in its `drop`
//! what it did. A test prints every figure that it judges, and goes on after a wrong one, so that one run
//! shows all of them.

mod cases;
mod cgroup;
mod clock;
mod findings;
mod freeze;
mod load;
mod node;
mod page;
mod random;
mod realtime;
mod scheduler;
mod sleeper;
mod trace;
mod worker;

pub use cgroup::Cgroup;
pub use findings::{Findings, failure};
pub use freeze::{FREEZE_LINE, FROZEN};
pub use load::{Crowd, Load};
pub use node::Node;
pub use realtime::{Children, enter as enter_realtime};
pub use scheduler::{Policy, Scheduler, Unguarded};
pub use sleeper::{Sleeper, Wakeups};
pub use worker::{Args as WorkerArgs, run as work};

use anyhow::Result;
use std::time::Duration;

/// What a test runs with.
#[derive(Debug)]
pub struct Context {
    /// The guest.
    pub node: Node,
    /// What schedules it.
    pub policy: Policy,
}

/// A guest test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// What `cargo xtask test --guest` calls it.
    pub name: &'static str,
    /// Sockets, cores in each and threads in each core, where four plain CPUs are not what it needs.
    pub topology: Option<[u32; 3]>,
    /// Virtual microseconds in which QEMU visits every CPU at least once. Tests of latency need few.
    pub turn_us: Option<u32>,
    /// Virtual time after which the test has hung.
    pub limit: Duration,
    /// Runs it: an error is a test that could not be carried out.
    pub run: fn(&Context, &mut Findings) -> Result<()>,
}

/// A row of the fault matrix that is carried out here.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What `cargo xtask faults` calls it.
    pub name: &'static str,
    /// What the table says.
    pub what: &'static str,
    /// No task may wait longer.
    pub wait: Duration,
    /// Whether the row has its machine frozen from outside, by [`FREEZE_LINE`].
    pub frozen: bool,
    /// Virtual time after which the row has hung.
    pub limit: Duration,
    /// Runs it.
    pub run: fn(&Context, &mut Findings) -> Result<Waits>,
}

/// How long tasks waited in a row of the fault matrix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// The longest time that any thread of the load was runnable and had no CPU.
    pub longest: Duration,
    /// The latest wakeup of the Critical service, where the row has one.
    pub latest_wakeup: Option<Duration>,
    /// Threads that got no CPU time at all over the last seconds.
    pub lost: usize,
    /// Whether sched_ext was enabled at the end.
    pub enabled: bool,
}

pub use cases::{ROWS, TESTS};

/// The test of that name.
#[must_use]
pub fn test(name: &str) -> Option<&'static Test> {
    TESTS.iter().find(|test| test.name == name)
}

/// The row of that name.
#[must_use]
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
