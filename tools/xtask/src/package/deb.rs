//! A Debian package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Parts;
use crate::{command, program};

/// The libraries that the programs link to, where Debian has them.
const DEPENDS: &str =
    "libc6 (>= 2.36), libelf1 | libelf1t64, libgcc-s1, libseccomp2 (>= 2.5), zlib1g";

/// What the package has systemd do when it is installed and removed. Nothing is started before the node's owner says so.
const POSTINST: &str = "#!/bin/sh
set -e
if [ \"$1\" = configure ] && [ -d /run/systemd/system ]; then
	systemd-sysusers infera.conf
	systemd-tmpfiles --create infera.conf
	systemctl daemon-reload
fi
";
const PRERM: &str = "#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl stop infera.service || true
fi
";

/// Makes `infera_VERSION_amd64.deb` in `out`.
pub fn make(parts: &Parts, out: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("root");
    parts.tree.write(&root)?;
    let version = env!("CARGO_PKG_VERSION");
    let bytes: usize = parts.tree.0.values().map(|file| file.bytes.len()).sum();
    let control = root.join("DEBIAN");
    fs::create_dir(&control)?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755))?;
    for (name, text, mode) in [
        (
            "control",
            format!(
                "Package: infera\nVersion: {version}\nArchitecture: amd64\nMaintainer: the infera developers <infera@localhost>\n\
                 Section: admin\nPriority: optional\nInstalled-Size: {}\nDepends: {DEPENDS}\n\
                 Description: CPU quality-of-service tiers in the kernel's scheduler\n \
                 Five tiers for cgroups and Kubernetes pods, enforced through sched_ext. When\n \
                 anything goes wrong the node is back on the kernel's stock scheduler.\n",
                bytes / 1024
            ),
            0o644,
        ),
        ("postinst", POSTINST.to_owned(), 0o755),
        ("prerm", PRERM.to_owned(), 0o755),
    ] {
        let path = control.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let path = out.join(format!("infera_{version}_amd64.deb"));
    let dpkg = program::find("dpkg-deb").context("no dpkg-deb: a .deb is made on Debian")?;
    command::run(
        Command::new(dpkg)
            .args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"])
            .arg(&root)
            .arg(&path)
            .env("SOURCE_DATE_EPOCH", parts.epoch.to_string())
            .stdout(std::process::Stdio::null()),
    )?;
    Ok(path)
}
