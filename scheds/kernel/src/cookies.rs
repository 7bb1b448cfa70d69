//! Core scheduling: whether tasks have cookies that keep others off the sibling of their CPU.
//!
//! With sched_ext and SMT such a cookie can hang the whole machine in the kernel (sched-ext/scx#3715, open for 7.1.3), and no
//! process survives that to detach the scheduler. So they are looked for before it attaches.

use crate::signs::Obstacle;
use rustix::io::{self, Errno};
use rustix::thread::{CoreSchedulingScope, Pid, core_scheduling_cookie};
use std::fs;
use std::path::Path;

/// The cookie of a thread, as the kernel shows it; 0: none.
///
/// # Errors
///
/// The thread is gone, may not be asked, or the kernel has no core scheduling.
pub fn of_thread(tid: i32) -> io::Result<u64> {
    let pid = Pid::from_raw(tid).ok_or(Errno::SRCH)?;
    core_scheduling_cookie(pid, CoreSchedulingScope::Thread)
}

/// Looks for a thread with a cookie below `root`, normally `/`; `cookie` reads that of a thread.
///
/// # Errors
///
/// A thread has a cookie; the obstacle names it.
pub fn core_scheduling(
    root: &Path,
    cookie: impl Fn(i32) -> io::Result<u64>,
) -> Result<String, Obstacle> {
    let smt = fs::read_to_string(root.join("sys/devices/system/cpu/smt/active"));
    if smt.is_ok_and(|active| active.trim() == "0") {
        return Ok("no SMT".into());
    }
    for tid in threads(root) {
        match cookie(tid) {
            Ok(0) => {}
            Ok(_) => return Err(Obstacle::Kernel(in_use(root, tid))),
            // Neither a thread of another user, without CAP_SYS_PTRACE, nor one that has just ended.
            Err(Errno::PERM | Errno::SRCH | Errno::ACCESS) => {}
            Err(Errno::NODEV) => return Ok("no SMT".into()),
            Err(_) => return Ok("this kernel has no core scheduling".into()),
        }
    }
    Ok("not in use".into())
}

fn in_use(root: &Path, tid: i32) -> String {
    let name = fs::read_to_string(root.join(format!("proc/{tid}/comm"))).unwrap_or_default();
    format!(
        "thread {tid} ({}) has a core scheduling cookie, and with sched_ext on a machine with SMT the kernel may hang: switch \
         core scheduling off where that thread is started (cloud-hypervisor: --cpus core_scheduling=off), or SMT (nosmt)",
        name.trim()
    )
}

fn threads(root: &Path) -> impl Iterator<Item = i32> {
    let tasks = numbered(&root.join("proc"));
    let root = root.to_owned();
    tasks.flat_map(move |pid| numbered(&root.join(format!("proc/{pid}/task"))))
}

/// The directory's entries whose names are numbers.
fn numbered(directory: &Path) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_on_a_machine_with_smt_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in [
            "proc/7/task/7",
            "proc/9/task/9",
            "proc/9/task/11",
            "proc/irq",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::create_dir_all(root.join("sys/devices/system/cpu/smt")).unwrap();
        let active = root.join("sys/devices/system/cpu/smt/active");
        fs::write(&active, "1\n").unwrap();
        let plain = |_| Ok(0);
        assert_eq!(core_scheduling(root, plain), Ok("not in use".to_owned()));
        let vcpu = |tid| Ok(u64::from(tid == 11));
        let obstacle = core_scheduling(root, vcpu).unwrap_err();
        assert!(obstacle.sentence().contains("thread 11"), "{obstacle:?}");
        // Threads that may not be looked at do not hide the others.
        let hidden = |tid| match tid {
            11 => Ok(1),
            _ => Err(Errno::PERM),
        };
        assert!(core_scheduling(root, hidden).is_err());
        assert!(core_scheduling(root, |_| Err(Errno::INVAL)).is_ok());
        assert!(core_scheduling(root, |_| Err(Errno::NODEV)).is_ok());
        fs::write(&active, "0\n").unwrap();
        assert!(core_scheduling(root, vcpu).is_ok());
    }
}
