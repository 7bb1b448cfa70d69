//! Tiers and tier-weighting policies of infera.
//!
//! Pure code: no I/O, no clock, no unsafe, no libbpf. The same policy objects run in the
//! scheduler, in tests and in simulations.
//!
//! A new policy is one file under `policies/` and one line in [`REGISTRY`]. The scheduler holds
//! it in a [`Contained`], which goes on when a policy fails; [`Sabotage`] makes one fail.
#![forbid(unsafe_code)]

mod arrivals;
mod clock;
mod contained;
mod fault;
mod guarantee;
mod ledger;
mod pacing;
mod policies;
mod policy;
mod queue;
mod registry;
mod sabotage;
mod shares;
mod slab;
mod task_time;
#[cfg(test)]
mod testing;
mod tier;

pub use contained::{Contained, MAX_SLICE, MIN_SLICE, OVERDUE, Retired};
pub use fault::{Fault, FaultKind, Message};
pub use ledger::SHORTEST_SLICE;
pub use pacing::{Pacing, Round};
pub use policies::{Deadline, Fifo, Strict, Weighted};
pub use policy::{Decision, Nanos, Policy, Slept, TaskView, TierParams, TierTable, WakeRule};
pub use queue::{CAPACITY, TaskQueue};
pub use registry::{Entry, Promises, REGISTRY, find, names};
pub use sabotage::{Drill, SPIN, Sabotage, UnknownDrill};
pub use shares::{Group, Share, Shares};
pub use tier::{Tier, UnknownTier};
