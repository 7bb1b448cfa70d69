//! How the scheduler and its guard end: their exit statuses, and the kinds of ejects. docs/running.md has the same table.

use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// The exit status of `scx_infera`, and of `infera-guard`, which passes a refusal on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Asked to stop, and stopped; or the question was answered.
    Done = 0,
    /// Something of ours failed.
    Internal = 1,
    /// The command line is wrong: clap's status.
    CommandLine = 2,
    /// The configuration or a `--tier` rule is wrong.
    Config = 3,
    /// Not root, or without a capability.
    NotRoot = 4,
    /// This kernel, as it runs now, cannot run it.
    Kernel = 5,
    /// Another `sched_ext` scheduler is attached.
    Busy = 6,
    /// The kernel detached it because of something it did.
    Ejected = 7,
    /// CPUs came or went: to be started again.
    Again = 8,
    /// Detached on purpose: sysrq-S, or its BPF link.
    Dismissed = 9,
    /// The guard was asked to stop in safe mode.
    SafeMode = 10,
    /// The guard stopped watching, so the scheduler left by itself.
    Unwatched = 11,
    /// Real-time threads kept a CPU, or all of them, from every other task.
    Crowded = 12,
    /// It could not start for a reason that passes, such as a lack of memory.
    Later = 13,
    /// A real-time thread kept a CPU from a task bound to it: to be started again when the stock scheduler, whose server serves
    /// such a task, has had the node for a moment.
    Pause = 14,
    /// The guard cannot start the scheduler's program; the status that shells use.
    NotStarted = 127,
}

impl ExitStatus {
    /// Every status.
    pub const ALL: [ExitStatus; 16] = [
        ExitStatus::Done,
        ExitStatus::Internal,
        ExitStatus::CommandLine,
        ExitStatus::Config,
        ExitStatus::NotRoot,
        ExitStatus::Kernel,
        ExitStatus::Busy,
        ExitStatus::Ejected,
        ExitStatus::Again,
        ExitStatus::Dismissed,
        ExitStatus::SafeMode,
        ExitStatus::Unwatched,
        ExitStatus::Crowded,
        ExitStatus::Later,
        ExitStatus::Pause,
        ExitStatus::NotStarted,
    ];

    /// The status with that number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<ExitStatus> {
        ExitStatus::ALL
            .into_iter()
            .find(|status| status.code() == code)
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> i32 {
        i32::from(self as u8)
    }

    /// Whether the next attempt would end the same way, until something on the node is changed. That is no eject, and the
    /// guard ends with the same status.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            ExitStatus::CommandLine
                | ExitStatus::Config
                | ExitStatus::NotRoot
                | ExitStatus::Kernel
                | ExitStatus::Busy
        )
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Why the stock scheduler got the node without being asked for: the label `kind` of `infera_scheduler_ejects_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EjectKind {
    /// It did not attach in time.
    Attach,
    /// No thread of it gave a sign of life.
    Silent,
    /// Its loop did not look at waiting work.
    Stuck,
    /// A runnable task got no CPU.
    Starved,
    /// The page that it shares with the guard held nonsense.
    Nonsense,
    /// It ended by a signal or with an error of its own.
    Crash,
    /// SIGKILL that the guard did not send, such as the OOM killer's.
    Killed,
    /// The kernel detached it because of something it did.
    Kernel,
    /// Real-time threads kept a CPU, or all of them, from every other task.
    RealTime,
    /// It left because the guard did not run.
    Unwatched,
    /// It could not start for a reason that passes.
    Passing,
}

impl EjectKind {
    /// Every kind.
    pub const ALL: [EjectKind; 11] = [
        EjectKind::Attach,
        EjectKind::Silent,
        EjectKind::Stuck,
        EjectKind::Starved,
        EjectKind::Nonsense,
        EjectKind::Crash,
        EjectKind::Killed,
        EjectKind::Kernel,
        EjectKind::RealTime,
        EjectKind::Unwatched,
        EjectKind::Passing,
    ];

    /// Its name in metrics and in the guard's status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EjectKind::Attach => "attach",
            EjectKind::Silent => "silent",
            EjectKind::Stuck => "stuck",
            EjectKind::Starved => "starved",
            EjectKind::Nonsense => "nonsense",
            EjectKind::Crash => "crash",
            EjectKind::Killed => "killed",
            EjectKind::Kernel => "kernel",
            EjectKind::RealTime => "real-time",
            EjectKind::Unwatched => "unwatched",
            EjectKind::Passing => "passing",
        }
    }

    /// Whether it is the scheduler's own fault, and counts towards safe mode. The others may pass: the guard tries again after
    /// its back-off.
    ///
    /// A starved task is none: a real-time task may have its CPU, which no scheduler can change.
    #[must_use]
    pub fn is_ours(self) -> bool {
        match self {
            EjectKind::Attach
            | EjectKind::Silent
            | EjectKind::Stuck
            | EjectKind::Nonsense
            | EjectKind::Crash
            | EjectKind::Kernel => true,
            EjectKind::Starved
            | EjectKind::Killed
            | EjectKind::RealTime
            | EjectKind::Unwatched
            | EjectKind::Passing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_found_by_its_number() {
        for status in ExitStatus::ALL {
            assert_eq!(ExitStatus::from_code(status.code()), Some(status));
        }
        assert_eq!(ExitStatus::from_code(101), None);
        let refusals = ExitStatus::ALL.into_iter().filter(|it| it.is_refusal());
        let codes: Vec<i32> = refusals.map(ExitStatus::code).collect();
        assert_eq!(codes, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn every_status_is_documented() {
        let page = include_str!("../../../docs/running.md");
        let documented = |status: &ExitStatus| {
            let row = format!("| {} | ", status.code());
            page.lines().any(|line| line.starts_with(&row))
        };
        let lacking: Vec<_> = ExitStatus::ALL
            .into_iter()
            .filter(|status| !documented(status))
            .collect();
        assert_eq!(lacking, []);
    }

    #[test]
    fn a_kind_has_one_name() {
        for kind in EjectKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
        }
    }
}
