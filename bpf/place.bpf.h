/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * find_cpu() is the one place that decides between an idle CPU, the CPU of a lower tier, the CPU of
 * a peer that is ahead in virtual time, that of a nice kernel thread, and a queue; send_to() carries it out.
 */

static void claim(s32 cpu, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		c->tier = tier;
}

/* How find_cpu() found a CPU: what the caller does to get it. */
enum how {
	HOW_QUEUE,	/* none: the task waits in a queue */
	HOW_IDLE,
	HOW_LOWER,
	HOW_PEER,
};

static s32 find_cpu(struct task_struct *p, struct infera_task *t, s32 prev, u32 tier, u32 *how)
{
	s32 cpu = pick_idle(p, prev, tier);

	*how = HOW_IDLE;
	if (cpu >= 0) {
		claim(cpu, tier);
		return cpu;
	}
	*how = HOW_LOWER;
	cpu = claim_lower(p, prev, tier);
	if (cpu >= 0)
		return cpu;
	*how = HOW_PEER;
	cpu = t->flags & TASK_STORMY ? NO_CPU : claim_peer(p, prev, tier, clock_ns());
	if (cpu >= 0)
		return cpu;
	*how = HOW_LOWER;
	cpu = claim_spared(p, prev, tier);
	if (cpu >= 0)
		return cpu;
	*how = HOW_QUEUE;
	return prev;
}

/*
 * Sends @p to the local queue @dsq of a CPU that was found for it, past everything else there. A wake
 * slice ends soon enough for what waits; on an idle CPU nothing does.
 */
static __always_inline void send_to(struct task_struct *p, struct infera_task *t, u64 dsq, u32 tier, u32 how, u64 enq_flags)
{
	u64 slice = how == HOW_PEER ? infera_wake_slice_ns[slot(tier)] : slice_of(tier);
	u32 path = how == HOW_IDLE ? PATH_IDLE : how == HOW_LOWER ? PATH_PREEMPT : PATH_PEER;

	scx_bpf_dsq_insert(p, dsq, slice, enq_flags | (how == HOW_IDLE ? 0 : SCX_ENQ_PREEMPT));
	count_path(bpf_get_smp_processor_id(), tier, path);
}
