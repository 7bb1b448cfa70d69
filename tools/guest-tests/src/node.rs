//! The guest as a node: its CPUs, its kernel log, and who schedules it.

use anyhow::{Context, Result, ensure};
use infera_plan::{CpuSet, parse_cpu_list};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCHED_EXT: &str = "/sys/kernel/sched_ext";
const CPUS: &str = "/sys/devices/system/cpu";

const SMT: &str = "/sys/devices/system/cpu/smt/control";

/// Words of the kernel's complaints.
const COMPLAINTS: [&str; 6] = [
    "stall",
    "runnable task",
    "BUG:",
    "Oops",
    "WARNING:",
    // Callbacks that are registered and that this kernel does not want any more.
    "are deprecated",
];

/// 6.12 warns about its own account of the fair server's bandwidth when a CPU goes offline while any
/// sched_ext scheduler is attached: docs/safety.md.
const KNOWN: [&str; 2] = ["sched/deadline.c", "inactive_task_timer"];

/// The guest.
#[derive(Debug)]
pub struct Node(());

impl Node {
    /// The node that this runs on, if it has sched_ext.
    pub fn here() -> Result<Node> {
        ensure!(
            Path::new(SCHED_EXT).is_dir(),
            "{SCHED_EXT} is missing: run this in a guest, through `cargo xtask vm run`"
        );
        Ok(Node(()))
    }

    /// The CPUs that are online.
    pub fn cpus(&self) -> Result<CpuSet> {
        Ok(parse_cpu_list(&read(&Path::new(CPUS).join("online"))?)?)
    }

    /// The CPUs of one physical core with this one.
    pub fn core_of(&self, cpu: usize) -> Result<CpuSet> {
        let file = format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list");
        Ok(parse_cpu_list(&read(Path::new(&file))?)?)
    }

    /// Takes a CPU offline for as long as the handle lives.
    pub fn take_offline(&self, cpu: usize) -> Result<OfflineCpu> {
        let file = PathBuf::from(format!("{CPUS}/cpu{cpu}/online"));
        fs::write(&file, "0").with_context(|| format!("writing 0 to {}", file.display()))?;
        Ok(OfflineCpu { file })
    }

    /// Switches the second threads of all cores off for as long as the handle lives.
    pub fn switch_smt_off(&self) -> Result<OfflineSmt> {
        fs::write(SMT, "off").with_context(|| format!("writing off to {SMT}"))?;
        Ok(OfflineSmt(()))
    }

    /// Whether the kernel gives sched_ext some time beside real-time threads: 7.2 does, 6.12 does not.
    pub fn serves_sched_ext(&self) -> Result<bool> {
        let file = "/sys/kernel/debug/sched/ext_server";
        fs::exists(file).with_context(|| format!("looking for {file}"))
    }

    /// Whether a sched_ext scheduler is attached.
    pub fn is_enabled(&self) -> Result<bool> {
        is_enabled()
    }

    /// Whether none is, nor on its way in or out.
    pub fn is_disabled(&self) -> Result<bool> {
        Ok(read(&Path::new(SCHED_EXT).join("state"))?.trim() == "disabled")
    }

    /// How often one was attached since boot.
    pub fn attaches(&self) -> Result<u64> {
        let count = read(&Path::new(SCHED_EXT).join("enable_seq"))?;
        count.trim().parse().context("enable_seq is no number")
    }

    /// Clears the kernel log, so that what comes next is about what comes next.
    pub fn clear_kernel_log(&self) -> Result<()> {
        dmesg(&["-c"]).map(|_| ())
    }

    /// Lines of the kernel log that complain.
    pub fn complaints(&self) -> Result<Vec<String>> {
        Ok(complaints_in(&kernel_log()?))
    }
}

/// A CPU that comes back with the handle's end.
#[derive(Debug)]
pub struct OfflineCpu {
    file: PathBuf,
}

impl Drop for OfflineCpu {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, "1");
    }
}

/// Second threads that come back with the handle's end.
#[derive(Debug)]
pub struct OfflineSmt(());

impl Drop for OfflineSmt {
    fn drop(&mut self) {
        let _ = fs::write(SMT, "on");
    }
}

/// The kernel log since it was last cleared.
pub fn kernel_log() -> Result<String> {
    dmesg(&[])
}

/// Whether a sched_ext scheduler is attached.
pub fn is_enabled() -> Result<bool> {
    Ok(read(&Path::new(SCHED_EXT).join("state"))?.trim() == "enabled")
}

fn complaints_in(log: &str) -> Vec<String> {
    let complains = |line: &&str| {
        COMPLAINTS.iter().any(|word| line.contains(word))
            && !KNOWN.iter().all(|word| line.contains(word))
    };
    log.lines().filter(complains).map(str::to_owned).collect()
}

fn dmesg(arguments: &[&str]) -> Result<String> {
    let output = Command::new("dmesg")
        .args(arguments)
        .output()
        .context("starting dmesg")?;
    ensure!(
        output.status.success(),
        "dmesg ended with {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::complaints_in;

    #[test]
    fn the_kernels_own_warning_is_no_complaint() {
        let log = "[1] sched_ext: BPF scheduler \"infera\" enabled\n\
                   [2] WARNING: CPU: 1 PID: 0 at kernel/sched/deadline.c:1 inactive_task_timer+0x1/0x2\n\
                   [3] WARNING: CPU: 1 PID: 0 at kernel/sched/ext.c:1 x+0x1/0x2\n\
                   [4] sched_ext: infera: runnable task stall (hog[1] failed to run for 5.0s)\n\
                   [5] ops->cpu_acquire/release() are deprecated, use sched_switch TP instead\n";
        let found = complaints_in(log);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("[3]"));
    }
}
