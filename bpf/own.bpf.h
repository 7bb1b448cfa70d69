/* SPDX-License-Identifier: GPL-2.0-only */
/* The scheduler's own process: its main thread, which is the loop, and its helper threads. */

/*
 * The scheduler process left its CPU. The crate lets it run again when there are messages
 * for it, which is right after it yielded; but when it slept, or was interrupted, it has
 * something to go on with: attaching alone sleeps several times, locking its memory.
 */
static void enqueue_scheduler(struct task_struct *p, s32 prev_cpu, u64 enq_flags)
{
	s32 cpu;

	rustland_enqueue(p, enq_flags);
	/* A message can come while it is about to yield, or a real-time task can preempt it before it reads: then it goes on. */
	if (infera_sched_idle && !(enq_flags & SCX_ENQ_WAKEUP) && !bpf_ringbuf_query(&queued, BPF_RB_AVAIL_DATA))
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
	if (cpu < 0)
		cpu = claim_spared(p, prev_cpu, TIER_SYSTEM);
	if (cpu >= 0)
		preempt(cpu);
}

/*
 * @p, a thread of the scheduler's process, starts on a CPU. If the process was killed, the node goes back at once: the kernel
 * closes the scheduler's link only after it has given all of the process's memory back. The signal wakes every thread.
 */
static void leave_if_killed(struct task_struct *p)
{
	if (p->signal->flags & SIGNAL_GROUP_EXIT_)
		scx_bpf_exit(EXIT_KILLED, "the scheduler's process was killed");
}
