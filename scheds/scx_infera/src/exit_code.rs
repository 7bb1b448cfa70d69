//! Why the process ended: one number a reason, documented in docs/running.md.

use infera_bpf::{EXIT_PAUSE, EXIT_REALTIME};
pub use infera_control::ExitStatus as Status;
use infera_kernel::Obstacle;
use std::time::Duration;

/// `enum scx_exit_kind`, the kinds that we distinguish.
const UNREG: i32 = 64;
const UNREG_KERN: i32 = 66;
const UNREG_BPF: i32 = 65;
const SYSRQ: i32 = 67;
const ERROR_STALL: i32 = 1026;

/// A task may be bound to a CPU that real-time threads have kept for this long, when the kernel finds it stalled after 30 s.
const HELD: Duration = Duration::from_secs(20);

/// How the kernel ended an attached scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// `enum scx_exit_kind`; 0 where the scheduler was asked to stop.
    pub kind: i32,
    /// The overlay's code, where the overlay asked for the exit.
    pub code: i64,
    /// How long real-time threads had kept a CPU.
    pub realtime_held: Duration,
}

/// Why an attached scheduler's loop ended.
pub fn why_it_ended(exit: Exit) -> Status {
    match exit.kind {
        0 => Status::Done,
        UNREG | SYSRQ => Status::Dismissed,
        UNREG_KERN => Status::Again,
        UNREG_BPF if exit.code == EXIT_REALTIME => Status::Crowded,
        UNREG_BPF if exit.code == EXIT_PAUSE => Status::Pause,
        ERROR_STALL if exit.realtime_held >= HELD => Status::Crowded,
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

    /// Prints the sentence where errors go.
    pub fn print(&self) {
        eprintln!("scx_infera: {}", self.sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_ours_unless_real_time_threads_kept_a_cpu() {
        let exit = |kind, code, held| {
            why_it_ended(Exit {
                kind,
                code,
                realtime_held: Duration::from_secs(held),
            })
        };
        assert_eq!(exit(ERROR_STALL, 0, 0), Status::Ejected);
        assert_eq!(exit(ERROR_STALL, 0, 1), Status::Ejected);
        assert_eq!(exit(ERROR_STALL, 0, 30), Status::Crowded);
        assert_eq!(exit(UNREG_BPF, EXIT_REALTIME, 0), Status::Crowded);
        assert_eq!(exit(UNREG_BPF, EXIT_PAUSE, 20), Status::Pause);
        assert_eq!(
            exit(UNREG_BPF, 0, 30),
            Status::Ejected,
            "user space was silent"
        );
    }
}
