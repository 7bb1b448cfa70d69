//! What a check is.

use super::Snapshot;
use serde::Serialize;

/// What a check found.
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
    /// Of what was found; nothing found is as promised.
    #[must_use]
    pub fn of(evidence: Vec<String>, fix: &'static str) -> Verdict {
        match evidence.is_empty() {
            true => Verdict::Pass,
            false => Verdict::Fail { evidence, fix },
        }
    }

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
    /// Looks.
    fn run(&self, snapshot: &Snapshot) -> Verdict;
}
