//! Work inside the kernel. A scheduler that preempts lazily lets what is in a system call go on until the next
//! tick, so a wakeup beside such a crowd waits where it would not beside threads that compute.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::chain::pipe;

/// Read at once, as `dd bs=4M` does: about a millisecond inside one system call. Units of the other kinds take about
/// as long.
const READ: usize = 1 << 22;
/// The pages of a unit of faults.
const PAGES: usize = 256;
const PAGE: usize = 4096;
/// What a pipe holds.
const PIPE: usize = 1 << 16;
/// How often a pipe is filled and emptied in a unit.
const FILLS: usize = 16;

/// The kinds of kernel work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Reads of /dev/zero, 4 MiB each: long system calls.
    Zero,
    /// Page faults: many short entries into the kernel.
    Faults,
    /// A pipe that is filled and emptied: copies, and pages allocated and freed.
    Pipes,
}

/// One hog's files and memory.
pub enum Worker {
    Zero {
        zero: File,
        buffer: Vec<u8>,
    },
    Faults {
        base: *mut u8,
    },
    Pipes {
        read: File,
        write: File,
        buffer: Vec<u8>,
    },
}

impl Worker {
    /// Opens or maps what a hog of this kind works on.
    ///
    /// # Errors
    ///
    /// /dev/zero cannot be opened, memory cannot be mapped, or the process has no file descriptor left for a pipe.
    pub fn new(kind: Kind) -> Result<Worker> {
        Ok(match kind {
            Kind::Zero => Worker::Zero {
                zero: File::open("/dev/zero").context("opening /dev/zero")?,
                buffer: vec![0; READ],
            },
            Kind::Faults => Worker::Faults { base: map()? },
            Kind::Pipes => {
                let (read, write) = pipe()?;
                Worker::Pipes {
                    read,
                    write,
                    buffer: vec![0; PIPE],
                }
            }
        })
    }

    /// Does one unit.
    ///
    /// # Errors
    ///
    /// /dev/zero or the pipe cannot be read or written, or the kernel does not take the pages back.
    pub fn unit(&mut self) -> Result<()> {
        match self {
            Worker::Zero { zero, buffer } => {
                zero.read_exact(buffer).context("reading /dev/zero")?;
            }
            Worker::Faults { base } => {
                // SAFETY: the pages are of the worker's own mapping, in which nothing else has a reference.
                unsafe { madvise(base.cast(), PAGES * PAGE, Advice::LinuxDontNeed) }
                    .context("giving pages back")?;
                for page in 0..PAGES {
                    // SAFETY: the page is within the mapping, which is writable and lives until the process
                    // ends; the write is volatile, for it is the fault that counts.
                    unsafe { base.add(page * PAGE).write_volatile(1) };
                }
            }
            Worker::Pipes {
                read,
                write,
                buffer,
            } => {
                for _ in 0..FILLS {
                    write.write_all(buffer).context("filling a pipe")?;
                    read.read_exact(buffer).context("emptying a pipe")?;
                }
            }
        }
        Ok(())
    }
}

/// Memory to fault in. It is never unmapped: a hog that ends is about to exit.
fn map() -> Result<*mut u8> {
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice disturbs no other.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), PAGES * PAGE, prot, flags) }
        .context("mapping memory")?;
    // A huge page would make one fault of all these.
    // SAFETY: the pages are of the new mapping.
    unsafe { madvise(base, PAGES * PAGE, Advice::LinuxNoHugepage) }
        .context("refusing huge pages")?;
    Ok(base.cast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn faults() -> i64 {
        // SAFETY: all-zero is a valid rusage, and getrusage writes to it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid to write to.
        let rc = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        assert_eq!(rc, 0);
        usage.ru_minflt
    }

    #[test]
    fn every_kind_can_be_repeated() {
        for kind in Kind::value_variants() {
            let mut worker = Worker::new(*kind).unwrap();
            for _ in 0..3 {
                worker.unit().unwrap();
            }
        }
    }

    #[test]
    fn every_unit_of_faults_faults_every_page() {
        let mut worker = Worker::new(Kind::Faults).unwrap();
        worker.unit().unwrap();
        let before = faults();
        worker.unit().unwrap();
        assert!(faults() - before >= PAGES as i64);
    }
}
