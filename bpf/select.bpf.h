/* SPDX-License-Identifier: GPL-2.0-only */
/* ops.select_cpu: a wakeup, a fork or an exec of a task that may use more than one CPU. */

/* Wakeups have used up half of the credit of the CPU that wakes. */
static bool is_stormy(u64 now)
{
	struct cpu_ctx *c = lookup_cpu(bpf_get_smp_processor_id());

	return c && (!has_credit(c, now) || c->credit < CREDIT_MAX_NS / 2);
}

/*
 * What every wakeup does first: joins its tier's order as a woken task. In a storm, a task that was woken less than a
 * granularity ago enters at the tier's clock, because each message would cost a switch otherwise (docs/decisions.md).
 */
static void wake(struct infera_task *t, u32 tier, u64 now)
{
	u64 before = t->last_woke;

	t->flags = (t->flags | TASK_WOKEN) & ~TASK_STORMY;
	t->last_woke = now;
	if (!by_vtime(tier))
		return;
	enter_order(t, tier);
	if (time_delta(now, before) >= infera_wake_gran_ns[slot(tier)] || !is_stormy(now))
		return;
	t->flags |= TASK_STORMY;
	if (t->vtime < tier_clock[slot(tier)])
		t->vtime = tier_clock[slot(tier)];
}

/*
 * A task that finds a CPU goes straight to that CPU's local queue, and ops.enqueue() is not called.
 * One that finds none comes to infera_enqueue().
 */
s32 BPF_STRUCT_OPS(infera_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	s32 this_cpu = bpf_get_smp_processor_id(), cpu;
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();
	u32 tier, how;

	if (!bpf_cpumask_test_cpu(prev_cpu, p->cpus_ptr))
		prev_cpu = bpf_cpumask_test_cpu(this_cpu, p->cpus_ptr) ?
			   this_cpu : bpf_cpumask_first(p->cpus_ptr);
	if (is_usersched_task(p) || !t)
		return prev_cpu;

	if (wake_flags & SCX_WAKE_TTWU)
		t->woke_at = now;
	tier = served_as(p, task_tier(p, t));
	if (tier == NO_TIER)
		return prev_cpu;
	/* It waits for budget: infera_enqueue() follows. */
	if (must_park(p, t, 1, now))
		return prev_cpu;
	wake(t, tier, now);
	cpu = find_cpu(p, t, prev_cpu, tier, &how);
	if (how != HOW_QUEUE)
		send_to(p, t, SCX_DSQ_LOCAL, tier, how, 0);
	return cpu;
}
