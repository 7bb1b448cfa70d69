//! Programs of this machine: where they are, and which libraries they load.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// A program of the machine. Not everyone has the administrator's directories in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The shared libraries a program loads, and its loader. None for a script or a static one.
///
/// # Errors
///
/// A library is missing on this machine, or there is no `ldd`.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot start ldd")?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in listing.lines() {
        if line.ends_with("not found") {
            bail!("{}: {}", program.display(), line.trim());
        }
        // "name => /path (address)", "/path (address)", "linux-vdso.so.1 (address)"
        let target = line.split_once("=> ").map_or(line, |(_, target)| target);
        let path = target.trim().split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}
