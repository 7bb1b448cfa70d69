//! Helm, in both series that are in use, with nothing of the user's own set-up.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use crate::{
    k8s::{
        fetch,
        process::{Output, output_within},
        programs::Program,
    },
    workspace,
};

/// Below the workspace, as commands of the operations page name it.
pub const CHART: &str = "deploy/helm/infera";

/// A helm.
pub struct Helm {
    /// For messages.
    pub name: &'static str,
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    /// Both.
    pub fn both() -> Result<[Helm; 2]> {
        Ok([Helm::get(Program::Helm3)?, Helm::get(Program::Helm4)?])
    }

    fn get(program: Program) -> Result<Helm> {
        Ok(Helm {
            name: program.name(),
            program: fetch::get(program)?,
            home: tempfile::tempdir()?,
        })
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it in the workspace.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .current_dir(workspace());
        output_within(&mut command, "", Duration::from_secs(60))
    }

    /// The manifests of a release `infera` in namespace `infera`, for a version of Kubernetes.
    pub fn template(&self, kubernetes: &str, more: &[&str]) -> Result<Output> {
        let arguments = ["template", "infera", CHART, "--namespace", "infera"];
        // A helm that was built from its module believes in version 1.20.
        let version = ["--kube-version", kubernetes];
        self.run(&[&arguments[..], &version, more].concat())
    }
}
