//! What the kernel reports while a window is open.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Below the cgroup mount: where everything runs that is measured.
pub const GROUP: &str = "infera-bench";
const MOUNT: &str = "/sys/fs/cgroup";
const EXT: &str = "/sys/kernel/sched_ext";

/// Where the cgroup of a workload is.
pub fn cgroup(work: &str) -> PathBuf {
    Path::new(MOUNT).join(GROUP).join(work)
}

/// As rules name it.
pub fn rule(work: &str) -> String {
    format!("/{GROUP}/{work}")
}

/// Makes the cgroups of workloads, with CPU controllers.
///
/// # Errors
///
/// The process is not root, /sys/fs/cgroup is no cgroup v2 mount, or the kernel has no cpu or cpuset controller to
/// enable there.
pub fn make_cgroups<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let group = Path::new(MOUNT).join(GROUP);
    fs::create_dir_all(&group).context("cannot make a cgroup: run it as root")?;
    for above in [Path::new(MOUNT), &group] {
        for controller in ["+cpu", "+cpuset"] {
            let file = above.join("cgroup.subtree_control");
            fs::write(&file, controller)
                .with_context(|| format!("cannot write {controller} to {}", file.display()))?;
        }
    }
    for name in names {
        let path = cgroup(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// Removes them, once nothing runs there.
pub fn remove_cgroups<'a>(names: impl Iterator<Item = &'a str>) {
    for name in names {
        let _ = fs::remove_dir(cgroup(name));
    }
    let _ = fs::remove_dir(Path::new(MOUNT).join(GROUP));
}

/// Who schedules: the attached scheduler's name, or `stock`.
pub fn attached() -> String {
    let read = |name: &str| fs::read_to_string(Path::new(EXT).join(name)).unwrap_or_default();
    match read("state").trim() {
        "enabled" => read("root/ops").trim().to_owned(),
        _ => "stock".to_owned(),
    }
}

/// How often a sched_ext scheduler was attached since the boot.
pub fn enable_seq() -> u64 {
    let text = fs::read_to_string(Path::new(EXT).join("enable_seq")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// CPU time of a workload's cgroup in seconds, and how often it was throttled.
pub fn usage(work: &str) -> (f64, u64) {
    let text = fs::read_to_string(cgroup(work).join("cpu.stat")).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    (value("usage_usec ") as f64 / 1e6, value("nr_throttled "))
}

/// CPU time of a process in seconds, as its threads' runqueues count it.
pub fn process_cpu(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

/// The kernel's release.
pub fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// CPUs that this process may use: its affinity and the CPU quota of its cgroup count.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
