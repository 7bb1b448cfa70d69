/* SPDX-License-Identifier: GPL-2.0-only */
/* ops.enqueue: a task waits. Which queue, and which CPU is to serve it. */

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
	/* After the insert: go_idle(). */
	full_barrier();
	if (time_delta(now, went_idle_at) < IDLE_RACE_NS)
		scx_bpf_kick_cpu(went_idle, 0);
	if (searched)
		return;
	if (preempts_from(tier) < NR_TIERS)
		cpu = claim_lower(p, prev, tier);
	/* A preempted task is behind its peers, too, but each such step would cost a switch. */
	if (cpu < 0 && (t->flags & TASK_WOKEN))
		cpu = claim_peer(p, prev, tier, now);
	if (cpu < 0)
		cpu = claim_spared(p, prev, tier);
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

/* @p waits for budget, with what it has of a slice. */
static __always_inline void enqueue_parked(struct task_struct *p, struct infera_task *t, u32 nr, u32 tier, u64 enq_flags, u64 now)
{
	u64 slice = t->rest < MIN_REST_NS ? turn_of(t, tier) : t->rest;

	if (enq_flags & SCX_ENQ_WAKEUP) {
		wake(t, tier, now);
		if (by_vtime(tier))
			slice = infera_wake_slice_ns[slot(tier)];
	} else {
		t->flags &= ~TASK_WOKEN;
	}
	t->rest = 0;
	park(p, t, nr, slice, enq_flags, now);
}

void BPF_STRUCT_OPS(infera_enqueue, struct task_struct *p, u64 enq_flags)
{
	s32 prev_cpu = scx_bpf_task_cpu(p);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns(), slice;
	bool wakeup = enq_flags & SCX_ENQ_WAKEUP, searched;
	u32 tier, served, nr;

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
	count_in(p, t, tier);
	if (is_helper(p) && !is_pinned(p)) {
		enqueue_helper(p, prev_cpu, enq_flags);
		return;
	}
	nr = must_park(p, t, wakeup, now);
	if (nr) {
		enqueue_parked(p, t, nr, tier, enq_flags, now);
		return;
	}
	if (!wakeup && t->rest < MIN_REST_NS) {
		/* The policy does the same for user tiers. */
		if (t->vtime && !is_user_tier(tier) && by_vtime(tier))
			enter_order(t, tier);
		/* A pinned task's place among the others with its CPU the policy decides. */
		if (is_pinned(p) || !is_behind(t, tier))
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
