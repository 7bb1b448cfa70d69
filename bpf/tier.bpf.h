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
			return slot(*tier);
		parent = BPF_CORE_READ(cgrp, self.parent);
		if (!parent)
			break;
		cgrp = (void *)parent - bpf_core_field_offset(struct cgroup, self);
	}
	return slot(infera_default_tier);
}

#define NICE_0_PRIO	120

/*
 * A thread of the scheduler's process other than its main thread. None may wait for the scheduler's
 * loop: on SIGKILL the process cannot die before they have run.
 */
static bool is_helper(const struct task_struct *p)
{
	return p->tgid == usersched_pid && p->pid != usersched_pid;
}

/*
 * A kernel thread that serves one CPU: that CPU cannot do without it (softirqs, workqueues, RCU).
 * Kernel threads at nice above 0 are background work by their own account.
 */
static bool is_per_cpu_kthread(const struct task_struct *p)
{
	return is_kthread(p) && p->nr_cpus_allowed == 1 && p->static_prio <= NICE_0_PRIO;
}

/*
 * The tier of @p now: O(1) while its cgroup and the tables stay, found again when it forked,
 * moved or a rule changed. No cgroup callback is needed for any of that. A task that changes its
 * tier is a newcomer there: virtual times of two tiers do not compare.
 */
static u32 task_tier(struct task_struct *p, struct infera_task *t)
{
	u32 gen = infera_table_gen, before = t->tier;
	u64 cgid;

	if (is_kthread(p))
		return t->tier = p->static_prio > NICE_0_PRIO ? TIER_LOW : TIER_SYSTEM;
	if (p->tgid == usersched_pid)
		return t->tier = TIER_SYSTEM;
	cgid = p->cgroups->dfl_cgrp->kn->id;
	if (t->cgid != cgid || t->gen != gen) {
		t->tier = find_tier(p);
		t->cgid = cgid;
		t->gen = gen;
		if (t->tier != before) {
			t->vtime = 0;
			t->flags &= ~TASK_PICKED;
		}
	}
	return slot(t->tier);
}
