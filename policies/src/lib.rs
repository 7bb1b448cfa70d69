//! Tiers and tier-weighting policies of infera.
//!
//! Pure code: no I/O, no clock, no unsafe, no libbpf. The same policy objects run in the
//! scheduler, in tests and in simulations.
#![forbid(unsafe_code)]

mod policy;
mod tier;

pub use policy::{Decision, Nanos, Policy, TaskView, TierParams, TierTable};
pub use tier::{Tier, UnknownTier};
