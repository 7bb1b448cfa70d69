//! The scheduler under its guard, as a node runs it.

use crate::cgroup::Cgroup;
use crate::clock::{monotonic, sleep};
use crate::findings::Findings;
use crate::node::{self, Node};
use anyhow::{Context, Result, bail, ensure};
use infera_control::{Request, SAFE_MODE_FILE, SOCKET, STATE_DIR, State, Status, ask};
use infera_policy::Tier;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LOG: &str = "/tmp/guard.log";
const CONFIG: &str = "/tmp/guest-test.toml";

/// How long attaching may take, and leaving.
const ATTACH: Duration = Duration::from_secs(30);
const LEAVE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(50);

/// Lines of the guard's log that a failure shows.
const TAIL: usize = 40;

/// What schedules the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// infera, with the policy of that name.
    Infera(String),
    /// The kernel's own scheduler: what a test says about it is what infera is measured by.
    Stock,
}

/// A scheduler that is attached, with its guard. Both leave with the handle.
#[derive(Debug)]
pub struct Scheduler {
    guard: Option<Child>,
    attaches: u64,
}

impl Scheduler {
    /// Attaches with these cgroups in these tiers, and the lines of a configuration.
    pub fn attach(
        node: &Node,
        policy: &Policy,
        tiers: &[(Tier, &Cgroup)],
        config: &str,
    ) -> Result<Scheduler> {
        Scheduler::attach_while(node, policy, tiers, config, || Ok(()))
    }

    /// The same, with something done right after the guard's process was started.
    pub fn attach_while(
        node: &Node,
        policy: &Policy,
        tiers: &[(Tier, &Cgroup)],
        config: &str,
        event: impl FnOnce() -> Result<()>,
    ) -> Result<Scheduler> {
        let Policy::Infera(policy) = policy else {
            return Ok(Scheduler {
                guard: None,
                attaches: node.attaches()?,
            });
        };
        // A test before this one may have latched safe mode.
        for file in [SAFE_MODE_FILE, &format!("{STATE_DIR}/safe-mode.json")] {
            let _ = fs::remove_file(file);
        }
        for directory in ["/run/infera", STATE_DIR] {
            fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
        }
        fs::write(CONFIG, config).with_context(|| format!("writing {CONFIG}"))?;
        let log = File::create(LOG).with_context(|| format!("creating {LOG}"))?;
        let mut command = Command::new("infera-guard");
        // It ends with this process, even where a hang leaves no handle to drop.
        command.arg("--parent").arg(std::process::id().to_string());
        command.args(["--back-off-ms", "500", "--", "scx_infera"]);
        command.args(["--policy", policy, "--config", CONFIG]);
        for (tier, cgroup) in tiers {
            command.arg("--tier");
            command.arg(format!("{tier}={}", cgroup.pattern()));
        }
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let mut scheduler = Scheduler {
            guard: Some(command.spawn().context("starting infera-guard")?),
            attaches: 0,
        };
        event()?;
        scheduler.await_attached(node)?;
        Ok(scheduler)
    }

    fn await_attached(&mut self, node: &Node) -> Result<()> {
        let start = monotonic();
        loop {
            if node.is_enabled()? && status().is_ok_and(|status| status.state == State::Attached) {
                self.attaches = node.attaches()?;
                return Ok(());
            }
            let guard = self.guard.as_mut().map(Child::try_wait).transpose()?;
            if let Some(Some(status)) = guard {
                bail!("the guard ended with {status} while attaching\n{}", log());
            }
            ensure!(
                monotonic() - start < ATTACH,
                "not attached after {} s\n{}",
                ATTACH.as_secs(),
                log()
            );
            sleep(POLL);
        }
    }

    /// Notes as wrong whatever is not as it was after attaching: an eject, a detach, a complaint of the
    /// kernel's.
    pub fn expect_steady(&self, node: &Node, findings: &mut Findings) -> Result<()> {
        let complaints = node.complaints()?;
        findings.expect(complaints.is_empty(), || {
            format!("the kernel complains: {}", complaints.join(" | "))
        });
        if self.guard.is_none() {
            return Ok(());
        }
        let enabled = node.is_enabled()?;
        let attaches = node.attaches()?;
        match status() {
            Ok(status) => {
                let steady = status.ejects == 0 && status.state == State::Attached;
                findings.expect(steady && enabled, || {
                    let what: Vec<_> = status.history.iter().map(|event| &*event.what).collect();
                    format!(
                        "{} ejects, guard {:?}, sched_ext {}: {}",
                        status.ejects,
                        status.state,
                        if enabled { "enabled" } else { "disabled" },
                        what.join("; ")
                    )
                });
            }
            Err(error) => {
                findings.expect(false, || format!("the guard does not answer: {error:#}"))
            }
        }
        findings.expect(attaches == self.attaches, || {
            format!("attached {} times more", attaches - self.attaches)
        });
        Ok(())
    }

    /// Waits until it is attached again after an eject that is no fault of its own, at most for `most`.
    pub fn expect_back(
        &self,
        node: &Node,
        most: Duration,
        findings: &mut Findings,
    ) -> Result<Duration> {
        let start = monotonic();
        let back = || -> Result<bool> {
            Ok(node.is_enabled()? && status().is_ok_and(|status| status.state == State::Attached))
        };
        while !back()? && monotonic() - start < most {
            sleep(POLL);
        }
        let took = monotonic() - start;
        let what = status().map_or_else(
            |error| format!("the guard does not answer: {error:#}"),
            |status| format!("guard {:?} after {} ejects", status.state, status.ejects),
        );
        for event in status().map(|status| status.history).unwrap_or_default() {
            findings.expect(
                event.what == "attached" || event.what.starts_with("real-time threads"),
                || format!("it left for another reason: {}", event.what),
            );
        }
        findings.expect(back()?, || {
            format!("not attached again after {} ms: {what}", took.as_millis())
        });
        Ok(took)
    }

    /// Waits until it is attached, at most for `most`, and records as wrong an eject and a complaint of the kernel's. A start
    /// meanwhile is right.
    pub fn expect_no_eject(
        &self,
        node: &Node,
        most: Duration,
        findings: &mut Findings,
    ) -> Result<()> {
        let start = monotonic();
        let attached = || {
            node.is_enabled().unwrap_or(false)
                && status().is_ok_and(|status| status.state == State::Attached)
        };
        while self.guard.is_some() && !attached() && monotonic() - start < most {
            sleep(POLL);
        }
        let complaints = node.complaints()?;
        findings.expect(complaints.is_empty(), || {
            format!("the kernel complains: {}", complaints.join(" | "))
        });
        if self.guard.is_none() {
            return Ok(());
        }
        let status = status()?;
        findings.figure(format!(
            "attached {} times more, {} ejects; {} ms until it was attached",
            node.attaches()? - self.attaches,
            status.ejects,
            (monotonic() - start).as_millis()
        ));
        findings.expect(status.ejects == 0 && attached(), || {
            let what: Vec<_> = status.history.iter().map(|event| &*event.what).collect();
            format!(
                "{} ejects, guard {:?}: {}\n{}",
                status.ejects,
                status.state,
                what.join("; "),
                log()
            )
        });
        Ok(())
    }

    /// Stops the scheduler's process for `time`; its guard goes on.
    pub fn stop_for(&self, time: Duration) -> Result<()> {
        let processes = processes("scx_infera")?;
        for process in &processes {
            kill_process(*process, Signal::STOP).context("stopping scx_infera")?;
        }
        sleep(time);
        for process in processes {
            kill_process(process, Signal::CONT).context("continuing scx_infera")?;
        }
        Ok(())
    }

    /// Has it leave, and notes as wrong where it does not.
    pub fn leave(mut self, node: &Node, findings: &mut Findings) -> Result<()> {
        let Some(mut guard) = self.guard.take() else {
            return Ok(());
        };
        let pid = Pid::from_child(&guard);
        kill_process(pid, Signal::TERM).context("sending SIGTERM to the guard")?;
        let start = monotonic();
        while guard.try_wait()?.is_none() && monotonic() - start < LEAVE {
            sleep(POLL);
        }
        let left = guard.try_wait()?.is_some() && !node.is_enabled()?;
        findings.expect(left, || format!("not left after {} s", LEAVE.as_secs()));
        self.guard = Some(guard);
        Ok(())
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        // The scheduler leaves within 150 ms of that: docs/safety.md.
        let _ = guard.kill();
        let _ = guard.wait();
        let start = monotonic();
        while node::is_enabled().unwrap_or(false) && monotonic() - start < LEAVE {
            sleep(POLL);
        }
    }
}

/// `scx_infera` without a guard. It is killed with the handle.
#[derive(Debug)]
pub struct Unguarded {
    child: Child,
}

impl Unguarded {
    /// Attaches it with these arguments.
    pub fn attach(node: &Node, arguments: &[&str]) -> Result<Unguarded> {
        Unguarded::start(node, Command::new("scx_infera").args(arguments))
    }

    /// Attaches it by this command.
    pub fn start(node: &Node, command: &mut Command) -> Result<Unguarded> {
        let log = File::create(LOG).with_context(|| format!("creating {LOG}"))?;
        // One that leaves is in the way until it has left.
        let left = monotonic() + LEAVE;
        while !node.is_disabled()? && monotonic() < left {
            sleep(POLL);
        }
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("starting scx_infera")?;
        let mut alone = Unguarded { child };
        let start = monotonic();
        while !node.is_enabled()? {
            if let Some(status) = alone.child.try_wait()? {
                bail!(
                    "scx_infera ended with {status} while attaching\n{}",
                    self::log()
                );
            }
            ensure!(
                monotonic() - start < ATTACH,
                "not attached after {} s\n{}",
                ATTACH.as_secs(),
                self::log()
            );
            sleep(POLL);
        }
        Ok(alone)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("sending a signal to scx_infera")
    }
}

impl Drop for Unguarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes of that name.
fn processes(name: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let directory = entry?.path();
        let comm = fs::read_to_string(directory.join("comm")).unwrap_or_default();
        let number = directory.file_name().and_then(|name| name.to_str());
        let pid = number.and_then(|text| text.parse().ok());
        if comm.trim_end() == name {
            found.extend(pid.and_then(Pid::from_raw));
        }
    }
    ensure!(!found.is_empty(), "no process is called {name}");
    Ok(found)
}

/// What the guard says.
fn status() -> Result<Status> {
    Ok(ask(Path::new(SOCKET), &Request::Status)?)
}

/// The end of what guard and scheduler logged.
pub fn log() -> String {
    let log = fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
