//! The mapping.

use crate::Heartbeat;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

/// Types that may lie in memory which another process writes to.
///
/// # Safety
///
/// Every bit pattern must be a valid value, and every access atomic.
pub unsafe trait Shared {}

/// Why a page could not be had.
#[derive(Debug)]
pub enum PageError {
    /// A system call failed.
    System(std::io::Error),
    /// The file is too short.
    Size,
    /// Another build's page, or none at all.
    Layout,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageError::System(error) => write!(f, "cannot map the heartbeat page: {error}"),
            PageError::Size => write!(f, "the heartbeat page is too short"),
            PageError::Layout => write!(
                f,
                "the heartbeat page is not of this build: guard and scheduler must be of one version"
            ),
        }
    }
}

impl std::error::Error for PageError {}

/// A mapped heartbeat. It stays mapped until the process ends.
#[derive(Clone, Debug)]
pub struct Page {
    heartbeat: &'static Heartbeat,
    fd: Option<Arc<OwnedFd>>,
}

const SIZE: usize = 4096;
const _: () = assert!(size_of::<Heartbeat>() <= SIZE);

fn map(fd: BorrowedFd<'_>) -> Result<*mut Heartbeat, PageError> {
    const fn shared<T: Shared>() {}
    shared::<Heartbeat>();
    // SAFETY: a new mapping at an address of the kernel's choice, which touches no other.
    let address = unsafe {
        mmap(
            ptr::null_mut(),
            SIZE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            fd,
            0,
        )
    };
    Ok(address
        .map_err(|error| PageError::System(error.into()))?
        .cast())
}

impl Page {
    /// A new page, and the descriptor that a child inherits.
    ///
    /// # Errors
    ///
    /// The kernel has no memory for it, or cannot map it.
    pub fn create() -> Result<Page, PageError> {
        let system = |error: rustix::io::Errno| PageError::System(error.into());
        let fd = memfd_create("infera-heartbeat", MemfdFlags::empty()).map_err(system)?;
        ftruncate(&fd, SIZE as u64).map_err(system)?;
        let place = map(fd.as_fd())?;
        // SAFETY: the mapping is page-aligned, writable and large enough, and lives on.
        let heartbeat = unsafe {
            place.write(Heartbeat::new());
            &*place
        };
        Ok(Page {
            heartbeat,
            fd: Some(Arc::new(fd)),
        })
    }

    /// The page behind an inherited descriptor.
    ///
    /// # Errors
    ///
    /// The descriptor is no such page, is of another version of it, or cannot be mapped.
    pub fn open(fd: impl AsFd) -> Result<Page, PageError> {
        let stat = fstat(&fd).map_err(|error| PageError::System(error.into()))?;
        if stat.st_size < SIZE as i64 {
            return Err(PageError::Size);
        }
        let place = map(fd.as_fd())?;
        // SAFETY: the mapping is page-aligned, large enough and lives on; any bit pattern
        // is valid.
        let heartbeat = unsafe { &*place };
        if !heartbeat.understood() {
            return Err(PageError::Layout);
        }
        Ok(Page {
            heartbeat,
            fd: None,
        })
    }

    /// The descriptor of a page made here.
    pub fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("pages are opened from those made")
    }
}

impl Deref for Page {
    type Target = Heartbeat;

    fn deref(&self) -> &Heartbeat {
        self.heartbeat
    }
}
