//! The placement linter: looks whether what was promised of tiers and CPUs is so.
//!
//! It looks at a few threads every second. Where those give rise to suspicion it looks at all, and
//! what it sees there twice, a second apart, is a violation: a thread on its way from one CPU to
//! another is none, but one after the other on a CPU that is to be free is one.

mod check;
mod judge;
mod layer_mismatch;
mod open_reserve;
mod protected_fallback;
mod smt_collision;
mod snapshot;

pub use check::{Check, Finding, Findings, Mark, Verdict};
pub use judge::Judge;
pub use snapshot::Snapshot;

/// Every check, in the order in which they are shown.
pub const CHECKS: [&dyn Check; 4] = [
    &smt_collision::SmtCollision,
    &protected_fallback::ProtectedFallback,
    &open_reserve::OpenReserve,
    &layer_mismatch::LayerMismatch,
];
