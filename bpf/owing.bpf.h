/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which tasks go on without budget. Others may wait for what a task does in the kernel, so it is not kept there: it runs for
 * a moment more, and its cgroup owes the time.
 */

/* How long it goes on before it is asked again. */
#define OWED_RUN_NS	(200 * 1000ULL)

/* How often a task goes on that makes one system call after the other, until there is budget for it. */
#define OWED_RUNS	10

/* What a cgroup may owe for tasks in system calls: an eighth of its quota, and this much of a small one. */
#define OWED_MIN_NS	((s64)(3 * OWED_RUN_NS))

/* The kernel's, the same since 5.2; macros are not in BTF. */
#define PF_EXITING_		0x00000004
#define SIGNAL_GROUP_EXIT_	0x00000004
#define JOBCTL_STOPS		(1UL << 17 | 1UL << 19 | 1UL << 20 | 1UL << 23)	/* STOP_PENDING, TRAP_STOP, TRAP_NOTIFY, TRAP_FREEZE */
#define SIGKILL_BIT		(1UL << 8)
#define TASK_UNINTERRUPTIBLE_	2

/* @p is about to exit, to be stopped, traced or frozen: what asks for that waits for it. */
GLOBAL s32 is_on_its_way_out(struct task_struct *p __arg_trusted)
{
	return p->flags & PF_EXITING_ || p->jobctl & JOBCTL_STOPS || p->pending.signal.sig[0] & SIGKILL_BIT ||
	       p->signal->flags & SIGNAL_GROUP_EXIT_;
}

/* A signal waits for @p. */
static bool has_signal(struct task_struct *p)
{
	return (p->pending.signal.sig[0] | p->signal->shared_pending.signal.sig[0]) & ~p->blocked.sig[0];
}

/* @p, which was preempted, is in a system call, or at its end. */
static bool is_in_syscall(struct task_struct *p)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(p);

#if defined(__TARGET_ARCH_x86)
	return regs && (s64)regs->orig_ax >= 0;
#elif defined(__TARGET_ARCH_arm64)
	return regs && regs->syscallno >= 0;
#else
	return false;
#endif
}

/* @p, for which group @nr has no budget, goes on nevertheless. */
GLOBAL s32 goes_on(struct task_struct *p __arg_trusted, u32 nr, s32 wakeup)
{
	struct infera_task *t = lookup_task(p);
	struct infera_limit *l = limit_at(nr);
	bool owes_much;
	s64 most;

	if (!t || !l || is_on_its_way_out(p))
		return 1;
	/* More would be more than the limit allows, and the time of the others. */
	most = l->quota / 8 > OWED_MIN_NS ? l->quota / 8 : OWED_MIN_NS;
	owes_much = l->budget < -most;
	if (has_signal(p) && !owes_much)
		return 1;
	/*
	 * In a system call, or back from a sleep as of those that wait for a lock, it may hold a lock of the kernel's, for which the
	 * whole node may wait. Other sleepers hold nothing.
	 */
	if (t->owed_runs >= OWED_RUNS || !(wakeup ? t->flags & TASK_MAY_LOCK : is_in_syscall(p)))
		return 0;
	/* Much is owed only for a task like that. Otherwise a cgroup whose tasks make many system calls would take more than its quota. */
	if (owes_much && !(t->flags & TASK_MAY_LOCK))
		return 0;
	t->owed_runs++;
	return 1;
}

/* @p goes to sleep: how. */
static void note_sleep(struct task_struct *p, struct infera_task *t)
{
	if (!t->limit)
		return;
	if (p->__state & TASK_UNINTERRUPTIBLE_)
		t->flags |= TASK_MAY_LOCK;
	else
		t->flags &= ~TASK_MAY_LOCK;
}
