//! Reports about ejects: bounded text files, of which the last ones are kept.

use infera_heartbeat::Vitals;
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Lines of the scheduler's log that a report holds.
const LINES: usize = 200;
/// Bytes of a line that are kept.
const LINE: usize = 512;
/// Reports that are kept.
const KEEP: usize = 20;
/// Lines of the kernel's log in a report.
const KERNEL_LINES: usize = 60;

/// The last lines of the scheduler's log.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// Follows a scheduler's standard error: to our own, and here.
    ///
    /// # Errors
    ///
    /// The process may have no more threads, or has no memory for one. The pipe is closed then, and what the scheduler
    /// logs is lost.
    pub fn follow(&self, log: ChildStderr) -> io::Result<()> {
        let tail = self.clone();
        thread::Builder::new()
            .name("infera-log".into())
            .spawn(move || {
                let _ = crate::realtime::enter();
                let mut log = BufReader::new(log);
                while let Ok(Some(line)) = bounded_line(&mut log) {
                    crate::clerk::write_unless_stuck(&line);
                    tail.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
            })?;
        Ok(())
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The next line, cut; the rest of a longer one is the next line.
fn bounded_line(log: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    log.take(LINE as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    Ok(Some(line))
}

/// Writes a report into `state/dumps`; returns where.
///
/// # Errors
///
/// The directory cannot be created or read, or an old report in it cannot be removed: these errors have no path. Or the
/// report cannot be written ([`write_whole`](crate::clerk::write_whole)).
pub fn write(
    state: &Path,
    at: u64,
    why: &str,
    vitals: Option<Vitals>,
    tail: &Tail,
) -> io::Result<PathBuf> {
    let dir = state.join("dumps");
    fs::create_dir_all(&dir)?;
    prune(&dir)?;
    let path = dir.join(format!("eject-{at}.txt"));
    crate::clerk::write_whole(&path, text(at, why, vitals, tail).as_bytes())?;
    Ok(path)
}

fn text(at: u64, why: &str, vitals: Option<Vitals>, tail: &Tail) -> String {
    let mut text = String::new();
    let state = fs::read_to_string("/sys/kernel/sched_ext/state").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(
        text,
        "infera {}: the scheduler was ejected\nat       {at} (seconds since the Unix epoch)\n\
         why      {why}\nkernel   {}\nsched_ext {}",
        env!("CARGO_PKG_VERSION"),
        kernel.trim(),
        state.trim()
    );
    let _ = writeln!(text, "\n--- its last vitals\n{vitals:#?}");
    let _ = writeln!(text, "\n--- its log\n{}", tail.text());
    let _ = writeln!(text, "--- the kernel's log\n{}", kernel_log());
    text
}

/// The kernel's last lines.
fn kernel_log() -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(kmsg) = rustix::fs::open("/dev/kmsg", flags, Mode::empty()) else {
        return String::new();
    };
    let mut lines = VecDeque::new();
    let mut record = [0; 2048];
    loop {
        // One record a read; EAGAIN at the end, EPIPE where records were overwritten.
        let count = match rustix::io::read(&kmsg, &mut record) {
            Ok(0) => break,
            Ok(count) => count,
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        };
        if lines.len() == KERNEL_LINES {
            lines.pop_front();
        }
        let record = String::from_utf8_lossy(&record[..count]).into_owned();
        let message = record.split_once(';').map_or("", |(_, message)| message);
        lines.push_back(message.lines().next().unwrap_or_default().to_owned());
    }
    lines
        .iter()
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Makes room for one more.
fn prune(dir: &Path) -> io::Result<()> {
    let mut reports: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "txt"))
        .collect();
    // The time in the name has ten digits until the year 2286.
    reports.sort();
    while reports.len() >= KEEP {
        fs::remove_file(reports.remove(0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_only_the_last_ones_stay() {
        let long = vec![b'x'; 2 * LINE + 10];
        let mut log = BufReader::new(&long[..]);
        let mut lengths = Vec::new();
        while let Some(line) = bounded_line(&mut log).unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [LINE + 1, LINE + 1, 11]);
        let tail = Tail::default();
        (0..LINES + 5).for_each(|line| tail.push(line.to_string()));
        assert!(tail.text().starts_with("5\n"));
    }

    #[test]
    fn old_reports_go() {
        let dir = tempfile::tempdir().unwrap();
        for at in 0..KEEP as u64 + 5 {
            let at = 1_000_000_000 + at;
            write(
                dir.path(),
                at,
                "test",
                Some(Vitals::default()),
                &Tail::default(),
            )
            .unwrap();
        }
        let dumps = dir.path().join("dumps");
        assert_eq!(fs::read_dir(&dumps).unwrap().count(), KEEP);
        assert!(!dumps.join("eject-1000000000.txt").exists());
        let last = fs::read_to_string(dumps.join("eject-1000000024.txt")).unwrap();
        assert!(last.contains("why      test") && last.len() < 256 * 1024);
    }
}
