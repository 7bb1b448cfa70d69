//! The assignment, which the agent publishes for the scheduler: which pod's cgroup is of which tier.
//!
//! A file and not a message, so that it is in force again after the scheduler, the guard or
//! the agent has started anew, also while the API server cannot be reached.

use crate::rules::pattern_of;
use infera_policy::Tier;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where the agent writes it.
pub const ASSIGNMENT_FILE: &str = "/run/infera/assignment.json";
/// The longest file, in bytes: a thousand pods.
const MAX_BYTES: u64 = 256 * 1024;

/// What can be wrong with the file. Nothing of it is taken over then.
#[derive(Debug, Error)]
pub enum AssignmentError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has more than what is allowed.
    #[error("{path} would have {bytes} bytes, and {MAX_BYTES} are allowed")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It is no assignment.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        message: String,
    },
}

/// A pod's cgroup and its tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodCgroup {
    /// Below the cgroup mount: `/kubepods.slice/kubepods-pod1234.slice`. Not a pattern.
    pub cgroup: String,
    /// Where its tasks go.
    #[serde(with = "tier_name")]
    pub tier: Tier,
}

/// Every pod of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Counts up when something changes; 0: there was none yet.
    pub generation: u64,
    /// Whole cores that the Critical pods ask for together: their fence, where the
    /// configuration names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_cores: Option<usize>,
    /// The pods, each cgroup once.
    pub pods: Vec<PodCgroup>,
}

impl Assignment {
    /// Reads `path`; where there is no such file, nothing is assigned.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as [`Assignment::parse`].
    pub fn read(path: &Path) -> Result<Assignment, AssignmentError> {
        let failed = |source| AssignmentError::Read {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Assignment::default());
            }
            file => file.map_err(failed)?,
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        Assignment::parse(path, &text)
    }

    /// Validates `text`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// The text is longer than 256 KiB, is no assignment, has an unknown key, or a path that is not absolute. The error
    /// has the file and the place.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Assignment, AssignmentError> {
        let wrong = |message: String| AssignmentError::Content {
            path: path.to_owned(),
            // Names can hold anything, and the log is a line an error.
            message: message.replace(char::is_control, " "),
        };
        check_length(path, text.len())?;
        let assignment: Assignment =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        for (at, pod) in assignment.pods.iter().enumerate() {
            if pattern_of(&glob::Pattern::escape(&pod.cgroup)).is_err() || pod.cgroup == "/" {
                return Err(wrong(format!(
                    "pods[{at}].cgroup = {:?}: must be an absolute path below the cgroup mount",
                    pod.cgroup
                )));
            }
        }
        Ok(assignment)
    }

    /// Puts it in `path`'s place: a reader finds the old one or this one, whole.
    ///
    /// # Errors
    ///
    /// The directory or the file cannot be written; what was there before is unchanged.
    pub fn write(&self, path: &Path) -> Result<(), AssignmentError> {
        let text = serde_json::to_vec(self).expect("has string keys only");
        check_length(path, text.len())?;
        let next = path.with_extension("next");
        let write = || -> io::Result<()> {
            let mut file = File::create(&next)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(&text)?;
            // After a crash it is in memory or gone: /run is no disk.
            fs::rename(&next, path)
        };
        write().map_err(|source| AssignmentError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

fn check_length(path: &Path, length: usize) -> Result<(), AssignmentError> {
    match length as u64 {
        0..=MAX_BYTES => Ok(()),
        bytes => Err(AssignmentError::TooLong {
            path: path.to_owned(),
            bytes,
        }),
    }
}

mod tier_name {
    use infera_policy::Tier;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the tier by its name.
    ///
    /// # Errors
    ///
    /// The serializer accepts no string, or cannot write it.
    pub fn serialize<S: Serializer>(tier: &Tier, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(tier.name())
    }

    /// Reads the tier from its name.
    ///
    /// # Errors
    ///
    /// The value is no string, or names no tier.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tier, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Assignment, String> {
        Assignment::parse(Path::new("a.json"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("assignment.json");
        assert_eq!(Assignment::read(&path).unwrap(), Assignment::default());
        let assignment = Assignment {
            generation: 7,
            critical_cores: Some(2),
            pods: vec![PodCgroup {
                cgroup: "/kubepods.slice/kubepods-pod1.slice".into(),
                tier: Tier::Critical,
            }],
        };
        assignment.write(&path).unwrap();
        assert_eq!(Assignment::read(&path).unwrap(), assignment);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""tier":"critical""#), "{text}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn whatever_else_is_there_is_refused_with_a_sentence() {
        for (bad, said) in [
            ("", "EOF"),
            ("{}", "generation"),
            (r#"{"generation":1,"pods":[],"x":1}"#, "unknown field"),
            (r#"{"generation":-1,"pods":[]}"#, "-1"),
            (
                r#"{"generation":1,"pods":[{"cgroup":"/a","tier":"gold"}]}"#,
                "gold",
            ),
            (
                r#"{"generation":1,"pods":[{"cgroup":"a","tier":"low"}]}"#,
                "pods[0].cgroup",
            ),
            (
                r#"{"generation":1,"pods":[{"cgroup":"/","tier":"low"}]}"#,
                "pods[0].cgroup",
            ),
            (
                r#"{"generation":1,"pods":[{"cgroup":"/../x","tier":"low"}]}"#,
                "pods[0].cgroup",
            ),
            (
                r#"{"generation":1,"pods":[{"cgroup":"/a\n","tier":"low"}]}"#,
                "pods[0].cgroup",
            ),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(
                error.starts_with("a.json: ") && error.contains(said),
                "{error}"
            );
            assert!(!error.contains('\n'));
        }
        let long = format!(
            r#"{{"generation":1,"pods":[]{}}}"#,
            " ".repeat(MAX_BYTES as usize)
        );
        assert!(parse(&long).unwrap_err().contains("are allowed"));
    }

    #[test]
    fn what_would_be_too_long_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("assignment.json");
        let pod = PodCgroup {
            cgroup: format!("/{}", "x".repeat(200)),
            tier: Tier::Low,
        };
        let assignment = Assignment {
            pods: vec![pod; 2000],
            ..Assignment::default()
        };
        assert!(assignment.write(&path).is_err());
        assert!(!path.exists());
    }
}
