//! A system extension: systemd-sysext merges it over a node's `/usr`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Parts, tree::squash};
use crate::program;

/// Merges with every distribution: what it links to is in it, but for the C library.
const RELEASE: &str = "ID=_any\nARCHITECTURE=x86-64\n";

/// Every node has these, and a program must not have two C libraries.
const EVERYWHERE: [&str; 4] = ["libc.so", "libm.so", "ld-linux", "libgcc_s.so"];

/// Makes `infera.raw` in `out`.
pub fn make(parts: &Parts, out: &Path) -> Result<PathBuf> {
    let mut tree = parts.tree.clone();
    let release = "usr/lib/extension-release.d/extension-release.infera";
    tree.put(release, RELEASE.into(), false);
    for library in program::libraries(&super::built("scx_infera"))? {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        if !EVERYWHERE.iter().any(|prefix| name.starts_with(prefix)) {
            // Where the scheduler looks: its build script.
            tree.put(
                &format!("usr/lib/infera/{name}"),
                fs::read(&library)?,
                false,
            );
        }
    }
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("root");
    tree.write(&root)?;
    let path = out.join("infera.raw");
    let epoch = parts.epoch.to_string();
    let times = ["-mkfs-time", &epoch, "-all-time", &epoch];
    squash(&root, &path, &[&times[..], &["-processors", "1"]].concat())?;
    Ok(path)
}
