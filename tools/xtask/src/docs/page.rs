//! A page, as far as it can be held against something.

use std::collections::BTreeSet;

/// A fenced block.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The line that opens it.
    pub line: usize,
    /// What stands behind the fence: `sh`, `toml`, `text`, nothing.
    pub language: String,
    /// Its lines.
    lines: Vec<String>,
}

impl Block {
    /// What is in it.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether its commands are said to be run: those of `text` are not.
    pub fn is_tested(&self) -> bool {
        self.language != "text"
    }

    /// Commands with their lines, without comments; what goes on in the next line is joined.
    pub fn commands(&self) -> Vec<(usize, String)> {
        let mut commands = Vec::new();
        if self.language == "toml" {
            return commands;
        }
        let mut open: Option<(usize, String)> = None;
        for (at, text) in self.lines.iter().enumerate() {
            let text = text.trim();
            let (line, mut command) = match open.take() {
                Some((line, before)) => (line, format!("{before} {text}")),
                None => (self.line + 1 + at, text.to_owned()),
            };
            if let Some(more) = command.strip_suffix('\\') {
                open = Some((line, more.trim_end().to_owned()));
                continue;
            }
            if let Some(comment) = command.find(" #") {
                command.truncate(comment);
            }
            let command = command.trim();
            if is_command(command) {
                commands.push((line, command.to_owned()));
            }
        }
        commands
    }
}

/// What begins a command that can be held against something.
const PROGRAMS: [&str; 8] = [
    "cargo",
    "infera",
    "infera-agent",
    "infera-guard",
    "scx_infera",
    "helm",
    "kubectl",
    "sudo",
];

fn is_command(text: &str) -> bool {
    // A row of a drawing has wider gaps.
    text.split_once(' ')
        .is_some_and(|(first, rest)| PROGRAMS.contains(&first) && !rest.starts_with(' '))
}

/// A page of Markdown.
#[derive(Debug, Default)]
pub struct Page {
    /// Below the workspace.
    pub path: String,
    /// Links with their lines.
    pub links: Vec<(usize, String)>,
    /// Of its headings.
    pub anchors: BTreeSet<String>,
    /// Fenced ones.
    pub blocks: Vec<Block>,
    /// Code within a line.
    code: Vec<(usize, String)>,
    /// Lines outside of blocks.
    prose: Vec<(usize, String)>,
}

impl Page {
    /// Reads it.
    pub fn parse(path: &str, text: &str) -> Page {
        let mut page = Page {
            path: path.to_owned(),
            ..Page::default()
        };
        let mut block: Option<Block> = None;
        for (at, text) in text.lines().enumerate() {
            let line = at + 1;
            match (text.trim_start().strip_prefix("```"), block.take()) {
                (Some(_), Some(done)) => page.blocks.push(done),
                (Some(language), None) => {
                    let language = language.trim().to_owned();
                    block = Some(Block {
                        line,
                        language,
                        lines: Vec::new(),
                    });
                }
                (None, Some(mut open)) => {
                    open.lines.push(text.to_owned());
                    block = Some(open);
                }
                (None, None) => page.read_prose(line, text),
            }
        }
        page
    }

    fn read_prose(&mut self, line: usize, text: &str) {
        if text.starts_with('#') {
            self.anchors.insert(anchor(text.trim_start_matches('#')));
        }
        for after in text.split("](").skip(1) {
            if let Some((target, _)) = after.split_once(')') {
                self.links.push((line, target.to_owned()));
            }
        }
        if text.contains("**not") {
            return; // What it names is not there, and it says so.
        }
        // An odd number of backticks: code that goes on in the next line, which none of ours does.
        let spans = text.split('`').skip(1).step_by(2);
        self.code.extend(spans.map(|span| (line, span.to_owned())));
        self.prose.push((line, text.to_owned()));
    }

    /// Everything that looks like a command: of blocks, and of code within lines.
    pub fn commands(&self) -> Vec<(usize, String)> {
        let blocks = self.blocks.iter().flat_map(Block::commands);
        let spans = self.code.iter().filter(|(_, code)| is_command(code));
        blocks.chain(spans.cloned()).collect()
    }

    /// Paths of the tree that are named.
    pub fn paths(&self) -> Vec<(usize, String)> {
        const TOPS: [&str; 11] = [
            "docs/",
            "policies/",
            "pods/src",
            "scheds/",
            "tools/",
            "bpf/",
            "deploy/",
            "agent/src",
            "node/src",
            "fuzz/",
            "kernel-configs/",
        ];
        let mut paths = Vec::new();
        for (line, text) in &self.prose {
            let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            for word in text.split(|c| !part(c)) {
                let word = word.trim_end_matches(['.', '-']);
                if TOPS.iter().any(|top| word.starts_with(top)) {
                    paths.push((*line, word.to_owned()));
                }
            }
        }
        paths
    }

    /// Functions that are named: code that ends in `()`.
    pub fn functions(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().filter_map(|(line, code)| {
            let name = code.strip_suffix("()")?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.chars().all(plain).then_some((*line, name))
        })
    }

    /// Keys of configuration and chart: code of words with dots between.
    pub fn keys(&self) -> Vec<(usize, String)> {
        let mut keys = Vec::new();
        for (line, code) in &self.code {
            let path = code.split([' ', '=']).next().unwrap_or_default();
            let tops = ["tiers.", "agent.", "canary.", "priority_mapping."];
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
            if tops.iter().any(|top| path.starts_with(top)) && path.chars().all(plain) {
                keys.push((*line, path.to_owned()));
            }
        }
        // And what commands set.
        for (line, command) in self.commands() {
            let mut words = command.split_whitespace();
            while let Some(word) = words.next() {
                if matches!(word, "--set" | "--set-string") {
                    let set = words.next().unwrap_or_default();
                    let key = set.split('=').next().unwrap_or_default();
                    // The last part of a map is anything.
                    let key = key.split(".nodeSelector").next().unwrap_or_default();
                    keys.push((line, key.to_owned()));
                }
            }
        }
        keys
    }

    /// Metrics that are named.
    pub fn metrics(&self) -> Vec<(usize, String)> {
        let mut metrics = Vec::new();
        // A callback of the overlay has the same beginning.
        let variables = self.code.iter().filter(|(_, code)| !code.ends_with("()"));
        for (line, code) in variables {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let whole = code.split(|c| !part(c));
            metrics.extend(
                whole
                    .filter(|word| word.starts_with("infera_") && word.len() > "infera_".len())
                    .map(|word| (*line, word.to_owned())),
            );
        }
        // A package's file name is none.
        metrics.retain(|(_, name)| !name.starts_with("infera_VERSION"));
        metrics
    }
}

/// As the usual renderers make them.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One page: `x`\n\
        See [there](docs/a.md#two-parts) and docs/b.md.\n\
        `infera status -o json` has `infera_safe_mode{reason}`, `tiers.low.weight`.\n\
        ```\n\
        cargo xtask demo   # shows\n\
        infera  ---- a drawing\n\
        helm upgrade x \\\n  --set agent.a.b=1\n\
        ```\n\
        ```toml\n\
        policy = \"fifo\"\n\
        ```\n";

    #[test]
    fn a_page_is_read() {
        let page = Page::parse("README.md", PAGE);
        assert!(page.anchors.contains("one-page-x"), "{:?}", page.anchors);
        assert_eq!(page.links, [(2, "docs/a.md#two-parts".to_owned())]);
        let paths: Vec<String> = page.paths().into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["docs/a.md", "docs/b.md"]);
        let metrics = page.metrics();
        assert_eq!(metrics, [(3, "infera_safe_mode".to_owned())]);
        let commands: Vec<String> = page.commands().into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            commands,
            [
                "cargo xtask demo",
                "helm upgrade x --set agent.a.b=1",
                "infera status -o json"
            ]
        );
        let keys: Vec<String> = page.keys().into_iter().map(|(_, key)| key).collect();
        assert_eq!(keys, ["tiers.low.weight", "agent.a.b"]);
        assert_eq!(page.blocks[1].text(), "policy = \"fifo\"");
    }
}
