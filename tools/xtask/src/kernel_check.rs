//! Whether a kernel has the options the project needs.

use std::path::Path;

use anyhow::Result;
use infera_kernel::{Need, Options};

/// Checks a configuration file, or the running kernel's; prints what is missing and why it
/// matters. False if something required is.
pub fn main(which: &str) -> Result<bool> {
    let options = match which {
        "running" => Options::running(Path::new("/"))?,
        path => Options::read(Path::new(path))?,
    };
    let missing = options.lacks();
    for line in &missing {
        let need = match line.need {
            Need::Required => "required",
            _ => "recommended",
        };
        println!("{need}: {} is not set: {}", line.setting(), line.reason);
    }
    if missing.is_empty() {
        println!("all options are there");
    }
    Ok(!missing.iter().any(|line| line.need == Need::Required))
}
