//! CPU limits (`cpu.max`) hold while attached, by the kernel's own account of the cgroup.

use super::{PLAIN, USER_TIERS, attach, cgroups};
use crate::clock::{monotonic, sleep};
use crate::load::cpu_over;
use crate::{Cgroup, Context, Crowd, Findings, Test};
use anyhow::{Context as _, Result};
use infera_policy::Tier;
use std::process::{Child, Command};
use std::time::Duration;

/// A limited cgroup of hogs gets its quota, whatever the period, and in each tier.
pub const QUOTAS: Test = Test {
    name: "limits_of_hogs",
    run: quotas,
    ..EXACT
};

/// The number of threads does not matter.
pub const MANY_THREADS: Test = Test {
    name: "limits_of_many_threads",
    run: many_threads,
    ..EXACT
};

/// Threads that sleep in between do not get past a limit, and lose nothing where they stay below it.
pub const SLEEPERS: Test = Test {
    name: "limits_of_sleepers",
    run: sleepers,
    ..EXACT
};

/// The tightest limit counts, and a change at once.
pub const NESTED: Test = Test {
    name: "limits_nested_and_changed",
    run: nested,
    ..EXACT
};

/// What waits for budget can be killed, frozen and stopped.
pub const ON_THE_WAY_OUT: Test = Test {
    name: "limits_do_not_hold_up_an_exit",
    run: on_the_way_out,
    ..EXACT
};

/// A crowd under a very small limit waits for seconds, which is not taken for a stall.
pub const A_CROWD: Test = Test {
    name: "limits_of_a_crowd",
    run: crowd,
    ..EXACT
};

/// Tasks that move between limited cgroups while they wait for budget are not lost, and the cgroups can be removed.
pub const MOVED: Test = Test {
    name: "limits_survive_moves",
    run: moved,
    ..EXACT
};

/// Many limited cgroups on a full node: each has at most its quota, and no task waits for long.
pub const OVERLOAD: Test = Test {
    name: "limits_on_a_full_node",
    run: overload,
    ..EXACT
};

/// A limit is in force beside many others, most of which are of cgroups that sleep.
pub const MANY_CGROUPS: Test = Test {
    name: "limits_of_many_cgroups",
    run: many_cgroups,
    ..PLAIN
};

/// A timer that ends what a cgroup has is as late as the turns of QEMU's CPUs are long. With short turns a guest takes longer.
const EXACT: Test = Test {
    turn_us: Some(50),
    limit: Duration::from_secs(400),
    ..PLAIN
};

/// By how much what a cgroup gets over ten periods may differ from its quota.
const OFF: f64 = 0.02;

const PERIOD: Duration = Duration::from_millis(100);

/// The first period may be used up at once.
const SETTLE: Duration = Duration::from_millis(400);

/// CPUs that a cgroup has used on average over ten periods.
fn cpus(cgroup: &Cgroup, period: Duration) -> Result<f64> {
    let (before, start) = (cgroup.usage()?, monotonic());
    sleep(10 * period);
    let used = cgroup.usage()? - before;
    Ok(used.as_secs_f64() / (monotonic() - start).as_secs_f64())
}

/// Notes what a cgroup got of what it should get.
fn judge(findings: &mut Findings, what: &str, got: f64, wanted: f64) {
    let off = got / wanted - 1.0;
    findings.figure(format!(
        "{what}: {got:.4} CPUs of {wanted:.2}: {:+.2} %",
        off * 100.0
    ));
    findings.expect(off.abs() <= OFF, || {
        format!(
            "{what}: {got:.4} CPUs are {:+.1} % off the limit of {wanted:.2}, not within {:.0}",
            off * 100.0,
            OFF * 100.0
        )
    });
}

/// CPUs that `threads` hogs get under this limit.
fn hogs_get(cgroup: &Cgroup, threads: usize, quota: Duration, period: Duration) -> Result<f64> {
    cgroup.limit(Some((quota, period)))?;
    let _hogs = Crowd::hogs(cgroup, "hog", threads).start()?;
    sleep(SETTLE);
    // What is owed when it begins, a millisecond at times, would be more than 2 % of ten small quotas.
    let periods = if quota < ms(10) { 3 * period } else { period };
    cpus(cgroup, periods)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn quotas(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let limited = cgroups[Tier::Normal.index()].child("limited")?;
    for (quota, period) in [(20, 100), (50, 100), (100, 100), (250, 100), (20, 20)] {
        let got = hogs_get(&limited, 4, ms(quota), ms(period))?;
        let what = format!("{quota} ms of {period} ms");
        judge(findings, &what, got, quota as f64 / period as f64);
    }
    for tier in USER_TIERS {
        let limited = cgroups[tier.index()].child("limited")?;
        let got = hogs_get(&limited, 3, ms(150), PERIOD)?;
        judge(findings, &format!("{tier}, 150 ms of 100 ms"), got, 1.5);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn many_threads(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let limited = cgroups[Tier::Normal.index()].child("limited")?;
    for (quota, threads) in [(5, 1), (5, 64), (50, 1), (50, 64), (300, 64)] {
        let got = hogs_get(&limited, threads, ms(quota), PERIOD)?;
        let what = format!("{quota} ms of 100 ms, {threads} threads");
        judge(findings, &what, got, quota as f64 / 100.0);
    }
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// More than the overlay looks at to find a free entry of its table.
const CGROUPS: usize = 1_100;

fn many_cgroups(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    let mut asleep = Vec::new();
    for number in 0..CGROUPS {
        let cgroup = normal.child(&format!("asleep{number}"))?;
        cgroup.limit(Some((ms(50), PERIOD)))?;
        asleep.push(Asleep::start(cgroup)?);
    }
    let limited = normal.child("limited")?;
    let got = hogs_get(&limited, 4, ms(50), PERIOD)?;
    let what = format!("beside {CGROUPS} limited cgroups");
    judge(findings, &what, got, 0.5);
    drop(asleep);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// A process that sleeps in a cgroup of its own; it is killed with the handle.
struct Asleep {
    child: Child,
    _cgroup: Cgroup,
}

impl Asleep {
    fn start(cgroup: Cgroup) -> Result<Asleep> {
        let procs = cgroup.directory().join("cgroup.procs");
        let script = format!("echo 0 > {} && exec sleep 600", procs.display());
        let child = Command::new("sh").arg("-c").arg(script).spawn();
        Ok(Asleep {
            child: child.context("starting a shell")?,
            _cgroup: cgroup,
        })
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sleepers(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let limited = cgroups[Tier::Normal.index()].child("limited")?;
    limited.limit(Some((ms(50), PERIOD)))?;
    for (run, pause) in [(500, 500), (3_000, 1_000), (20_000, 20_000)] {
        let (run, pause) = (Duration::from_micros(run), Duration::from_micros(pause));
        let _sleepers = Crowd::hogs(&limited, "sleeper", 8)
            .sleeping(run, pause)
            .start()?;
        sleep(SETTLE);
        let got = cpus(&limited, PERIOD)?;
        let what = format!(
            "8 threads that run for {} us and sleep for {} us",
            run.as_micros(),
            pause.as_micros()
        );
        judge(findings, &what, got, 0.5);
    }
    // Each burst is all of a quota: nothing is taken from what stays below its limit.
    let below = Crowd::hogs(&limited, "below", 1)
        .sleeping(ms(36), ms(64))
        .start()?;
    sleep(SETTLE);
    let got = cpus(&limited, 3 * PERIOD)?;
    findings.figure(format!(
        "36 ms of each 100 under a limit of 50: {got:.4} CPUs"
    ));
    findings.expect(got > 0.34, || {
        format!("a thread that stays below its limit gets {got:.3} CPUs, not 0.36")
    });
    drop(below);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn nested(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let pod = cgroups[Tier::Normal.index()].child("pod")?;
    let (one, other) = (pod.child("one")?, pod.child("other")?);
    pod.limit(Some((ms(100), PERIOD)))?;
    one.limit(Some((ms(30), PERIOD)))?;
    let hogs = [
        Crowd::hogs(&one, "one", 4).start()?,
        Crowd::hogs(&other, "other", 4).start()?,
    ];
    sleep(SETTLE);
    judge(
        findings,
        "a pod with two containers",
        cpus(&pod, PERIOD)?,
        1.0,
    );
    let got = cpus(&one, PERIOD)?;
    findings.figure(format!("its limited container: {got:.4} CPUs of 0.30"));
    findings.expect(got <= 0.3 * (1.0 + OFF), || {
        format!("a container has {got:.3} CPUs above its limit of 0.3")
    });
    pod.limit(None)?;
    sleep(SETTLE);
    judge(findings, "the container alone", cpus(&one, PERIOD)?, 0.3);
    one.limit(Some((ms(120), PERIOD)))?;
    sleep(SETTLE);
    judge(findings, "after a change", cpus(&one, PERIOD)?, 1.2);
    one.limit(Some((ms(10), PERIOD)))?;
    sleep(SETTLE);
    // The other container has no limit and fills the node.
    judge(
        findings,
        "after another, on a full node",
        cpus(&one, PERIOD)?,
        0.1,
    );
    one.limit(None)?;
    sleep(SETTLE);
    let got = cpus(&pod, PERIOD)?;
    findings.figure(format!("without limits: {got:.3} CPUs"));
    findings.expect(got > 3.8, || {
        format!("8 hogs without a limit get {got:.3} CPUs of 4")
    });
    drop(hogs);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// What asks for an exit or a stop waits no longer.
const ACTS: Duration = Duration::from_millis(100);

/// Notes how long it takes until `done`.
fn expect_soon(findings: &mut Findings, what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let start = monotonic();
    while !done()? && monotonic() - start < 20 * ACTS {
        sleep(ms(1));
    }
    let took = monotonic() - start;
    findings.figure(format!("{what}: {} ms", took.as_millis()));
    findings.expect(took <= ACTS, || {
        format!(
            "{what} took {} ms, not {}",
            took.as_millis(),
            ACTS.as_millis()
        )
    });
    Ok(())
}

fn on_the_way_out(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let limited = cgroups[Tier::Normal.index()].child("limited")?;
    limited.limit(Some((ms(2), PERIOD)))?;
    let load = Crowd::hogs(&limited, "hog", 32).start()?;
    sleep(SETTLE);
    limited.write("cgroup.freeze", "1")?;
    expect_soon(findings, "freezing", || limited.is("frozen"))?;
    limited.write("cgroup.freeze", "0")?;
    sleep(SETTLE);
    judge(
        findings,
        "after the freezer",
        cpus(&limited, 3 * PERIOD)?,
        0.02,
    );
    limited.write("cgroup.kill", "1")?;
    expect_soon(findings, "killing", || Ok(!limited.is("populated")?))?;
    drop(load);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

/// Limited cgroups under overload.
const GROUPS: usize = 100;

fn overload(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    let background = &cgroups[Tier::Background.index()];
    let _hogs = Crowd::hogs(background, "hog", 8).start()?;
    let mut limited = Vec::new();
    for number in 0..GROUPS {
        let cgroup = normal.child(&format!("limited{number}"))?;
        cgroup.limit(Some((ms(5), PERIOD)))?;
        limited.push(cgroup);
    }
    let start = |cgroup| Crowd::hogs(cgroup, "limited", 2).start();
    let loads = limited.iter().map(start).collect::<Result<Vec<_>>>()?;
    sleep(10 * PERIOD);
    let before = limited
        .iter()
        .map(Cgroup::usage)
        .collect::<Result<Vec<_>>>()?;
    let start = monotonic();
    sleep(40 * PERIOD);
    let mut most: f64 = 0.0;
    let mut all: f64 = 0.0;
    let took = (monotonic() - start).as_secs_f64();
    for (cgroup, before) in limited.iter().zip(before) {
        let cpus = (cgroup.usage()? - before).as_secs_f64() / took;
        most = most.max(cpus);
        all += cpus;
    }
    let mut wait = Duration::ZERO;
    for load in &loads {
        wait = wait.max(load.longest_wait()?);
    }
    findings.figure(format!(
        "{GROUPS} cgroups of 0.05 CPUs on 4: at most {most:.4}, together {all:.2}, longest wait {} ms",
        wait.as_millis()
    ));
    findings.expect(most <= 0.05 * (1.0 + OFF), || {
        format!("a cgroup has {most:.4} CPUs above its limit of 0.05")
    });
    findings.expect(wait < Duration::from_secs(3), || {
        format!("a thread waited {} ms", wait.as_millis())
    });
    drop(loads);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn moved(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let normal = &cgroups[Tier::Normal.index()];
    let free = normal.child("free")?;
    let first = normal.child("moved")?;
    first.limit(Some((ms(1), PERIOD)))?;
    let load = Crowd::hogs(&first, "hog", 4).start()?;
    let mut last = first;
    for number in 0..60 {
        let next = normal.child(&format!("moved{number}"))?;
        next.limit(Some((ms(1), PERIOD)))?;
        // At another moment of the period each time.
        sleep(Duration::from_micros(7_300 + 911 * number));
        next.take_all_from(&last)?;
        last.remove()?;
        last = next;
    }
    free.take_all_from(&last)?;
    last.remove()?;
    sleep(ms(100));
    let used = cpu_over(&[&load], ms(1_000))?.concat();
    let least = used.iter().min().copied().unwrap_or_default();
    findings.figure(format!(
        "4 hogs on 4 CPUs after 61 moves: {} ms of a second each at least",
        least.as_millis()
    ));
    findings.expect(least > ms(900), || {
        format!(
            "a hog without a limit has {} ms of a second",
            least.as_millis()
        )
    });
    drop(load);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}

fn crowd(context: &Context, findings: &mut Findings) -> Result<()> {
    let cgroups = cgroups()?;
    let scheduler = attach(context, &cgroups)?;
    let limited = cgroups[Tier::Normal.index()].child("limited")?;
    limited.limit(Some((ms(1), PERIOD)))?;
    let load = Crowd::hogs(&limited, "crowd", 200).start()?;
    sleep(Duration::from_secs(12));
    let wait = load.longest_wait()?;
    findings.figure(format!(
        "200 hogs under a limit of 0.01 CPUs: longest wait {} ms",
        wait.as_millis()
    ));
    // The kernel detaches a scheduler that lets a task wait for 30 s.
    findings.expect(wait < Duration::from_secs(15), || {
        format!("a thread waited {} ms for budget", wait.as_millis())
    });
    drop(load);
    scheduler.expect_steady(&context.node, findings)?;
    scheduler.leave(&context.node, findings)
}
