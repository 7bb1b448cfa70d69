/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose CPUs and queue serve a task: those of its tier, unless its affinity leaves it none of them. */

/*
 * @p has exactly one CPU to go to. A task that leaves its CPU is the current one, and for that
 * one the kernel counts a callback like this as disabled migration.
 */
static bool is_pinned(const struct task_struct *p)
{
	return p->nr_cpus_allowed == 1 || is_migration_disabled(p);
}

/* Some CPU that @p may use serves @tier. */
GLOBAL s32 has_cpu(struct task_struct *p __arg_trusted, u32 tier)
{
	struct tier_masks *masks = bpf_map_lookup_elem(&infera_masks, &tier);
	struct bpf_cpumask *serves;
	s32 found = 0;

	if (!masks)
		return 1;
	/* For infera_measure(), which may sleep: the verifier checks this function without its callers. */
	bpf_rcu_read_lock();
	serves = masks->serves;
	if (serves)
		found = bpf_cpumask_intersects(cast_mask(serves), p->cpus_ptr);
	bpf_rcu_read_unlock();
	return found;
}

/*
 * The tier whose CPUs and queue serve @p of @tier: its own, unless its affinity leaves it none of
 * them. Critical outside of its fence is served as High is. NO_TIER: @p waits for the CPU it is on.
 */
static u32 served_as(struct task_struct *p, u32 tier)
{
	if (!infera_fenced || (p->nr_cpus_allowed >= nr_cpu_ids && !is_pinned(p)) ||
	    has_cpu(p, tier))
		return tier;
	if (tier == TIER_CRITICAL && has_cpu(p, TIER_HIGH))
		return TIER_HIGH;
	return NO_TIER;
}
