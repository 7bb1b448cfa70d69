//! Manifests as they were last time: a change of the chart shows as a difference in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use infera_plan::Config;

use super::helm::Helm;
use crate::workspace;

/// The cluster of the golden manifests.
pub const KUBERNETES: &str = "1.37.0";

/// Values to render the chart with.
pub struct Case {
    /// Of the file, without its extension.
    pub name: String,
    /// Values.
    pub values: PathBuf,
}

impl Case {
    /// What it renders to.
    pub fn render(&self, helm: &Helm, kubernetes: &str) -> Result<String> {
        let values = self.values.display().to_string();
        let more = ["--values", &values];
        let rendered = helm
            .template(kubernetes, &more)?
            .ok(&format!("helm template, {}", self.name))?;
        Ok(separated(&rendered))
    }
}

/// The series differ in empty lines between objects.
fn separated(rendered: &str) -> String {
    let mut text = String::new();
    for object in rendered.split("---\n") {
        if !object.trim().is_empty() {
            text.push_str("---\n");
            text.push_str(object.trim_end());
            text.push('\n');
        }
    }
    text
}

/// All values that are checked in, in order.
pub fn cases() -> Result<Vec<Case>> {
    let directory = workspace().join("deploy/helm/tests/values");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let values = entry?.path();
        let name = values.file_stem().context("a file has a name")?;
        cases.push(Case {
            name: name.to_string_lossy().into_owned(),
            values,
        });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(!cases.is_empty(), "no values in {}", directory.display());
    Ok(cases)
}

/// Compares, for each helm, or writes.
pub fn check(helms: &[Helm], cases: &[Case], bless: bool) -> Result<String> {
    let mut different = Vec::new();
    for case in cases {
        let path = workspace().join(format!("deploy/helm/golden/{}.yaml", case.name));
        for helm in helms {
            let rendered = case.render(helm, KUBERNETES)?;
            if bless && helm.name == helms[0].name {
                fs::write(&path, &rendered)?;
            }
            if let Some(difference) = difference(&path, &rendered) {
                different.push(format!("{}: {difference}", helm.name));
            }
        }
    }
    if !different.is_empty() {
        bail!(
            "{}\nif that is meant: cargo xtask chart check --bless",
            different.join("\n")
        );
    }
    Ok(format!("{} cases", cases.len()))
}

fn difference(path: &Path, rendered: &str) -> Option<String> {
    let golden = fs::read_to_string(path).unwrap_or_default();
    if golden == rendered {
        return None;
    }
    let (mut old, mut new) = (golden.lines(), rendered.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (was, is) = (old.next(), new.next());
        if was != is || was.is_none() {
            let [was, is] = [was, is].map(|line| line.unwrap_or("(nothing)"));
            let name = path.display();
            return Some(format!("{name}:{number}:\n  - {was}\n  + {is}"));
        }
    }
}

/// Every rendered `infera.toml` is read as the scheduler reads it.
pub fn configurations(helm: &Helm, cases: &[Case]) -> Result<String> {
    for case in cases {
        let rendered = case.render(helm, KUBERNETES)?;
        let text = block(&rendered, "infera.toml")
            .with_context(|| format!("{}: no infera.toml", case.name))?;
        let name = format!("{}/infera.toml", case.name);
        Config::parse(Path::new(&name), &text).with_context(|| text.clone())?;
    }
    Ok(format!("{} files", cases.len()))
}

/// The guest test of the chart's capabilities has those of the chart.
pub fn capabilities(helm: &Helm, cases: &[Case]) -> Result<String> {
    let tested = include_str!("../../guest-tests/the_charts_capabilities_suffice.sh");
    let tested = tested
        .lines()
        .find_map(|line| line.strip_prefix("CAPABILITIES=-all,"))
        .context("the guest test names no capabilities")?;
    let mut tested: Vec<String> = tested
        .split(',')
        .map(|name| name.trim_start_matches('+').to_uppercase())
        .collect();
    tested.sort();
    for case in cases {
        let rendered = case.render(helm, KUBERNETES)?;
        for list in rendered.split("              add:\n").skip(1) {
            let mut added: Vec<&str> = list
                .lines()
                .take_while(|line| line.starts_with("                "))
                .filter_map(|line| line.trim().strip_prefix("- "))
                .collect();
            added.sort_unstable();
            ensure!(added == tested, "{}: {added:?}, not {tested:?}", case.name);
        }
    }
    Ok(tested.join(" "))
}

/// The text of a `KEY: |` in YAML.
pub fn block(yaml: &str, key: &str) -> Option<String> {
    let mut lines = yaml.lines();
    let opening = format!("{key}: |");
    let head = lines.find(|line| line.trim_start() == opening)?;
    let indent = head.len() - head.trim_start().len();
    let text = lines
        .take_while(|line| line.trim().is_empty() || line.starts_with(&" ".repeat(indent + 1)))
        .map(|line| line.get(indent + 2..).unwrap_or_default().to_owned() + "\n")
        .collect();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn a_block_ends_where_it_is_indented_less() {
        let yaml = "data:\n  a.toml: |\n    x = 1\n\n    [y]\n  other: 1\n";
        assert_eq!(block(yaml, "a.toml").as_deref(), Some("x = 1\n\n[y]\n"));
        assert_eq!(block(yaml, "b"), None);
    }
}
