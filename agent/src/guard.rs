//! The guard: started by the agent, asked over its socket.

use infera_control::{ClientError, Request, SAFE_MODE_FILE, Status};
use std::io;
use std::path::{Path, PathBuf};
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
pub async fn ask(paths: &Paths, request: Request) -> Result<Status, ClientError> {
    let socket = paths.socket.clone();
    let asked = tokio::task::spawn_blocking(move || infera_control::ask(&socket, &request)).await;
    asked.unwrap_or_else(|error| Err(ClientError::Silent(io::Error::other(error))))
}

/// Has the node stand down: through the socket, and where that fails by the file, which the guard
/// or the next one sees.
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
        }
    }

    /// Starts it, or waits for it to end. To be called again and again.
    pub async fn step(&mut self) {
        let Some(child) = &mut self.child else {
            sleep_until(self.next).await;
            self.start();
            return;
        };
        let ended = child.wait().await;
        self.child = None;
        if self.started.elapsed() > BACK_OFF_MAX {
            self.back_off = BACK_OFF;
        }
        self.next = Instant::now() + self.back_off;
        self.back_off = (2 * self.back_off).min(BACK_OFF_MAX);
        let sentence = match ended {
            Ok(status) => match status.code() {
                Some(0) => "the guard ended".to_owned(),
                Some(3) => "the scheduler refused its configuration".into(),
                Some(4) => "the scheduler may not: it needs root's capabilities".into(),
                Some(5) => "this kernel cannot run the scheduler: see infera doctor".into(),
                Some(6) => "another sched_ext scheduler is attached".into(),
                Some(10) => "stopped in safe mode".into(),
                Some(127) => "the scheduler's program cannot be started".into(),
                _ => format!("the guard ended ({status})"),
            },
            Err(error) => format!("the guard cannot be waited for: {error}"),
        };
        tracing::warn!("{sentence}: next attempt in {} s", self.back_off.as_secs());
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
            // Not waited for yet: nobody else has its id.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
    }
}
