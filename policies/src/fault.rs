//! What a policy did that it must not do.

use crate::{CAPACITY, Nanos};
use std::{any::Any, fmt};

/// Why a policy was deposed; displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The policy's name.
    pub policy: &'static str,
    /// What it did.
    pub kind: FaultKind,
}

/// What a policy can do wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a policy, and boxing the message would allocate"
)]
pub enum FaultKind {
    /// It panicked.
    Panicked {
        /// In which method of [`Policy`](crate::Policy).
        method: &'static str,
        /// What the panic said.
        message: Message,
    },
    /// It answered a task that it was never given, or a second time.
    Unknown {
        /// The pid in its answer.
        pid: i32,
    },
    /// It answered nothing although tasks waited.
    Idle {
        /// How many waited.
        waiting: usize,
    },
    /// It refused a task although no more than [`CAPACITY`] waited.
    Refused {
        /// The task.
        pid: i32,
        /// How many waited, this one included.
        waiting: usize,
    },
    /// It was too slow. Only the caller has a clock to see that.
    Slow {
        /// How long one decision took.
        took: Nanos,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {} {}", self.policy, self.kind)
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Panicked { method, message } => {
                write!(f, "panicked in {method}: {message}")
            }
            FaultKind::Unknown { pid } => {
                write!(
                    f,
                    "answered task {pid}, never given to it or decided before"
                )
            }
            FaultKind::Idle { waiting: 1 } => write!(f, "answered nothing while a task waits"),
            FaultKind::Idle { waiting } => {
                write!(f, "answered nothing while {waiting} tasks wait")
            }
            FaultKind::Refused { pid, waiting } => write!(
                f,
                "refused task {pid} while {waiting} of {CAPACITY} tasks wait"
            ),
            FaultKind::Slow { took } if took.0 < 10_000_000 => {
                write!(f, "took {} us for a decision", took.0 / 1_000)
            }
            FaultKind::Slow { took } => {
                write!(f, "took {} ms for a decision", took.0 / 1_000_000)
            }
        }
    }
}

/// The first [`Message::BYTES`] bytes of what a panic said, on one line: a policy cannot make
/// the report of its fault large.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    bytes: [u8; Message::BYTES],
    len: usize,
}

impl Message {
    /// The most that is kept.
    pub const BYTES: usize = 200;

    /// The beginning of `text`, cut between characters, with control characters as spaces.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(Message::BYTES)];
        let mut bytes = [0; Message::BYTES];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = if from.is_ascii_control() { b' ' } else { from };
        }
        Message {
            bytes,
            len: text.len(),
        }
    }

    /// The message of a panic that was caught.
    pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let text: &str = if let Some(text) = payload.downcast_ref::<&'static str>() {
            text
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text
        } else {
            // Not dropped: a payload of any other type may panic again when it is.
            std::mem::forget(payload);
            return Message::new("(not a text)");
        };
        Message::new(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Whole characters only, so this never fails.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_the_policy_and_the_deed() {
        let message = Message::new("index 7\nout of bounds");
        for (kind, want) in [
            (
                FaultKind::Panicked {
                    method: "pick",
                    message,
                },
                "policy weighted panicked in pick: index 7 out of bounds",
            ),
            (
                FaultKind::Unknown { pid: 123 },
                "policy weighted answered task 123, never given to it or decided before",
            ),
            (
                FaultKind::Idle { waiting: 12 },
                "policy weighted answered nothing while 12 tasks wait",
            ),
            (
                FaultKind::Idle { waiting: 1 },
                "policy weighted answered nothing while a task waits",
            ),
            (
                FaultKind::Refused { pid: 5, waiting: 9 },
                "policy weighted refused task 5 while 9 of 131072 tasks wait",
            ),
            (
                FaultKind::Slow {
                    took: Nanos::from_micros(40_900),
                },
                "policy weighted took 40 ms for a decision",
            ),
            (
                FaultKind::Slow {
                    took: Nanos::from_micros(1_500),
                },
                "policy weighted took 1500 us for a decision",
            ),
        ] {
            let policy = "weighted";
            assert_eq!(Fault { policy, kind }.to_string(), want);
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(Message::new("").as_str(), "");
        let long = format!("{}{}", "x".repeat(Message::BYTES - 1), "\u{00fc}y");
        assert_eq!(Message::new(&long).as_str(), &long[..Message::BYTES - 1]);
        assert_eq!(Message::new(&long[1..]).as_str().len(), Message::BYTES);
    }

    #[test]
    fn every_kind_of_payload_has_a_message() {
        struct Evil;
        impl Drop for Evil {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(Message::of_panic(Box::new("str")).as_str(), "str");
        let string = Box::new(String::from("string"));
        assert_eq!(Message::of_panic(string).as_str(), "string");
        assert_eq!(Message::of_panic(Box::new(Evil)).as_str(), "(not a text)");
    }
}
