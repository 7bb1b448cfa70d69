//! Hogs as processes.

use std::io;

use anyhow::{Context, Result, ensure};

use super::{Crowd, Hog};

/// Runs them.
///
/// # Errors
///
/// A process cannot be forked, or a hog fails, which it prints itself, or is killed. All hogs are ended and waited for
/// before it returns.
pub fn run<'a>(hog: impl Fn(usize) -> Hog<'a>, crowd: Crowd) -> Result<()> {
    // SAFETY: getpid always succeeds and touches no memory.
    let parent = unsafe { libc::getpid() };
    let mut hogs = Vec::with_capacity(crowd.count);
    let mut outcome = Ok(());
    for i in 0..crowd.count {
        // SAFETY: this process has one thread, so the child may do all that its parent may.
        match unsafe { libc::fork() } {
            0 => live(hog(i), i, parent, crowd),
            -1 => {
                outcome =
                    Err(io::Error::last_os_error()).with_context(|| format!("forking hog {i}"));
                break;
            }
            pid => hogs.push(pid),
        }
    }
    if outcome.is_ok() {
        crowd.wait();
    }
    for &pid in &hogs {
        // SAFETY: kill touches no memory; `pid` is a child not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    for pid in hogs {
        outcome = outcome.and(wait(pid));
    }
    outcome
}

/// The life of a forked hog.
fn live(hog: Hog<'_>, index: usize, parent: libc::pid_t, crowd: Crowd) -> ! {
    let name = std::ffi::CString::new(format!("hog-{index}")).unwrap_or_default();
    // SAFETY: PR_SET_NAME reads the string, which is terminated and lives; a failure only leaves
    // the name as it was.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // A hog must not outlive a parent that is killed.
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    // SAFETY: getppid touches no memory.
    let orphaned = unsafe { libc::getppid() } != parent;
    let outcome = match orphaned {
        true => Ok(()),
        false => crowd.class.take().and_then(|()| hog.work()),
    };
    if let Err(error) = &outcome {
        eprintln!("hog {index}: {error:#}");
    }
    let status = i32::from(outcome.is_err());
    // SAFETY: _exit touches no memory; the parent alone runs what is registered for exit.
    unsafe { libc::_exit(status) }
}

/// Waits for a hog to exit.
fn wait(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid integer to write to.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).with_context(|| format!("waiting for hog {pid}"));
        }
    }
    ensure!(status == 0, "hog {pid} ended with wait status {status:#x}");
    Ok(())
}
