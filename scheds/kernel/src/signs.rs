//! Whether this kernel, as it runs now, can take the scheduler: `--check`, and the refusals
//! before attaching.

use crate::cookies::{core_scheduling, of_thread};
use std::fs;
use std::path::Path;

/// sched_ext's directory below the root of sysfs and procfs.
const SCHED_EXT: &str = "sys/kernel/sched_ext";

/// Why the scheduler cannot attach, with the sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This kernel cannot run it.
    Kernel(String),
    /// It needs root.
    NotRoot(String),
    /// Another sched_ext scheduler is attached.
    Busy(String),
}

impl Obstacle {
    /// The sentence.
    #[must_use]
    pub fn sentence(&self) -> &str {
        match self {
            Obstacle::Kernel(text) | Obstacle::NotRoot(text) | Obstacle::Busy(text) => text,
        }
    }
}

/// One thing that must hold.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub outcome: Result<String, Obstacle>,
}

/// The name of the attached sched_ext scheduler below `root`, if there is one.
pub fn attached(root: &Path) -> Option<String> {
    let dir = root.join(SCHED_EXT);
    let state = fs::read_to_string(dir.join("state")).ok()?;
    if state.trim() == "disabled" {
        return None;
    }
    let name = fs::read_to_string(dir.join("root/ops")).unwrap_or_default();
    Some(match name.trim() {
        "" => state.trim().to_owned(),
        name => name.to_owned(),
    })
}

/// Whether a sched_ext scheduler is attached, and neither on its way in nor out.
#[must_use]
pub fn is_enabled(root: &Path) -> bool {
    let state = fs::read_to_string(root.join(SCHED_EXT).join("state"));
    state.is_ok_and(|state| state.trim() == "enabled")
}

/// How often CPUs have come and gone since boot, as the kernel counts for sched_ext.
#[must_use]
pub fn hotplugs(root: &Path) -> Option<u64> {
    let count = fs::read_to_string(root.join(SCHED_EXT).join("hotplug_seq")).ok()?;
    count.trim().parse().ok()
}

/// Whether no CPU is on its way in or out. While one is, it may be counted as gone and still be among those that are online.
#[must_use]
pub fn cpus_are_settled(root: &Path) -> bool {
    let Ok(cpus) = fs::read_dir(root.join("sys/devices/system/cpu")) else {
        return true;
    };
    cpus.flatten().all(|cpu| {
        let read = |file: &str| fs::read_to_string(cpu.path().join("hotplug").join(file)).ok();
        // Other directories have no such files, nor have CPUs of a kernel that cannot take them away.
        read("state") == read("target")
    })
}

/// What `isolcpus=` keeps from CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isolated<'a> {
    /// There is no such word.
    Nothing,
    /// Ticks or managed interrupts: sched_ext takes no notice.
    OtherKinds(&'a str),
    /// Scheduling domains, which sched_ext refuses.
    Domain(&'a str),
}

/// What the command line isolates. As the kernel reads it (`housekeeping_isolcpus_setup()`): flags
/// come before the CPUs, each with a comma; unknown ones do not count; without any, it is domain.
fn isolated(cmdline: &str) -> Isolated<'_> {
    let words = cmdline.split_whitespace().take_while(|word| *word != "--");
    let mut found = Isolated::Nothing;
    for word in words {
        let Some(value) = word.strip_prefix("isolcpus=") else {
            continue;
        };
        let is_flag = |part: &&str| part.starts_with(|first: char| first.is_ascii_alphabetic());
        let flags = value.split(',').take_while(is_flag);
        let (mut domain, mut others) = (false, false);
        for flag in flags {
            domain |= flag == "domain";
            others |= matches!(flag, "nohz" | "managed_irq");
        }
        if domain || !others {
            return Isolated::Domain(word);
        }
        found = Isolated::OtherKinds(word);
    }
    found
}

/// Tiers are cgroups of version 2. Directories of a version 1 hierarchy have inode numbers that look like cgroup ids.
fn cgroup_version(root: &Path) -> Result<String, Obstacle> {
    match root.join("sys/fs/cgroup/cgroup.controllers").exists() {
        true => Ok("version 2 at /sys/fs/cgroup".into()),
        false => Err(Obstacle::Kernel(
            "no cgroup v2 at /sys/fs/cgroup, and tiers are cgroups: boot with systemd.unified_cgroup_hierarchy=1"
                .into(),
        )),
    }
}

/// The inode number of the first PID namespace, the same on every kernel (PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The overlay compares pids as the kernel counts them.
fn pid_namespace(root: &Path) -> Result<String, Obstacle> {
    match fs::read_link(root.join("proc/self/ns/pid")) {
        Ok(name) if name.as_os_str() != FIRST_PID_NAMESPACE => Err(Obstacle::Kernel(
            "this process is in a PID namespace of its own, and would take another for itself: run it in the host's (hostPID: true, --pid=host, without PrivatePIDs=)"
                .into(),
        )),
        Ok(_) => Ok("the host's".into()),
        Err(_) => Ok("not shown".into()),
    }
}

/// In this mode the kernel refuses the helpers that read its memory.
fn lockdown(root: &Path) -> Result<String, Obstacle> {
    let modes = fs::read_to_string(root.join("sys/kernel/security/lockdown"));
    let mode = modes.as_deref().unwrap_or("[none]");
    let mode = mode
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    match mode.unwrap_or("none") {
        "confidentiality" => Err(Obstacle::Kernel(
            "the kernel is locked down for confidentiality and refuses BPF programs that read its memory: boot with lockdown=integrity, or without lockdown="
                .into(),
        )),
        mode => Ok(mode.to_owned()),
    }
}

/// What loading takes, by the number of its bit. Each is part of CAP_SYS_ADMIN.
const LOADING: [(&str, u32); 2] = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];
const SYS_ADMIN: u32 = 21;
/// Raises the limit of locked memory, which the scheduler's process does before it attaches.
const SYS_RESOURCE: u32 = 24;

fn capabilities(root: &Path, is_root: bool) -> Result<String, Obstacle> {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let status = read("proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
    else {
        return Ok("not shown".into());
    };
    if !is_root {
        // The check for root has the sentence.
        return Ok(format!("{effective:#x}"));
    }
    let has = |bit: u32| effective & (1 << bit) != 0;
    let lacking = LOADING
        .iter()
        .filter(|(_, bit)| !has(*bit) && !has(SYS_ADMIN));
    let mut lacking: Vec<&str> = lacking.map(|(name, _)| *name).collect();
    // Soft limit, hard limit, unit: raising the soft one to the hard one needs no capability.
    let limits = read("proc/self/limits");
    let locked = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let unlimited = locked.is_none_or(|line| line.split_whitespace().nth(1) == Some("unlimited"));
    if !unlimited && !has(SYS_RESOURCE) {
        lacking.push("CAP_SYS_RESOURCE (or an unlimited RLIMIT_MEMLOCK)");
    }
    match lacking.is_empty() {
        true => Ok(format!("{effective:#x}")),
        false => Err(Obstacle::NotRoot(format!(
            "this process may not load a scheduler, though it is root: give it {}",
            lacking.join(", ")
        ))),
    }
}

/// Looks at everything below `root`, normally `/`.
pub fn check(root: &Path, is_root: bool) -> Vec<Check> {
    let kernel = |sentence: &str| Obstacle::Kernel(sentence.to_owned());
    let exists = |path: &str, sentence: &str| match root.join(path).exists() {
        true => Ok(format!("/{path}")),
        false => Err(kernel(sentence)),
    };
    let cmdline = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let isolated = isolated(&cmdline);
    vec![
        Check {
            name: "sched_ext",
            outcome: exists(
                "sys/kernel/sched_ext/state",
                "this kernel has no sched_ext: boot a kernel 6.12 or newer with CONFIG_SCHED_CLASS_EXT=y",
            ),
        },
        Check {
            name: "BTF",
            outcome: exists(
                "sys/kernel/btf/vmlinux",
                "this kernel has no BTF: boot one with CONFIG_DEBUG_INFO_BTF=y",
            ),
        },
        Check {
            name: "function tracer",
            outcome: exists(
                "proc/sys/kernel/ftrace_enabled",
                "this kernel has no function tracer: boot one with CONFIG_FUNCTION_TRACER=y",
            ),
        },
        Check {
            name: "isolcpus",
            outcome: match isolated {
                Isolated::Nothing => Ok("not set".into()),
                Isolated::OtherKinds(word) => Ok(format!("{word}, without the domain flag")),
                Isolated::Domain(word) => Err(kernel(&format!(
                    "sched_ext refuses to load with {word} on the kernel command line: boot without it, or with other flags than domain (isolcpus=managed_irq,...)"
                ))),
            },
        },
        Check {
            name: "cgroups",
            outcome: cgroup_version(root),
        },
        Check {
            name: "PID namespace",
            outcome: pid_namespace(root),
        },
        Check {
            name: "core scheduling",
            outcome: core_scheduling(root, of_thread),
        },
        Check {
            name: "lockdown",
            outcome: lockdown(root),
        },
        Check {
            name: "capabilities",
            outcome: capabilities(root, is_root),
        },
        Check {
            name: "root",
            outcome: match is_root {
                true => Ok("yes".into()),
                false => Err(Obstacle::NotRoot(
                    "loading a scheduler needs root: run this as root".into(),
                )),
            },
        },
        Check {
            name: "other scheduler",
            outcome: match attached(root) {
                None => Ok("none attached".into()),
                Some(name) => Err(Obstacle::Busy(format!(
                    "another sched_ext scheduler is attached ({name}): stop it first"
                ))),
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_obstacle(root: &Path, is_root: bool) -> Option<&'static str> {
        let mut checks = check(root, is_root).into_iter();
        let obstacle = checks.find_map(|check| check.outcome.err())?;
        Some(match obstacle {
            Obstacle::Kernel(_) => "kernel",
            Obstacle::NotRoot(_) => "root",
            Obstacle::Busy(_) => "busy",
        })
    }

    #[test]
    fn each_obstacle_is_distinguished_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in [
            "sys/kernel/sched_ext",
            "sys/kernel/btf",
            "sys/kernel/security",
            "sys/fs/cgroup",
            "proc/sys/kernel",
            "proc/self/ns",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        // Its directory alone is not enough.
        assert_eq!(first_obstacle(root, true), Some("kernel"));
        for (path, text) in [
            ("sys/kernel/sched_ext/state", "disabled\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("proc/sys/kernel/ftrace_enabled", "1\n"),
            ("proc/cmdline", "quiet\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
        ] {
            fs::write(root.join(path), text).unwrap();
        }
        assert_eq!(first_obstacle(root, true), None);
        assert_eq!(first_obstacle(root, false), Some("root"));
        fs::write(root.join("sys/kernel/sched_ext/state"), "enabled\n").unwrap();
        assert_eq!(first_obstacle(root, true), Some("busy"));
        fs::write(root.join("sys/kernel/sched_ext/state"), "disabled\n").unwrap();
        fs::write(root.join("proc/cmdline"), "isolcpus=1-3\n").unwrap();
        assert_eq!(first_obstacle(root, true), Some("kernel"));
        fs::write(root.join("proc/cmdline"), "isolcpus=managed_irq,1-3\n").unwrap();
        assert_eq!(first_obstacle(root, true), None);
    }

    #[test]
    fn what_would_be_refused_for_good_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["sys/kernel/security", "sys/fs/cgroup", "proc/self/ns"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        assert!(cgroup_version(root).is_err());
        fs::write(root.join("sys/fs/cgroup/cgroup.controllers"), "cpu\n").unwrap();
        assert!(cgroup_version(root).is_ok());

        assert!(lockdown(root).is_ok());
        let file = root.join("sys/kernel/security/lockdown");
        fs::write(&file, "none [integrity] confidentiality\n").unwrap();
        assert_eq!(lockdown(root), Ok("integrity".to_owned()));
        fs::write(&file, "none integrity [confidentiality]\n").unwrap();
        assert!(lockdown(root).is_err());

        assert!(pid_namespace(root).is_ok());
        let link = root.join("proc/self/ns/pid");
        std::os::unix::fs::symlink(FIRST_PID_NAMESPACE, &link).unwrap();
        assert!(pid_namespace(root).is_ok());
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("pid:[4026532281]", &link).unwrap();
        assert!(pid_namespace(root).is_err());

        let status = root.join("proc/self/status");
        let may = |bits: &[u32]| {
            let mask: u64 = bits.iter().map(|bit| 1_u64 << bit).sum();
            fs::write(&status, format!("Name:\tx\nCapEff:\t{mask:016x}\n")).unwrap();
            capabilities(root, true)
        };
        assert!(may(&[39, 38]).is_ok());
        assert!(may(&[SYS_ADMIN]).is_ok());
        let lacking = may(&[39]).unwrap_err();
        assert!(lacking.sentence().contains("CAP_PERFMON"), "{lacking:?}");
        assert!(!lacking.sentence().contains("CAP_BPF"), "{lacking:?}");

        let limit = |hard: &str| {
            let line = format!("Max locked memory         8388608              {hard} bytes\n");
            fs::write(root.join("proc/self/limits"), line).unwrap();
        };
        limit("8388608");
        let lacking = may(&[39, 38]).unwrap_err();
        assert!(
            lacking.sentence().contains("CAP_SYS_RESOURCE"),
            "{lacking:?}"
        );
        assert!(may(&[39, 38, SYS_RESOURCE]).is_ok());
        limit("unlimited");
        assert!(may(&[39, 38]).is_ok());
    }

    #[test]
    fn only_isolated_domains_are_in_the_way() {
        for cmdline in [
            "quiet isolcpus=1-3",
            "isolcpus=domain,1-3",
            "isolcpus=nohz,domain,3",
            "isolcpus=domain,managed_irq,3",
            // Flags that no kernel knows do not count.
            "isolcpus=io_queue,3",
            // The last word does not replace the first.
            "isolcpus=domain,3 isolcpus=managed_irq,3",
            "isolcpus=managed_irq,3 isolcpus=3",
        ] {
            let found = isolated(cmdline);
            assert!(matches!(found, Isolated::Domain(_)), "{cmdline}: {found:?}");
        }
        for cmdline in [
            "isolcpus=managed_irq,1-3",
            "isolcpus=nohz,managed_irq,2-3 nohz_full=2-3",
            "isolcpus=nohz,3 -- isolcpus=3",
        ] {
            let found = isolated(cmdline);
            assert!(
                matches!(found, Isolated::OtherKinds(_)),
                "{cmdline}: {found:?}"
            );
        }
        for cmdline in ["", "quiet", "nohz_full=3", "-- isolcpus=3", "xisolcpus=3"] {
            assert_eq!(isolated(cmdline), Isolated::Nothing, "{cmdline}");
        }
    }
}
