//! The safe modes that outlive the guard: the sources that want the stock scheduler, in a file below [`STATE_DIR`].
//!
//! A safe mode that the guard entered because of ejects holds for the build that was ejected, over boots. A new build starts
//! without it: it may have mended what was wrong. All other safe modes stay until their source ends them.

use crate::clerk::write_whole;
use crate::machine::GUARD;
use infera_control::STATE_DIR;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Safe modes, as a guard leaves them to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Why, by source.
    pub safe_mode: BTreeMap<String, String>,
    /// The build whose ejects are the cause of the guard's own safe mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<String>,
}

impl Memory {
    /// What holds for `build`; and whether the safe mode of another build was left out.
    fn for_build(mut self, build: &str) -> (Memory, bool) {
        let outdated = self.ejected.as_deref().is_some_and(|other| other != build);
        if outdated {
            self.safe_mode.remove(GUARD);
            self.ejected = None;
        }
        (self, outdated)
    }
}

fn path() -> PathBuf {
    Path::new(STATE_DIR).join("safe-mode.json")
}

/// Keeps the safe modes for the next guard.
///
/// # Errors
///
/// The file in [`STATE_DIR`] cannot be removed, or not be written ([`write_whole`]).
pub fn remember(mut memory: Memory) -> io::Result<()> {
    // The file in /run speaks for itself.
    memory.safe_mode.remove(crate::control::FILE);
    if memory.safe_mode.is_empty() {
        return match fs::remove_file(path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    write_whole(&path(), &serde_json::to_vec(&memory)?)
}

/// The safe modes of the guard before that hold for `build`, and whether one of another build was left out.
pub fn recall(build: &str) -> (Memory, bool) {
    parse(fs::read(path())).for_build(build)
}

/// A file that cannot be read is a reason of its own: a source wanted the stock scheduler.
fn parse(file: io::Result<Vec<u8>>) -> Memory {
    let damaged = |error: String| {
        let reason = format!("the remembered safe mode cannot be read: {error}");
        Memory {
            safe_mode: BTreeMap::from([(GUARD.to_owned(), reason)]),
            ejected: None,
        }
    };
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
        Err(error) => damaged(error.to_string()),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .or_else(|error| parse_before(&bytes).ok_or(error))
            .unwrap_or_else(|error| damaged(error.to_string())),
    }
}

/// The file of a version that did not know of builds: sources and reasons alone. Its own safe mode stays.
fn parse_before(bytes: &[u8]) -> Option<Memory> {
    let safe_mode = serde_json::from_slice(bytes).ok()?;
    Some(Memory {
        safe_mode,
        ejected: None,
    })
}

/// A name for the build of guard and scheduler: a hash of both programs. The version alone does not distinguish a mended build
/// from the one before it.
pub fn build(scheduler: &OsStr) -> String {
    let guard = fs::read("/proc/self/exe").unwrap_or_default();
    let scheduler = find(scheduler).and_then(|path| fs::read(path).ok());
    format!("{:016x}", hash(&[&guard, &scheduler.unwrap_or_default()]))
}

/// A program, as a shell finds it.
fn find(program: &OsStr) -> Option<PathBuf> {
    if Path::new(program).components().count() > 1 {
        return Some(program.into());
    }
    let directories = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&directories).map(|dir| dir.join(program));
    candidates.find(|path| path.is_file())
}

/// FNV-1a, eight bytes a step: it has to differ for another build, and is no protection against a forged one.
fn hash(parts: &[&[u8]]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        hash = step(hash, part.len() as u64);
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = step(hash, u64::from_le_bytes(word));
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_memory_means_safe_mode() {
        let missing = Err(io::ErrorKind::NotFound.into());
        assert!(parse(missing).safe_mode.is_empty());
        for damaged in ["", "{", "[]", "\u{0}", r#"{"safe_mode":3}"#] {
            assert_eq!(parse(Ok(damaged.into())).safe_mode.len(), 1, "{damaged}");
        }
    }

    #[test]
    fn a_file_of_a_version_without_builds_is_kept() {
        let kept = parse(Ok(
            br#"{"operator":"p99","guard":"3 ejects in 2 s"}"#.to_vec()
        ));
        assert_eq!(kept.safe_mode["operator"], "p99");
        assert_eq!(kept.for_build("new").0.safe_mode.len(), 2);
    }

    #[test]
    fn a_new_build_starts_without_the_latch_of_another() {
        let memory = Memory {
            safe_mode: [(GUARD, "3 ejects in 2 s"), ("operator", "p99")]
                .map(|(source, reason)| (source.to_owned(), reason.to_owned()))
                .into(),
            ejected: Some("old".into()),
        };
        let bytes = serde_json::to_vec(&memory).unwrap();
        let kept = parse(Ok(bytes));
        assert_eq!(kept, memory);
        assert_eq!(kept.clone().for_build("old"), (memory, false));
        let (kept, outdated) = kept.for_build("new");
        assert!(outdated);
        assert_eq!(kept.safe_mode.into_keys().collect::<Vec<_>>(), ["operator"]);
        // Detached on purpose: that holds for every build.
        let dismissed = Memory {
            safe_mode: BTreeMap::from([(GUARD.to_owned(), "detached on purpose".to_owned())]),
            ejected: None,
        };
        assert_eq!(
            dismissed.clone().for_build("new"),
            (dismissed.clone(), false)
        );
    }

    #[test]
    fn another_program_is_another_build() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("scx_infera");
        let named = |content: &[u8]| {
            fs::write(&program, content).unwrap();
            build(program.as_os_str())
        };
        let first = named(b"\x7fELF, and more");
        assert_eq!(first, named(b"\x7fELF, and more"));
        assert_ne!(first, named(b"\x7fELF, and less"));
        assert_ne!(first, build(OsStr::new("/no/such/program")));
    }
}
