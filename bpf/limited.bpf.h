/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which limits a task is under. They are read from where the kernel itself keeps cpu.max, the task's task_group and those
 * above: no cgroup is followed for them, a new cgroup's limit is in force at once, and a subtree whose cpu controller is off
 * belongs to the group above it, as under the stock scheduler.
 */

/* cgroup id -> entry of infera_limits. Written below, and by sweep_limits(), which removes cgroups that are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LIMITED);
	__type(key, u64);
	__type(value, u32);
} infera_limit_slots SEC(".maps");

/* Entries that have a queue: all below this one. */
static volatile u32 limit_queues;

/* Counted up every 50 ms: each task that runs looks for its limits again, which finds changes. */
static volatile u32 limit_gen = 1;

/* Entries looked at to find a free one, from the last that was found on. */
#define SLOTS_SEEN	1024
static volatile u32 limit_found;

/* A new entry for @cgroup, complete before others can find it; 0: there is no room. */
GLOBAL u32 new_limit(u64 cgroup, u64 now)
{
	u32 i, queues = limit_queues, from = limit_found;

	bpf_for(i, 0, SLOTS_SEEN) {
		u32 at = queues ? (from + i) % queues : 0, *other;
		struct infera_limit *l = limit_at(at + 1);

		if (i >= queues || !l)
			break;
		if (l->cgroup || __sync_val_compare_and_swap(&l->cgroup, 0, cgroup))
			continue;
		l->quota = 0;
		l->period = 0;
		l->parent = 0;
		l->paced = 0;
		l->hit = 0;
		l->budget = 0;
		l->given = 0;
		l->refilled_at = 0;
		l->used = 0;
		l->used_before = 0;
		l->nr_periods = 0;
		l->nr_throttled = 0;
		l->throttled_ns = 0;
		l->owed_ns = 0;
		l->seen_at = now;
		limit_found = at;
		if (!bpf_map_update_elem(&infera_limit_slots, &cgroup, &at, BPF_NOEXIST))
			return at + 1;
		/* Another CPU was faster. */
		l->cgroup = 0;
		other = bpf_map_lookup_elem(&infera_limit_slots, &cgroup);
		return other ? *other + 1 : 0;
	}
	infera_limits_refused++;
	return 0;
}

/* The entry of @cgroup, whose cpu.max is as given; 0: there is no room. */
GLOBAL u32 limit_of(u64 cgroup, u64 quota, u64 period, u64 burst, u64 now)
{
	u32 *slot = bpf_map_lookup_elem(&infera_limit_slots, &cgroup);
	u32 nr = slot ? *slot + 1 : new_limit(cgroup, now);
	struct infera_limit *l = limit_at(nr);

	if (!l || l->cgroup != cgroup)
		return 0;
	l->seen_at = now;
	if (l->quota != quota || l->period != period || l->burst != burst) {
		l->quota = quota;
		l->period = period;
		l->burst = burst;
		l->changed = 1;
	}
	return nr;
}

/* The entry of @tg, if it has a limit. */
static u32 limit_of_group(struct task_group *tg, u64 now)
{
	u64 quota, period, burst;

	if (bpf_core_field_exists(tg->cfs_bandwidth)) {
		quota = tg->cfs_bandwidth.quota;
		period = tg->cfs_bandwidth.period;
		burst = tg->cfs_bandwidth.burst;
	} else if (bpf_core_field_exists(tg->scx.bw_quota_us)) {
		quota = tg->scx.bw_quota_us;
		if (quota != NO_QUOTA)
			quota *= 1000;
		period = tg->scx.bw_period_us * 1000;
		burst = tg->scx.bw_burst_us * 1000;
	} else {
		return 0;
	}
	if (quota == NO_QUOTA || !period)
		return 0;
	return limit_of(tg->css.cgroup->kn->id, quota, period, burst, now);
}

/* Finds the nearest limited cgroup of @p, and links it to those above. */
GLOBAL u32 find_limit(struct task_struct *p __arg_trusted, u64 now)
{
	struct task_group *tg = p->sched_task_group;
	u32 nearest = 0, below = 0;
	int level;

	bpf_for(level, 0, MAX_DEPTH) {
		struct infera_limit *child = limit_at(below);
		u32 nr;

		/* The root has none. */
		if (!tg || !tg->parent) {
			if (child && child->parent)
				child->parent = 0;
			break;
		}
		nr = limit_of_group(tg, now);
		tg = tg->parent;
		if (!nr)
			continue;
		if (!nearest)
			nearest = nr;
		else if (child && child->parent != nr)
			child->parent = nr;
		below = nr;
	}
	return nearest;
}

/* 1 + entry of the nearest limited cgroup of @p; 0: none. Kernel threads have no limit, and the scheduler itself needs no budget. */
static u32 task_limit(struct task_struct *p, struct infera_task *t, u64 now)
{
	u64 group = (u64)p->sched_task_group;
	u32 gen = limit_gen;

	if (t->limit_gen == gen && t->group == group)
		return t->limit;
	/* It moves itself, and holds the kernel's lock of all cgroups meanwhile. */
	if (t->group && t->group != group && bpf_get_current_task_btf() == p)
		t->flags |= TASK_MAY_LOCK;
	t->limit_gen = gen;
	t->group = group;
	t->limit = infera_limits_mode == LIMITS_OFF || is_kthread(p) || p->tgid == usersched_pid ? 0 : find_limit(p, now);
	return t->limit;
}

/* 1 + entry of the cgroup that keeps @p from running; 0: there is budget for it. */
GLOBAL u32 out_of_budget(struct task_struct *p __arg_trusted, u64 now)
{
	struct infera_task *t = lookup_task(p);
	u32 nr;
	int level;

	if (!t)
		return 0;
	nr = task_limit(p, t, now);
	bpf_for(level, 0, LIMIT_LEVELS) {
		struct infera_limit *l = limit_at(nr);

		if (!l)
			break;
		refill(nr, now);
		/* Those that wait already are first. */
		if (l->budget <= 0 || (l->parked && l->budget < quantum(l)))
			return nr;
		nr = l->parent;
	}
	return 0;
}
