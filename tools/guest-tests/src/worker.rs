//! The process of a load: threads that use CPU time, and publish how much they got.
//!
//! Runs as `infera-guest-tests work`, started by [`crate::Crowd`], until it is killed. A process and not
//! threads of the test, because a cgroup takes whole processes.

use crate::clock::{monotonic, sleep_until, thread_cpu};
use crate::page::{Page, Reading};
use crate::realtime::{self, Children};
use anyhow::{Context, Result};
use infera_plan::{CpuSet, parse_cpu_list};
use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process};
use rustix::thread::sched_setaffinity;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

/// Iterations between two looks at the clocks: about 50 us in exact time, a hundredth of the shortest slice.
const UNIT: u32 = 10_000;

/// Options of `work`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file to publish in.
    #[arg(long)]
    pub page: PathBuf,
    /// How many threads.
    #[arg(long)]
    pub threads: usize,
    /// What the threads are called, before their number.
    #[arg(long)]
    pub name: String,
    /// Join this cgroup.
    #[arg(long)]
    pub cgroup: PathBuf,
    /// The nice value of each thread.
    #[arg(long, allow_hyphen_values = true)]
    pub nice: i32,
    /// Run on these CPUs alone.
    #[arg(long, value_parser = cpus)]
    pub cpus: Option<CpuSetArg>,
    /// CPU time after which a thread sleeps.
    #[arg(long, requires = "sleep_us")]
    pub run_us: Option<u64>,
    /// How long it sleeps.
    #[arg(long, requires = "run_us")]
    pub sleep_us: Option<u64>,
}

/// A set of CPUs as one argument.
#[derive(Clone, Debug)]
pub struct CpuSetArg(pub CpuSet);

fn cpus(text: &str) -> Result<CpuSetArg, String> {
    let set = parse_cpu_list(text).map_err(|error| error.to_string())?;
    Ok(CpuSetArg(set))
}

/// Works until killed.
pub fn run(args: &Args) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Outside of what is measured, like its threads until they begin: what a thread does to start takes the
    // process's locks, and one that is preempted with such a lock would keep the others from starting.
    realtime::enter(1, Children::Realtime)?;
    let procs = args.cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("writing {}", procs.display()))?;
    if let Some(CpuSetArg(cpus)) = &args.cpus {
        let mut mask = rustix::thread::CpuSet::new();
        cpus.iter().for_each(|cpu| mask.set(*cpu));
        sched_setaffinity(None, &mask).context("sched_setaffinity")?;
    }
    let page = Page::create(&args.page, args.threads)?;
    let pattern = args
        .run_us
        .zip(args.sleep_us)
        .map(|(run, sleep)| (Duration::from_micros(run), Duration::from_micros(sleep)));
    // When all begin, in ns: each looks by itself, since behind a lock they would queue for it.
    let begin = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(args.threads);
        for number in 0..args.threads {
            let (page, begin) = (&page, &begin);
            let builder = thread::Builder::new().name(format!("{}-{number}", args.name));
            let thread = builder.spawn_scoped(scope, move || {
                // Of this thread alone: the kernel keeps nice values per thread.
                setpriority_process(None, args.nice).expect("root may set any nice value");
                let begin = loop {
                    match begin.load(Ordering::Acquire) {
                        0 => thread::park(),
                        nanoseconds => break Duration::from_nanos(nanoseconds),
                    }
                };
                realtime::leave().expect("any thread may become an ordinary one");
                use_cpu(number, page, pattern, begin);
            });
            let thread = thread.with_context(|| format!("starting thread {number}"))?;
            threads.push(thread.thread().clone());
        }
        let due = monotonic();
        let reading = Reading {
            due,
            ..Reading::default()
        };
        (0..args.threads).for_each(|number| page.publish(number, reading));
        begin.store(due.as_nanos() as u64, Ordering::Release);
        threads.iter().for_each(thread::Thread::unpark);
        loop {
            thread::park();
        }
    })
}

/// Uses CPU time for ever, and sleeps in between where the pattern says so.
fn use_cpu(number: usize, page: &Page, pattern: Option<(Duration, Duration)>, begin: Duration) {
    let mut longest_wait = Duration::ZERO;
    let (mut due, mut cpu) = (begin, thread_cpu());
    let mut sleeps_at = cpu;
    loop {
        mix(UNIT);
        let (now, used) = (monotonic(), thread_cpu());
        let ran = used.saturating_sub(cpu);
        longest_wait = longest_wait.max(now.saturating_sub(due).saturating_sub(ran));
        (due, cpu) = (now, used);
        if let Some((run, sleep)) = pattern
            && cpu.saturating_sub(sleeps_at) >= run
        {
            sleeps_at = cpu;
            due = now + sleep;
        }
        page.publish(
            number,
            Reading {
                cpu,
                longest_wait,
                due,
            },
        );
        if due > now {
            sleep_until(due);
        }
    }
}

/// A loop that the compiler cannot shorten.
#[inline(never)]
fn mix(iterations: u32) {
    let mut x = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..iterations {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
    }
    black_box(x);
}
