/* SPDX-License-Identifier: GPL-2.0-only */
/* What the overlay knows of CPUs and tasks. */

/*
 * Whether a queue may hold something. To ask the kernel is to search for the queue, some hundred
 * instructions, and most queues are empty most of the time. So who fills one says when, and who
 * finds it empty does, too; a task is in its queue a moment after it was said to be.
 */
struct queue {
	u64 filled;
	u64 emptied;
};
static struct queue tier_queues[TIER_SLOTS], run_queue;

/* What a CPU does now. */
struct cpu_ctx {
	struct queue own;	/* of tasks that can run nowhere else: cpu_to_dsq() */
	u32 tier;	/* tier that runs or was promised the CPU; TIER_SYSTEM when it is no victim */
	u32 guaranteed;	/* the next task runs on a wait bound: it is not preempted */
	u32 own_ran;	/* the last user turn was of its own queue */
	u32 free;	/* nobody goes on here when it asks for work */
	u32 summoned;	/* taken from a lower tier, for the scheduler to decide on somebody better */
	u32 asked;	/* the scheduler has had its part of the run queue's guaranteed turn */
	u64 user_at;	/* the run queue last had a turn here, or had nothing waiting */
	u64 own_at;	/* the same for its own queue, of tasks that can run nowhere else */
	u64 turn;	/* its own queue: the last turn taken */
	u64 turns[TIER_SLOTS];	/* and the last one given out to each tier */
	u64 high_at;	/* the same for High */
};
static struct cpu_ctx cpu_ctxs[MAX_CPUS];

/*
 * When a task of Low or Background last began to run: on most nodes there is none, and then no CPU
 * has to be looked for that runs one.
 */
static volatile u64 lower_ran_at;

/* Since when the scheduler process has had work it has not seen; 0: none. */
static volatile u64 sched_wanted_at;

/* What the overlay knows of a task. */
struct infera_task {
	u64 cgid;	/* cgroup that tier was found for */
	u32 gen;	/* and the table generation */
	u32 tier;	/* as of its last wakeup, or of the end of its last slice */
	u64 woke_at;	/* wakeup that has not run yet, 0: none */
	u64 queued_at;	/* since when it has waited in a queue here or in user space */
	u64 run_at;
	u64 ran;	/* CPU time that user space has not been told of */
	u64 vtime;	/* what the policy keeps with the task: of its last decision, for its next one */
	u64 until;	/* end of the slice that it runs on */
	u64 rest;	/* what was left of its slice when a better tier took the CPU, 0: nothing */
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

/* By macro: clang otherwise moves the arithmetic before the bounds check (7.2's verifier refuses). */
static struct cpu_ctx *lookup_cpu(s32 cpu)
{
	return ARRAY_ELEM_PTR(cpu_ctxs, cpu, MAX_CPUS);
}

static void count_path(s32 cpu, u32 tier, u32 path)
{
	if (cpu >= 0 && cpu < MAX_CPUS)
		infera_paths[cpu][tier & (TIER_SLOTS - 1)][path & (PATH_SLOTS - 1)]++;
}

static u64 slice_of(u32 tier)
{
	u64 slice = infera_slice_ns[tier & (TIER_SLOTS - 1)];

	return slice ?: slice_ns;
}
