//! A record of several words with one writer, which readers see whole or not at all.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a reader tries: a writer needs some ten stores.
#[cfg(not(loom))]
const ATTEMPTS: usize = 64;
#[cfg(loom)]
const ATTEMPTS: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct SeqLock<const WORDS: usize> {
    /// Odd while a write is under way.
    version: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> SeqLock<WORDS> {
    pub fn new() -> Self {
        SeqLock {
            version: AtomicU32::new(0),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Only ever called by one thread at a time.
    pub fn write(&self, words: [u64; WORDS]) {
        // The writer before may have died in the middle: the next version is odd either way.
        let version = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// `None` when a write was under way at every attempt.
    pub fn read(&self) -> Option<[u64; WORDS]> {
        for _ in 0..ATTEMPTS {
            let before = self.version.load(Ordering::Acquire);
            let words = std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = self.version.load(Ordering::Relaxed);
            if before == after && before.is_multiple_of(2) {
                return Some(words);
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::SeqLock;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_writer_that_died_in_the_middle_does_not_block_the_next() {
        let lock = SeqLock::<2>::new();
        lock.write([1, 2]);
        lock.version.store(3, Ordering::Relaxed);
        assert_eq!(lock.read(), None);
        lock.write([3, 4]);
        assert_eq!(lock.read(), Some([3, 4]));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::SeqLock;
    use loom::{sync::Arc, thread};

    #[test]
    fn a_record_is_seen_whole_or_not_at_all() {
        loom::model(|| {
            let lock = Arc::new(SeqLock::<2>::new());
            let writer = lock.clone();
            let writer = thread::spawn(move || {
                writer.write([1, 1]);
                writer.write([2, 2]);
            });
            if let Some([first, second]) = lock.read() {
                assert_eq!(first, second);
            }
            writer.join().unwrap();
            assert_eq!(lock.read(), Some([2, 2]));
        });
    }
}
