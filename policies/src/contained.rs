//! A policy whose faults do not reach the scheduler.

use crate::{
    Decision, Fault, FaultKind, Message, Nanos, Policy, Slept, TaskView, Tier, TierTable, WakeRule,
    arrivals::Arrivals, ledger,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(not(panic = "unwind"))]
compile_error!("a panic that aborts cannot be contained: build with panic = \"unwind\"");

/// The shortest slice that is handed out: what switching costs stays below some percent.
pub const MIN_SLICE: Nanos = Nanos::from_micros(100);

/// The longest slice that is handed out: a fifth of the kernel's stall watchdog.
pub const MAX_SLICE: Nanos = Nanos::from_millis(1_000);

/// A task that has waited for longer goes before the others of its tier, whatever the policy's
/// order in it.
pub const OVERDUE: Nanos = Nanos::from_millis(5_000);

/// What the scheduler's loop holds instead of a bare policy: a [`Policy`] that holds what the
/// trait promises whatever the policy inside does.
///
/// It keeps every task from enqueue to decision. A policy that panics, that answers a task
/// which does not wait or nothing although tasks wait, or that refuses a task below
/// [`CAPACITY`](crate::CAPACITY) is deposed: from that very call on the *built-in order* decides,
/// arrival order with each task for its tier's slice, so no decision and no task is lost. A
/// deposed policy is never called again. What the loop alone can see, such as a policy that
/// is too slow, it reports with [`Contained::depose`]. A policy that never returns, overflows
/// the stack or exhausts memory cannot be contained from inside: that is for the guard, which
/// watches the process.
///
/// No task is forgotten: one that has waited longer than [`OVERDUE`] takes the place of that which
/// the policy answers in its tier, the oldest first, and the two change places. So in a
/// crowd no task waits longer than arrival order would have it, and otherwise none longer
/// than that, as long as its tier is served.
///
/// The policy only decides which task and for how long: the task itself is answered as it
/// was enqueued, and the slice within [`MIN_SLICE`] and [`MAX_SLICE`]. It is not asked when
/// nothing waits. In [`TaskView::enq_cnt`] it sees a number of `Contained`'s own.
///
/// Everything is allocated by [`Contained::new`], some 12 MiB, and nothing is freed before the
/// drop. What was deposed stays in memory until [`Contained::retire`] or
/// [`Contained::replace`] hand it out, since dropping it takes time, and might panic, too.
///
/// # The panic hook
///
/// A contained panic first runs the process's panic hook. The default one writes to standard
/// error, where the loop may block, and with `RUST_BACKTRACE` reads files and maps memory. A
/// scheduler should install one before it attaches that returns at once on the loop's
/// thread and otherwise calls the previous one: the message is in the [`Fault`], to be logged
/// from elsewhere.
pub struct Contained {
    name: &'static str,
    /// In charge as long as there is no fault.
    policy: Option<Box<dyn Policy>>,
    fault: Option<Fault>,
    waiting: Arrivals,
    tiers: TierTable,
    published: [Option<WakeRule>; Tier::COUNT],
    clamped: u64,
}

impl Contained {
    /// `policy`, called `name`, which holds no task and was built with `tiers`.
    #[must_use]
    pub fn new(policy: Box<dyn Policy>, name: &'static str, tiers: &TierTable) -> Self {
        let mut contained = Contained {
            name,
            policy: Some(policy),
            fault: None,
            waiting: Arrivals::new(),
            tiers: *tiers,
            published: [None; Tier::COUNT],
            clamped: 0,
        };
        contained.publish();
        contained
    }

    /// The name of the policy that is in charge, or was last.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Why the policy is no longer in charge.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// How many decisions had a slice outside [`MIN_SLICE`] to [`MAX_SLICE`].
    #[must_use]
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// When the task of `tier` that has waited longest came.
    #[must_use]
    pub fn oldest(&self, tier: Tier) -> Option<Nanos> {
        Some(self.waiting.oldest(tier)?.1)
    }

    /// The built-in order decides from now on. The first fault of a policy is the one kept, and
    /// one that was taken out has none.
    pub fn depose(&mut self, kind: FaultKind) {
        if self.policy.is_some() {
            let policy = self.name;
            self.fault.get_or_insert(Fault { policy, kind });
        }
    }

    /// Takes the policy out; the built-in order decides until the next
    /// [`replace`](Contained::replace).
    ///
    /// For a change of policy where memory holds only one: retire, drop, build, replace. The
    /// allocator of scx_rustland_core has 64 MiB, of which a policy with six lanes takes 33.
    pub fn retire(&mut self) -> Retired {
        Retired(self.policy.take())
    }

    /// Puts `policy`, which holds no task, in charge, and returns the one before.
    ///
    /// The waiting tasks are enqueued to it in arrival order, all in this call. If it fails at
    /// that it is deposed like any other, which [`fault`](Contained::fault) then returns; an
    /// earlier fault is forgotten.
    pub fn replace(&mut self, policy: Box<dyn Policy>, name: &'static str, now: Nanos) -> Retired {
        let before = self.retire();
        self.policy = Some(policy);
        self.name = name;
        self.fault = None;
        // It may have been built before the last change of the parameters.
        let tiers = self.tiers;
        self.configure(&tiers);
        let mut cursor = self.waiting.start();
        while let Some(slot) = self.waiting.next(&mut cursor)
            && self.fault.is_none()
        {
            self.offer(slot, now);
        }
        before
    }

    /// Takes over what the policy says about wakeups. What a deposed one said last stays: the order by
    /// virtual time does not need it.
    fn publish(&mut self) {
        for tier in Tier::ALL {
            let rule = self.call("wakeups", |policy| policy.wakeups(tier));
            if let Some(rule) = rule {
                self.published[tier.index()] = rule.map(WakeRule::bounded);
            }
        }
    }

    /// The only way into the policy: `None` if it is not in charge, or panics.
    fn call<T>(
        &mut self,
        method: &'static str,
        call: impl FnOnce(&mut dyn Policy) -> T,
    ) -> Option<T> {
        if self.fault.is_some() {
            return None;
        }
        let policy = self.policy.as_deref_mut()?;
        // Unwind safe: what a panic leaves behind is only ever dropped.
        match catch_unwind(AssertUnwindSafe(|| call(policy))) {
            Ok(answer) => Some(answer),
            Err(payload) => {
                let message = Message::of_panic(payload);
                self.depose(FaultKind::Panicked { method, message });
                None
            }
        }
    }

    /// Gives the policy the task that waits in `slot`.
    fn offer(&mut self, slot: u32, now: Nanos) {
        let task = self.waiting.ticketed(slot);
        if self.call("enqueue", |policy| policy.enqueue(task, now)) == Some(false) {
            let waiting = self.waiting.len();
            let pid = task.pid;
            self.depose(FaultKind::Refused { pid, waiting });
        }
    }

    /// What the policy decides, if it is in charge and the decision can be followed.
    fn ask(&mut self, now: Nanos) -> Option<Decision> {
        let Some(answer) = self.call("pick", |policy| policy.pick(now))? else {
            let waiting = self.waiting.len();
            self.depose(FaultKind::Idle { waiting });
            return None;
        };
        let Some(slot) = self.waiting.find(&answer.task) else {
            let pid = answer.task.pid;
            self.depose(FaultKind::Unknown { pid });
            return None;
        };
        let overdue = self
            .waiting
            .oldest(self.waiting.get(slot).tier)
            .filter(|(oldest, came)| *oldest != slot && now.since(*came) > OVERDUE);
        let task = match overdue {
            Some((oldest, _)) => self.waiting.remove_instead(slot, oldest),
            None => self.waiting.remove(slot),
        };
        let slice = answer.slice.clamp(MIN_SLICE, MAX_SLICE);
        self.clamped += u64::from(slice != answer.slice);
        let vtime = answer.vtime;
        Some(Decision { task, slice, vtime })
    }

    /// The built-in order. It keeps no virtual time: the task's own goes back unchanged.
    fn in_order(&mut self) -> Option<Decision> {
        let task = self.waiting.pop()?;
        let slice = Nanos(ledger::slice(self.tiers.get(task.tier)));
        Some(Decision {
            task,
            slice: slice.clamp(MIN_SLICE, MAX_SLICE),
            vtime: task.vtime,
        })
    }
}

impl Policy for Contained {
    fn configure(&mut self, tiers: &TierTable) {
        self.tiers = *tiers;
        self.call("configure", |policy| policy.configure(tiers));
        self.publish();
    }

    fn enqueue(&mut self, task: TaskView, now: Nanos) -> bool {
        let Some(slot) = self.waiting.push(task, now) else {
            return false;
        };
        self.offer(slot, now);
        true
    }

    fn pick(&mut self, now: Nanos) -> Option<Decision> {
        if self.is_empty() {
            return None;
        }
        self.ask(now).or_else(|| self.in_order())
    }

    fn wakeups(&self, tier: Tier) -> Option<WakeRule> {
        self.published[tier.index()]
    }

    fn slept(&mut self, tier: Tier, slept: Slept) {
        self.call("slept", |policy| policy.slept(tier, slept));
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.retire();
    }
}

/// A policy that was taken out of [`Contained`], if there was one.
///
/// Its drop frees the policy's memory, and swallows a panic of the policy's own drop (a second
/// one while that unwinds aborts the process, as everywhere). It may be sent to another thread
/// for that.
pub struct Retired(Option<Box<dyn Policy>>);

impl Drop for Retired {
    fn drop(&mut self) {
        if let Some(policy) = self.0.take()
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(policy)))
        {
            // For what it takes care of.
            Message::of_panic(payload);
        }
    }
}

#[cfg(test)]
mod tests;
