//! The scheduler's process.

use crate::machine::End;
use infera_heartbeat::Page;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::FdFlags;
use rustix::io::fcntl_setfd;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal,
};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, ChildStderr, Command, Stdio};

/// A started scheduler.
pub struct Child {
    process: process::Child,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Starts it. It ends with this process, and asks no terminal for anything.
    ///
    /// # Errors
    ///
    /// The program is missing or cannot be executed, the process or the node has no process id, memory or file
    /// descriptor left for it, or the kernel gives no pidfd. In this last case the program has been ended again.
    pub fn start(program: &OsString, arguments: &[OsString], page: &Page) -> io::Result<Self> {
        let fd = page.fd();
        // It is inherited; nothing else that is open here is.
        fcntl_setfd(fd, FdFlags::empty())?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("--heartbeat-fd")
            .arg(fd.as_fd().as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: prctl alone, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let mut process = command.spawn()?;
        match pidfd_open(Pid::from_child(&process), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Child { process, pidfd }),
            Err(error) => {
                // Nothing would watch it: it must not get as far as attaching.
                let _ = process.kill();
                let _ = process.wait();
                Err(error.into())
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it logs to, once.
    pub fn log(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }

    /// How it ended, if it has; never waits.
    ///
    /// # Errors
    ///
    /// The process cannot be waited for, because other code in this one has waited for it already.
    pub fn ended(&mut self) -> io::Result<Option<End>> {
        let Some(status) = self.process.try_wait()? else {
            return Ok(None);
        };
        Ok(Some(match (status.code(), status.signal()) {
            (Some(code), _) => End::Status(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        }))
    }

    /// Sends it a signal. It is our child and has not been waited for: no other process has its id.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}
