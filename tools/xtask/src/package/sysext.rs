//! A system extension: systemd-sysext merges it over a node's `/usr`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Parts;
use crate::{command, image};

/// Merges with every distribution: what it links to is in it, but for the C library.
const RELEASE: &str = "ID=_any\nARCHITECTURE=x86-64\n";

/// Where the scheduler looks for libraries that the node may not have.
const LIBRARIES: &str = "usr/lib/infera";

/// Makes `infera.raw` in `out`.
pub fn make(parts: &Parts, out: &Path) -> Result<PathBuf> {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("root");
    parts.tree.write(&root)?;
    let release = root.join("usr/lib/extension-release.d");
    std::fs::create_dir_all(&release)?;
    std::fs::write(release.join("extension-release.infera"), RELEASE)?;
    let libraries = root.join(LIBRARIES);
    std::fs::create_dir_all(&libraries)?;
    for library in image::libraries(&super::built("scx_infera"))? {
        let name = library.file_name().unwrap_or_default();
        // Every node has a C library, and a program must not have two.
        let every = ["libc.so", "libm.so", "ld-linux", "libgcc_s.so"];
        if !every
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            std::fs::copy(&library, libraries.join(name))?;
        }
    }
    let path = out.join("infera.raw");
    let _ = std::fs::remove_file(&path);
    let mksquashfs = image::find("mksquashfs").context("no mksquashfs: run `cargo xtask setup`")?;
    let epoch = parts.epoch.to_string();
    command::run(
        Command::new(mksquashfs)
            .arg(&root)
            .arg(&path)
            .args([
                "-all-root",
                "-noappend",
                "-no-progress",
                "-quiet",
                "-no-xattrs",
            ])
            .args(["-comp", "zstd", "-processors", "1"])
            .args(["-mkfs-time", &epoch, "-all-time", &epoch])
            .env_remove("SOURCE_DATE_EPOCH"),
    )?;
    Ok(path)
}
