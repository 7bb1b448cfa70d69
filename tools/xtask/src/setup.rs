//! Installs what the project needs of the machine's own packages, where it is missing.

use std::{collections::HashMap, env, process::Command};

use anyhow::{Result, bail};

use crate::{
    apt::{self, PrivateRoot},
    command, program,
};

/// Packages, by what needs them.
const PACKAGES: [(&str, &[&str]); 5] = [
    (
        "the build",
        &[
            "clang-19",
            "libelf-dev",
            "zlib1g-dev",
            "libseccomp-dev",
            "pkg-config",
            "make",
            "gcc",
            "libc6-dev",
        ],
    ),
    (
        "kernels and images",
        &[
            "bc",
            "bison",
            "flex",
            "libssl-dev",
            "pahole",
            "cpio",
            "xz-utils",
            "zstd",
            "kmod",
            "binutils",
            "rsync",
            "squashfs-tools",
        ],
    ),
    (
        "guests",
        &["busybox-static", "rt-tests", "stress-ng", "memcached"],
    ),
    ("the check of dependencies", &["python3-pip"]),
    ("an API server to test with", &["openssl", "curl"]),
];

/// What those packages are for, by the names of programs: all that can be looked for elsewhere.
const PROGRAMS: [&str; 10] = [
    "cc",
    "make",
    "pkg-config",
    "busybox",
    "qemu-system-x86_64",
    "cyclictest",
    "hackbench",
    "stress-ng",
    "memcached",
    "strip",
];

/// Runs the guests.
const QEMU: &str = "qemu-system-x86";

/// QEMU's first version whose emulated processors boot the newest kernels.
const QEMU_VERSION: &str = "8.1";

/// The last Debian release whose own QEMU is older than that.
const QEMU_FROM_BACKPORTS: u32 = 12;

/// Installs what is missing. Needs neither root nor network where nothing is.
pub fn main() -> Result<()> {
    let release: u32 = match apt::os_release("ID")?.as_str() {
        "debian" => apt::os_release("VERSION_ID")?.parse().unwrap_or(u32::MAX),
        _ => 0,
    };
    if release < 12 {
        return elsewhere();
    }
    let installed = installed()?;
    let mut missing = Vec::new();
    for (user, packages) in PACKAGES {
        let lacking = packages
            .iter()
            .copied()
            .filter(|package| !installed.contains_key(*package));
        let lacking: Vec<&str> = lacking.collect();
        if !lacking.is_empty() {
            println!("missing for {user}: {}", lacking.join(" "));
        }
        missing.extend(lacking);
    }
    let old_qemu = match installed.get(QEMU) {
        None => true,
        Some(version) => older(version, QEMU_VERSION)?,
    };
    let backport = old_qemu && release <= QEMU_FROM_BACKPORTS;
    if old_qemu {
        let from = if backport { " from backports" } else { "" };
        println!("missing for guests: {QEMU} {QEMU_VERSION} or newer{from}");
        if !backport {
            missing.push(QEMU);
        }
    }
    if missing.is_empty() && !old_qemu {
        println!("all is there");
        return Ok(());
    }

    let administrator = administrator()?;
    if !missing.is_empty() {
        apt_get(administrator, &[], &["update"])?;
        let install = ["install", "--yes", "--no-install-recommends"];
        apt_get(administrator, &[], &[&install, missing.as_slice()].concat())?;
    }
    if backport {
        let codename = apt::os_release("VERSION_CODENAME")?;
        let suite = format!("{codename}-backports");
        let options = PrivateRoot::new("bpo", &[&codename, &suite])?.for_machine();
        apt_get(administrator, &options, &["update"])?;
        let install = ["-t", &suite, "install", "--yes", "--no-install-recommends"];
        apt_get(administrator, &options, &[&install[..], &[QEMU]].concat())?;
    }
    Ok(())
}

/// Where packages have other names: fails with the names of the programs that are missing, if any are.
fn elsewhere() -> Result<()> {
    // From .cargo/config.toml, or the caller's.
    let clang = env::var("BPF_CLANG").unwrap_or_else(|_| "clang".to_owned());
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .chain([clang.as_str()])
        .filter(|program| program::find(program).is_none())
        .collect();
    if !missing.is_empty() {
        bail!(
            "set-up installs on Debian 12 and newer only, and this machine lacks {}: see \
             docs/elsewhere.md",
            missing.join(" ")
        );
    }
    println!("not Debian 12 or newer: see docs/elsewhere.md if a library is missing");
    Ok(())
}

/// The versions of those packages that are installed.
fn installed() -> Result<HashMap<String, String>> {
    let names = PACKAGES.iter().flat_map(|(_, packages)| *packages);
    // It fails as soon as one is unknown, and still prints the others.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n"])
        .args(names)
        .arg(QEMU)
        .output()?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(listing: &str) -> HashMap<String, String> {
    listing
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (package, version, status) = (words.next()?, words.next()?, words.next()?);
            (status == "installed").then(|| (package.to_owned(), version.to_owned()))
        })
        .collect()
}

fn older(version: &str, than: &str) -> Result<bool> {
    // Debian's versions of QEMU have an epoch.
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let status = Command::new("dpkg")
        .args(["--compare-versions", version, "lt", than])
        .status()?;
    Ok(status.success())
}

/// What a command that installs begins with.
fn administrator() -> Result<&'static [&'static str]> {
    if command::output(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(&["env"]);
    }
    if program::find("sudo").is_some() {
        return Ok(&["sudo", "env"]);
    }
    // Root seldom has cargo.
    bail!(
        "installing packages needs root and there is no sudo: run `{} setup` once as root",
        env::current_exe()?.display()
    );
}

fn apt_get(administrator: &[&str], options: &[String], arguments: &[&str]) -> Result<()> {
    command::run(
        Command::new(administrator[0])
            .args(&administrator[1..])
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])
            // A new machine may be installing its first updates.
            .args(["-o", "DPkg::Lock::Timeout=600"])
            .args(options)
            .args(arguments),
    )
}

#[cfg(test)]
mod tests {
    use super::parse_installed;

    #[test]
    fn removed_packages_do_not_count() {
        let found = parse_installed("bc 1.07 installed\nflex 2.6 config-files\npahole  not\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found["bc"], "1.07");
    }
}
