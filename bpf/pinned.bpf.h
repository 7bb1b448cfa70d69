/* SPDX-License-Identifier: GPL-2.0-only */
/* Tasks that have one CPU to go to: by affinity, or because they may not migrate now. */

/*
 * Since 7.0 the kernel has a server for sched_ext: on a CPU that a real-time thread keeps it runs tasks of sched_ext for 50 ms of
 * each second. A task that starts later than SERVER_NS after such a thread took the CPU was started by that server, which is
 * expected to go on for SERVED_NS.
 */
#define SERVER_NS	(100 * 1000000ULL)
#define SERVED_NS	(2 * NSEC_PER_SEC)

/* A task starts on @c. */
static void note_server(struct cpu_ctx *c, u64 now)
{
	if (c->taken_at && time_delta(now, c->taken_at) > SERVER_NS)
		c->served_at = now;
	c->taken_at = 0;
}

/*
 * Tasks run on @cpu by the kernel's server alone. It ends where it finds none to run, and starts again only when the CPU gets its
 * first runnable task, which beside a bound hog does not happen. So the CPU's queue must not be empty while tasks wait.
 */
static bool is_served(s32 cpu, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	return c && c->served_at && time_delta(now, c->served_at) < SERVED_NS;
}

/* find_cpu() for a task that can only run on @cpu. */
static u32 find_pinned(struct task_struct *p, struct infera_task *t, s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 gran = infera_wake_gran_ns[slot(tier)];

	if (!c)
		return HOW_QUEUE;
	if (scx_bpf_test_and_clear_cpu_idle(cpu)) {
		claim(cpu, tier);
		return HOW_IDLE;
	}
	if ((infera_preempts & TIER_BIT(tier)) && c->tier >= preempts_from(tier)) {
		c->tier = tier;
		c->claimed = tier + 1;
		return HOW_LOWER;
	}
	if (gran != NEVER && peer_lead(cpu, p, tier, t->vtime, gran, now) &&
	    claim_from_peer(cpu, tier, t, now))
		return HOW_PEER;
	return HOW_QUEUE;
}

/*
 * How many woken tasks, of a tier and of those above it, may wait before the turns of a CPU's pinned tasks. What these run, each a
 * wake slice of 3 ms, is about what a CPU's credit may be overdrawn by.
 */
#define FIRST_MAX	4

/* How many woken tasks of @tier and above wait before @cpu's turns: FIRST_MAX stands for more, too. */
GLOBAL s32 first_waiting(s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct task_struct *p;
	s32 found = 0;

	if (!c || !waiting(&c->pinned, cpu_to_dsq(cpu), now))
		return 0;
	bpf_for_each(scx_dsq, p, cpu_to_dsq(cpu), 0) {
		struct infera_task *t = lookup_task(p);

		if (!t || !(t->flags & TASK_FIRST) || t->tier > tier || ++found >= FIRST_MAX)
			break;
	}
	return found;
}

/*
 * Queues @p, which is new or woken and could not preempt what runs on its CPU, or was preempted there within its wake slice,
 * before the turns of the pinned tasks, as far as the CPU's credit goes, and in order of their tiers.
 */
static __always_inline bool queue_first(struct task_struct *p, struct infera_task *t, s32 cpu, u32 tier, u64 slice, u64 enq_flags, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || !by_vtime(tier) || first_waiting(cpu, tier, now) >= FIRST_MAX || !has_credit(c, now))
		return false;
	t->flags |= TASK_FIRST;
	/* Turns are larger numbers than tiers: infera_init(). */
	queue_pinned_at(p, cpu, slice, tier, enq_flags, now);
	look_in(MIN_PATIENCE_NS, now);
	return true;
}

/* A task with one CPU to go to, which did not pass infera_select_cpu(). */
GLOBAL s32 enqueue_pinned(struct task_struct *p __arg_trusted, u32 tier, s32 cpu, u64 enq_flags, u64 now)
{
	struct infera_task *t = lookup_task(p);
	bool preempted;
	u64 slice;

	if (!t)
		return 0;
	if (bpf_get_current_task_btf() != p) {
		u32 how = find_pinned(p, t, cpu, tier, now);

		if (how != HOW_QUEUE) {
			send_to(p, t, SCX_DSQ_LOCAL_ON | cpu, tier, how, enq_flags);
			if (how == HOW_IDLE)
				scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
			return 0;
		}
		if (is_per_cpu_kthread(p)) {
			/* Next on its CPU, before any queue: the kernel's own work cannot wait for a tier's turn. */
			scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | cpu, slice_of(tier), enq_flags);
			count_path(bpf_get_smp_processor_id(), tier, PATH_QUEUE);
			return 0;
		}
	}
	preempted = t->rest >= MIN_REST_NS;
	slice = slice_without_policy(t, tier, enq_flags);
	/* In the policy's hands it would be in no queue. */
	if (!slice && is_served(cpu, now))
		slice = turn_of(t, tier);
	if (!slice)
		queue_to_user(p, tier, cpu, enq_flags, now);
	else if (!is_user_tier(tier) && served_as(p, tier) != NO_TIER)
		queue_tier(p, t, tier, slice, enq_flags, now);
	else if (is_user_tier(tier) && t->flags & TASK_WOKEN &&
		 queue_first(p, t, cpu, tier, slice, enq_flags, now))
		;
	else if (preempted)
		/* Its turn goes on. */
		queue_pinned_at(p, cpu, slice, last_turn(cpu), enq_flags, now);
	else
		queue_pinned(p, cpu, tier, slice, enq_flags, now);
	if (slice)
		count_path(bpf_get_smp_processor_id(), tier, PATH_QUEUE);
	scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	return 0;
}
