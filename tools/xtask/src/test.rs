//! `cargo xtask test`: format, dependencies, lints, unit and property tests, then guests on a
//! real kernel.

use crate::command::run;
use crate::deny;
use crate::docs;
use crate::faults;
use crate::guest;
use crate::kernel::{self, Kernel};
use crate::setup;
use crate::vm::{self, VmOptions, console_tail};
use crate::workspace;
use anyhow::{Result, bail};
use clap::Args;
use infera_guest_tests::Test;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// What every guest test begins with.
pub const PRELUDE: &str = include_str!("../guest-tests/prelude.sh");

/// A script that runs in a guest and succeeds by exiting with 0.
struct Script {
    name: &'static str,
    script: &'static str,
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        &[$(Script {
            name: stringify!($name),
            script: include_str!(concat!("../guest-tests/", stringify!($name), ".sh")),
        }),*]
    };
}

/// The guest tests in shell. New ones are in Rust: tools/guest-tests.
const SCRIPTS: &[Script] = scripts![
    attaches_and_leaves,
    five_cgroups_are_five_tiers,
    children_and_moved_threads_change_tier,
    a_critical_wakeup_preempts_background,
    a_normal_wakeup_preempts_background,
    affinity_outside_the_own_cpus_still_runs,
    tiers_take_turns_on_a_busy_cpu,
    background_stays_off_a_wanted_fence,
    background_keeps_its_share_under_critical,
    capabilities_are_given_up,
    the_charts_capabilities_suffice,
    refusals_name_the_reason,
    sighup_changes_tiers_in_place,
    an_assignment_moves_pods_in_place,
    doctor_finds_a_healthy_node_and_an_ill_one,
    monitor_shows_the_tiers,
    the_linter_fires_when_a_promise_is_broken,
];

/// Which tests.
#[derive(Args)]
pub struct TestArgs {
    /// The guest tests' kernel: the beginning of a cached kernel's release, the path of a
    /// kernel image, or `newest`: the one fetched last.
    #[arg(long, default_value = kernel::NEWEST)]
    kernel: String,
    /// Only the guest tests.
    #[arg(long)]
    guest: bool,
    /// The policy that guest tests in Rust attach; those in shell have their own.
    #[arg(long, default_value = "weighted")]
    policy: String,
    /// Only guest tests whose name contains this.
    filter: Option<String>,
}

fn cargo(args: &[&str]) -> Result<()> {
    eprintln!("==> cargo {}", args.join(" "));
    run(Command::new("cargo").args(args).current_dir(workspace()))
}

/// Builds what runs in guests.
pub fn build_guest_programs() -> Result<()> {
    // The whole workspace, here as in the tests: another selection unifies other features and
    // builds the scx crates once more.
    cargo(&["build", "--release", "--locked", "--workspace"])
}

/// Runs them; fails when one does.
pub fn main(args: &TestArgs) -> Result<()> {
    setup::main()?;
    if args.kernel == kernel::NEWEST {
        kernel::fetch::main(false, kernel::fetch::UNSTABLE)?;
    }
    // Before the builds, so that a kernel that is not there is reported at once.
    let release = Kernel::find(&args.kernel)?.release;
    if !args.guest && args.filter.is_none() {
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
        deny::check()?;
        // One profile for everything that links the scx crates: their cold build is minutes.
        cargo(&[
            "clippy",
            "--release",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?;
        cargo(&["test", "--locked", "-p", "infera-policy"])?;
        cargo(&[
            "test",
            "--release",
            "--locked",
            "--workspace",
            "--exclude",
            "infera-policy",
        ])?;
    }
    build_guest_programs()?;
    if !args.guest && args.filter.is_none() {
        docs::check()?;
    }
    guest_tests(args, &release)?;
    match args.filter {
        None => faults::fast(&args.kernel),
        Some(_) => Ok(()),
    }
}

fn guest_tests(args: &TestArgs, release: &str) -> Result<()> {
    let scripts = SCRIPTS.iter().map(|test| {
        let kernel = args.kernel.clone();
        Trial::test(test.name, move || script(test, kernel)).with_kind(release)
    });
    let in_rust = infera_guest_tests::TESTS.iter().map(|test| {
        let (kernel, policy) = (args.kernel.clone(), args.policy.clone());
        Trial::test(test.name, move || in_rust(test, kernel, &policy)).with_kind(release)
    });
    let trials = scripts.chain(in_rust).collect();
    let arguments = Arguments {
        filter: args.filter.clone(),
        // In exact time a guest keeps one of the machine's CPUs busy.
        test_threads: Some(thread::available_parallelism().map_or(1, usize::from)),
        ..Arguments::default()
    };
    if libtest_mimic::run(&arguments, trials).has_failed() {
        bail!("guest tests failed on {release}");
    }
    Ok(())
}

/// The machine that a test asks for in a line of its own: `# topology: SOCKETS,CORES,THREADS`.
fn topology_of(script: &str) -> Option<[u32; 3]> {
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix("# topology: "))?;
    let parts: Vec<u32> = line
        .split(',')
        .filter_map(|part| part.parse().ok())
        .collect();
    parts.try_into().ok()
}

fn script(test: &Script, kernel: String) -> Result<(), Failed> {
    let command = ["sh", "-c", &format!("{PRELUDE}\n{}", test.script)].map(str::to_owned);
    let options = VmOptions {
        topology: topology_of(test.script),
        ..options(kernel)
    };
    succeeds(&options, &command).map(|_| ())
}

fn in_rust(test: &Test, kernel: String, policy: &str) -> Result<(), Failed> {
    let command = ["infera-guest-tests", test.name, "--policy", policy].map(str::to_owned);
    let options = VmOptions {
        topology: test.topology,
        turn_us: test.turn_us,
        ..options(kernel)
    };
    // What it measured is worth a look even where it is as it must be.
    let figures = succeeds(&options, &command)?;
    eprint!("{}:\n{figures}", test.name);
    Ok(())
}

fn options(kernel: String) -> VmOptions {
    VmOptions {
        kernel,
        // A busy machine cannot disturb exact time, and QEMU's CPUs in parallel now and then
        // lose a timer interrupt for good: docs/decisions.md.
        exact: true,
        timeout: Duration::from_secs(900),
        ..guest::options()
    }
}

/// What the command printed, if it ended with 0.
fn succeeds(options: &VmOptions, command: &[String]) -> Result<String, Failed> {
    let outcome = vm::run(options, command, |_| ()).map_err(|error| format!("{error:#}"))?;
    if outcome.timed_out {
        return Err(format!(
            "timed out\n{}\n{}",
            outcome.output,
            console_tail(&outcome.console)
        )
        .into());
    }
    if outcome.status != 0 {
        return Err(format!(
            "status {}\n{}\nthe guest's kernel log is in {}",
            outcome.status,
            outcome.output,
            outcome.console.display()
        )
        .into());
    }
    Ok(outcome.output)
}
