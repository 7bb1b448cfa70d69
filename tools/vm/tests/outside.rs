//! A crate outside of this workspace can depend on the policies and on this library by path.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

#[test]
fn an_outside_crate_compiles() -> Result<()> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = library.ancestors().nth(2).context("two levels below")?;
    let outside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside");
    fs::create_dir_all(outside.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"outside\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         infera-policy = {{ path = {:?} }}\ninfera-vm = {{ path = {library:?} }}\n",
        root.join("policies")
    );
    fs::write(outside.join("Cargo.toml"), manifest)?;
    fs::write(
        outside.join("src/main.rs"),
        include_str!("outside/program.rs"),
    )?;
    // The same versions, which are on this machine.
    fs::copy(root.join("Cargo.lock"), outside.join("Cargo.lock"))?;
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet"])
        .current_dir(&outside)
        .env("CARGO_TARGET_DIR", outside.join("target"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
