//! The kernels guests boot: which are in the cache, and their parts.

pub mod build;
pub mod fetch;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{cache, hash};
use fetch::UNSTABLE;

/// Stands for the kernel fetched last: which version that is changes with Debian.
pub const NEWEST: &str = "newest";

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What `uname -r` says in it.
    pub release: String,
    /// The compressed image a boot loader takes.
    pub image: PathBuf,
    /// Its options, where they are known.
    pub config: Option<PathBuf>,
    /// Its modules, where it has some.
    pub modules: Option<PathBuf>,
    /// The image's SHA-256.
    pub sha256: String,
}

impl Kernel {
    /// Finds a kernel by path, by the beginning of a cached one's release, or the newest.
    ///
    /// # Errors
    ///
    /// There is none, or its image is not what was stored.
    pub fn find(wanted: &str) -> Result<Self> {
        if wanted == NEWEST {
            return newest_fetched(UNSTABLE)?
                .context("no kernel yet: run `cargo xtask kernel fetch` first");
        }
        if wanted.contains('/') || Path::new(wanted).is_file() {
            return Self::at(Path::new(wanted));
        }
        let mut found: Vec<(bool, SystemTime, PathBuf)> = Vec::new();
        let current = fragments_id(&infera_kernel::lines());
        for entry in fs::read_dir(cache::dir("kernels")?)?.flatten() {
            let Some(description) = describe(&entry.path()) else {
                continue;
            };
            if !release_matches(text(&description, "release"), wanted) {
                continue;
            }
            // A kernel built from the present fragments goes before one built from others.
            let stale = description
                .get("fragments")
                .is_some_and(|id| id != current.as_str());
            found.push((!stale, entry.metadata()?.modified()?, entry.path()));
        }
        found.sort();
        let Some((present, _, directory)) = found.pop() else {
            let how = if wanted.starts_with("6.12") {
                "kernel build 6.12"
            } else {
                "kernel fetch"
            };
            bail!("no kernel {wanted} in the cache: run `cargo xtask {how}` first");
        };
        if !present {
            eprintln!(
                "note: {} was built from other kernel-configs/ than the present ones",
                directory.display()
            );
        }
        Self::cached(&directory)
    }

    /// A kernel in the cache.
    ///
    /// # Errors
    ///
    /// Its image is not what was stored, or nothing was.
    pub fn cached(directory: &Path) -> Result<Self> {
        let description = describe(directory)
            .with_context(|| format!("no kernel.json in {}", directory.display()))?;
        let image = directory.join("vmlinuz");
        let sha256 = hash::file(&image)?;
        ensure!(
            sha256 == text(&description, "sha256"),
            "{} is not what was stored there: delete {} and fetch or build it again",
            image.display(),
            directory.display()
        );
        Ok(Self {
            release: text(&description, "release").to_owned(),
            config: Some(directory.join("config")).filter(|path| path.is_file()),
            modules: Some(directory.join("modules")).filter(|path| path.is_dir()),
            image,
            sha256,
        })
    }

    /// A kernel image from anywhere, with the `config` beside it.
    fn at(image: &Path) -> Result<Self> {
        Ok(Self {
            release: release_of(image)?,
            image: image.to_owned(),
            config: image
                .parent()
                .map(|dir| dir.join("config"))
                .filter(|path| path.is_file()),
            modules: None,
            sha256: hash::file(image)?,
        })
    }
}

/// A short name for exactly these settings; comments do not change it.
pub fn fragments_id(lines: &[infera_kernel::Line]) -> String {
    hash::text(&infera_kernel::merged(lines))[..12].to_owned()
}

/// The kernel fetched last from a suite of Debian, if one is in the cache.
///
/// # Errors
///
/// The cache cannot be read, or the kernel in it is not what was stored.
pub fn newest_fetched(suite: &str) -> Result<Option<Kernel>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache::dir("kernels")?)?.flatten() {
        let fetched = |description: Value| suite_of(&description) == Some(suite);
        if describe(&entry.path()).is_some_and(fetched) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    let newest = found.pop().map(|(_, directory)| Kernel::cached(&directory));
    newest.transpose()
}

/// Where a kernel comes from.
pub enum Source<'a> {
    /// Built from these fragments of kernel-configs/, by their short name.
    Fragments(&'a str),
    /// Fetched from this suite of Debian.
    Suite(&'a str),
}

/// The suite that a kernel was fetched from. Descriptions written before there was a choice do not name it.
fn suite_of(description: &Value) -> Option<&str> {
    match description.get("fragments") {
        Some(_) => None,
        None => Some(description["suite"].as_str().unwrap_or(UNSTABLE)),
    }
}

/// Completes a kernel's directory, and puts it in its place in the cache.
///
/// # Errors
///
/// The image is none, or the cache cannot be written.
pub fn store(directory: &Path, name: &str, source: &Source<'_>) -> Result<PathBuf> {
    let image = directory.join("vmlinuz");
    let mut description = json!({
        "release": release_of(&image)?,
        "sha256": hash::file(&image)?,
    });
    match source {
        Source::Fragments(id) => description["fragments"] = (*id).into(),
        Source::Suite(suite) => description["suite"] = (*suite).into(),
    }
    fs::write(
        directory.join("kernel.json"),
        serde_json::to_string_pretty(&description)? + "\n",
    )?;
    let place = cache::dir("kernels")?.join(name);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(directory, &place)
        .with_context(|| format!("cannot move the kernel to {}", place.display()))?;
    Ok(place)
}

fn describe(directory: &Path) -> Option<Value> {
    let text = fs::read_to_string(directory.join("kernel.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn text<'a>(description: &'a Value, key: &str) -> &'a str {
    description[key].as_str().unwrap_or_default()
}

/// Whether a release begins with what was asked for: 6.1 does not stand for 6.12.
fn release_matches(release: &str, wanted: &str) -> bool {
    release.strip_prefix(wanted).is_some_and(|rest| {
        !(rest.starts_with(|c: char| c.is_ascii_digit())
            && wanted.ends_with(|c: char| c.is_ascii_digit()))
    })
}

/// The release an x86 kernel image states in its header.
fn release_of(image: &Path) -> Result<String> {
    let data = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    parse_release(&data).with_context(|| format!("{} is no kernel image", image.display()))
}

fn parse_release(data: &[u8]) -> Option<String> {
    // The boot protocol: "HdrS" at 0x202, at 0x20e where the version is, less 0x200.
    if data.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let start = 0x200 + usize::from(u16::from_le_bytes([*data.get(0x20e)?, *data.get(0x20f)?]));
    let text = data.get(start..)?;
    let end = text.iter().position(|byte| matches!(byte, 0 | b' '))?;
    String::from_utf8(text[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::{parse_release, release_matches, suite_of};
    use serde_json::json;

    #[test]
    fn a_release_is_found_by_its_beginning() {
        assert!(release_matches("6.12.117", "6.12"));
        assert!(release_matches("6.12.117", "6.12.117"));
        assert!(!release_matches("6.12.117", "6.1"));
        assert!(!release_matches("6.12.117", "7.2"));
    }

    #[test]
    fn a_release_candidate_is_not_the_newest_of_another_suite() {
        assert_eq!(suite_of(&json!({ "release": "7.2" })), Some("sid"));
        let candidate = json!({ "release": "7.3", "suite": "experimental" });
        assert_eq!(suite_of(&candidate), Some("experimental"));
        assert_eq!(suite_of(&json!({ "fragments": "1234" })), None);
    }

    #[test]
    fn a_release_is_read_from_the_image() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e] = 0x80;
        image[0x280..0x28d].copy_from_slice(b"6.12.9 (me) \0");
        assert_eq!(parse_release(&image).as_deref(), Some("6.12.9"));
        assert_eq!(parse_release(b"short"), None);
    }
}
