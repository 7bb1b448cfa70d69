//! Every policy of the registry against every property it must have, bare and contained.
//!
//! The trials come from the registry: a new policy is tested as soon as it has its line.

mod counting;
mod sim;

use std::{collections::BTreeSet, sync::Arc};

use infera_policy::{
    CAPACITY, Contained, Drill, Entry, FaultKind, Fifo, Nanos, OVERDUE, Policy, Promises, REGISTRY,
    Sabotage, TaskView, Tier, TierParams, TierTable, Weighted,
};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::{prelude::*, test_runner::TestRunner};
use sim::{Job, MS, SEC, Sim};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

type Property = fn(&Subject) -> Result<(), Failed>;

type Build = dyn Fn(&TierTable) -> Box<dyn Policy> + Send + Sync;

/// What is tested.
struct Subject {
    name: String,
    promises: Promises,
    build: Box<Build>,
    /// Random cases a property.
    cases: u32,
}

impl Subject {
    fn bare(entry: &'static Entry) -> Subject {
        Subject {
            name: entry.name.to_owned(),
            promises: entry.promises,
            build: Box::new(entry.build),
            cases: 200,
        }
    }

    /// As the scheduler's loop holds it.
    fn contained(entry: &'static Entry) -> Subject {
        Subject {
            name: format!("contained {}", entry.name),
            promises: entry.promises,
            build: Box::new(|tiers| {
                let policy = (entry.build)(tiers);
                Box::new(Contained::new(policy, entry.name, tiers))
            }),
            cases: 20,
        }
    }

    /// What decides when a policy is deposed.
    fn built_in_order() -> Subject {
        Subject {
            name: "built-in order".to_owned(),
            promises: NONE,
            build: Box::new(|tiers| {
                let mut contained = Contained::new(Box::new(Fifo::new(tiers)), "fifo", tiers);
                contained.depose(FaultKind::Idle { waiting: 1 });
                Box::new(contained)
            }),
            cases: 20,
        }
    }

    /// Fails after 50,000 decisions.
    fn failing(drill: Drill) -> Subject {
        Subject {
            name: format!("failing ({drill})"),
            promises: NONE,
            build: Box::new(move |tiers| {
                let inner = Box::new(Weighted::new(tiers));
                let policy = Box::new(Sabotage::new(inner, drill, 50_000));
                Box::new(Contained::new(policy, "weighted", tiers))
            }),
            cases: 20,
        }
    }
}

const NONE: Promises = Promises {
    weights: false,
    min_share: false,
    max_wait: false,
};

const PROPERTIES: &[(&str, Property)] = &[
    ("wait_bound_holds", wait_bound_holds),
    ("monotone_in_tier", monotone_in_tier),
    ("work_conserving", work_conserving),
    ("deterministic", deterministic),
    ("no_overflow", no_overflow),
    ("hundred_thousand_tasks", hundred_thousand_tasks),
    ("tasks_that_vanish", tasks_that_vanish),
    ("no_allocation_per_decision", no_allocation_per_decision),
    ("a_crowd_has_its_turns_within_a_second", paced_crowd),
    ("live_reconfigure_keeps_tasks", live_reconfigure_keeps_tasks),
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut add = |subject: &Arc<Subject>, name: &str, property: Property| {
        let subject = subject.clone();
        let name = format!("{}::{name}", subject.name);
        trials.push(Trial::test(name, move || property(&subject)));
    };
    let bare = REGISTRY.iter().map(Subject::bare);
    let contained = REGISTRY.iter().map(Subject::contained);
    let built_in = std::iter::once(Subject::built_in_order());
    for subject in bare.chain(contained).chain(built_in).map(Arc::new) {
        for (name, property) in PROPERTIES {
            add(&subject, name, *property);
        }
        if subject.promises.weights {
            add(
                &subject,
                "weights_within_5_percent",
                weights_within_5_percent,
            );
        }
        if subject.promises.min_share {
            add(&subject, "min_share_holds", min_share_holds);
        }
    }
    for drill in [Drill::Hoard, Drill::Unknown, Drill::Slice] {
        let subject = Arc::new(Subject::failing(drill));
        add(&subject, "hundred_thousand_tasks", hundred_thousand_tasks);
        add(
            &subject,
            "no_allocation_per_decision",
            no_allocation_per_decision,
        );
    }
    for entry in REGISTRY {
        let name = format!("contained {}::decides_as_bare", entry.name);
        trials.push(Trial::test(name, || decides_as_bare(entry)));
        let name = format!("contained {}::no_task_is_forgotten", entry.name);
        trials.push(Trial::test(name, || {
            no_task_is_forgotten(&Subject::contained(entry))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Fails the trial unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(Failed::from(format!($($message)+)));
        }
    };
}

fn table(row: impl Fn(Tier) -> TierParams) -> TierTable {
    TierTable(Tier::ALL.map(row))
}

/// No guarantee in the way: weights 600 to 100, slices 5 to 30 ms.
fn weights_only() -> TierTable {
    table(|tier| TierParams {
        weight: 600 - 100 * tier.index() as u32,
        slice: Nanos::from_millis(5 + 5 * tier.index() as u64),
        min_share: 0,
        max_wait: Nanos(600 * SEC),
    })
}

fn hogs(each: usize) -> Vec<Job> {
    Tier::ALL
        .into_iter()
        .flat_map(|tier| std::iter::repeat_n(Job::hog(tier), each))
        .collect()
}

/// Tiers with different numbers of tasks and different habits, all with enough demand.
fn mixed() -> Vec<Job> {
    let mut jobs = Vec::new();
    for tier in Tier::ALL {
        for n in 0..(8 + 9 * tier.index()) {
            let mut job = Job::hog(tier);
            match (tier.index() + n) % 3 {
                0 => job.burst = MS + 100_000 * n as u64,
                1 => job.burst = 40 * MS,
                _ => {}
            }
            jobs.push(job);
        }
        for n in 0..20 {
            jobs.push(Job {
                burst: 2 * MS,
                sleep: (20 + n) * MS,
                ..Job::hog(tier)
            });
        }
    }
    jobs
}

fn wait_bound_holds(subject: &Subject) -> Result<(), Failed> {
    let short = table(|tier| TierParams {
        max_wait: Nanos::from_millis(1),
        ..*TierTable::default().get(tier)
    });
    let uneven = table(|tier| TierParams {
        weight: if tier == Tier::System { 10_000 } else { 1 },
        min_share: 0,
        max_wait: Nanos::from_millis(if tier == Tier::Low { 2_000 } else { 300 }),
        ..*TierTable::default().get(tier)
    });
    for tiers in [TierTable::default(), short, uneven, weights_only()] {
        for cpus in [1, 4] {
            for jobs in [hogs(8), hogs(64), mixed()] {
                let tasks = jobs.len() as u64;
                let mut sim = Sim::new((subject.build)(&tiers), cpus, &jobs);
                sim.run_for(60 * SEC);
                let slice = 30 * MS;
                if subject.promises.max_wait {
                    for tier in Tier::ALL {
                        // A CPU frees up within a slice, and every other tier may be overdue.
                        let bound = tiers.get(tier).max_wait.0 + slice * Tier::COUNT as u64;
                        let waited = sim.longest_wait[tier.index()];
                        ensure!(waited <= bound, "{tier} waited {waited} of {bound} ns");
                    }
                } else {
                    let bound = slice * (tasks / cpus as u64 + 2);
                    let waited = sim.longest_task_wait;
                    ensure!(waited <= bound, "a task waited {waited} of {bound} ns");
                }
            }
        }
    }
    Ok(())
}

fn monotone_in_tier(subject: &Subject) -> Result<(), Failed> {
    // Equal slices: a policy that ignores tiers still hands out each tier's slice.
    let equal = table(|tier| TierParams {
        slice: Nanos::from_millis(10),
        ..*TierTable::default().get(tier)
    });
    let mut tables = vec![equal];
    if subject.promises.weights || subject.promises.min_share {
        tables.push(TierTable::default());
        tables.push(weights_only());
    }
    let mut bursts = hogs(16);
    for job in &mut bursts {
        job.burst = 3 * MS;
    }
    for tiers in tables {
        for cpus in [1, 4] {
            for jobs in [hogs(16), bursts.clone()] {
                let mut sim = Sim::new((subject.build)(&tiers), cpus, &jobs);
                sim.run_for(10 * SEC);
                sim.reset();
                sim.run_for(120 * SEC);
                let shares = sim.shares();
                for pair in shares.windows(2) {
                    ensure!(pair[0] >= pair[1] * 0.95, "{cpus} CPUs: {shares:?}");
                }
            }
        }
    }
    Ok(())
}

fn check_weights(sim: &Sim, tiers: &TierTable, what: &str) -> Result<(), Failed> {
    let shares = sim.shares();
    let sum: u32 = tiers.0.iter().map(|row| row.weight).sum();
    for tier in Tier::ALL {
        let want = f64::from(tiers.get(tier).weight) / f64::from(sum);
        let got = shares[tier.index()];
        ensure!(
            (got - want).abs() <= 0.05 * want,
            "{what}: {tier} got {got:.5}, wants {want:.5}; {shares:?}"
        );
    }
    Ok(())
}

fn weights_within_5_percent(subject: &Subject) -> Result<(), Failed> {
    let bare_default = table(|tier| TierParams {
        min_share: 0,
        max_wait: Nanos(600 * SEC),
        ..*TierTable::default().get(tier)
    });
    for (tiers, warm_up, span) in [
        (weights_only(), 5 * SEC, 60 * SEC),
        (bare_default, 50 * SEC, 300 * SEC),
    ] {
        for cpus in [1, 4] {
            for (what, jobs) in [("hogs", hogs(8)), ("mixed", mixed())] {
                let mut sim = Sim::new((subject.build)(&tiers), cpus, &jobs);
                sim.run_for(warm_up);
                sim.reset();
                sim.run_for(span);
                check_weights(&sim, &tiers, &format!("{what}, {cpus} CPUs"))?;
            }
        }
    }
    // Within a tier, by nice weight.
    let weights = [50, 100, 300, 50, 100, 300, 100, 100];
    let jobs = weights.map(|weight| Job {
        weight,
        ..Job::hog(Tier::Normal)
    });
    for cpus in [1, 2] {
        let mut sim = Sim::new((subject.build)(&weights_only()), cpus, &jobs);
        sim.run_for(5 * SEC);
        sim.reset();
        sim.run_for(120 * SEC);
        let used = sim.used_by_task();
        let total: u64 = used.iter().sum();
        let sum: u32 = weights.iter().sum();
        for (used, weight) in used.iter().zip(weights) {
            let want = total as f64 * f64::from(weight) / f64::from(sum);
            ensure!(
                (*used as f64 - want).abs() <= 0.05 * want,
                "{cpus} CPUs, weight {weight}: {used} of {want}"
            );
        }
    }
    Ok(())
}

fn min_share_holds(subject: &Subject) -> Result<(), Failed> {
    let generous = table(|tier| TierParams {
        weight: if tier == Tier::System { 10_000 } else { 1 },
        min_share: [0, 100, 50, 0, 100, 300][tier.index()],
        max_wait: Nanos(600 * SEC),
        ..*TierTable::default().get(tier)
    });
    let everything = table(|tier| TierParams {
        min_share: [100, 100, 100, 100, 300, 300][tier.index()],
        max_wait: Nanos(600 * SEC),
        ..*TierTable::default().get(tier)
    });
    for tiers in [TierTable::default(), generous, everything] {
        for cpus in [1, 4] {
            for (what, jobs) in [("hogs", hogs(8)), ("mixed", mixed())] {
                let mut sim = Sim::new((subject.build)(&tiers), cpus, &jobs);
                sim.run_for(2 * SEC);
                // In every ten seconds less two of its slices, and one of the longest on each
                // CPU, since a running slice is not cut short; and within 5 % on the whole.
                let mut whole = [0; Tier::COUNT];
                for _ in 0..6 {
                    sim.reset();
                    sim.run_for(10 * SEC);
                    let window: u64 = sim.used.iter().sum();
                    for tier in Tier::ALL {
                        let used = sim.used[tier.index()];
                        whole[tier.index()] += used;
                        let row = tiers.get(tier);
                        let want = window / 1_000 * u64::from(row.min_share);
                        ensure!(
                            used + 2 * row.slice.0 + cpus as u64 * 30 * MS >= want,
                            "{what}, {cpus} CPUs: {tier} got {used} of {want} ns in a window"
                        );
                    }
                }
                let total: u64 = whole.iter().sum();
                for tier in Tier::ALL {
                    let want = total as f64 * f64::from(tiers.get(tier).min_share) / 1_000.0;
                    ensure!(
                        whole[tier.index()] as f64 >= want * 0.95,
                        "{what}, {cpus} CPUs: {tier} below {want} ns: {whole:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

fn work_conserving(subject: &Subject) -> Result<(), Failed> {
    // The simulator asserts at every step that no CPU idles while a task is queued.
    for sleep in [MS, 50 * MS, 2 * SEC] {
        let mut jobs = hogs(5);
        for (n, job) in jobs.iter_mut().enumerate() {
            job.burst = (1 + n as u64) * MS / 3;
            job.sleep = sleep + n as u64 * MS / 7;
        }
        for cpus in [1, 3, 16] {
            let mut sim = Sim::new((subject.build)(&TierTable::default()), cpus, &jobs);
            sim.run_for(20 * SEC);
            ensure!(sim.picks > 0, "nothing ran");
        }
    }
    let mut sim = Sim::new((subject.build)(&TierTable::default()), 4, &hogs(2));
    sim.run_for(10 * SEC);
    let used: u64 = sim.used.iter().sum();
    ensure!(used >= 4 * 10 * SEC - 4 * 30 * MS, "only {used} ns used");
    Ok(())
}

fn deterministic(subject: &Subject) -> Result<(), Failed> {
    let run = || {
        let mut sim = Sim::new((subject.build)(&TierTable::default()), 3, &mixed());
        sim.trace = Some(Vec::new());
        sim.run_for(10 * SEC);
        sim.trace
    };
    ensure!(run() == run(), "two runs differ");
    Ok(())
}

/// The containment of a policy without a fault changes no decision.
fn decides_as_bare(entry: &'static Entry) -> Result<(), Failed> {
    let trace = |subject: Subject| {
        let mut sim = Sim::new((subject.build)(&TierTable::default()), 3, &mixed());
        sim.trace = Some(Vec::new());
        // No task has waited for longer than `OVERDUE` by then.
        sim.run_for(OVERDUE.0);
        sim.trace
    };
    let bare = trace(Subject::bare(entry));
    ensure!(bare == trace(Subject::contained(entry)), "they differ");
    Ok(())
}

/// As in the scheduler's loop, whose pacing shortens the slices of a crowd.
fn paced_crowd(subject: &Subject) -> Result<(), Failed> {
    let tiers = TierTable::default();
    for tasks in [100, 1_000, 4_000] {
        let jobs = vec![Job::hog(Tier::Normal); tasks];
        let mut sim = Sim::new((subject.build)(&tiers), 4, &jobs);
        sim.paced(&tiers);
        // The first round begins before all have come.
        sim.run_for(10 * SEC);
        sim.reset();
        sim.run_for(20 * SEC);
        let most = SEC + 100 * MS;
        ensure!(
            sim.longest_task_wait <= most,
            "one of {tasks} waited {} ns, not {most}",
            sim.longest_task_wait
        );
    }
    Ok(())
}

fn no_task_is_forgotten(subject: &Subject) -> Result<(), Failed> {
    let tiers = TierTable::default();
    let hog = |weight| Job {
        weight,
        ..Job::hog(Tier::Normal)
    };
    // The weights would have the last four wait for hours.
    let mut jobs = vec![hog(10_000); 400];
    jobs.extend([hog(1); 4]);
    let mut sim = Sim::new((subject.build)(&tiers), 4, &jobs);
    sim.run_for(60 * SEC);
    let most = OVERDUE.0 + 100 * MS;
    ensure!(
        sim.longest_task_wait <= most,
        "a task waited {} ns, not {most}",
        sim.longest_task_wait
    );
    // With this many tasks a round in arrival order is longer than `OVERDUE`, and is the bound.
    let jobs = vec![hog(100); 4_000];
    let mut sim = Sim::new((subject.build)(&tiers), 4, &jobs);
    sim.run_for(100 * SEC);
    let most = 1_001 * tiers.get(Tier::Normal).slice.0;
    ensure!(
        sim.longest_task_wait <= most,
        "one of a crowd waited {} ns, not {most}",
        sim.longest_task_wait
    );
    Ok(())
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(u64::MAX / 2),
        Just(1 << 48),
        any::<u64>(),
        0..100 * MS
    ]
}

fn any_tier() -> impl Strategy<Value = Tier> {
    prop::sample::select(Tier::ALL.to_vec())
}

fn any_weight() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(100), Just(u32::MAX), any::<u32>()]
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(TaskView),
    Pick,
    /// Picks, and enqueues the same task again after it "ran".
    Turn(u64),
    Configure(TierTable),
}

fn any_step() -> impl Strategy<Value = (Step, u64)> {
    let task = (
        any_tier(),
        any_weight(),
        extreme(),
        extreme(),
        extreme(),
        any::<i32>(),
    )
        .prop_map(|(tier, weight, ran, vtime, flags, pid)| TaskView {
            pid,
            enq_cnt: flags,
            tier,
            weight,
            ran: Nanos(ran),
            vtime,
            clock: flags,
            picked: weight % 2 == 0,
            cpu: pid,
            cpus_allowed: weight,
            flags,
        });
    let row = (any_weight(), extreme(), any_weight(), extreme()).prop_map(
        |(weight, slice, min_share, max_wait)| TierParams {
            weight,
            slice: Nanos(slice),
            min_share,
            max_wait: Nanos(max_wait),
        },
    );
    // Boxed, as are the steps below: their trees are too large for a test thread's stack.
    let tiers = prop::collection::vec(row.boxed(), Tier::COUNT)
        .prop_map(|rows| TierTable(std::array::from_fn(|rank| rows[rank])))
        .boxed();
    let step = prop_oneof![
        6 => task.prop_map(Step::Enqueue).boxed(),
        3 => Just(Step::Pick),
        6 => extreme().prop_map(Step::Turn).boxed(),
        1 => tiers.prop_map(Step::Configure),
    ];
    (step, extreme()).boxed()
}

fn no_overflow(subject: &Subject) -> Result<(), Failed> {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: subject.cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let steps = prop::collection::vec(any_step(), 1..400);
    runner
        .run(&steps, |steps| {
            let mut policy = (subject.build)(&TierTable::default());
            let mut queued = 0;
            for (step, now) in steps {
                let now = Nanos(now);
                match step {
                    Step::Enqueue(task) => {
                        prop_assert!(policy.enqueue(task, now));
                        queued += 1;
                    }
                    Step::Pick => {
                        let picked = policy.pick(now);
                        prop_assert_eq!(picked.is_some(), queued > 0);
                        queued -= usize::from(picked.is_some());
                    }
                    Step::Turn(ran) => {
                        if let Some(decision) = policy.pick(now) {
                            prop_assert!(decision.slice.0 > 0);
                            let mut task = decision.task;
                            task.ran = Nanos(ran);
                            task.vtime = decision.vtime;
                            prop_assert!(policy.enqueue(task, now));
                        }
                    }
                    Step::Configure(tiers) => policy.configure(&tiers),
                }
                prop_assert_eq!(policy.len(), queued);
            }
            while policy.pick(Nanos(u64::MAX)).is_some() {
                queued -= 1;
            }
            prop_assert_eq!(queued, 0);
            Ok(())
        })
        .map_err(|error| Failed::from(error.to_string()))
}

fn view(pid: usize) -> TaskView {
    TaskView {
        pid: pid as i32,
        enq_cnt: pid as u64,
        tier: Tier::ALL[pid % Tier::COUNT],
        weight: 1 + (pid * 7 % 10_000) as u32,
        ran: Nanos(0),
        vtime: 0,
        clock: 0,
        picked: false,
        cpu: 0,
        cpus_allowed: 8,
        flags: 0,
    }
}

fn hundred_thousand_tasks(subject: &Subject) -> Result<(), Failed> {
    let mut policy = (subject.build)(&TierTable::default());
    for pid in 0..100_000 {
        ensure!(
            policy.enqueue(view(pid), Nanos(pid as u64)),
            "full at {pid}"
        );
    }
    // Some turns each, then every task exactly once.
    let mut now = 100_000;
    for _ in 0..300_000 {
        let decision = policy.pick(Nanos(now)).ok_or("nothing to pick")?;
        now += decision.slice.0;
        let mut task = decision.task;
        task.ran = decision.slice;
        task.vtime = decision.vtime;
        ensure!(policy.enqueue(task, Nanos(now)), "refused a task it had");
    }
    for pid in 100_000..CAPACITY {
        ensure!(policy.enqueue(view(pid), Nanos(now)), "full at {pid}");
    }
    ensure!(!policy.enqueue(view(CAPACITY), Nanos(now)), "over capacity");
    ensure!(policy.len() == CAPACITY, "holds {}", policy.len());
    let mut seen = vec![false; CAPACITY];
    while let Some(decision) = policy.pick(Nanos(now)) {
        let seen = &mut seen[decision.task.pid as usize];
        ensure!(!*seen, "{} picked twice", decision.task.pid);
        *seen = true;
        now += decision.slice.0;
    }
    ensure!(seen.iter().all(|seen| *seen), "a task was lost");
    Ok(())
}

fn tasks_that_vanish(subject: &Subject) -> Result<(), Failed> {
    // Every task of tier High exits after a millisecond, a thousandfold a second. A policy
    // without weights owes the tier only the guarantees, so those must be there.
    let tiers = if subject.promises.weights {
        weights_only()
    } else {
        TierTable::default()
    };
    let mut jobs = hogs(8);
    for job in &mut jobs {
        if job.tier == Tier::High {
            job.burst = MS;
            job.vanishes = true;
        }
    }
    for cpus in [1, 4] {
        let mut sim = Sim::new((subject.build)(&tiers), cpus, &jobs);
        sim.run_for(60 * SEC);
        // A policy never learns that a task exited early: in the worst case each counts as
        // its whole slice. Of slices handed out, the tier must still get its share.
        let high = tiers.get(Tier::High);
        let promised = if subject.promises.weights {
            let sum: u32 = tiers.0.iter().map(|row| row.weight).sum();
            f64::from(high.weight) / f64::from(sum)
        } else {
            f64::from(high.min_share) / 1_000.0
        };
        let want = promised * MS as f64 / high.slice.0 as f64;
        let shares = sim.shares();
        let got = shares[Tier::High.index()];
        ensure!(got >= want * 0.95, "{got} of {want}: {shares:?}");
        if subject.promises.max_wait {
            let bound = high.max_wait.0 + 30 * MS * Tier::COUNT as u64;
            let waited = sim.longest_wait[Tier::High.index()];
            ensure!(waited <= bound, "waited {waited} of {bound} ns");
        }
        // What vanished leaves nothing behind: ordinary tasks get their shares at once.
        sim.stop_replacing();
        for _ in 0..8 {
            sim.add(Job::hog(Tier::High));
        }
        sim.run_for(SEC);
        sim.reset();
        sim.run_for(20 * SEC);
        if subject.promises.weights {
            check_weights(&sim, &tiers, "afterwards")?;
        }
        let shares = sim.shares();
        ensure!(shares.iter().all(|share| *share > 0.01), "{shares:?}");
    }
    Ok(())
}

fn no_allocation_per_decision(subject: &Subject) -> Result<(), Failed> {
    let mut policy = (subject.build)(&TierTable::default());
    let before = counting::count();
    let mut now = SEC;
    let mut tasks = 0;
    for pid in 0..=CAPACITY {
        tasks += usize::from(policy.enqueue(view(pid), Nanos(now)));
    }
    for turn in 0..200_000 {
        if let Some(decision) = policy.pick(Nanos(now)) {
            now += decision.slice.0;
            let mut task = decision.task;
            task.ran = decision.slice;
            task.vtime = decision.vtime;
            policy.enqueue(task, Nanos(now));
        }
        if turn == 100_000 {
            policy.configure(&weights_only());
        }
    }
    while policy.pick(Nanos(now)).is_some() {
        tasks -= 1;
    }
    let after = counting::count();
    ensure!(tasks == 0, "{tasks} tasks lost");
    ensure!(after == before, "{} allocations", after - before);
    // The counter does count.
    drop(Box::new(subject.name.len()));
    ensure!(counting::count() > after, "the counter is stuck");
    Ok(())
}

fn drain(policy: &mut dyn Policy) -> BTreeSet<(i32, u64)> {
    std::iter::from_fn(|| policy.pick(Nanos(SEC)))
        .map(|decision| (decision.task.pid, decision.task.enq_cnt))
        .collect()
}

fn live_reconfigure_keeps_tasks(subject: &Subject) -> Result<(), Failed> {
    let mut policy = (subject.build)(&TierTable::default());
    for pid in 0..5_000 {
        ensure!(policy.enqueue(view(pid), Nanos(SEC)), "full at {pid}");
        if pid % 500 == 250 {
            policy.configure(&weights_only());
        } else if pid % 500 == 499 {
            policy.configure(&TierTable::default());
        }
    }
    ensure!(policy.len() == 5_000, "holds {}", policy.len());
    ensure!(drain(&mut *policy).len() == 5_000, "tasks lost");

    // The new parameters hold from then on, whatever the old ones were.
    let upside_down = table(|tier| TierParams {
        weight: [1, 10, 100, 1_000, 3_000, 10_000][tier.index()],
        slice: Nanos::from_millis(7),
        min_share: 0,
        max_wait: Nanos(600 * SEC),
    });
    let new = weights_only();
    let mut sim = Sim::new((subject.build)(&upside_down), 4, &hogs(16));
    sim.run_for(30 * SEC);
    sim.policy.configure(&new);
    sim.run_for(5 * SEC);
    sim.reset();
    sim.trace = Some(Vec::new());
    sim.run_for(30 * SEC);
    if subject.promises.weights {
        check_weights(&sim, &new, "after the change")?;
    }
    for (_, pid, slice, _) in sim.trace.iter().flatten() {
        let tier = Tier::ALL[(*pid as usize - 1) / 16];
        ensure!(*slice == new.get(tier).slice.0, "an old slice of {tier}");
    }
    Ok(())
}
