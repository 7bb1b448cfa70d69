/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The plan as CPU masks, for nodes with a fence: what the tables of bytes say, without a look at each CPU.
 *
 * infera_init() makes the masks, which are never replaced. apply_plan() sets and clears their bits one by one, so a reader
 * may see some CPUs of the old plan and some of the new, as in the tables themselves.
 */

struct tier_masks {
	struct bpf_cpumask __kptr *serves;	/* CPUs that tasks of this tier can rely on */
	struct bpf_cpumask __kptr *first;	/* where it goes first: its home, for System off the fence */
	struct bpf_cpumask __kptr *lent;	/* where it goes besides */
};

/* By tier. Written by infera_init() and infera_measure(). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TIER_SLOTS);
	__type(key, u32);
	__type(value, struct tier_masks);
} infera_masks SEC(".maps");

struct scratch_mask {
	struct bpf_cpumask __kptr *mask;
};

/* By CPU; each is used on its own CPU alone, in callbacks with interrupts off. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CPUS);
	__type(key, u32);
	__type(value, struct scratch_mask);
} infera_scratch SEC(".maps");

static void assign_cpu(struct bpf_cpumask *mask, s32 cpu, bool in)
{
	if (in)
		bpf_cpumask_set_cpu(cpu, mask);
	else
		bpf_cpumask_clear_cpu(cpu, mask);
}

/* Brings the masks of @tier up to the tables. */
GLOBAL s32 apply_plan(u32 tier)
{
	struct tier_masks *masks = bpf_map_lookup_elem(&infera_masks, &tier);
	struct bpf_cpumask *serves, *first, *lent;
	s32 cpu, err = -ENOENT;

	if (!masks)
		return err;
	bpf_rcu_read_lock();
	serves = masks->serves;
	first = masks->first;
	lent = masks->lent;
	if (serves && first && lent) {
		bpf_for(cpu, 0, nr_cpu_ids) {
			bool home = is_home(cpu, tier), loan = is_loan(cpu, tier), at_first = prefers(cpu, tier);

			/* User tiers do not rely on loans: they may vanish. */
			assign_cpu(serves, cpu, home || (loan && !is_user_tier(tier)));
			assign_cpu(first, cpu, at_first);
			assign_cpu(lent, cpu, (home || loan) && !at_first);
		}
		err = 0;
	}
	bpf_rcu_read_unlock();
	return err;
}

static __always_inline s32 make_mask(struct bpf_cpumask **at)
{
	struct bpf_cpumask *mask = bpf_cpumask_create();

	if (!mask)
		return -ENOMEM;
	mask = bpf_kptr_xchg(at, mask);
	if (mask)
		bpf_cpumask_release(mask);
	return 0;
}

static s32 make_masks(void)
{
	s32 err = 0;
	u32 i;

	bpf_for(i, 0, NR_TIERS) {
		struct tier_masks *masks = bpf_map_lookup_elem(&infera_masks, &i);

		if (!masks)
			return -ENOENT;
		err = make_mask(&masks->serves) ?: make_mask(&masks->first) ?: make_mask(&masks->lent) ?: apply_plan(i);
		if (err)
			return err;
	}
	bpf_for(i, 0, nr_cpu_ids) {
		struct scratch_mask *scratch = bpf_map_lookup_elem(&infera_scratch, &i);

		if (!scratch)
			break;
		err = make_mask(&scratch->mask);
		if (err)
			return err;
	}
	return 0;
}
