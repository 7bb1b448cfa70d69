/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ops.dispatch: a CPU needs work. It takes, in this order:
 *
 *   the scheduler's helpers; what has waited longer than its bound, once; System; Critical; High; the
 *   scheduler process when it has work; the user tiers.
 *
 * The task that ran before, `prev`, is in no queue yet: it goes on where it comes first in its tier.
 */

/* A CPU in search of work. */
struct search {
	struct cpu_ctx *c;
	struct task_struct *prev;
	struct infera_task *t;	/* of prev, if it wants to go on and is not the scheduler process */
	u64 now;
	s32 cpu;
	u32 tier;		/* that serves prev, NO_TIER: prev does not go on by a tier's rule */
};

/* Lets prev go on for @slice. */
static bool keep(struct search *s, u64 slice)
{
	struct task_struct *prev = s->prev;
	struct infera_task *t = s->t;
	struct cpu_ctx *c = s->c;

	/* Never NULL here, which 7.2's verifier does not see. */
	if (!prev || !t || !c)
		return false;
	if (!is_pinned(prev) && !may_use(s->cpu, slot(t->tier)))
		return false;
	scx_bpf_task_set_slice(prev, slice);
	/* It may go on like this for minutes: its account must not wait until it stops. */
	charge(prev, t, c, s->cpu, s->now);
	if (!is_behind(t, slot(t->tier)))
		t->flags &= ~TASK_WOKEN;
	c->started = s->now;
	start_clock(prev, t, c, slot(t->tier), s->now);
	t->until = s->now + slice;
	/* Neither a guaranteed turn nor a claim that led to nothing is for this one. */
	c->tier = rank_shown(prev, t, s->cpu);
	c->cut = 0;
	c->in_turn = 0;
	c->since[slot(t->tier)] = s->now;
	return true;
}

/* Whether prev comes before @head, by the virtual time that it has now. */
static bool prev_is_before(struct search *s, const struct head *head)
{
	struct task_struct *prev = s->prev;
	struct infera_task *t = s->t;

	if (!t || !prev || !s->c)
		return false;
	charge(prev, t, s->c, s->cpu, s->now);
	return t->vtime < head->key;
}

/*
 * Whether prev, within its wake slices, is still behind its tier: then what waits can wait for one more,
 * as far as this CPU's credit goes.
 */
static bool prev_is_entitled(struct search *s, u32 tier)
{
	struct infera_task *t = s->t;

	if (!t || !s->c || !is_behind(t, tier) || !has_credit(s->c, s->now))
		return false;
	t->flags |= TASK_CREDITED;
	return true;
}

/* Gives the CPU to the first task of @tier that may run on it, or to prev if that comes before. */
static bool serve_tier(struct search *s, u32 tier)
{
	struct head head;

	if (!may_use(s->cpu, tier))
		return false;
	if (!tier_waiting(tier, s->now))
		return s->tier == tier && keep(s, slice_of(tier));
	if (s->tier == tier && by_vtime(tier) && peek(TIER_DSQ(tier), &head) &&
	    (prev_is_before(s, &head) || prev_is_entitled(s, tier)) &&
	    keep(s, infera_wake_slice_ns[slot(tier)]))
		return true;
	if (!scx_bpf_dsq_move_to_local(TIER_DSQ(tier), 0))
		return s->tier == tier && keep(s, slice_of(tier));
	s->c->since[slot(tier)] = s->now;
	return true;
}

/* The user tier whose first task has been due longest; NO_TIER: none waits that @cpu serves. */
GLOBAL s32 first_user_tier(s32 cpu, u64 now)
{
	u32 first = NO_TIER, candidates = 0, tier;
	u64 due = ~0ULL;

	bpf_for(tier, TIER_NORMAL, NR_TIERS) {
		if (may_use(cpu, tier) && tier_waiting(tier, now)) {
			candidates |= TIER_BIT(tier);
			first = tier;
		}
	}
	/* The usual case: one tier, and no need to look at its first task. */
	if (!(candidates & (candidates - 1)))
		return first;
	bpf_for(tier, TIER_NORMAL, NR_TIERS) {
		struct head head;

		if (candidates & TIER_BIT(tier) && peek(TIER_DSQ(tier), &head) && head.due < due) {
			due = head.due;
			first = tier;
		}
	}
	return first;
}

/* Gives @cpu to the first task of @tier, whatever ran there. */
GLOBAL s32 serve_first(s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || !scx_bpf_dsq_move_to_local(TIER_DSQ(tier), 0))
		return 0;
	c->since[slot(tier)] = now;
	return 1;
}

/* Gives @cpu to the next task that can run nowhere else. */
GLOBAL s32 serve_pinned(s32 cpu, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct head head;

	if (!c || !waiting(&c->pinned, cpu_to_dsq(cpu), now) || !peek(cpu_to_dsq(cpu), &head) ||
	    !scx_bpf_dsq_move_to_local(cpu_to_dsq(cpu), 0))
		return 0;
	if (head.key > c->pinned_turn)
		c->pinned_turn = head.key;
	c->pinned_at = now;
	c->pinned_ran = 1;
	return 1;
}

/* Gives @cpu to the scheduler process, if that waits. Critical would have to wait for it on a fence. */
GLOBAL s32 serve_scheduler(s32 cpu)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || !c->pending || is_fenced(cpu) || !scx_bpf_dsq_move_to_local(SCHED_DSQ, 0))
		return 0;
	c->pending = 0;
	return 1;
}

/* The scheduler process has waited that long for a CPU. */
static bool scheduler_waited(u64 now, u64 bound)
{
	u64 since = sched_wanted_at;

	return since && time_delta(now, since) >= bound;
}

/* Gives the CPU to the user tiers' shared queues. */
static bool serve_shared(struct search *s)
{
	u32 favoured = s->c->favoured, tier;

	s->c->favoured = 0;
	if (favoured && tier_waiting(favoured - 1, s->now) && may_use(s->cpu, favoured - 1) &&
	    serve_first(s->cpu, favoured - 1, s->now))
		return true;
	tier = first_user_tier(s->cpu, s->now);
	if (tier == NO_TIER || !serve_tier(s, tier))
		return false;
	s->c->since[TIER_NORMAL] = s->now;
	s->c->pinned_ran = 0;
	return true;
}

/*
 * Work of the user tiers: the scheduler that decides; then the pinned queue and the others by turns,
 * so that neither keeps the other away.
 */
static bool serve_user(struct search *s)
{
	bool soon = !infera_run_depth || scheduler_waited(s->now, NSEC_PER_SEC / 1000);

	if (soon && serve_scheduler(s->cpu))
		return true;
	if (!s->c->pinned_ran && serve_pinned(s->cpu, s->now))
		return true;
	return serve_shared(s) || serve_pinned(s->cpu, s->now) || serve_scheduler(s->cpu);
}

/* Bounds run out at different times on different CPUs, so that turns do not take all of them at once. */
static u64 phased(u64 bound, s32 cpu)
{
	return bound + (bound / 32) * (cpu & 7);
}

/* What starts on @cpu next has a guaranteed turn, by the bound of @tier. */
static s32 guarantee(struct cpu_ctx *c, s32 cpu, u32 tier)
{
	c->guaranteed = 1 + tier;
	infera_guaranteed[cpu & (MAX_CPUS - 1)]++;
	return 1;
}

/* How long what waits for @c has waited at most, where it had its last turn at @since. */
static u64 kept_for(const struct cpu_ctx *c, u64 since, u64 now)
{
	return time_delta(now, since > c->nothing_at ? since : c->nothing_at);
}

/* @tier, some task of which waits while @served says that this CPU has to serve it, has its turn now. */
GLOBAL s32 serve_overdue_tier(s32 cpu, u32 tier, s32 served, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c)
		return 0;
	if (!served || !tier_waiting(tier, now)) {
		c->since[slot(tier)] = now;
		return 0;
	}
	if (kept_for(c, c->since[slot(tier)], now) < phased(infera_bound_ns[slot(tier)], cpu) ||
	    !serve_first(cpu, tier, now))
		return 0;
	return guarantee(c, cpu, tier);
}

/* The same for the user tiers together, and the scheduler that decides for them. */
GLOBAL s32 serve_overdue_user(s32 cpu, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u32 first;

	if (!c)
		return 0;
	if (!is_home(cpu, TIER_NORMAL) || (!c->pending && !user_tier_waiting(now))) {
		c->since[TIER_NORMAL] = now;
		return 0;
	}
	if (kept_for(c, c->since[TIER_NORMAL], now) < phased(infera_bound_ns[TIER_NORMAL], cpu))
		return 0;
	/* The scheduler may decide first, once, and then it is the tasks' turn. */
	if (!c->asked && !user_tier_waiting(now) && serve_scheduler(cpu)) {
		c->asked = 1;
		return 1;
	}
	c->asked = 0;
	c->since[TIER_NORMAL] = now;
	first = first_user_tier(cpu, now);
	if ((first != NO_TIER && serve_first(cpu, first, now)) || serve_pinned(cpu, now))
		return guarantee(c, cpu, TIER_NORMAL);
	return 0;
}

/* The same for the tasks that can run nowhere else. */
GLOBAL s32 serve_overdue_pinned(s32 cpu, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c)
		return 0;
	if (!waiting(&c->pinned, cpu_to_dsq(cpu), now))
		c->pinned_at = now;
	else if (kept_for(c, c->pinned_at, now) >= phased(infera_bound_ns[TIER_NORMAL], cpu) &&
		 serve_pinned(cpu, now))
		return guarantee(c, cpu, TIER_NORMAL);
	return 0;
}

/*
 * The wait bounds: what was kept from this CPU for too long has one turn. A fenced CPU owes nothing
 * to the user tiers, only to tasks that can run nowhere else.
 */
GLOBAL s32 serve_overdue(s32 cpu, u64 now)
{
	s32 home = is_home(cpu, TIER_NORMAL);

	return (scheduler_waited(now, infera_sched_bound_ns) && serve_scheduler(cpu)) ||
	       serve_overdue_tier(cpu, TIER_CRITICAL, may_use(cpu, TIER_CRITICAL), now) ||
	       serve_overdue_tier(cpu, TIER_HIGH, may_use(cpu, TIER_HIGH), now) ||
	       serve_overdue_user(cpu, now) ||
	       serve_overdue_tier(cpu, TIER_LOW, home, now) ||
	       serve_overdue_tier(cpu, TIER_BACKGROUND, home, now) ||
	       serve_overdue_pinned(cpu, now);
}

static bool serve_by_rank(struct search *s)
{
	u32 tier;

	bpf_for(tier, TIER_SYSTEM, TIER_NORMAL) {
		if (serve_tier(s, tier))
			return true;
	}
	return serve_user(s);
}

void BPF_STRUCT_OPS(infera_dispatch, s32 cpu, struct task_struct *prev)
{
	struct search s = {
		.c = lookup_cpu(cpu), .prev = prev, .now = clock_ns(), .cpu = cpu, .tier = NO_TIER,
	};
	bool drained;

	if (!s.c)
		return;
	/* The local queue was empty: what was sent here has run, or went elsewhere. */
	s.c->claimed = 0;
	drained = drain_decisions();
	/* Moving also brings the drained decisions into their queues. */
	if ((drained || waiting(HELPER_QUEUE, HELPER_DSQ, s.now)) && scx_bpf_dsq_move_to_local(HELPER_DSQ, 0))
		return;
	s.c->pending = usersched_has_pending_tasks();
	if (prev && is_queued(prev) && !is_usersched_task(prev)) {
		s.t = lookup_task(prev);
		if (s.t)
			s.tier = served_as(prev, task_tier(prev, s.t));
	}
	/* Looking into each queue costs 1,000 instructions: a CPU that found them empty looks again after an insert. */
	if (s.c->pending || may_hold_since(s.c)) {
		if (serve_overdue(cpu, s.now) || serve_by_rank(&s))
			goto out;
		if (all_empty(s.c))
			s.c->nothing_at = s.now;
	}
	/* Nothing else wants this CPU. */
	if (s.t && keep(&s, slice_of(s.t->tier)))
		goto out;
	if (!s.t && s.c->pending && prev && is_queued(prev)) {
		/* The scheduler itself, with work left. */
		scx_bpf_task_set_slice(prev, slice_of(TIER_SYSTEM));
		s.c->pending = 0;
		goto out;
	}
	/* Idle: there is nothing to preempt, and a real-time task may come and not be seen here. */
	s.c->tier = TIER_SYSTEM;
	went_idle_at = s.now;
	went_idle = cpu;
out:
	/* usersched_has_pending_tasks() took the crate's "needed" flag; back with it while work is left. */
	if (s.c->pending)
		set_usersched_needed();
}
