/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CPU limits (cpu.max): the budget of each limited cgroup.
 *
 * A CPU that starts a task of a limited cgroup reserves budget of that cgroup and of its limited ancestors, and gives back
 * what the task did not use. So no two CPUs spend the same budget, and what they spend in a period is the quota. The budget
 * comes once a period; to a cgroup that was near its quota in the period before it comes bit by bit, so that its tasks are
 * slowed down and not stopped. Where budget is missing the tasks wait: park.bpf.h.
 */

#define MSEC_NS		1000000ULL

/* Ancestors of a cgroup that have limits of their own. */
#define LIMIT_LEVELS	6

/* Budget comes in no smaller steps of time. */
#define REFILL_NS	(100 * 1000ULL)

/* What a CPU reserves at least, where there is some budget left: less is not worth a switch. The rest is owed. */
#define MIN_RUN_NS	(100 * 1000ULL)

/* `rate` is a fraction of a CPU in this many bits. */
#define RATE_BITS	20

/* The kernel's quota of a cgroup without a limit. */
#define NO_QUOTA	(~0ULL)

/* A limited cgroup. Written by every CPU: `budget` and the figures atomically, the period by the holder of `busy`. */
struct infera_limit {
	u64 cgroup;		/* id; 0: this entry is free */
	u64 quota;		/* ns a period */
	u64 period;
	u64 burst;
	u64 seen_at;		/* some task of it last looked for its limit */
	u32 parent;		/* 1 + entry of the next ancestor that has a limit; 0: none */
	u32 changed;		/* quota, period or burst are new */
	u32 busy;		/* some CPU counts a period or gives out budget */
	u32 paced;		/* budget comes bit by bit */
	u32 hit;		/* tasks have waited for budget in this period */
	u32 parked;		/* tasks wait for budget */
	s64 budget;		/* ns left; negative: owed */
	u64 rate;		/* quota / period, in 1 / 2^RATE_BITS */
	u64 start;		/* of the period */
	u64 given;		/* of the quota, in this period */
	u64 refilled_at;
	u64 used_before;	/* `used` at the start of the period */
	u64 parked_at;		/* a task last began to wait */
	u64 throttled_since;	/* since when tasks have waited, while `parked` */
	/* Figures for user space, since the entry was made. */
	u64 used;		/* ns of CPU time */
	u64 nr_periods;		/* periods in which it ran or waited */
	u64 nr_throttled;	/* of those, in which tasks waited for budget */
	u64 throttled_ns;	/* how long tasks waited for budget, while any did */
	u64 owed_ns;		/* CPU time that tasks had without budget, because they had to go on */
} __attribute__((aligned(64)));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_LIMITED);
	__type(key, u32);
	__type(value, struct infera_limit);
} infera_limits SEC(".maps");

/* Entries are counted from 1; 0 is none. */
static struct infera_limit *limit_at(u32 nr)
{
	u32 slot = nr - 1;

	return nr ? bpf_map_lookup_elem(&infera_limits, &slot) : NULL;
}

/* What a task that has waited for budget runs for at least, if the quota allows it. */
static s64 quantum(const struct infera_limit *l)
{
	u64 ns = l->quota / 16;

	if (ns > 2 * MSEC_NS)
		ns = 2 * MSEC_NS;
	if (ns < 2 * MIN_RUN_NS)
		ns = 2 * MIN_RUN_NS;
	return ns < l->quota ? ns : l->quota;
}

/* What is left of @left, with which @l has ended a period and @passed - 1 more. */
static s64 carried(const struct infera_limit *l, s64 left, u64 passed)
{
	u64 most = l->burst;
	s64 owed;

	if (left <= 0) {
		owed = left + (s64)((passed - 1) * l->quota);
		return owed < 0 ? owed : 0;
	}
	/*
	 * A group that uses up its quota left some because its tasks waited for a CPU, or because it was less than a quantum. An
	 * eighth of a quota more in one period is little more than 1 % over ten.
	 */
	if (l->paced && most < l->quota / 8)
		most = l->quota / 8;
	if (l->paced && most < quantum(l))
		most = quantum(l);
	return left < most ? left : most;
}

static void begin_period(struct infera_limit *l, u64 now)
{
	u64 used = l->used - l->used_before, passed;
	s64 left = l->budget, kept;

	if (l->changed || !l->period) {
		l->changed = 0;
		l->start = now;
		l->rate = (l->quota << RATE_BITS) / (l->period ?: 1);
		kept = left > 0 ? 0 : left > -(s64)l->quota ? left : -(s64)l->quota;
	} else {
		passed = time_delta(now, l->start) / l->period;
		l->start += passed * l->period;
		if (passed > 1000)
			passed = 1000;
		l->paced = passed <= 2 && (l->hit || used >= l->quota - l->quota / 8);
		kept = carried(l, left, passed ?: 1);
		if (used || l->hit) {
			l->nr_periods++;
			__sync_fetch_and_add(&infera_limit_periods, 1);
		}
		if (l->hit) {
			l->nr_throttled++;
			__sync_fetch_and_add(&infera_limit_throttled, 1);
		}
	}
	__sync_fetch_and_add(&l->budget, kept - left);
	l->given = 0;
	l->hit = l->parked;
	l->used_before = l->used;
}

/* Gives @l what it has a right to by @now. The first part of a period comes ahead of time, so that there is always some. */
static void give(struct infera_limit *l, u64 now)
{
	u64 passed = time_delta(now, l->start) + l->period / 16, due = l->quota;

	if (l->paced && passed < l->period)
		due = (l->rate * passed) >> RATE_BITS;
	if (due <= l->given)
		return;
	__sync_fetch_and_add(&l->budget, due - l->given);
	l->given = due;
}

GLOBAL s32 refill(u32 nr, u64 now)
{
	struct infera_limit *l = limit_at(nr);

	if (!l || time_delta(now, l->refilled_at) < REFILL_NS || __sync_val_compare_and_swap(&l->busy, 0, 1))
		return 0;
	if (l->changed || now >= l->start + l->period)
		begin_period(l, now);
	give(l, now);
	l->refilled_at = now;
	l->busy = 0;
	return 1;
}

/* Adds @ns to the budget of @nr and of its limited ancestors. */
GLOBAL s32 add_budget(u32 nr, s64 ns, u64 used)
{
	int level;

	bpf_for(level, 0, LIMIT_LEVELS) {
		struct infera_limit *l = limit_at(nr);

		if (!l)
			break;
		__sync_fetch_and_add(&l->budget, ns);
		if (used)
			__sync_fetch_and_add(&l->used, used);
		nr = l->parent;
	}
	return 0;
}

/*
 * Reserves up to @want ns for a CPU that runs a task of @nr; returns how many, 0: there is no budget. Where little is left,
 * half of it, because other CPUs run tasks of the cgroup, too.
 */
GLOBAL u64 reserve(u32 nr, u64 want, u64 now)
{
	u64 got = want < MIN_RUN_NS ? MIN_RUN_NS : want;
	u32 at = nr;
	int level;

	bpf_for(level, 0, LIMIT_LEVELS) {
		struct infera_limit *l = limit_at(at);
		s64 left;

		if (!l)
			break;
		refill(at, now);
		left = l->budget;
		if (left <= 0)
			return 0;
		if (left / 2 < got)
			got = left / 2;
		at = l->parent;
	}
	if (got < MIN_RUN_NS)
		got = MIN_RUN_NS;
	add_budget(nr, -(s64)got, 0);
	return got;
}

/* What ran on @c used @used of what was reserved for it. */
static void settle_limit(struct cpu_ctx *c, u32 nr, u64 used)
{
	s64 back = (s64)c->reserved - (s64)used;

	c->reserved = 0;
	add_budget(nr, back, used);
}
