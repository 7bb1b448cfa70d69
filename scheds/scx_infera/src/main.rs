//! `scx_infera`: the process that loads the overlay and decides for the policy's tiers.
//!
//! It starts in stages, and each changes more of the node than the one before: options that only print (inform.rs), what is to be attached (intent.rs), the helper
//! threads (helpers.rs), the attached overlay (`attach()`), the loop (scheduler.rs). Every way out detaches and says why in one sentence.

mod bpf_intf;
mod bpf_skel;
pub use bpf_skel::*;
#[rustfmt::skip]
#[allow(dead_code, missing_docs, unused_mut, clippy::all, clippy::undocumented_unsafe_blocks, static_mut_refs)]
mod bpf;
mod bypass;
mod callbacks;
mod cgroups;
mod cli;
mod events;
mod exit_code;
mod follow;
mod helpers;
mod inform;
mod intent;
mod loading;
mod monitor;
mod pods;
mod privileges;
mod report;
mod scheduler;
mod shares;
mod signals;
mod silence;
mod source;
mod starting;
mod stats;
mod table;
mod vitals;
mod watch;

use clap::Parser;
use cli::Args;
use crossbeam::channel::bounded;
use exit_code::{Refusal, Status, why_it_ended};
use helpers::{Ends, Helpers};
use infera_heartbeat::{Page, Phase};
use infera_policy::Contained;
use intent::Intent;
use libbpf_rs::OpenObject;
use log::{info, warn};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use scheduler::Scheduler;
use simplelog::{ColorChoice, ConfigBuilder, LevelFilter, TermLogger, TerminalMode};
use starting::Companion;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

fn is_root() -> bool {
    // SAFETY: geteuid always succeeds and touches nothing.
    unsafe { libc::geteuid() == 0 }
}

fn log_to_terminal(verbose: bool) {
    let level = if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .build();
    let _ = TermLogger::init(level, config, TerminalMode::Stderr, ColorChoice::Never);
}

fn run(args: Args) -> Result<Status, Refusal> {
    if let Some(status) = inform::answer(&args)? {
        return Ok(status);
    }
    // From here on, what changes is read again, not the end.
    signals::hold();
    let intent = Intent::read(&args)?;
    if args.dry_run {
        intent.print();
        return Ok(Status::Done);
    }
    for check in infera_kernel::check(Path::new("/"), is_root()) {
        check.outcome?;
    }
    let guarded = args.heartbeat_fd.is_some();
    let page = heartbeat(args.heartbeat_fd)?;
    let (helpers, ends) = Helpers::start(&intent, args.stats, &page, guarded)?;
    let policy = intent.policy();
    quiet_panics_here();
    // A process that dumps core keeps what it has open until that is done, and the node on a dead
    // scheduler: there is no dump.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // Put back after all that follows has detached.
    let _turns = bypass::shorten();
    // A guard has done so already, and undoes it. Without one it stays after us: we may be killed, and
    // have given up the right to undo it by then.
    let mut grace = infera_link::GraceThread::find();
    grace.iter_mut().for_each(|thread| thread.boost(true));
    let mut object = MaybeUninit::uninit();
    let mut scheduler = attach(&mut object, policy, &intent, &args, ends)?;
    signals::leave_stop_to_others();
    helpers.follow(scheduler.cgroup_map().map_err(internal)?);
    // Attaching can succeed and then fail; only the state file shows it.
    if scheduler.exited() || infera_kernel::attached(Path::new("/")).is_none() {
        return ended(scheduler);
    }
    lock_when_used();
    info!("policy {} attached\n{}", intent.entry.name, intent.plan);
    helpers.watch(scheduler.eyes().map_err(internal)?);
    privileges::drop_most();
    scheduler.run(&page);
    page.enter(Phase::Leaving);
    ended(scheduler)
}

/// Loads the overlay and attaches it, unless CPUs come or go meanwhile. Afterwards this thread cannot map memory, start a
/// thread or a process.
fn attach<'object>(
    object: &'object mut MaybeUninit<OpenObject>,
    policy: Contained,
    intent: &Intent,
    args: &Args,
    ends: Ends,
) -> Result<Scheduler<'object>, Refusal> {
    let hotplugs = intent.hotplugs;
    // Closed when this function ends: the companion does, too.
    let (_loading_in, loading) = bounded(0);
    let companion = Companion::new(hotplugs, args.heartbeat_fd.is_some());
    helpers::spawn("infera-start", move || companion.run(&loading))?;
    loading::keep_warnings(args.verbose);
    let attached = catch_unwind(AssertUnwindSafe(move || {
        Scheduler::attach(
            object,
            policy,
            &intent.config,
            &intent.plan,
            (args.exit_dump_len, args.verbose),
            (ends.orders, ends.faults),
        )
    }));
    let scheduler = match attached {
        Ok(Ok(scheduler)) => scheduler,
        // The crate reads the CPUs, too, and fails or panics if one goes meanwhile.
        _ if hotplugs.changed() => return Err(starting::in_vain()),
        Ok(Err(error)) => return Err(loading::refused(&error)),
        Err(panic) => resume_unwind(panic),
    };
    loading::drop_messages();
    // From opening the overlay on, the kernel ends it when a CPU comes or goes. The plan is older than that.
    if hotplugs.changed() {
        let _ = scheduler.detach();
        return Err(starting::in_vain());
    }
    Ok(scheduler)
}

fn internal(error: anyhow::Error) -> Refusal {
    Refusal::new(Status::Internal, format!("{error:#}"))
}

/// A panic of the policy is contained, and logged by a helper; the hook must not write or map
/// memory on the loop's thread.
fn quiet_panics_here() {
    let here = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != here {
            before(panic);
        }
    }));
}

/// The page that the guard watches; without a guard, a page of its own.
fn heartbeat(fd: Option<i32>) -> Result<Page, Refusal> {
    let page = match fd {
        // SAFETY: the guard left it open for us, and nothing else here has it.
        Some(fd) => Page::open(unsafe { OwnedFd::from_raw_fd(fd) }),
        None => Page::create(),
    };
    page.map_err(|error| Refusal::new(Status::Internal, error.to_string()))
}

/// Detaches, and returns why it ended.
fn ended(scheduler: Scheduler<'_>) -> Result<Status, Refusal> {
    let status = match why_it_ended(scheduler.exit()) {
        Status::Done if vitals::UNWATCHED.load(Ordering::Relaxed) => Status::Unwatched,
        status => status,
    };
    let what = match scheduler.detach() {
        Ok(()) => String::new(),
        Err(error) => format!(" ({error:#})"),
    };
    let stock = "the stock scheduler runs this node";
    let sentence = match status {
        Status::Done => {
            info!("detached: {stock}");
            return Ok(Status::Done);
        }
        Status::Again => format!("CPUs came or went{what}: {stock}; start it again"),
        Status::Unwatched => format!("left because its guard no longer watched it{what}: {stock}"),
        Status::Crowded => format!(
            "real-time threads kept a CPU, or all, from every other task{what}: {stock}; bind those \
             threads to some CPUs, and bind no other task there"
        ),
        Status::Pause => format!(
            "a real-time thread kept a CPU from a task bound to it for 20 s{what}: {stock} for a moment and serves that task; bind \
             no other task to that CPU"
        ),
        Status::Dismissed => format!("the scheduler was detached on purpose{what}: {stock}"),
        _ => format!("the kernel detached the scheduler{what}: {stock}; see the kernel log"),
    };
    Err(Refusal::new(status, sentence))
}

/// Locks memory that is mapped from now on when it is first used. The crate has locked what is mapped already. A killed
/// process gives its memory back before the kernel detaches the scheduler, so unused stacks of later threads should not be
/// resident.
fn lock_when_used() {
    if let Err(error) = mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        warn!(
            "cannot lock memory on first use ({error}): stacks of later threads stay resident as a whole"
        );
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    log_to_terminal(args.verbose);
    // By the time that a panic arrives here it has detached the scheduler: it may be logged.
    let outcome = catch_unwind(AssertUnwindSafe(|| run(args))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let sentence = format!(
            "it panicked ({}): the stock scheduler runs this node; please report this",
            message.unwrap_or("without a message")
        );
        Err(Refusal::new(Status::Internal, sentence))
    });
    match outcome {
        Ok(status) => status.into(),
        Err(refusal) => {
            refusal.print();
            refusal.status.into()
        }
    }
}
