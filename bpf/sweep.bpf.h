/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of limited cgroups over time, kept by the thread of user space that runs infera_measure() every 50 ms. */

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
