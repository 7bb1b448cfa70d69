/* SPDX-License-Identifier: GPL-2.0-only */
/* ops.enqueue: a task waits. Which queue, and which CPU is to serve it. */

/*
 * Sends @p to the policy; when the ring is full, to its tier's queue. Nothing wakes up on the ring:
 * the scheduler process is given a CPU when there is work.
 */
GLOBAL s32 queue_to_user(struct task_struct *p __arg_trusted, u32 tier, s32 cpu, u64 enq_flags, u64 now)
{
	struct infera_task *t = lookup_task(p);
	struct queued_task_ctx *msg;

	if (!t)
		return 0;
	msg = bpf_ringbuf_reserve(&queued, sizeof(*msg), 0);
	if (!msg) {
		sched_congested(p);
		if (is_pinned(p))
			queue_pinned(p, cpu, tier, slice_of(tier), enq_flags, now);
		else
			queue_tier(p, t, tier, slice_of(tier), enq_flags, now);
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
	msg->weight = p->scx.weight | (u64)tier << 32;
	msg->vtime = t->vtime;
	msg->enq_cnt = t->enq_cnt;
	msg->comm[0] = 0;
	t->ran = 0;
	t->flags &= ~TASK_PICKED;
	bpf_ringbuf_submit(msg, BPF_RB_NO_WAKEUP);
	if (!sched_wanted_at)
		sched_wanted_at = now;
	return 0;
}

/* The rest of a slice that is worth a switch. */
#define MIN_REST_NS	(100 * 1000ULL)

/*
 * @t, woken and back from its CPU, is still behind its tier: it keeps its place, whatever has that CPU now.
 * So sleeping is worth one credit in the whole, and not one wake slice.
 */
static bool is_behind(const struct infera_task *t, u32 tier)
{
	return (t->flags & TASK_WOKEN) && by_vtime(tier) &&
	       t->vtime + infera_wake_gran_ns[slot(tier)] < tier_clock[slot(tier)];
}

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
		return slice_of(tier);
	if (by_vtime(tier) && ((enq_flags & SCX_ENQ_WAKEUP) || (t->flags & TASK_WOKEN && rest)))
		return infera_wake_slice_ns[slot(tier)];
	return 0;
}

/*
 * Has a CPU serve the queue that @p of @tier just entered. @searched: a moment ago there was no CPU to take for it, or
 * it has none to take.
 */
static __always_inline void fetch_cpu(struct task_struct *p, struct infera_task *t, s32 prev, u32 tier, bool searched, u64 now)
{
	s32 cpu = pick_idle(p, prev, tier);

	if (cpu >= 0) {
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return;
	}
	if (time_delta(now, went_idle_at) < IDLE_RACE_NS)
		scx_bpf_kick_cpu(went_idle, 0);
	if (searched)
		return;
	if (preempts_from(tier) < NR_TIERS)
		cpu = claim_lower(p, prev, tier);
	/* A preempted task is behind its peers, too, but each such step would cost a switch. */
	if (cpu < 0 && (t->flags & TASK_WOKEN))
		cpu = claim_peer(p, prev, tier, t->vtime, now);
	if (cpu >= 0)
		preempt(cpu);
}

/*
 * A wakeup that did not pass infera_select_cpu(), because the CPU that @p ran on had not switched away from it
 * yet: the same search.
 */
GLOBAL s32 send_woken(struct task_struct *p __arg_trusted, s32 prev, u32 tier, u64 enq_flags)
{
	struct infera_task *t = lookup_task(p);
	u32 how = HOW_QUEUE;
	s32 cpu;

	if (!t)
		return 0;
	cpu = find_cpu(p, t, prev, tier, &how);
	if (how == HOW_QUEUE)
		return 0;
	send_to(p, t, SCX_DSQ_LOCAL_ON | cpu, tier, how, enq_flags);
	if (how == HOW_IDLE)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	return 1;
}

/* A task with one CPU to go to, which did not pass infera_select_cpu(). */
GLOBAL s32 enqueue_pinned(struct task_struct *p __arg_trusted, u32 tier, s32 cpu, u64 enq_flags, u64 now)
{
	struct infera_task *t = lookup_task(p);
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
	slice = slice_without_policy(t, tier, enq_flags);
	if (!slice)
		queue_to_user(p, tier, cpu, enq_flags, now);
	else if (is_user_tier(tier) || served_as(p, tier) == NO_TIER)
		queue_pinned(p, cpu, tier, slice, enq_flags, now);
	else
		queue_tier(p, t, tier, slice, enq_flags, now);
	if (slice)
		count_path(bpf_get_smp_processor_id(), tier, PATH_QUEUE);
	scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	return 0;
}

/*
 * The scheduler process left its CPU. The crate lets it run again when there are messages
 * for it, which is right after it yielded; but when it slept, or was interrupted, it has
 * something to go on with: attaching alone sleeps several times, locking its memory.
 */
static void enqueue_scheduler(struct task_struct *p, s32 prev_cpu, u64 enq_flags)
{
	s32 cpu;

	rustland_enqueue(p, enq_flags);
	if (infera_sched_idle && !(enq_flags & SCX_ENQ_WAKEUP))
		return;
	set_usersched_needed();
	if (!sched_wanted_at)
		sched_wanted_at = clock_ns();
	cpu = pick_idle(p, prev_cpu, TIER_SYSTEM);
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
}

/* A thread of the scheduler's process: served before everything else, and by no rule of a tier. */
static void enqueue_helper(struct task_struct *p, s32 prev_cpu, u64 enq_flags)
{
	s32 cpu = pick_idle(p, prev_cpu, TIER_SYSTEM);

	fill(HELPER_QUEUE, clock_ns());
	scx_bpf_dsq_insert(p, HELPER_DSQ, slice_of(TIER_SYSTEM), enq_flags);
	count_path(bpf_get_smp_processor_id(), TIER_SYSTEM, PATH_QUEUE);
	if (cpu >= 0) {
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return;
	}
	cpu = claim_lower(p, prev_cpu, TIER_SYSTEM);
	if (cpu >= 0)
		preempt(cpu);
}

void BPF_STRUCT_OPS(infera_enqueue, struct task_struct *p, u64 enq_flags)
{
	s32 prev_cpu = scx_bpf_task_cpu(p);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns(), slice;
	bool wakeup = enq_flags & SCX_ENQ_WAKEUP, searched;
	u32 tier, served;

	if (is_usersched_task(p)) {
		enqueue_scheduler(p, prev_cpu, enq_flags);
		return;
	}
	if (!t) {
		scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, slice_ns, enq_flags);
		return;
	}
	t->enq_cnt++;
	t->queued_at = now;
	leave_queue(t);
	/* A better scheduling class took the CPU, where @p ran or was the next: it has its slice still. */
	if (enq_flags & SCX_ENQ_REENQ)
		t->rest = p->scx.slice;
	tier = task_tier(p, t);
	if (is_helper(p) && !is_pinned(p)) {
		enqueue_helper(p, prev_cpu, enq_flags);
		return;
	}
	if (!wakeup && t->rest < MIN_REST_NS) {
		if (!is_behind(t, tier))
			t->flags &= ~TASK_WOKEN;
		else if (is_user_tier(tier))
			t->rest = infera_wake_slice_ns[slot(tier)];
	}
	/* In order of time: a preempted task keeps its place. */
	if (wakeup || t->rest < MIN_REST_NS)
		t->due = now - (wakeup ? woken_lead(slot(t->tier)) : 0);
	/* What used up its slice takes no CPU. */
	searched = wakeup ? __COMPAT_is_enq_cpu_selected(enq_flags) : !t->rest;
	if (!t->vtime && by_vtime(tier)) {
		/* At attach, and after a change of tier: in its place without a decision. */
		enq_flags |= SCX_ENQ_WAKEUP;
		wake(t, tier, now);
	}
	if (wakeup && (is_pinned(p) || !searched)) {
		/* It did not pass infera_select_cpu(). */
		t->woke_at = now;
		wake(t, tier, now);
	}
	if (is_pinned(p)) {
		enqueue_pinned(p, tier, prev_cpu, enq_flags, now);
		return;
	}
	served = served_as(p, tier);
	if (wakeup && !searched && served != NO_TIER && send_woken(p, prev_cpu, served, enq_flags))
		return;
	slice = slice_without_policy(t, tier, enq_flags);
	if (!slice) {
		t->flags &= ~TASK_WOKEN;
		queue_to_user(p, tier, prev_cpu, enq_flags, now);
		served = tier;
		searched = true;
	} else if (served == NO_TIER) {
		queue_pinned(p, prev_cpu, tier, slice, enq_flags, now);
		scx_bpf_kick_cpu(prev_cpu, SCX_KICK_IDLE);
		return;
	} else {
		queue_tier(p, t, served, slice, enq_flags, now);
		count_path(bpf_get_smp_processor_id(), tier, PATH_QUEUE);
		if (t->flags & TASK_WAITING && by_vtime(tier))
			look_in(patience(tier), now);
	}
	fetch_cpu(p, t, prev_cpu, served, wakeup || searched, now);
}
