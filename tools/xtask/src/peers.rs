//! `cargo xtask peers`: other sched_ext schedulers, to be compared with. They are built outside of the
//! tree, and nothing of theirs is linked.

use crate::cache;
use crate::command::run;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// On crates.io, one version of all.
const PEERS: [&str; 4] = ["scx_layered", "scx_rustland", "scx_bpfland", "scx_lavd"];
const VERSION: &str = "1.1.4";

/// Installs those named, or all.
pub fn main(names: &[String]) -> Result<()> {
    for name in names {
        ensure!(
            PEERS.contains(&name.as_str()),
            "no peer is called {name}; there are {}",
            PEERS.join(", ")
        );
    }
    let root = cache::dir("peers")?;
    for name in PEERS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        if !root.join("bin").join(name).is_file() {
            eprintln!("==> {name} {VERSION}: several minutes");
            let mut install = Command::new("cargo");
            install
                .args(["install", "--locked", "--version", VERSION, "--root"])
                .arg(&root)
                .arg(name)
                .env("CARGO_TARGET_DIR", root.join("target"));
            run(&mut install)?;
        }
        println!("{name} is in {}", root.join("bin").display());
    }
    Ok(())
}

/// The programs that are there.
pub fn installed(root: &Path) -> Vec<PathBuf> {
    let programs = PEERS.iter().map(|name| root.join("bin").join(name));
    programs.filter(|program| program.is_file()).collect()
}
