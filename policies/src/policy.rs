//! What a policy is: views in, decisions out.
//!
//! A policy orders the tasks that found no idle CPU and belong to no tier that the kernel
//! side serves by itself. It is small, total and deterministic: no I/O, no clock of its own
//! (time comes in as an argument), no allocation per decision. The scheduler's loop calls
//! [`Policy::enqueue`] for each task that becomes runnable or used up its slice, and
//! [`Policy::pick`] whenever the kernel wants more work.

use crate::{MAX_SLICE, MIN_SLICE, Tier, ledger};

/// A span of time, or a point on the kernel's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// From whole microseconds (saturating).
    #[must_use]
    pub const fn from_micros(us: u64) -> Nanos {
        Nanos(us.saturating_mul(1_000))
    }

    /// From whole milliseconds (saturating).
    #[must_use]
    pub const fn from_millis(ms: u64) -> Nanos {
        Nanos(ms.saturating_mul(1_000_000))
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The sum, at most `u64::MAX`.
    #[must_use]
    pub const fn plus(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

/// A runnable thread as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Thread id; unique among live threads, reused after exit.
    pub pid: i32,
    /// Which enqueue this is. Opaque: the policy hands it back, and may see another number
    /// than the kernel's.
    pub enq_cnt: u64,
    /// The tier of the thread's cgroup now.
    pub tier: Tier,
    /// Weight within its tier, 1 to 10000: from its nice value, and from `cpu.weight` of the cgroups that it is
    /// in. A cgroup's weight is divided among its runnable threads. The mean of a tier's runnable threads is about 100; where all of
    /// them are in one cgroup, this is the weight of nice alone, 100 at nice 0.
    pub weight: u32,
    /// CPU time it used since it was last shown to the policy, or since it last slept.
    pub ran: Nanos,
    /// The `vtime` of the last decision about this thread; 0 for a new one. In a tier with a
    /// [`WakeRule`] the kernel side adds what the thread ran since: nanoseconds times 100 / weight.
    pub vtime: u64,
    /// In a tier with a [`WakeRule`]: the largest `vtime` at which a thread of the tier has started
    /// to run so far.
    pub clock: u64,
    /// The policy decided on it since it last had it: what [`TaskView::ran`] says was used on that
    /// decision.
    pub picked: bool,
    /// CPU it last ran on.
    pub cpu: i32,
    /// How many CPUs it may use.
    pub cpus_allowed: u32,
    /// Enqueue flags of the kernel. Opaque: the policy hands them back.
    pub flags: u64,
}

/// "Run this next."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The task as it was enqueued.
    pub task: TaskView,
    /// How long it may run before it is asked to yield; never zero.
    pub slice: Nanos,
    /// A number the kernel keeps for the policy: the task's next [`TaskView::vtime`].
    pub vtime: u64,
}

/// How the kernel side places the woken threads of a tier by itself, by [`TaskView::vtime`].
///
/// A woken thread that finds no idle CPU and none that runs a lower tier takes the CPU of a peer
/// that is ahead of it by more than `granularity` and was not woken itself within the last `slice`;
/// else it waits in the kernel in order of virtual time, among what the policy has decided. What runs
/// longer than `slice`, and is then neither first in that order nor behind the tier's clock, comes to
/// [`Policy::enqueue`].
///
/// On each CPU, preemptions of peers and what they run are bounded: together they use half of the time
/// at most, where a preemption counts as half a `granularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeRule {
    /// How far ahead in virtual time a running thread must be to lose its CPU to a woken one.
    pub granularity: Nanos,
    /// How long a woken thread runs before it is compared with what waits.
    pub slice: Nanos,
    /// How far a thread that slept may be behind its tier's clock: what sleeping can save up.
    pub credit: Nanos,
    /// A woken thread that has waited this long goes before threads of better tiers that the policy
    /// orders, for one slice; zero: it does not. For tiers whose share is too small for their latency.
    pub wait: Nanos,
}

impl WakeRule {
    /// The rule with values that the kernel side can work with, whatever the policy says: a slice of
    /// 100 us to a second, and the rest within ten seconds.
    #[must_use]
    pub fn bounded(self) -> WakeRule {
        const MOST: Nanos = Nanos::from_millis(10_000);
        WakeRule {
            granularity: self.granularity.min(MOST),
            slice: self.slice.clamp(MIN_SLICE, MAX_SLICE),
            credit: self.credit.min(MOST),
            wait: self.wait.min(MOST),
        }
    }

    /// The rule of the shipped policies: a granularity and a slice at the scale of the stock
    /// scheduler's (`base_slice_ns`, 0.7 ms times 1 + log2 of the CPUs, 2.8 ms on eight), and a credit
    /// of one slice of the tier.
    #[must_use]
    pub fn fair(tier: Tier, params: &TierParams) -> WakeRule {
        let slice = ledger::slice(params);
        WakeRule {
            granularity: Nanos::from_micros(700),
            slice: Nanos::from_millis(3).min(Nanos(slice)),
            credit: Nanos(slice),
            wait: match tier {
                Tier::Low => Nanos::from_micros(500),
                Tier::Background => Nanos::from_micros(1_000),
                _ => Nanos(0),
            },
        }
    }
}

/// CPU time that threads of a tier had used when they went to sleep, since the last such report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slept {
    /// By threads that only wakeups had given a CPU.
    pub woken: Nanos,
    /// By threads that the policy had decided on.
    pub picked: Nanos,
    /// How many those were: as many decisions have ended.
    pub turns: u64,
}

/// What the configuration says about one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierParams {
    /// Share of the CPU against the other tiers, 1 to 10000.
    pub weight: u32,
    /// Time slice.
    pub slice: Nanos,
    /// Guaranteed minimum share while the tier has runnable tasks, in per mille, 0 to 1000.
    pub min_share: u32,
    /// Longest wait of a tier whose tasks are runnable before one of them is picked.
    pub max_wait: Nanos,
}

/// One row a tier, indexed by [`Tier::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierTable(pub [TierParams; Tier::COUNT]);

impl TierTable {
    /// The row of `tier`.
    #[must_use]
    pub const fn get(&self, tier: Tier) -> &TierParams {
        &self.0[tier.index()]
    }
}

impl Default for TierTable {
    /// Slices from the tier definitions; each tier weighs about a third of the one above;
    /// every tier is guaranteed 2 % (Normal 5 %), and nothing waits more than a second,
    /// a fifth of the kernel's stall watchdog.
    fn default() -> Self {
        const fn row(weight: u32, slice_ms: u64, min_share: u32, max_wait_ms: u64) -> TierParams {
            TierParams {
                weight,
                slice: Nanos::from_millis(slice_ms),
                min_share,
                max_wait: Nanos::from_millis(max_wait_ms),
            }
        }
        TierTable([
            row(10_000, 5, 50, 100),
            row(3_000, 5, 50, 100),
            row(1_000, 10, 50, 200),
            row(300, 20, 50, 500),
            row(100, 30, 20, 1_000),
            row(30, 5, 20, 1_000),
        ])
    }
}

/// A tier-weighting policy.
pub trait Policy: Send {
    /// Takes over new per-tier parameters in place; queued tasks stay queued.
    fn configure(&mut self, tiers: &TierTable);

    /// A task became runnable, or its slice ended.
    ///
    /// Returns `false`, changing nothing, when the policy holds
    /// [`CAPACITY`](crate::CAPACITY) tasks; the caller then lets the kernel side run the
    /// task in arrival order.
    fn enqueue(&mut self, task: TaskView, now: Nanos) -> bool;

    /// Removes and returns the task to run next; `None` only when nothing is queued
    /// (a policy is work conserving).
    fn pick(&mut self, now: Nanos) -> Option<Decision>;

    /// How the kernel side places woken threads of `tier`; asked after each
    /// [`configure`](Policy::configure). `None`: every thread that finds no CPU at once comes to
    /// [`enqueue`](Policy::enqueue), and its `vtime` is the policy's alone.
    fn wakeups(&self, tier: Tier) -> Option<WakeRule> {
        let _ = tier;
        None
    }

    /// Threads of `tier` went to sleep. With a [`WakeRule`] that and their next wakeup do not pass
    /// [`enqueue`](Policy::enqueue), so their CPU time comes here.
    fn slept(&mut self, tier: Tier, slept: Slept) {
        let _ = (tier, slept);
    }

    /// How many tasks are queued.
    fn len(&self) -> usize;

    /// Whether nothing is queued.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
