//! The project's one entry point: set-up, kernels, guests, tests, demo.

mod bench;
mod chart;
mod compare;
mod demo;
mod deny;
mod docs;
mod faults;
mod fuzz;
mod guest;
mod k8s;
mod kernel_check;
mod package;
mod peers;
mod profile;
mod rows;
mod setup;
mod soak;
mod test;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use infera_vm::{self as vm, apt, cache, command, hash, kernel, program};

/// Sets up the machine, gets kernels, runs guests, tests and the demo.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the packages and tools that are missing (Debian 12 and newer).
    Setup,
    /// Get the kernels guests boot, or check one.
    #[command(subcommand)]
    Kernel(KernelTask),
    /// Boot a kernel in QEMU and run a command in it.
    #[command(subcommand)]
    Vm(VmTask),
    /// Run the tests that need a guest.
    Test(test::TestArgs),
    /// Hold the pages against what there is: links, commands, flags, keys, metrics.
    Docs,
    /// Show what the scheduler does.
    Demo,
    /// Hours of random load and changes in exact time.
    Soak(soak::SoakArgs),
    /// Break everything that can break, under load, and see what the node does.
    Faults(faults::FaultArgs),
    /// Feed random input to the parsers, the plan and the guard's socket.
    Fuzz(fuzz::FuzzArgs),
    /// Make a system extension, an OCI image and a Debian package of infera for node images.
    Package(package::PackageArgs),
    /// Run scenarios under several schedulers in one boot, and report who does what by how much.
    Bench(bench::BenchArgs),
    /// Count the instructions of a wakeup, function by function, under each scheduler
    Profile(profile::ProfileArgs),
    /// Install other sched_ext schedulers to compare with: minutes each.
    Peers {
        /// Which; all of them where absent.
        names: Vec<String>,
    },
    /// Compare with the stock scheduler in exact time; fails where a promised ratio is missed.
    Compare(compare::CompareArgs),
    /// Programs to test with on Kubernetes.
    #[command(subcommand)]
    K8s(K8sTask),
    /// Check the chart, or run its runbook.
    #[command(subcommand)]
    Chart(ChartTask),
}

#[derive(Subcommand)]
enum K8sTask {
    /// Find a Kubernetes API server and its tools, or build them; prints where they are.
    Fetch,
    /// Try an infera-agent against a real API server, with the chart's rights.
    Agent(k8s::agent::AgentArgs),
    /// A node in a guest: agent, guard and the real scheduler, and a real API server outside.
    Node(k8s::node::NodeArgs),
}

#[derive(Subcommand)]
enum ChartTask {
    /// Lint, templates, refusals, golden manifests, Kubernetes' schemas, alerts.
    Check(chart::check::CheckArgs),
    /// Perform docs/operations.md against a real API server.
    Runbook(chart::runbook::RunbookArgs),
}

#[derive(Subcommand)]
enum KernelTask {
    /// Download Debian's newest kernel, unless one is in the cache.
    Fetch {
        /// Look for a newer one than the cache has.
        #[arg(long)]
        refresh: bool,
        /// The suite: `experimental` has release candidates.
        #[arg(long, default_value = kernel::fetch::UNSTABLE, value_parser = [kernel::fetch::UNSTABLE, "experimental"])]
        suite: String,
    },
    /// Build the test kernel with the options of kernel-configs/.
    Build {
        /// The version of Debian's source package.
        #[arg(default_value = "6.12")]
        version: String,
    },
    /// Print which options a kernel lacks; fails on a required one.
    Check {
        /// A kernel's configuration file, or `running`.
        config: String,
    },
}

#[derive(Subcommand)]
enum VmTask {
    /// Run one command; its output and exit status become this program's.
    Run(VmRun),
}

#[derive(Args)]
struct VmRun {
    /// The beginning of a cached kernel's release, the path of a kernel image, or `newest`:
    /// the one fetched last.
    #[arg(long, default_value = kernel::NEWEST)]
    kernel: String,
    /// CPUs.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// Sockets, cores in each, threads in each core; goes before --cpus.
    #[arg(long, value_name = "S,C,T", value_parser = topology)]
    topology: Option<[u32; 3]>,
    /// Memory in MiB.
    #[arg(long, default_value_t = 2048, value_name = "MB")]
    memory: u32,
    /// Count instructions as time: two runs of one command print the same.
    #[arg(long)]
    exact: bool,
    /// Seeds what is random in an exact run.
    #[arg(long, default_value_t = 1, requires = "exact")]
    seed: u64,
    /// In an exact run, QEMU runs every CPU at least once in this many virtual microseconds: nothing
    /// shorter can be measured. Without it, a round of all CPUs takes a tick of the kernel.
    #[arg(long, value_name = "US", requires = "exact", value_parser = clap::value_parser!(u32).range(10..))]
    turn_us: Option<u32>,
    /// In an exact run, an instruction takes 2 to the power of N virtual nanoseconds.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=10))]
    shift: u8,
    /// After how many seconds to stop the guest and exit with 124.
    #[arg(long, default_value_t = 300, value_name = "SECS")]
    timeout: u64,
    /// More of the kernel's command line.
    #[arg(
        long,
        default_value = "",
        value_name = "STR",
        allow_hyphen_values = true
    )]
    append: String,
    /// Another program to have in the guest's /usr/bin.
    #[arg(long, value_name = "PATH")]
    bin: Vec<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn topology(text: &str) -> Result<[u32; 3], String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.map(<[u32; 3]>::try_from) {
        Ok(Ok(numbers)) if numbers.iter().all(|number| *number > 0) => Ok(numbers),
        _ => Err("expected three numbers such as 1,2,2".to_owned()),
    }
}

/// The directory of the workspace this program was built from.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the package is two directories below the workspace")
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => {
            setup::main()?;
            let program = deny::install()?;
            println!("cargo-deny is {}", program.display());
        }
        Task::Kernel(KernelTask::Fetch { refresh, suite }) => {
            kernel::fetch::main(refresh, &suite)?;
        }
        Task::Kernel(KernelTask::Build { version }) => kernel::build::main(&version)?,
        Task::Kernel(KernelTask::Check { config }) => {
            if !kernel_check::main(&config)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Task::Vm(VmTask::Run(arguments)) => return vm_run(arguments),
        Task::Test(arguments) => test::main(&arguments)?,
        Task::Docs => docs::main()?,
        Task::Bench(arguments) => bench::main(&arguments)?,
        Task::Profile(arguments) => profile::main(&arguments)?,
        Task::Peers { names } => peers::main(&names)?,
        Task::Demo => demo::main()?,
        Task::Soak(arguments) => soak::main(&arguments)?,
        Task::Faults(arguments) => faults::main(&arguments)?,
        Task::Fuzz(arguments) => fuzz::main(&arguments)?,
        Task::Compare(arguments) => compare::main(&arguments)?,
        Task::Package(arguments) => package::main(&arguments)?,
        Task::K8s(K8sTask::Fetch) => k8s::fetch::main()?,
        Task::K8s(K8sTask::Agent(arguments)) => k8s::agent::main(&arguments)?,
        Task::K8s(K8sTask::Node(arguments)) => k8s::node::main(&arguments)?,
        Task::Chart(ChartTask::Check(arguments)) => chart::check::main(&arguments)?,
        Task::Chart(ChartTask::Runbook(arguments)) => chart::runbook::main(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn vm_run(arguments: VmRun) -> Result<ExitCode> {
    let options = vm::VmOptions {
        kernel: arguments.kernel,
        cpus: arguments.cpus,
        topology: arguments.topology,
        memory: arguments.memory,
        exact: arguments.exact,
        seed: arguments.seed,
        turn_us: arguments.turn_us,
        shift: arguments.shift,
        timeout: Duration::from_secs(arguments.timeout),
        append: arguments.append,
        boot_config: !arguments.bin.is_empty(),
        programs: [guest::programs(), arguments.bin].concat(),
        ..vm::VmOptions::default()
    };
    let mut stdout = std::io::stdout();
    let outcome = vm::run_bytes(&options, &arguments.command, |bytes| {
        // The output may be closed by now; the command's status still counts.
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    })?;
    if outcome.timed_out {
        eprintln!("{}", vm::console_tail(&outcome.console));
        eprintln!("stopped after {} s", arguments.timeout);
    }
    Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
