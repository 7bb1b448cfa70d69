//! What a policy holds whatever comes: any numbers, any number of tasks, tasks that vanish, parameters that change.

use std::collections::BTreeSet;

use infera_policy::{CAPACITY, Nanos, Policy, TaskView, Tier, TierParams, TierTable};
use libtest_mimic::Failed;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    Subject, counting,
    order::{check_weights, hogs, table, weights_only},
    sim::{Job, MS, SEC, Sim},
};

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

pub fn no_overflow(subject: &Subject) -> Result<(), Failed> {
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

pub fn hundred_thousand_tasks(subject: &Subject) -> Result<(), Failed> {
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

pub fn tasks_that_vanish(subject: &Subject) -> Result<(), Failed> {
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

pub fn no_allocation_per_decision(subject: &Subject) -> Result<(), Failed> {
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
    // The counter does count. The compiler may leave out an allocation that nothing sees.
    drop(std::hint::black_box(Box::new(subject.name.len())));
    ensure!(counting::count() > after, "the counter is stuck");
    Ok(())
}

fn drain(policy: &mut dyn Policy) -> BTreeSet<(i32, u64)> {
    std::iter::from_fn(|| policy.pick(Nanos(SEC)))
        .map(|decision| (decision.task.pid, decision.task.enq_cnt))
        .collect()
}

pub fn live_reconfigure_keeps_tasks(subject: &Subject) -> Result<(), Failed> {
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
