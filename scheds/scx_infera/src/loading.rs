//! The messages of libbpf and of the verifier while the overlay loads, and the class of a failure to load: a refusal, which is
//! not tried again, or an error that may pass.

use crate::exit_code::{Refusal, Status};
use libbpf_rs::{ErrorKind, PrintLevel, set_print};
use log::debug;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

/// The last lines explain a failure: the verifier's log ends with what it refused.
const KEPT: usize = 24;

/// The longest line that is kept, in characters.
const LINE: usize = 200;

static WARNINGS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Keeps libbpf's warnings from now on, and logs its other messages where the log is verbose.
pub fn keep_warnings(verbose: bool) {
    let level = match verbose {
        true => PrintLevel::Debug,
        false => PrintLevel::Warn,
    };
    set_print(Some((level, keep)));
}

/// The overlay is loaded: from here on the loop's thread allocates nothing, so libbpf's messages are dropped.
pub fn drop_messages() {
    set_print(None);
}

fn keep(level: PrintLevel, text: String) {
    if level != PrintLevel::Warn {
        debug!("{}", text.trim_end());
        return;
    }
    let Ok(mut warnings) = WARNINGS.lock() else {
        return;
    };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if warnings.len() == KEPT {
            warnings.pop_front();
        }
        warnings.push_back(line.chars().take(LINE).collect());
    }
}

/// Why the kernel did not take the scheduler: a sentence, and the last lines of what libbpf and the verifier said.
pub fn refused(error: &anyhow::Error) -> Refusal {
    // Not while it leaves: that is this scheduler itself, which failed after it was registered.
    let root = Path::new("/");
    if let Some(name) = infera_kernel::attached(root)
        && infera_kernel::is_enabled(root)
    {
        return Refusal::new(
            Status::Busy,
            format!("another sched_ext scheduler has attached meanwhile ({name}): stop it first"),
        );
    }
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<libbpf_rs::Error>());
    let passing = kinds.map(libbpf_rs::Error::kind).any(may_pass);
    let (status, advice) = match passing {
        true => (Status::Later, "this may pass: start it again"),
        false => (
            Status::Kernel,
            "run `scx_infera --check`; if that finds nothing, please report these lines",
        ),
    };
    let mut sentence = format!("the kernel refused the scheduler ({error:#}): {advice}");
    if let Ok(warnings) = WARNINGS.lock() {
        for line in warnings.iter() {
            let _ = write!(sentence, "\n  {line}");
        }
    }
    Refusal::new(status, sentence)
}

/// Whether the same load may succeed later.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::OutOfMemory
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_refusal_has_the_last_lines_and_is_not_tried_again() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        keep(PrintLevel::Warn, text);
        keep(PrintLevel::Debug, "a detail".into());
        let error = Err::<(), _>(libbpf_rs::Error::from_raw_os_error(libc::EINVAL));
        let refusal = refused(&error.context("loading").unwrap_err());
        assert_eq!(refusal.status, Status::Kernel);
        assert!(refusal.sentence.contains("line 99") && refusal.sentence.contains("line 76"));
        assert!(!refusal.sentence.contains("line 75") && !refusal.sentence.contains("a detail"));
    }

    #[test]
    fn a_lack_of_memory_passes() {
        let error = Err::<(), _>(libbpf_rs::Error::from_raw_os_error(libc::ENOMEM));
        let refusal = refused(&error.context("loading").unwrap_err());
        assert_eq!(refusal.status, Status::Later);
    }
}
