//! The loop: tasks in from the ring, to the policy, decisions out to the ring.
//!
//! Its thread makes no system call per decision, takes no lock that a helper holds across
//! one, and never allocates per task.

use crate::bpf::{BpfScheduler, DispatchedTask, QueuedTask, RL_CPU_ANY};
use crate::exit_code::Exit;
use crate::stats::Counters;
use crate::vitals::{DEPOSED, Eyes};
use crate::watch::Order;
use anyhow::Result;
use crossbeam::channel::{Receiver, Sender, TryRecvError};
use infera_bpf::{LAT_BUCKETS, LimitsMode, MSG_PICKED, NEVER, Path, unpack_weight};
use infera_heartbeat::Page;
use infera_plan::{Config, Limits, Plan};
use infera_policy::{
    Contained, Decision, Fault, FaultKind, Nanos, Pacing, Policy, Slept, TaskView, Tier,
};
use libbpf_rs::{MapHandle, OpenObject};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// Of a message's flags: the task was woken. The kernel's interface, the same since sched_ext is.
const SCX_ENQ_WAKEUP: u64 = 1;

/// The CPU time of tasks that went to sleep is read this often: a read takes as long as there are CPUs.
const SLEPT_PERIOD: Nanos = Nanos::from_millis(1);

/// The attached scheduler.
pub struct Scheduler<'cb> {
    bpf: BpfScheduler<'cb>,
    policy: Contained,
    pacing: Pacing,
    orders: Receiver<Order>,
    /// To the vitals thread, which logs them.
    faults: Sender<Fault>,
    attached: Nanos,
    cpus: Vec<usize>,
    /// A decision that the ring had no room for.
    held: Option<Decision>,
    /// When the sums of sleepers were last read, and what they were.
    slept_at: Nanos,
    slept: [Slept; Tier::COUNT],
}

/// `CLOCK_MONOTONIC`.
pub fn now() -> Nanos {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on every kernel, `ts` is a valid place to write to, and the
    // vDSO answers without a system call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    Nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

fn view(task: &QueuedTask) -> TaskView {
    let (tier, weight) = unpack_weight(task.weight);
    TaskView {
        pid: task.pid,
        enq_cnt: task.enq_cnt,
        tier: Tier::from_index(tier).unwrap_or(Tier::Normal),
        weight,
        ran: Nanos(task.exec_runtime),
        vtime: task.vtime,
        // Two fields of the crate's message with a meaning of the overlay's: bpf/to_user.bpf.h.
        clock: task.start_ts,
        picked: task.stop_ts & MSG_PICKED != 0,
        cpu: task.cpu,
        cpus_allowed: task.nr_cpus_allowed.min(u64::from(u32::MAX)) as u32,
        flags: task.flags,
    }
}

impl<'cb> Scheduler<'cb> {
    /// Loads the overlay and attaches it. Afterwards this thread cannot map memory, start a
    /// thread or a process.
    ///
    /// # Errors
    ///
    /// The kernel refuses the overlay, lacks memory for it, or another sched_ext scheduler is attached. The crate
    /// panics instead of returning an error where it cannot read the topology or set up the rings: the caller catches
    /// that.
    pub fn attach(
        object: &'cb mut MaybeUninit<OpenObject>,
        policy: Contained,
        config: &Config,
        plan: &Plan,
        (exit_dump_len, verbose): (u32, bool),
        (orders, faults): (Receiver<Order>, Sender<Fault>),
    ) -> Result<Self> {
        let slice = config.tiers.get(Tier::Normal).slice.0;
        let bpf = BpfScheduler::init(
            object,
            None,
            exit_dump_len,
            false,
            // The dispatcher's own lines in the kernel's trace.
            verbose,
            false,
            false,
            slice,
            "infera",
        )?;
        let mut scheduler = Scheduler {
            bpf,
            policy,
            pacing: Pacing::new(&config.tiers, plan.cpus.len()),
            orders,
            faults,
            attached: now(),
            cpus: plan.cpus.iter().map(|cpu| cpu.cpu).collect(),
            held: None,
            slept_at: Nanos(0),
            slept: [Slept::default(); Tier::COUNT],
        };
        scheduler.write_tables(config, plan);
        scheduler.publish();
        Ok(scheduler)
    }

    /// What the thread that watches the overlay needs.
    ///
    /// # Errors
    ///
    /// The process has no file descriptor left for the copies of the program's and the map's.
    pub fn eyes(&self) -> Result<Eyes> {
        Ok(Eyes {
            measure: self
                .bpf
                .skel
                .progs
                .infera_measure
                .as_fd()
                .try_clone_to_owned()?,
            bss: MapHandle::try_from(&self.bpf.skel.maps.bss)?,
            cpus: self.cpus.iter().max().map_or(0, |cpu| cpu + 1),
        })
    }

    /// A handle to the cgroup table for the helper thread.
    ///
    /// # Errors
    ///
    /// The process has no file descriptor left for the copy.
    pub fn cgroup_map(&self) -> Result<MapHandle> {
        Ok(MapHandle::try_from(&self.bpf.skel.maps.infera_cgroups)?)
    }

    /// The overlay's tables and counters: shared memory, no system call.
    fn bss(&mut self) -> &mut crate::bpf_skel::types::bss {
        let data = self.bpf.skel.maps.bss_data.as_mut();
        data.expect("the overlay has a .bss")
    }

    fn write_tables(&mut self, config: &Config, plan: &Plan) {
        let bss = self.bss();
        for tier in Tier::ALL {
            bss.infera_slice_ns[tier.index()] = config.tiers.get(tier).slice.0;
        }
        // Behind System alone, which is served in between: three of its slices.
        bss.infera_bound_ns[Tier::Critical.index()] = 3 * config.tiers.get(Tier::System).slice.0;
        bss.infera_bound_ns[Tier::High.index()] = config.tiers.get(Tier::High).max_wait.0;
        // Of the user tiers together, and of each below the first.
        bss.infera_bound_ns[Tier::Normal.index()] = config.user_bound.0;
        for tier in [Tier::Low, Tier::Background] {
            bss.infera_bound_ns[tier.index()] = config.tiers.get(tier).max_wait.0;
        }
        bss.infera_limits_mode = match config.limits {
            Limits::Strict => LimitsMode::Strict,
            Limits::Off => LimitsMode::Off,
        } as u32;
        // A CPU that is not in the plan, such as one that is offline, is no tier's.
        for cpu in 0..bss.infera_cpu_home.len() {
            let planned = plan.cpus.iter().find(|planned| planned.cpu == cpu);
            bss.infera_cpu_home[cpu] = planned.map_or(0, |planned| planned.home);
            bss.infera_cpu_loan[cpu] = planned.map_or(0, |planned| planned.loan);
            bss.infera_sibling[cpu] = planned.map_or(cpu, |planned| planned.sibling) as u16;
        }
        bss.infera_fenced = u32::from(!plan.fence.is_empty());
        bss.infera_plan_gen = bss.infera_plan_gen.wrapping_add(1);
    }

    /// Hands the overlay what the policy says about wakeups.
    fn publish(&mut self) {
        let rules = Tier::ALL.map(|tier| self.policy.wakeups(tier));
        let bss = self.bss();
        for (tier, rule) in rules.into_iter().enumerate() {
            bss.infera_wake_gran_ns[tier] = rule.map_or(NEVER, |rule| rule.granularity.0);
            bss.infera_wake_slice_ns[tier] = rule.map_or(0, |rule| rule.slice.0);
            bss.infera_wake_credit_ns[tier] = rule.map_or(0, |rule| rule.credit.0);
            bss.infera_wake_wait_ns[tier] = rule.map_or(0, |rule| rule.wait.0);
        }
    }

    fn handle_orders(&mut self, page: &Page) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Reclassify) => {
                    let bss = self.bss();
                    bss.infera_table_gen = bss.infera_table_gen.wrapping_add(1);
                }
                Ok(Order::Configure(order)) => {
                    let (config, plan) = *order;
                    self.pacing.configure(&config.tiers);
                    self.write_tables(&config, &plan);
                }
                Ok(Order::InForce(generation)) => page.assigned(generation),
                Ok(Order::Report(reply)) => {
                    // One slot for one answer, allocated by the reader: nothing to wait for here.
                    let _ = reply.try_send(self.counters());
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// The figures since attach.
    fn counters(&self) -> Counters {
        let bss = self
            .bpf
            .skel
            .maps
            .bss_data
            .as_ref()
            .expect("the overlay has a .bss");
        let mut counters = Counters::zero(self.attached, now());
        for &cpu in &self.cpus {
            for tier in 0..Tier::COUNT {
                let row = &mut counters.tiers[tier];
                row.cpu_ns += bss.infera_cpu_time[cpu][tier];
                for path in Path::ALL {
                    row.paths[path as usize] += bss.infera_paths[cpu][tier][path as usize];
                }
                row.throttled += bss.infera_throttled[cpu][tier].waits;
                row.throttled_ns += bss.infera_throttled[cpu][tier].ns;
                for bucket in 0..LAT_BUCKETS {
                    row.latency[bucket] += bss.infera_latency[cpu][tier][bucket];
                }
            }
            counters.guaranteed += bss.infera_guaranteed[cpu];
        }
        counters.limit_periods = bss.infera_limit_periods;
        counters.limit_throttled = bss.infera_limit_throttled;
        counters.limits_refused = bss.infera_limits_refused;
        counters.weights_refused = bss.infera_weights_refused;
        counters.cancelled = bss.nr_cancel_dispatches;
        counters.congested = bss.nr_sched_congested;
        counters.waiting = self.policy.len() as u64;
        counters
    }

    /// Sends a decision; `false` when the ring is full.
    fn send(&mut self, decision: &Decision) -> bool {
        let sent = self.bpf.dispatch_task(&DispatchedTask {
            pid: decision.task.pid,
            cpu: RL_CPU_ANY,
            flags: decision.task.flags,
            slice_ns: decision.slice.0.max(1),
            vtime: decision.vtime,
            enq_cnt: decision.task.enq_cnt,
        });
        if sent.is_err() {
            return false;
        }
        // After the decision itself: a CPU that sees the count finds it in the ring.
        fence(Ordering::Release);
        self.bss().infera_sent += 1;
        true
    }

    /// A crowd gets shorter slices, as a configuration of the policy.
    fn fit_slices(&mut self) {
        if let Some(tiers) = self.pacing.fit(self.policy.len()) {
            self.policy.configure(&tiers);
            self.publish();
        }
    }

    /// Hands the policy what tasks had used when they went to sleep.
    fn settle_sleepers(&mut self, now: Nanos) {
        if now.since(self.slept_at) < SLEPT_PERIOD {
            return;
        }
        self.slept_at = now;
        let mut sums = [Slept::default(); Tier::COUNT];
        let data = self.bpf.skel.maps.bss_data.as_ref();
        let bss = data.expect("the overlay has a .bss");
        for &cpu in &self.cpus {
            for (tier, sum) in sums.iter_mut().enumerate() {
                let row = &bss.infera_slept[cpu][tier];
                sum.woken.0 += row.woken_ns;
                sum.picked.0 += row.picked_ns;
                sum.turns += row.picked;
            }
        }
        for tier in Tier::ALL {
            let (sum, before) = (sums[tier.index()], self.slept[tier.index()]);
            if sum != before {
                let slept = Slept {
                    woken: sum.woken.since(before.woken),
                    picked: sum.picked.since(before.picked),
                    turns: sum.turns.saturating_sub(before.turns),
                };
                self.policy.slept(tier, slept);
            }
        }
        self.slept = sums;
    }

    /// Takes in what has come; returns how many of it were woken.
    fn receive(&mut self, now: Nanos) -> u64 {
        let mut woken = 0;
        while let Ok(Some(task)) = self.bpf.dequeue_task() {
            let task = view(&task);
            woken += u64::from(task.flags & SCX_ENQ_WAKEUP != 0);
            if !self.policy.enqueue(task, now) {
                // More tasks than the policy was built for: arrival order for this one.
                let slice = Nanos::from_millis(5);
                self.held = Some(Decision {
                    task,
                    slice,
                    vtime: task.vtime,
                });
                break;
            }
        }
        woken
    }

    /// Publishes to the overlay that a round begins: it takes in all that has come until now.
    fn begin_round(&mut self) {
        let bss = self.bss();
        bss.infera_round_began = bss.infera_round_began.wrapping_add(1);
        fence(Ordering::SeqCst);
    }

    /// Publishes to the overlay that the round has ended, so that the policy does not count as late.
    fn end_round(&mut self) {
        fence(Ordering::SeqCst);
        let bss = self.bss();
        bss.infera_round_ended = bss.infera_round_began;
    }

    fn set_idle(&mut self, idle: bool) {
        self.bss().infera_sched_idle = u32::from(idle);
    }

    /// One round; returns how many calls the policy had.
    fn round(&mut self, now: Nanos) -> u64 {
        let before = self.policy.len();
        self.settle_sleepers(now);
        let woken = match self.held {
            None => self.receive(now),
            Some(_) => 0,
        };
        self.fit_slices();
        let received = self.policy.len() - before;
        let ahead = self.bss().infera_run_depth;
        let mut round = self.pacing.round(ahead, woken);
        while round.wants() {
            let Some(decision) = self.held.take().or_else(|| self.policy.pick(now)) else {
                break;
            };
            if !self.send(&decision) {
                self.held = Some(decision);
                break;
            }
            round.sent(decision.task.flags & SCX_ENQ_WAKEUP != 0);
        }
        received as u64 + round.decided()
    }

    /// Gives the CPU away until there is work.
    fn rest(&mut self) {
        let waiting = self.policy.len() + usize::from(self.held.is_some());
        // Distinguishes a yield with nothing left to do from an interruption with work in hand.
        self.set_idle(true);
        self.bpf.notify_complete(waiting as u64);
        self.set_idle(false);
    }

    /// Schedules until asked to stop or detached.
    pub fn run(&mut self, page: &Page) {
        while !self.bpf.exited() {
            self.handle_orders(page);
            self.begin_round();
            let began = now();
            let calls = self.round(began);
            let took = now().since(began);
            if let Some(took) = self.pacing.too_slow(took, calls) {
                self.policy.depose(FaultKind::Slow { took });
            }
            if self.policy.fault().is_some() && !DEPOSED.load(Ordering::Relaxed) {
                DEPOSED.store(true, Ordering::Relaxed);
                self.report_fault();
            }
            self.end_round();
            page.round(Tier::ALL.map(|tier| self.policy.oldest(tier).map_or(0, |came| came.0)));
            self.rest();
        }
    }

    /// Has a helper say why the policy no longer decides: logging may wait.
    fn report_fault(&self) {
        if let Some(fault) = self.policy.fault() {
            let _ = self.faults.try_send(fault.clone());
        }
    }

    /// How the kernel ended it.
    pub fn exit(&self) -> Exit {
        let maps = &self.bpf.skel.maps;
        let data = maps.data_data.as_ref().expect("the overlay has .data");
        let bss = maps.bss_data.as_ref().expect("the overlay has a .bss");
        Exit {
            kind: data.uei.kind,
            code: data.uei.exit_code,
            realtime_held: Duration::from_nanos(bss.infera_realtime_held),
        }
    }

    /// Whether the kernel or a signal ended it already.
    pub fn exited(&mut self) -> bool {
        self.bpf.exited()
    }

    /// Detaches, and reports what the kernel has to say.
    ///
    /// # Errors
    ///
    /// The kernel had ended the scheduler because of an error, a stall or sysrq-S: the error has its reason. The
    /// scheduler is detached in this case, too.
    pub fn detach(mut self) -> Result<()> {
        self.bpf.shutdown_and_report()?;
        Ok(())
    }
}
