//! What the guard can be asked over its control socket, and how.
//!
//! One request a connection: a line of JSON, then a line of JSON back. Both are bounded,
//! and the guard closes a connection whose client takes longer than [`PATIENCE`].

mod client;
mod exit;
mod server;

pub use client::{ClientError, ask};
pub use exit::{EjectKind, ExitStatus};
use serde::{Deserialize, Serialize};
pub use server::serve;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the guard listens.
pub const SOCKET: &str = "/run/infera/control.sock";
/// While this file exists, the node is in safe mode; its first line is the reason.
pub const SAFE_MODE_FILE: &str = "/run/infera/safe-mode";
/// What the guard's status was when it last changed.
pub const STATUS_FILE: &str = "/run/infera/status.json";
/// The guard's process.
pub const PID_FILE: &str = "/run/infera/guard.pid";
/// Safe modes that outlive the guard, the history, dumps.
pub const STATE_DIR: &str = "/var/lib/infera";

/// Longest request, in bytes, with its line end.
pub const MAX_REQUEST: usize = 1024;
/// Longest answer, in bytes, with its line end.
pub const MAX_REPLY: usize = 64 * 1024;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 256;
/// Longest name of who asks for safe mode, in bytes.
pub const MAX_SOURCE: usize = 32;
/// How many sources can hold a node in safe mode through the socket: what they say must fit
/// into an answer.
pub const MAX_SOURCES: usize = 16;
/// How long one side waits for the other.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are. Anybody who can connect.
    Status,
    /// Stand down. Anybody who can connect.
    SafeModeOn {
        /// Who asks; a source leaves safe mode by itself and keeps others in.
        source: String,
        /// Why.
        reason: String,
    },
    /// Let this source's safe mode go; every source's but the file's where it is absent. Root.
    SafeModeOff {
        /// Whose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Have the scheduler read its configuration again. Root.
    Reload,
}

impl Request {
    /// Whether only root may ask this.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        matches!(self, Request::SafeModeOff { .. } | Request::Reload)
    }

    /// Parses a line. The error is a sentence for who asked.
    ///
    /// # Errors
    ///
    /// The line is no request that this version knows.
    pub fn parse(line: &[u8]) -> Result<Request, String> {
        if line.len() > MAX_REQUEST {
            return Err(format!("a request has at most {MAX_REQUEST} bytes"));
        }
        let mut request: Request =
            serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
        match &mut request {
            Request::SafeModeOn { source, reason } => {
                check_source(source)?;
                if reason.len() > MAX_REASON {
                    return Err(format!("a reason has at most {MAX_REASON} bytes"));
                }
                *reason = plain_reason(reason);
            }
            Request::SafeModeOff {
                source: Some(source),
            } => check_source(source)?,
            _ => {}
        }
        Ok(request)
    }
}

/// A reason as it is kept: at most [`MAX_REASON`] bytes, and without control characters, since
/// it goes into logs, where a line is a line, and onto terminals.
#[must_use]
pub fn plain_reason(text: &str) -> String {
    let mut reason = text.replace(char::is_control, " ");
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}

fn check_source(source: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if source.is_empty() || source.len() > MAX_SOURCE || !source.chars().all(plain) {
        return Err(format!(
            "a source is 1 to {MAX_SOURCE} letters, digits, dots and dashes"
        ));
    }
    Ok(())
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// It was done, or is under way; this is how things are now.
    Done(Box<Status>),
    /// It was refused.
    Refused {
        /// A sentence.
        error: String,
    },
}

impl Reply {
    /// Parses an answer; `ask` has bounded it.
    ///
    /// # Errors
    ///
    /// The line is no answer that this version knows.
    pub fn parse(line: &[u8]) -> Result<Reply, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// What the guard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The scheduler was started and has not attached yet.
    Starting,
    /// The scheduler runs the node.
    Attached,
    /// The scheduler is being taken off the node.
    Leaving,
    /// The stock scheduler runs the node until the next attempt.
    BackingOff,
    /// The stock scheduler runs the node until every source of safe mode is cleared.
    SafeMode,
    /// The guard is about to end.
    Ended,
}

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The guard's version.
    pub version: String,
    /// What it is doing.
    pub state: State,
    /// Seconds since the Unix epoch when that began.
    pub since: u64,
    /// The scheduler's process.
    pub pid: Option<u32>,
    /// Why the node is in safe mode, by source; empty: it is not.
    pub safe_mode: BTreeMap<String, String>,
    /// The generation of the node agent's assignment that is in force; 0: none.
    #[serde(default)]
    pub generation: u64,
    /// Set when the built-in order decides because the policy misbehaved.
    pub policy_deposed: bool,
    /// Ejects since the guard started.
    pub ejects: u64,
    /// The same by kind.
    #[serde(default)]
    pub eject_kinds: BTreeMap<EjectKind, u64>,
    /// The last ones and other events, oldest first.
    pub history: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// A sentence.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_documentation_says() {
        let on = br#"{"do":"safe-mode-on","source":"operator","reason":"p99 is bad"}"#;
        assert_eq!(
            Request::parse(on),
            Ok(Request::SafeModeOn {
                source: "operator".into(),
                reason: "p99 is bad".into()
            })
        );
        assert_eq!(Request::parse(br#"{"do":"status"}"#), Ok(Request::Status));
        let off = Request::parse(br#"{"do":"safe-mode-off"}"#).unwrap();
        assert!(off.needs_root() && !Request::Status.needs_root());
    }

    #[test]
    fn a_reason_cannot_forge_a_line_of_the_log() {
        let on = br#"{"do":"safe-mode-on","source":"x","reason":"a\n[guard] b\u001b[2J"}"#;
        let Ok(Request::SafeModeOn { reason, .. }) = Request::parse(on) else {
            panic!("refused");
        };
        assert_eq!(reason, "a [guard] b [2J");
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = "ü".repeat(MAX_REASON);
        assert_eq!(plain_reason(&long).len(), MAX_REASON);
        assert_eq!(plain_reason(&format!("x{long}")).len(), MAX_REASON - 1);
        assert_eq!(plain_reason("short"), "short");
    }

    #[test]
    fn whatever_else_comes_is_refused_with_a_sentence() {
        let long = format!(
            r#"{{"do":"safe-mode-on","source":"x","reason":"{}"}}"#,
            "r".repeat(300)
        );
        for bad in [
            "",
            "{}",
            r#"{"do":"format-disk"}"#,
            r#"{"do":"safe-mode-on","source":"../x","reason":""}"#,
            long.as_str(),
            &"x".repeat(MAX_REQUEST + 1),
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
