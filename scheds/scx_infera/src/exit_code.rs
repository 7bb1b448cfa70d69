//! Why the process ended: one number a reason, documented in the README.

use infera_bpf::EXIT_REALTIME;
use infera_kernel::Obstacle;
use std::process::ExitCode;

/// The exit status of `scx_infera`. (2 is clap's: the command line is wrong.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Asked to stop, and stopped; or the question was answered.
    Done = 0,
    /// Something of ours failed.
    Internal = 1,
    /// The configuration or a `--tier` rule is wrong.
    Config = 3,
    /// Not root.
    NotRoot = 4,
    /// This kernel cannot run it.
    Kernel = 5,
    /// Another sched_ext scheduler is attached.
    Busy = 6,
    /// The kernel detached it because of something it did.
    Ejected = 7,
    /// CPUs came or went: to be started again.
    Again = 8,
    /// Somebody detached it on purpose: sysrq-S, or its BPF link.
    Dismissed = 9,
    /// The guard stopped watching, so it left by itself.
    Unwatched = 11,
    /// Real-time threads kept a task, or all of them, from every CPU that it may use.
    Crowded = 12,
}

/// `enum scx_exit_kind`, as far as we tell kinds apart.
const UNREG: i32 = 64;
const UNREG_KERN: i32 = 66;
const UNREG_BPF: i32 = 65;
const SYSRQ: i32 = 67;
const ERROR_STALL: i32 = 1026;

/// Why an attached scheduler's loop ended, by the kernel's kind of exit, which is 0 where it was asked to stop, and the
/// overlay's code. The kernel's stall is a task without a CPU for 30 s; the guard finds one that another cause
/// keeps waiting long before.
pub fn why_it_ended(kind: i32, code: i64) -> Status {
    match kind {
        0 => Status::Done,
        UNREG | SYSRQ => Status::Dismissed,
        UNREG_KERN => Status::Again,
        UNREG_BPF if code == EXIT_REALTIME => Status::Crowded,
        ERROR_STALL => Status::Crowded,
        _ => Status::Ejected,
    }
}

/// A refusal: one sentence that says what to do, and its status.
#[derive(Debug)]
pub struct Refusal {
    /// The exit status.
    pub status: Status,
    /// The sentence.
    pub sentence: String,
}

impl From<Obstacle> for Refusal {
    fn from(obstacle: Obstacle) -> Refusal {
        let status = match obstacle {
            Obstacle::Kernel(_) => Status::Kernel,
            Obstacle::NotRoot(_) => Status::NotRoot,
            Obstacle::Busy(_) => Status::Busy,
        };
        Refusal::new(status, obstacle.sentence())
    }
}

impl Refusal {
    /// A refusal with this status and sentence.
    pub fn new(status: Status, sentence: impl Into<String>) -> Refusal {
        Refusal {
            status,
            sentence: sentence.into(),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}
