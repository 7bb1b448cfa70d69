/* SPDX-License-Identifier: GPL-2.0-only */
/* Decisions of the policy, from the ring into the queues. */

/* Executes one decision; returns 1 to leave the others in the ring. */
static long take_decision(struct bpf_dynptr *dynptr, void *context)
{
	const struct dispatched_task_ctx *d = bpf_dynptr_data(dynptr, 0, sizeof(*d));
	u32 *left = context, slots = scx_bpf_dispatch_nr_slots(), tier, limit;
	u64 slice, now = clock_ns();
	struct infera_task *t;
	struct task_struct *p;
	s32 cpu;

	if (!d)
		return 0;
	/* Exited meanwhile: nothing to run. */
	p = bpf_task_from_pid(d->pid);
	if (!p)
		return 0;
	t = lookup_task(p);
	/* Otherwise this decision is stale. */
	if (!t || !take_task(t, d->enq_cnt))
		goto out;
	cpu = scx_bpf_task_cpu(p);
	tier = slot(t->tier);
	slice = d->slice_ns ?: turn_of(t, tier);
	t->vtime = d->vtime;
	t->due = now - (d->flags & SCX_ENQ_WAKEUP ? woken_lead(tier) : 0);
	t->flags |= TASK_PICKED;
	count_path(bpf_get_smp_processor_id(), tier, PATH_USER);

	limit = must_park(p, t, 1, now);
	if (limit) {
		park(p, t, limit, slice, d->flags, now);
		cpu = NO_CPU;
	/* A pinned task waits where it can run; so does one whose CPUs are all fenced. */
	} else if (is_pinned(p) || served_as(p, tier) == NO_TIER) {
		queue_pinned(p, cpu, tier, slice, d->flags, now);
	} else {
		if (!(t->flags & TASK_DECIDED)) {
			t->flags |= TASK_DECIDED;
			__sync_fetch_and_add(&infera_run_depth, 1);
		}
		queue_tier(p, t, tier, slice, d->flags, now);
		cpu = pick_idle(p, cpu, tier);
	}
	/*
	 * Enqueued again since the test above. Only where the insert took a slot: kernels with
	 * sub-schedulers ignore one for a task that is not ours, and cancelling would take
	 * back the decision before it.
	 */
	if (t->enq_cnt != (u32)d->enq_cnt + 1) {
		leave_queue(t);
		if (scx_bpf_dispatch_nr_slots() < slots)
			scx_bpf_dispatch_cancel();
		__sync_fetch_and_add(&nr_cancel_dispatches, 1);
	}
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
out:
	bpf_task_release(p);
	(*left)--;
	return !*left || !scx_bpf_dispatch_nr_slots();
}

/* How many decisions were taken from the ring. */
static volatile u64 received __attribute__((aligned(64)));

/* Whether there were any. Looking into an empty ring costs more than the rest of a dispatch that finds nothing. */
static bool drain_decisions(void)
{
	/* A variable's value: from a constant the verifier would follow each count by itself. */
	u32 left = infera_drain_batch;
	long drained;

	if (received == infera_sent)
		return false;
	/* -EBUSY when another CPU drains: it takes them. */
	drained = bpf_user_ringbuf_drain(&dispatched, take_decision, &left, BPF_RB_NO_WAKEUP);
	if (drained > 0)
		__sync_fetch_and_add(&received, drained);
	return drained > 0;
}
