//! The system extension on a node that boots with systemd: a small Debian in a guest.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::tree::squash;

use crate::{
    apt::{self, PrivateRoot},
    cache, command, guest, hash,
    vm::{self, VmOptions, console_tail},
};

const SCRIPT: &str = include_str!("../../guest-scripts/node-image.sh");

/// What a node has that a container has not.
const PACKAGES: [&str; 9] = [
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "grep",
    "mount",
    "procps",
    "sed",
    "systemd-sysv",
];

/// The unit that runs the script when everything has started.
const UNIT: &str = "[Unit]
Description=The test
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /infera/test
StandardOutput=file:/dev/hvc0
StandardError=inherit
[Install]
WantedBy=multi-user.target
";

/// Boots it and has the script look at it.
pub fn main(kernel: &str, extension: &Path) -> Result<()> {
    let root = root()?;
    let scratch = tempfile::tempdir()?;
    let disk = scratch.path().join("disk");
    let extensions = root.join("var/lib/extensions");
    fs::create_dir_all(&extensions)?;
    fs::copy(extension, extensions.join("infera.raw"))?;
    squash(&root, &disk, &["-Xcompression-level", "3"])?;
    let options = VmOptions {
        kernel: kernel.to_owned(),
        disk: Some(disk),
        timeout: Duration::from_secs(900),
        exact: true,
        script: SCRIPT.to_owned(),
        append: "systemd.show_status=no systemd.firstboot=no systemd.mask=getty.target systemd.mask=serial-getty@hvc0.service systemd.mask=serial-getty@ttyS0.service".into(),
        ..guest::options()
    };
    let outcome = vm::run(&options, &["boot".to_owned()], |line| {
        println!("      {line}")
    })?;
    if outcome.status != 0 || outcome.timed_out {
        bail!("the node failed\n{}", console_tail(&outcome.console));
    }
    println!(
        "ok    a node with the system extension: starts, restarts, stops, and boots without sched_ext"
    );
    Ok(())
}

/// A Debian of its own, from the cache.
fn root() -> Result<PathBuf> {
    let codename = apt::os_release("VERSION_CODENAME")?;
    let key = hash::text(&format!("{PACKAGES:?}{UNIT}"));
    let place = cache::dir("roots")?.join(format!("{codename}-{}", &key[..12]));
    if place.is_dir() {
        return Ok(place);
    }
    let options = PrivateRoot::new(&codename, &[&codename])?.apart();
    let scratch = tempfile::tempdir_in(cache::dir("roots")?)?;
    let archives = scratch.path().join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    command::run(
        Command::new("apt-get")
            .args(&options)
            .args(["-q", "update"]),
    )?;
    command::run(
        Command::new("apt-get")
            .args(&options)
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            .args([
                "-q",
                "-y",
                "--no-install-recommends",
                "--download-only",
                "install",
            ])
            .args(PACKAGES),
    )?;
    let root = scratch.path().join("root");
    for directory in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(directory))?;
        symlink(format!("usr/{directory}"), root.join(directory))?;
    }
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            // dpkg-deb would replace those links by directories.
            let tar = scratch.path().join("tar");
            let file = fs::File::create(&tar)?;
            let mut dpkg = Command::new("dpkg-deb");
            let status = dpkg
                .arg("--fsys-tarfile")
                .arg(&path)
                .stdout(file)
                .status()?;
            if !status.success() {
                bail!("cannot unpack {}", path.display());
            }
            command::run(
                Command::new("tar")
                    .args(["--keep-directory-symlink", "--no-same-owner", "-xf"])
                    .arg(&tar)
                    .arg("-C")
                    .arg(&root),
            )?;
        }
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/machine-id", "00000000000000000000000000000001\n"),
        ("etc/hostname", "node\n"),
        ("etc/systemd/system/infera-test.service", UNIT),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a place has a directory")?)?;
        fs::write(&path, text)?;
    }
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("../infera-test.service", wants.join("infera-test.service"))?;
    if !root.join("usr/bin/sh").exists() {
        symlink("dash", root.join("usr/bin/sh"))?;
    }
    fs::rename(&root, &place).context("cannot keep the root")?;
    Ok(place)
}
