//! Manifests against the published schemas of several Kubernetes versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};

use super::{golden::Case, helm::Helm};
use crate::{cache, command, k8s::process::output_within};

/// Each has its schemas in the tool.
const VERSIONS: [&str; 5] = ["1.33", "1.34", "1.35", "1.36", "1.37"];

/// Carries them, so that nothing is downloaded later.
const TOOL: &str = "kubernetes-validate==1.37.0";

/// The Python that is there on every Debian.
const PYTHON: &str = "/usr/bin/python3";

/// What the Prometheus operator defines, not Kubernetes.
const FOREIGN: &str = "monitoring.coreos.com/";

/// Renders every case for every version, and validates.
pub fn check(helm: &Helm, cases: &[Case]) -> Result<String> {
    let tool = install()?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for version in VERSIONS {
        let scratch = tempfile::tempdir()?;
        let mut files = Vec::new();
        for case in cases {
            let rendered = case.render(helm, &format!("{version}.0"))?;
            for (number, object) in objects(&rendered).enumerate() {
                let file = scratch.path().join(format!("{}-{number}.yaml", case.name));
                fs::write(&file, object)?;
                files.push(file);
            }
        }
        count += files.len();
        let mut command = Command::new(&tool);
        command
            .args(["--strict", "--quiet", "-k", version])
            .args(&files);
        let output = output_within(&mut command, "", Duration::from_secs(300))?;
        if !output.status.success() {
            wrong.push(format!("{version}: {}", output.said().trim_end()));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{count} objects, {}", VERSIONS.join(", ")))
}

fn objects(rendered: &str) -> impl Iterator<Item = &str> {
    rendered
        .split("\n---\n")
        .filter(|object| object.contains("\nkind: "))
        .filter(|object| !object.contains(&format!("apiVersion: {FOREIGN}")))
}

/// The tool, put into the cache unless it is there.
fn install() -> Result<PathBuf> {
    let place = cache::dir("tools")?.join(TOOL.replace("==", "-"));
    let program = place.join("run");
    if program.is_file() {
        return Ok(program);
    }
    let scratch = tempfile::tempdir_in(cache::dir("tools")?)?;
    command::run(
        Command::new(PYTHON)
            .args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"])
            .args(["--root-user-action", "ignore"])
            .args([Path::new("--target"), scratch.path()])
            .arg(TOOL),
    )?;
    // Its own script belongs to another place of the packages.
    let script = format!(
        "#!{PYTHON} -I\nimport os, sys\nsys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))\n\
         from kubernetes_validate.__main__ import main\nsys.exit(main())\n"
    );
    let draft = scratch.path().join("run");
    fs::write(&draft, script)?;
    command::run(
        Command::new("chmod")
            .arg("755")
            .args([scratch.path(), &draft]),
    )?;
    if fs::rename(scratch.path(), &place).is_ok() {
        // It is no longer there to be deleted.
        let _ = scratch.keep();
    }
    Ok(program)
}
