//! The thread that writes: log, status, history, reports, the service manager. Disks fill,
//! pipes back up; the guard's main loop only ever hands over, and what finds the queue full
//! is lost to the log, never to the node.

use crate::memory::{self, Memory};
use crate::report::{self, Tail};
use infera_control::{Event, STATE_DIR, STATUS_FILE, State, Status};
use infera_heartbeat::Vitals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many events the status shows.
const HISTORY: usize = 32;
/// How long the main loop may be away before the service manager gets no more keep-alives.
const AWAY: Duration = Duration::from_secs(2);

enum Note {
    Say(String),
    Status,
    SafeMode(Memory),
    Report(String, Option<Vitals>),
    Compaction(String),
    End(SyncSender<()>),
}

struct Shared {
    status: Mutex<Status>,
    revision: AtomicU64,
    /// When the main loop last went round, in ms since the clerk started.
    alive: AtomicU64,
    started: Instant,
    tail: Tail,
}

/// Takes notes.
#[derive(Clone)]
pub struct Clerk {
    notes: SyncSender<Note>,
    shared: Arc<Shared>,
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

impl Clerk {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The process may have no more threads, or has no memory for one.
    pub fn start() -> io::Result<Clerk> {
        let (notes, queue) = sync_channel(256);
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            state: State::BackingOff,
            since: now(),
            pid: None,
            safe_mode: BTreeMap::new(),
            generation: 0,
            policy_deposed: false,
            ejects: 0,
            eject_kinds: BTreeMap::new(),
            history: Vec::new(),
        };
        let shared = Arc::new(Shared {
            status: Mutex::new(status),
            revision: AtomicU64::new(0),
            alive: AtomicU64::new(0),
            started: Instant::now(),
            tail: Tail::default(),
        });
        let clerk = Clerk { notes, shared };
        let shared = clerk.shared.clone();
        thread::Builder::new()
            .name("infera-clerk".into())
            .spawn(move || {
                let _ = crate::realtime::enter();
                work(&queue, &shared);
            })?;
        Ok(clerk)
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        let status = self.shared.status.lock();
        status.unwrap_or_else(PoisonError::into_inner)
    }

    /// How things are.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Changes whenever the guard has acted on an order.
    pub fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    /// Where the scheduler's log goes besides our own.
    pub fn tail(&self) -> Tail {
        self.shared.tail.clone()
    }

    /// The main loop is alive.
    pub fn tick(&self) {
        let ms = self.shared.started.elapsed().as_millis() as u64;
        self.shared.alive.store(ms, Ordering::Relaxed);
    }

    /// To the log and the history.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        let mut status = self.lock();
        if status.history.len() == HISTORY {
            status.history.remove(0);
        }
        status.history.push(Event {
            at: now(),
            what: what.clone(),
        });
        drop(status);
        let _ = self.notes.try_send(Note::Say(what));
    }

    /// Publishes the status, where `change` changes it.
    pub fn publish(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.lock();
        let before = status.state;
        change(&mut status);
        if status.state != before {
            status.since = now();
        }
        drop(status);
        self.shared.revision.fetch_add(1, Ordering::Release);
        let _ = self.notes.try_send(Note::Status);
    }

    /// Keeps the safe modes for the next guard.
    pub fn remember(&self, memory: Memory) {
        let _ = self.notes.try_send(Note::SafeMode(memory));
    }

    /// Writes a report about an eject.
    pub fn report(&self, why: String, vitals: Option<Vitals>) {
        let _ = self.notes.try_send(Note::Report(why, vitals));
    }

    /// Puts a kernel setting back that a killed scheduler had changed.
    pub fn restore_compaction(&self, value: String) {
        let _ = self.notes.try_send(Note::Compaction(value));
    }

    /// Waits, for a moment at most, until all is written.
    pub fn end(&self) {
        let (done, wait) = sync_channel(1);
        let _ = self.notes.try_send(Note::End(done));
        let _ = wait.recv_timeout(Duration::from_secs(1));
    }
}

fn work(queue: &Receiver<Note>, shared: &Shared) {
    let mut ready = false;
    let watchdog = watchdog_period();
    loop {
        match queue.recv_timeout(watchdog.unwrap_or(Duration::from_secs(3600))) {
            Ok(Note::Say(what)) => log(&what),
            Ok(Note::Status) => {
                let status = shared.status.lock().unwrap_or_else(PoisonError::into_inner);
                let status = status.clone();
                let up = !matches!(status.state, State::Starting | State::Ended);
                if up && !ready {
                    ready = sd_notify::notify(false, &[NotifyState::Ready]).is_ok();
                }
                let line = format!("{:?}", status.state);
                let _ = sd_notify::notify(false, &[NotifyState::Status(&line)]);
                complain(write_whole(
                    Path::new(STATUS_FILE),
                    &serde_json::to_vec(&status).unwrap_or_default(),
                ));
            }
            Ok(Note::SafeMode(memory)) => complain(memory::remember(memory)),
            Ok(Note::Report(why, vitals)) => {
                match report::write(Path::new(STATE_DIR), now(), &why, vitals, &shared.tail) {
                    Ok(path) => log(&format!("a report is in {}", path.display())),
                    Err(error) => complain(Err(error)),
                }
            }
            Ok(Note::Compaction(value)) => {
                complain(fs::write("/proc/sys/vm/compact_unevictable_allowed", value));
            }
            Ok(Note::End(done)) => {
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let seen = Duration::from_millis(shared.alive.load(Ordering::Relaxed));
        if watchdog.is_some() && shared.started.elapsed().saturating_sub(seen) < AWAY {
            let _ = sd_notify::notify(false, &[NotifyState::Watchdog]);
        }
    }
}

/// How often to send the service manager a keep-alive: three times in its watchdog timeout, if it has one.
fn watchdog_period() -> Option<Duration> {
    let mut usec = 0;
    sd_notify::watchdog_enabled(false, &mut usec).then(|| Duration::from_micros(usec / 3))
}

fn complain(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log(&error.to_string());
    }
}

/// A line on the log, unless the log is stuck.
pub fn log(what: &str) {
    write_unless_stuck(format!("[guard] {what}\n").as_bytes());
}

/// To our standard error, unless that would wait.
pub fn write_unless_stuck(line: &[u8]) {
    let stderr = io::stderr();
    let soon = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&soon)).is_ok_and(|ready| ready > 0) {
        let _ = stderr.lock().write_all(line);
    }
}

/// Replaces a file in one step.
///
/// # Errors
///
/// The directory cannot be created, or the file beside `path` cannot be written and renamed, for example on a full or
/// read-only disk. The error has the path, and what was there before is unchanged.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let with_path = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(with_path)?;
    }
    let next = path.with_extension("next");
    fs::write(&next, bytes)
        .and_then(|()| fs::rename(&next, path))
        .inspect_err(|_| drop(fs::remove_file(&next)))
        .map_err(with_path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_control::{EjectKind, MAX_REASON, MAX_REPLY, MAX_SOURCE, MAX_SOURCES, Reply};

    #[test]
    fn the_longest_status_fits_an_answer() {
        // Quotes take two bytes in JSON. The guard's own sources come on top of the socket's.
        let reason = "\"".repeat(MAX_REASON);
        let source = |n: usize| format!("{n:0>MAX_SOURCE$}");
        let safe_mode: BTreeMap<_, _> = (0..MAX_SOURCES + 3)
            .map(|n| (source(n), reason.clone()))
            .collect();
        let sources: Vec<_> = safe_mode.keys().cloned().collect();
        // Longer than either of those about safe mode going on and off.
        let event = Event {
            at: u64::MAX,
            what: format!("safe mode ({}): {reason}", sources.join(", ")),
        };
        let reply = Reply::Done(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            state: State::BackingOff,
            since: u64::MAX,
            pid: Some(u32::MAX),
            safe_mode,
            generation: u64::MAX,
            policy_deposed: false,
            ejects: u64::MAX,
            eject_kinds: EjectKind::ALL.map(|kind| (kind, u64::MAX)).into(),
            history: vec![event; HISTORY],
        }));
        assert!(serde_json::to_vec(&reply).unwrap().len() < MAX_REPLY);
    }

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/status.json");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(write_whole(Path::new("/proc/nothing/here"), b"").is_err());
    }
}
