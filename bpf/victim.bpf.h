/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose CPU a wakeup takes: that of a lower tier. A claim on it is a compare-and-swap, so that two wakeups at the same
 * time take two CPUs.
 */

/*
 * The rank of @p that wakers compare with. System's is that of no victim, except on a fence, which it
 * gives back to Critical like a loan. So is the rank of the scheduler process and of its helpers.
 */
static u32 rank_shown(const struct task_struct *p, const struct infera_task *t, s32 cpu)
{
	u32 tier = slot(t->tier);

	if (tier == TIER_SYSTEM && p->tgid != usersched_pid && p->nr_cpus_allowed > 1 && is_fenced(cpu))
		return TIER_HIGH;
	return tier;
}

/* A guaranteed turn is given up to Critical alone. */
static u32 turn_rank(u32 tier)
{
	return tier > TIER_HIGH ? TIER_HIGH : tier;
}

/* The best rank (lowest number) that @tier may take a CPU from. */
static u32 preempts_from(u32 tier)
{
	/* System's threads are short and many: they wait for protected tiers. */
	return tier == TIER_SYSTEM ? TIER_NORMAL : tier + 1;
}

/* A word of running_on[], rotated so that wakers with different homes find different CPUs first. */
static u64 cpus_running(u32 tier, u32 at, u32 shift)
{
	u64 word = running_on[slot(tier)][at & (CPU_WORDS - 1)];

	return shift ? word >> shift | word << (64 - shift) : word;
}

/* Takes the first CPU out of such a word. */
static s32 take_first(u64 *word, u32 at, u32 shift)
{
	s32 cpu = at * 64 + ((highest_bit(*word & -*word) + shift) & 63);

	*word &= *word - 1;
	return cpu;
}

/* The claim keeps two wakeups at the same time from taking the same CPU. */
static bool claim_from(s32 cpu, struct task_struct *p, u32 runs, u32 tier, u32 spared)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || c->tier != runs || c->spared != spared || !may_use(cpu, tier) || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr) ||
	    __sync_val_compare_and_swap(&c->tier, runs, tier) != runs)
		return false;
	c->claimed = tier + 1;
	return true;
}

/*
 * Claims a CPU that runs @runs: the next one after @prev. A claim that another waker was faster with goes on to the next CPU. @spared: one
 * that runs a nice kernel thread, and else none of these.
 */
static __always_inline s32 claim_running(struct task_struct *p, s32 prev, u32 runs, u32 tier, u32 spared)
{
	u32 words = (nr_cpu_ids + 63) / 64;
	int i, j;

	bpf_for(i, 0, words) {
		u32 at = (i + prev / 64) % words, shift = prev & 63;
		u64 word = cpus_running(runs, at, shift);

		if (!word)
			continue;
		bpf_for(j, 0, 64) {
			s32 cpu;

			if (!word)
				break;
			cpu = take_first(&word, at, shift);
			if (claim_from(cpu, p, runs, tier, spared))
				return cpu;
		}
	}
	return NO_CPU;
}

/* Claims a CPU that runs the lowest tier below @tier: @prev, then the next ones after it. Nice kernel threads keep theirs. */
GLOBAL s32 claim_lower(struct task_struct *p __arg_trusted, s32 prev, u32 tier)
{
	u32 from = preempts_from(tier);
	int back;

	if (!(infera_preempts & TIER_BIT(tier)))
		return NO_CPU;
	/* Below, too; here without a loop. */
	if (from <= TIER_BACKGROUND && claim_from(prev, p, TIER_BACKGROUND, tier, 0))
		return prev;
	bpf_for(back, 0, NR_TIERS - from) {
		u32 runs = TIER_BACKGROUND - back;
		s32 cpu;

		if (claim_from(prev, p, runs, tier, 0))
			return prev;
		cpu = claim_running(p, prev, runs, tier, 0);
		if (cpu >= 0)
			return cpu;
	}
	return NO_CPU;
}

/*
 * Claims the CPU of a nice kernel thread for @tier, where neither a lower tier nor a peer has one to give: such a thread (khugepaged, ksmd)
 * is Low, but may keep its CPU inside the kernel for milliseconds.
 */
GLOBAL s32 claim_spared(struct task_struct *p __arg_trusted, s32 prev, u32 tier)
{
	if (!(infera_preempts & TIER_BIT(tier)) || preempts_from(tier) > TIER_LOW)
		return NO_CPU;
	return claim_running(p, prev, TIER_LOW, tier, 1);
}
