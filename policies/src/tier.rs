//! The five tiers, and the system tier above them.

use std::{fmt, str::FromStr};

/// A CPU quality-of-service class, best first.
///
/// The discriminant is the rank that the BPF overlay uses: lower is better. [`Tier::System`]
/// is always present and holds kernel threads, the scheduler itself and what the
/// configuration names; the other five are what users assign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Kernel threads, the scheduler, node daemons.
    System = 0,
    /// Latency is the product: preempts, and may have whole cores to itself.
    Critical = 1,
    /// Latency matters: preempts, shares its CPUs.
    High = 2,
    /// Everything no rule matches.
    Normal = 3,
    /// Yields to the tiers above, may wait longer.
    Low = 4,
    /// Uses what is idle, with a guaranteed minimum.
    Background = 5,
}

impl Tier {
    /// How many tiers there are, the system tier included.
    pub const COUNT: usize = 6;

    /// Every tier, best first.
    pub const ALL: [Tier; Tier::COUNT] = [
        Tier::System,
        Tier::Critical,
        Tier::High,
        Tier::Normal,
        Tier::Low,
        Tier::Background,
    ];

    /// The rank, 0 (best) to 5: an index into per-tier tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The tier of a rank, or `None` above 5.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Tier> {
        Tier::ALL.get(index).copied()
    }

    /// The name used in configuration, metrics and annotations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tier::System => "system",
            Tier::Critical => "critical",
            Tier::High => "high",
            Tier::Normal => "normal",
            Tier::Low => "low",
            Tier::Background => "background",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no tier's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTier(pub String);

impl fmt::Display for UnknownTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown tier '{}': use system, critical, high, normal, low or background",
            self.0
        )
    }
}

impl std::error::Error for UnknownTier {}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or_else(|| UnknownTier(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranks_round_trip() {
        for (rank, tier) in Tier::ALL.into_iter().enumerate() {
            assert_eq!(tier.index(), rank);
            assert_eq!(Tier::from_index(rank), Some(tier));
            assert_eq!(tier.name().parse(), Ok(tier));
        }
        assert_eq!(Tier::from_index(Tier::COUNT), None);
        assert!("gold".parse::<Tier>().is_err());
    }
}
