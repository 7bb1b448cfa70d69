/* SPDX-License-Identifier: GPL-2.0-only */
/* What a CPU in search of work takes: from a tier, from the tasks that can run nowhere else, or the scheduler process. */

/*
 * Nothing of @tier waits, or what did is on another CPU by now: prev goes on. Not in a tier that the policy orders: there the CPU asks for
 * a decision first, and prev goes on as a stopgap.
 */
static bool keep_alone(struct search *s, u32 tier)
{
	return s->tier == tier && !is_user_tier(tier) && keep(s, slice_of(tier));
}

/* Gives the CPU to the first task of @tier that may run on it, or to prev if that comes before. */
static bool serve_tier(struct search *s, u32 tier)
{
	struct head head;

	if (!may_use(s->cpu, tier))
		return false;
	if (!tier_waiting(tier, s->now))
		return keep_alone(s, tier);
	if (s->tier == tier && by_vtime(tier) && peek(TIER_DSQ(tier), &head) &&
	    (prev_is_before(s, &head) || prev_is_entitled(s, tier)) &&
	    keep(s, infera_wake_slice_ns[slot(tier)]))
		return true;
	if (!scx_bpf_dsq_move_to_local(TIER_DSQ(tier), 0))
		return keep_alone(s, tier);
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

/* Gives @cpu to the first woken task of @tier, for whose sake what ran there gave way. */
GLOBAL s32 serve_woken(s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct task_struct *p;
	s32 served = 0, seen = 0;

	if (!c)
		return 0;
	bpf_for_each(scx_dsq, p, TIER_DSQ(tier), 0) {
		struct infera_task *t = lookup_task(p);

		if (t && t->flags & TASK_WOKEN && bpf_cpumask_test_cpu(cpu, p->cpus_ptr) && !is_migration_disabled(p)) {
			served = scx_bpf_dsq_move(BPF_FOR_EACH_ITER, p, SCX_DSQ_LOCAL_ON | cpu, 0);
			break;
		}
		if (++seen >= WOKEN_SEEN)
			break;
	}
	if (served)
		c->since[slot(tier)] = now;
	return served;
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
	    serve_woken(s->cpu, favoured - 1, s->now))
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
	/* Where it is slow, the kernel side does its work meanwhile. */
	bool soon = (!infera_run_depth || scheduler_waited(s->now, NSEC_PER_SEC / 1000)) && !policy_is_slow(s->now);
	struct head head;

	if (soon && serve_scheduler(s->cpu))
		return true;
	if (peek_woken(s->cpu, &head, s->now) && head.tier <= first_user_tier(s->cpu, s->now) &&
	    serve_pinned(s->cpu, s->now))
		return true;
	if (!s->c->pinned_ran && serve_pinned(s->cpu, s->now))
		return true;
	return serve_shared(s) || serve_pinned(s->cpu, s->now) || serve_scheduler(s->cpu);
}
