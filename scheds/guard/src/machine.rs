//! What the guard does next: a state machine without clock, process or file, so that every
//! way through it can be tested.

use crate::judge::{Limits, Patience, judge};
use infera_control::{EjectKind, ExitStatus, State};
use infera_heartbeat::{Phase, Vitals};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The number of starts within [`HOTPLUG_WITHIN`] that follow at once when CPUs come or go. Each further one waits twice as long
/// as the one before, beginning with the back-off, because each start walks all tasks and a CPU may flap for long.
const HOTPLUGS: usize = 3;
/// See [`HOTPLUGS`].
const HOTPLUG_WITHIN: Duration = Duration::from_secs(60);
/// The longest such wait.
const HOTPLUG_WAIT: Duration = Duration::from_secs(10);
/// How long the stock scheduler's server needs for a task bound to a CPU that a real-time thread keeps: it serves a task 50 ms
/// of each second, at the end of the second.
const SERVED: Duration = Duration::from_millis(1_500);
/// Each time this many steps have been taken against an attached scheduler, the guard also pulls the kernel's own brake.
const BRAKE: u32 = 4;
/// The step at which a process that is not attached is killed.
const PATIENCE: u32 = 10;

const SIGKILL: i32 = 9;

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
    /// How its process ended; set once, in the first look after the end.
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
    /// Add a line to the log and to the history.
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
    kind: EjectKind,
    what: String,
}

impl Cause {
    /// Of a process that ended without being asked to; `None` where that is no eject.
    fn of(end: End) -> Option<Cause> {
        let cause = |kind, what: String| Some(Cause { kind, what });
        match end {
            End::Signal(SIGKILL) => cause(
                EjectKind::Killed,
                "it was killed, by the OOM killer or another process".into(),
            ),
            End::Signal(signal) => cause(EjectKind::Crash, format!("it ended by signal {signal}")),
            End::Status(code) => match ExitStatus::from_code(code) {
                Some(
                    ExitStatus::Done
                    | ExitStatus::Again
                    | ExitStatus::Pause
                    | ExitStatus::Dismissed
                    | ExitStatus::NotStarted,
                ) => None,
                Some(status) if status.is_refusal() => None,
                Some(ExitStatus::Ejected) => cause(
                    EjectKind::Kernel,
                    "the kernel detached it because of something it did".into(),
                ),
                Some(ExitStatus::Crowded) => cause(
                    EjectKind::RealTime,
                    "real-time threads kept a CPU, or all, from every other task".into(),
                ),
                Some(ExitStatus::Unwatched) => cause(
                    EjectKind::Unwatched,
                    "it left because this guard did not run for seconds".into(),
                ),
                Some(ExitStatus::Later) => cause(
                    EjectKind::Passing,
                    "it could not start for a reason that passes".into(),
                ),
                _ => cause(
                    EjectKind::Crash,
                    format!("it ended with exit status {code}"),
                ),
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Now {
    /// No process, until then.
    Down {
        until: u64,
    },
    /// No process, until no source asks for safe mode any more.
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
    kind: EjectKind,
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
    /// Whether the guard's own safe mode is because of ejects, which say something about this build alone.
    latched: bool,
    /// Those that still count, oldest first.
    ejects: VecDeque<Eject>,
    kinds: BTreeMap<EjectKind, u64>,
    /// When it was started again because CPUs came or went, oldest first.
    hotplugs: VecDeque<u64>,
}

impl Machine {
    /// A guard that starts, with the safe modes that were in force when the last one ended, and whether ejects were the cause
    /// of the guard's own.
    pub fn new(settings: Settings, safe_mode: BTreeMap<String, String>, latched: bool) -> Self {
        Machine {
            settings,
            now: Now::Down { until: 0 },
            attached: false,
            ran: 0,
            awake: 0,
            safe_mode,
            stop: false,
            latched,
            ejects: VecDeque::new(),
            kinds: BTreeMap::new(),
            hotplugs: VecDeque::new(),
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

    /// Whether the guard's own safe mode is because of ejects.
    pub fn latched(&self) -> bool {
        self.latched
    }

    /// Ejects since the guard started.
    pub fn ejects(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// The same by kind.
    pub fn eject_kinds(&self) -> &BTreeMap<EjectKind, u64> {
        &self.kinds
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

    /// `source` asks for safe mode: the stock scheduler runs the node.
    pub fn enter_safe_mode(&mut self, source: &str, reason: &str, out: &mut Vec<Action>) {
        let before = self.safe_mode.insert(source.into(), reason.into());
        if before.as_deref() != Some(reason) {
            out.push(Action::Say(format!("safe mode on ({source}): {reason}")));
            out.push(Action::Remember);
        }
    }

    /// `source` does not ask for safe mode any more.
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
            self.latched = false;
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
        match self.now {
            Now::Down { until } => self.wait(until, seen.now, out),
            Now::Safe => {
                if self.stop {
                    self.finish(ExitStatus::SafeMode.code(), out);
                } else if self.safe_mode.is_empty() {
                    self.now = Now::Down { until: seen.now };
                }
            }
            Now::Up { since } => {
                if let Some(why) = self.why_leave(since, seen, out) {
                    out.push(Action::Ask);
                    self.now = Now::Leaving {
                        why,
                        due: seen.now + nanos(self.settings.step),
                        against: 0,
                        steps: 0,
                    };
                }
            }
            Now::Leaving { .. } => self.press(seen, out),
            Now::Finished => {}
        }
    }

    /// There is no process until `until`.
    fn wait(&mut self, until: u64, now: u64, out: &mut Vec<Action>) {
        if self.stop {
            self.finish(0, out);
        } else if !self.safe_mode.is_empty() {
            self.now = Now::Safe;
        } else if now >= until {
            self.attached = false;
            self.now = Now::Up { since: now };
            out.push(Action::Start);
        }
    }

    /// Whether what was started at `since` is to leave the node.
    fn why_leave(&self, since: u64, seen: &Seen, out: &mut Vec<Action>) -> Option<Why> {
        if self.stop {
            return Some(Why::Stop);
        }
        if !self.safe_mode.is_empty() {
            return Some(Why::SafeMode);
        }
        let patience = Patience {
            started: since,
            awake: self.awake,
            now: seen.now,
        };
        let limits = &self.settings.limits;
        let trouble = judge(limits, seen.phase, seen.vitals.as_ref(), patience)?;
        let (kind, what) = (trouble.kind(), trouble.to_string());
        out.push(Action::Say(format!("{what}: taking it off the node")));
        Some(Why::Trouble(Cause { kind, what }))
    }

    /// The next step against what was asked to leave, where that is due.
    fn press(&mut self, seen: &Seen, out: &mut Vec<Action>) {
        let Now::Leaving {
            due,
            against,
            steps,
            ..
        } = &mut self.now
        else {
            return;
        };
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
        match why {
            Some(Why::Stop) => self.finish(0, out),
            Some(Why::SafeMode) => self.now = Now::Safe,
            Some(Why::Trouble(cause)) => self.eject(cause, seen.now, out),
            None => match Cause::of(end) {
                Some(cause) => self.eject(cause, seen.now, out),
                None => self.left(end, seen.now, out),
            },
        }
    }

    /// It ended by itself, for a reason that is no eject.
    fn left(&mut self, end: End, now: u64, out: &mut Vec<Action>) {
        let End::Status(code) = end else { return };
        match ExitStatus::from_code(code) {
            Some(ExitStatus::Done) => {
                out.push(Action::Say("it was asked to stop, and stopped".into()));
                self.finish(0, out);
            }
            Some(ExitStatus::Again) => self.hotplugged(now, out),
            Some(ExitStatus::Pause) => {
                out.push(Action::Say(format!(
                    "real-time threads kept a CPU from a task bound to it for 20 s: the stock scheduler has the node for {} ms, \
                     so that its server serves that task",
                    SERVED.as_millis()
                )));
                self.now = Now::Down {
                    until: now + nanos(SERVED),
                };
            }
            Some(ExitStatus::Dismissed) => {
                let reason = "the scheduler was detached on purpose (sysrq-S or its BPF link)";
                self.enter_safe_mode(GUARD, reason, out);
                self.now = Now::Safe;
            }
            Some(status) if status.is_refusal() => {
                out.push(Action::Say(format!(
                    "scheduler refused to start (exit status {code}): not tried again"
                )));
                self.finish(code, out);
            }
            _ => self.finish(code, out),
        }
    }

    /// CPUs came or went: the plan is made anew by a new start, at once unless that happens often.
    fn hotplugged(&mut self, now: u64, out: &mut Vec<Action>) {
        forget(&mut self.hotplugs, now, HOTPLUG_WITHIN, |at| *at);
        let wait = match self.hotplugs.len().checked_sub(HOTPLUGS) {
            Some(more) => self.back_off(more).min(HOTPLUG_WAIT),
            None => Duration::ZERO,
        };
        self.hotplugs.push_back(now);
        out.push(Action::Say(format!(
            "CPUs came or went: the stock scheduler runs this node, next attempt in {} ms",
            wait.as_millis()
        )));
        self.now = Now::Down {
            until: now + nanos(wait),
        };
    }

    /// The wait before an attempt, given the number of those before it.
    fn back_off(&self, before: usize) -> Duration {
        let doublings = before.min(16) as u32;
        (self.settings.back_off * 2u32.pow(doublings)).min(self.settings.back_off_max)
    }

    fn eject(&mut self, Cause { kind, what }: Cause, now: u64, out: &mut Vec<Action>) {
        *self.kinds.entry(kind).or_default() += 1;
        forget(&mut self.ejects, now, self.settings.within, |eject| {
            eject.at
        });
        self.ejects.push_back(Eject { at: now, kind });
        out.push(Action::Dump(what.clone()));
        let counted = || self.ejects.iter().filter(|eject| eject.kind.is_ours());
        let count = counted().count();
        if kind.is_ours() && count >= self.settings.ejects {
            let first = counted().next();
            let reason = format!(
                "{count} ejects in {} s, the last because {what}",
                (now - first.map_or(now, |eject| eject.at)) / 1_000_000_000
            );
            self.latched = true;
            self.enter_safe_mode(GUARD, &reason, out);
            self.now = Now::Safe;
            return;
        }
        let wait = self.back_off(self.ejects.len() - 1);
        out.push(Action::Say(format!(
            "{what}: the stock scheduler runs this node, next attempt in {} ms",
            wait.as_millis()
        )));
        self.now = Now::Down {
            until: now + nanos(wait),
        };
    }
}

/// Removes the events that are older than `age`.
fn forget<T>(events: &mut VecDeque<T>, now: u64, age: Duration, at: impl Fn(&T) -> u64) {
    while events
        .front()
        .is_some_and(|event| now - at(event) > nanos(age))
    {
        events.pop_front();
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests;
