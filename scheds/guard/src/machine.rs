//! What the guard does next: a state machine without clock, process or file, so that every
//! way through it can be tested.

use crate::judge::{Limits, Patience, Trouble, judge};
use infera_control::State;
use infera_heartbeat::{Phase, Vitals};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Exit statuses of `scx_infera` that trying again would not change.
const HOPELESS: std::ops::RangeInclusive<i32> = 2..=6;
/// Stands for a program that could not be started, as in shells.
pub const NOT_STARTED: i32 = 127;
/// It asks to be started again: CPUs came or went.
const AGAIN: i32 = 8;
/// Somebody detached it on purpose.
const DISMISSED: i32 = 9;
/// Real-time threads kept its tasks from running, which no scheduler can change.
const CROWDED: i32 = 12;
/// The guard's own exit status when it is asked to stop in safe mode.
pub const LATCHED: i32 = 10;

/// Every so many steps against an attached scheduler comes the kernel's own brake.
const BRAKE: u32 = 4;
/// The step at which a process that is not attached is killed.
const PATIENCE: u32 = 10;

/// The guard was kept from running if it is later than this: the machine stood still.
const STILL: Duration = Duration::from_millis(250);

/// The source of a safe mode that the guard itself entered.
pub const GUARD: &str = "guard";

/// The guard's patience.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// With the scheduler.
    pub limits: Limits,
    /// After asking, before detaching; after detaching, before killing; after killing,
    /// before pulling the kernel's own brake.
    pub step: Duration,
    /// Before the first new attempt; doubles with each further eject.
    pub back_off: Duration,
    /// The longest back-off.
    pub back_off_max: Duration,
    /// This many ejects ...
    pub ejects: usize,
    /// ... in this time enter safe mode.
    pub within: Duration,
}

/// How the scheduler's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

/// What the guard sees when it looks.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
    /// How it ended, told once.
    pub end: Option<End>,
    /// From its heartbeat.
    pub phase: Phase,
    /// From its heartbeat.
    pub vitals: Option<Vitals>,
    /// Whether any sched_ext scheduler is in charge, from the kernel.
    pub attached: bool,
}

/// What the guard is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the scheduler.
    Start,
    /// SIGTERM.
    Ask,
    /// Through the BPF link.
    Detach,
    /// SIGKILL.
    Kill,
    /// sysrq-S.
    Brake,
    /// Write a report: it ended, or had to be ended, without being asked.
    Dump(String),
    /// Tell the log and the history.
    Say(String),
    /// The safe modes changed.
    Remember,
    /// End with this exit status.
    Finish(i32),
}

/// Why a scheduler is being taken off the node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    Stop,
    SafeMode,
    Trouble(Cause),
}

/// Why the stock scheduler has the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    what: String,
    /// The scheduler's own fault, which counts towards safe mode.
    ours: bool,
}

impl Cause {
    fn ours(what: String) -> Cause {
        Cause { what, ours: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Now {
    /// No process, until then.
    Down {
        until: u64,
    },
    /// No process, until nobody wants safe mode any more.
    Safe,
    Up {
        since: u64,
    },
    /// The next step is due then; how many have been taken against a scheduler that was
    /// attached, and how many in all.
    Leaving {
        why: Why,
        due: u64,
        against: u32,
        steps: u32,
    },
    Finished,
}

/// A past eject.
#[derive(Clone, Copy, Debug)]
struct Eject {
    at: u64,
    ours: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    now: Now,
    attached: bool,
    /// When the guard last ran, and since when it has run on time: silence counts from then.
    ran: u64,
    awake: u64,
    /// Why nothing is to run, by source.
    safe_mode: BTreeMap<String, String>,
    stop: bool,
    /// Those that still count, oldest first.
    ejects: VecDeque<Eject>,
    total: u64,
}

impl Machine {
    /// A guard that starts, with the safe modes that were in force when the last one ended.
    pub fn new(settings: Settings, safe_mode: BTreeMap<String, String>) -> Self {
        Machine {
            settings,
            now: Now::Down { until: 0 },
            attached: false,
            ran: 0,
            awake: 0,
            safe_mode,
            stop: false,
            ejects: VecDeque::new(),
            total: 0,
        }
    }

    /// For the status.
    pub fn state(&self) -> State {
        match &self.now {
            Now::Down { .. } => State::BackingOff,
            Now::Safe => State::SafeMode,
            Now::Up { .. } if self.attached => State::Attached,
            Now::Up { .. } => State::Starting,
            Now::Leaving { .. } => State::Leaving,
            Now::Finished => State::Ended,
        }
    }

    /// Why nothing is to run, by source.
    pub fn safe_mode(&self) -> &BTreeMap<String, String> {
        &self.safe_mode
    }

    /// Ejects since the guard started.
    pub fn ejects(&self) -> u64 {
        self.total
    }

    /// When to look again at the latest.
    pub fn look_again(&self) -> Duration {
        match self.now {
            // The steps are due after hundreds of ms, but an end frees the node at once.
            Now::Leaving { .. } => Duration::from_millis(10),
            _ => Duration::from_millis(50),
        }
    }

    /// The guard is to end, and the scheduler before it.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Somebody wants the node on the stock scheduler.
    pub fn enter_safe_mode(&mut self, source: &str, reason: &str, out: &mut Vec<Action>) {
        let before = self.safe_mode.insert(source.into(), reason.into());
        if before.as_deref() != Some(reason) {
            out.push(Action::Say(format!("safe mode on ({source}): {reason}")));
            out.push(Action::Remember);
        }
    }

    /// A source does not want that any more.
    pub fn leave_safe_mode(&mut self, source: &str, out: &mut Vec<Action>) {
        if self.safe_mode.remove(source).is_none() {
            return;
        }
        let rest: Vec<&str> = self.safe_mode.keys().map(String::as_str).collect();
        out.push(Action::Say(match rest.is_empty() {
            true => format!("safe mode off ({source})"),
            false => format!("safe mode off ({source}), still on ({})", rest.join(", ")),
        }));
        out.push(Action::Remember);
        if source == GUARD {
            self.ejects.clear();
        }
    }

    /// Looks, and says what to do.
    pub fn step(&mut self, seen: &Seen, out: &mut Vec<Action>) {
        if self.ran != 0 && seen.now.saturating_sub(self.ran) > nanos(STILL) {
            self.awake = seen.now;
        }
        self.ran = seen.now;
        if let Now::Up { .. } = self.now
            && !self.attached
            && seen.attached
            && seen.phase == Phase::Attached
        {
            self.attached = true;
            out.push(Action::Say("attached".into()));
        }
        if let Some(end) = seen.end {
            return self.ended(end, seen, out);
        }
        match &mut self.now {
            Now::Down { until } => {
                if self.stop {
                    self.finish(0, out);
                } else if !self.safe_mode.is_empty() {
                    self.now = Now::Safe;
                } else if seen.now >= *until {
                    self.attached = false;
                    self.now = Now::Up { since: seen.now };
                    out.push(Action::Start);
                }
            }
            Now::Safe => {
                if self.stop {
                    self.finish(LATCHED, out);
                } else if self.safe_mode.is_empty() {
                    self.now = Now::Down { until: seen.now };
                }
            }
            Now::Up { since } => {
                let since = *since;
                let why = if self.stop {
                    Why::Stop
                } else if !self.safe_mode.is_empty() {
                    Why::SafeMode
                } else {
                    let limits = &self.settings.limits;
                    let patience = Patience {
                        started: since,
                        awake: self.awake,
                        now: seen.now,
                    };
                    match judge(limits, seen.phase, seen.vitals.as_ref(), patience) {
                        None => return,
                        Some(trouble) => Why::Trouble(self.report(&trouble, out)),
                    }
                };
                out.push(Action::Ask);
                self.now = Now::Leaving {
                    why,
                    due: seen.now + nanos(self.settings.step),
                    against: 0,
                    steps: 0,
                };
            }
            Now::Leaving {
                due,
                against,
                steps,
                ..
            } => {
                if seen.now < *due {
                    return;
                }
                *due = seen.now + nanos(self.settings.step);
                *steps += 1;
                if seen.attached {
                    *against += 1;
                    out.push(match *against {
                        1 => Action::Detach,
                        _ => Action::Kill,
                    });
                    if *against % BRAKE == 0 {
                        out.push(Action::Brake);
                    }
                } else if *steps >= PATIENCE {
                    // It may be writing what it knows, or be in the middle of loading.
                    out.push(Action::Kill);
                }
            }
            Now::Finished => {}
        }
    }

    fn report(&self, trouble: &Trouble, out: &mut Vec<Action>) -> Cause {
        let what = trouble.to_string();
        out.push(Action::Say(format!("{what}: taking it off the node")));
        let ours = trouble.is_ours();
        Cause { what, ours }
    }

    fn finish(&mut self, status: i32, out: &mut Vec<Action>) {
        self.now = Now::Finished;
        out.push(Action::Finish(status));
    }

    /// The process has ended, and the kernel has taken the node back with it.
    fn ended(&mut self, end: End, seen: &Seen, out: &mut Vec<Action>) {
        self.attached = false;
        let why = match std::mem::replace(&mut self.now, Now::Down { until: seen.now }) {
            Now::Leaving { why, .. } => Some(why),
            _ => None,
        };
        match (why, end) {
            (Some(Why::Stop), _) => self.finish(0, out),
            (Some(Why::SafeMode), _) => self.now = Now::Safe,
            (Some(Why::Trouble(cause)), _) => self.eject(cause, seen.now, out),
            (None, End::Status(0)) => {
                out.push(Action::Say("it was asked to stop, and stopped".into()));
                self.finish(0, out);
            }
            (None, End::Status(NOT_STARTED)) => self.finish(NOT_STARTED, out),
            (None, End::Status(status)) if HOPELESS.contains(&status) => {
                out.push(Action::Say(format!(
                    "it refuses to run (exit status {status}), and would again"
                )));
                self.finish(status, out);
            }
            (None, End::Status(AGAIN)) => {
                out.push(Action::Say("CPUs came or went: starting it again".into()));
            }
            (None, End::Status(DISMISSED)) => {
                let reason = "somebody detached the scheduler on purpose (sysrq-S or its BPF link)";
                self.enter_safe_mode(GUARD, reason, out);
                self.now = Now::Safe;
            }
            (None, End::Status(CROWDED)) => {
                let what = "real-time threads kept a CPU, or all, from every other task".to_owned();
                self.eject(Cause { what, ours: false }, seen.now, out);
            }
            (None, End::Status(status)) => {
                let what = format!("it ended with exit status {status}");
                self.eject(Cause::ours(what), seen.now, out);
            }
            (None, End::Signal(signal)) => {
                let what = format!("it ended by signal {signal}");
                self.eject(Cause::ours(what), seen.now, out);
            }
        }
    }

    fn eject(&mut self, Cause { what, ours }: Cause, now: u64, out: &mut Vec<Action>) {
        self.total += 1;
        let within = nanos(self.settings.within);
        while self
            .ejects
            .front()
            .is_some_and(|eject| now - eject.at > within)
        {
            self.ejects.pop_front();
        }
        self.ejects.push_back(Eject { at: now, ours });
        out.push(Action::Dump(what.clone()));
        let count = self.ejects.iter().filter(|eject| eject.ours).count();
        if ours && count >= self.settings.ejects {
            let first = self.ejects.iter().find(|eject| eject.ours);
            let reason = format!(
                "{count} ejects in {} s, the last because {what}",
                (now - first.map_or(now, |eject| eject.at)) / 1_000_000_000
            );
            self.enter_safe_mode(GUARD, &reason, out);
            self.now = Now::Safe;
            return;
        }
        let doublings = (self.ejects.len() - 1).min(16) as u32;
        let wait = (self.settings.back_off * 2u32.pow(doublings)).min(self.settings.back_off_max);
        out.push(Action::Say(format!(
            "{what}: the stock scheduler runs this node, next attempt in {} ms",
            wait.as_millis()
        )));
        self.now = Now::Down {
            until: now + nanos(wait),
        };
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn settings() -> Settings {
        Settings {
            limits: Limits {
                attach: Duration::from_secs(30),
                stall: Duration::from_millis(500),
                wait: Duration::from_secs(3),
            },
            step: Duration::from_millis(100),
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_secs(60),
            ejects: 3,
            within: Duration::from_secs(600),
        }
    }

    /// A guard with a scheduler whose behaviour the test decides.
    struct Node {
        machine: Machine,
        now: u64,
        alive: bool,
        attached: bool,
        /// Its threads run.
        beating: bool,
        /// A task of some tier has waited for so long.
        waited: u64,
        beat: u64,
        /// It ends when asked.
        obeys: bool,
        end: Option<End>,
        said: Vec<String>,
        done: Vec<Action>,
    }

    impl Node {
        fn new() -> Node {
            Node {
                machine: Machine::new(settings(), BTreeMap::new()),
                now: 1_000 * MS,
                alive: false,
                attached: false,
                beating: true,
                waited: 0,
                beat: 0,
                obeys: true,
                end: None,
                said: Vec::new(),
                done: Vec::new(),
            }
        }

        fn die(&mut self, end: End) {
            if self.alive {
                (self.alive, self.attached, self.end) = (false, false, Some(end));
            }
        }

        fn perform(&mut self, actions: Vec<Action>) {
            for action in actions {
                match &action {
                    Action::Start => (self.alive, self.attached) = (true, true),
                    Action::Ask if self.obeys && self.beating => self.die(End::Status(0)),
                    Action::Kill => self.die(End::Signal(9)),
                    Action::Detach | Action::Brake => self.attached = false,
                    Action::Say(what) => self.said.push(what.clone()),
                    _ => {}
                }
                self.done.push(action);
            }
        }

        fn pass(&mut self, ms: u64) {
            for _ in 0..ms / 10 {
                self.now += 10 * MS;
                if self.beating {
                    self.beat = self.now;
                }
                let mut waited = Vitals::default().waited;
                waited[3] = self.waited;
                let seen = Seen {
                    now: self.now,
                    end: self.end.take(),
                    phase: Phase::Attached,
                    vitals: Some(Vitals {
                        beat: self.beat,
                        waited,
                        ..Vitals::default()
                    }),
                    attached: self.attached,
                };
                let mut out = Vec::new();
                self.machine.step(&seen, &mut out);
                self.perform(out);
            }
        }

        fn order(&mut self, order: impl FnOnce(&mut Machine, &mut Vec<Action>)) {
            let mut out = Vec::new();
            order(&mut self.machine, &mut out);
            self.perform(out);
        }
    }

    #[test]
    fn a_stopped_process_is_detached_within_a_second_then_killed() {
        let mut node = Node::new();
        node.pass(100);
        assert_eq!(node.machine.state(), State::Attached);
        node.beating = false;
        node.pass(620);
        assert!(!node.attached, "{:?}", node.done);
        assert!(node.done.contains(&Action::Detach));
        node.pass(1_000);
        assert!(!node.alive, "a detached process that hangs is killed");
        assert!(
            node.done
                .iter()
                .any(|action| matches!(action, Action::Dump(_)))
        );
        // And a second attempt, after the back-off.
        node.beating = true;
        node.pass(1_500);
        assert_eq!(node.machine.state(), State::Attached);
        assert_eq!(node.machine.ejects(), 1);
    }

    #[test]
    fn ejects_for_starved_tasks_do_not_latch() {
        let mut node = Node::new();
        for ejects in 1..6 {
            node.pass(100);
            node.waited = 25_000 * MS;
            node.pass(200);
            assert_eq!(node.machine.ejects(), ejects, "{:?}", node.said);
            assert_eq!(node.machine.state(), State::BackingOff);
            node.waited = 0;
            node.pass(60_000);
            assert_eq!(node.machine.state(), State::Attached);
        }
    }

    #[test]
    fn crowds_of_real_time_threads_do_not_latch() {
        let mut node = Node::new();
        for ejects in 1..6 {
            node.pass(100);
            node.die(End::Status(CROWDED));
            node.pass(20);
            assert_eq!(node.machine.ejects(), ejects, "{:?}", node.said);
            assert_eq!(node.machine.state(), State::BackingOff);
            node.pass(60_000);
            assert_eq!(node.machine.state(), State::Attached);
        }
    }

    #[test]
    fn a_machine_that_stood_still_causes_no_eject() {
        let mut node = Node::new();
        node.pass(100);
        for _ in 0..5 {
            // Neither guard nor scheduler runs.
            node.now += 900 * MS;
            node.pass(10);
            // Then the guard runs first; the scheduler is late by its own period.
            node.beating = false;
            node.pass(60);
            node.beating = true;
            node.pass(200);
        }
        assert_eq!(node.machine.state(), State::Attached, "{:?}", node.said);
        assert_eq!(node.machine.ejects(), 0);
        // One that stays silent is taken off all the same.
        node.now += 900 * MS;
        node.beating = false;
        node.pass(800);
        assert!(!node.attached, "{:?}", node.done);
    }

    #[test]
    fn the_third_eject_latches_until_somebody_clears_it() {
        let mut node = Node::new();
        for _ in 0..3 {
            node.pass(3_000);
            node.die(End::Signal(11));
            node.pass(20);
        }
        assert_eq!(node.machine.state(), State::SafeMode);
        assert!(node.machine.safe_mode()[GUARD].contains("3 ejects"));
        node.pass(100_000);
        assert!(!node.alive);
        node.order(|machine, out| machine.leave_safe_mode(GUARD, out));
        node.pass(100);
        assert!(node.alive);
        // What led there is forgiven.
        node.die(End::Signal(11));
        node.pass(20);
        assert_eq!(node.machine.state(), State::BackingOff);
    }

    #[test]
    fn old_ejects_are_forgotten() {
        let mut node = Node::new();
        for _ in 0..6 {
            node.pass(400_000);
            assert!(node.alive);
            node.die(End::Status(7));
            node.pass(20);
            assert_eq!(node.machine.state(), State::BackingOff);
        }
    }

    #[test]
    fn every_source_keeps_safe_mode_until_it_lets_go() {
        let mut node = Node::new();
        node.pass(100);
        node.order(|machine, out| machine.enter_safe_mode("operator", "p99", out));
        node.order(|machine, out| machine.enter_safe_mode("file", "", out));
        node.pass(20);
        assert!(!node.alive && node.machine.state() == State::SafeMode);
        assert!(
            !node
                .done
                .iter()
                .any(|action| matches!(action, Action::Dump(_)))
        );
        node.order(|machine, out| machine.leave_safe_mode("operator", out));
        node.pass(5_000);
        assert!(!node.alive);
        node.order(|machine, out| machine.leave_safe_mode("file", out));
        node.pass(20);
        assert!(node.alive);
    }

    #[test]
    fn refusals_and_requests_to_stop_end_the_guard() {
        for (end, status) in [
            (End::Status(3), 3),
            (End::Status(6), 6),
            (End::Status(0), 0),
        ] {
            let mut node = Node::new();
            node.pass(100);
            node.die(end);
            node.pass(20);
            assert_eq!(node.done.last(), Some(&Action::Finish(status)));
        }
        let mut node = Node::new();
        node.pass(100);
        node.machine.stop();
        node.pass(20);
        assert_eq!(node.done.last(), Some(&Action::Finish(0)));
    }

    #[test]
    fn hotplug_starts_it_again_and_a_dismissal_does_not() {
        let mut node = Node::new();
        node.pass(100);
        node.die(End::Status(AGAIN));
        node.pass(20);
        assert!(node.alive);
        assert_eq!(node.machine.ejects(), 0);
        node.die(End::Status(DISMISSED));
        node.pass(5_000);
        assert_eq!(node.machine.state(), State::SafeMode);
        node.machine.stop();
        node.pass(20);
        assert_eq!(node.done.last(), Some(&Action::Finish(LATCHED)));
    }

    #[test]
    fn safe_mode_takes_a_deaf_process_off_the_node_too() {
        let mut node = Node::new();
        node.pass(100);
        (node.obeys, node.beating) = (false, true);
        node.order(|machine, out| machine.enter_safe_mode("operator", "", out));
        node.pass(130);
        assert!(!node.attached);
        node.pass(1_100);
        assert!(!node.alive && node.machine.state() == State::SafeMode);
    }

    proptest! {
        /// Whatever happens, a node in safe mode or without a beat is on the stock
        /// scheduler a second later, and the machine never wants two processes.
        #[test]
        fn never_on_a_dead_scheduler(events in proptest::collection::vec(0u8..8, 1..60)) {
            let mut node = Node::new();
            for event in events {
                match event {
                    0 => node.beating = false,
                    1 => node.beating = true,
                    2 => node.obeys = false,
                    3 => node.die(End::Signal(11)),
                    4 => node.die(End::Status(AGAIN)),
                    5 => node.order(|machine, out| machine.enter_safe_mode("file", "", out)),
                    6 => node.order(|machine, out| machine.leave_safe_mode("file", out)),
                    _ => node.pass(700),
                }
                let starts = node.done.iter().filter(|action| **action == Action::Start).count();
                node.pass(1_000);
                if !node.machine.safe_mode().is_empty() || !node.beating {
                    // A new attempt may just have begun.
                    let again = node.done.iter().filter(|action| **action == Action::Start).count();
                    prop_assert!(!node.attached || again > starts, "{:?}", node.done);
                }
            }
        }
    }
}
