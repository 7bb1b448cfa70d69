/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a task may run, and whose CPU it takes. */

/* Longer than a slice: who began to run before that runs no more, or was seen to go on. */
#define LOWER_NS	(200 * 1000000ULL)

static bool is_home(s32 cpu, u32 tier)
{
	volatile u8 *home = ARRAY_ELEM_PTR(infera_cpu_home, cpu, MAX_CPUS);

	return home && (*home & TIER_BIT(tier));
}

static bool may_use(s32 cpu, u32 tier)
{
	volatile u8 *home = ARRAY_ELEM_PTR(infera_cpu_home, cpu, MAX_CPUS);
	volatile u8 *loan = ARRAY_ELEM_PTR(infera_cpu_loan, cpu, MAX_CPUS);

	return home && loan && ((*home | *loan) & TIER_BIT(tier));
}

/*
 * @p has exactly one CPU to go to. A task that leaves its CPU is the current one, and for that
 * one the kernel counts a callback like this as disabled migration.
 */
static bool is_pinned(const struct task_struct *p)
{
	return p->nr_cpus_allowed == 1 || is_migration_disabled(p);
}

/*
 * Whether some CPU that @p may use serves @tier. A CPU that is only lent owes the user tiers
 * nothing.
 */
static bool has_cpu(const struct task_struct *p, u32 tier)
{
	int i;

	bpf_for(i, 0, nr_cpu_ids) {
		if ((tier < TIER_NORMAL ? may_use(i, tier) : is_home(i, tier)) &&
		    bpf_cpumask_test_cpu(i, p->cpus_ptr))
			return true;
	}
	return false;
}

/*
 * Whose CPUs and queue serve @p of @tier: its own tier's, unless its affinity leaves it none of
 * them. Critical outside of its fence is served as High is; who has no CPU even so gets
 * NR_TIERS, and waits for the CPU it is on.
 */
static u32 served_as(const struct task_struct *p, u32 tier)
{
	if (!infera_fenced || (p->nr_cpus_allowed >= nr_cpu_ids && !is_pinned(p)) ||
	    has_cpu(p, tier))
		return tier;
	if (tier == TIER_CRITICAL && has_cpu(p, TIER_HIGH))
		return TIER_HIGH;
	return NR_TIERS;
}

/*
 * Claims an idle CPU for @p: where it last ran, then a whole idle core, then any; CPUs of
 * its tier before borrowed ones.
 */
static s32 pick_idle(struct task_struct *p, s32 prev, u32 tier)
{
	s32 cpu;
	int i;

	if (is_home(prev, tier) && bpf_cpumask_test_cpu(prev, p->cpus_ptr) &&
	    scx_bpf_test_and_clear_cpu_idle(prev))
		return prev;
	if (!infera_fenced) {
		if (smt_enabled && tier <= TIER_HIGH) {
			cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, SCX_PICK_IDLE_CORE);
			if (cpu >= 0)
				return cpu;
		}
		return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	}
	bpf_for(i, 0, nr_cpu_ids) {
		if (is_home(i, tier) && bpf_cpumask_test_cpu(i, p->cpus_ptr) &&
		    scx_bpf_test_and_clear_cpu_idle(i))
			return i;
	}
	bpf_for(i, 0, nr_cpu_ids) {
		if (may_use(i, tier) && bpf_cpumask_test_cpu(i, p->cpus_ptr) &&
		    scx_bpf_test_and_clear_cpu_idle(i))
			return i;
	}
	return NO_CPU;
}

/* The lowest rank (best tier) that @tier may take a CPU from. */
static u32 preempts_from(u32 tier)
{
	/* Kernel threads are short and many: they wait for protected tiers. */
	return tier == TIER_SYSTEM ? TIER_NORMAL : tier + 1;
}

/*
 * Claims the CPU that runs the lowest tier below @tier, @prev on a tie. The claim keeps two
 * wakeups at the same time from taking the same CPU.
 */
static s32 pick_victim(struct task_struct *p, s32 prev, u32 tier)
{
	u32 worst = 0, from = preempts_from(tier);
	s32 victim = NO_CPU;
	struct cpu_ctx *c;
	int i;

	if (!(infera_preempts & TIER_BIT(tier)))
		return NO_CPU;
	if (tier >= TIER_NORMAL && time_delta(clock_ns(), lower_ran_at) >= LOWER_NS)
		return NO_CPU;
	/* Nothing is lower: no need to look at the others. */
	c = lookup_cpu(prev);
	if (c && c->tier == TIER_BACKGROUND && may_use(prev, tier) &&
	    bpf_cpumask_test_cpu(prev, p->cpus_ptr) &&
	    __sync_val_compare_and_swap(&c->tier, TIER_BACKGROUND, tier) == TIER_BACKGROUND)
		return prev;
	bpf_for(i, 0, nr_cpu_ids) {
		u32 runs;

		c = lookup_cpu(i);
		if (!c || !may_use(i, tier) || !bpf_cpumask_test_cpu(i, p->cpus_ptr))
			continue;
		runs = c->tier;
		if (runs >= from && (runs > worst || (runs == worst && i == prev))) {
			worst = runs;
			victim = i;
			if (runs == TIER_BACKGROUND)
				break;
		}
	}
	c = lookup_cpu(victim);
	if (!c || __sync_val_compare_and_swap(&c->tier, worst, tier) != worst)
		return NO_CPU;
	return victim;
}

static void claim(s32 cpu, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		c->tier = tier;
}
