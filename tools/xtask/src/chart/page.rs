//! The commands of docs/operations.md: what the page says is what the runbook runs.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace;

/// The page.
pub fn read() -> Result<String> {
    let path = workspace().join("docs/operations.md");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The commands in its `sh` blocks, each on one line. Blocks of other kinds are not run.
pub fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() != "```sh" {
            continue;
        }
        let block: Vec<&str> = lines
            .by_ref()
            .map(str::trim)
            .take_while(|line| *line != "```")
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect();
        commands.extend(joined(&block.join("\n")));
    }
    commands
}

/// Lines that end in a backslash, and the next ones, as one.
fn joined(text: &str) -> Vec<String> {
    text.replace("\\\n", " ").lines().map(words).collect()
}

/// With single spaces.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn commands_go_on_after_a_backslash() {
        let page = "x\n```sh\n# why\na --b \\\n  --c\nd\n```\n```text\ne\n```\n";
        assert_eq!(commands(page), ["a --b --c", "d"]);
    }
}
