//! `infera safe-mode`: entering works as long as anything at all does.

use crate::{Output, status};
use anyhow::{Context, Result, bail};
use infera_control::{ClientError, PID_FILE, Request, SAFE_MODE_FILE, SOCKET, ask, plain_reason};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Who asks, as the guard keeps it.
const SOURCE: &str = "operator";
/// The source of the file's safe mode.
const FILE: &str = "file";

/// Through the socket; where that fails, through the file; where that fails, by a signal.
///
/// # Errors
///
/// The guard does not answer or refuses, the file cannot be written, and the guard cannot be sent a signal:
/// [`PID_FILE`] is missing or stale, or the process is another user's.
pub fn on(reason: &str, output: Output) -> Result<ExitCode> {
    let reason = plain_reason(reason);
    let request = Request::SafeModeOn {
        source: SOURCE.into(),
        reason: reason.clone(),
    };
    let asked = ask(Path::new(SOCKET), &request);
    let Err(error) = asked else {
        return status::report(asked, output);
    };
    eprintln!("infera: {error}; trying without it");
    match fs::write(SAFE_MODE_FILE, format!("{reason}\n")) {
        Ok(()) => {
            return said(
                output,
                &format!("wrote {SAFE_MODE_FILE}: the guard stands down while it exists"),
            );
        }
        Err(error) => eprintln!("infera: cannot write {SAFE_MODE_FILE}: {error}; trying a signal"),
    }
    signal_guard().context(
        "nothing worked: as root, `kill -USR1` the process infera-guard, or write S to /proc/sysrq-trigger",
    )?;
    said(output, "sent the guard SIGUSR1")
}

fn said(output: Output, sentence: &str) -> Result<ExitCode> {
    match output {
        Output::Text => println!("{sentence}"),
        Output::Json => println!("{}", serde_json::json!({ "done": sentence })),
    }
    Ok(ExitCode::SUCCESS)
}

/// Through the socket, and the file is removed where everything or it is meant.
///
/// # Errors
///
/// The file is meant and cannot be removed, or the guard does not answer or refuses. In this second case a file that is
/// meant is removed already.
pub fn off(source: Option<String>, output: Output) -> Result<ExitCode> {
    if source.as_deref().is_none_or(|source| source == FILE) {
        match fs::remove_file(SAFE_MODE_FILE) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("cannot remove {SAFE_MODE_FILE}: {error}");
            }
            _ => {}
        }
    }
    let request = Request::SafeModeOff { source };
    let asked = ask(Path::new(SOCKET), &request).inspect_err(|error| {
        if matches!(error, ClientError::Connect { .. }) {
            eprintln!("infera: is infera-guard running?");
        }
    });
    status::report(asked, output)
}

fn signal_guard() -> Result<()> {
    let text = fs::read_to_string(PID_FILE).with_context(|| format!("cannot read {PID_FILE}"))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{PID_FILE} holds no process id"))?;
    // The number in a stale file may belong to another process by now.
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))?;
    if name.trim() != "infera-guard" {
        bail!("process {} is not the guard", pid.as_raw_nonzero());
    }
    Ok(kill_process(pid, Signal::USR1)?)
}
