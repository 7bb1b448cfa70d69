/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tasks that wait for budget: a queue for each limited cgroup, and a timer that has them go on. What waits is looked at every
 * 20 ms at least, because a signal, an exit or a freezer does not wake up what is runnable.
 */

/* Queues above all others: one for each entry of infera_limits. */
#define LIMIT_DSQ(nr)	((u64)(4 * MAX_CPUS + (nr)))

/* The timer expires no sooner and no later than this. */
#define RELEASE_MIN_NS	(200 * 1000ULL)
#define RELEASE_MAX_NS	(20 * MSEC_NS)

/* Tasks of a queue that one pass looks at. */
#define RELEASE_SEEN	128

/* No task waits longer, whatever its cgroup owes: the kernel's watchdog detaches a scheduler that lets one wait for 30 s. */
#define LONGEST_PARK_NS	(10 * 1000 * MSEC_NS)

/* A woken task goes before those that used up budget within this time. */
#define WOKEN_PARK_NS	(10 * MSEC_NS)

/* Entries whose queues may hold tasks, a bit each. */
#define LIMIT_WORDS	(MAX_LIMITED / 64)
static volatile u64 parked_in[LIMIT_WORDS] __attribute__((aligned(64)));

struct release_timer {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct release_timer);
} release_timers SEC(".maps");

/* When the timer expires; 0: it is not armed. */
static volatile u64 release_at __attribute__((aligned(64)));

/* How long it takes until there is budget for a task of @l. */
static u64 until_budget(const struct infera_limit *l, u64 now)
{
	u64 end = l->start + l->period, at = end, missing;
	s64 budget = l->budget, least = quantum(l);

	if (budget >= least)
		return RELEASE_MIN_NS;
	missing = least - budget;
	if (l->paced && l->rate && missing < l->quota) {
		at = now + ((missing << RATE_BITS) / l->rate);
		if (at > end)
			at = end;
	}
	at = time_delta(at, now) + 10 * 1000;
	if (at < RELEASE_MIN_NS)
		return RELEASE_MIN_NS;
	return at < RELEASE_MAX_NS ? at : RELEASE_MAX_NS;
}

/* Has the timer expire in @ns, or sooner. */
static void release_in(u64 ns, u64 now)
{
	struct release_timer *timer;
	u64 at = release_at;
	u32 key = 0;

	if (at > now && at <= now + ns)
		return;
	timer = bpf_map_lookup_elem(&release_timers, &key);
	if (!timer)
		return;
	release_at = now + ns;
	bpf_timer_start(&timer->timer, ns, 0);
}

/* Marks that tasks wait for the budget of @nr. */
GLOBAL s32 mark_parked(u32 nr, u64 now)
{
	struct infera_limit *l = limit_at(nr);
	u32 slot = nr - 1;

	if (!l)
		return 0;
	if (!l->parked) {
		l->throttled_since = now;
		l->parked = 1;
	}
	l->hit = 1;
	l->parked_at = now;
	__sync_fetch_and_or(&parked_in[(slot / 64) & (LIMIT_WORDS - 1)], 1ULL << (slot & 63));
	release_in(until_budget(l, now), now);
	return 1;
}

/* Has @p wait for the budget of @nr, with @slice for later. */
static __always_inline void park(struct task_struct *p, struct infera_task *t, u32 nr, u64 slice, u64 enq_flags, u64 now)
{
	u64 key = now - (t->flags & TASK_WOKEN ? WOKEN_PARK_NS : 0);

	mark_parked(nr, now);
	/* What it slept for it has had time to give back. */
	t->flags &= ~(TASK_OWES | TASK_MAY_LOCK);
	t->owed_runs = 0;
	/* The wait for budget is no latency of the scheduler's. */
	t->woke_at = 0;
	scx_bpf_dsq_insert_vtime(p, LIMIT_DSQ(nr), slice, key, enq_flags);
}

/* must_park() for a task that has a limit. */
GLOBAL u32 park_limited(struct task_struct *p __arg_trusted, s32 wakeup, u64 now)
{
	struct infera_task *t = lookup_task(p);
	u32 nr;

	if (!t)
		return 0;
	nr = out_of_budget(p, now);
	if (!nr) {
		t->flags &= ~TASK_OWES;
		t->owed_runs = 0;
		return 0;
	}
	if (goes_on(p, nr, wakeup)) {
		t->flags |= TASK_OWES;
		return 0;
	}
	return nr;
}

/*
 * 1 + entry of the cgroup for whose budget @p has to wait; 0: it may have a CPU. Whether it has a limit is known from when it
 * last ran: one that forked, or got its first limit, comes back from infera_running(), which finds no budget for it.
 */
static u32 must_park(struct task_struct *p, struct infera_task *t, s32 wakeup, u64 now)
{
	return t->limit ? park_limited(p, wakeup, now) : 0;
}
