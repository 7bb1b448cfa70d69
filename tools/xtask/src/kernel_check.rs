//! Whether a kernel has the options the project needs.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    command,
    fragments::{self, Config, Need},
};

/// Checks a configuration file, or the running kernel's; prints what is missing and why it
/// matters. False if something required is.
pub fn main(which: &str) -> Result<bool> {
    let config = match which {
        "running" => running()?,
        path => read(Path::new(path))?,
    };
    let mut complete = true;
    let mut missing = 0;
    for line in fragments::read()? {
        let need = match line.need {
            Need::Required => "required",
            Need::Recommended => "recommended",
            Need::Test => continue,
        };
        if line.holds(&config) {
            continue;
        }
        missing += 1;
        complete &= line.need != Need::Required;
        println!("{need}: {} is not set: {}", line.setting(), line.reason);
    }
    if missing == 0 {
        println!("all options are there");
    }
    Ok(complete)
}

/// The running kernel's options, from wherever it keeps them.
fn running() -> Result<Config> {
    let release = command::output(Command::new("uname").arg("-r"))?;
    let release = release.trim();
    for path in [
        "/proc/config.gz".to_owned(),
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ] {
        if Path::new(&path).exists() {
            return read(Path::new(&path));
        }
    }
    bail!("{release} keeps its options neither in /proc/config.gz nor in /boot");
}

fn read(path: &Path) -> Result<Config> {
    let packed = fs::read(path).is_ok_and(|data| data.starts_with(&[0x1f, 0x8b]));
    if packed {
        let text = command::output(Command::new("gzip").arg("-dc").arg(path))?;
        return Ok(Config::parse(&text));
    }
    Config::read(path)
}
