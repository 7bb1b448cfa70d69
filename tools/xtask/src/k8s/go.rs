//! Programs built with Go from their modules, one at a time.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::programs::{KUBERNETES, Program, Source};
use crate::{cache, command, program};

/// Builds one into `place`. Needs Go, and the module proxy unless the modules are there.
pub fn build(program: Program, place: &Path) -> Result<()> {
    if program::find("go").is_none() {
        bail!(
            "{} is not there and there is no Go to build it with: install Go 1.26 or newer, or \
             name a directory that has it in KUBEBUILDER_ASSETS",
            program.name()
        );
    }
    // Two builds at once would take the memory and the CPUs of four.
    let lock = File::create(cache::dir("k8s")?.join("go.lock"))?;
    lock.lock().context("cannot lock the builds")?;
    if place.is_file() {
        return Ok(());
    }
    eprintln!("building {} with Go: some minutes", program.name());
    let scratch = tempfile::tempdir_in(cache::dir("k8s")?)?;
    let built = match program.source() {
        Source::Kubernetes => kubernetes(program, scratch.path())?,
        Source::Module {
            package,
            version,
            variables,
        } => module(package, &version, variables, scratch.path())?,
    };
    fs::rename(&built, place).with_context(|| format!("cannot write {}", place.display()))
}

/// A module's source, without what it depends on: `go mod download` says where it is.
pub fn download(module: &str, version: &str) -> Result<Value> {
    let scratch = tempfile::tempdir()?;
    let module = format!("{module}@v{version}");
    let mut command = go(scratch.path());
    let described = command::output(command.args(["mod", "download", "-json", &module]))?;
    Ok(serde_json::from_str(&described)?)
}

/// A `go` that builds programs without C, on two CPUs.
fn go(scratch: &Path) -> Command {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-p=2 -buildvcs=false -trimpath")
        .current_dir(scratch);
    go
}

fn module(package: &str, version: &str, variables: &[&str], scratch: &Path) -> Result<PathBuf> {
    let mut flags = "-s -w".to_owned();
    for variable in variables {
        flags.push_str(&format!(" -X {variable}={version}"));
    }
    // Not `go install`: it refuses a module that replaces others by folders of its own, as etcd's
    // do, though their releases serve as well.
    command::run(go(scratch).args(["mod", "init", "build"]))?;
    command::run(go(scratch).args(["get", &format!("{package}@{version}")]))?;
    let built = scratch.join("built");
    command::run(
        go(scratch)
            .args(["build", "-ldflags", &flags, "-o"])
            .arg(&built)
            .arg(package),
    )?;
    Ok(built)
}

/// `k8s.io/kubernetes` replaces its libraries by folders of its own, which a module that depends
/// on it does not see: a module of ours replaces them by their releases.
fn kubernetes(program: Program, scratch: &Path) -> Result<PathBuf> {
    let described = download("k8s.io/kubernetes", KUBERNETES)?;
    let theirs = described["GoMod"]
        .as_str()
        .context("go does not say where the module's go.mod is")?;
    let theirs = fs::read_to_string(theirs).with_context(|| format!("cannot read {theirs}"))?;
    fs::write(
        scratch.join("go.mod"),
        own_module(&theirs).context("go.mod of k8s.io/kubernetes looks different than before")?,
    )?;
    let built = scratch.join(program.name());
    command::run(
        go(scratch)
            .args(["build", "-mod=mod", "-ldflags", &version_flags(), "-o"])
            .arg(&built)
            .arg(format!("k8s.io/kubernetes/cmd/{}", program.name())),
    )?;
    Ok(built)
}

/// A module that takes the libraries of `k8s.io/kubernetes` from their releases.
fn own_module(theirs: &str) -> Option<String> {
    let (_, libraries) = KUBERNETES.split_once('.')?;
    let language = theirs.lines().find(|line| line.starts_with("go "))?;
    let replaced: Vec<String> = theirs
        .lines()
        .filter_map(|line| {
            let (name, _) = line.trim().split_once(" => ./staging/")?;
            Some(format!("\t{name} => {name} v0.{libraries}\n"))
        })
        .collect();
    if replaced.is_empty() {
        return None;
    }
    Some(format!(
        "module infera.invalid/tools\n\n{language}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\n\
         replace (\n{})\n",
        replaced.concat()
    ))
}

/// Without them `/version` says v0.0.0, and helm refuses charts that name a version.
fn version_flags() -> String {
    let mut parts = KUBERNETES.split('.');
    let (major, minor) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut flags = "-s -w".to_owned();
    for package in [
        "k8s.io/client-go/pkg/version",
        "k8s.io/component-base/version",
    ] {
        flags.push_str(&format!(
            " -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor={major} \
             -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
        ));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::own_module;

    #[test]
    fn libraries_come_from_their_releases() {
        let theirs = "module k8s.io/kubernetes\n\ngo 1.26.0\n\nreplace (\n\
                      \tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let ours = own_module(theirs).unwrap();
        assert!(ours.contains("\ngo 1.26.0\n"));
        assert!(ours.contains("\tk8s.io/api => k8s.io/api v0.37."));
        assert_eq!(own_module("go 1.26.0\n"), None);
    }
}
