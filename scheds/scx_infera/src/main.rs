//! `scx_infera`: parse, validate, plan, attach, run, leave cleanly.

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
mod loading;
mod monitor;
mod pods;
mod privileges;
mod report;
mod scheduler;
mod shares;
mod signals;
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
use infera_heartbeat::{Page, Phase};
use infera_plan::{ConfigError, Plan};
use infera_policy::{Contained, Drill, REGISTRY, Sabotage, find, names};
use log::{error, info, warn};
use report::{Meter, SOCKET};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use simplelog::{ColorChoice, ConfigBuilder, LevelFilter, TermLogger, TerminalMode};
use source::Source;
use starting::Companion;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use watch::Helper;

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

fn list_policies() {
    for entry in REGISTRY {
        println!("{:<10} {}", entry.name, entry.summary);
    }
}

fn print_check() -> Status {
    let mut status = Status::Done;
    for check in infera_kernel::check(Path::new("/"), is_root()) {
        match check.outcome {
            Ok(found) => println!("ok    {:<16} {found}", check.name),
            Err(obstacle) => {
                println!("FAIL  {:<16} {}", check.name, obstacle.sentence());
                if status == Status::Done {
                    status = Refusal::from(obstacle).status;
                }
            }
        }
    }
    println!(
        "note  while attached, cpu.weight of cgroups is in force within each tier, and cpu.max in all, unless `limits` is off"
    );
    status
}

fn run(args: Args) -> Result<Status, Refusal> {
    if args.list_policies {
        list_policies();
        return Ok(Status::Done);
    }
    if args.check {
        return Ok(print_check());
    }
    let internal = |error: anyhow::Error| Refusal::new(Status::Internal, format!("{error:#}"));
    if args.help_stats {
        report::describe(&mut std::io::stdout()).map_err(internal)?;
        return Ok(Status::Done);
    }
    if let Some(seconds) = args.monitor {
        monitor::monitor(Path::new(SOCKET), Duration::from_secs(seconds))?;
        return Ok(Status::Done);
    }
    // From here on, what changes is read again, not the end.
    signals::hold();
    let source = Source {
        file: args.config,
        rules: args.tiers,
        slice_us: args.slice_us,
        assignment: args.assignment,
    };
    let refuse = |error: ConfigError| Refusal::new(Status::Config, error.to_string());
    let wanted = source.read().map_err(refuse)?;
    let config = wanted.effective();
    let name = args
        .policy
        .or_else(|| config.policy.clone())
        .unwrap_or_else(|| "weighted".into());
    let entry = find(&name).ok_or_else(|| {
        let names: Vec<_> = names().collect();
        Refusal::new(
            Status::Config,
            format!("unknown policy '{name}': use one of {}", names.join(", ")),
        )
    })?;
    let drill = args.drill.as_deref().map(parse_drill).transpose()?;
    let (topology, hotplugs) = starting::cpus(Path::new("/"))?;
    let topology = topology.with_partitions(Path::new(CGROUP_ROOT));
    let plan = Plan::new(&topology, &config);
    if args.dry_run {
        println!("policy: {} - {}", entry.name, entry.summary);
        println!("{plan}");
        for line in config.describe_rules(Path::new(CGROUP_ROOT)) {
            println!("  {line}");
        }
        for pod in &wanted.assignment.pods {
            println!("  tier {}: pod {}", pod.tier, pod.cgroup);
        }
        return Ok(Status::Done);
    }
    for check in infera_kernel::check(Path::new("/"), is_root()) {
        check.outcome?;
    }

    let page = heartbeat(args.heartbeat_fd)?;
    let guarded = args.heartbeat_fd.is_some();
    let (orders_in, orders) = bounded(16);
    let (handle_in, handle) = bounded(1);
    let helper = Helper {
        attached: handle,
        hangup: signals::wake().map_err(|error| internal(error.into()))?,
        orders: orders_in.clone(),
        source,
        wanted,
        root: CGROUP_ROOT.into(),
        topology,
    };
    start("infera-watch", move || helper.run())?;
    let (eyes_in, eyes) = bounded(1);
    let (faults_in, faults) = bounded(1);
    let published = page.clone();
    start("infera-vitals", move || {
        if let Ok(eyes) = eyes.recv()
            && let Err(error) = vitals::publish(&eyes, &faults, &published, guarded)
        {
            error!("the guard learns nothing: {error:#}");
        }
    })?;
    if let Some(seconds) = args.stats {
        let meter = Meter::new(orders_in.clone());
        start("infera-stats", move || {
            privileges::drop_most();
            report::print(meter, Duration::from_secs(seconds));
        })?;
    }
    let (attached_in, attached) = bounded(1);
    start("infera-server", move || {
        // Not before: who is refused because another is attached must not take its socket.
        if attached.recv().is_err() {
            return;
        }
        privileges::drop_most();
        // It makes a thread for each client.
        match report::serve(Path::new(SOCKET), orders_in) {
            Ok(_server) => loop {
                std::thread::park();
            },
            Err(error) => warn!("no statistics for --monitor: {error:#}"),
        }
    })?;

    let mut policy = (entry.build)(&config.tiers);
    if let Some((drill, after)) = drill {
        warn!(
            "this is a drill: {} after {after} decisions",
            drill.summary()
        );
        policy = Box::new(Sabotage::new(policy, drill, after));
    }
    let policy = Contained::new(policy, entry.name, &config.tiers);
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
    let (loading_in, loading) = bounded(0);
    let companion = Companion::new(hotplugs, guarded);
    start("infera-start", move || companion.run(&loading))?;
    let mut object = MaybeUninit::uninit();
    loading::keep_warnings(args.verbose);
    let (place, config_now, plan_now) = (&mut object, &config, &plan);
    let attached = catch_unwind(AssertUnwindSafe(move || {
        scheduler::Scheduler::attach(
            place,
            policy,
            config_now,
            plan_now,
            (args.exit_dump_len, args.verbose),
            (orders, faults_in),
        )
    }));
    let mut scheduler = match attached {
        Ok(Ok(scheduler)) => scheduler,
        // The crate reads the CPUs, too, and fails or panics if one goes meanwhile.
        _ if hotplugs.changed() => return Err(starting::in_vain()),
        Ok(Err(error)) => return Err(loading::refused(&error)),
        Err(panic) => resume_unwind(panic),
    };
    drop(loading_in);
    loading::drop_messages();
    // From opening the overlay on, the kernel ends it when a CPU comes or goes. The plan is older than that.
    if hotplugs.changed() {
        let _ = scheduler.detach();
        return Err(starting::in_vain());
    }
    signals::leave_stop_to_others();
    let map = scheduler.cgroup_map().map_err(internal)?;
    let _ = handle_in.send(map);
    // Attaching can succeed and then fail; only the state file shows it.
    if scheduler.exited() || infera_kernel::attached(Path::new("/")).is_none() {
        return ended(scheduler);
    }
    lock_when_used();
    info!("policy {} attached\n{plan}", entry.name);
    let _ = attached_in.send(());
    let _ = eyes_in.send(scheduler.eyes().map_err(internal)?);
    privileges::drop_most();
    scheduler.run(&page);
    page.enter(Phase::Leaving);
    ended(scheduler)
}

fn parse_drill(text: &str) -> Result<(Drill, u64), Refusal> {
    let (name, after) = text.split_once('@').unwrap_or((text, "1000"));
    let refuse = |why: String| Refusal::new(Status::Config, format!("--drill {text}: {why}"));
    let drill = name.parse().map_err(|_| {
        let names: Vec<_> = Drill::ALL.iter().map(|drill| drill.name()).collect();
        refuse(format!("use one of {}", names.join(", ")))
    })?;
    let after = after
        .parse()
        .map_err(|_| refuse("@ wants a number".into()))?;
    Ok((drill, after))
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
fn ended(scheduler: scheduler::Scheduler<'_>) -> Result<Status, Refusal> {
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

/// Bytes of a helper thread's stack, which is locked as a whole.
const HELPER_STACK: usize = 512 * 1024;

/// Starts a helper thread: only possible before attaching.
fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(HELPER_STACK)
        .spawn(run)
        .map(drop)
        .map_err(|error| {
            // EAGAIN or ENOMEM: a limit on threads or memory that others have used up.
            Refusal::new(Status::Later, format!("cannot start {name}: {error}"))
        })
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
