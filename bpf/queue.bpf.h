/* SPDX-License-Identifier: GPL-2.0-only */
/* The queues: who is sent to one, and whether it is worth a look. */

/* The longest time from deciding on a queue to being in it; infera_measure finds who took longer. */
#define SETTLE_NS	(5 * 1000000ULL)

static void fill(struct queue *q, u64 now)
{
	q->filled = now;
}

static bool may_hold(const struct queue *q)
{
	return q->filled + SETTLE_NS > q->emptied;
}

/* How many wait in @q, which is @dsq. */
static s32 waiting(struct queue *q, u64 dsq, u64 now)
{
	s32 nr;

	if (!may_hold(q))
		return 0;
	nr = scx_bpf_dsq_nr_queued(dsq);
	if (!nr)
		q->emptied = now;
	return nr;
}

/* Gives this CPU the first of @q that may run on it. */
static bool take_first(struct queue *q, u64 dsq, u64 now)
{
	return waiting(q, dsq, now) && scx_bpf_dsq_move_to_local(dsq, 0);
}

/*
 * A place in @cpu's own queue. Its tiers take turns: where protected tiers leave the queue a
 * turn now and then, a crowd of one tier must not keep the others away for good.
 */
static u64 next_turn(s32 cpu, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 *last;

	if (!c)
		return 0;
	last = &c->turns[tier & (TIER_SLOTS - 1)];
	*last = (*last > c->turn ? *last : c->turn) + 1;
	return *last;
}

/* Queues @p for @cpu alone. */
static void queue_own(struct task_struct *p, s32 cpu, u32 tier, u64 slice, u64 enq_flags)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		fill(&c->own, clock_ns());
	scx_bpf_dsq_insert_vtime(p, cpu_to_dsq(cpu), slice, next_turn(cpu, tier), enq_flags);
}

/* In the run queue, what was woken goes before what a better tier interrupted, and that before the rest. */
#define WOKEN_LEAD_NS	(8 * 1000000ULL)
#define REST_LEAD_NS	(4 * 1000000ULL)

/*
 * Queues @p, whose turn it is, for whichever CPU is free first. It goes before those that came less
 * than @lead after it would have, and after all that have waited longer.
 */
static void queue_decided(struct task_struct *p, u64 slice, u64 enq_flags, u64 now, u64 lead)
{
	fill(&run_queue, now);
	scx_bpf_dsq_insert_vtime(p, RUN_DSQ, slice, now - lead, enq_flags);
}

/* Queues @p for the CPUs that serve @tier. */
static void queue_tier(struct task_struct *p, u32 tier, u64 slice, u64 enq_flags, u64 now)
{
	fill(&tier_queues[tier & (TIER_SLOTS - 1)], now);
	scx_bpf_dsq_insert(p, TIER_DSQ(tier), slice, enq_flags);
}

static bool take_tier(u32 tier, u64 now)
{
	return take_first(&tier_queues[tier & (TIER_SLOTS - 1)], TIER_DSQ(tier), now);
}
