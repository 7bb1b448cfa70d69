//! SHA-256 of files and short texts.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use crate::command;

/// The hash of a text.
pub fn text(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

/// The hash of each file, in order. Left to `sha256sum`, which a debug build of this program
/// is forty times slower than.
///
/// # Errors
///
/// A file cannot be read, or there is no `sha256sum`.
pub fn files(paths: &[PathBuf]) -> Result<Vec<String>> {
    // --zero: names with a backslash or a newline are not escaped.
    let listing = command::output(Command::new("sha256sum").args(["--zero", "--"]).args(paths))?;
    let hashes: Vec<String> = listing
        .split_terminator('\0')
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect();
    ensure!(hashes.len() == paths.len(), "sha256sum left out a file");
    Ok(hashes)
}

/// The hash of one file.
///
/// # Errors
///
/// As [`files`].
pub fn file(path: &Path) -> Result<String> {
    Ok(files(&[path.to_owned()])?.remove(0))
}
