/* SPDX-License-Identifier: GPL-2.0-only */
/* Which tasks wait for a decision of the policy, and the message about them to user space. */

/* The rest of a slice that is worth a switch. */
#define MIN_REST_NS	(100 * 1000ULL)

/*
 * The slice with which @t waits by virtual time in the kernel; 0: it used up its slice, and the policy
 * decides. A preempted task has its rest: that was decided already. A woken one and a newcomer
 * have a wake slice. Where the policy orders wakeups, they wait for its decision.
 */
static u64 slice_without_policy(struct infera_task *t, u32 tier, u64 enq_flags)
{
	u64 rest = t->rest;

	t->rest = 0;
	if (rest >= MIN_REST_NS)
		return rest;
	if (!is_user_tier(tier))
		return turn_of(t, tier);
	if (by_vtime(tier) && ((enq_flags & SCX_ENQ_WAKEUP) || (t->flags & TASK_WOKEN && rest)))
		return infera_wake_slice_ns[slot(tier)];
	return 0;
}

/*
 * Sends @p to the policy; when that is late or the ring full, to its tier's queue. Nothing wakes up on the ring:
 * the scheduler process is given a CPU when there is work.
 */
GLOBAL s32 queue_to_user(struct task_struct *p __arg_trusted, u32 tier, s32 cpu, u64 enq_flags, u64 now)
{
	struct infera_task *t = lookup_task(p);
	struct queued_task_ctx *msg;
	bool late;

	if (!t)
		return 0;
	late = policy_is_late(now);
	msg = late ? NULL : bpf_ringbuf_reserve(&queued, sizeof(*msg), 0);
	if (!msg) {
		if (!late)
			sched_congested(p);
		if (is_pinned(p) || served_as(p, tier) == NO_TIER)
			queue_pinned(p, cpu, tier, turn_of(t, tier), enq_flags, now);
		else
			queue_tier(p, t, tier, turn_of(t, tier), enq_flags, now);
		count_path(bpf_get_smp_processor_id(), tier, PATH_FULL);
		return 0;
	}
	/* Of the crate's message, what user space reads: its name and times cost more than the rest. */
	msg->pid = p->pid;
	msg->cpu = cpu;
	msg->nr_cpus_allowed = p->nr_cpus_allowed;
	msg->flags = enq_flags;
	/* Two fields with another meaning: the tier's clock, and enum infera_message. */
	msg->start_ts = tier_clock[slot(tier)];
	msg->stop_ts = t->flags & TASK_PICKED ? MSG_PICKED : 0;
	/* CPU time on every path since the policy last saw the task, not since it slept. */
	msg->exec_runtime = t->ran;
	/* The message has no field for it: the tier travels above the weight (1..10000). */
	msg->weight = whole_weight(t) | (u64)tier << 32;
	msg->vtime = t->vtime;
	msg->enq_cnt = t->enq_cnt;
	msg->comm[0] = 0;
	t->ran = 0;
	t->flags &= ~TASK_PICKED;
	remember_asked(p, t);
	expect_policy(now);
	bpf_ringbuf_submit(msg, BPF_RB_NO_WAKEUP);
	if (!sched_wanted_at)
		sched_wanted_at = now;
	return 0;
}
