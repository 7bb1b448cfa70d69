//! The virtual clocks of the tiers.

use crate::{TaskQueue, Tier, TierTable, guarantee::queued, ledger};

/// Weight at which virtual time passes as fast as CPU time.
const UNIT: i64 = 10_000;

/// How many slices below the common time corrections may take a tier.
const MAX_LAG: i128 = 64;

/// Each tier's virtual runtime: charged CPU time in nanoseconds times 10000 / tier weight.
///
/// Serving the tier with the least virtual runtime gives runnable tiers CPU time in
/// proportion to their weights (weighted fair queueing; Demers, Keshav and Shenker, 1989).
/// 128 bits: at weight 1 on many CPUs, 64 would last only hours.
#[derive(Default)]
pub(crate) struct TierClocks {
    runtime: [i128; Tier::COUNT],
    /// The furthest that the least virtual runtime of a queued tier has come; never falls.
    common: i128,
}

/// `ns` of CPU time as virtual time at a tier weight. `ns` is at most [`ledger::MAX_CHARGE`]
/// on either side of zero, so the product is at most 1e14.
fn scaled(ns: i64, weight: u32) -> i128 {
    i128::from(ns * UNIT / weight_of(weight))
}

fn weight_of(weight: u32) -> i64 {
    i64::from(weight.clamp(1, 10_000))
}

impl TierClocks {
    /// The virtual runtime of `tier`.
    pub(crate) fn runtime(&self, tier: Tier) -> i128 {
        self.runtime[tier.index()]
    }

    /// One slice of `tier` as virtual time.
    pub(crate) fn request(tier: Tier, tiers: &TierTable) -> i128 {
        let params = tiers.get(tier);
        scaled(ledger::slice(params) as i64, params.weight)
    }

    /// Charges `ns` (a correction may be negative) to `tier`.
    pub(crate) fn charge(&mut self, tier: Tier, ns: i64, tiers: &TierTable) {
        let lowest = self.common - MAX_LAG * Self::request(tier, tiers);
        let runtime = &mut self.runtime[tier.index()];
        *runtime = (*runtime + scaled(ns, tiers.get(tier).weight)).max(lowest);
    }

    /// `tier` gets its first queued task: being idle earns it one slice and no more.
    pub(crate) fn wake(&mut self, tier: Tier, tiers: &TierTable) {
        let lowest = self.common - Self::request(tier, tiers);
        let runtime = &mut self.runtime[tier.index()];
        *runtime = (*runtime).max(lowest);
    }

    /// Moves the common time up to the least virtual runtime of the queued tiers, and names
    /// that tier, the better one among equals.
    pub(crate) fn least(&mut self, queue: &TaskQueue) -> Option<Tier> {
        let tier = queued(queue).min_by_key(|tier| self.runtime(*tier))?;
        self.common = self.common.max(self.runtime(tier));
        Some(tier)
    }

    /// The mean of the queued tiers' virtual runtimes, weighted by tier weight: where each
    /// would be, had all of them got exactly their shares.
    pub(crate) fn mean(&self, queue: &TaskQueue, tiers: &TierTable) -> i128 {
        let (mut sum, mut weights) = (0, 0);
        for tier in queued(queue) {
            let weight = i128::from(weight_of(tiers.get(tier).weight));
            // Relative to the common time, so that the products stay small.
            sum += weight * (self.runtime(tier) - self.common);
            weights += weight;
        }
        // Rounded down; the least runtime is then still at or below the mean.
        self.common + sum.div_euclid(weights.max(1))
    }

    /// Converts each tier's distance from the common time from the old weight to the new one,
    /// so that what it is owed or owes stays the same CPU time.
    pub(crate) fn rescale(&mut self, old: &TierTable, new: &TierTable) {
        for tier in Tier::ALL {
            let runtime = &mut self.runtime[tier.index()];
            let from = i128::from(weight_of(old.get(tier).weight));
            let to = i128::from(weight_of(new.get(tier).weight));
            let distance = *runtime - self.common;
            *runtime = self.common + distance.saturating_mul(from) / to;
        }
    }
}
