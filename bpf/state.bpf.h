/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the overlay keeps about queues, CPUs and tasks.
 *
 * Functions of more than five arguments are __always_inline: BPF has no arguments on the stack. Those
 * with loops and many branches are GLOBAL: the verifier checks such a function once, by itself, and a
 * static one along every path that leads to it.
 */
#define GLOBAL	__noinline

/* Priorities below this are of better scheduling classes, real-time and deadline: the kernel's. */
#define MAX_RT_PRIO	100

/*
 * When a queue was last inserted into, and when it was last seen empty. A CPU skips the kernel's
 * look-up, some 170 instructions, unless `filled` plus SETTLE_NS is newer than `emptied`: an
 * insert takes effect after the callback that recorded it.
 */
struct queue {
	u64 filled;
	u64 emptied;
} __attribute__((aligned(64)));

/* By tier; and behind them HELPER_DSQ: clang would take a variable of its own apart, which BTF then does not describe. */
static struct queue tier_queues[TIER_SLOTS];
#define HELPER_QUEUE	(&tier_queues[NR_TIERS])

/* The last insert into any of these queues, those of the CPUs among them. */
static volatile u64 last_filled __attribute__((aligned(64)));

/* A CPU. Written by the CPU itself; `tier`, `claimed` and `vt` also by wakers that claim it. */
struct cpu_ctx {
	struct queue pinned;	/* tasks that can run nowhere else: cpu_to_dsq() */
	u32 tier;	/* rank that wakers compare with; TIER_SYSTEM: this CPU is no victim */
	u32 claimed;	/* 1 + rank of a task that was sent here and has not started; 0: none */
	u32 shown;	/* 1 + tier whose running_on bit is set for this CPU; 0: none */
	u32 guaranteed;	/* the task that starts next has a guaranteed turn */
	u32 in_turn;	/* the running task has one: 1 + the tier whose bound it is */
	u32 cut;	/* the running task was put off before its slice ended */
	u32 spared;	/* the running task is a nice kernel thread, the last victim: claim_spared() */
	u32 favoured;	/* 1 + tier to serve next; 0: none */
	u32 pinned_ran;	/* the last turn of the user tiers was of the pinned queue */
	u32 pending;	/* the scheduler process has work, as of this dispatch */
	u32 asked;	/* the scheduler has had its part of the user tiers' guaranteed turn */
	u32 weight;	/* of the running task: weight_of() */
	u32 taken;	/* a better scheduling class has this CPU */
	u32 giving_up;	/* its local queue is being put back: ops.enqueue() runs within another program */
	u32 woken;	/* the running task is within its wake slice */
	u32 stopgap;	/* the running task goes on until there is a decision: stopgap.bpf.h */
	u32 looked_again;	/* this CPU found no work, and looks once more */
	u32 limit;	/* of the running task: 1 + entry in infera_limits, 0: none */
	u64 reserved;	/* budget that it may spend */
	u64 reserved_until;
	u64 vt;		/* virtual time of the running task at vt_at */
	u64 vt_at;
	u64 started;	/* the running task got this CPU */
	s64 credit;	/* ns that woken tasks may still run here ahead of others, as of credit_at */
	u64 credit_at;
	u64 since[TIER_SLOTS];	/* each tier last had a turn here, or had nothing waiting */
	u64 pinned_at;		/* the same for the pinned queue */
	u64 look_at;		/* when the timer of this CPU expires; in the past: it is not armed */
	u64 look_then;		/* when it is to expire after that; 0: when it expires, that is decided */
	u64 realtime_since;	/* the timer has seen a real-time thread here each time since then; 0: not the last time */
	u64 kept_since;	/* the same, and each time a task waited for this CPU alone */
	u64 wanted_at;	/* infera_measure() last found such a task in a queue */
	u64 taken_at;		/* a better class took this CPU; 0: a task of sched_ext has started since, or the CPU was idle */
	u64 served_at;		/* the kernel's server for sched_ext last gave this CPU to a task: is_served() */
	u64 nothing_at;		/* this CPU last found every queue empty */
	u64 pinned_turn;	/* pinned queue: the last turn taken; from NR_TIERS on, above the places of queue_first() */
	u64 pinned_turns[TIER_SLOTS];	/* and the last one given out to each tier */
} __attribute__((aligned(64)));

static struct cpu_ctx cpu_ctxs[MAX_CPUS];

/* CPUs by the tier they last ran, a bit each: where to look for a victim. `tier` above decides. */
#define CPU_WORDS	(MAX_CPUS / 64)
static volatile u64 running_on[TIER_SLOTS][CPU_WORDS];

/* Woken tasks in each tier's queue. Where there are some, what runs gives way at a tick. */
static volatile u64 woken_waiting[TIER_SLOTS] __attribute__((aligned(64)));

/* Since when the scheduler process has had work it has not seen; 0: none. */
static volatile u64 sched_wanted_at __attribute__((aligned(64)));

/* The scheduler process is on a CPU. The crate's usersched_last_run_at is when it last started. */
static volatile u32 sched_on_cpu;

/*
 * The CPU that found no work last, and when. Its idle bit is set a moment later: a task that is queued
 * in between finds no idle CPU, and this one does not find the task. So for IDLE_RACE_NS what is
 * queued has that CPU look again; and the CPU does so by itself where something was queued while it looked.
 * (ops.update_idle() would do it, but needs a flag that the crate's loader overwrites, and on 6.12 it comes before the
 * bit is set, too.)
 */
#define IDLE_RACE_NS	(50 * 1000ULL)
static volatile u64 went_idle_at __attribute__((aligned(64)));
static volatile s32 went_idle;

enum task_flag {
	TASK_WOKEN	= 1,	/* waits or runs since a wakeup, within its wake slice */
	TASK_DECIDED	= 2,	/* counted in infera_run_depth */
	TASK_PICKED	= 4,	/* the policy decided on it since it last had it */
	TASK_WAITING	= 8,	/* counted in woken_waiting[] of its tier */
	TASK_STORMY	= 16,	/* of a storm of wakeups: it takes no peer's CPU */
	TASK_FIRST	= 32,	/* woken, and first in a pinned queue */
	TASK_OWES	= 64,	/* goes on though its cgroup has no budget */
	TASK_MAY_LOCK	= 128,	/* it may hold a lock of the kernel's: it last slept as for one, or moves itself to another cgroup */
};

/* A task. Written by the callbacks for it, which the kernel does not run at the same time. */
struct infera_task {
	u64 cgid;	/* cgroup that tier was found for */
	u32 gen;	/* and the table generation */
	u32 tier;	/* as of its last wakeup, or of the end of its last slice */
	u32 flags;	/* enum task_flag */
	u32 enq_cnt;	/* counts enqueues, and what ended each: take_task() */
	u64 last_woke;	/* the last wakeup */
	u64 woke_at;	/* wakeup that has not run yet, 0: none */
	u64 queued_at;	/* since when it has waited in a queue here or in user space */
	u64 due;	/* its place in time among the user tiers' first tasks */
	u64 charged;	/* of the CPU time that the kernel accounts */
	u64 ran;	/* CPU time that the policy has not been sent */
	u64 vtime;	/* virtual time within its tier, 0: none yet */
	u64 until;	/* end of the slice that it runs on */
	u32 weight;	/* within its tier, as of its last start: weight_of() */
	u32 group_nr;	/* 1 + entry in infera_groups of its cgroup, 0: none */
	u64 task_group;	/* and what that was found for */
	u32 group_tier;
	u32 group_gen;	/* and when */
	u32 counted;	/* what it has added to that entry's `runnable` */
	u64 group;	/* task_group that limit was found for */
	u32 limit_gen;	/* and when */
	u32 limit;	/* 1 + entry in infera_limits of its nearest limited cgroup, 0: none */
	u32 owed_runs;	/* how often it went on without budget */
	u64 rest;	/* what was left of its slice when it was preempted, 0: nothing */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct infera_task);
} infera_tasks SEC(".maps");

/*
 * One clock for all CPUs. scx_bpf_now() is the runqueue's of the CPU that asks, which may be behind
 * another's; times of different CPUs are compared here.
 */
static u64 clock_ns(void)
{
	return bpf_ktime_get_ns();
}

static struct infera_task *lookup_task(struct task_struct *p)
{
	return bpf_task_storage_get(&infera_tasks, p, 0, 0);
}

/* Between writing what another CPU reads and reading what it writes. A compare-and-swap is a full barrier on every CPU. */
static void full_barrier(void)
{
	volatile u64 word = 0;

	__sync_val_compare_and_swap(&word, 0, 1);
}

/* By macro: clang otherwise moves the arithmetic before the bounds check (7.2's verifier refuses). */
static struct cpu_ctx *lookup_cpu(s32 cpu)
{
	return ARRAY_ELEM_PTR(cpu_ctxs, cpu, MAX_CPUS);
}

/*
 * For the current task, entering a program may count as disabled migration. Whether it does on this kernel
 * scx_lib_init_probe() has found out when the scheduler was registered. The kernel calls ops.enqueue() from within another
 * program where that puts a CPU's tasks back, and the current one may be among them: give_up_cpu(). Then it counts twice.
 */
GLOBAL s32 stays_disabled(u32 disabled, u32 pid)
{
	struct cpu_ctx *c;

	if (!__scx_prolog_disables_migration || (u32)bpf_get_current_pid_tgid() != pid)
		return 1;
	if (disabled == 1)
		return 0;
	c = lookup_cpu(bpf_get_smp_processor_id());
	return disabled > (c && c->giving_up ? 2 : 1);
}

/* The index of @tier in tables. The barrier: clang leaves the mask out where it knows a range that the verifier does not. */
static u32 slot(u32 tier)
{
	barrier_var(tier);
	return tier & (TIER_SLOTS - 1);
}

/* The position of the highest bit; 0 for none. Without a loop: each wakeup needs it. */
GLOBAL u32 highest_bit(u64 word)
{
	u32 bit = 0;

#define HALVE(bits)			\
	if (word >> (bits)) {		\
		word >>= (bits);	\
		bit += (bits);		\
	}
	HALVE(32)
	HALVE(16)
	HALVE(8)
	HALVE(4)
	HALVE(2)
	HALVE(1)
#undef HALVE
	return bit;
}

static bool is_user_tier(u32 tier)
{
	return tier >= TIER_NORMAL;
}

static void count_path(s32 cpu, u32 tier, u32 path)
{
	if (cpu >= 0 && cpu < MAX_CPUS)
		infera_paths[cpu][slot(tier)][path & (PATH_SLOTS - 1)]++;
}

static u64 slice_of(u32 tier)
{
	return infera_slice_ns[slot(tier)] ?: slice_ns;
}
