//! Commands of our own programs, held against their help.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a program's help names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Help {
    flags: BTreeSet<String>,
    commands: BTreeSet<String>,
}

/// Our programs.
pub struct Programs {
    directory: PathBuf,
    // By the words before flags.
    known: BTreeMap<Vec<String>, Option<Help>>,
}

impl Programs {
    /// Of the workspace at `root`, built.
    pub fn new(root: &Path) -> Programs {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        Programs {
            directory: target.join("release"),
            known: BTreeMap::new(),
        }
    }

    /// What is wrong with a command, a sentence each. Of other people's programs it knows nothing.
    pub fn wrong_in(&mut self, command: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for part in command.split(['|', ';']).flat_map(|part| part.split("&&")) {
            let words = part
                .split_whitespace()
                .map(|word| word.trim_matches(['[', ']', '\'', '"', ',']));
            let mut words: Vec<&str> = words
                .skip_while(|word| *word == "sudo" || word.contains('='))
                .collect();
            // One program starts another.
            while let Some(end) = words.iter().position(|word| *word == "--") {
                self.look(&words[..end], &mut wrong);
                words.drain(..=end);
            }
            self.look(&words, &mut wrong);
        }
        wrong
    }

    fn look(&mut self, words: &[&str], wrong: &mut Vec<String>) {
        let mut path = match words {
            ["cargo", "xtask", ..] => vec!["xtask".to_owned()],
            [
                "infera" | "infera-agent" | "infera-guard" | "scx_infera",
                ..,
            ] => vec![words[0].to_owned()],
            _ => return,
        };
        let rest = &words[if words[0] == "cargo" { 2 } else { 1 }..];
        let Some(mut help) = self.help(&path) else {
            wrong.push(format!("{} is not built", path[0]));
            return;
        };
        let mut names = rest.iter().peekable();
        while let Some(name) = names.next_if(|word| !word.starts_with('-')) {
            if help.commands.is_empty() {
                break;
            }
            if !help.commands.contains(*name) {
                wrong.push(format!("{} has no command {name}", path.join(" ")));
                return;
            }
            path.push((*name).to_owned());
            help = self.help(&path).unwrap_or_default();
        }
        for word in rest
            .iter()
            .filter(|word| word.starts_with('-') && word.len() > 1)
        {
            let flag = word.split(['=', ')', '.']).next().unwrap_or_default();
            if !help.flags.contains(flag) {
                wrong.push(format!("{} has no flag {flag}", path.join(" ")));
            }
        }
    }

    fn help(&mut self, path: &[String]) -> Option<Help> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let program = match &*path[0] {
            "xtask" => std::env::current_exe().ok()?,
            name => self.directory.join(name),
        };
        let mut program = Command::new(program);
        let output = program.args(&path[1..]).arg("--help").output();
        let help = output
            .ok()
            .map(|output| parse(&String::from_utf8_lossy(&output.stdout)));
        self.known.insert(path.to_vec(), help.clone());
        help
    }
}

fn parse(help: &str) -> Help {
    let mut parsed = Help::default();
    let mut in_commands = false;
    for line in help.lines() {
        if !line.starts_with(' ') {
            in_commands = line.starts_with("Commands:");
            continue;
        }
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if in_commands && depth == 2 {
            parsed
                .commands
                .extend(text.split_whitespace().next().map(str::to_owned));
        } else if text.starts_with('-') && depth <= 6 {
            let flags = text
                .split("  ")
                .next()
                .unwrap_or_default()
                .split([' ', ',', '=', '[']);
            parsed.flags.extend(
                flags
                    .filter(|word| word.starts_with('-'))
                    .map(str::to_owned),
            );
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Does things.\n\nUsage: p [OPTIONS] <COMMAND>\n\nCommands:\n  run    Runs\n  help   Print\n\nOptions:\n  -o, --output <OUTPUT>  How [default: --x]\n      --once\n          One look\n  -h, --help             Print help\n";

    #[test]
    fn help_is_read() {
        let help = parse(HELP);
        let set = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(help.commands, set(&["run", "help"]));
        assert_eq!(
            help.flags,
            set(&["-o", "--output", "--once", "-h", "--help"])
        );
    }

    #[test]
    fn commands_are_held_against_it() {
        let help = parse(HELP);
        let none = Help::default();
        let known = [
            (vec!["infera".to_owned()], Some(help.clone())),
            (
                vec!["infera".into(), "run".into()],
                Some(Help {
                    commands: BTreeSet::new(),
                    ..help
                }),
            ),
            (vec!["scx_infera".into()], Some(none)),
        ];
        let mut programs = Programs {
            directory: PathBuf::new(),
            known: known.into(),
        };
        for good in [
            "infera run fast --once",
            "A=b sudo infera run [-o json]",
            "grep x | infera run",
            "other --any",
        ] {
            assert!(programs.wrong_in(good).is_empty(), "{good}");
        }
        assert_eq!(
            programs.wrong_in("infera walk"),
            ["infera has no command walk"]
        );
        assert_eq!(
            programs.wrong_in("infera run --twice=2"),
            ["infera run has no flag --twice"]
        );
        assert_eq!(
            programs.wrong_in("infera run -- scx_infera --x"),
            ["scx_infera has no flag --x"]
        );
    }
}
