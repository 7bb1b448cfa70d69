//! SIGHUP: read the configuration again. SIGINT and SIGTERM: stop.
//!
//! No signal goes to the main thread: on an idle node that waits in a queue until there is work, and would not run a handler before. The
//! thread that reads the configuration receives SIGHUP, from the attach on. A request to stop goes to a thread that sleeps, which the
//! kernel side serves at once, and the main thread right after it.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{IntoRawFd, OwnedFd};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_hangup(_signal: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: write is async-signal-safe, the bytes outlive the call, and a bad descriptor is
    // an error that can be ignored.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
}

/// What becomes readable when the signal comes.
///
/// # Errors
///
/// The process or the node has no file descriptor left for the eventfd and its copy.
pub fn wake() -> io::Result<OwnedFd> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    // The handler's own copy stays open, whenever a signal may come.
    WAKE.store(wake.try_clone()?.into_raw_fd(), Ordering::Relaxed);
    Ok(wake)
}

/// Holds the signal back, before any other thread is there: while attaching no thread reads the
/// configuration again, and ctrlc takes the signal for a request to stop.
pub fn hold() {
    mask(libc::SIG_BLOCK, &[libc::SIGHUP]);
}

/// Leaves requests to stop to the threads that are there already, one of which is ctrlc's.
pub fn leave_stop_to_others() {
    mask(libc::SIG_BLOCK, &[libc::SIGINT, libc::SIGTERM]);
}

/// Has the calling thread receive SIGHUP, also one that was held back.
pub fn take() {
    // SAFETY: the handler is async-signal-safe.
    unsafe {
        libc::signal(libc::SIGHUP, on_hangup as *const () as libc::sighandler_t);
    }
    mask(libc::SIG_UNBLOCK, &[libc::SIGHUP]);
}

fn mask(how: libc::c_int, signals: &[libc::c_int]) {
    // SAFETY: the set is initialised before it is used, and outlives the calls.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}
