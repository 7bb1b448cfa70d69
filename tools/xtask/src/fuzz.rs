//! `cargo xtask fuzz`: random input for the parsers and the guard's socket, `--seconds` for each.

use crate::{cache, command, program, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of cargo-fuzz that is installed.
const VERSION: &str = "0.13.1";

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct FuzzArgs {
    /// How long each target runs.
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// One of fuzz/fuzz_targets; all of them, one after the other, unless it is named.
    target: Option<String>,
}

/// Runs the targets; fails at the first input that one does not survive.
pub fn main(args: &FuzzArgs) -> Result<()> {
    let all = targets(&workspace().join("fuzz/fuzz_targets"))?;
    let chosen = match &args.target {
        Some(name) if !all.contains(name) => {
            bail!("no target '{name}': use one of {}", all.join(", "))
        }
        Some(name) => vec![name.clone()],
        None => all,
    };
    let program = install()?;
    for target in &chosen {
        run(&program, target, args.seconds)?;
    }
    println!(
        "{} for {} s each: nothing found",
        chosen.join(", "),
        args.seconds
    );
    Ok(())
}

fn run(program: &Path, target: &str, seconds: u32) -> Result<()> {
    eprintln!("==> cargo fuzz run {target}");
    // By itself: what does not build is no input that a target does not survive.
    command::run(&mut cargo_fuzz(program, &["build", target]))?;
    // The fuzzer writes what it finds interesting into the first corpus; the tree has the seeds.
    let found = cache::dir(&format!("fuzz/{target}"))?;
    let seeds = workspace().join("fuzz/corpus").join(target);
    let mut fuzz = cargo_fuzz(program, &["run", target]);
    fuzz.args([&found, &seeds])
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-print_final_stats=1"]);
    command::run(&mut fuzz).with_context(|| {
        format!("the input that {target} does not survive is in fuzz/artifacts/{target}")
    })
}

fn cargo_fuzz(program: &Path, arguments: &[&str]) -> Command {
    let mut fuzz = Command::new(program);
    fuzz.args(arguments)
        .current_dir(workspace())
        // The compiler that builds what is shipped, with the instrumentation that it has for
        // nightly builds only.
        .env("RUSTC_BOOTSTRAP", "1");
    if program::find("c++").is_none() && env::var_os("CXX").is_none() {
        // libFuzzer is C++: set-up's clang knows that, too.
        let clang = env::var("BPF_CLANG").unwrap_or_else(|_| "clang".to_owned());
        fuzz.env("CXX", clang.replace("clang", "clang++"));
    }
    fuzz
}

/// The names of the targets.
fn targets(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// cargo-fuzz, built into the cache unless it is there.
fn install() -> Result<PathBuf> {
    let root = cache::dir("tools")?.join(format!("cargo-fuzz-{VERSION}"));
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        let version = ["--version", VERSION, "--locked", "--root"];
        let mut install = Command::new("cargo");
        command::run(
            install
                .args(["install", "cargo-fuzz"])
                .args(version)
                .arg(&root),
        )?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::targets;
    use crate::workspace;

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let fuzz = workspace().join("fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for target in targets(&fuzz.join("fuzz_targets")).unwrap() {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            let seeds = std::fs::read_dir(fuzz.join("corpus").join(&target)).unwrap();
            assert!(seeds.count() > 0, "{target}");
        }
    }
}
