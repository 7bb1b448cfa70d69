//! `cargo xtask bench`: `infera bench` on a test kernel, a boot for each seed.

use crate::command::output;
use crate::guest;
use crate::test::build_guest_programs;
use crate::vm::{self, VmOptions, console_tail};
use crate::{cache, peers};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use infera_bench::report::ReportArgs;
use infera_bench::{Load, RECORD, Record, RunArgs, Scenario};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// On what to run what.
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    runs: RunArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// The kernel: the beginning of a cached kernel's release.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// CPUs of the guest.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// Sockets, cores in each, threads in each core; goes before --cpus.
    #[arg(long, value_name = "S,C,T", value_parser = crate::topology)]
    topology: Option<[u32; 3]>,
    /// Count instructions as time: the same figures each time, whatever else this machine does.
    #[arg(long)]
    exact: bool,
    /// Memory of the guest in MiB.
    #[arg(long, default_value_t = 3072, value_name = "MB")]
    memory: u32,
    /// In exact time, QEMU runs every CPU at least once in this many virtual microseconds: `vm run --help`.
    /// Less is more exact, and takes longer.
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..))]
    turn_us: u32,
    /// Prints the scenarios, peers and policies that there are.
    #[arg(long)]
    list: bool,
    /// Hours after which a guest is cut off.
    #[arg(long, default_value_t = 3, value_name = "H")]
    hours: u64,
}

/// Runs, reports; fails where a scheduler was ejected or did not attach, or a load failed.
pub fn main(args: &BenchArgs) -> Result<()> {
    if args.list {
        print!("{}", RunArgs::list());
        return Ok(());
    }
    let earlier = args.report.earlier()?;
    build_guest_programs()?;
    let mut records = Vec::new();
    for seed in args.runs.first_seed..args.runs.first_seed + args.runs.seeds {
        eprintln!("==> a guest for seed {seed}");
        boot(args, seed, &mut records)?;
    }
    if !args.report.report(&records, earlier)? {
        bail!("a scheduler was ejected or did not attach, or a load failed: see the marks");
    }
    Ok(())
}

/// What a guest measures comes to `records`.
fn boot(args: &BenchArgs, seed: u64, records: &mut Vec<Record>) -> Result<()> {
    let others = [
        peers::installed(&cache::dir("peers")?),
        compiler(&args.runs)?,
    ]
    .concat();
    let options = VmOptions {
        kernel: args.kernel.clone(),
        cpus: args.cpus,
        topology: args.topology,
        memory: args.memory,
        exact: args.exact,
        seed,
        turn_us: args.exact.then_some(args.turn_us),
        timeout: Duration::from_secs(args.hours * 3600),
        // Other schedulers' loaders read it there. Ours must do without, as in a container.
        boot_config: !others.is_empty(),
        programs: [guest::programs(), others].concat(),
        files: database(&args.runs)?,
        script: script(&args.runs, seed)?,
        ..guest::options()
    };
    let command = ["sh", "/infera/script"].map(str::to_owned);
    let mut kept = Ok(());
    let outcome = vm::run(&options, &command, |line| {
        match line
            .strip_prefix(RECORD)
            .map(serde_json::from_str::<Record>)
        {
            Some(Ok(record)) => {
                // Whether QEMU counts instructions is known here, and not in the guest.
                records.push(Record {
                    rotation_us: args.exact.then_some(args.turn_us),
                    ..record
                });
                if kept.is_ok() {
                    kept = args.report.keep(records);
                }
            }
            Some(Err(error)) => kept = Err(error).context("a record cannot be read"),
            None => eprintln!("    {line}"),
        }
    })?;
    kept?;
    if outcome.status != 0 {
        bail!("the bench failed\n{}", console_tail(&outcome.console));
    }
    Ok(())
}

fn wants(runs: &RunArgs, load: Load) -> Result<bool> {
    let scenarios = runs.scenarios()?;
    Ok(scenarios
        .iter()
        .any(|scenario| scenario.work.iter().any(|work| work.load == load)))
}

/// What a compile job needs of the machine's compiler, where a scenario has one.
fn compiler(runs: &RunArgs) -> Result<Vec<PathBuf>> {
    if !wants(runs, Load::Compile)? {
        return Ok(Vec::new());
    }
    let path = output(Command::new("cc").arg("-print-prog-name=cc1"))?;
    let program = PathBuf::from(path.trim());
    ensure!(
        program.is_absolute(),
        "the compile job wants GCC, and cc is another compiler: choose --scenario"
    );
    Ok(vec![program])
}

/// PostgreSQL, where a scenario wants it: the newest version that is installed.
fn database(runs: &RunArgs) -> Result<Vec<PathBuf>> {
    if !wants(runs, Load::Pgbench)? {
        return Ok(Vec::new());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut places: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
    places.sort();
    let place = places.pop().context(
        "PostgreSQL's server is not in /usr/lib/postgresql: install it, or choose --scenario",
    )?;
    let share = Path::new("/usr/share/postgresql").join(place.file_name().unwrap_or_default());
    let mut files: Vec<PathBuf> = [
        "bin/postgres",
        "bin/initdb",
        "bin/pgbench",
        "lib/plpgsql.so",
        "lib/dict_snowball.so",
    ]
    .iter()
    .map(|file| place.join(file))
    .collect();
    for below in ["", "timezonesets", "tsearch_data", "extension"] {
        for entry in fs::read_dir(share.join(below))?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_file() && (below != "extension" || name.starts_with("plpgsql"))
            {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// The guest's part: a scenario from a file goes with it.
fn script(runs: &RunArgs, seed: u64) -> Result<String> {
    let mut script = String::new();
    let mut line = format!("exec infera bench --raw --seeds 1 --first-seed {seed}");
    for (at, name) in runs.scenarios.iter().enumerate() {
        // Said here where it is wrong, before a boot.
        Scenario::select(name)?;
        match fs::read_to_string(name) {
            Ok(text) => {
                let _ = write!(
                    script,
                    "cat >/tmp/{at}.toml <<'END-OF-SCENARIO'\n{text}\nEND-OF-SCENARIO\n"
                );
                let _ = write!(line, " --scenario /tmp/{at}.toml");
            }
            Err(_) => {
                let _ = write!(line, " --scenario {name}");
            }
        }
    }
    for peer in &runs.against {
        if peer != "none" {
            infera_bench::Arm::peer(peer)?;
        }
        let _ = write!(line, " --against {peer}");
    }
    for policy in &runs.policies {
        if policy != "none" {
            infera_bench::Arm::policy(policy)?;
        }
        let _ = write!(line, " --policy {policy}");
    }
    if let Some(ms) = runs.window_ms {
        let _ = write!(line, " --window-ms {ms}");
    }
    Ok(format!("{script}{line}\n"))
}
