//! The guard: started by the agent, asked over its socket.

use infera_control::{ClientError, ExitStatus, Request, SAFE_MODE_FILE, Status};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus as ProcessExit;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

/// The source of the safe mode that the node's annotation asks for.
pub const ANNOTATION: &str = "annotation";

/// The socket and the files that agent, guard and scheduler share.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The guard's socket.
    pub socket: PathBuf,
    /// The assignment.
    pub assignment: PathBuf,
    /// While it exists, the node is in safe mode.
    pub safe_mode: PathBuf,
}

impl Paths {
    /// Those in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Paths {
        let name = Path::new(SAFE_MODE_FILE).file_name();
        Paths {
            socket: dir.join("control.sock"),
            assignment: dir.join("assignment.json"),
            safe_mode: dir.join(name.expect("is a file's")),
        }
    }
}

/// Asks the guard, on a thread of its own: it may take its time.
///
/// # Errors
///
/// As [`infera_control::ask`], or the thread panicked.
pub async fn ask(paths: &Paths, request: Request) -> Result<Status, ClientError> {
    let socket = paths.socket.clone();
    let asked = tokio::task::spawn_blocking(move || infera_control::ask(&socket, &request)).await;
    asked.unwrap_or_else(|error| Err(ClientError::Silent(io::Error::other(error))))
}

/// Has the node stand down: through the socket, and where that fails by the file, which the guard
/// or the next one sees.
///
/// # Errors
///
/// The guard does not answer or refuses, and the file cannot be written either. The text has both reasons.
pub async fn stand_down(paths: &Paths, reason: &str) -> Result<(), String> {
    let request = Request::SafeModeOn {
        source: ANNOTATION.into(),
        reason: reason.into(),
    };
    let Err(asked) = ask(paths, request).await else {
        return Ok(());
    };
    tracing::warn!("{asked}: writing {} instead", paths.safe_mode.display());
    std::fs::write(&paths.safe_mode, format!("{ANNOTATION}: {reason}\n")).map_err(|error| {
        format!(
            "{asked}; cannot write {}: {error}",
            paths.safe_mode.display()
        )
    })
}

/// Lets go of what [`stand_down`] did; what others want stays.
///
/// # Errors
///
/// The agent's file cannot be removed, or the guard does not answer or refuses. In this second case the file is removed
/// already.
pub async fn take_over(paths: &Paths) -> Result<(), String> {
    let ours = std::fs::read_to_string(&paths.safe_mode)
        .is_ok_and(|text| text.starts_with(&format!("{ANNOTATION}: ")));
    if ours {
        std::fs::remove_file(&paths.safe_mode)
            .map_err(|error| format!("cannot remove {}: {error}", paths.safe_mode.display()))?;
    }
    let source = Some(ANNOTATION.to_owned());
    ask(paths, Request::SafeModeOff { source })
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The guard's process, started anew whenever it ends.
pub struct Supervisor {
    command: Vec<std::ffi::OsString>,
    child: Option<Child>,
    next: Instant,
    back_off: Duration,
    started: Instant,
    /// What the last one ended with.
    pub refusal: Option<String>,
    /// The last one ended because the node is not as the scheduler needs it.
    refused: bool,
    /// Where the node's files are.
    root: PathBuf,
}

/// The first obstacle of the list that the scheduler goes by, too: `scx_infera --check`.
fn obstacle(root: &Path) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    let mut checks = infera_kernel::check(root, is_root).into_iter();
    let obstacle = checks.find_map(|check| check.outcome.err())?;
    Some(obstacle.sentence().to_owned())
}

/// Whether that list says why.
fn is_refused_by_node(status: ExitStatus) -> bool {
    matches!(
        status,
        ExitStatus::NotRoot | ExitStatus::Kernel | ExitStatus::Busy
    )
}

fn sentence(status: Option<ExitStatus>) -> Option<&'static str> {
    Some(match status? {
        ExitStatus::Done => "the guard ended",
        ExitStatus::Config => "the scheduler refused its configuration",
        ExitStatus::SafeMode => "stopped in safe mode",
        ExitStatus::NotStarted => "the scheduler's program cannot be started",
        _ => return None,
    })
}

const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

impl Supervisor {
    /// Of the command that follows the guard's own options.
    #[must_use]
    pub fn new(guard: &Path, scheduler: &Path, config: &Path, paths: &Paths) -> Supervisor {
        let mut command: Vec<std::ffi::OsString> = vec![
            guard.into(),
            "--parent".into(),
            std::process::id().to_string().into(),
            "--".into(),
            scheduler.into(),
            "--assignment".into(),
            paths.assignment.clone().into(),
        ];
        if config.exists() {
            command.extend(["--config".into(), config.into()]);
        }
        Supervisor {
            command,
            child: None,
            next: Instant::now(),
            back_off: BACK_OFF,
            started: Instant::now(),
            refusal: None,
            refused: false,
            root: "/".into(),
        }
    }

    /// Starts it, or waits for it to end. To be called again and again.
    pub async fn step(&mut self) {
        let Some(child) = &mut self.child else {
            sleep_until(self.next).await;
            match self.still_refused() {
                Some(sentence) => self.wait_on(sentence),
                None => self.start(),
            }
            return;
        };
        let ended = child.wait().await;
        self.child = None;
        if self.started.elapsed() > BACK_OFF_MAX {
            self.back_off = BACK_OFF;
        }
        self.next = Instant::now() + self.back_off;
        self.back_off = (2 * self.back_off).min(BACK_OFF_MAX);
        let status = ended.as_ref().ok().and_then(ProcessExit::code);
        let status = status.and_then(ExitStatus::from_code);
        self.refused = status.is_some_and(is_refused_by_node);
        let sentence = match (ended, status) {
            (Ok(_), Some(status)) if self.refused => obstacle(&self.root)
                .unwrap_or_else(|| format!("the scheduler refused to start ({status:?})")),
            (Ok(ended), status) => {
                sentence(status).map_or_else(|| format!("the guard ended ({ended})"), str::to_owned)
            }
            (Err(error), _) => format!("the guard cannot be waited for: {error}"),
        };
        tracing::warn!("{sentence}: next attempt in {} s", self.back_off.as_secs());
        self.refusal = Some(sentence);
    }

    /// What still is in the way of a scheduler that the node refused. While it is, no process is started.
    fn still_refused(&self) -> Option<String> {
        self.refused.then(|| obstacle(&self.root)).flatten()
    }

    fn wait_on(&mut self, sentence: String) {
        self.next = Instant::now() + self.back_off;
        self.back_off = (2 * self.back_off).min(BACK_OFF_MAX);
        self.refusal = Some(sentence);
    }

    fn start(&mut self) {
        self.started = Instant::now();
        let spawned = Command::new(&self.command[0])
            .args(&self.command[1..])
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                let program = self.command[0].display().to_string();
                self.refusal = Some(format!("cannot start {program}: {error}"));
                self.next = Instant::now() + self.back_off;
                self.back_off = (2 * self.back_off).min(BACK_OFF_MAX);
            }
        }
    }

    /// Asks it to leave, and waits for that.
    pub async fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        let pid = child
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            // The child has not been waited for yet, so no other process has its id.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A guard that counts its starts and ends with `status`.
    fn supervisor(dir: &Path, status: i32) -> Supervisor {
        let guard = dir.join("guard");
        let script = format!(
            "#!/bin/sh\necho x >>{}/starts\nexit {status}\n",
            dir.display()
        );
        fs::write(&guard, script).unwrap();
        fs::set_permissions(&guard, fs::Permissions::from_mode(0o755)).unwrap();
        let config = dir.join("none.toml");
        let mut supervisor = Supervisor::new(&guard, Path::new("scx"), &config, &Paths::new(dir));
        supervisor.root = dir.join("root");
        supervisor
    }

    fn starts(dir: &Path) -> usize {
        fs::read_to_string(dir.join("starts")).map_or(0, |text| text.lines().count())
    }

    async fn step_at_once(supervisor: &mut Supervisor) {
        supervisor.next = Instant::now();
        supervisor.step().await;
    }

    #[tokio::test]
    async fn a_node_that_refuses_the_scheduler_is_asked_and_no_process_started() {
        let dir = tempfile::tempdir().unwrap();
        let mut supervisor = supervisor(dir.path(), ExitStatus::Kernel.code());
        // Started, and waited for.
        for _ in 0..2 {
            step_at_once(&mut supervisor).await;
        }
        for _ in 0..5 {
            step_at_once(&mut supervisor).await;
        }
        assert_eq!(starts(dir.path()), 1);
        let refusal = supervisor.refusal.clone().unwrap();
        assert!(refusal.contains("CONFIG_SCHED_CLASS_EXT=y"), "{refusal}");
    }

    #[tokio::test]
    async fn a_guard_that_crashes_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut supervisor = supervisor(dir.path(), 1);
        for _ in 0..4 {
            step_at_once(&mut supervisor).await;
        }
        assert_eq!(starts(dir.path()), 2);
        assert!(supervisor.refusal.unwrap().contains("the guard ended"));
    }
}
