//! SIGHUP: read the configuration again.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{IntoRawFd, OwnedFd};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_hangup(_signal: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: write is async-signal-safe, the bytes outlive the call, and a bad descriptor is
    // an error that nobody needs to see.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
}

/// What becomes readable when the signal comes.
pub fn wake() -> io::Result<OwnedFd> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    // The handler's own copy stays open, whenever a signal may come.
    WAKE.store(wake.try_clone()?.into_raw_fd(), Ordering::Relaxed);
    Ok(wake)
}

/// Takes the signal; after attaching, because ctrlc takes it for a request to stop.
pub fn take() {
    // SAFETY: the handler is async-signal-safe.
    unsafe {
        libc::signal(libc::SIGHUP, on_hangup as *const () as libc::sighandler_t);
    }
}
