//! Guests with the project's own programs in them.

use std::{env, path::PathBuf};

use infera_vm::VmOptions;

/// Taken from the release build where they exist.
const PROGRAMS: [&str; 6] = [
    "scx_infera",
    "infera-guard",
    "infera-agent",
    "infera",
    "infera-load",
    "infera-guest-tests",
];

/// The project's programs that have been built.
pub fn programs() -> Vec<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let release = crate::workspace().join(target).join("release");
    PROGRAMS
        .iter()
        .map(|name| release.join(name))
        .filter(|path| path.is_file())
        .collect()
}

/// An ordinary guest with these.
pub fn options() -> VmOptions {
    VmOptions {
        programs: programs(),
        ..VmOptions::default()
    }
}
