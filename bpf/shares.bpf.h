/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shares: what a task weighs within its tier, by its nice value and by cpu.weight of the cgroups that it is in.
 *
 * The cgroups of a tier's tasks are a tree, in which siblings share by cpu.weight what their parent has, and tasks what their
 * cgroup has. Weights are read from where the kernel keeps them, the task_groups: a subtree whose cpu controller is off belongs to the
 * group above it, as under the stock scheduler. What is counted here is how much is runnable in each cgroup; user space
 * computes from that what each is worth (scx_infera/src/shares.rs). So a wakeup costs a count and not a walk up the tree,
 * and a cgroup's share does not depend on how many threads it has.
 */

/* cgroup id and tier -> entry of infera_groups. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_GROUPS);
	__type(key, u64);
	__type(value, u32);
} infera_group_slots SEC(".maps");

#define MAX_WEIGHT	10000

/* Where the search for a free entry begins. */
static volatile u32 group_free;

/* Entries are counted from 1; 0 is none. */
static volatile struct infera_group *group_at(u32 nr)
{
	return nr ? ARRAY_ELEM_PTR(infera_groups, nr - 1, MAX_GROUPS) : NULL;
}

/* A tier's tasks are a tree of their own. 0: an autogroup, which is no cgroup. */
static u64 group_key(struct task_group *tg, u32 tier)
{
	u64 id = tg->css.cgroup->kn->id;

	return id ? id * TIER_SLOTS + slot(tier) : 0;
}

/* cpu.weight of @tg, and less than 1 where cpu.idle is set. */
static u32 group_weight(struct task_group *tg)
{
	/* The kernel's own number for a weight of 100 is 2^20; its smallest, for cpu.idle, is three thousandths of that. */
	if (bpf_core_field_exists(tg->shares))
		return (tg->shares * 100 * SHARE_ONE + (1 << 19)) >> 20;
	return 100 * SHARE_ONE;
}

/* A new entry for @key; 0: there is no room. */
GLOBAL u32 new_group(u64 key)
{
	u32 i, from = group_free;

	bpf_for(i, 0, SLOTS_SEEN) {
		u32 at = (from + i) & (MAX_GROUPS - 1), *other;
		volatile struct infera_group *g = group_at(at + 1);

		if (!g || g->key || __sync_val_compare_and_swap(&g->key, 0, key))
			continue;
		g->parent = 0;
		g->weight = 100 * SHARE_ONE;
		g->runnable = 0;
		g->share = 0;
		g->parts = 0;
		g->seen = limit_gen - 1;
		group_free = at + 1;
		if (!bpf_map_update_elem(&infera_group_slots, &key, &at, BPF_NOEXIST))
			return at + 1;
		/* Another CPU was faster. */
		g->key = 0;
		other = bpf_map_lookup_elem(&infera_group_slots, &key);
		return other ? *other + 1 : 0;
	}
	__sync_fetch_and_add(&infera_weights_refused, 1);
	return 0;
}

GLOBAL u32 group_of(u64 key)
{
	u32 *at = bpf_map_lookup_elem(&infera_group_slots, &key);

	return at ? *at + 1 : new_group(key);
}

/*
 * The entry of @p's cgroup, which may be @nr; with those of the cgroups above, whose weights are read again. What was looked
 * at since limit_gen was last counted up is taken as it is.
 */
GLOBAL u32 find_group(struct task_struct *p __arg_trusted, u32 tier, u32 nr)
{
	struct task_group *tg = p->sched_task_group;
	u32 gen = limit_gen, below = 0, found = 0;
	int level;

	bpf_for(level, 0, MAX_DEPTH) {
		volatile struct infera_group *g = group_at(nr), *child;
		u64 key;

		if (!tg)
			break;
		key = group_key(tg, tier);
		if (!key) {
			tg = tg->parent;
			continue;
		}
		if (!g || g->key != key) {
			nr = group_of(key);
			g = group_at(nr);
		}
		if (!g)
			break;
		child = group_at(below);
		if (!child)
			found = nr;
		else if (child->parent != nr)
			child->parent = nr;
		if (nr > infera_groups_end)
			infera_groups_end = nr;
		if (g->seen == gen)
			break;
		g->seen = gen;
		g->weight = group_weight(tg);
		below = nr;
		nr = g->parent;
		tg = tg->parent;
	}
	return found;
}

/* @t sleeps, or leaves its cgroup, its tier or sched_ext. */
static void count_out(struct infera_task *t)
{
	volatile struct infera_group *g = group_at(t->group_nr);

	if (g && t->counted)
		__sync_fetch_and_sub(&g->runnable, t->counted);
	t->counted = 0;
}

GLOBAL s32 enter_group(struct task_struct *p __arg_trusted, u32 tier)
{
	struct infera_task *t = lookup_task(p);
	u32 nr;

	if (!t)
		return 0;
	nr = find_group(p, tier, t->group_nr);
	if (nr != t->group_nr)
		count_out(t);
	t->group_nr = nr;
	t->task_group = (u64)p->sched_task_group;
	t->group_tier = tier;
	t->group_gen = limit_gen;
	return 0;
}

/* @p of @tier waits or runs: it counts in its cgroup, until count_out(). */
static void count_in(struct task_struct *p, struct infera_task *t, u32 tier)
{
	volatile struct infera_group *g;
	u32 weight = p->scx.weight;

	if (t->group_gen != limit_gen || t->group_tier != tier || t->task_group != (u64)p->sched_task_group)
		enter_group(p, tier);
	if (t->counted == weight)
		return;
	g = group_at(t->group_nr);
	if (!g)
		return;
	__sync_fetch_and_add(&g->runnable, weight - t->counted);
	t->counted = weight;
}

/*
 * What @p, which counts in its cgroup, weighs in @tier, in 1 / SHARE_ONE: a hundredth of the mean at least, or it would wait for half a
 * minute beside a crowd, which the kernel takes for a stall.
 */
static u32 weight_of(struct task_struct *p, const struct infera_task *t, u32 tier)
{
	volatile struct infera_group *g = group_at(t->group_nr);
	u64 share = g ? g->share : 0, weight = p->scx.weight;

	if (!share)
		return weight * SHARE_ONE;
	weight = weight * share / (g->runnable + g->parts ?: 1);
	if (weight > MAX_WEIGHT * SHARE_ONE)
		return MAX_WEIGHT * SHARE_ONE;
	return weight < SHARE_ONE ? SHARE_ONE : weight;
}

/* The weight of @t as the policy sees it. */
static u32 whole_weight(const struct infera_task *t)
{
	return t->weight / SHARE_ONE ?: 100;
}
