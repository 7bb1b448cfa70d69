/* SPDX-License-Identifier: GPL-2.0-only */
/* What is measured for user space, and the dead man's switch. */

/*
 * The dead man's switch: user space runs infera_measure() every 50 ms. When it has not until this time,
 * the node goes back to the stock scheduler, even if every process of infera is stopped.
 */
static volatile u64 alive_until;

struct alive_timer {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct alive_timer);
} alive_timers SEC(".maps");

/*
 * When the timer last ran. If that is long ago, the machine stood still, and user space could not run either: its silence does
 * not count.
 */
static volatile u64 checked_at;

/* One round of the loop lasts for too long, while work waits and the process has a CPU. */
static bool loop_is_stuck(u64 now)
{
	return policy_unseen(now) > LOOP_MS * (NSEC_PER_SEC / 1000) &&
	       (sched_on_cpu || usersched_last_run_at > policy_wanted_at);
}

/* 7.x: a server of the deadline class runs sched_ext's tasks for 5 % of the time beside real-time threads. */
struct rq___served {
	struct sched_dl_entity ext_server;
} __attribute__((preserve_access_index));

/*
 * Since when the timer has found a real-time thread on @c each time, with no task of sched_ext between: still @before, or
 * only @now.
 */
static u64 held_since(const struct cpu_ctx *c, u64 before, u64 now)
{
	return before && !time_after(c->started, before) ? before : now;
}

/* A task waits for @cpu alone: a thread of the kernel's in its local queue, or what infera_measure() found. */
static bool wanted(const struct cpu_ctx *c, s32 cpu, u64 now)
{
	return scx_bpf_dsq_nr_queued(SCX_DSQ_LOCAL_ON | cpu) > 0 ||
	       time_delta(now, c->wanted_at) < ALIVE_CHECK_MS * (NSEC_PER_SEC / 1000);
}

/* ns that a real-time thread has kept a CPU from a task that waits there, the longest of all CPUs. */
static volatile u64 kept;

/*
 * Real-time threads run on every CPU, so no task of sched_ext can. Also measures infera_realtime_held, because a stall that the
 * kernel finds is the scheduler's fault unless a real-time thread has kept a CPU, and `kept`.
 */
GLOBAL s32 all_realtime(u64 now)
{
	u64 held = 0, from_task = 0;
	s32 cpu, all = 1;

	bpf_rcu_read_lock();
	bpf_for(cpu, 0, nr_cpu_ids) {
		struct cpu_ctx *c = lookup_cpu(cpu);
		struct task_struct *p;

		/* No tier may use an offline CPU. */
		if (!c || !infera_cpu_home[cpu & (MAX_CPUS - 1)])
			continue;
		p = __COMPAT_scx_bpf_cpu_curr(cpu);
		if (!p || p->prio >= MAX_RT_PRIO) {
			c->realtime_since = 0;
			c->kept_since = 0;
			all = 0;
			continue;
		}
		c->realtime_since = held_since(c, c->realtime_since, now);
		c->kept_since = wanted(c, cpu, now) ? held_since(c, c->kept_since, now) : 0;
		if (time_delta(now, c->realtime_since) > held)
			held = time_delta(now, c->realtime_since);
		if (c->kept_since && time_delta(now, c->kept_since) > from_task)
			from_task = time_delta(now, c->kept_since);
	}
	bpf_rcu_read_unlock();
	infera_realtime_held = held;
	kept = from_task;
	return all;
}

/* Since when real-time threads have been seen on every CPU, each time that the timer looked; 0: they were not. */
static volatile u64 realtime_since;

/* No silence counts for the time until now: user space could not run. */
static void excuse(u64 now)
{
	u64 patience = now + (u64)ALIVE_MS * (NSEC_PER_SEC / 1000);

	if (time_before(alive_until, patience))
		alive_until = patience;
	if (policy_wanted_at)
		policy_wanted_at = now;
}

/* By timer: when user space has stopped, every CPU may be idle and everything in its hands. */
static int check_alive(void *map, int *key, struct bpf_timer *timer)
{
	u64 now = clock_ns(), period = ALIVE_CHECK_MS * (NSEC_PER_SEC / 1000);

	if (checked_at && time_delta(now, checked_at) > 2 * period)
		excuse(now);
	checked_at = now;
	expect_rest(now);
	if (!all_realtime(now)) {
		realtime_since = 0;
	} else {
		excuse(now);
		infera_realtime_at = now;
		if (!realtime_since)
			realtime_since = now;
	}
	if (!bpf_core_field_exists(struct rq___served, ext_server)) {
		if (realtime_since && time_delta(now, realtime_since) > REALTIME_MS * (NSEC_PER_SEC / 1000)) {
			scx_bpf_exit(EXIT_REALTIME, "real-time threads have had every CPU for %d ms", REALTIME_MS);
			return 0;
		}
	}
	/*
	 * Before the kernel takes the wait for a task that the scheduler lost, after 30 s. Also on kernels with a server for
	 * sched_ext, which may have ended: is_served().
	 */
	if (kept > KEPT_MS * (NSEC_PER_SEC / 1000)) {
		scx_bpf_exit(EXIT_PAUSE, "a real-time thread has kept a CPU from a task for %d ms", KEPT_MS);
		return 0;
	}
	if (time_after(now, alive_until)) {
		scx_bpf_exit(EXIT_SILENT, "user space has given no sign of life for %d ms", ALIVE_MS);
		return 0;
	}
	if (loop_is_stuck(now)) {
		scx_bpf_exit(EXIT_SILENT, "the loop did not look at waiting work for %d ms", LOOP_MS);
		return 0;
	}
	wake_rescuers(now);
	bpf_timer_start(timer, policy_unseen(now) || realtime_since ? LATE_NS : period, 0);
	return 0;
}

static s32 start_checking(void)
{
	u32 key = 0;
	struct alive_timer *t = bpf_map_lookup_elem(&alive_timers, &key);

	if (!t)
		return -ENOENT;
	/* Attaching and locking memory take their time. */
	alive_until = clock_ns() + (u64)ATTACH_MS * (NSEC_PER_SEC / 1000);
	bpf_timer_init(&t->timer, &alive_timers, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&t->timer, check_alive);
	return bpf_timer_start(&t->timer, ALIVE_CHECK_MS * (NSEC_PER_SEC / 1000), 0);
}

/*
 * Tasks looked at in this queue. Not on the stack, where 6.12's verifier would follow each value
 * through the whole loop.
 */
static volatile u32 measured;

/* @p, which is queued in @dsq, has exactly one CPU to go to. */
GLOBAL s32 waits_for_one_cpu(struct task_struct *p __arg_trusted, u64 dsq)
{
	return dsq < TIER_DSQ(0) || is_pinned(p);
}

/* The tables left @p of @tier without a CPU that serves its tier's queue @dsq. */
GLOBAL s32 is_left_out(struct task_struct *p __arg_trusted, u32 tier, u64 dsq)
{
	u32 served = served_as(p, tier);

	return served == NO_TIER || (dsq == TIER_DSQ(TIER_CRITICAL) && served != TIER_CRITICAL);
}

/*
 * How long the tasks of a queue have waited: its first ones. One that the tables left without a CPU of
 * this queue after it was queued goes to the queue of its own CPU.
 */
static void measure_queue(struct queue *q, u64 dsq, u64 now)
{
	struct task_struct *p;

	measured = 0;
	bpf_for_each(scx_dsq, p, dsq, 0) {
		struct infera_task *t = lookup_task(p);
		s32 cpu = scx_bpf_task_cpu(p);
		struct cpu_ctx *its = lookup_cpu(cpu);
		bool taken = false;

		fill(q, now);
		if (its && waits_for_one_cpu(p, dsq)) {
			its->wanted_at = now;
			taken = its->taken || its->realtime_since;
		}
		if (t && dsq >= TIER_DSQ(0) && is_left_out(p, t->tier, dsq)) {
			scx_bpf_dsq_move_set_vtime(BPF_FOR_EACH_ITER, next_turn(cpu, t->tier));
			if (scx_bpf_dsq_move_vtime(BPF_FOR_EACH_ITER, p, cpu_to_dsq(cpu), 0)) {
				if (its)
					fill(&its->pinned, now);
				scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
				continue;
			}
		}

		/* No scheduler can end the wait for a CPU that a real-time task has. */
		if (t && t->queued_at && !taken) {
			u64 waited = time_delta(now, t->queued_at);
			volatile u64 *longest = &infera_waited[slot(t->tier)];

			if (waited > *longest)
				*longest = waited;
		}
		if (++measured >= MEASURED)
			break;
	}
}

/* The plan that the masks follow. */
static volatile u32 plan_applied;

/*
 * Called by user space every 50 ms, from a thread that does not wait for the loop. It counts as a sign of life, applies
 * the plan to the masks, and fills infera_waited and infera_unseen. The waits of tasks in the policy's hands user space measures.
 */
SEC("syscall")
int infera_measure(void *ctx)
{
	u64 now = clock_ns();
	int i;

	bpf_for(i, 0, TIER_SLOTS)
		infera_waited[i] = 0;
	expect_rest(now);
	infera_unseen = policy_unseen(now);
	/* On an idle node the main thread waits in a queue, and would not see a signal that asks it to stop. */
	set_usersched_needed();
	wake_rescuers(now);
	alive_until = now + (u64)ALIVE_MS * (NSEC_PER_SEC / 1000);
	if (plan_applied != infera_plan_gen) {
		plan_applied = infera_plan_gen;
		bpf_for(i, 0, NR_TIERS)
			apply_plan(i);
	}
	if (sweep_limits(now) + LIMIT_QUEUES / 2 > limit_queues)
		make_limit_queues();
	sweep_groups();
	bpf_rcu_read_lock();
	bpf_for(i, 0, NR_TIERS)
		measure_queue(&tier_queues[slot(i)], TIER_DSQ(i), now);
	bpf_for(i, 0, nr_cpu_ids) {
		struct cpu_ctx *c = lookup_cpu(i);

		if (c)
			measure_queue(&c->pinned, cpu_to_dsq(i), now);
	}
	bpf_rcu_read_unlock();
	return 0;
}
