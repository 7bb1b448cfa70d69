/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a task may run: CPUs that are the home of its tier, CPUs that are lent to it, and its own affinity.
 */

/* Threads of a core that are looked at: more than any machine with sched_ext has. */
#define MAX_SIBLINGS	8

static bool is_home(s32 cpu, u32 tier)
{
	volatile u8 *home = ARRAY_ELEM_PTR(infera_cpu_home, cpu, MAX_CPUS);

	return home && (*home & TIER_BIT(tier));
}

static bool is_loan(s32 cpu, u32 tier)
{
	volatile u8 *loan = ARRAY_ELEM_PTR(infera_cpu_loan, cpu, MAX_CPUS);

	return loan && (*loan & TIER_BIT(tier));
}

/* @cpu is in Critical's fence. */
static bool is_fenced(s32 cpu)
{
	return infera_fenced && is_home(cpu, TIER_CRITICAL);
}

static s32 next_sibling(s32 cpu)
{
	volatile u16 *next = ARRAY_ELEM_PTR(infera_sibling, cpu, MAX_CPUS);

	return next ? *next : cpu;
}

/* The other CPUs of @cpu's core, with a counter that bounds the walk. */
#define for_each_sibling(sibling, cpu, i)				\
	(sibling) = (cpu);						\
	bpf_for(i, 0, MAX_SIBLINGS)					\
		if (((sibling) = next_sibling(sibling)) == (cpu))	\
			break;						\
		else

/* A sibling of @cpu runs Critical. */
GLOBAL s32 core_runs_critical(s32 cpu)
{
	s32 sibling;
	int i;

	for_each_sibling(sibling, cpu, i) {
		struct cpu_ctx *c = lookup_cpu(sibling);

		if (c && c->tier == TIER_CRITICAL)
			return 1;
	}
	return 0;
}

/* A fence holds whole cores: half of a core whose other half runs Critical is not lent. */
GLOBAL s32 may_use(s32 cpu, u32 tier)
{
	return is_home(cpu, tier) || (is_loan(cpu, tier) && !core_runs_critical(cpu));
}

/* System has the fence only where it has no other CPU: Critical would have to wait for it. */
static bool prefers(s32 cpu, u32 tier)
{
	return is_home(cpu, tier) && (tier != TIER_SYSTEM || !is_fenced(cpu));
}
