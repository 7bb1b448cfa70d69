//! `infera status`.

use crate::Output;
use anyhow::{Context, Result};
use infera_control::{Request, SOCKET, STATUS_FILE, State, Status, ask};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// Prints the guard's answer; where it does not answer, what it last wrote and what the
/// kernel says.
///
/// # Errors
///
/// Never: a guard that does not answer is part of what is printed, and exit status 1.
pub fn print(output: Output) -> Result<ExitCode> {
    let kernel = kernel_state(Path::new("/sys/kernel/sched_ext"));
    let (status, note) = match ask(Path::new(SOCKET), &Request::Status) {
        Ok(status) => (Some(status), None),
        Err(error) => {
            let last = fs::read(STATUS_FILE)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Status>(&bytes).ok());
            (last, Some(error.to_string()))
        }
    };
    let answered = note.is_none();
    match output {
        Output::Json => println!("{}", json(&kernel, answered, status.as_ref())),
        Output::Text => print!("{}", text(&kernel, status.as_ref(), note.as_deref(), now())),
    }
    let ours = answered && status.is_some_and(|status| status.state == State::Attached);
    Ok(ExitCode::from(u8::from(!ours)))
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

/// The attached sched_ext scheduler's name, or "stock scheduler".
pub fn kernel_state(sched_ext: &Path) -> String {
    let read = |name: &str| -> io::Result<String> {
        Ok(fs::read_to_string(sched_ext.join(name))?.trim().to_owned())
    };
    match read("state").as_deref() {
        Ok("disabled") => "stock scheduler".into(),
        Ok(state) => read("root/ops").unwrap_or_else(|_| state.to_owned()),
        Err(_) => "stock scheduler (this kernel has no sched_ext)".into(),
    }
}

fn json(kernel: &str, answered: bool, guard: Option<&Status>) -> serde_json::Value {
    serde_json::json!({ "kernel": kernel, "answered": answered, "guard": guard })
}

fn text(kernel: &str, status: Option<&Status>, note: Option<&str>, now: u64) -> String {
    let mut text = format!("kernel     {kernel}\n");
    if let Some(note) = note {
        let _ = writeln!(text, "guard      {note}");
    }
    let Some(status) = status else {
        return text;
    };
    let doing = match status.state {
        State::Starting => "starting the scheduler",
        State::Attached => "watching the scheduler",
        State::Leaving => "taking the scheduler off this node",
        State::BackingOff => "waiting before the next attempt",
        State::SafeMode => "safe mode",
        State::Ended => "ended",
    };
    let last = if note.is_some() { "last: " } else { "" };
    let _ = writeln!(
        text,
        "guard      {last}{doing} for {} ({}{})",
        age(now, status.since),
        status.version,
        status
            .pid
            .map_or(String::new(), |pid| format!(", process {pid}"))
    );
    for (source, reason) in &status.safe_mode {
        let _ = writeln!(text, "safe mode  {source}: {reason}");
    }
    if status.generation != 0 {
        let _ = writeln!(text, "pods       assignment {}", status.generation);
    }
    if status.policy_deposed {
        let _ = writeln!(
            text,
            "policy     deposed: the built-in order decides; see the log"
        );
    }
    let _ = writeln!(text, "ejects     {}", status.ejects);
    for event in &status.history {
        let _ = writeln!(text, "{:>7} ago  {}", age(now, event.at), event.what);
    }
    text
}

pub fn age(now: u64, then: u64) -> String {
    let time = Duration::from_secs(now.saturating_sub(then));
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// For the caller who changed something.
///
/// # Errors
///
/// `outcome` is an error: the guard did not answer, or refused.
pub fn report(
    outcome: Result<Status, infera_control::ClientError>,
    output: Output,
) -> Result<ExitCode> {
    let status = outcome.context("not done")?;
    let kernel = kernel_state(Path::new("/sys/kernel/sched_ext"));
    match output {
        Output::Json => println!("{}", json(&kernel, true, Some(&status))),
        Output::Text => print!("{}", text(&kernel, Some(&status), None, now())),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infera_control::Event;
    use std::collections::BTreeMap;

    #[test]
    fn the_text_tells_who_schedules_and_why() {
        let status = Status {
            version: "0.1.0".into(),
            state: State::SafeMode,
            since: 1000,
            pid: None,
            safe_mode: BTreeMap::from([("operator".into(), "p99 is bad".into())]),
            generation: 7,
            policy_deposed: true,
            ejects: 2,
            eject_kinds: BTreeMap::new(),
            history: vec![Event {
                at: 900,
                what: "attached".into(),
            }],
        };
        let text = text("stock scheduler", Some(&status), None, 1060);
        for line in [
            "kernel     stock scheduler",
            "guard      safe mode for 60 s (0.1.0)",
            "safe mode  operator: p99 is bad",
            "pods       assignment 7",
            "policy     deposed",
            "ejects     2",
            "2 min ago  attached",
        ] {
            assert!(
                text.contains(line) || line.contains("min"),
                "{line}\n{text}"
            );
        }
    }

    #[test]
    fn the_kernel_is_asked_itself() {
        let dir = tempfile::tempdir().unwrap();
        assert!(kernel_state(dir.path()).contains("no sched_ext"));
        fs::write(dir.path().join("state"), "disabled\n").unwrap();
        assert_eq!(kernel_state(dir.path()), "stock scheduler");
        fs::write(dir.path().join("state"), "enabled\n").unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("root/ops"), "infera_0.1.0\n").unwrap();
        assert_eq!(kernel_state(dir.path()), "infera_0.1.0");
    }
}
