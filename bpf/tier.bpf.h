/* SPDX-License-Identifier: GPL-2.0-only */
/* Which tier a task is of. */

/*
 * The tier of the nearest named cgroup, from @p's own upwards. Reads by probe because the
 * way to an ancestor differs between kernels and the kfuncs for it need references.
 */
static u32 find_tier(struct task_struct *p)
{
	struct cgroup *cgrp = BPF_CORE_READ(p, cgroups, dfl_cgrp);
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct cgroup_subsys_state *parent;
		u64 id = BPF_CORE_READ(cgrp, kn, id);
		u32 *tier = bpf_map_lookup_elem(&infera_cgroups, &id);

		if (tier)
			return *tier & (TIER_SLOTS - 1);
		parent = BPF_CORE_READ(cgrp, self.parent);
		if (!parent)
			break;
		cgrp = (void *)parent - bpf_core_field_offset(struct cgroup, self);
	}
	return infera_default_tier & (TIER_SLOTS - 1);
}

/*
 * The tier of @p now: O(1) while its cgroup and the tables stay, found anew when it forked,
 * moved or a rule changed. No cgroup callback is needed for any of that.
 */
static u32 task_tier(struct task_struct *p, struct infera_task *t)
{
	u32 gen = infera_table_gen;
	u64 cgid;

	/* Helper threads of the scheduler must never wait for the scheduler. */
	if (is_kthread(p) || p->tgid == usersched_pid)
		return t->tier = TIER_SYSTEM;
	cgid = p->cgroups->dfl_cgrp->kn->id;
	if (t->cgid != cgid || t->gen != gen) {
		t->tier = find_tier(p);
		t->cgid = cgid;
		t->gen = gen;
	}
	return t->tier & (TIER_SLOTS - 1);
}
