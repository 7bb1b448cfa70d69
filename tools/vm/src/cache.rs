//! Where what was fetched and built is kept between runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};

/// The cache directory: `$INFERA_CACHE`, `$XDG_CACHE_HOME/infera` or `~/.cache/infera`.
///
/// # Errors
///
/// None of the variables is set.
pub fn root() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("INFERA_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = set("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("infera"));
    }
    let home = set("HOME").context("neither INFERA_CACHE, XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/infera"))
}

/// A directory inside the cache, created where it is missing.
///
/// # Errors
///
/// As [`root`], or it cannot be created.
pub fn dir(name: &str) -> Result<PathBuf> {
    let dir = root()?.join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Writes a file whole or not at all, so that a second process never reads half of it.
///
/// # Errors
///
/// The directory cannot be written; what was there before is unchanged.
pub fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    let parent = path.parent().context("a file needs a directory")?;
    let file = tempfile::NamedTempFile::new_in(parent)?;
    fs::write(file.path(), data)?;
    file.persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// Deletes all but the `keep` most recently written files of a directory.
///
/// # Errors
///
/// The directory cannot be read.
pub fn prune(dir: &Path, keep: usize) -> Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(keep);
    for (_, path) in &files[..surplus] {
        // Another process may have deleted it first.
        let _ = fs::remove_file(path);
    }
    Ok(())
}
