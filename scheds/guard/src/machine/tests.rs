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
    /// How long a task of some tier has waited.
    waited: u64,
    beat: u64,
    ends_when_asked: bool,
    end: Option<End>,
    said: Vec<String>,
    done: Vec<Action>,
}

impl Node {
    fn new() -> Node {
        Node {
            machine: Machine::new(settings(), BTreeMap::new(), false),
            now: 1_000 * MS,
            alive: false,
            attached: false,
            beating: true,
            waited: 0,
            beat: 0,
            ends_when_asked: true,
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
                Action::Ask if self.ends_when_asked && self.beating => self.die(End::Status(0)),
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
fn what_is_not_its_own_fault_does_not_latch() {
    let causes = [
        (ExitStatus::Crowded, EjectKind::RealTime),
        (ExitStatus::Unwatched, EjectKind::Unwatched),
        (ExitStatus::Later, EjectKind::Passing),
    ];
    let causes = causes.map(|(status, kind)| (End::Status(status.code()), kind));
    for (end, kind) in causes
        .into_iter()
        .chain([(End::Signal(SIGKILL), EjectKind::Killed)])
    {
        let mut node = Node::new();
        for ejects in 1..6 {
            node.pass(100);
            node.die(end);
            node.pass(20);
            let kinds = BTreeMap::from([(kind, ejects)]);
            assert_eq!(node.machine.eject_kinds(), &kinds, "{:?}", node.said);
            assert_eq!(node.machine.state(), State::BackingOff);
            node.pass(60_000);
            assert_eq!(node.machine.state(), State::Attached);
        }
    }
}

#[test]
fn its_own_faults_latch() {
    let causes = [
        (End::Status(1), EjectKind::Crash),
        (End::Status(101), EjectKind::Crash),
        (End::Signal(11), EjectKind::Crash),
        (End::Status(ExitStatus::Ejected.code()), EjectKind::Kernel),
    ];
    for (end, kind) in causes {
        let mut node = Node::new();
        for _ in 0..3 {
            assert!(!node.machine.latched());
            node.pass(3_000);
            node.die(end);
            node.pass(20);
        }
        assert_eq!(node.machine.state(), State::SafeMode);
        assert!(node.machine.latched());
        assert_eq!(node.machine.eject_kinds(), &BTreeMap::from([(kind, 3)]));
    }
}

#[test]
fn a_refusal_is_no_eject_and_is_not_tried_again() {
    for status in ExitStatus::ALL.into_iter().filter(|it| it.is_refusal()) {
        let mut node = Node::new();
        node.pass(100);
        node.die(End::Status(status.code()));
        node.pass(60_000);
        let starts = node.done.iter().filter(|it| **it == Action::Start);
        assert_eq!(starts.count(), 1, "{status:?}");
        assert_eq!(node.done.last(), Some(&Action::Finish(status.code())));
        assert_eq!(node.machine.ejects(), 0, "{status:?}");
        assert!(node.machine.safe_mode().is_empty() && !node.done.contains(&Action::Remember));
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
fn the_third_eject_latches_until_it_is_cleared() {
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
    node.die(End::Status(ExitStatus::Again.code()));
    node.pass(20);
    assert!(node.alive);
    assert_eq!(node.machine.ejects(), 0);
    node.die(End::Status(ExitStatus::Dismissed.code()));
    node.pass(5_000);
    assert_eq!(node.machine.state(), State::SafeMode);
    node.machine.stop();
    node.pass(20);
    assert_eq!(
        node.done.last(),
        Some(&Action::Finish(ExitStatus::SafeMode.code()))
    );
}

#[test]
fn a_pause_for_a_bound_task_is_no_eject() {
    let mut node = Node::new();
    for _ in 0..20 {
        node.pass(20_000);
        assert_eq!(node.machine.state(), State::Attached);
        node.die(End::Status(ExitStatus::Pause.code()));
        node.pass(20);
        assert_eq!(node.machine.state(), State::BackingOff);
        node.pass(1_600);
    }
    assert_eq!(node.machine.state(), State::Attached);
    assert_eq!(node.machine.ejects(), 0);
}

#[test]
fn a_cpu_that_flaps_is_no_eject_and_starts_it_seldom() {
    let again = || End::Status(ExitStatus::Again.code());
    let mut node = Node::new();
    node.pass(100);
    let starts = |node: &Node| {
        let start = |action: &&Action| **action == Action::Start;
        node.done.iter().filter(start).count()
    };
    for flaps in 1..=3 {
        node.die(again());
        node.pass(20);
        assert_eq!(starts(&node), 1 + flaps, "at once");
    }
    for _ in 0..20 {
        node.die(again());
        node.pass(500);
    }
    assert!(starts(&node) <= 9, "{} starts", starts(&node));
    assert_eq!(node.machine.ejects(), 0);
    node.pass(60_000);
    assert_eq!(node.machine.state(), State::Attached);
    node.pass(60_000);
    let before = starts(&node);
    node.die(again());
    node.pass(20);
    assert_eq!(starts(&node), before + 1, "old ones are forgotten");
}

#[test]
fn safe_mode_takes_a_deaf_process_off_the_node_too() {
    let mut node = Node::new();
    node.pass(100);
    (node.ends_when_asked, node.beating) = (false, true);
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
                2 => node.ends_when_asked = false,
                3 => node.die(End::Signal(11)),
                4 => node.die(End::Status(ExitStatus::Again.code())),
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
