//! The control socket, and the file that stands for it where there is none.
//!
//! Who may connect is a matter of the socket's owner and mode: root and one named group.
//! Connections are served one after the other, each with a bound on size and time.

use crate::clerk::Clerk;
use crate::realtime;
use infera_control::{
    MAX_REASON, MAX_SOURCES, PATIENCE, Reply, Request, SAFE_MODE_FILE, SOCKET, plain_reason,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, chmod, chown};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Instant;

/// What others want of the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stand down.
    SafeModeOn { source: String, reason: String },
    /// This source, or everyone but the file, wants that no more.
    SafeModeOff { source: Option<String> },
    /// Pass SIGHUP on.
    Reload,
}

/// The source of a safe mode that the file asks for.
pub const FILE: &str = "file";

/// Orders to the guard, and what wakes it.
#[derive(Clone)]
pub struct Orders {
    /// To the guard's main loop.
    pub queue: SyncSender<Order>,
    /// An eventfd.
    pub wake: std::sync::Arc<rustix::fd::OwnedFd>,
}

impl Orders {
    fn send(&self, order: Order) -> bool {
        let sent = self.queue.try_send(order).is_ok();
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        sent
    }
}

/// Starts the thread. A socket that cannot be had is said and done without: the file and the
/// signals remain.
///
/// # Errors
///
/// The process may have no more threads, or has no memory for one.
pub fn start(group: Option<&str>, orders: Orders, clerk: &Clerk) -> io::Result<()> {
    let listener = listen(Path::new(SOCKET), group)
        .inspect_err(|error| clerk.say(format!("no control socket at {SOCKET}: {error}")))
        .ok();
    let clerk = clerk.clone();
    thread::Builder::new()
        .name("infera-control".into())
        .spawn(move || {
            let _ = realtime::enter();
            let mut asked_by_file = false;
            loop {
                look_at_file(&mut asked_by_file, &orders);
                match &listener {
                    Some(listener) => {
                        if readable(listener) {
                            serve(listener, &orders, &clerk);
                        }
                    }
                    None => thread::sleep(std::time::Duration::from_millis(50)),
                }
            }
        })?;
    Ok(())
}

fn readable(listener: &UnixListener) -> bool {
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut fds, Some(&tick)).is_ok_and(|ready| ready > 0)
}

fn look_at_file(asked: &mut bool, orders: &Orders) {
    // Its presence counts: what cannot be read is a reason, too.
    let there = fs::symlink_metadata(SAFE_MODE_FILE).is_ok();
    if there == *asked {
        return;
    }
    let sent = orders.send(match there {
        true => Order::SafeModeOn {
            source: FILE.into(),
            reason: first_line(Path::new(SAFE_MODE_FILE)),
        },
        false => Order::SafeModeOff {
            source: Some(FILE.into()),
        },
    });
    if sent {
        *asked = there;
    }
}

fn first_line(path: &Path) -> String {
    let regular = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    let mut bytes = Vec::new();
    if regular && let Ok(file) = File::open(path) {
        let _ = BufReader::new(file.take(MAX_REASON as u64)).read_until(b'\n', &mut bytes);
    }
    let line = String::from_utf8_lossy(&bytes);
    match line.trim() {
        "" => format!("{SAFE_MODE_FILE} exists"),
        line => plain_reason(line),
    }
}

/// A socket that root and the group may use, in a directory that only root may change.
fn listen(path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
        chmod(dir, Mode::from(0o755))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mask keeps other users from connecting before the modes below are set.
    let before = rustix::process::umask(Mode::from(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    if let Some(gid) = group.and_then(group_id) {
        chown(path, None, Some(gid))?;
        chmod(path, Mode::from(0o660))?;
    }
    Ok(listener)
}

/// From /etc/group: the guard is to need no name service.
fn group_id(name: &str) -> Option<Gid> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    parse_group(&groups, name).map(Gid::from_raw)
}

fn parse_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn serve(listener: &UnixListener, orders: &Orders, clerk: &Clerk) {
    if let Ok((stream, _)) = listener.accept() {
        infera_control::serve(stream, |request| answer(request, orders, clerk));
    }
}

/// Whether one more source is one too many.
fn crowded(safe_mode: &BTreeMap<String, String>, source: &str) -> bool {
    safe_mode.len() >= MAX_SOURCES && !safe_mode.contains_key(source)
}

fn answer(request: Request, orders: &Orders, clerk: &Clerk) -> Reply {
    if let Request::SafeModeOn { source, .. } = &request
        && crowded(&clerk.status().safe_mode, source)
    {
        return Reply::Refused {
            error: format!("{MAX_SOURCES} sources hold the node in safe mode already"),
        };
    }
    let order = match request {
        Request::Status => None,
        Request::SafeModeOn { source, reason } => Some(Order::SafeModeOn { source, reason }),
        Request::SafeModeOff { source } => Some(Order::SafeModeOff { source }),
        Request::Reload => Some(Order::Reload),
    };
    if let Some(order) = order {
        let seen = clerk.revision();
        if !orders.send(order) {
            return Reply::Refused {
                error: "too many requests at once: ask again".into(),
            };
        }
        // The reply shows the outcome, if that comes within `PATIENCE`; the guard carries the order
        // out also when it comes later.
        let started = Instant::now();
        while clerk.revision() == seen && started.elapsed() < PATIENCE {
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    Reply::Done(Box::new(clerk.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\ninfera:x:990:alice,bob\nbad:x:y:\n";
        assert_eq!(parse_group(groups, "infera"), Some(990));
        assert_eq!(parse_group(groups, "bad"), None);
        assert_eq!(parse_group(groups, "infer"), None);
    }

    #[test]
    fn sources_are_bounded_and_each_can_change_its_reason() {
        let sources = |count: usize| (0..count).map(|n| (n.to_string(), String::new())).collect();
        assert!(!crowded(&sources(MAX_SOURCES - 1), "x"));
        assert!(crowded(&sources(MAX_SOURCES), "x"));
        assert!(!crowded(&sources(MAX_SOURCES), "0"));
    }

    #[test]
    fn a_reason_is_the_first_line_of_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("safe-mode");
        fs::write(&path, "  p99 is bad \nmore").unwrap();
        assert_eq!(first_line(&path), "p99 is bad");
        fs::write(&path, vec![b'x'; 10_000]).unwrap();
        assert_eq!(first_line(&path).len(), MAX_REASON);
        // What is no text grows when it is made some.
        fs::write(&path, [0xff; MAX_REASON]).unwrap();
        assert!(first_line(&path).len() <= MAX_REASON);
        assert!(first_line(dir.path()).contains("exists"));
    }
}
