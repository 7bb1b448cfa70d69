/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A better scheduling class (real-time, deadline) takes a CPU: what waits in its local queue goes elsewhere.
 *
 * Kernels from 6.19 on can put a local queue's tasks back from any program, and warn of ops.cpu_release(): there user space
 * clears that callback and loads infera_switched() instead, which takes 100 instructions of each switch. (The entry of
 * set_next_task_rt(), which would take none, cannot be attached to on 7.2: EBUSY.) Older ones have the callback alone. See
 * callbacks.rs.
 */

/* A better class has taken the CPU on which this runs. */
static void give_up_cpu(void)
{
	s32 cpu = bpf_get_smp_processor_id();
	struct cpu_ctx *c = lookup_cpu(cpu);

	/* Not a victim: what is sent here now waits for that class. */
	claim(cpu, TIER_SYSTEM);
	if (!c)
		return;
	c->taken = 1;
	c->taken_at = clock_ns();
	c->giving_up = 1;
	scx_bpf_reenqueue_local();
	c->giving_up = 0;
}

void BPF_STRUCT_OPS(infera_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	give_up_cpu();
}

/*
 * From a task of sched_ext, or from idle: a wakeup may have sent a task to an idle CPU at the very moment at which a
 * real-time task takes it.
 */
SEC("?tp_btf/sched_switch")
int BPF_PROG(infera_switched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	if (next->prio < MAX_RT_PRIO && prev->prio >= MAX_RT_PRIO)
		give_up_cpu();
	return 0;
}
