/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ops.dispatch: a CPU needs work. It takes, in this order:
 *
 *   the scheduler's helpers; what has waited longer than its bound, once; System; Critical; High; the
 *   scheduler process when it has work; the user tiers.
 *
 * The task that ran before, `prev`, is in no queue yet: it goes on where it comes first in its tier.
 */

static bool serve_by_rank(struct search *s)
{
	u32 tier;

	/* On a fence System goes behind Critical: it has other CPUs. */
	if (is_fenced(s->cpu) && serve_tier(s, TIER_CRITICAL))
		return true;
	bpf_for(tier, TIER_SYSTEM, TIER_NORMAL) {
		if (serve_tier(s, tier))
			return true;
	}
	return serve_user(s);
}

/*
 * @s->cpu has found nothing, and its idle bit is set in a moment. What is queued from now on has it look again: fetch_cpu().
 * What was queued a moment ago may take effect, or have come, after this CPU looked: then it looks once more by itself.
 */
static void go_idle(struct search *s)
{
	struct cpu_ctx *c = s->c;

	c->taken_at = 0;
	went_idle_at = s->now;
	went_idle = s->cpu;
	full_barrier();
	if (!c->looked_again && (time_delta(clock_ns(), last_filled) < IDLE_RACE_NS ||
				 (!c->pending && bpf_ringbuf_query(&queued, BPF_RB_AVAIL_DATA)))) {
		c->looked_again = 1;
		scx_bpf_kick_cpu(s->cpu, 0);
	} else {
		c->looked_again = 0;
	}
}

void BPF_STRUCT_OPS(infera_dispatch, s32 cpu, struct task_struct *prev)
{
	struct search s = {
		.c = lookup_cpu(cpu), .prev = prev, .now = clock_ns(), .cpu = cpu, .tier = NO_TIER,
	};
	bool drained;
	u64 before;

	if (!s.c)
		return;
	/* This may be the kernel's server, which ends where it finds no task: ask the queue, whatever is known of it. is_served(). */
	if (s.c->taken)
		fill(&s.c->pinned, s.now);
	/* The local queue was empty: what was sent here has run, or went elsewhere. */
	s.c->claimed = 0;
	s.c->taken = 0;
	drained = drain_decisions();
	before = received;
	if (rescue_asked(s.now))
		drained = true;
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
	/* Nothing else wants this CPU, or nothing that the policy has decided on. */
	s.lacks = s.c->pending && s.t && is_user_tier(slot(s.t->tier)) && !outlasted(s.c, s.now);
	/* A light task looks again after its own slice: for a slice of its tier it would run several times its share. */
	if (s.t && keep(&s, s.c->pending ? turn_of(s.t, slot(s.t->tier)) : slice_of(s.t->tier))) {
		check_stopgap(cpu, before);
		goto out;
	}
	if (!s.t && s.c->pending && prev && is_queued(prev)) {
		/* The scheduler itself, with work left. */
		scx_bpf_task_set_slice(prev, slice_of(TIER_SYSTEM));
		s.c->pending = 0;
		goto out;
	}
	/* Idle: there is nothing to preempt, and a real-time task may come and not be seen here. */
	s.c->tier = TIER_SYSTEM;
	go_idle(&s);
out:
	end_stopgaps(drained);
	/* usersched_has_pending_tasks() took the crate's "needed" flag; back with it while work is left. */
	if (s.c->pending)
		set_usersched_needed();
}
