//! The thread that does what may take long: detaching waits for the kernel, and the guard
//! must go on looking meanwhile.

use crate::clerk::Clerk;
use crate::realtime;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

#[derive(Clone, Copy)]
enum Task {
    Detach,
    Brake,
}

/// Hands work to the thread.
#[derive(Clone)]
pub struct Hand(SyncSender<Task>);

impl Hand {
    /// Starts two threads: a detach that hangs must not keep the brake from being pulled.
    ///
    /// # Errors
    ///
    /// The process may have no more threads, or has no memory for one.
    pub fn start(clerk: &Clerk) -> std::io::Result<(Hand, Hand)> {
        Ok((
            start("infera-detach", clerk)?,
            start("infera-brake", clerk)?,
        ))
    }

    /// Detaches through the BPF link; a request while one is under way is dropped.
    pub fn detach(&self) {
        let _ = self.0.try_send(Task::Detach);
    }

    /// Has the kernel itself detach whichever sched_ext scheduler is attached.
    pub fn brake(&self) {
        let _ = self.0.try_send(Task::Brake);
    }
}

fn start(name: &str, clerk: &Clerk) -> std::io::Result<Hand> {
    let (tasks, orders) = sync_channel(1);
    let clerk = clerk.clone();
    thread::Builder::new().name(name.into()).spawn(move || {
        let _ = realtime::enter();
        while let Ok(task) = orders.recv() {
            let outcome = match task {
                Task::Detach => infera_link::detach().map(|links| format!("detached {links} link")),
                Task::Brake => brake().map(|()| "pulled the kernel's brake (sysrq-S)".into()),
            };
            clerk.say(outcome.unwrap_or_else(|error| format!("cannot detach: {error}")));
        }
    })?;
    Ok(Hand(tasks))
}

/// sysrq-S, which works whatever `kernel.sysrq` says.
fn brake() -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open("/proc/sysrq-trigger")?
        .write_all(b"S")
}
