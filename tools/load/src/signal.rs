//! SIGTERM and SIGINT set a flag that every loop looks at.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    request_stop();
}

/// Installs the handlers.
///
/// # Errors
///
/// A seccomp filter refuses `sigaction`; the kernel itself never does for these signals.
pub fn install() -> Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all-zero is a valid sigaction: no flags, so that sleeps are interrupted, and an
        // empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: `action` is initialised and its handler only stores to an atomic, which is
        // async-signal-safe.
        let rc = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        if rc != 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("handling signal {signal}"));
        }
    }
    Ok(())
}

/// Makes every loop end.
pub fn request_stop() {
    STOP.store(true, Ordering::Relaxed);
}

/// Whether the loops should end.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}
