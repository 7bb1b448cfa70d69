/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What user space and the overlay share beyond sizes: tables to execute, figures to read.
 *
 * User space writes the tables through the mmapped .bss. Each entry is one word and valid by
 * itself, so a change needs no lock and no detach. infera_init() fills in the defaults that hold
 * from attach until user space's first write.
 */

/* Queue ids above the crate's. */
#define TIER_DSQ(tier)	((u64)(MAX_CPUS + 16 + (tier)))	/* one a tier, ordered by virtual time */
#define HELPER_DSQ	((u64)(MAX_CPUS + 32))		/* the scheduler's own helper threads */
#define NO_CPU		(-1)
#define NO_TIER		NR_TIERS
#define TIER_BIT(tier)	(1U << (tier))

/* Written by user space when a configuration or a plan comes into force; read at every placement. */
volatile u8 infera_cpu_home[MAX_CPUS];		/* tiers (TIER_BIT) that may always run on a CPU */
volatile u8 infera_cpu_loan[MAX_CPUS];		/* tiers that may borrow it while its own are away */
volatile u16 infera_sibling[MAX_CPUS];		/* the next CPU of the same core, in a ring */
volatile u32 infera_fenced;			/* whether any home mask excludes a tier */
volatile u32 infera_plan_gen;			/* counted up after a change of the three above */
volatile u32 infera_preempts;			/* tiers that take a lower tier's CPU on wakeup */
volatile u32 infera_default_tier;		/* tier of a task whose cgroups no rule names */
volatile u64 infera_slice_ns[TIER_SLOTS];	/* slices of tasks that do not pass user space */
volatile u32 infera_drain_batch;		/* decisions executed at one dispatch, which holds its runqueue's lock */
volatile u64 infera_sched_bound_ns;		/* the scheduler goes before all tiers after this long */
/*
 * How long the tasks of a tier wait at most for a CPU that others keep busy; NORMAL's entry holds
 * for the user tiers together, and SYSTEM's on a fence alone. Then one of them has a guaranteed turn, of infera_turn_ns at most.
 */
volatile u64 infera_bound_ns[TIER_SLOTS];
volatile u64 infera_turn_ns;
volatile u32 infera_limits_mode;		/* enum infera_limits_mode */

/* What the policy publishes about wakeups, one entry a tier. */
volatile u64 infera_wake_gran_ns[TIER_SLOTS];	/* lead in virtual time that a peer loses its CPU for */
volatile u64 infera_wake_slice_ns[TIER_SLOTS];	/* how long a woken task runs before it is weighed again */
volatile u64 infera_wake_credit_ns[TIER_SLOTS];	/* how far sleeping leaves a task behind its tier */
volatile u64 infera_wake_wait_ns[TIER_SLOTS];	/* a woken task that waited this long goes before better user tiers; 0: never */

/* infera_wake_gran_ns: no task of this tier is placed by virtual time; the policy orders it. */
#define NEVER	(~0ULL)

/* Written by user space as it goes. */
volatile u32 infera_table_gen;			/* counted up after a change of infera_cgroups */
volatile u64 infera_sent;			/* decisions, counted after each is in the ring */
volatile u64 infera_round_began;		/* rounds of the loop: it takes in what has come, and decides */
volatile u64 infera_round_ended;
volatile u32 infera_sched_idle;			/* the loop yields because it has nothing left to do */

/*
 * cgroup id -> tier, for the cgroups that a rule names. User space writes it (and removes
 * cgroups that are gone); a subtree inherits by walking up once per task and cgroup.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CGROUPS);
	__type(key, u64);
	__type(value, u32);
} infera_cgroups SEC(".maps");

/* Figures written here, read by user space. One writer each: the CPU of the first index. */
volatile u64 infera_latency[MAX_CPUS][TIER_SLOTS][LAT_BUCKETS];	/* wakeups by latency */
volatile u64 infera_cpu_time[MAX_CPUS][TIER_SLOTS];		/* ns on CPU */
/* Of that, what tasks had used when they went to sleep, which does not pass the policy. */
struct infera_sleepers {
	u64 woken_ns;	/* by tasks that only wakeups had given a CPU */
	u64 picked_ns;	/* by tasks that the policy had decided on, and charged for in advance */
	u64 picked;	/* how many those were */
};
volatile struct infera_sleepers infera_slept[MAX_CPUS][TIER_SLOTS];
volatile u64 infera_paths[MAX_CPUS][TIER_SLOTS][PATH_SLOTS];	/* enum infera_path */
/* Waits for the budget of a limited cgroup that have ended, and how long they were. */
struct infera_waits {
	u64 waits;
	u64 ns;
};
volatile struct infera_waits infera_throttled[MAX_CPUS][TIER_SLOTS];
volatile u64 infera_guaranteed[MAX_CPUS];			/* turns given by a wait bound */

/* Written by whichever CPU it concerns, atomically. */
volatile u64 infera_run_depth __attribute__((aligned(64)));	/* decided tasks that no CPU has taken yet */

volatile u64 infera_limit_periods;	/* periods of limited cgroups in which they ran or waited */
volatile u64 infera_limit_throttled;	/* of those, in which tasks waited for budget */
volatile u64 infera_limits_refused;	/* times that a limited cgroup found no room in infera_limits */

volatile u64 infera_weights_refused;	/* times that a cgroup found no room in infera_groups */

/*
 * A cgroup with a cpu controller, seen from one tier. The first four are written here, `parts` and `share` by user space, which
 * computes shares every 50 ms.
 */
struct infera_group {
	u64 key;	/* its id times TIER_SLOTS, plus the tier; 0: this entry is free */
	u32 parent;	/* 1 + entry of the cgroup above; 0: none */
	u32 weight;	/* its cpu.weight, in 1 / SHARE_ONE */
	u32 runnable;	/* nice weights of the runnable tasks that are directly in it */
	u32 seen;	/* limit_gen as of the last look at it */
	u64 share;	/* what it is worth in its tier, in 1 / SHARE_ONE; 0: what its tasks' nice weights are worth */
	u32 parts;	/* among how much weight it shares that: of the cgroups in it that are active */
} __attribute__((aligned(64)));

volatile struct infera_group infera_groups[MAX_GROUPS];
volatile u32 infera_groups_end;	/* all entries in use are below this one */

/* Written by the timer that checks on user space. */
volatile u64 infera_realtime_at;	/* when it last saw real-time threads on every CPU */
volatile u64 infera_realtime_held;	/* ns that real-time threads have kept one CPU, the longest of all CPUs */

/* Written by infera_measure(). */
volatile u64 infera_waited[TIER_SLOTS];	/* ns that the longest wait in each tier's queues has lasted */
volatile u64 infera_unseen;	/* ns that the scheduler process has had work it has not seen */
