//! `infera-guard`: starts `scx_infera`, watches it, and takes it off the node when it does
//! not do its work.
//!
//! It is outside of sched_ext, in locked memory, and its main loop waits for nothing that
//! could need the scheduler: what may block is done by threads of their own.

mod child;
mod clerk;
mod control;
mod hand;
mod judge;
mod machine;
mod memory;
mod realtime;
mod report;

use anyhow::{Context, Result};
use child::Child;
use clap::Parser;
use clerk::Clerk;
use control::{Order, Orders};
use hand::Hand;
use infera_control::{ExitStatus, PID_FILE, State};
use infera_heartbeat::Page;
use infera_link::GraceThread;
use judge::Limits;
use machine::{Action, End, Machine, Seen, Settings};
use memory::Memory;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// The source of a safe mode that SIGUSR1 asks for.
const SIGNAL: &str = "signal";

const COMPACTION: &str = "/proc/sys/vm/compact_unevictable_allowed";

/// Starts scx_infera, watches it, and gives the node back to the stock scheduler when it
/// does not do its work.
///
/// SIGUSR1 enters safe mode, SIGUSR2 leaves it, SIGHUP has the configuration read again,
/// SIGTERM ends both. Exit status: the scheduler's own where it refuses to run, 10 when
/// stopped in safe mode, else 0.
#[derive(Debug, Parser)]
#[command(name = "infera-guard", version)]
struct Args {
    /// Time without a sign of life, or with work that the loop does not look at.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(200..=10_000))]
    stall_ms: u64,
    /// Time that a runnable task may wait for a CPU.
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(500..=10_000))]
    wait_ms: u64,
    /// Time to attach in.
    #[arg(long, value_name = "SEC", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    attach_sec: u64,
    /// Time between asking, detaching, killing and the kernel's brake.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=5_000))]
    step_ms: u64,
    /// Time before the first new attempt after an eject; doubles with each further one.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    back_off_ms: u64,
    /// Ejects that latch safe mode ...
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    ejects: u64,
    /// ... when they happen in this time.
    #[arg(long, value_name = "SEC", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    within_sec: u64,
    /// Group that may ask for the status and for safe mode, if it exists.
    #[arg(long, value_name = "NAME", default_value = "infera")]
    group: String,
    /// Ends when this process, which started it, has ended.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    parent: Option<i32>,
    /// The scheduler and its options.
    #[arg(last = true, required = true, value_name = "SCHEDULER")]
    command: Vec<OsString>,
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            limits: Limits {
                attach: Duration::from_secs(self.attach_sec),
                stall: Duration::from_millis(self.stall_ms),
                wait: Duration::from_millis(self.wait_ms),
            },
            step: Duration::from_millis(self.step_ms),
            back_off: Duration::from_millis(self.back_off_ms),
            back_off_max: Duration::from_secs(60),
            ejects: self.ejects as usize,
            within: Duration::from_secs(self.within_sec),
        }
    }
}

/// Signals, as flags, and what wakes the loop when one comes.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    enter: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Signals {
    fn take() -> Result<Signals> {
        let (wake, sender) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let flag = |signals: &[i32]| -> Result<Arc<AtomicBool>> {
            let flag = Arc::new(AtomicBool::new(false));
            for signal in signals {
                // In this order: who is woken finds the flag set.
                signal_hook::flag::register(*signal, flag.clone())?;
                signal_hook::low_level::pipe::register(*signal, sender.try_clone()?)?;
            }
            Ok(flag)
        };
        Ok(Signals {
            stop: flag(&[SIGTERM, SIGINT])?,
            reload: flag(&[SIGHUP])?,
            enter: flag(&[SIGUSR1])?,
            leave: flag(&[SIGUSR2])?,
            wake,
        })
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct Guard {
    command: Vec<OsString>,
    /// A name for the programs that run: see memory.rs.
    build: String,
    page: Page,
    machine: Machine,
    child: Option<Child>,
    /// The process could not be started: passed to the machine once, as an end would be.
    not_started: Option<End>,
    /// The configuration is to be read again, by a scheduler that has come so far: before, the
    /// signal would end it.
    reload: bool,
    /// /sys/kernel/sched_ext/state, where the kernel has it.
    state: Option<File>,
    compaction: Option<String>,
    grace: Option<GraceThread>,
    clerk: Clerk,
    hands: (Hand, Hand),
    signals: Signals,
    orders: Receiver<Order>,
    wake: Arc<OwnedFd>,
}

impl Guard {
    fn new(args: Args) -> Result<Guard> {
        let signals = Signals::take().context("cannot take signals")?;
        let clerk = Clerk::start().context("cannot start a thread")?;
        let hands = Hand::start(&clerk).context("cannot start a thread")?;
        let (queue, orders) = sync_channel(64);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags)?);
        let to_us = Orders {
            queue,
            wake: wake.clone(),
        };
        control::start(Some(&args.group), to_us, &clerk).context("cannot start a thread")?;
        if let Err(error) =
            clerk::write_whole(PID_FILE.as_ref(), std::process::id().to_string().as_bytes())
        {
            clerk.say(error.to_string());
        }
        let build = memory::build(&args.command[0]);
        let (Memory { safe_mode, ejected }, outdated) = memory::recall(&build);
        if outdated {
            clerk.say("another build than the one that was ejected: its safe mode does not hold");
        }
        Ok(Guard {
            machine: Machine::new(args.settings(), safe_mode, ejected.is_some()),
            build,
            command: args.command,
            page: Page::create()?,
            child: None,
            not_started: None,
            reload: false,
            state: File::open("/sys/kernel/sched_ext/state").ok(),
            compaction: std::fs::read_to_string(COMPACTION).ok(),
            grace: GraceThread::find(),
            clerk,
            hands,
            signals,
            orders,
            wake,
        })
    }

    /// Whether any sched_ext scheduler is in charge, or about to be.
    fn attached(&self) -> bool {
        let mut text = [0; 16];
        let read = |file: &File| file.read_at(&mut text, 0).ok();
        self.state
            .as_ref()
            .and_then(read)
            .is_some_and(|length| !text[..length].starts_with(b"disabled"))
    }

    fn wait(&self) {
        let tick = Timespec::try_from(self.machine.look_again()).expect("it is short");
        let mut fds = vec![
            PollFd::new(&self.signals.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        if let Some(child) = &self.child {
            fds.push(PollFd::new(&child.pidfd, PollFlags::IN));
        }
        let _ = poll(&mut fds, Some(&tick));
        let mut discarded = [0; 64];
        while rustix::io::read(&self.signals.wake, &mut discarded).is_ok_and(|count| count > 0) {}
        let _ = rustix::io::read(&*self.wake, &mut discarded);
    }

    /// Handles the orders of the control socket and of signals; whether there were any.
    fn handle_orders(&mut self, actions: &mut Vec<Action>) -> bool {
        let taken = |flag: &AtomicBool| flag.swap(false, Ordering::Relaxed);
        let mut orders: Vec<Order> = self.orders.try_iter().take(64).collect();
        if taken(&self.signals.enter) {
            orders.push(Order::SafeModeOn {
                source: SIGNAL.into(),
                reason: "the guard got SIGUSR1".into(),
            });
        }
        if taken(&self.signals.leave) {
            orders.push(Order::SafeModeOff {
                source: Some(SIGNAL.into()),
            });
        }
        if taken(&self.signals.reload) {
            orders.push(Order::Reload);
        }
        let stop = taken(&self.signals.stop);
        if stop {
            self.machine.stop();
        }
        let any = stop || !orders.is_empty();
        for order in orders {
            match order {
                Order::SafeModeOn { source, reason } => {
                    self.machine.enter_safe_mode(&source, &reason, actions);
                }
                Order::SafeModeOff {
                    source: Some(source),
                } => self.machine.leave_safe_mode(&source, actions),
                Order::SafeModeOff { source: None } => {
                    let sources: Vec<String> = self.machine.safe_mode().keys().cloned().collect();
                    for source in sources.iter().filter(|source| *source != control::FILE) {
                        self.machine.leave_safe_mode(source, actions);
                    }
                }
                Order::Reload => self.reload = true,
            }
        }
        any
    }

    fn look(&mut self) -> Seen {
        let end = match self.child.as_mut().map(Child::ended) {
            Some(Ok(end)) => end,
            Some(Err(_)) => None,
            None => self.not_started.take(),
        };
        let seen = Seen {
            end,
            phase: self.page.phase(),
            vitals: self.page.vitals(),
            attached: self.attached(),
            // Last: a beat that came before it is not from the future.
            now: now(),
        };
        if end.is_some() {
            self.child = None;
        }
        self.page.watch(seen.now);
        self.clerk.tick();
        seen
    }

    fn start(&mut self) {
        self.page.reset();
        match Child::start(&self.command[0], &self.command[1..], &self.page) {
            Ok(mut child) => {
                if let Some(log) = child.log()
                    && let Err(error) = self.clerk.tail().follow(log)
                {
                    self.clerk.say(format!("cannot follow its log: {error}"));
                }
                self.child = Some(child);
            }
            Err(error) => {
                let program = self.command[0].to_string_lossy();
                self.clerk.say(format!("cannot start {program}: {error}"));
                self.not_started = Some(End::Status(ExitStatus::NotStarted.code()));
            }
        }
    }

    /// `Some` when it is time to end.
    fn perform(&mut self, action: Action, seen: &Seen) -> Option<i32> {
        let signal = |signal| {
            if let Some(child) = &self.child {
                child.signal(signal);
            }
        };
        match action {
            Action::Start => self.start(),
            Action::Ask => signal(Signal::TERM),
            Action::Kill => signal(Signal::KILL),
            Action::Detach => self.hands.0.detach(),
            Action::Brake => self.hands.1.brake(),
            Action::Say(what) => self.clerk.say(what),
            Action::Dump(why) => {
                if let Some(value) = self.compaction.clone() {
                    self.clerk.restore_compaction(value);
                }
                self.clerk.report(why, seen.vitals);
            }
            Action::Remember => self.clerk.remember(Memory {
                safe_mode: self.machine.safe_mode().clone(),
                ejected: self.machine.latched().then(|| self.build.clone()),
            }),
            Action::Finish(status) => return Some(status),
        }
        None
    }

    fn run(mut self) -> i32 {
        let mut published = None;
        let mut finished = None;
        while finished.is_none() {
            self.wait();
            let mut actions = Vec::new();
            let asked = self.handle_orders(&mut actions);
            let seen = self.look();
            self.machine.step(&seen, &mut actions);
            if self.machine.state() == State::Attached && std::mem::take(&mut self.reload) {
                self.child
                    .iter()
                    .for_each(|child| child.signal(Signal::HUP));
            }
            for action in actions {
                finished = finished.or(self.perform(action, &seen));
            }
            let state = self.machine.state();
            if let Some(grace) = &mut self.grace {
                grace.boost(self.child.is_some());
            }
            let deposed = seen.vitals.is_some_and(|vitals| vitals.deposed != 0);
            let generation = self.page.generation();
            let present = Some((state, deposed, generation, self.machine.ejects()));
            if asked || present != published {
                published = present;
                let pid = self.child.as_ref().map(Child::id);
                self.clerk.publish(|status| {
                    status.state = state;
                    status.pid = pid;
                    status.generation = generation;
                    status.policy_deposed = deposed;
                    status.safe_mode = self.machine.safe_mode().clone();
                    status.ejects = self.machine.ejects();
                    status.eject_kinds = self.machine.eject_kinds().clone();
                });
            }
        }
        debug_assert_eq!(self.machine.state(), State::Ended);
        self.clerk.end();
        finished.unwrap_or(0)
    }
}

/// Has the kernel send SIGTERM when `parent` ends. Whether that is our parent, still.
fn follow_to_the_end(parent: i32) -> bool {
    // In this order: a parent that ends in between is missed by the first and seen by the second.
    set_parent_process_death_signal(Some(Signal::TERM)).is_ok()
        && getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent)
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(parent) = args.parent
        && !follow_to_the_end(parent)
    {
        eprintln!("infera-guard: process {parent}, which was to be the parent, is not");
        return ExitCode::FAILURE;
    }
    let outcome = Guard::new(args).map(|guard| {
        // After its threads have started: each enters by itself, and no child does.
        if let Err(error) = realtime::lock_memory().and_then(|()| realtime::enter()) {
            guard.clerk.say(format!(
                "not real-time ({error}): run it as root to be safe from what it watches"
            ));
        }
        guard.run()
    });
    match outcome {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("infera-guard: {error:#}");
            ExitCode::FAILURE
        }
    }
}
