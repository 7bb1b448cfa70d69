//! Counters in shared memory, one for each hog.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::clock;

const CACHE_LINE: usize = 64;
const COUNTER: usize = size_of::<AtomicU64>();

/// The counters. Threads and forked processes share them.
#[derive(Debug)]
pub struct Counters {
    base: NonNull<u8>,
    stride: usize,
    count: usize,
}

// SAFETY: the mapping belongs to the value, not to a thread, and only atomics are reached through
// it.
unsafe impl Sync for Counters {}

impl Counters {
    /// Counters in memory, each in its own cache line.
    ///
    /// # Errors
    ///
    /// The process has no memory or address space left for the mapping.
    pub fn anonymous(count: usize) -> Result<Self> {
        Self::map(count, CACHE_LINE, libc::MAP_ANONYMOUS, -1)
    }

    /// Counters in a file of 8 bytes each, which any process can read meanwhile.
    ///
    /// # Errors
    ///
    /// The file cannot be created, sized or mapped. The error has the path.
    pub fn in_file(count: usize, path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .with_context(|| format!("creating {}", path.display()))?;
        file.set_len((count * COUNTER) as u64)
            .with_context(|| format!("sizing {}", path.display()))?;
        Self::map(count, COUNTER, 0, file.as_raw_fd())
            .with_context(|| format!("sharing {}", path.display()))
    }

    fn map(count: usize, stride: usize, flags: libc::c_int, fd: libc::c_int) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * stride,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | flags,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mapping the counters");
        }
        let base = NonNull::new(base.cast()).context("mapping the counters gave address 0")?;
        Ok(Self {
            base,
            stride,
            count,
        })
    }

    /// The counter of one hog.
    pub fn get(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count);
        // SAFETY: the offset is within the mapping.
        let at = unsafe { self.base.add(index * self.stride) };
        // SAFETY: it is mapped for as long as `self` lives, aligned since the mapping starts a
        // page and strides are multiples of 8, and any 8 bytes are a valid counter.
        unsafe { at.cast::<AtomicU64>().as_ref() }
    }

    /// What the counters hold.
    pub fn values(&self) -> impl Iterator<Item = u64> {
        (0..self.count).map(|i| self.get(i).load(Ordering::Relaxed))
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made; no reference to it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * self.stride) };
    }
}

/// What `progress` reports.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Units of work that all hogs have done.
    pub units: u64,
    /// The largest counter.
    pub max: u64,
    /// Hogs that did nothing meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled: Option<usize>,
}

/// Options of `progress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file.
    pub file: PathBuf,
    /// Look twice, this long apart, and count who stood still.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub stalled_ms: u64,
}

/// Sums a file of counters.
///
/// # Errors
///
/// The file cannot be read, or its length is no multiple of 8 bytes. The error has the path.
pub fn progress(args: &Args) -> Result<Progress> {
    let counters = || -> Result<Vec<u64>> {
        let reading = || format!("reading {}", args.file.display());
        parse(&fs::read(&args.file).with_context(reading)?).with_context(reading)
    };
    let before = counters()?;
    clock::sleep_until(clock::monotonic() + args.stalled_ms * clock::MS);
    let now = counters()?;
    let stood = |(before, now): &(&u64, &u64)| before == now;
    Ok(Progress {
        units: now.iter().sum(),
        max: now.iter().copied().max().unwrap_or(0),
        stalled: (args.stalled_ms > 0).then(|| before.iter().zip(&now).filter(stood).count()),
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<u64>> {
    let (counters, rest) = bytes.as_chunks::<COUNTER>();
    ensure!(rest.is_empty(), "{} bytes are no counters", bytes.len());
    Ok(counters.iter().map(|c| u64::from_ne_bytes(*c)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_counters_keep_apart() {
        let counters = Counters::anonymous(3).unwrap();
        for i in 0..3 {
            counters.get(i).store(i as u64 + 1, Ordering::Relaxed);
        }
        assert_eq!(counters.values().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_file_can_be_read_meanwhile() {
        let name = format!("infera-load-counters-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let counters = Counters::in_file(2, &path).unwrap();
        let args = Args {
            file: path.clone(),
            stalled_ms: 1,
        };
        assert_eq!(progress(&args).unwrap().units, 0);
        counters.get(0).store(5, Ordering::Relaxed);
        counters.get(1).store(7, Ordering::Relaxed);
        let now = progress(&args).unwrap();
        assert_eq!((now.units, now.max, now.stalled), (12, 7, Some(2)));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert!(parse(&[0; 12]).is_err());
        assert!(parse(&[]).unwrap().is_empty());
    }
}
