/* SPDX-License-Identifier: GPL-2.0-only */
/* Idle CPUs. */

static bool core_is_idle(s32 cpu)
{
	const struct cpumask *cores = scx_bpf_get_idle_smtmask();
	bool idle = bpf_cpumask_test_cpu(cpu, cores);

	scx_bpf_put_cpumask(cores);
	return idle;
}

/* Whether a search is worth its cost: on a busy node no CPU is idle. */
static bool some_cpu_is_idle(void)
{
	const struct cpumask *idle = scx_bpf_get_idle_cpumask();
	bool some = !bpf_cpumask_empty(idle);

	scx_bpf_put_cpumask(idle);
	return some;
}

/* pick_idle() on a node with a fence: by the masks of the plan. */
static s32 pick_idle_fenced(struct task_struct *p, u32 tier, bool whole_core)
{
	u32 this_cpu = bpf_get_smp_processor_id();
	struct tier_masks *masks = bpf_map_lookup_elem(&infera_masks, &tier);
	struct scratch_mask *scratch = bpf_map_lookup_elem(&infera_scratch, &this_cpu);
	struct bpf_cpumask *first, *lent, *mask;
	const struct cpumask *idle;
	s32 cpu = NO_CPU;
	int i;

	if (!masks || !scratch)
		return NO_CPU;
	bpf_rcu_read_lock();
	first = masks->first;
	lent = masks->lent;
	mask = scratch->mask;
	if (!first || !lent || !mask)
		goto out;
	bpf_cpumask_and(mask, cast_mask(first), p->cpus_ptr);
	if (whole_core)
		cpu = scx_bpf_pick_idle_cpu(cast_mask(mask), SCX_PICK_IDLE_CORE);
	if (cpu < 0)
		cpu = scx_bpf_pick_idle_cpu(cast_mask(mask), 0);
	if (cpu >= 0)
		goto out;
	cpu = NO_CPU;
	idle = scx_bpf_get_idle_cpumask();
	bpf_cpumask_and(mask, cast_mask(lent), p->cpus_ptr);
	bpf_cpumask_and(mask, cast_mask(mask), idle);
	scx_bpf_put_cpumask(idle);
	bpf_for(i, 0, nr_cpu_ids) {
		s32 next = bpf_cpumask_first(cast_mask(mask));

		if (next >= nr_cpu_ids)
			break;
		if (may_use(next, tier) && scx_bpf_test_and_clear_cpu_idle(next)) {
			cpu = next;
			break;
		}
		bpf_cpumask_clear_cpu(next, mask);
	}
out:
	bpf_rcu_read_unlock();
	return cpu;
}

/*
 * Claims an idle CPU for @p: where it last ran, then any. Critical and High take a whole idle core
 * before a half-busy one, as the stock scheduler does. CPUs of the own tier go before loans.
 */
GLOBAL s32 pick_idle(struct task_struct *p __arg_trusted, s32 prev, u32 tier)
{
	bool whole_core = smt_enabled && tier <= TIER_HIGH && tier != TIER_SYSTEM;
	s32 cpu;

	if (!some_cpu_is_idle())
		return NO_CPU;
	if (prefers(prev, tier) && bpf_cpumask_test_cpu(prev, p->cpus_ptr) &&
	    (!whole_core || core_is_idle(prev)) && scx_bpf_test_and_clear_cpu_idle(prev))
		return prev;
	if (!infera_fenced) {
		if (whole_core) {
			cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, SCX_PICK_IDLE_CORE);
			if (cpu >= 0)
				return cpu;
			if (scx_bpf_test_and_clear_cpu_idle(prev))
				return prev;
		}
		return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	}
	return pick_idle_fenced(p, tier, whole_core);
}
