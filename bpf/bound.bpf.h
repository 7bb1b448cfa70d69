/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wait bounds: what was kept from a CPU for too long has one turn there, of a few ms.
 */

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

/* A scheduler process that is slow waits this many times its bound: it loses a CPU to those that it holds up. */
#define SLOW_WAITS	10

/*
 * The wait bounds: what was kept from this CPU for too long has one turn. A fenced CPU owes nothing
 * to the user tiers, only to tasks that can run nowhere else.
 */
GLOBAL s32 serve_overdue(s32 cpu, u64 now)
{
	u64 bound = infera_sched_bound_ns * (policy_is_slow(now) ? SLOW_WAITS : 1);
	s32 home = is_home(cpu, TIER_NORMAL);

	return (scheduler_waited(now, bound) && serve_scheduler(cpu)) ||
	       (is_fenced(cpu) && serve_overdue_tier(cpu, TIER_SYSTEM, 1, now)) ||
	       serve_overdue_tier(cpu, TIER_CRITICAL, may_use(cpu, TIER_CRITICAL), now) ||
	       serve_overdue_tier(cpu, TIER_HIGH, may_use(cpu, TIER_HIGH), now) ||
	       serve_overdue_user(cpu, now) ||
	       serve_overdue_tier(cpu, TIER_LOW, home, now) ||
	       serve_overdue_tier(cpu, TIER_BACKGROUND, home, now) ||
	       serve_overdue_pinned(cpu, now);
}
