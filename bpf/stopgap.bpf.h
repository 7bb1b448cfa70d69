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
