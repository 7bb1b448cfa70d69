//! A guard in name only: answers at its socket as the real one does, and has no scheduler.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use infera_control::{Reply, Request, State, Status, serve};
use infera_plan::Assignment;

/// Ends when dropped.
pub struct Guard {
    status: Arc<Mutex<Status>>,
    stop: Arc<AtomicBool>,
}

impl Guard {
    /// Listens in `directory`, where the assignment is, too.
    pub fn start(directory: &Path) -> Result<Guard> {
        let socket = directory.join("control.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let status = Arc::new(Mutex::new(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: State::Attached,
            since: 0,
            pid: None,
            safe_mode: BTreeMap::new(),
            generation: 0,
            policy_deposed: false,
            ejects: 0,
            eject_kinds: BTreeMap::new(),
            history: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (status.clone(), stop.clone());
        let assignment = directory.join("assignment.json");
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        serve(stream, |request| answer(&request, &shared, &assignment));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Guard { status, stop })
    }

    /// Whether any source asks for safe mode.
    pub fn stands_down(&self) -> bool {
        !locked(&self.status).safe_mode.is_empty()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn locked(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(request: &Request, status: &Mutex<Status>, assignment: &Path) -> Reply {
    let mut status = locked(status);
    match request {
        Request::Status => {}
        Request::SafeModeOn { source, reason } => {
            status.safe_mode.insert(source.clone(), reason.clone());
        }
        Request::SafeModeOff { source: None } => status.safe_mode.clear(),
        Request::SafeModeOff {
            source: Some(source),
        } => {
            status.safe_mode.remove(source);
        }
        Request::Reload => {
            if let Ok(assignment) = Assignment::read(assignment) {
                status.generation = assignment.generation;
            }
        }
    }
    status.state = match status.safe_mode.is_empty() {
        true => State::Attached,
        false => State::SafeMode,
    };
    Reply::Done(Box::new(status.clone()))
}
