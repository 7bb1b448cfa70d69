/* SPDX-License-Identifier: GPL-2.0-only */
/* The queues: one a tier in order of virtual time, and one a CPU for tasks that can run nowhere else. */

/* The longest time from recording an insert to its effect; infera_measure() finds what took longer. */
#define SETTLE_NS	(20 * 1000000ULL)

static void fill(struct queue *q, u64 now)
{
	q->filled = now;
	last_filled = now;
}

static bool may_hold(const struct queue *q)
{
	return q->filled + SETTLE_NS > q->emptied;
}

/* Every queue that @c may have to serve was empty when it was last looked at, and long enough after its last insert. */
static bool all_empty(const struct cpu_ctx *c)
{
	u32 tier;

	bpf_for(tier, 0, NR_TIERS) {
		if (may_hold(&tier_queues[slot(tier)]))
			return false;
	}
	return !may_hold(&c->pinned);
}

/* Some queue may have been inserted into since @c found all of them empty. */
static bool may_hold_since(const struct cpu_ctx *c)
{
	return last_filled + SETTLE_NS > c->nothing_at;
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

GLOBAL s32 tier_waiting(u32 tier, u64 now)
{
	return waiting(&tier_queues[slot(tier)], TIER_DSQ(tier), now);
}

GLOBAL s32 user_tier_waiting(u64 now)
{
	return tier_waiting(TIER_NORMAL, now) || tier_waiting(TIER_LOW, now) ||
	       tier_waiting(TIER_BACKGROUND, now);
}

/*
 * Among the user tiers the first task that has been due longest goes first. A decision is due when it
 * is made, a woken task this much earlier, so that no decision is passed for longer than that.
 */
#define WOKEN_LEAD_NS	(4 * 1000000ULL)

static u64 woken_lead(u32 tier)
{
	return is_user_tier(tier) ? (NR_TIERS - tier) * WOKEN_LEAD_NS : 0;
}

/* The first task of a queue. */
struct head {
	u64 key;
	u64 due;
	u64 vtime;
	u32 tier;
	u32 flags;
	u32 found;
};

GLOBAL s32 peek(u64 dsq, struct head *head)
{
	struct task_struct *p;

	if (!head)
		return 0;
	head->found = 0;
	/* For the timers, whose callbacks the verifier takes for sleepable like infera_init(). */
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, dsq, 0) {
		struct infera_task *t = lookup_task(p);

		head->key = p->scx.dsq_vtime;
		head->due = t ? t->due : 0;
		head->vtime = t ? t->vtime : 0;
		head->tier = t ? t->tier : NO_TIER;
		head->flags = t ? t->flags : 0;
		head->found = 1;
		break;
	}
	bpf_rcu_read_unlock();
	return head->found;
}

/*
 * Queues @p for the CPUs that serve @tier: by virtual time, or in order of time where the policy
 * publishes none.
 */
static __always_inline void queue_tier(struct task_struct *p, struct infera_task *t, u32 tier, u64 slice,
		       u64 enq_flags, u64 now)
{
	fill(&tier_queues[slot(tier)], now);
	if ((t->flags & (TASK_WOKEN | TASK_WAITING)) == TASK_WOKEN) {
		t->flags |= TASK_WAITING;
		__sync_fetch_and_add(&woken_waiting[slot(t->tier)], 1);
	}
	scx_bpf_dsq_insert_vtime(p, TIER_DSQ(tier), slice, by_vtime(tier) ? t->vtime : t->due, enq_flags);
}

/*
 * A place in @cpu's pinned queue, which tiers take by turns: where protected tiers leave the queue a
 * turn now and then, a crowd of one tier must not keep the others away for good.
 */
static u64 next_turn(s32 cpu, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 *last;

	if (!c)
		return 0;
	last = &c->pinned_turns[slot(tier)];
	*last = (*last > c->pinned_turn ? *last : c->pinned_turn) + 1;
	return *last;
}

/* The turn of @cpu's pinned queue that was taken last, or still goes on. */
static u64 last_turn(s32 cpu)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	return c ? c->pinned_turn : 0;
}

/* Queues @p for @cpu alone, at @turn. */
static __always_inline void queue_pinned_at(struct task_struct *p, s32 cpu, u64 slice, u64 turn, u64 enq_flags, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		fill(&c->pinned, now);
	scx_bpf_dsq_insert_vtime(p, cpu_to_dsq(cpu), slice, turn, enq_flags);
}

static __always_inline void queue_pinned(struct task_struct *p, s32 cpu, u32 tier, u64 slice, u64 enq_flags, u64 now)
{
	queue_pinned_at(p, cpu, slice, next_turn(cpu, tier), enq_flags, now);
}

/* The first task of @cpu's pinned queue, if it is a woken one that goes before the turns of the others: queue_woken(). */
GLOBAL s32 peek_woken(s32 cpu, struct head *head, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	return c && head && waiting(&c->pinned, cpu_to_dsq(cpu), now) && peek(cpu_to_dsq(cpu), head) &&
	       head->flags & TASK_FIRST;
}

/*
 * Takes @t, which waits for the policy since the enqueue @enq_cnt, out of the policy's hands. It fails where another enqueue
 * has followed, and where a decision, or rescue(), has taken it before.
 */
static bool take_task(struct infera_task *t, u32 enq_cnt)
{
	return __sync_val_compare_and_swap(&t->enq_cnt, enq_cnt, enq_cnt + 1) == enq_cnt;
}

/* @t, which is still of the tier that it was queued in, is in no queue any more. */
static void leave_queue(struct infera_task *t)
{
	if (t->flags & TASK_DECIDED)
		__sync_fetch_and_sub(&infera_run_depth, 1);
	if (t->flags & TASK_WAITING)
		__sync_fetch_and_sub(&woken_waiting[slot(t->tier)], 1);
	t->flags &= ~(TASK_DECIDED | TASK_WAITING | TASK_FIRST);
}
