//! Words that pages, help texts, log lines and comments must not have, because they hide which thing acts: the list of CONTRIBUTING.md.
//!
//! Every line of every text file is checked: a doc comment is a help text in one crate and a comment in the next. A file in which such a
//! word names something else, such as the Unix user `nobody`, is an exception.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Each is one word, or two in a row.
const WORDS: [&str; 15] = [
    "whoever", "nobody", "somebody", "someone", "told", "tell", "tells", "hear", "hears", "heard",
    "obey", "obeys", "so many", "so long", "so much",
];

/// Files that name the user `nobody`, or the words themselves.
const EXCEPTIONS: [&str; 4] = [
    "CONTRIBUTING.md",
    "tools/load/src/postgres.rs",
    "tools/xtask/guest-tests/refusals_name_the_reason.sh",
    "tools/xtask/src/docs/words.rs",
];

const ENDS: [&str; 9] = [
    ".md", ".rs", ".h", ".c", ".sh", ".toml", ".yaml", ".tpl", ".service",
];

/// Lines with such a word, as `path:line: word`.
pub fn found(root: &Path) -> Result<Vec<String>> {
    let mut list = Command::new("git");
    list.current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut found = Vec::new();
    for path in crate::command::output(&mut list)?.lines() {
        if EXCEPTIONS.contains(&path) || !ENDS.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        // A file that was deleted and is not committed yet.
        let Ok(text) = fs::read_to_string(root.join(path)) else {
            continue;
        };
        for (at, line) in text.lines().enumerate() {
            if let Some(word) = word_in(line) {
                found.push(format!("{path}:{}: \"{word}\"", at + 1));
            }
        }
    }
    Ok(found)
}

fn word_in(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let words: Vec<&str> = line
        .split(|c| !part(c))
        .filter(|word| !word.is_empty())
        .collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    let all: Vec<String> = words
        .iter()
        .map(|word| (*word).to_owned())
        .chain(pairs)
        .collect();
    WORDS
        .into_iter()
        .find(|word| all.iter().any(|one| one == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        assert_eq!(
            word_in("/// The guard, whoever loaded it."),
            Some("whoever")
        );
        assert_eq!(word_in("// Waits for so long."), Some("so long"));
        assert_eq!(word_in("Nobody's turn"), Some("nobody"));
        assert_eq!(word_in("so that many, long"), None);
        assert_eq!(word_in("retold, a teller, as_nobody"), None);
    }
}
