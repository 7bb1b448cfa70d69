//! Whether this kernel, as it runs now, can take the scheduler: `--check`, and the refusals
//! before attaching.

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
    fn each_obstacle_is_told_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["sys/kernel/sched_ext", "sys/kernel/btf", "proc/sys/kernel"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        // Its directory alone is not enough.
        assert_eq!(first_obstacle(root, true), Some("kernel"));
        for (path, text) in [
            ("sys/kernel/sched_ext/state", "disabled\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("proc/sys/kernel/ftrace_enabled", "1\n"),
            ("proc/cmdline", "quiet\n"),
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
