//! The kernel options the project needs, as `kernel-configs/` states them.

use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

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

    fn text(self) -> &'static str {
        match self {
            Self::Required => include_str!("../../../kernel-configs/required.config"),
            Self::Recommended => include_str!("../../../kernel-configs/recommended.config"),
            Self::Test => include_str!("../../../kernel-configs/test-kernel.config"),
        }
    }

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
    pub fn holds(&self, config: &Options) -> bool {
        match (config.get(&self.option), self.value.as_str()) {
            (None, "n") => true,
            (Some(have), want) => have == want || (want == "y" && have == "m"),
            (None, _) => false,
        }
    }
}

/// All lines of all three fragments.
#[must_use]
pub fn lines() -> Vec<Line> {
    let fragments = Need::ALL.into_iter();
    fragments
        .flat_map(|need| parse(need, need.text()))
        .collect()
}

/// The fragments as `make allnoconfig` reads them, without comments.
#[must_use]
pub fn merged(lines: &[Line]) -> String {
    lines.iter().map(|line| line.setting() + "\n").collect()
}

fn parse(need: Need, text: &str) -> Vec<Line> {
    let settings = text.lines().enumerate().filter_map(|(index, line)| {
        let (setting, reason) = line.split_once('#').unwrap_or((line, ""));
        let (option, value) = setting.trim().split_once('=')?;
        Some(Line {
            need,
            number: index + 1,
            option: option.to_owned(),
            value: value.to_owned(),
            reason: reason.trim().to_owned(),
        })
    });
    settings.collect()
}

/// What can be wrong with a kernel's configuration.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It names no kernel option.
    #[error("{0} names no kernel option: is it a kernel's configuration?")]
    Empty(PathBuf),
    /// The running kernel keeps its options nowhere.
    #[error("{0} keeps its options neither in /proc/config.gz nor in /boot")]
    Nowhere(String),
}

/// The options of one kernel. What is not set is not in it.
pub struct Options(HashMap<String, String>);

impl Options {
    /// Reads the text of a `.config`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let settings = text.lines().filter(|line| line.starts_with("CONFIG_"));
        let settings = settings.filter_map(|line| line.split_once('='));
        Self(
            settings
                .map(|(option, value)| (option.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Reads a `.config` file, packed with gzip or not.
    ///
    /// # Errors
    ///
    /// The file cannot be read or unpacked. The error has its path.
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        let text = read(path).map_err(|source| OptionsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let options = Self::parse(&text);
        match options.0.is_empty() {
            true => Err(OptionsError::Empty(path.to_owned())),
            false => Ok(options),
        }
    }

    /// Those of the kernel that runs below `root`, normally `/`, from wherever it keeps them.
    ///
    /// # Errors
    ///
    /// The kernel keeps them nowhere that can be read, as in a container on most distributions.
    pub fn running(root: &Path) -> Result<Self, OptionsError> {
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease"));
        let release = release.unwrap_or_default().trim().to_owned();
        let places = [
            "proc/config.gz".to_owned(),
            format!("boot/config-{release}"),
            format!("lib/modules/{release}/config"),
        ];
        match places
            .iter()
            .map(|place| root.join(place))
            .find(|path| path.exists())
        {
            Some(path) => Self::read(&path),
            None => Err(OptionsError::Nowhere(release)),
        }
    }

    /// The lines, required and recommended, that this kernel does not satisfy.
    #[must_use]
    pub fn lacks(&self) -> Vec<Line> {
        let lines = lines().into_iter();
        lines
            .filter(|line| line.need != Need::Test && !line.holds(self))
            .collect()
    }

    /// An option's value.
    #[must_use]
    pub fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let data = fs::read(path)?;
    let mut text = String::new();
    if data.starts_with(&[0x1f, 0x8b]) {
        // A configuration has some 300 KiB.
        GzDecoder::new(&data[..])
            .take(8 << 20)
            .read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_fragments_parse() {
        let lines = lines();
        let texts = Need::ALL.map(Need::text).concat();
        let settings = texts.lines().filter(|line| {
            let setting = line.split('#').next().unwrap_or_default();
            !setting.trim().is_empty()
        });
        // None is left out as malformed.
        assert_eq!(lines.len(), settings.count());
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
        );
        assert_eq!(lines[0].reason, "why");
        assert_eq!(lines[0].number, 2);
        let holds = |config: &str| {
            let config = Options::parse(config);
            lines.iter().map(|l| l.holds(&config)).collect::<Vec<_>>()
        };
        assert_eq!(
            holds("CONFIG_A=m\n# CONFIG_B is not set\nCONFIG_C=5\n"),
            [true, true, true]
        );
        assert_eq!(holds("CONFIG_B=y\nCONFIG_C=6\n"), [false, false, false]);
    }

    #[test]
    fn a_running_kernels_options_are_found_packed_or_not() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for place in ["proc/sys/kernel", "boot"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::write(root.join("proc/sys/kernel/osrelease"), "9.9\n").unwrap();
        let outcome = |root: &Path| match Options::running(root) {
            Ok(options) => options.get("CONFIG_A").unwrap_or("none").to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            outcome(root).contains("9.9 keeps its options"),
            "{}",
            outcome(root)
        );
        fs::write(root.join("boot/config-9.9"), "garbage").unwrap();
        assert!(outcome(root).contains("names no kernel option"));
        fs::write(root.join("boot/config-9.9"), "CONFIG_A=m\n").unwrap();
        assert_eq!(outcome(root), "m");
        let file = fs::File::create(root.join("proc/config.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packed.write_all(b"CONFIG_A=y\n").unwrap();
        packed.finish().unwrap();
        assert_eq!(outcome(root), "y");
    }
}
