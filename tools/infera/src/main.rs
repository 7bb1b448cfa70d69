//! `infera`: the operator's command line.

mod bench;
mod canary;
mod doctor;
mod plan;
mod safe_mode;
mod status;
mod top;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

/// The state of this node's tiers, and the switch that stands them down.
#[derive(Debug, Parser)]
#[command(name = "infera", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who schedules this node, since when, and what happened.
    ///
    /// Exit status 0: infera does; 1: the stock scheduler does.
    Status {
        /// How to print.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// What runs where, now: tiers, CPUs with fence and loans, the busiest threads, wakeup latency.
    ///
    /// The scheduler's statistics need root. Ends with q.
    Top(top::TopArgs),
    /// Which scheduler, for which work, by how much: runs load under each, in one boot.
    ///
    /// Takes the node's scheduler over while it runs: not for a node that serves users. Needs root and
    /// infera-load. Exit status 0: done; 1: done, and a scheduler did not attach, or was ejected meanwhile.
    Bench(bench::BenchArgs),
    /// How a canary does.
    Canary {
        #[command(subcommand)]
        question: Canary,
    },
    /// Everything that must hold for infera to work on this node, looked at once.
    ///
    /// Exit status 0: all is well; 1: there are warnings; 3: something cannot work like this.
    Doctor(doctor::DoctorArgs),
    /// What would be enforced for these pods on this node: fences, headroom, and what does not
    /// add up.
    ///
    /// Exit status 0: all adds up; 1: there are warnings; 2: something cannot be read.
    Plan(plan::PlanArgs),
    /// Prints a shell's completions: for bash, into /usr/share/bash-completion/completions/infera.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages.
    #[command(hide = true)]
    Man {
        /// Where to.
        directory: std::path::PathBuf,
    },
    /// Stand down, or take over again.
    SafeMode {
        #[command(subcommand)]
        switch: Switch,
    },
}

#[derive(Debug, Subcommand)]
enum Canary {
    /// Compares the canary nodes with the others, from their agents' metrics: lint violations,
    /// ejects, wakeup latency, time on the stock scheduler.
    ///
    /// Exit status 0: promote; 1: wait; 3: roll back.
    Status(canary::CanaryArgs),
}

#[derive(Debug, Subcommand)]
enum Switch {
    /// Give the node to the stock scheduler, now. Works without the guard's socket, too.
    On {
        /// Why; shown in the status.
        #[arg(default_value = "asked for on the command line")]
        reason: String,
        /// How to print.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Leave safe mode, whichever source asked for it, and take over again.
    Off {
        /// Only what this source asked for: operator, signal, guard, file, annotation ...
        #[arg(long)]
        source: Option<String>,
        /// How to print.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("infera: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Status { output } => status::print(output),
        Command::Bench(args) => bench::print(&args),
        Command::Top(args) => top::run(&args),
        Command::Canary {
            question: Canary::Status(args),
        } => canary::print(&args),
        Command::Doctor(args) => doctor::print(&args),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "infera", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => {
            clap_mangen::generate_to(Cli::command(), directory)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Plan(args) => plan::print(&args),
        Command::SafeMode {
            switch: Switch::On { reason, output },
        } => safe_mode::on(&reason, output),
        Command::SafeMode {
            switch: Switch::Off { source, output },
        } => safe_mode::off(source, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
