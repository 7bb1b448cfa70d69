//! The files of a node, as they lie below `/usr`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::sbom::{self, Component};
use crate::{command, program, workspace};

/// A file's bytes, and whether it is a program.
#[derive(Clone)]
pub struct File {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether it can be executed.
    pub program: bool,
}

/// Files by their places: `usr/bin/infera`.
#[derive(Clone)]
pub struct Tree(pub BTreeMap<String, File>);

impl Tree {
    /// Programs, units, manual, licences.
    pub fn of_a_node(programs: &[PathBuf], components: &[Component]) -> Result<Tree> {
        let mut tree = Tree(BTreeMap::new());
        for program in programs {
            let name = program.file_name().context("a program has a name")?;
            let place = format!("usr/bin/{}", name.to_string_lossy());
            tree.put(&place, stripped(program)?, true);
        }
        for (source, place) in [
            (
                "deploy/node/infera.service",
                "usr/lib/systemd/system/infera.service",
            ),
            (
                "deploy/node/sysusers.conf",
                "usr/lib/sysusers.d/infera.conf",
            ),
            (
                "deploy/node/tmpfiles.conf",
                "usr/lib/tmpfiles.d/infera.conf",
            ),
            ("deploy/node/infera.toml", "usr/share/infera/infera.toml"),
            ("LICENSE", "usr/share/doc/infera/LICENSE"),
            ("LICENSE-APACHE", "usr/share/doc/infera/LICENSE-APACHE"),
            ("docs/safety.md", "usr/share/doc/infera/safety.md"),
            ("docs/sizing.md", "usr/share/doc/infera/sizing.md"),
        ] {
            let path = workspace().join(source);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            tree.put(place, bytes, false);
        }
        let licences = sbom::licences(components);
        tree.put(
            "usr/share/doc/infera/licences.txt",
            licences.into_bytes(),
            false,
        );
        tree.manual(programs)?;
        Ok(tree)
    }

    /// Puts a file into its place.
    pub fn put(&mut self, place: &str, bytes: Vec<u8>, program: bool) {
        self.0.insert(place.to_owned(), File { bytes, program });
    }

    /// The manual pages, which the command line writes itself.
    fn manual(&mut self, programs: &[PathBuf]) -> Result<()> {
        let infera = programs.last().context("the command line is there")?;
        let scratch = tempfile::tempdir()?;
        command::run(Command::new(infera).arg("man").arg(scratch.path()))?;
        for entry in fs::read_dir(scratch.path())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.put(
                &format!("usr/share/man/man1/{name}"),
                fs::read(&path)?,
                false,
            );
        }
        for (shell, place) in [
            ("bash", "usr/share/bash-completion/completions/infera"),
            ("zsh", "usr/share/zsh/site-functions/_infera"),
            ("fish", "usr/share/fish/vendor_completions.d/infera.fish"),
        ] {
            let text = command::output(Command::new(infera).args(["completions", shell]))?;
            self.put(place, text.into_bytes(), false);
        }
        Ok(())
    }

    /// Writes the files into a directory, with modes that no umask changes.
    pub fn write(&self, into: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for (place, file) in &self.0 {
            let path = into.join(place);
            let parent = path.parent().context("a place has a directory")?;
            fs::create_dir_all(parent)?;
            fs::write(&path, &file.bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode(file)))?;
            for directory in parent.ancestors().take_while(|path| *path != into) {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
            }
        }
        fs::set_permissions(into, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

/// A file's permissions.
pub fn mode(file: &File) -> u32 {
    if file.program { 0o755 } else { 0o644 }
}

/// A squashfs of a directory, everything in it root's, without the machine's times where `more` says
/// which ones instead.
pub fn squash(root: &Path, file: &Path, more: &[&str]) -> Result<()> {
    let mksquashfs =
        program::find("mksquashfs").context("no mksquashfs: run `cargo xtask setup`")?;
    let mut command = Command::new(mksquashfs);
    command.arg(root).arg(file);
    command.args(["-all-root", "-noappend", "-no-progress", "-quiet"]);
    command.args(["-no-xattrs", "-comp", "zstd"]).args(more);
    command::run(command.env_remove("SOURCE_DATE_EPOCH"))
}

/// Without symbols: a node debugs with the ones that are kept elsewhere.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let scratch = tempfile::NamedTempFile::new()?;
    let mut strip =
        Command::new(program::find("strip").context("no strip: run `cargo xtask setup`")?);
    strip
        .args(["--strip-all", "-o"])
        .arg(scratch.path())
        .arg(program);
    command::run(&mut strip)?;
    Ok(fs::read(scratch.path())?)
}
