use super::*;
use crate::{CAPACITY, Fifo, TierParams, testing::task};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const NOW: Nanos = Nanos(1_000_000_000);

/// What a [`Puppet`] does in one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Last come, first served: not what the built-in order does.
    Honest,
    Panic,
    /// Refuses a task, answers none.
    Nothing,
    /// Answers the task of its last answer again.
    Again,
    /// Answers a pid that it was not given.
    Stranger,
    /// Answers another enqueue of a task that it was given.
    Forged,
    /// Answers a waiting task with everything else about it changed: nothing wrong.
    Altered,
    /// Answers this slice: nothing wrong.
    Slice(u64),
}

/// A policy that follows a script, one act a call, and then is honest.
#[derive(Default)]
struct Puppet {
    script: VecDeque<Act>,
    tasks: Vec<TaskView>,
    last: Option<TaskView>,
    calls: Arc<AtomicUsize>,
}

impl Puppet {
    fn act(&mut self) -> Act {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let act = self.script.pop_front().unwrap_or(Act::Honest);
        assert!(act != Act::Panic, "as scripted");
        act
    }
}

impl Policy for Puppet {
    fn configure(&mut self, _tiers: &TierTable) {
        self.act();
    }

    fn enqueue(&mut self, task: TaskView, _now: Nanos) -> bool {
        if self.act() == Act::Nothing {
            return false;
        }
        self.tasks.push(task);
        true
    }

    fn pick(&mut self, _now: Nanos) -> Option<Decision> {
        let act = self.act();
        let mut slice = Nanos::from_millis(7);
        let mut task = match act {
            Act::Nothing => return None,
            Act::Again => self.last.unwrap_or(task(-1)),
            _ => self.tasks.pop()?,
        };
        self.last = Some(task);
        match act {
            Act::Stranger => task.pid = !task.pid,
            Act::Forged => task.enq_cnt ^= 1 << 40,
            Act::Altered => {
                task = TaskView {
                    pid: task.pid,
                    enq_cnt: task.enq_cnt,
                    tier: Tier::System,
                    weight: 10_000,
                    ran: Nanos(u64::MAX),
                    vtime: 99,
                    clock: 0,
                    picked: true,
                    cpu: -1,
                    cpus_allowed: 0,
                    flags: u64::MAX,
                };
            }
            Act::Slice(ns) => slice = Nanos(ns),
            _ => {}
        }
        Some(Decision {
            task,
            slice,
            vtime: 77,
        })
    }

    fn len(&self) -> usize {
        panic!("the containment counts its tasks itself");
    }
}

/// A puppet in containment, and the count of the calls it got.
fn puppet(script: &[Act]) -> (Contained, Arc<AtomicUsize>) {
    let puppet = Puppet {
        script: script.iter().copied().collect(),
        ..Puppet::default()
    };
    let calls = puppet.calls.clone();
    let contained = Contained::new(Box::new(puppet), "puppet", &TierTable::default());
    (contained, calls)
}

/// With tasks 1 to 3 enqueued.
fn three(script: &[Act]) -> (Contained, Arc<AtomicUsize>) {
    let (mut contained, calls) = puppet(script);
    for pid in 1..=3 {
        assert!(contained.enqueue(task(pid), NOW));
    }
    (contained, calls)
}

fn drain(contained: &mut Contained) -> Vec<i32> {
    std::iter::from_fn(|| contained.pick(NOW))
        .take(10)
        .map(|decision| decision.task.pid)
        .collect()
}

fn fault(contained: &Contained) -> String {
    contained.fault().map(Fault::to_string).unwrap_or_default()
}

use Act::{Again, Altered, Forged, Honest, Nothing, Panic, Slice, Stranger};

#[test]
fn an_honest_policy_decides() {
    let (mut contained, calls) = three(&[]);
    assert_eq!(contained.len(), 3);
    let first = contained.pick(NOW);
    let want = Decision {
        task: task(3),
        slice: Nanos::from_millis(7),
        vtime: 77,
    };
    assert_eq!(first, Some(want));
    assert_eq!(drain(&mut contained), [2, 1]);
    assert!(contained.is_empty());
    assert_eq!((contained.fault(), contained.clamped()), (None, 0));
    assert_eq!(calls.load(Ordering::Relaxed), 6, "not asked when empty");
}

#[test]
fn who_waited_too_long_goes_first_in_its_tier() {
    let (mut contained, _) = puppet(&[]);
    let came = |ms: u64| NOW.plus(Nanos::from_millis(ms));
    for (pid, ms) in [(1, 0), (2, 1), (3, 2_000), (4, 2_001)] {
        assert!(contained.enqueue(task(pid), came(ms)));
    }
    // Another tier's wait is no matter for this one.
    let low = TaskView {
        tier: Tier::Low,
        ..task(5)
    };
    assert!(contained.enqueue(low, came(3_000)));
    assert_eq!(contained.oldest(Tier::Normal), Some(came(0)));
    let late = came(OVERDUE.0 / 1_000_000 + 2);
    let order: Vec<TaskView> = std::iter::from_fn(|| contained.pick(late))
        .map(|decision| decision.task)
        .collect();
    // The policy answers 5, 4 (1 goes), 3 (2 goes), 2 (which is 3), 1 (which is 4).
    assert_eq!(order, [low, task(1), task(2), task(3), task(4)]);
    assert_eq!(contained.fault(), None);
}

#[test]
fn the_call_that_fails_is_decided_by_arrival() {
    let never = "answered task 3, never given to it or decided before";
    for (act, what) in [
        (Panic, "panicked in pick: as scripted"),
        (Nothing, "answered nothing while 2 tasks wait"),
        (Again, never),
        (
            Forged,
            "answered task 2, never given to it or decided before",
        ),
        (
            Stranger,
            "answered task -3, never given to it or decided before",
        ),
    ] {
        let (mut contained, calls) = three(&[Honest, Honest, Honest, Honest, act]);
        assert_eq!(contained.pick(NOW).map(|found| found.task.pid), Some(3));
        assert_eq!(contained.fault(), None);
        let decision = contained.pick(NOW).expect("no decision is lost");
        assert_eq!(decision.task, task(1));
        let slice = TierTable::default().get(Tier::Normal).slice;
        assert_eq!((decision.slice, decision.vtime), (slice, 0));
        assert_eq!(fault(&contained), format!("policy puppet {what}"));
        // Never called again.
        assert!(contained.enqueue(task(4), NOW));
        contained.configure(&TierTable::default());
        assert_eq!(drain(&mut contained), [2, 4]);
        assert_eq!(calls.load(Ordering::Relaxed), 5);
    }
}

#[test]
fn a_task_is_kept_when_its_enqueue_fails() {
    for (act, what) in [
        (Panic, "panicked in enqueue: as scripted"),
        (Nothing, "refused task 2 while 2 of 131072 tasks wait"),
    ] {
        let (mut contained, _) = three(&[Honest, act]);
        assert_eq!(fault(&contained), format!("policy puppet {what}"));
        assert_eq!(drain(&mut contained), [1, 2, 3]);
    }
}

#[test]
fn parameters_hold_when_configure_panics() {
    let (mut contained, _) = three(&[Honest, Honest, Honest, Panic]);
    contained.configure(&TierTable(std::array::from_fn(|_| TierParams {
        slice: Nanos::from_millis(3),
        ..*TierTable::default().get(Tier::Low)
    })));
    assert_eq!(
        fault(&contained),
        "policy puppet panicked in configure: as scripted"
    );
    let decision = contained.pick(NOW).unwrap();
    assert_eq!(decision.slice, Nanos::from_millis(3));
}

#[test]
fn at_capacity_the_caller_is_refused_and_the_policy_not_asked() {
    let tiers = TierTable::default();
    let fifo = Box::new(Fifo::new(&tiers));
    let mut contained = Contained::new(fifo, "fifo", &tiers);
    for pid in 0..CAPACITY as i32 {
        assert!(contained.enqueue(task(pid), NOW));
    }
    assert!(!contained.enqueue(task(-1), NOW));
    assert_eq!((contained.len(), contained.fault()), (CAPACITY, None));
    assert!(contained.pick(NOW).is_some());
    assert!(contained.enqueue(task(-1), NOW));
}

#[test]
fn slices_are_clamped_and_counted() {
    let acts = [0, 100_000, 1_000_000_000, u64::MAX].map(Slice);
    let (mut contained, _) = puppet(&[[Honest; 4], acts].concat());
    for pid in 0..4 {
        assert!(contained.enqueue(task(pid), NOW));
    }
    for want in [MIN_SLICE, MIN_SLICE, MAX_SLICE, MAX_SLICE] {
        assert_eq!(contained.pick(NOW).map(|found| found.slice), Some(want));
    }
    assert_eq!((contained.clamped(), contained.fault()), (2, None));
}

#[test]
fn an_altered_task_is_answered_as_it_came() {
    let (mut contained, _) = puppet(&[Honest, Altered]);
    let came = TaskView {
        enq_cnt: 42,
        tier: Tier::Background,
        flags: 5,
        ..task(9)
    };
    assert!(contained.enqueue(came, NOW));
    assert_eq!(contained.pick(NOW).map(|found| found.task), Some(came));
    assert_eq!(contained.fault(), None);
}

#[test]
fn tasks_that_look_the_same_are_both_decided() {
    let (mut contained, _) = puppet(&[]);
    let heavy = TaskView {
        weight: 300,
        ..task(1)
    };
    assert!(contained.enqueue(task(1), NOW) && contained.enqueue(heavy, NOW));
    assert_eq!(contained.pick(NOW).map(|found| found.task), Some(heavy));
    assert_eq!(contained.pick(NOW).map(|found| found.task), Some(task(1)));
}

#[test]
fn the_caller_deposes_and_the_first_fault_is_kept() {
    let (mut contained, calls) = three(&[]);
    contained.depose(FaultKind::Slow {
        took: Nanos::from_millis(40),
    });
    contained.depose(FaultKind::Idle { waiting: 1 });
    assert_eq!(fault(&contained), "policy puppet took 40 ms for a decision");
    assert_eq!(drain(&mut contained), [1, 2, 3]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn the_built_in_order_gives_virtual_time_back() {
    let (mut contained, _) = puppet(&[Nothing]);
    let old = TaskView {
        vtime: 1 << 50,
        ..task(1)
    };
    assert!(contained.enqueue(old, NOW));
    assert_eq!(contained.pick(NOW).map(|found| found.vtime), Some(1 << 50));
}

#[test]
fn replace_hands_over_in_arrival_order() {
    let (mut contained, calls) = three(&[Honest, Honest, Honest, Nothing]);
    assert_eq!(contained.pick(NOW).map(|found| found.task.pid), Some(1));
    assert!(contained.fault().is_some());
    assert!(contained.enqueue(task(4), NOW));
    let fifo = Box::new(Fifo::new(&TierTable::default()));
    drop(contained.replace(fifo, "fifo", NOW));
    assert_eq!((contained.name(), contained.fault()), ("fifo", None));
    assert_eq!(contained.len(), 3);
    let Some(Decision { task, vtime, .. }) = contained.pick(NOW) else {
        panic!("work conserving");
    };
    assert_eq!((task.pid, vtime), (2, 0), "the new policy's, not 77");
    assert_eq!(drain(&mut contained), [3, 4]);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[test]
fn a_replacement_that_fails_is_deposed() {
    for (script, what) in [
        (vec![Panic], "panicked in configure: as scripted"),
        (vec![Honest, Panic], "panicked in enqueue: as scripted"),
        (
            vec![Honest, Honest, Nothing],
            "refused task 2 while 3 of 131072 tasks wait",
        ),
    ] {
        let (mut contained, _) = three(&[]);
        let puppet = Puppet {
            script: script.into(),
            ..Puppet::default()
        };
        drop(contained.replace(Box::new(puppet), "successor", NOW));
        assert_eq!(fault(&contained), format!("policy successor {what}"));
        assert_eq!(drain(&mut contained), [1, 2, 3]);
    }
}

#[test]
fn without_a_policy_the_built_in_order_decides() {
    let (mut contained, _) = three(&[]);
    drop(contained.retire());
    drop(contained.retire());
    contained.depose(FaultKind::Slow { took: NOW });
    assert_eq!(contained.pick(NOW).map(|found| found.task.pid), Some(1));
    assert_eq!(contained.fault(), None);
    let fifo = Box::new(Fifo::new(&TierTable::default()));
    drop(contained.replace(fifo, "fifo", NOW));
    assert_eq!(drain(&mut contained), [2, 3]);
}

/// Cannot even be dropped.
struct Undying(Puppet);

impl Policy for Undying {
    fn configure(&mut self, tiers: &TierTable) {
        self.0.configure(tiers);
    }

    fn enqueue(&mut self, task: TaskView, now: Nanos) -> bool {
        self.0.enqueue(task, now)
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        self.0.pick(now)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Undying {
    fn drop(&mut self) {
        panic!("I will be back");
    }
}

#[test]
fn a_panic_in_drop_is_contained() {
    let tiers = TierTable::default();
    let undying = || Box::new(Undying(Puppet::default()));
    let mut contained = Contained::new(undying(), "undying", &tiers);
    let retired = contained.replace(undying(), "undying", NOW);
    std::thread::spawn(move || drop(retired)).join().unwrap();
    contained.depose(FaultKind::Idle { waiting: 1 });
    drop(contained);
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(TaskView),
    Pick,
    Configure(u64),
    Depose,
    Retire,
    Replace(Vec<Act>),
}

fn any_script() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        60 => Just(Honest),
        1 => Just(Panic),
        1 => Just(Nothing),
        1 => Just(Again),
        1 => Just(Stranger),
        1 => Just(Forged),
        5 => Just(Altered),
        5 => any::<u64>().prop_map(Slice),
    ];
    prop::collection::vec(act, 0..200)
}

fn any_step() -> impl Strategy<Value = Step> {
    // Few pids and enqueues: some tasks look the same.
    let enqueue = (0..20i32, 0..3u64, 0..Tier::COUNT, any::<u64>());
    let enqueue = enqueue.prop_map(|(pid, enq_cnt, tier, vtime)| TaskView {
        enq_cnt,
        tier: Tier::ALL[tier],
        vtime,
        ..task(pid)
    });
    prop_oneof![
        30 => enqueue.prop_map(Step::Enqueue),
        30 => Just(Step::Pick),
        1 => any::<u64>().prop_map(Step::Configure),
        1 => (0..2 * MIN_SLICE.0).prop_map(Step::Configure),
        1 => Just(Step::Depose),
        1 => Just(Step::Retire),
        3 => any_script().prop_map(Step::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_task_is_decided_once_whatever_the_policy_does(
        script in any_script(),
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        let (mut contained, mut calls) = puppet(&script);
        let mut tiers = TierTable::default();
        // In arrival order.
        let mut waiting: Vec<TaskView> = Vec::new();
        let drained = std::iter::repeat_n(Step::Pick, 301);
        for step in steps.into_iter().chain(drained) {
            let deposed = contained.fault().is_some() || contained.policy.is_none();
            let called = calls.load(Ordering::Relaxed);
            match step {
                Step::Enqueue(task) => {
                    prop_assert!(contained.enqueue(task, NOW));
                    waiting.push(task);
                }
                Step::Pick => {
                    let Some(decision) = contained.pick(NOW) else {
                        prop_assert!(waiting.is_empty(), "a pick was lost");
                        continue;
                    };
                    let at = waiting.iter().position(|task| *task == decision.task);
                    prop_assert!(at.is_some(), "{decision:?} was not waiting");
                    let task = waiting.remove(at.unwrap_or_default());
                    prop_assert!((MIN_SLICE..=MAX_SLICE).contains(&decision.slice));
                    if contained.fault().is_some() || deposed {
                        prop_assert_eq!(at, Some(0), "arrival order");
                        let slice = tiers.get(task.tier).slice;
                        prop_assert_eq!(decision.slice, slice.clamp(MIN_SLICE, MAX_SLICE));
                        prop_assert_eq!(decision.vtime, task.vtime);
                    }
                }
                Step::Configure(slice) => {
                    tiers.0[Tier::Normal.index()].slice = Nanos(slice);
                    contained.configure(&tiers);
                }
                Step::Depose => contained.depose(FaultKind::Slow { took: NOW }),
                Step::Retire => drop(contained.retire()),
                Step::Replace(script) => {
                    let puppet = Puppet {
                        script: script.into(),
                        ..Puppet::default()
                    };
                    let before = std::mem::replace(&mut calls, puppet.calls.clone());
                    drop(contained.replace(Box::new(puppet), "successor", NOW));
                    prop_assert_eq!(before.load(Ordering::Relaxed), called);
                    continue;
                }
            }
            prop_assert_eq!(contained.len(), waiting.len());
            if deposed {
                prop_assert_eq!(calls.load(Ordering::Relaxed), called, "called again");
            }
        }
        prop_assert!(contained.is_empty());
    }
}
