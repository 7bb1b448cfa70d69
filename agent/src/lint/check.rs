//! What a check is.

use super::Snapshot;
use infera_node::Thread;
use serde::Serialize;

/// What a violation is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A thread, by its id.
    Thread(u32),
    /// A CPU; of a core its first one.
    Cpu(usize),
}

/// A violation that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What has to be seen again before it counts: the thread, where threads on their way look like
    /// this for a moment; the CPU or core, where no thread at all may be seen there.
    pub mark: Mark,
    /// What was seen, a sentence.
    pub sentence: String,
}

impl Finding {
    /// `thread` is where it must not be.
    #[must_use]
    pub fn of(thread: &Thread, what: &str) -> Finding {
        Finding {
            mark: Mark::Thread(thread.tid),
            sentence: format!("{thread}: {what}"),
        }
    }

    /// The same, whichever thread it is.
    #[must_use]
    pub fn at(self, cpu: usize) -> Finding {
        Finding {
            mark: Mark::Cpu(cpu),
            ..self
        }
    }
}

/// What a check found: nothing where it is as promised, or why it says nothing here.
pub type Findings = Result<Vec<Finding>, &'static str>;

/// What holds of an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It is as promised.
    Pass,
    /// It is not.
    Fail {
        /// What was seen, a sentence for each violation.
        evidence: Vec<String>,
        /// What to do.
        fix: &'static str,
    },
    /// It says nothing here.
    Skip {
        /// Why.
        reason: &'static str,
    },
}

impl Verdict {
    /// How many violations there are now.
    #[must_use]
    pub fn violations(&self) -> usize {
        match self {
            Verdict::Fail { evidence, .. } => evidence.len(),
            _ => 0,
        }
    }
}

/// An invariant.
pub trait Check: Sync {
    /// Its name in metrics.
    fn id(&self) -> &'static str;
    /// What it is good for.
    fn why(&self) -> &'static str;
    /// What to do where it is violated.
    fn fix(&self) -> &'static str;
    /// Looks. A snapshot of some threads may lead to suspect others than one of all.
    fn run(&self, snapshot: &Snapshot) -> Findings;
}
