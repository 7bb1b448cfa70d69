//! Measured load for guests: wake probe, bursts, hogs, a compile job, memcached and PostgreSQL.
//!
//! Every subcommand may first join a cgroup, and prints one JSON line when it ends. SIGTERM and
//! SIGINT end a measurement early; what was measured so far is still printed.

mod await_state;
mod burst;
mod cgroup;
mod chain;
mod class;
mod clock;
mod compile;
mod counters;
mod hogs;
mod idle;
mod memcached;
mod pelt;
mod pingpong;
mod postgres;
mod protocol;
mod report;
mod rng;
mod run;
mod signal;
mod tour;
mod wake;
mod window;
mod work;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use class::Class;

/// The command line.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Join this cgroup before starting; it is created if absent.
    #[arg(long, global = true, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Under SCHED_FIFO, at this priority.
    #[arg(long, global = true, value_name = "PRIO", value_parser = clap::value_parser!(u32).range(1..=99))]
    fifo: Option<u32>,
    /// With this slice of the stock scheduler, in microseconds: 100 to 100000.
    #[arg(long, global = true, value_name = "US", value_parser = clap::value_parser!(u64).range(100..=100_000))]
    fair_slice_us: Option<u64>,
    #[command(subcommand)]
    command: Command,
}

/// What to do once in the cgroup.
#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how late periodic wake-ups are, as cyclictest does.
    Wake(wake::Args),
    /// Periodic CPU bursts: measure from the wanted start to completion.
    Burst(burst::Args),
    /// A request through several processes: measure from its wanted start until it is back.
    Chain(chain::Args),
    /// Two threads that wake each other through pipes: count the rounds.
    Pingpong(pingpong::Args),
    /// Compile a number of files: measure how long it takes.
    Compile(compile::Args),
    /// Spin, counting units of work.
    Hogs(hogs::Args),
    /// Threads that sleep, and wake now and then.
    Idle(idle::Args),
    /// Print the sum of a file that `hogs --progress` keeps.
    Progress(counters::Args),
    /// Cause something, and time how long sched_ext takes to get to a state.
    Await(await_state::Args),
    /// Detach the scheduler through its BPF link, as another process with the right to do so might.
    Detach,
    /// Throw random bytes at a Unix socket.
    Pelt(pelt::Args),
    /// Open-loop memcached client: measure from the intended send time.
    Memcached(memcached::Args),
    /// Make a PostgreSQL cluster where there is none, and become its server.
    Postgres(postgres::ServerArgs),
    /// Open-loop PostgreSQL client: measure from when a transaction was due.
    Pgbench(postgres::ClientArgs),
    /// Replace this process by another command.
    Run(run::Args),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(dir) = &cli.cgroup {
        cgroup::join(dir)?;
    }
    let class = Class::apply(cli.fifo, cli.fair_slice_us)?;
    if let Command::Detach = &cli.command {
        infera_link::detach()?;
        return Ok(());
    }
    match &cli.command {
        Command::Run(args) => return run::run(args),
        Command::Postgres(args) => return postgres::serve(args),
        _ => {}
    }
    signal::install()?;
    match &cli.command {
        Command::Wake(args) => report::print("wake", &wake::run(args)?),
        Command::Burst(args) => report::print("burst", &burst::run(args)?),
        Command::Chain(args) => report::print("chain", &chain::run(args)?),
        Command::Pingpong(args) => report::print("pingpong", &pingpong::run(args)?),
        Command::Compile(args) => report::print("compile", &compile::run(args)?),
        Command::Hogs(args) => report::print("hogs", &hogs::run(args, class)?),
        Command::Idle(args) => report::print("idle", &idle::run(args)?),
        Command::Progress(args) => report::print("progress", &counters::progress(args)?),
        Command::Await(args) => report::print("await", &await_state::run(args)?),
        Command::Pelt(args) => report::print("pelt", &pelt::run(args)?),
        Command::Memcached(args) => report::print("memcached", &memcached::run(args)?),
        Command::Pgbench(args) => report::print("pgbench", &postgres::bench(args)?),
        Command::Run(_) | Command::Postgres(_) | Command::Detach => {
            unreachable!("handled above")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_parse() {
        for name in ["wake", "burst", "chain", "pingpong", "hogs", "memcached"] {
            let cli = Cli::try_parse_from(["infera-load", name]).unwrap();
            assert!(cli.cgroup.is_none());
        }
    }

    #[test]
    fn cgroup_may_follow_the_subcommand() {
        let cli = Cli::try_parse_from(["infera-load", "hogs", "--cgroup", "/x"]).unwrap();
        assert_eq!(cli.cgroup, Some(PathBuf::from("/x")));
    }

    #[test]
    fn run_leaves_the_command_its_options() {
        let line = "infera-load run --cgroup /x -- cmd --cgroup /y";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.cgroup, Some(PathBuf::from("/x")));
        let Command::Run(args) = cli.command else {
            panic!("not run");
        };
        assert_eq!(args.command, ["cmd", "--cgroup", "/y"]);
    }

    #[test]
    fn zeros_that_would_divide_or_spin_are_refused() {
        for line in [
            "wake --interval-us 0",
            "wake --threads 0",
            "burst --period-us 0",
            "compile --jobs 0",
            "compile --files 0",
            "hogs --count 0",
            "idle --threads 0",
            "memcached --rate 0",
            "memcached --rate nan",
            "memcached --connections 0",
            "memcached --keys 0",
            "pgbench --rate 0",
            "run",
        ] {
            let words = std::iter::once("infera-load").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
