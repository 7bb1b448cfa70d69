//! In which order tasks run: bounds on waiting, weights, shares.

use infera_policy::{Entry, Nanos, OVERDUE, Tier, TierParams, TierTable};
use libtest_mimic::Failed;

use crate::{
    Subject,
    sim::{Job, MS, SEC, Sim},
};

pub fn table(row: impl Fn(Tier) -> TierParams) -> TierTable {
    TierTable(Tier::ALL.map(row))
}

/// No guarantee in the way: weights 600 to 100, slices 5 to 30 ms.
pub fn weights_only() -> TierTable {
    table(|tier| TierParams {
        weight: 600 - 100 * tier.index() as u32,
        slice: Nanos::from_millis(5 + 5 * tier.index() as u64),
        min_share: 0,
        max_wait: Nanos(600 * SEC),
    })
}

pub fn hogs(each: usize) -> Vec<Job> {
    Tier::ALL
        .into_iter()
        .flat_map(|tier| std::iter::repeat_n(Job::hog(tier), each))
        .collect()
}

/// Tiers with different numbers of tasks and different habits, all with enough demand.
pub fn mixed() -> Vec<Job> {
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

pub fn wait_bound_holds(subject: &Subject) -> Result<(), Failed> {
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

pub fn monotone_in_tier(subject: &Subject) -> Result<(), Failed> {
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

pub fn check_weights(sim: &Sim, tiers: &TierTable, what: &str) -> Result<(), Failed> {
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

pub fn weights_within_5_percent(subject: &Subject) -> Result<(), Failed> {
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

pub fn min_share_holds(subject: &Subject) -> Result<(), Failed> {
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

pub fn work_conserving(subject: &Subject) -> Result<(), Failed> {
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

pub fn deterministic(subject: &Subject) -> Result<(), Failed> {
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
pub fn decides_as_bare(entry: &'static Entry) -> Result<(), Failed> {
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
pub fn paced_crowd(subject: &Subject) -> Result<(), Failed> {
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

pub fn no_task_is_forgotten(subject: &Subject) -> Result<(), Failed> {
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
