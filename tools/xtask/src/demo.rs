//! The demonstration.

use anyhow::{Result, bail};

/// Runs it.
pub fn main() -> Result<()> {
    bail!("not built yet")
}
