//! Debian packages from other suites than the machine's own, through apt directories in the
//! cache: the machine's sources and lists are read, never changed.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command};

/// What signs Debian's suites.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Directories apt expects below its root.
const DIRECTORIES: [&str; 8] = [
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/trusted.gpg.d",
    "etc/apt/sources.list.d",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg",
    "var/cache/apt/archives/partial",
    "var/log/apt",
];

/// apt's own user cannot write to a home directory. Signatures are still checked.
const SANDBOX: &str = "APT::Sandbox::User=root";

/// An apt configuration of its own.
pub struct PrivateRoot {
    directory: PathBuf,
}

impl PrivateRoot {
    /// Writes one that names these suites of the machine's own mirror.
    ///
    /// # Errors
    ///
    /// The machine is no Debian with a mirror, or the cache cannot be written.
    pub fn new(name: &str, suites: &[&str]) -> Result<Self> {
        let directory = cache::dir("apt")?.join(name);
        for part in DIRECTORIES {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("cannot create {}/{part}", directory.display()))?;
        }
        let mirror = mirror()?;
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(directory.join("etc/apt/sources.list"), sources)?;
        let status = directory.join("var/lib/dpkg/status");
        if !status.exists() {
            fs::write(status, "")?;
        }
        Ok(Self { directory })
    }

    /// Options for an apt that knows only this root, and of no installed package.
    pub fn apart(&self) -> Vec<String> {
        let root = self.directory.display();
        options(&[
            format!("Dir={root}"),
            format!("Dir::State::status={root}/var/lib/dpkg/status"),
            "APT::Architecture=amd64".to_owned(),
            SANDBOX.to_owned(),
        ])
    }

    /// Options for an apt that installs on the machine from this root's suites.
    pub fn for_machine(&self) -> Vec<String> {
        let root = self.directory.display();
        options(&[
            format!("Dir::Etc={root}/etc/apt"),
            format!("Dir::State::lists={root}/var/lib/apt/lists"),
            SANDBOX.to_owned(),
        ])
    }
}

/// Options for the machine's own apt, downloading into the cache.
pub fn unsandboxed() -> Vec<String> {
    options(&[SANDBOX.to_owned()])
}

fn options(values: &[String]) -> Vec<String> {
    values
        .iter()
        .flat_map(|value| ["-o".to_owned(), value.clone()])
        .collect()
}

/// Downloads packages into a directory.
///
/// # Errors
///
/// apt-get fails, for example because there is no such package.
pub fn download(options: &[String], packages: &[String], into: &Path) -> Result<()> {
    command::run(
        Command::new("apt-get")
            .args(options)
            .args(["-q", "download"])
            .args(packages)
            .current_dir(into),
    )
}

/// Unpacks every package in a directory below another one.
///
/// # Errors
///
/// dpkg-deb fails.
pub fn unpack(packages: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg-deb").arg("-x").arg(path).arg(into))?;
        }
    }
    Ok(())
}

/// What `/etc/os-release` says of a name.
///
/// # Errors
///
/// The file cannot be read, or lacks the name.
pub fn os_release(name: &str) -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let values: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = values.get(name).copied().unwrap_or_default();
    Ok(value.trim_matches('"').to_owned())
}

/// Where the machine gets its own Debian release from.
fn mirror() -> Result<String> {
    let codename = os_release("VERSION_CODENAME")?;
    // Works before any list has been downloaded.
    let targets = command::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
    ]))?;
    find_mirror(&targets, &codename)
        .with_context(|| format!("apt's sources name no mirror of {codename} main"))
}

fn find_mirror(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        (release == codename && component == "main").then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::find_mirror;

    #[test]
    fn the_mirror_is_the_one_of_the_release_itself() {
        let targets = "http://a/security/ name-security main\nhttp://b/ name main\n";
        assert_eq!(find_mirror(targets, "name").as_deref(), Some("http://b/"));
        assert_eq!(find_mirror(targets, "other"), None);
    }
}
