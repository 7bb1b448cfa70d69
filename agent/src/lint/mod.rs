//! The placement linter: looks whether what was promised of tiers and CPUs is so.

mod check;
mod layer_mismatch;
mod open_reserve;
mod protected_fallback;
mod smt_collision;
mod snapshot;

pub use check::{Check, Verdict};
pub use snapshot::{Sampler, Snapshot, Thread, Tiers};

use std::collections::BTreeMap;

/// Every check, in the order in which they are shown.
pub const CHECKS: [&dyn Check; 4] = [
    &smt_collision::SmtCollision,
    &protected_fallback::ProtectedFallback,
    &open_reserve::OpenReserve,
    &layer_mismatch::LayerMismatch,
];

/// What every check says of a snapshot, by its name.
#[must_use]
pub fn run(snapshot: &Snapshot) -> BTreeMap<&'static str, Verdict> {
    let verdicts = CHECKS.map(|check| (check.id(), check.run(snapshot)));
    verdicts.into()
}
