//! The page that a load's threads write and the test reads: a file, one slot per thread.
//!
//! Shared memory, because a write call would take the file's lock: a thread preempted while it holds that
//! lock would stop the others, and the load would measure itself.

use anyhow::{Context, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One thread's figures, in nanoseconds; a cache line, so that threads do not slow each other.
#[repr(C, align(64))]
struct Slot {
    cpu: AtomicU64,
    longest_wait: AtomicU64,
    due: AtomicU64,
}

const SLOT: usize = size_of::<Slot>();

/// What a thread has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// CPU time that it has used.
    pub cpu: Duration,
    /// The longest time that it was runnable without a CPU, up to `due`.
    pub longest_wait: Duration,
    /// CLOCK_MONOTONIC when it last had a CPU, or when its sleep ends; zero before it has begun.
    pub due: Duration,
}

impl Reading {
    /// The longest wait, the one that goes on at `now` included.
    pub fn waited(&self, now: Duration) -> Duration {
        self.longest_wait.max(now.saturating_sub(self.due))
    }
}

/// The writers' side.
#[derive(Debug)]
pub struct Page {
    base: NonNull<Slot>,
    threads: usize,
}

// SAFETY: the mapping belongs to the value, not to a thread, and only atomics are reached through it.
unsafe impl Sync for Page {}

impl Page {
    /// Makes the file, all zero.
    pub fn create(path: &Path, threads: usize) -> Result<Page> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .with_context(|| format!("creating {}", path.display()))?;
        file.set_len((threads * SLOT) as u64)
            .with_context(|| format!("sizing {}", path.display()))?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
        let base = unsafe { mmap(ptr::null_mut(), threads * SLOT, protection, flags, &file, 0) };
        let base = base.with_context(|| format!("mapping {}", path.display()))?;
        let base = NonNull::new(base.cast()).context("the mapping is at address 0")?;
        Ok(Page { base, threads })
    }

    /// Publishes a thread's figures; each thread writes its own slot alone.
    pub fn publish(&self, thread: usize, reading: Reading) {
        let slot = self.slot(thread);
        let nanoseconds = |time: Duration| time.as_nanos() as u64;
        slot.cpu.store(nanoseconds(reading.cpu), Ordering::Relaxed);
        let longest = nanoseconds(reading.longest_wait);
        slot.longest_wait.store(longest, Ordering::Relaxed);
        slot.due.store(nanoseconds(reading.due), Ordering::Release);
    }

    fn slot(&self, thread: usize) -> &Slot {
        assert!(thread < self.threads);
        // SAFETY: the offset is within the mapping, which lives as long as `self` and starts at a page, so
        // the slot is aligned; any bytes are a valid slot.
        unsafe { self.base.add(thread).as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `create` made; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.threads * SLOT) };
    }
}

/// What every thread has published.
pub fn read(path: &Path) -> Result<Vec<Reading>> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        bytes.len().is_multiple_of(SLOT),
        "{} has {} bytes, which are no slots",
        path.display(),
        bytes.len()
    );
    let field = |slot: &[u8], at: usize| {
        let mut nanoseconds = [0; 8];
        nanoseconds.copy_from_slice(&slot[at * 8..(at + 1) * 8]);
        Duration::from_nanos(u64::from_ne_bytes(nanoseconds))
    };
    let readings = bytes.chunks_exact(SLOT).map(|slot| Reading {
        cpu: field(slot, 0),
        longest_wait: field(slot, 1),
        due: field(slot, 2),
    });
    Ok(readings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let path = std::env::temp_dir().join(format!("infera-guest-page-{}", std::process::id()));
        let page = Page::create(&path, 3).unwrap();
        let reading = Reading {
            cpu: Duration::from_millis(5),
            longest_wait: Duration::from_micros(7),
            due: Duration::from_secs(9),
        };
        page.publish(1, reading);
        let none = Reading::default();
        assert_eq!(read(&path).unwrap(), [none, reading, none]);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_wait_that_goes_on_counts() {
        let reading = Reading {
            cpu: Duration::ZERO,
            longest_wait: Duration::from_millis(2),
            due: Duration::from_millis(10),
        };
        assert_eq!(
            reading.waited(Duration::from_millis(11)),
            Duration::from_millis(2)
        );
        assert_eq!(
            reading.waited(Duration::from_millis(15)),
            Duration::from_millis(5)
        );
        // Asleep until later.
        assert_eq!(
            reading.waited(Duration::from_millis(5)),
            Duration::from_millis(2)
        );
    }
}
