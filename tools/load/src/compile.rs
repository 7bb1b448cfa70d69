//! A compile job: `files` C files, `jobs` compilers at a time.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::signal;

/// Options of `compile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many compilers at a time; as many as there are CPUs where absent.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// How many files.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub files: u32,
    /// How many functions each of them has.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub functions: u32,
}

/// What it took.
#[derive(Debug, Serialize)]
pub struct Report {
    /// From the first compiler's start to the last one's end.
    pub seconds: f64,
}

/// A program of loops and branches: what the compiler thinks about.
fn source(functions: u32) -> String {
    let mut text = String::new();
    for at in 0..functions {
        let _ = writeln!(
            text,
            "int f{at}(const int *v, int n) {{\n\
             \tint i, j, sum = {at};\n\
             \tfor (i = 0; i < n; i++) {{\n\
             \t\tfor (j = i; j > 0 && v[j] < v[j - 1]; j--)\n\
             \t\t\tsum += v[j] % ({at} + 3);\n\
             \t\tswitch (sum & 7) {{\n\
             \t\tcase 0: sum ^= v[i]; break;\n\
             \t\tcase 3: sum -= v[i] * {at}; break;\n\
             \t\tcase 5: sum = sum > {at} ? sum / 3 : -sum; break;\n\
             \t\tdefault: sum++;\n\
             \t\t}}\n\
             \t}}\n\
             \treturn sum;\n\
             }}"
        );
    }
    text
}

/// The compiler: of a test guest the part that compiles, alone.
fn compiler(file: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let alone = std::env::split_paths(&path).any(|place| place.join("cc1").is_file());
    let mut command = Command::new(if alone { "cc1" } else { "cc" });
    command
        .args(if alone {
            ["-quiet", "-nostdinc"]
        } else {
            ["-S", "-nostdinc"]
        })
        .arg("-O2")
        .arg(file)
        .args(["-o", "/dev/null"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Compiles.
///
/// # Errors
///
/// The file cannot be written to the temporary directory, there is no C compiler, or it ends with another status than
/// 0.
pub fn run(args: &Args) -> Result<Report> {
    let file: PathBuf = std::env::temp_dir().join(format!("infera-load-{}.c", std::process::id()));
    fs::write(&file, source(args.functions))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let jobs = args.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let begun = Instant::now();
    let taken = AtomicU32::new(0);
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while taken.fetch_add(1, Ordering::Relaxed) < args.files
                        && !signal::stop_requested()
                    {
                        let status = compiler(&file).status();
                        let status = status.context("cannot start a C compiler")?;
                        ensure!(status.success(), "the compiler failed: {status}");
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a worker does not panic"))
    });
    let _ = fs::remove_file(&file);
    done?;
    Ok(Report {
        seconds: begun.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_names_of_their_own() {
        let text = source(3);
        assert_eq!(text.matches("int f").count(), 3);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
