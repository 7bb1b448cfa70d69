//! Every policy of the registry against every property it must have, bare and contained.
//!
//! The trials come from the registry: a new policy is tested as soon as it has its line.

/// Fails the trial unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(Failed::from(format!($($message)+)));
        }
    };
}

mod counting;
mod order;
mod robust;
mod sim;

use std::sync::Arc;

use infera_policy::{
    Contained, Drill, Entry, FaultKind, Fifo, Policy, Promises, REGISTRY, Sabotage, TierTable,
    Weighted,
};
use libtest_mimic::{Arguments, Failed, Trial};

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
    ("wait_bound_holds", order::wait_bound_holds),
    ("monotone_in_tier", order::monotone_in_tier),
    ("work_conserving", order::work_conserving),
    ("deterministic", order::deterministic),
    ("no_overflow", robust::no_overflow),
    ("hundred_thousand_tasks", robust::hundred_thousand_tasks),
    ("tasks_that_vanish", robust::tasks_that_vanish),
    (
        "no_allocation_per_decision",
        robust::no_allocation_per_decision,
    ),
    ("a_crowd_has_its_turns_within_a_second", order::paced_crowd),
    (
        "live_reconfigure_keeps_tasks",
        robust::live_reconfigure_keeps_tasks,
    ),
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
                order::weights_within_5_percent,
            );
        }
        if subject.promises.min_share {
            add(&subject, "min_share_holds", order::min_share_holds);
        }
    }
    for drill in [Drill::Hoard, Drill::Unknown, Drill::Slice] {
        let subject = Arc::new(Subject::failing(drill));
        add(
            &subject,
            "hundred_thousand_tasks",
            robust::hundred_thousand_tasks,
        );
        add(
            &subject,
            "no_allocation_per_decision",
            robust::no_allocation_per_decision,
        );
    }
    for entry in REGISTRY {
        let name = format!("contained {}::decides_as_bare", entry.name);
        trials.push(Trial::test(name, || order::decides_as_bare(entry)));
        let name = format!("contained {}::no_task_is_forgotten", entry.name);
        trials.push(Trial::test(name, || {
            order::no_task_is_forgotten(&Subject::contained(entry))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
