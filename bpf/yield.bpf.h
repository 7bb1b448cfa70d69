/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When what runs gives way to a task that waits by right, and that no wakeup found a CPU for: a protected task whose
 * claim was lost to another waker, or a woken one that what runs has come ahead of since.
 *
 * Each tick asks, and a timer of the CPU on which the task was queued: look.bpf.h.
 */

/* The timer expires no sooner, whatever the policy publishes. */
#define MIN_PATIENCE_NS	(100 * 1000ULL)

/* How long a woken task of @tier, which has a wakeup rule, waits before what runs is asked. */
static u64 patience(u32 tier)
{
	u64 wait = infera_wake_wait_ns[slot(tier)], slice = infera_wake_slice_ns[slot(tier)];
	u64 ns = is_user_tier(tier) ? wait ?: slice : infera_wake_gran_ns[slot(tier)];

	return ns > MIN_PATIENCE_NS ? ns : MIN_PATIENCE_NS;
}

/* Tasks of a queue among which a woken one is looked for. */
#define WOKEN_SEEN	8

/*
 * A woken task of @tier with a virtual time below @before has waited for infera_wake_wait_ns, and is among the first of the
 * queue. The first alone is not enough: where a tier gets few CPUs, starved hogs are before its sleepers.
 */
GLOBAL s32 woken_is_late(u32 tier, u64 before, u64 now)
{
	u64 wait = infera_wake_wait_ns[slot(tier)];
	struct task_struct *p;
	s32 late = 0, seen = 0;

	if (!wait || !woken_waiting[slot(tier)])
		return 0;
	/* For the timers, as in peek(). */
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, TIER_DSQ(tier), 0) {
		struct infera_task *t = lookup_task(p);

		if (t && t->flags & TASK_WOKEN && t->vtime < before && time_delta(now, t->queued_at) >= wait) {
			late = 1;
			break;
		}
		if (++seen >= WOKEN_SEEN)
			break;
	}
	bpf_rcu_read_unlock();
	return late;
}

/* Whether what runs on @cpu, which is of @tier, gives way. */
GLOBAL s32 gives_way(s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct head head;
	u32 other, rank;
	u64 gran;

	if (!c)
		return 0;
	/* System's is lower on a fence: rank_shown(). */
	rank = tier == TIER_SYSTEM ? c->tier : tier;
	bpf_for(other, TIER_SYSTEM, TIER_NORMAL) {
		if (other < rank && rank >= preempts_from(other) && (infera_preempts & TIER_BIT(other)) &&
		    tier_waiting(other, now) && may_use(cpu, other))
			return 1;
	}
	if (is_user_tier(tier)) {
		/* Low and Background, whose woken tasks have a bound of their own; against a peer, where they are behind it. */
		bpf_for(other, TIER_LOW, NR_TIERS) {
			u64 before = other > tier ? ~0ULL : vtime_on(c, now) - infera_wake_gran_ns[slot(tier)];

			if ((other > tier || (other == tier && !c->woken)) && may_use(cpu, other) &&
			    woken_is_late(other, before, now) && has_credit(c, now)) {
				c->favoured = 1 + other;
				return 1;
			}
		}
	}
	gran = infera_wake_gran_ns[slot(tier)];
	/* A woken task that can run nowhere else, and found its CPU in the hands of System. */
	if (is_user_tier(tier) && peek_woken(cpu, &head, now)) {
		if (head.tier < tier && (infera_preempts & TIER_BIT(head.tier)))
			return 1;
		if (head.tier == tier && gran != NEVER && !c->woken && vtime_on(c, now) > head.vtime + gran)
			return 1;
	}
	return gran != NEVER && woken_waiting[slot(tier)] &&
	       time_delta(now, c->started) >= infera_wake_slice_ns[slot(tier)] && tier_waiting(tier, now) &&
	       may_use(cpu, tier) && peek(TIER_DSQ(tier), &head) && vtime_on(c, now) > head.key + gran;
}

/* Ends the slice of what runs on @cpu, whose rest it keeps. */
static void preempt(s32 cpu)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		c->cut = 1;
	scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}
