//! Work: a loop that the compiler cannot shorten, in known amounts.

use std::hint::black_box;

use crate::clock::{self, MS, US};

/// Mixes an integer `iterations` times.
#[inline(never)]
pub fn mix(iterations: u64) {
    let mut x = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..iterations {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
    }
    black_box(x);
}

/// How fast this machine mixes.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    per_us: u64,
}

impl Speed {
    /// Measures it, over one millisecond of the calling thread's CPU time.
    pub fn calibrate() -> Self {
        const STEP: u64 = 5_000;
        let start = clock::thread_cpu();
        let mut iterations = 0;
        loop {
            mix(STEP);
            iterations += STEP;
            let used = clock::thread_cpu() - start;
            if used >= MS {
                let per_us = iterations * US / used;
                return Self {
                    per_us: per_us.max(1),
                };
            }
        }
    }

    /// Uses `nanoseconds` of the calling thread's CPU time, reading its clock every 20 us of work.
    pub fn burn(self, nanoseconds: u64) {
        const LOOK: u64 = 20 * US;
        let end = clock::thread_cpu() + nanoseconds;
        loop {
            let left = end.saturating_sub(clock::thread_cpu());
            if left == 0 {
                return;
            }
            mix((left.min(LOOK) * self.per_us / US).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burns_what_is_asked() {
        let speed = Speed::calibrate();
        let start = clock::thread_cpu();
        speed.burn(2 * MS);
        let used = clock::thread_cpu() - start;
        assert!((2 * MS..20 * MS).contains(&used), "{used} ns");
    }
}
