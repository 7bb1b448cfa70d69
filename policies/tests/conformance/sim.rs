//! A deterministic machine in virtual time: CPUs, tasks that run and sleep, one policy.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use infera_policy::{Nanos, Pacing, Policy, Slept, TaskView, Tier, TierTable};

pub const MS: u64 = 1_000_000;
pub const SEC: u64 = 1_000 * MS;

/// How a task behaves: run for `burst`, sleep for `sleep`, again and again.
#[derive(Clone, Copy)]
pub struct Job {
    pub tier: Tier,
    pub weight: u32,
    /// CPU nanoseconds between sleeps.
    pub burst: u64,
    /// Nanoseconds of sleep; at 0 it yields and stays runnable.
    pub sleep: u64,
    /// Exits after its first burst; a new task with the same behaviour takes its place.
    pub vanishes: bool,
}

impl Job {
    pub fn hog(tier: Tier) -> Job {
        Job {
            tier,
            weight: 100,
            burst: u64::MAX,
            sleep: 0,
            vanishes: false,
        }
    }
}

struct Task {
    job: Job,
    view: TaskView,
    left: u64,
    ran_total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Stop { cpu: usize, task: usize, ran: u64 },
}

pub struct Sim {
    pub policy: Box<dyn Policy>,
    /// What the scheduler's loop does about crowds, where that is simulated.
    pacing: Option<Pacing>,
    cpus: usize,
    pub now: u64,
    tasks: Vec<Task>,
    idle: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    seq: u64,
    /// CPU time each tier used since the last [`Sim::reset`].
    pub used: [u64; Tier::COUNT],
    /// The longest that a tier with queued tasks was not picked from.
    pub longest_wait: [u64; Tier::COUNT],
    /// The longest that one task was queued.
    pub longest_task_wait: u64,
    queued: [usize; Tier::COUNT],
    waiting_since: [u64; Tier::COUNT],
    enqueued_at: BTreeMap<i32, u64>,
    /// The largest virtual time at which a task of each tier has started.
    clock: [u64; Tier::COUNT],
    pub picks: u64,
    /// (time, pid, slice, vtime) of every decision, when tracing.
    pub trace: Option<Vec<(u64, i32, u64, u64)>>,
}

impl Sim {
    pub fn new(policy: Box<dyn Policy>, cpus: usize, jobs: &[Job]) -> Sim {
        let mut sim = Sim {
            policy,
            pacing: None,
            cpus,
            now: SEC,
            tasks: Vec::new(),
            idle: (0..cpus).rev().collect(),
            events: BinaryHeap::new(),
            seq: 0,
            used: [0; Tier::COUNT],
            longest_wait: [0; Tier::COUNT],
            longest_task_wait: 0,
            queued: [0; Tier::COUNT],
            waiting_since: [0; Tier::COUNT],
            enqueued_at: BTreeMap::new(),
            clock: [0; Tier::COUNT],
            picks: 0,
            trace: None,
        };
        for job in jobs {
            sim.add(*job);
        }
        sim
    }

    /// The loop's pacing acts from now on.
    pub fn paced(&mut self, tiers: &TierTable) {
        self.pacing = Some(Pacing::new(tiers, self.cpus));
    }

    pub fn add(&mut self, job: Job) {
        let task = self.tasks.len();
        self.tasks.push(Task {
            job,
            left: job.burst,
            ran_total: 0,
            view: TaskView {
                pid: task as i32 + 1,
                enq_cnt: 0,
                tier: job.tier,
                weight: job.weight,
                ran: Nanos(0),
                vtime: 0,
                clock: 0,
                picked: false,
                cpu: 0,
                cpus_allowed: 1,
                flags: 0,
            },
        });
        self.schedule(self.now, Event::Wake(task));
    }

    /// Tasks that vanish stop being replaced, and exit after their next burst.
    pub fn stop_replacing(&mut self) {
        for task in &mut self.tasks {
            if task.job.vanishes {
                task.job.sleep = u64::MAX;
            }
        }
    }

    /// Starts measuring anew.
    pub fn reset(&mut self) {
        self.used = [0; Tier::COUNT];
        self.longest_wait = [0; Tier::COUNT];
        self.longest_task_wait = 0;
        for task in &mut self.tasks {
            task.ran_total = 0;
        }
    }

    /// CPU time of each task since the last reset, in the order they were added.
    pub fn used_by_task(&self) -> Vec<u64> {
        self.tasks.iter().map(|task| task.ran_total).collect()
    }

    /// Each tier's share of the CPU time used since the last reset.
    pub fn shares(&self) -> [f64; Tier::COUNT] {
        let total: u64 = self.used.iter().sum();
        self.used.map(|used| used as f64 / total.max(1) as f64)
    }

    pub fn run_for(&mut self, span: u64) {
        let end = self.now + span;
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            match event {
                Event::Wake(task) => self.enqueue(task),
                Event::Stop { cpu, task, ran } => self.stop(cpu, task, ran),
            }
            self.fill_cpus();
        }
        self.now = end;
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((at, self.seq, event)));
    }

    fn enqueue(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.view.enq_cnt += 1;
        let tier = task.view.tier.index();
        task.view.clock = self.clock[tier];
        if self.queued[tier] == 0 {
            self.waiting_since[tier] = self.now;
        }
        self.queued[tier] += 1;
        self.enqueued_at.insert(task.view.pid, self.now);
        assert!(self.policy.enqueue(task.view, Nanos(self.now)));
        task.view.ran = Nanos(0);
        task.view.picked = false;
    }

    fn stop(&mut self, cpu: usize, index: usize, ran: u64) {
        self.idle.push(cpu);
        let task = &mut self.tasks[index];
        self.used[task.view.tier.index()] += ran;
        task.ran_total += ran;
        task.view.ran = Nanos(task.view.ran.0 + ran);
        let by_vtime = self.policy.wakeups(task.view.tier).is_some();
        if by_vtime {
            task.view.vtime += ran * 100 / u64::from(task.view.weight);
        }
        if task.left != u64::MAX {
            task.left -= ran;
        }
        if task.left > 0 {
            self.enqueue(index);
            return;
        }
        task.left = task.job.burst;
        let sleep = task.job.sleep;
        if task.job.vanishes {
            if sleep == u64::MAX {
                return;
            }
            // A new task: nothing of the old one comes back to the policy.
            task.view.vtime = 0;
            task.view.ran = Nanos(0);
            task.view.picked = false;
        }
        if sleep > 0 && by_vtime && !task.job.vanishes {
            let slept = Slept {
                woken: Nanos(0),
                picked: task.view.ran,
                turns: 1,
            };
            task.view.ran = Nanos(0);
            task.view.picked = false;
            self.policy.slept(task.view.tier, slept);
        }
        if sleep == 0 {
            self.enqueue(index);
        } else {
            self.schedule(self.now.saturating_add(sleep), Event::Wake(index));
        }
    }

    fn fill_cpus(&mut self) {
        let waiting = self.policy.len();
        if let Some(tiers) = self.pacing.as_mut().and_then(|pacing| pacing.fit(waiting)) {
            self.policy.configure(&tiers);
        }
        while let Some(cpu) = self.idle.pop() {
            let Some(decision) = self.policy.pick(Nanos(self.now)) else {
                self.idle.push(cpu);
                assert_eq!(self.queued.iter().sum::<usize>(), 0, "not work conserving");
                break;
            };
            assert!(decision.slice.0 > 0);
            let tier = decision.task.tier.index();
            let waited = self.now - self.waiting_since[tier];
            self.longest_wait[tier] = self.longest_wait[tier].max(waited);
            self.waiting_since[tier] = self.now;
            self.queued[tier] -= 1;
            let pid = decision.task.pid;
            let since = self.enqueued_at.remove(&pid).expect("was queued");
            self.longest_task_wait = self.longest_task_wait.max(self.now - since);
            self.picks += 1;
            if let Some(trace) = &mut self.trace {
                trace.push((self.now, pid, decision.slice.0, decision.vtime));
            }
            let index = pid as usize - 1;
            let task = &mut self.tasks[index];
            assert_eq!(task.view.enq_cnt, decision.task.enq_cnt);
            task.view.vtime = decision.vtime;
            task.view.picked = true;
            let clock = &mut self.clock[tier];
            *clock = (*clock).max(decision.vtime);
            let ran = decision.slice.0.min(task.left);
            self.schedule(
                self.now + ran,
                Event::Stop {
                    cpu,
                    task: index,
                    ran,
                },
            );
        }
        assert_eq!(self.policy.len(), self.queued.iter().sum::<usize>());
    }
}
