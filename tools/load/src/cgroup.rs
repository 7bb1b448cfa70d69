//! Joining a cgroup.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Moves this process into the cgroup at `dir`, which is created if absent.
///
/// # Errors
///
/// The directory cannot be created, is in no cgroup file system, or the process may not move there. A cgroup that hands
/// controllers to its children accepts no process.
pub fn join(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating cgroup {}", dir.display()))?;
    // "0" stands for the writing process. On a plain directory the file is absent, and must not
    // be created: the load would then run outside any cgroup, unnoticed.
    let procs = dir.join("cgroup.procs");
    fs::OpenOptions::new()
        .write(true)
        .open(&procs)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"0"))
        .with_context(|| format!("joining through {}", procs.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_writes_the_file() {
        let dir = std::env::temp_dir().join(format!("infera-load-join-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        join(&dir).unwrap();
        assert_eq!(fs::read(dir.join("cgroup.procs")).unwrap(), b"0");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_plain_directory_is_no_cgroup() {
        let dir = std::env::temp_dir().join(format!("infera-load-cgroup-{}", std::process::id()));
        assert!(join(&dir).is_err());
        assert!(!dir.join("cgroup.procs").exists());
        fs::remove_dir(&dir).unwrap();
    }
}
