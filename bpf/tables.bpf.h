/* SPDX-License-Identifier: GPL-2.0-only */
/* What user space and the overlay share beyond sizes: tables to execute, figures to read. */

/* Queue ids above the crate's: one for each tier served here, one for decided work. */
#define TIER_DSQ(tier)	((u64)(MAX_CPUS + 16 + (tier)))
#define RUN_DSQ		((u64)(MAX_CPUS + 32))
#define NO_CPU		(-1)
#define TIER_BIT(tier)	(1U << (tier))

/*
 * Tables written by user space through the mmapped .bss, read here. Each entry is one word
 * and valid on its own, so a change needs no lock and no detach.
 */
volatile u8 infera_cpu_home[MAX_CPUS];		/* tiers (TIER_BIT) that may always run on a CPU */
volatile u8 infera_cpu_loan[MAX_CPUS];		/* tiers that may borrow it while its own are away */
volatile u32 infera_fenced;			/* any home mask that excludes a tier? */
volatile u32 infera_preempts;	/* tiers that preempt lower ones on wakeup: user tiers once decided on */
volatile u64 infera_slice_ns[TIER_SLOTS];	/* slices of tasks that do not pass user space */
volatile u64 infera_user_bound_ns;		/* user tiers go first once kept from a CPU this long */
volatile u64 infera_high_bound_ns;		/* High goes before Critical after this long */
volatile u64 infera_sched_bound_ns;		/* the scheduler goes before everything after this long */
volatile u32 infera_default_tier;		/* tier of a task whose cgroups no rule names */
volatile u32 infera_table_gen;			/* counted up after a change of infera_cgroups */
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
volatile u64 infera_paths[MAX_CPUS][TIER_SLOTS][PATH_SLOTS];	/* enum infera_path */
volatile u64 infera_guaranteed[MAX_CPUS];			/* turns given by a wait bound */
volatile u64 infera_run_depth;	/* decided tasks that no CPU has taken yet */
volatile u64 infera_waited[TIER_SLOTS];	/* ns that each tier's first in line has waited, when measured */
volatile u64 infera_unseen;	/* ns that the scheduler process has had work it has not seen, when measured */
