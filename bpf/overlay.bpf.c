/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The infera overlay: tiers, fences and preemption around scx_rustland_core's dispatcher.
 *
 * The crate generates main.bpf.c, whose callbacks send runnable tasks to user space and
 * bring decisions back. Redefining its three declaration macros turns those callbacks into
 * plain functions; the callbacks registered with the kernel are the ones below. They do the
 * tier work and use the crate's functions and maps for the rest. Nothing here is a policy:
 * user space fills the tables, the overlay executes them.
 *
 * How a task flows:
 *
 *   wakeup -> idle CPU its tier may use?  -> that CPU, at once
 *          -> System, Critical, High?     -> the CPU that runs the lowest tier, at once;
 *                                            no lower one runs: its tier's queue
 *          -> Normal, Low, Background     -> ring -> policy in Rust -> ring -> run queue,
 *                                            and the CPU that runs a lower tier
 *
 *   a CPU looking for work -> tier queues, best first -> scheduler process when it has
 *          work -> run queue; unless a lower queue has waited for longer than its bound,
 *          which then goes first, once.
 */
#include <scx/common.bpf.h>
#include "overlay.h"

#undef BPF_STRUCT_OPS
#undef BPF_STRUCT_OPS_SLEEPABLE
#undef SCX_OPS_DEFINE
#define BPF_STRUCT_OPS(name, args...) static __attribute__((unused)) name(args)
#define BPF_STRUCT_OPS_SLEEPABLE(name, args...) static __attribute__((unused)) name(args)
#define SCX_OPS_DEFINE(name, ...) extern int __unused_##name
#include "main.bpf.c"
#undef BPF_STRUCT_OPS
#undef BPF_STRUCT_OPS_SLEEPABLE
#undef SCX_OPS_DEFINE
#define BPF_STRUCT_OPS(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define BPF_STRUCT_OPS_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)
#define SCX_OPS_DEFINE(name, ...) SEC(".struct_ops.link") struct sched_ext_ops name = { __VA_ARGS__ }

#include "tables.bpf.h"
#include "state.bpf.h"
#include "tier.bpf.h"
#include "place.bpf.h"
#include "queue.bpf.h"
#include "alive.bpf.h"

/*
 * Wakeup: an idle CPU, or one taken from a lower tier; the task then goes straight to that
 * CPU and ops.enqueue() is not called.
 */
s32 BPF_STRUCT_OPS(infera_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	s32 this_cpu = bpf_get_smp_processor_id(), cpu;
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();
	u32 tier;

	if (!bpf_cpumask_test_cpu(prev_cpu, p->cpus_ptr))
		prev_cpu = bpf_cpumask_test_cpu(this_cpu, p->cpus_ptr) ?
			   this_cpu : bpf_cpumask_first(p->cpus_ptr);
	if (is_usersched_task(p) || !t)
		return prev_cpu;

	if (wake_flags & SCX_WAKE_TTWU)
		t->woke_at = now;
	tier = task_tier(p, t);
	/* Decided work goes before a newcomer of the same tiers. */
	if (tier >= TIER_NORMAL && waiting(&run_queue, RUN_DSQ, now))
		return prev_cpu;
	if (tier < TIER_NORMAL) {
		tier = served_as(p, tier);
		if (tier == NR_TIERS)
			return prev_cpu;
	}
	cpu = pick_idle(p, prev_cpu, tier);
	if (cpu >= 0) {
		claim(cpu, tier);
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_of(tier), 0);
		count_path(this_cpu, tier, PATH_IDLE);
		return cpu;
	}
	/* Whether a user tier takes somebody's CPU is decided with everything else about it. */
	if (tier >= TIER_NORMAL)
		return prev_cpu;
	cpu = pick_victim(p, prev_cpu, tier);
	if (cpu >= 0) {
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice_of(tier), SCX_ENQ_PREEMPT);
		count_path(this_cpu, tier, PATH_PREEMPT);
		return cpu;
	}
	return prev_cpu;
}

/* Sends @p to the policy; when the ring is full, to the run queue in arrival order. */
static void queue_to_user(struct task_struct *p, struct infera_task *t, u32 tier,
			  s32 prev_cpu, u64 enq_flags)
{
	struct queued_task_ctx *msg;
	struct task_ctx *tctx = try_lookup_task_ctx(p);

	msg = tctx ? bpf_ringbuf_reserve(&queued, sizeof(*msg), 0) : NULL;
	if (!msg) {
		sched_congested(p);
		if (is_pinned(p))
			queue_own(p, prev_cpu, tier, slice_of(tier), enq_flags);
		else
			queue_decided(p, slice_of(tier), enq_flags, clock_ns(), 0);
		count_path(bpf_get_smp_processor_id(), tier, PATH_FULL);
		return;
	}
	t->queued_at = clock_ns();
	/* What user space reads of the crate's message; its name and times cost more than the rest. */
	msg->pid = p->pid;
	msg->cpu = prev_cpu;
	msg->nr_cpus_allowed = p->nr_cpus_allowed;
	msg->flags = enq_flags;
	msg->start_ts = 0;
	msg->stop_ts = 0;
	/* CPU time on every path since the policy last saw the task, not since it slept. */
	msg->exec_runtime = t->ran;
	/* The message has no field for it: the tier travels above the weight (1..10000). */
	msg->weight = p->scx.weight | (u64)tier << 32;
	msg->vtime = t->vtime;
	msg->enq_cnt = ++tctx->enq_cnt;
	msg->comm[0] = 0;
	t->ran = 0;
	/* Nobody sleeps on the ring: the scheduler process is given a CPU when there is work. */
	bpf_ringbuf_submit(msg, BPF_RB_NO_WAKEUP);
	__sync_fetch_and_add(&nr_queued, 1);
	if (!sched_wanted_at)
		sched_wanted_at = clock_ns();
}

/* The rest of a slice that is worth a switch. */
#define MIN_REST_NS	(100 * 1000ULL)

/*
 * A task that lost its CPU to a better tier goes on with the rest of its slice: that was decided
 * already, and asking again would cost the wakeup that took the CPU.
 */
static bool resume(struct task_struct *p, struct infera_task *t, u32 tier, u64 enq_flags)
{
	u64 rest = t->rest;

	t->rest = 0;
	if (rest < MIN_REST_NS || is_pinned(p) || served_as(p, tier) == NR_TIERS)
		return false;
	t->queued_at = t->run_at;
	queue_decided(p, rest, enq_flags, t->queued_at, REST_LEAD_NS);
	return true;
}

/* A task of a tier that the kernel side serves. */
static void enqueue_protected(struct task_struct *p, struct infera_task *t, u32 tier,
			      s32 prev_cpu, u64 enq_flags)
{
	/* Woken or moved here, not put off this CPU. */
	bool arrives = bpf_get_current_task_btf() != p, pinned = is_pinned(p);
	struct cpu_ctx *c = lookup_cpu(prev_cpu);
	u64 slice = slice_of(tier);
	s32 cpu = NO_CPU;
	u32 served;

	t->queued_at = clock_ns();
	served = served_as(p, tier);
	if (served == NR_TIERS) {
		queue_own(p, prev_cpu, tier, slice, enq_flags);
		scx_bpf_kick_cpu(prev_cpu, SCX_KICK_IDLE);
		return;
	}
	tier = served;
	if (pinned) {
		if (arrives && scx_bpf_test_and_clear_cpu_idle(prev_cpu)) {
			claim(prev_cpu, tier);
			scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | prev_cpu, slice, enq_flags);
			scx_bpf_kick_cpu(prev_cpu, SCX_KICK_IDLE);
			count_path(prev_cpu, tier, PATH_IDLE);
			return;
		}
		if (arrives && c && (infera_preempts & TIER_BIT(tier)) && c->tier >= preempts_from(tier)) {
			claim(prev_cpu, tier);
			scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | prev_cpu, slice,
					   enq_flags | SCX_ENQ_PREEMPT);
			count_path(prev_cpu, tier, PATH_PREEMPT);
			return;
		}
		queue_tier(p, tier, slice, enq_flags, t->queued_at);
		scx_bpf_kick_cpu(prev_cpu, SCX_KICK_IDLE);
		count_path(prev_cpu, tier, PATH_QUEUE);
		return;
	}

	/*
	 * Either no CPU was found at the wakeup, or the slice ended, or a better tier took
	 * the CPU. The task waits in its tier's queue, which every CPU of the tier serves;
	 * whoever is idle or runs the lowest tier is told to come.
	 */
	queue_tier(p, tier, slice, enq_flags, t->queued_at);
	count_path(bpf_get_smp_processor_id(), tier, PATH_QUEUE);
	cpu = pick_idle(p, prev_cpu, tier);
	if (cpu >= 0) {
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return;
	}
	cpu = pick_victim(p, prev_cpu, tier);
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}

/*
 * The scheduler process left its CPU. The crate lets it run again when there are messages
 * for it, which is right after it yielded; but when it slept, or was interrupted, it has
 * something to go on with: attaching alone sleeps several times, locking its memory.
 */
static void enqueue_scheduler(struct task_struct *p, s32 prev_cpu, u64 enq_flags)
{
	s32 cpu;

	rustland_enqueue(p, enq_flags);
	if (infera_sched_idle && !(enq_flags & SCX_ENQ_WAKEUP))
		return;
	set_usersched_needed();
	if (!sched_wanted_at)
		sched_wanted_at = clock_ns();
	cpu = pick_idle(p, prev_cpu, TIER_SYSTEM);
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
}

void BPF_STRUCT_OPS(infera_enqueue, struct task_struct *p, u64 enq_flags)
{
	s32 prev_cpu = scx_bpf_task_cpu(p), cpu;
	struct infera_task *t = lookup_task(p);
	u32 tier;

	if (is_usersched_task(p)) {
		enqueue_scheduler(p, prev_cpu, enq_flags);
		return;
	}
	if (!t) {
		rustland_enqueue(p, enq_flags);
		return;
	}
	tier = task_tier(p, t);
	/* A task with one CPU to go to does not pass infera_select_cpu. */
	if ((enq_flags & SCX_ENQ_WAKEUP) && is_pinned(p))
		t->woke_at = clock_ns();
	if (tier < TIER_NORMAL) {
		enqueue_protected(p, t, tier, prev_cpu, enq_flags);
		return;
	}
	if (!resume(p, t, tier, enq_flags))
		queue_to_user(p, t, tier, prev_cpu, enq_flags);
	/*
	 * An idle CPU that may run it fetches the scheduler, and then the task. Not only on
	 * a wakeup: at attach every runnable task comes here while other CPUs idle.
	 */
	cpu = is_pinned(p) ? prev_cpu : pick_idle(p, prev_cpu, tier);
	if (cpu >= 0) {
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return;
	}
	/* Or one that runs a lower tier, lest the decision wait for the end of a slice. */
	if (enq_flags & SCX_ENQ_WAKEUP) {
		s32 victim = pick_victim(p, prev_cpu, tier);
		struct cpu_ctx *c = lookup_cpu(victim);

		if (c) {
			c->summoned = 1;
			scx_bpf_kick_cpu(victim, SCX_KICK_PREEMPT);
		}
	}
}

/* Executes one decision of user space. */
static long take_decision(struct bpf_dynptr *dynptr, void *context)
{
	const struct dispatched_task_ctx *d = bpf_dynptr_data(dynptr, 0, sizeof(*d));
	s32 this_cpu = bpf_get_smp_processor_id(), cpu;
	struct cpu_ctx *c = lookup_cpu(this_cpu);
	u64 slice, kick = SCX_KICK_IDLE, lead;
	struct infera_task *t;
	struct task_struct *p;
	struct task_ctx *tctx;
	bool own;
	u32 tier;

	if (!d || !c)
		return 0;
	/* Gone meanwhile: nothing to run. */
	p = bpf_task_from_pid(d->pid);
	if (!p)
		return 0;
	tctx = try_lookup_task_ctx(p);
	t = lookup_task(p);
	if (!tctx || !t)
		goto out;
	cpu = scx_bpf_task_cpu(p);
	tier = t->tier & (TIER_SLOTS - 1);
	slice = d->slice_ns ?: slice_of(tier);
	t->vtime = d->vtime;
	lead = d->flags & SCX_ENQ_WAKEUP ? WOKEN_LEAD_NS : 0;

	/* A pinned task waits where it can run; so does one whose CPUs are all fenced. */
	own = is_pinned(p) || served_as(p, tier) == NR_TIERS;
	if (own)
		queue_own(p, cpu, tier, slice, d->flags);
	else
		queue_decided(p, slice, d->flags, clock_ns(), lead);
	/* Dequeued since: another enqueue follows or followed. */
	if (tctx->enq_cnt > d->enq_cnt) {
		scx_bpf_dispatch_cancel();
		__sync_fetch_and_add(&nr_cancel_dispatches, 1);
		goto out;
	}
	__sync_fetch_and_add(&nr_user_dispatches, 1);
	count_path(this_cpu, tier, PATH_USER);
	if (!own)
		cpu = pick_idle(p, cpu, tier);
	/* A woken task need not wait for the slice of a lower tier; nor for this CPU, which is free. */
	if (cpu < 0 && lead) {
		if (c->free && may_use(this_cpu, tier) && bpf_cpumask_test_cpu(this_cpu, p->cpus_ptr)) {
			c->free = 0;
			goto out;
		}
		cpu = pick_victim(p, scx_bpf_task_cpu(p), tier);
		kick = SCX_KICK_PREEMPT;
	}
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, kick);
out:
	bpf_task_release(p);
	return !scx_bpf_dispatch_nr_slots();
}

/* Gives the CPU to the scheduler process, if it is in its queue; *@pending is then seen to. */
static bool serve_scheduler(bool *pending)
{
	if (!*pending || !scx_bpf_dsq_move_to_local(SCHED_DSQ, 0))
		return false;
	*pending = false;
	return true;
}

/* Gives @cpu to the next task that can run nowhere else. */
static bool serve_own(s32 cpu, struct cpu_ctx *c, u64 now)
{
	struct task_struct *p;
	u64 turn = 0;

	if (!waiting(&c->own, cpu_to_dsq(cpu), now))
		return false;
	bpf_for_each(scx_dsq, p, cpu_to_dsq(cpu), 0) {
		turn = p->scx.dsq_vtime;
		break;
	}
	if (!scx_bpf_dsq_move_to_local(cpu_to_dsq(cpu), 0))
		return false;
	if (turn > c->turn)
		c->turn = turn;
	c->own_at = now;
	c->own_ran = 1;
	return true;
}

/* Gives @cpu to the next decided task. */
static bool serve_decided(s32 cpu, struct cpu_ctx *c, u64 now)
{
	if (!may_use(cpu, TIER_NORMAL) || !take_first(&run_queue, RUN_DSQ, now))
		return false;
	c->user_at = now;
	c->own_ran = 0;
	return true;
}

/*
 * Work of the user tiers for @cpu: the scheduler that decides; then its own queue and the run
 * queue in turns, so that neither keeps the other away.
 */
static bool serve_user(s32 cpu, struct cpu_ctx *c, bool *pending, u64 now)
{
	bool soon = c->summoned || !waiting(&run_queue, RUN_DSQ, now) ||
		    (sched_wanted_at && time_delta(now, sched_wanted_at) >= NSEC_PER_SEC / 1000);

	c->summoned = 0;
	if (soon && serve_scheduler(pending))
		return true;
	if (c->own_ran && serve_decided(cpu, c, now))
		return true;
	return serve_own(cpu, c, now) || serve_decided(cpu, c, now) || serve_scheduler(pending);
}

/* Adds what @p has used since the last time to its own and its tier's account. */
static void charge(struct task_struct *p, struct infera_task *t, s32 cpu, u64 now)
{
	u32 tier = is_usersched_task(p) ? TIER_SYSTEM : t->tier;
	u64 used = t->run_at ? time_delta(now, t->run_at) : 0;

	t->run_at = now;
	t->ran += used;
	infera_cpu_time[cpu & (MAX_CPUS - 1)][tier & (TIER_SLOTS - 1)] += used;
}

/*
 * Lets @prev go on for another slice, if it still wants to and may be on @cpu. At a slice's
 * end it is in no queue yet, so it must be weighed against the queues here.
 */
static bool keep(struct task_struct *prev, struct infera_task *t, s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	/* Never NULL here, which 7.2's verifier does not see. */
	if (!prev || (!is_pinned(prev) && !may_use(cpu, tier)))
		return false;
	scx_bpf_task_set_slice(prev, slice_of(tier));
	/* It may go on like this for minutes: its account must not wait until it stops. */
	charge(prev, t, cpu, now);
	t->until = now + slice_of(tier);
	if (tier > TIER_NORMAL)
		lower_ran_at = now;
	/* Neither a guaranteed turn nor a claim that led to nothing is for this one. */
	if (c)
		c->tier = tier;
	return true;
}

/* A CPU needs work. */
void BPF_STRUCT_OPS(infera_dispatch, s32 cpu, struct task_struct *prev)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	bool pending, owed;
	struct infera_task *t = NULL;
	u64 now = clock_ns();
	u32 tier = NR_TIERS;	/* of @prev, if it wants to go on */

	if (!c)
		return;
	c->free = !prev || !is_queued(prev) || is_usersched_task(prev);
	/* -EBUSY when another CPU drains: it takes everything. */
	bpf_user_ringbuf_drain(&dispatched, take_decision, NULL, BPF_RB_NO_WAKEUP);
	pending = usersched_has_pending_tasks();

	/* Always looked at: infera_measure, which finds what was missed in the others, waits here. */
	if (scx_bpf_dsq_move_to_local(TIER_DSQ(TIER_SYSTEM), 0))
		goto out;

	/*
	 * The wait bounds. A fenced CPU owes nothing to the run queue, only to tasks that
	 * can run nowhere else.
	 */
	owed = is_home(cpu, TIER_NORMAL) && (pending || waiting(&run_queue, RUN_DSQ, now));
	if (!owed)
		c->user_at = now;
	if (owed && sched_wanted_at &&
	    time_delta(now, sched_wanted_at) >= infera_sched_bound_ns && serve_scheduler(&pending))
		goto out;
	if (owed && time_delta(now, c->user_at) >= infera_user_bound_ns) {
		/* The scheduler may decide first, once, and then it is the run queue's turn. */
		if (!c->asked && !waiting(&run_queue, RUN_DSQ, now) && serve_scheduler(&pending)) {
			c->asked = 1;
			goto out;
		}
		c->asked = 0;
		c->own_ran = 1;
		c->guaranteed = 1;
		if (serve_user(cpu, c, &pending, now)) {
			infera_guaranteed[cpu & (MAX_CPUS - 1)]++;
			goto out;
		}
		c->guaranteed = 0;
		c->user_at = now;
	}
	if (!waiting(&c->own, cpu_to_dsq(cpu), now))
		c->own_at = now;
	else if (time_delta(now, c->own_at) >= infera_user_bound_ns && serve_own(cpu, c, now)) {
		c->guaranteed = 1;
		infera_guaranteed[cpu & (MAX_CPUS - 1)]++;
		goto out;
	}
	if (may_use(cpu, TIER_HIGH)) {
		if (!waiting(&tier_queues[TIER_HIGH], TIER_DSQ(TIER_HIGH), now))
			c->high_at = now;
		else if (time_delta(now, c->high_at) >= infera_high_bound_ns &&
			 take_tier(TIER_HIGH, now)) {
			c->guaranteed = 1;
			goto out;
		}
	}

	/* Otherwise strictly by tier, @prev behind the others of its own. */
	if (prev && is_queued(prev) && !is_usersched_task(prev)) {
		t = lookup_task(prev);
		if (t)
			tier = task_tier(prev, t);
		if (tier < TIER_NORMAL)
			tier = served_as(prev, tier);
	}
	if (may_use(cpu, TIER_CRITICAL) && take_tier(TIER_CRITICAL, now))
		goto out;
	if (t && tier == TIER_CRITICAL && keep(prev, t, cpu, tier, now))
		goto out;
	if (may_use(cpu, TIER_HIGH) && take_tier(TIER_HIGH, now))
		goto out;
	if (t && tier <= TIER_HIGH && keep(prev, t, cpu, tier, now))
		goto out;
	if (serve_user(cpu, c, &pending, now))
		goto out;
	/* Nobody else wants this CPU. */
	if (t && keep(prev, t, cpu, tier, now))
		goto out;
	if (!t && pending && prev && is_queued(prev)) {
		/* The scheduler itself, with work left. */
		scx_bpf_task_set_slice(prev, slice_of(TIER_SYSTEM));
		pending = false;
		goto out;
	}
	/* Idle: there is nobody to preempt, and a real-time task may come and not be seen here. */
	c->tier = TIER_SYSTEM;
out:
	/* Asking took the crate's "needed" flag; put it back while nobody has seen to the work. */
	if (pending)
		set_usersched_needed();
	infera_run_depth = waiting(&run_queue, RUN_DSQ, now);
}

/* The position of the highest bit. Without a loop: this is on the way of every wakeup. */
static u32 latency_bucket(u32 ns)
{
	u32 bucket = 0;

#define HALVE(bits)			\
	if (ns >> (bits)) {		\
		ns >>= (bits);		\
		bucket += (bits);	\
	}
	HALVE(16)
	HALVE(8)
	HALVE(4)
	HALVE(2)
	HALVE(1)
#undef HALVE
	return bucket & (LAT_BUCKETS - 1);
}

void BPF_STRUCT_OPS(infera_running, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();
	u32 tier = TIER_SYSTEM;

	if (!c || !t)
		return;
	if (is_usersched_task(p)) {
		usersched_last_run_at = now;
		sched_wanted_at = 0;
	} else {
		tier = t->tier;
	}
	t->run_at = now;
	t->until = now + p->scx.slice;
	/* A guaranteed turn is not taken back half way. */
	c->tier = c->guaranteed ? TIER_SYSTEM : tier;
	c->guaranteed = 0;
	if (tier == TIER_HIGH)
		c->high_at = now;
	else if (tier > TIER_NORMAL)
		lower_ran_at = now;
	if (t->woke_at) {
		u64 waited = time_delta(now, t->woke_at);

		if (waited > 0xffffffff)
			waited = 0xffffffff;
		infera_latency[cpu & (MAX_CPUS - 1)][tier & (TIER_SLOTS - 1)][latency_bucket(waited)]++;
		t->woke_at = 0;
	}
}

void BPF_STRUCT_OPS(infera_stopping, struct task_struct *p, bool runnable)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();

	if (!c || !t)
		return;
	/* Whoever claimed the CPU left its tier here. */
	t->rest = runnable && c->tier < t->tier ? time_delta(t->until, now) : 0;
	charge(p, t, cpu, now);
	/*
	 * A helper thread of the scheduler ran: it may have left something for the main
	 * thread, such as a request to stop; on SIGKILL this is what lets the process die.
	 */
	if (p->tgid == usersched_pid && !is_usersched_task(p))
		set_usersched_needed();
}

/* A better scheduling class (RT) takes @cpu: what waits in its local queue goes elsewhere. */
void BPF_STRUCT_OPS(infera_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	/* Whoever is sent here now waits for it. */
	claim(cpu, TIER_SYSTEM);
	scx_bpf_reenqueue_local();
}

void BPF_STRUCT_OPS(infera_enable, struct task_struct *p)
{
	rustland_enable(p);
}

s32 BPF_STRUCT_OPS(infera_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	if (!bpf_task_storage_get(&infera_tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return -ENOMEM;
	return rustland_init_task(p, args);
}

/*
 * Tables start as "every tier may use every CPU", so that the moment between attach and
 * user space's first write is an ordinary, unfenced node.
 */
s32 BPF_STRUCT_OPS_SLEEPABLE(infera_init)
{
	s32 i, err = rustland_init();

	if (err)
		return err;
	bpf_for(i, 0, MAX_CPUS)
		infera_cpu_home[i] = 0xff;
	bpf_for(i, 0, TIER_NORMAL) {
		err = scx_bpf_create_dsq(TIER_DSQ(i), -1);
		if (err)
			return err;
	}
	err = start_checking();
	if (err)
		return err;
	infera_default_tier = TIER_NORMAL;
	infera_preempts = TIER_BIT(TIER_SYSTEM) | TIER_BIT(TIER_CRITICAL) | TIER_BIT(TIER_HIGH) |
			  TIER_BIT(TIER_NORMAL) | TIER_BIT(TIER_LOW);
	infera_user_bound_ns = 100 * (NSEC_PER_SEC / 1000);
	infera_high_bound_ns = 50 * (NSEC_PER_SEC / 1000);
	infera_sched_bound_ns = 5 * (NSEC_PER_SEC / 1000);
	return scx_bpf_create_dsq(RUN_DSQ, -1);
}

void BPF_STRUCT_OPS(infera_exit, struct scx_exit_info *ei)
{
	rustland_exit(ei);
}

SCX_OPS_DEFINE(rustland,
	       .select_cpu		= (void *)infera_select_cpu,
	       .enqueue			= (void *)infera_enqueue,
	       .dispatch		= (void *)infera_dispatch,
	       .running			= (void *)infera_running,
	       .stopping		= (void *)infera_stopping,
	       .cpu_release		= (void *)infera_cpu_release,
	       .enable			= (void *)infera_enable,
	       .init_task		= (void *)infera_init_task,
	       .init			= (void *)infera_init,
	       .exit			= (void *)infera_exit,
	       /*
		* The kernel's longest: it counts any long wait, also that of the last of ten
		* thousand busy tasks, and what it is for we find out sooner.
		*/
	       .timeout_ms		= 30000,
	       .dispatch_max_batch	= MAX_DISPATCH_SLOT,
	       .name			= "infera");
