//! `cargo xtask package`: infera as a part of a node image: a system extension, an OCI image and a
//! Debian package, each with its licences and a list of what is in it.

mod boot;
mod deb;
mod oci;
mod sbom;
mod sysext;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{command, hash, test::build_guest_programs, workspace};
use sbom::Component;
use tree::Tree;

/// The programs of a node.
const PROGRAMS: [&str; 4] = ["scx_infera", "infera-guard", "infera-agent", "infera"];

/// Where to.
#[derive(Args)]
pub struct PackageArgs {
    /// The directory to write to.
    #[arg(long, value_name = "DIR", default_value = "target/package")]
    out: PathBuf,
    /// Makes everything twice and compares.
    #[arg(long)]
    twice: bool,
    /// Boots a node with the system extension, and looks how it does there.
    #[arg(long)]
    boot: bool,
    /// The kernel of that node: the beginning of a cached kernel's release, or `newest`.
    #[arg(long, default_value = crate::kernel::NEWEST)]
    kernel: String,
}

/// Builds the programs and packs them.
pub fn main(arguments: &PackageArgs) -> Result<()> {
    build_guest_programs()?;
    let made = make(&arguments.out)?;
    if arguments.twice {
        let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
        let again = make(scratch.path())?;
        for (first, second) in made.iter().zip(&again) {
            ensure!(
                hash::file(first)? == hash::file(second)?,
                "{} differs when it is made again",
                first.display()
            );
        }
        println!("made twice, the same bytes");
    }
    if arguments.boot {
        boot::main(&arguments.kernel, &made[0])?;
    }
    for path in &made {
        println!("{}  {}", hash::file(path)?, path.display());
    }
    Ok(())
}

/// What every package is made of.
pub struct Parts {
    /// What comes below `/usr`.
    pub tree: Tree,
    /// Every crate and library that is in it.
    pub components: Vec<Component>,
    /// Seconds since 1970, the commit's: no clock of the machine goes into a package.
    pub epoch: u64,
}

/// Makes all of them in `out`.
pub fn make(out: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let programs: Vec<PathBuf> = PROGRAMS.iter().map(|name| built(name)).collect();
    if let Some(missing) = programs.iter().find(|path| !path.is_file()) {
        bail!("{} is not built", missing.display());
    }
    let components = sbom::components(&PROGRAMS, &programs)?;
    let parts = Parts {
        tree: Tree::of_a_node(&programs, &components)?,
        components,
        epoch: epoch()?,
    };
    let sbom = out.join("infera.spdx.json");
    fs::write(&sbom, sbom::document(&parts.components, parts.epoch)?)?;
    Ok(vec![
        sysext::make(&parts, out)?,
        oci::make(&parts, &programs, out)?,
        deb::make(&parts, out)?,
        sbom,
    ])
}

fn built(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    workspace().join(target).join("release").join(name)
}

fn epoch() -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(workspace());
    let text = command::output(&mut git)?;
    text.trim()
        .parse()
        .context("git does not print the time of the commit")
}
