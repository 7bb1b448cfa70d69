/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an exit dump and sysrq-D show: tiers and their queues, CPUs, tasks. The kernel prints which tasks wait and since when.
 * Times are in us before the dump; virtual times in us behind the tier's clock, negative where ahead.
 */

/* How long before @now @at was; 0: never. */
static s64 us_since(u64 at, u64 now)
{
	return at ? (s64)(now - at) / 1000 : 0;
}

void BPF_STRUCT_OPS(infera_dump, struct scx_dump_ctx *dctx)
{
	u64 now = clock_ns();
	u32 tier;

	scx_bpf_dump("infera: tiers 0 System, 1 Critical, 2 High, 3 Normal, 4 Low, 5 Background, 6 none; fenced=%u table=%u\n",
		     infera_fenced, infera_table_gen);
	bpf_for(tier, 0, NR_TIERS)
		scx_bpf_dump("tier=%u queued=%d woken=%llu clock_us=%llu slice_us=%llu\n", tier,
			     scx_bpf_dsq_nr_queued(TIER_DSQ(tier)), woken_waiting[slot(tier)],
			     (tier_clock[slot(tier)] - VTIME_START) / 1000, slice_of(tier) / 1000);
	scx_bpf_dump("helpers=%d scheduler=%d decided=%llu unseen_us=%lld\n", scx_bpf_dsq_nr_queued(HELPER_DSQ),
		     scx_bpf_dsq_nr_queued(SCHED_DSQ), infera_run_depth, (s64)policy_unseen(now) / 1000);
}

void BPF_STRUCT_OPS(infera_dump_cpu, struct scx_dump_ctx *dctx, s32 cpu, bool idle)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || idle)
		return;
	scx_bpf_dump("tier=%u runs=%d sent=%d guaranteed=%d pinned=%d credit_us=%lld\n",
		     c->tier, (s32)c->shown - 1, (s32)c->claimed - 1, (s32)c->in_turn - 1,
		     scx_bpf_dsq_nr_queued(cpu_to_dsq(cpu)), c->credit / 1000);
}

void BPF_STRUCT_OPS(infera_dump_task, struct scx_dump_ctx *dctx, struct task_struct *p)
{
	struct infera_task *t = lookup_task(p);

	if (!t)
		return;
	scx_bpf_dump("tier=%u flags=%x queued_us=%lld behind_us=%lld rest_us=%llu\n", t->tier, t->flags,
		     us_since(t->queued_at, clock_ns()), (s64)(tier_clock[slot(t->tier)] - t->vtime) / 1000,
		     t->rest / 1000);
}
