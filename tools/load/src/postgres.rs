//! PostgreSQL, and pgbench as its open-loop client.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::report::{Latencies, Periodic};

/// User and group id of the Unix user `nobody`, which owns no files: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// How often, each a quarter of a second after the other, a server that starts is asked for.
const TRIES: u32 = 240;

/// Options of `postgres`.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The cluster and its socket; made where absent.
    #[arg(long, value_name = "DIR", default_value = "/tmp/infera-load-postgres")]
    pub data: PathBuf,
}

/// Options of `pgbench`.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// Where the server's socket is.
    #[arg(long, value_name = "DIR", default_value = "/tmp/infera-load-postgres")]
    pub data: PathBuf,
    /// Transactions a second, all clients together; they come as they come (Poisson), and each
    /// counts from when it was due.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Clients.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub clients: u16,
    /// How long to measure; whole seconds.
    #[arg(long, default_value_t = 5000)]
    pub duration_ms: u64,
    /// Seeds what is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Waits for the server and fills its tables, instead of measuring.
    #[arg(long)]
    pub prepare: bool,
}

/// A program of PostgreSQL's, which Debian keeps in a place of its own.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions.flatten().map(|entry| entry.path().join("bin"));
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(versions)
        .map(|place| place.join(name))
        .filter(|file| file.is_file() && !is_wrapper(file))
        .collect();
    found.sort();
    found.pop().with_context(|| {
        format!("{name} is not installed: PostgreSQL's server and pgbench are wanted")
    })
}

/// Debian's /usr/bin has a script that looks for the right version.
fn is_wrapper(file: &Path) -> bool {
    fs::read_link(file).is_ok_and(|target| target.ends_with("pg_wrapper"))
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC");
    // SAFETY: the call is async-signal-safe.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Makes a cluster where there is none, and replaces this process by its server.
///
/// # Errors
///
/// PostgreSQL is not installed, the directory cannot be made or given to the server's user, initdb fails, or the server cannot
/// be executed. It returns only with an error.
pub fn serve(args: &ServerArgs) -> Result<()> {
    let cluster = args.data.join("cluster");
    if !cluster.join("PG_VERSION").is_file() {
        fs::create_dir_all(&args.data)
            .with_context(|| format!("cannot make {}", args.data.display()))?;
        // SAFETY: as above.
        if unsafe { libc::geteuid() } == 0 {
            std::os::unix::fs::chown(&args.data, Some(NOBODY), Some(NOBODY))?;
        }
        let made = as_nobody(&program("initdb")?)
            .args([
                "--auth=trust",
                "--username=bench",
                "--no-sync",
                "--locale=C",
            ])
            .args(["--encoding=SQL_ASCII", "-D"])
            .arg(&cluster)
            .output()
            .context("cannot start initdb")?;
        ensure!(
            made.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    let error = as_nobody(&program("postgres")?)
        .arg("-D")
        .arg(&cluster)
        .arg("-k")
        .arg(&args.data)
        .args(["-c", "listen_addresses=", "-c", "fsync=off"])
        .args(["-c", "autovacuum=off", "-c", "shared_buffers=32MB"])
        .args([
            "-c",
            "max_connections=40",
            "-c",
            "jit=off",
            "-c",
            "log_min_messages=fatal",
        ])
        .exec();
    Err(error).context("cannot start postgres")
}

fn client(data: &Path) -> Result<Command> {
    let mut command = Command::new(program("pgbench")?);
    command
        .env("PGHOST", data)
        .env("PGUSER", "bench")
        .env("PGDATABASE", "postgres")
        .env("LC_ALL", "C");
    Ok(command)
}

/// Measures, or prepares for it.
///
/// # Errors
///
/// pgbench is not installed, its log cannot be written or parsed, or it ends with another status than 0: where it
/// prepares, at every attempt for a minute.
pub fn bench(args: &ClientArgs) -> Result<Periodic> {
    if args.prepare {
        prepare(&args.data)?;
        return Ok(Periodic::sum([]));
    }
    let logs = tempfile_directory()?;
    let output = client(&args.data)?
        .args(["--no-vacuum", "--log", "--builtin=simple-update"])
        .arg(format!("--log-prefix={}", logs.join("log").display()))
        .arg(format!("--rate={}", args.rate))
        .arg(format!("--client={}", args.clients))
        .arg(format!("--time={}", args.duration_ms.div_ceil(1000)))
        .arg(format!("--random-seed={}", args.seed))
        .output()
        .context("cannot start pgbench")?;
    let measured = read_logs(&logs);
    let _ = fs::remove_dir_all(&logs);
    ensure!(
        output.status.success(),
        "pgbench failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Periodic::sum([(measured?, 0)]))
}

fn prepare(data: &Path) -> Result<()> {
    let mut said = String::new();
    for _ in 0..TRIES {
        let output = client(data)?
            .args(["--initialize", "--quiet", "--init-steps=dtGp", "--scale=1"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start pgbench")?;
        if output.status.success() {
            return Ok(());
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        sleep(Duration::from_millis(250));
    }
    bail!("the server does not answer: {said}")
}

fn tempfile_directory() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("infera-load-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// A line for each transaction: client, number, microseconds since it was due, and more.
fn read_logs(directory: &Path) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for entry in fs::read_dir(directory).context("pgbench kept no log")? {
        let text = fs::read_to_string(entry?.path())?;
        for line in text.lines() {
            let us = line.split(' ').nth(2).and_then(|us| us.parse::<u64>().ok());
            latencies.record(us.with_context(|| format!("pgbench logged: {line}"))? * 1000);
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_log_is_a_latency() {
        let directory = tempfile_directory().unwrap();
        fs::write(
            directory.join("log.1"),
            "0 199 2241 0 1175850568 995598 12\n0 200 2465 0 1175850568 998079 3\n",
        )
        .unwrap();
        let summary = read_logs(&directory).unwrap().summary();
        assert_eq!((summary.count, summary.max_us), (2, 2465.0));
        fs::write(directory.join("log.2"), "nonsense\n").unwrap();
        assert!(read_logs(&directory).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
