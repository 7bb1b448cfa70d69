/* SPDX-License-Identifier: GPL-2.0-only */
/* The tables of cgroups over time, kept by the thread of user space that runs infera_measure() every 50 ms. */

/* Queues that there are at first, and that are made at a time where few are unused. */
#define LIMIT_QUEUES	32

/* An entry that no task has looked for in this time is removed. */
#define LIMIT_UNSEEN_NS	(60 * 1000 * MSEC_NS)

/* Makes queues; a context that may sleep. */
static s32 make_limit_queues(void)
{
	u32 i, queues = limit_queues;

	bpf_for(i, 0, LIMIT_QUEUES) {
		s32 err;

		if (queues >= MAX_LIMITED)
			break;
		err = scx_bpf_create_dsq(LIMIT_DSQ(queues + 1), -1);
		if (err)
			return err;
		queues++;
		limit_queues = queues;
	}
	return 0;
}

/* Removes entries of cgroups that are gone or idle, makes queues for more, and finds what a lost mark left waiting. */
GLOBAL s32 sweep_limits(u64 now)
{
	u32 i, used = 0, queues = limit_queues;

	limit_gen++;
	bpf_for(i, 0, MAX_LIMITED) {
		struct infera_limit *l = limit_at(i + 1);
		u64 cgroup;

		if (i >= queues || !l)
			break;
		cgroup = l->cgroup;
		if (!cgroup)
			continue;
		used++;
		if (scx_bpf_dsq_nr_queued(LIMIT_DSQ(i + 1))) {
			mark_parked(i + 1, now);
		} else if (time_delta(now, l->seen_at) > LIMIT_UNSEEN_NS && !l->parked) {
			bpf_map_delete_elem(&infera_limit_slots, &cgroup);
			l->cgroup = 0;
		}
	}
	return used;
}

/* An entry of infera_groups is removed when it was last looked at this many steps of limit_gen ago: a minute. */
#define GROUP_UNSEEN	1200

/* How often such entries are looked for, in steps of limit_gen. */
#define GROUP_SWEEP	32

/* Removes entries of cgroups without tasks of the tier that run. */
GLOBAL s32 sweep_groups(void)
{
	u32 i, end = infera_groups_end, last = 0, gen = limit_gen;

	if (gen % GROUP_SWEEP)
		return 0;
	bpf_for(i, 0, MAX_GROUPS) {
		volatile struct infera_group *g = group_at(i + 1);
		u64 key;

		if (i >= end || !g)
			break;
		key = g->key;
		if (!key)
			continue;
		if (gen - g->seen < GROUP_UNSEEN || g->runnable) {
			last = i + 1;
			continue;
		}
		bpf_map_delete_elem(&infera_group_slots, &key);
		g->share = 0;
		g->key = 0;
		if (i < group_free)
			group_free = i;
	}
	/* An entry that came meanwhile is above: find_group() raises the end again. */
	infera_groups_end = last;
	return last;
}
