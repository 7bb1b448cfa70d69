//! Pages that follow something through the code, a function and its file at each step: docs/life-of-a-*.md.
//!
//! There a function has to be defined in a file that the same line names, so that a function that moves or is renamed fails the check.

use super::page::Page;
use std::fs;
use std::path::Path;

/// The pages that are checked begin like this.
const PAGES: &str = "docs/life-of-a-";

/// Functions that are not where the page says.
pub fn wrong_in(root: &Path, page: &Page) -> Vec<(usize, String)> {
    if !page.path.starts_with(PAGES) {
        return Vec::new();
    }
    let paths = page.paths();
    let mut wrong = Vec::new();
    for (line, name) in page.functions() {
        let named = paths.iter().filter(|(at, _)| *at == line);
        let files: Vec<&str> = named.map(|(_, path)| path.as_str()).collect();
        let defined = files.iter().any(|path| {
            fs::read_to_string(root.join(path)).is_ok_and(|source| defines(&source, name))
        });
        if files.is_empty() {
            wrong.push((line, format!("no file is named with {name}()")));
        } else if !defined {
            wrong.push((line, format!("{} defines no {name}()", files.join(", "))));
        }
    }
    wrong
}

/// Whether a Rust or C source defines the function. C functions begin in the first column, as do the macros that define callbacks.
fn defines(source: &str, name: &str) -> bool {
    let rust = [format!("fn {name}("), format!("fn {name}<")];
    let c = [
        format!(" {name}("),
        format!("*{name}("),
        format!("({name},"),
    ];
    source.lines().any(|line| {
        let in_first_column = line.starts_with(|c: char| c.is_ascii_alphabetic());
        rust.iter().any(|begin| line.contains(begin))
            || (in_first_column && c.iter().any(|begin| line.contains(begin)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "static bool is_late(u64 now)\n{\n\treturn time_delta(now);\n}\nint BPF_PROG(switched, bool preempt)\n";

    #[test]
    fn a_function_is_where_it_is_defined_and_not_where_it_is_called() {
        assert!(defines(C, "is_late"));
        assert!(defines(C, "switched"));
        assert!(!defines(C, "time_delta"));
        let rust = "impl A {\n    pub fn run(mut self) {\n        wait();\n    }\n}\nfn pick<T>(from: T) {}\n";
        assert!(defines(rust, "run"));
        assert!(defines(rust, "pick"));
        assert!(!defines(rust, "wait"));
    }

    #[test]
    fn a_function_that_moved_is_found_out() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("bpf")).expect("writable");
        fs::write(root.path().join("bpf/a.h"), C).expect("writable");
        let text = "`is_late()` in bpf/a.h\n`gone()` in bpf/a.h\n`is_late()` somewhere\n";
        let page = Page::parse("docs/life-of-a-test.md", text);
        let lines: Vec<usize> = wrong_in(root.path(), &page)
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        assert_eq!(lines, [2, 3]);
        let other = Page::parse("docs/faq.md", text);
        assert!(wrong_in(root.path(), &other).is_empty());
    }
}
