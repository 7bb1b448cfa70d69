//! `cargo xtask chart check`: everything about the chart that needs no API server.

use anyhow::{Result, bail};
use clap::Args;

use super::{alerts, golden, helm::Helm, refusals, schemas, used};

/// What to do.
#[derive(Args)]
pub struct CheckArgs {
    /// Write the golden manifests anew instead of comparing with them.
    #[arg(long)]
    bless: bool,
}

/// Checks all; fails when something is wrong.
pub fn main(arguments: &CheckArgs) -> Result<()> {
    let helms = Helm::both()?;
    let mut wrong = Vec::new();
    for helm in &helms {
        step(&mut wrong, &format!("{} lint --strict", helm.name), || {
            lint(helm)
        });
    }
    step(&mut wrong, "values that do something", used::check);
    let cases = golden::cases()?;
    step(&mut wrong, "golden manifests, from both helms", || {
        golden::check(&helms, &cases, arguments.bless)
    });
    step(
        &mut wrong,
        "rendered infera.toml is one the scheduler takes",
        || golden::configurations(&helms[0], &cases),
    );
    step(&mut wrong, "capabilities, as tested on a kernel", || {
        golden::capabilities(&helms[0], &cases)
    });
    for helm in &helms {
        step(
            &mut wrong,
            &format!("{} refuses bad values", helm.name),
            || refusals::check(helm),
        );
    }
    step(&mut wrong, "Kubernetes' schemas", || {
        schemas::check(&helms[0], &cases)
    });
    step(&mut wrong, "alerts and dashboard", || {
        alerts::check(&helms[0])
    });
    if !wrong.is_empty() {
        bail!("the chart is wrong:\n{}", wrong.join("\n"));
    }
    Ok(())
}

fn step(wrong: &mut Vec<String>, name: &str, check: impl FnOnce() -> Result<String>) {
    match check() {
        Ok(found) => eprintln!("ok    {name}: {found}"),
        Err(error) => {
            eprintln!("FAIL  {name}");
            wrong.push(format!("{name}: {error:#}"));
        }
    }
}

fn lint(helm: &Helm) -> Result<String> {
    let output = helm.run(&["lint", "--strict", super::helm::CHART])?;
    output.ok("helm lint").map(|_| "nothing".to_owned())
}
