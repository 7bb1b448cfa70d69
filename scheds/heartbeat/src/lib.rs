//! The page of memory through which the guard watches the scheduler.
//!
//! The guard makes the page and the scheduler inherits it, so neither ever waits for the
//! other: each side only stores and loads. What belongs together is published as one record
//! ([`Vitals`]) that a reader sees whole or not at all; a writer that dies in the middle
//! costs a reader a bounded number of attempts.

// Loom's atomics cannot lie in shared memory: its tests use a `Heartbeat` without a page.
#[cfg(not(loom))]
mod page;
mod seqlock;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use page::{Page, PageError, Shared};
use seqlock::SeqLock;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Tiers with a figure of their own, as in `infera_policy::Tier`.
pub const TIERS: usize = 6;

/// How far the scheduler has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Reading its configuration, loading.
    Starting = 0,
    /// In charge of the node.
    Attached = 1,
    /// Its loop has ended; it is about to detach, or detached.
    Leaving = 2,
}

/// What the scheduler's vitals thread publishes, about every 50 ms. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// When this was written, on `CLOCK_MONOTONIC`.
    pub beat: u64,
    /// How long the loop has had work that it has not looked at, or has been at one round.
    pub unseen: u64,
    /// How long the head of each tier's line has been waiting for a CPU.
    pub waited: [u64; TIERS],
    /// How long ago each tier last used CPU time.
    pub unserved: [u64; TIERS],
    /// Tasks in the policy's hands.
    pub waiting: u64,
    /// Tasks that found the ring to the policy full, since attach.
    pub ring_full: u64,
    /// Page faults that needed the disk, since attach.
    pub major_faults: u64,
    /// 1 when the built-in order decides because the policy misbehaved.
    pub deposed: u64,
}

const WORDS: usize = 6 + 2 * TIERS;

impl Vitals {
    fn to_words(self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[..6].copy_from_slice(&[
            self.beat,
            self.unseen,
            self.waiting,
            self.ring_full,
            self.major_faults,
            self.deposed,
        ]);
        words[6..6 + TIERS].copy_from_slice(&self.waited);
        words[6 + TIERS..].copy_from_slice(&self.unserved);
        words
    }

    fn from_words(words: [u64; WORDS]) -> Self {
        let (mut waited, mut unserved) = ([0; TIERS], [0; TIERS]);
        waited.copy_from_slice(&words[6..6 + TIERS]);
        unserved.copy_from_slice(&words[6 + TIERS..]);
        Vitals {
            beat: words[0],
            unseen: words[1],
            waiting: words[2],
            ring_full: words[3],
            major_faults: words[4],
            deposed: words[5],
            waited,
            unserved,
        }
    }
}

/// What is on the page.
#[derive(Debug)]
pub struct Heartbeat {
    /// The layout: two builds that differ do not understand each other.
    layout: AtomicU64,
    phase: AtomicU32,
    vitals: SeqLock<WORDS>,
    rounds: AtomicU64,
    /// Since when the policy has had its oldest task of each tier, on `CLOCK_MONOTONIC`; 0: it
    /// has none.
    oldest: [AtomicU64; TIERS],
    guard_beat: AtomicU64,
    generation: AtomicU64,
}

/// The layout of this build.
const LAYOUT: u64 = 0x696e_6665_7261_0003;

impl Heartbeat {
    /// A heartbeat that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Heartbeat {
            layout: AtomicU64::new(LAYOUT),
            phase: AtomicU32::new(Phase::Starting as u32),
            vitals: SeqLock::new(),
            rounds: AtomicU64::new(0),
            oldest: std::array::from_fn(|_| AtomicU64::new(0)),
            guard_beat: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    #[cfg(not(loom))]
    fn understood(&self) -> bool {
        self.layout.load(Ordering::Acquire) == LAYOUT
    }

    /// The scheduler's phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Attached,
            _ => Phase::Leaving,
        }
    }

    /// Says how far the scheduler has come. What it wrote before is seen by who sees this.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// Says that the scheduler has attached, unless it is already leaving.
    pub fn begin(&self) {
        let (starting, attached) = (Phase::Starting as u32, Phase::Attached as u32);
        let (done, other) = (Ordering::Release, Ordering::Relaxed);
        let _ = self.phase.compare_exchange(starting, attached, done, other);
    }

    /// Publishes `vitals`. One thread does this.
    pub fn publish(&self, vitals: Vitals) {
        self.vitals.write(vitals.to_words());
    }

    /// What was published last; `None` while the writer writes, or if it died while it wrote.
    pub fn vitals(&self) -> Option<Vitals> {
        self.vitals.read().map(Vitals::from_words)
    }

    /// The loop has gone round; when the oldest task of each tier in its hands came, 0 for none.
    /// One thread does this.
    pub fn round(&self, oldest: [u64; TIERS]) {
        let rounds = self.rounds.load(Ordering::Relaxed);
        self.rounds.store(rounds.wrapping_add(1), Ordering::Relaxed);
        for (tier, since) in self.oldest.iter().zip(oldest) {
            tier.store(since, Ordering::Relaxed);
        }
    }

    /// When the oldest task of each tier in the loop's hands came, 0 for none.
    pub fn oldest(&self) -> [u64; TIERS] {
        std::array::from_fn(|tier| self.oldest[tier].load(Ordering::Relaxed))
    }

    /// How often the loop has gone round.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// The guard is watching at this time.
    pub fn watch(&self, now: u64) {
        self.guard_beat.store(now, Ordering::Relaxed);
    }

    /// When the guard watched last.
    pub fn guard_beat(&self) -> u64 {
        self.guard_beat.load(Ordering::Relaxed)
    }

    /// This generation of the assignment is in force.
    pub fn assigned(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// The generation of the assignment that is in force; 0: none.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Begins anew, for the next scheduler process.
    pub fn reset(&self) {
        self.vitals.write([0; WORDS]);
        self.rounds.store(0, Ordering::Relaxed);
        self.assigned(0);
        for tier in &self.oldest {
            tier.store(0, Ordering::Relaxed);
        }
        self.enter(Phase::Starting);
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: it consists of atomics alone, for which any bit pattern is valid.
#[cfg(not(loom))]
unsafe impl Shared for Heartbeat {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_one_page() {
        let guard = Page::create().unwrap();
        let scheduler = Page::open(guard.fd()).unwrap();
        let vitals = Vitals {
            beat: 7,
            waited: [1, 2, 3, 4, 5, 6],
            unserved: [7, 8, 9, 10, 11, 12],
            deposed: 1,
            ..Vitals::default()
        };
        scheduler.publish(vitals);
        scheduler.begin();
        scheduler.round([0, 0, 5, 0, 0, 9]);
        guard.watch(9);
        scheduler.assigned(3);
        assert_eq!(guard.vitals(), Some(vitals));
        assert_eq!(guard.phase(), Phase::Attached);
        assert_eq!((guard.rounds(), guard.oldest()), (1, [0, 0, 5, 0, 0, 9]));
        assert_eq!((scheduler.guard_beat(), guard.generation()), (9, 3));
        scheduler.enter(Phase::Leaving);
        scheduler.begin();
        assert_eq!(guard.phase(), Phase::Leaving);
        guard.reset();
        assert_eq!(scheduler.vitals(), Some(Vitals::default()));
        assert_eq!(scheduler.phase(), Phase::Starting);
        assert_eq!(scheduler.generation(), 0);
    }

    #[test]
    fn what_is_no_heartbeat_is_refused() {
        let file = tempfile();
        assert!(matches!(Page::open(&file), Err(PageError::Size)));
        rustix::fs::ftruncate(&file, 4096).unwrap();
        assert!(matches!(Page::open(&file), Err(PageError::Layout)));
    }

    fn tempfile() -> std::os::fd::OwnedFd {
        rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    fn vitals(n: u64) -> Vitals {
        Vitals {
            beat: n,
            waited: [n; TIERS],
            ..Vitals::default()
        }
    }

    /// A reader that sees the phase sees the vitals that were published before it.
    #[test]
    fn the_phase_publishes_the_vitals() {
        loom::model(|| {
            let heartbeat = Arc::new(Heartbeat::new());
            let scheduler = heartbeat.clone();
            let writer = thread::spawn(move || {
                scheduler.publish(vitals(1));
                scheduler.begin();
            });
            if heartbeat.phase() == Phase::Attached {
                assert_eq!(heartbeat.vitals(), Some(vitals(1)));
            }
            writer.join().unwrap();
        });
    }
}
