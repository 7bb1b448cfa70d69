//! The table of policies.

use crate::{Deadline, Fifo, Policy, Strict, TierTable, Weighted};

/// What a policy holds beyond the trait's contract; the conformance tests check each claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Tiers that always have enough runnable tasks share the CPU by their weights within 5 %,
    /// as far as `min_share` and `max_wait` do not shift it.
    pub weights: bool,
    /// A tier with enough runnable tasks gets at least its `min_share` of the CPU time that the
    /// policy hands out: within 5 % over a minute, and in any window less at most two of its
    /// slices and one of the longest slices a CPU.
    pub min_share: bool,
    /// A tier with queued tasks is picked from within its `max_wait`, plus one turn of each
    /// other overdue tier.
    pub max_wait: bool,
}

/// One policy: what configuration and command line call it, and how to make one.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name in configuration.
    pub name: &'static str,
    /// One line for help texts.
    pub summary: &'static str,
    /// What it promises.
    pub promises: Promises,
    /// Makes an empty one; the only point at which a policy allocates.
    pub build: fn(&TierTable) -> Box<dyn Policy>,
}

const ALL: Promises = Promises {
    weights: true,
    min_share: true,
    max_wait: true,
};

/// Every policy. To add one: a file under `policies/`, and a line here.
#[rustfmt::skip] // One line a policy.
pub static REGISTRY: &[Entry] = &[
    Entry { name: "weighted", summary: "tiers share the CPU by weight, tasks in a tier by nice", promises: ALL, build: |tiers| Box::new(Weighted::new(tiers)) },
    Entry { name: "strict", summary: "better tiers first, above a guaranteed minimum for each", promises: Promises { weights: false, ..ALL }, build: |tiers| Box::new(Strict::new(tiers)) },
    Entry { name: "deadline", summary: "virtual deadlines, tighter for better tiers, within the weights", promises: ALL, build: |tiers| Box::new(Deadline::new(tiers)) },
    Entry { name: "fifo", summary: "arrival order, whatever the tier", promises: Promises { weights: false, min_share: false, max_wait: false }, build: |tiers| Box::new(Fifo::new(tiers)) },
];

/// The entry called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

/// The names of all policies, in table order.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for name in names() {
            assert_eq!(names().filter(|other| *other == name).count(), 1);
            assert_eq!(find(name).map(|entry| entry.name), Some(name));
        }
        assert!(find("lottery").is_none());
    }
}
