//! The test kernel: Debian's source with exactly the options of `kernel-configs/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};
use infera_kernel::{Line, Options};

use crate::{
    apt, cache, command,
    kernel::{self, Kernel, Source},
};

/// Builds a version's kernel into the cache, unless it is there.
///
/// # Errors
///
/// There is no source package of this version, an option takes no effect, or the build fails.
pub fn main(version: &str) -> Result<()> {
    let lines = infera_kernel::lines();
    let id = kernel::fragments_id(&lines);
    let name = format!("{version}-{id}");
    let place = cache::dir("kernels")?.join(&name);
    if let Ok(cached) = Kernel::cached(&place) {
        println!("{} is in {}", cached.release, place.display());
        return Ok(());
    }

    // Its build tree goes away with it.
    let scratch = tempfile::tempdir_in(cache::dir("kernels")?)?;
    let source = source(version, scratch.path())?;
    configure(&source, &lines)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    println!("building {name} with {jobs} jobs");
    command::run(
        make(&source)
            .arg(format!("-j{jobs}"))
            .args(["--silent", "bzImage"])
            // Nothing of this machine or day goes into the image.
            .env("KBUILD_BUILD_USER", "infera")
            .env("KBUILD_BUILD_HOST", "infera")
            .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01 00:00:00 UTC"),
    )?;
    let stored = scratch.path().join("stored");
    fs::create_dir(&stored)?;
    fs::rename(source.join("arch/x86/boot/bzImage"), stored.join("vmlinuz"))?;
    fs::rename(source.join(".config"), stored.join("config"))?;
    let place = kernel::store(&stored, &name, &Source::Fragments(&id))?;
    println!("{name} is in {}", place.display());
    Ok(())
}

/// Unpacks Debian's source package of a version.
fn source(version: &str, into: &Path) -> Result<PathBuf> {
    let package = format!("linux-source-{version}");
    let packages = into.join("packages");
    fs::create_dir(&packages)?;
    apt::download(
        &apt::unsandboxed(),
        std::slice::from_ref(&package),
        &packages,
    )
    .with_context(|| {
        format!("no {package}: `apt-get update` as root may be due, or this release lacks it")
    })?;
    apt::unpack(&packages, into)?;
    fs::remove_dir_all(&packages)?;
    command::run(
        Command::new("tar")
            .arg("-C")
            .arg(into)
            .arg("-xf")
            .arg(into.join(format!("usr/src/{package}.tar.xz"))),
    )?;
    Ok(into.join(package))
}

/// Sets the fragments' options and no others, and sees that each has taken effect.
fn configure(source: &Path, lines: &[Line]) -> Result<()> {
    let merged = source.join("infera.config");
    fs::write(&merged, infera_kernel::merged(lines))?;
    command::run(
        make(source)
            .args(["--silent", "allnoconfig"])
            .env("KCONFIG_ALLCONFIG", &merged),
    )?;
    let config = Options::read(&source.join(".config"))?;
    let lost: Vec<String> = lines
        .iter()
        .filter(|line| !line.holds(&config))
        .map(|line| format!("{}: {} took no effect", line.place(), line.setting()))
        .collect();
    if !lost.is_empty() {
        bail!("{}", lost.join("\n"));
    }
    Ok(())
}

fn make(source: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("-C").arg(source);
    make
}
