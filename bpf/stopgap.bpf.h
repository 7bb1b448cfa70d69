/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A CPU that goes on with what ran there because no decision is left, though the policy has tasks that wait. Slices end at ticks, and
 * so on all CPUs at once, and only as many decisions are made ahead as half of them can take: more would be about tasks whose
 * turn has not come. So that what goes on has no second slice, it gives way as soon as there is a decision.
 */

/* CPUs that do, a bit each. */
static volatile u64 stopgaps[CPU_WORDS];

/* Whether @cpu goes on like that. */
GLOBAL s32 set_stopgap(s32 cpu, u32 is)
{
	u64 bit = 1ULL << (cpu & 63);
	u32 word = (cpu / 64) & (CPU_WORDS - 1);
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || c->stopgap == is)
		return 0;
	c->stopgap = is;
	if (is)
		__sync_fetch_and_or(&stopgaps[word], bit);
	else
		__sync_fetch_and_and(&stopgaps[word], ~bit);
	return 0;
}

/* @c has gone on like that for a slice without a decision that it could follow: what waits is not for this CPU. */
static bool outlasted(const struct cpu_ctx *c, u64 now)
{
	return c->stopgap && time_delta(now, c->started) >= slice_of(TIER_NORMAL);
}

/* Where decisions were taken in (@drained), and this CPU has taken its task: for each that is left, another CPU looks again. */
GLOBAL s32 end_stopgaps(u32 drained)
{
	u64 left = drained ? infera_run_depth : 0;
	u32 words = (nr_cpu_ids + 63) / 64;
	s32 own = bpf_get_smp_processor_id();
	int i, j;

	if (!left)
		return 0;
	bpf_for(i, 0, words) {
		u64 word = stopgaps[i & (CPU_WORDS - 1)];

		bpf_for(j, 0, 64) {
			s32 cpu;

			if (!word || !left)
				break;
			cpu = take_first(&word, i, 0);
			/* Its bit is of the task that it leaves. */
			if (cpu == own)
				continue;
			preempt(cpu);
			left--;
		}
	}
	return 0;
}

/*
 * @cpu goes on, and looks again where decisions came while it looked: it had seen @before of them. Not wherever some are left: they may be
 * about tasks that may not run here, and it would do nothing else.
 */
GLOBAL s32 check_stopgap(s32 cpu, u64 before)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	/* After setting the bit: who takes decisions in counts them, and then looks for bits. */
	full_barrier();
	if (c && c->stopgap && received != before && infera_run_depth)
		preempt(cpu);
	return 0;
}
