/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Virtual time within a tier: CPU time times 100 / weight, where the weight is that of nice and of the cgroups that the task is in:
 * shares.bpf.h. Less of it means entitled to run first.
 *
 * A decision of the policy sets a task's virtual time, and the overlay adds what the task runs. So
 * the order that the policy decides and the order in which woken tasks are placed is one.
 */

/* Where virtual time starts: above 0, which means "none yet", by more than any credit. */
#define VTIME_START	(1ULL << 48)

/* Each tier's clock: the largest virtual time at which a task of it has started to run. */
static volatile u64 tier_clock[TIER_SLOTS] __attribute__((aligned(64)));

/* The policy publishes when wakeups of @tier take a CPU from peers; else it orders them itself. */
static bool by_vtime(u32 tier)
{
	return infera_wake_gran_ns[slot(tier)] != NEVER;
}

/* @ns of CPU time as virtual time at @weight, which is in 1 / SHARE_ONE. */
static u64 scaled(u64 ns, u32 weight)
{
	return ns * 100 * SHARE_ONE / (weight ?: 100 * SHARE_ONE);
}

/* The slice of @t: shorter for a light one, as the policies' ledger::turn() has it. */
static u64 turn_of(const struct infera_task *t, u32 tier)
{
	u64 slice = slice_of(tier), shortest = SHORTEST_SLICE_US * 1000ULL, turn;

	if (!t->weight || t->weight >= 100 * SHARE_ONE || slice <= shortest)
		return slice;
	turn = slice * t->weight / (100 * SHARE_ONE);
	return turn > shortest ? turn : shortest;
}

/*
 * Puts @t, which becomes runnable or goes on, into the order of @tier: nothing further behind the clock
 * than the credit, so that sleeping saves up no more, and a newcomer halfway, where the others are on average:
 * the clock is that of the task furthest ahead.
 */
static u64 enter_order(struct infera_task *t, u32 tier)
{
	u64 clock = tier_clock[slot(tier)], credit = infera_wake_credit_ns[slot(tier)];

	if (!t->vtime)
		t->vtime = clock - credit / 2;
	else if (t->vtime + credit < clock)
		t->vtime = clock - credit;
	return t->vtime;
}

/*
 * @t, woken and back from its CPU, is still behind its tier: it keeps its place, whatever has that CPU now.
 * So sleeping is worth one credit in the whole, and not one wake slice.
 */
static bool is_behind(const struct infera_task *t, u32 tier)
{
	return (t->flags & TASK_WOKEN) && by_vtime(tier) &&
	       t->vtime + infera_wake_gran_ns[slot(tier)] < tier_clock[slot(tier)];
}

/* Virtual time of what runs on @c. */
static u64 vtime_on(const struct cpu_ctx *c, u64 now)
{
	return c->vt + scaled(time_delta(now, c->vt_at), c->weight);
}

/* @p starts or goes on at @now. What competes for one CPU, or goes on for want of a decision, is no measure for the tier. */
static void start_clock(struct task_struct *p, struct infera_task *t, struct cpu_ctx *c, u32 tier, u64 now)
{
	if (by_vtime(tier)) {
		u64 vt = t->vtime ?: enter_order(t, tier);

		if (vt > tier_clock[slot(tier)] && p->nr_cpus_allowed > 1 && !c->stopgap)
			tier_clock[slot(tier)] = vt;
	}
	c->vt = t->vtime;
	c->vt_at = now;
	c->weight = t->weight = weight_of(p, t, tier);
	c->woken = t->flags & TASK_WOKEN;
}

/*
 * What woken tasks may run on a CPU ahead of others is bounded: a CPU's credit grows by half of the time that passes, up
 * to CREDIT_MAX_NS, and shrinks by what woken tasks run and by a sixteenth of a granularity for each CPU taken from a
 * peer, for its two switches and cold caches. So a storm of wakeups ends its own privilege, and what does not sleep
 * keeps half of the time. All that woken tasks run counts, and not what they run after a preemption alone: on a CPU that
 * runs little else a woken task would only come before other woken tasks, at the price of a switch for each message.
 */
#define CREDIT_MAX_NS	(10 * 1000000LL)

static bool has_credit(struct cpu_ctx *c, u64 now)
{
	u64 passed = time_delta(now, c->credit_at);
	s64 credit = c->credit + (s64)(passed / 2);

	c->credit_at = now;
	if (credit < -CREDIT_MAX_NS)
		credit = -CREDIT_MAX_NS;
	c->credit = credit > CREDIT_MAX_NS ? CREDIT_MAX_NS : credit;
	return c->credit > 0;
}

/*
 * Adds what @p has used since the last time to its own and its tier's account, by the kernel's account of its CPU time. That
 * counts the switch to a task as the task's, which clock_ns() in ops.running() would not: who switches often would pay less.
 */
static void charge(struct task_struct *p, struct infera_task *t, struct cpu_ctx *c, s32 cpu)
{
	u64 total = p->se.sum_exec_runtime, used = total - t->charged;
	u32 tier = slot(t->tier);

	t->charged = total;
	t->ran += used;
	/* 0 stays: it came from another tier a moment ago, and has no place in the order of this one. */
	if (by_vtime(tier) && t->vtime)
		t->vtime += scaled(used, t->weight);
	if (t->flags & TASK_WOKEN)
		c->credit -= used;
	if (c->limit)
		settle_limit(c, c->limit, used);
	infera_cpu_time[cpu & (MAX_CPUS - 1)][tier] += used;
}

/* @t goes to sleep. Its next wakeup does not pass the policy, which gets what it ran as a sum of its tier. */
static void settle_sleeper(struct infera_task *t, s32 cpu)
{
	u32 tier = slot(t->tier);
	volatile struct infera_sleepers *slept = &infera_slept[cpu & (MAX_CPUS - 1)][tier];

	if (!by_vtime(tier))
		return;
	if (t->flags & TASK_PICKED) {
		slept->picked_ns += t->ran;
		slept->picked++;
		t->flags &= ~TASK_PICKED;
	} else {
		slept->woken_ns += t->ran;
	}
	t->ran = 0;
}
