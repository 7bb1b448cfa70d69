//! What the scheduler needs of a kernel: the options that `kernel-configs/` names, each with its
//! reason, and what a running kernel shows of itself.
#![forbid(unsafe_code)]

mod cookies;
mod options;
mod signs;

pub use options::{Line, Need, Options, OptionsError, lines, merged};
pub use signs::{Check, Obstacle, attached, check, cpus_are_settled, hotplugs, is_enabled};
