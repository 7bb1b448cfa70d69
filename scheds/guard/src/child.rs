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
        let process = command.spawn()?;
        let pid = Pid::from_child(&process);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Child { process, pidfd })
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
