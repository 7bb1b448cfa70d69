//! `cargo xtask docs`: what the pages say must be so.
//!
//! Finds dead links and paths, functions that are not in the file named with them, programs, commands and flags that do not exist, keys
//! that the configuration or the chart does not have, metrics that the agent does not export, commands of which it is not known whether
//! they were run, and words that are not plain English.

mod commands;
mod page;
mod proven;
mod steps;
mod words;

use crate::test::build_guest_programs;
use crate::workspace;
use anyhow::{Result, bail};
use commands::Programs;
use infera_plan::Config;
use page::{Block, Page};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The page whose `sh` blocks are performed.
const RUNBOOK: &str = "docs/operations.md";
/// Metrics end like this where a library adds it.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Builds the programs, whose help the pages are held against, and looks.
pub fn main() -> Result<()> {
    build_guest_programs()?;
    check()
}

/// Looks; the programs are built.
pub fn check() -> Result<()> {
    let root = workspace();
    let pages = pages(root)?;
    let mut programs = Programs::new(root);
    let exported = exported(root)?;
    let values = chart_values(root)?;
    let mut wrong = words::found(root)?;
    for page in &pages {
        let mut say =
            |line: usize, what: String| wrong.push(format!("{}:{line}: {what}", page.path));
        for (line, target) in &page.links {
            if let Err(what) = link(root, page, &pages, target) {
                say(*line, what);
            }
        }
        for (line, path) in page.paths() {
            if !root.join(&path).exists() {
                say(line, format!("there is no {path}"));
            }
        }
        for (line, what) in steps::wrong_in(root, page) {
            say(line, what);
        }
        for (line, command) in page.commands() {
            for what in programs.wrong_in(&command) {
                say(line, what);
            }
        }
        for block in &page.blocks {
            for (line, command) in block.commands() {
                // The runbook's own: `cargo xtask chart runbook` performs them.
                let performed = page.path == RUNBOOK && block.language == "sh";
                if block.is_tested() && !performed && proven::by(&command).is_none() {
                    say(
                        line,
                        format!(
                            "it is not known whether `{command}` was run: a line in tools/xtask/src/docs/proven.rs, or a comment: not tested"
                        ),
                    );
                }
            }
            if let Err(what) = configuration(block) {
                say(block.line, what);
            }
        }
        for (line, key) in page.keys() {
            if !(values.contains(&key) || configures(&key)) {
                say(
                    line,
                    format!("neither the configuration nor the chart has a key {key}"),
                );
            }
        }
        for (line, metric) in page.metrics() {
            let base = SUFFIXES
                .iter()
                .find_map(|suffix| metric.strip_suffix(suffix));
            if !(exported.contains(&metric) || base.is_some_and(|base| exported.contains(base))) {
                say(line, format!("the agent does not export {metric}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} things in the pages are not so:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
    println!("{} pages: as they say", pages.len());
    Ok(())
}

fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut list = Command::new("git");
    list.current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
    ]);
    let list = crate::command::output(&mut list)?;
    let pages = list.lines().map(|path| {
        let text = fs::read_to_string(root.join(path))?;
        Ok(Page::parse(path, &text))
    });
    pages.collect()
}

fn link(root: &Path, page: &Page, pages: &[Page], target: &str) -> Result<(), String> {
    if target.contains("://") {
        return Ok(()); // No network request is made.
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let directory = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    let path = match path {
        "" => page.path.clone(),
        path => directory.join(path).to_string_lossy().into_owned(),
    };
    if !root.join(&path).exists() {
        return Err(format!("there is no {path}"));
    }
    let there = pages.iter().find(|page| page.path == path);
    match there {
        Some(there) if !anchor.is_empty() && !there.anchors.contains(anchor) => {
            Err(format!("{path} has no heading #{anchor}"))
        }
        _ => Ok(()),
    }
}

/// A block of configuration is one.
fn configuration(block: &Block) -> Result<(), String> {
    if block.language != "toml" {
        return Ok(());
    }
    let parsed = Config::parse(Path::new("block"), &block.text());
    parsed.map(|_| ()).map_err(|error| error.to_string())
}

/// Whether the configuration knows a key such as `tiers.critical.fence_cores`: what is wrong with this
/// line must not be its name.
fn configures(key: &str) -> bool {
    let parse = |text: &str| Config::parse(Path::new("key"), text);
    let section = match key.rsplit_once('.') {
        Some((section, _)) => parse(&format!("[{section}]\n")).is_ok(),
        None => true,
    };
    let line = parse(&format!("{key} = []\n"));
    section
        && line
            .err()
            .is_none_or(|error| !error.to_string().contains("unknown"))
}

/// The names in the agent's list of what it must export, and what it has beyond them.
fn exported(root: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root.join("agent/src/metrics.rs"))?;
    let strings = text.split('"').skip(1).step_by(2);
    let mut names = BTreeSet::new();
    for string in strings {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if !string.is_empty() && string.chars().all(plain) {
            let name = string.strip_prefix("infera_").unwrap_or(string);
            names.insert(format!("infera_{name}"));
            names.insert(format!("infera_{name}_total"));
            let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
            names.extend(base.map(|base| format!("infera_{base}")));
        }
    }
    Ok(names)
}

/// Every value of the chart, as `agent.image.tag`.
fn chart_values(root: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read(root.join("deploy/helm/infera/values.schema.json"))?;
    let schema: serde_json::Value = serde_json::from_slice(&text)?;
    let mut values = BTreeSet::new();
    collect(&schema, "", &mut values);
    Ok(values)
}

fn collect(schema: &serde_json::Value, prefix: &str, values: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object();
    for (name, below) in properties.into_iter().flatten() {
        let path = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}.{name}"),
        };
        collect(below, &path, values);
        values.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_configuration_are_known() {
        for key in [
            "policy",
            "loans",
            "system_units",
            "tiers.critical.fence_cores",
            "tiers.low.weight",
        ] {
            assert!(configures(key), "{key}");
        }
        for key in ["polizei", "tiers.critical.fences", "tiers.urgent.weight"] {
            assert!(!configures(key), "{key}");
        }
    }

    #[test]
    fn values_of_the_chart_are_known() {
        let values = chart_values(workspace()).unwrap();
        assert!(values.contains("agent.canary.image.tag"), "{values:?}");
    }
}
