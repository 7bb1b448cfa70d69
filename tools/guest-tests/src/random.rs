//! Pseudo-random numbers, the same in each run.

/// Knuth's MMIX generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Those of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
