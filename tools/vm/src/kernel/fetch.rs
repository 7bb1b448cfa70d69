//! Debian's newest kernel with `sched_ext`, from its unstable suite, or its newest release candidate, from experimental.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    apt::{self, PrivateRoot},
    cache, command,
    kernel::{self, Kernel, Source},
};

/// The package that depends on the newest small kernel.
const NEWEST: &str = "linux-image-cloud-amd64";

/// The suite of the kernel that `--kernel newest` stands for.
pub const UNSTABLE: &str = "sid";

/// Puts the newest kernel of the suite into the cache. Asks the network only if none is there, or on `refresh`.
///
/// # Errors
///
/// The suite cannot be reached, or its packages do not hold what they should.
pub fn main(refresh: bool, suite: &str) -> Result<()> {
    if !refresh && let Some(cached) = kernel::newest_fetched(suite)? {
        println!("{} is in {}", cached.release, cached.image.display());
        return Ok(());
    }
    let options = PrivateRoot::new(suite, &[suite])?.apart();
    command::run(
        Command::new("apt-get")
            .args(&options)
            .args(["-q", "update"]),
    )?;
    let shown = command::output(Command::new("apt-cache").args(&options).args([
        "show",
        "--no-all-versions",
        NEWEST,
    ]))?;
    let release = release(&shown)
        .with_context(|| format!("{NEWEST} does not say which kernel it stands for"))?;
    let place = cache::dir("kernels")?.join(&release);
    if let Ok(cached) = Kernel::cached(&place) {
        println!("{} is the newest already", cached.release);
        return Ok(());
    }

    let scratch = tempfile::tempdir_in(cache::dir("kernels")?)?;
    let [packages, root, stored] = ["packages", "root", "stored"].map(|n| scratch.path().join(n));
    for directory in [&packages, &root, &stored] {
        fs::create_dir(directory)?;
    }
    let wanted = ["binary", "modules", "base"].map(|part| format!("linux-{part}-{release}"));
    apt::download(&options, &wanted, &packages)?;
    apt::unpack(&packages, &root)?;
    let modules = root.join("usr/lib/modules").join(&release);
    for part in ["vmlinuz", "config"] {
        take(&modules.join(part), &stored.join(part))?;
    }
    take(&modules, &stored.join("modules"))?;
    let place = kernel::store(&stored, &release, &Source::Suite(suite))?;
    println!("{release} is in {}", place.display());
    Ok(())
}

fn take(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("the packages do not hold {}", from.display()))
}

/// The kernel a package depends on, as `uname -r` says it.
fn release(shown: &str) -> Option<String> {
    let depends = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split(", ").find_map(|dependency| {
        let package = dependency.split(' ').next()?;
        Some(package.strip_prefix("linux-image-")?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn the_release_is_in_the_dependencies() {
        let shown = "Package: x\nDepends: a, linux-image-7.2+deb-cloud-amd64 (= 7.2-1)\n";
        assert_eq!(release(shown).as_deref(), Some("7.2+deb-cloud-amd64"));
        assert_eq!(release("Depends: a\n"), None);
    }
}
