//! Guests for tests of a kernel's scheduler: a kernel, an initramfs and a command, in QEMU, without root and without KVM.
//!
//! [`run`] boots a guest, runs one command in it and returns what it printed and its exit status. With [`VmOptions::exact`]
//! time is the count of instructions, so that two runs of one command print the same bytes, whatever else the machine does:
//! docs/vm.md says what that is good for and what it costs.
//!
//! - [`guest`]: the options of a guest, and its run.
//! - [`kernel`]: which kernels there are; [`kernel::fetch`] and [`kernel::build`] add to them.
//! - [`cache`]: where kernels, images and logs are kept.
//! - [`apt`], [`command`], [`hash`], [`program`]: what these need of the machine.

pub mod apt;
pub mod cache;
pub mod command;
pub mod guest;
pub mod hash;
mod image;
pub mod kernel;
mod kvm;
mod newc;
pub mod program;

pub use guest::{Accelerator, Outcome, TIMED_OUT, VmOptions, console_tail, run, run_bytes};
pub use kernel::Kernel;
