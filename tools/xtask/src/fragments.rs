//! The kernel options the project needs, as `kernel-configs/` states them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::hash;

/// How much depends on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `scx_infera` does not load without it.
    Required,
    /// It loads, but the node is worse off.
    Recommended,
    /// Only the test kernel has it.
    Test,
}

impl Need {
    const ALL: [Self; 3] = [Self::Required, Self::Recommended, Self::Test];

    fn file_name(self) -> &'static str {
        match self {
            Self::Required => "required.config",
            Self::Recommended => "recommended.config",
            Self::Test => "test-kernel.config",
        }
    }
}

/// One line of a fragment.
#[derive(Debug)]
pub struct Line {
    /// Which fragment it is in.
    pub need: Need,
    /// Counted from one.
    pub number: usize,
    /// `CONFIG_…`
    pub option: String,
    /// `y`, `n`, a number or a quoted string.
    pub value: String,
    /// The comment behind it.
    pub reason: String,
}

impl Line {
    /// The line without its comment.
    pub fn setting(&self) -> String {
        format!("{}={}", self.option, self.value)
    }

    /// Where it stands, for messages.
    pub fn place(&self) -> String {
        format!("kernel-configs/{}:{}", self.need.file_name(), self.number)
    }

    /// Whether a kernel with these options satisfies the line. A module counts as there for
    /// an option that is only asked to be on.
    pub fn holds(&self, config: &Config) -> bool {
        match (config.get(&self.option), self.value.as_str()) {
            (None, "n") => true,
            (Some(have), want) => have == want || (want == "y" && have == "m"),
            (None, _) => false,
        }
    }
}

/// All lines of all three fragments.
pub fn read() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for need in Need::ALL {
        let path = directory().join(need.file_name());
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        lines.extend(parse(need, &text)?);
    }
    Ok(lines)
}

/// The fragments as `make allnoconfig` reads them, without comments.
pub fn merged(lines: &[Line]) -> String {
    lines.iter().map(|line| line.setting() + "\n").collect()
}

/// A short name for exactly these settings; comments do not change it.
pub fn id(lines: &[Line]) -> String {
    hash::text(&merged(lines))[..12].to_owned()
}

fn directory() -> PathBuf {
    crate::workspace().join("kernel-configs")
}

fn parse(need: Need, text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (setting, reason) = line.split_once('#').unwrap_or((line, ""));
        if setting.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let Some((option, value)) = setting.trim().split_once('=') else {
            bail!("{}:{number}: expected CONFIG_NAME=value", need.file_name());
        };
        lines.push(Line {
            need,
            number,
            option: option.to_owned(),
            value: value.to_owned(),
            reason: reason.trim().to_owned(),
        });
    }
    Ok(lines)
}

/// The options of one kernel. What is not set is not in it.
pub struct Config(HashMap<String, String>);

impl Config {
    /// Reads the text of a `.config`.
    pub fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once('='))
                .map(|(option, value)| (option.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Reads a `.config` file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Need, parse, read};

    #[test]
    fn the_projects_fragments_parse() {
        let lines = read().expect("they are in the repository");
        assert!(lines.iter().all(|line| line.option.starts_with("CONFIG_")));
        let required = lines.iter().filter(|line| line.need == Need::Required);
        assert!(required.clone().count() > 0);
        for line in required {
            assert!(!line.reason.is_empty(), "{} has no reason", line.place());
        }
    }

    #[test]
    fn a_line_holds_or_not() {
        let lines = parse(
            Need::Required,
            "# head\nCONFIG_A=y  # why\nCONFIG_B=n\nCONFIG_C=5\n",
        )
        .expect("well-formed");
        assert_eq!(lines[0].reason, "why");
        assert_eq!(lines[0].number, 2);
        let holds = |config: &str| {
            let config = Config::parse(config);
            lines.iter().map(|l| l.holds(&config)).collect::<Vec<_>>()
        };
        assert_eq!(
            holds("CONFIG_A=m\n# CONFIG_B is not set\nCONFIG_C=5\n"),
            [true, true, true]
        );
        assert_eq!(holds("CONFIG_B=y\nCONFIG_C=6\n"), [false, false, false]);
    }
}
