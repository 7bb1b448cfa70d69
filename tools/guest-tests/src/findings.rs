//! What a test measured, and what of it is wrong.

use crate::{node, scheduler};

/// Lines of the kernel log that a failure shows.
const TAIL: usize = 30;

/// Prints as it goes: after a hang, what was found until then is there.
#[derive(Debug, Default)]
pub struct Findings {
    wrong: Vec<String>,
}

impl Findings {
    /// Prints a figure.
    pub fn figure(&mut self, text: impl AsRef<str>) {
        println!("{}", text.as_ref());
    }

    /// Prints the sentence as wrong unless the condition holds.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            let sentence = otherwise();
            println!("WRONG: {sentence}");
            self.wrong.push(sentence);
        }
    }

    /// What was wrong, in order.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }
}

/// What there is to know about a failure besides its findings: the ends of the guard's and the kernel's log.
#[must_use]
pub fn failure() -> String {
    let kernel = node::kernel_log().unwrap_or_else(|error| format!("{error:#}"));
    let lines: Vec<&str> = kernel.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL)..];
    format!(
        "--- guard and scheduler\n{}\n--- kernel\n{}",
        scheduler::log(),
        tail.join("\n")
    )
}
