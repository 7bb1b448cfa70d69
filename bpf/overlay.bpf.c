/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The infera overlay: tiers, fences, preemption and virtual time around scx_rustland_core's dispatcher.
 *
 * The crate generates main.bpf.c, whose callbacks send runnable tasks to user space and
 * bring decisions back. Redefining its three declaration macros turns those callbacks into
 * plain functions; the callbacks registered with the kernel are the ones of the headers below. They do the
 * tier work and use the crate's functions and maps for the rest. Nothing here is a policy:
 * user space fills the tables, the overlay executes them.
 *
 * What happens to a task, by file:
 *
 *   select.bpf.h    wakeup: an idle CPU, that of a lower tier, or that of a peer that is ahead in virtual time
 *   enqueue.bpf.h   no CPU: a queue. What used up its slice goes to the policy instead
 *   decide.bpf.h    the policy's decisions, into the same queues
 *   dispatch.bpf.h  a CPU takes what is first: bounds, then tiers, then virtual time
 *   run.bpf.h       on the CPU: clocks, slices, latency
 *   taken.bpf.h     a better scheduling class takes the CPU
 *
 * and beneath them:
 *
 *   tables, state   what user space writes; what the overlay keeps
 *   tier, vtime     which tier a task is of; the order within a tier
 *   queue, to_user, late   the queues in the kernel; the message to the policy; without the policy
 *   allowed, masks, served   where a task may run
 *   idle, victim, peer, place   the CPU that a wakeup gets
 *   yield, look     when what runs gives way to what waits; the timers that ask
 *   shares          what a task's cgroups weigh
 *   limit, limited   budgets of cgroups with a CPU limit; which limits a task is under
 *   owing, park, release, budget   without budget: what goes on, what waits, what ends that; on a CPU
 *   sweep           the tables of cgroups: entries that are not needed any more, and queues
 *   keep, serve, bound   what a CPU in search of work takes, and what it owes to those that have waited for long
 *   pinned, own     tasks with one CPU to go to; the scheduler's own process
 *   alive, dump     what is measured, the dead man's switch, and what an exit or sysrq-D shows
 */
#define is_migration_disabled scx_is_migration_disabled
#include <scx/common.bpf.h>
#undef is_migration_disabled
#include "migration.bpf.h"
#include "overlay.h"

#undef BPF_STRUCT_OPS
#undef BPF_STRUCT_OPS_SLEEPABLE
#undef SCX_OPS_DEFINE
#define BPF_STRUCT_OPS(name, args...) static __attribute__((unused)) name(args)
#define BPF_STRUCT_OPS_SLEEPABLE(name, args...) static __attribute__((unused)) name(args)
#define SCX_OPS_DEFINE(name, ...) extern int __unused_##name
#include "main.bpf.c"
#undef BPF_STRUCT_OPS
#undef BPF_STRUCT_OPS_SLEEPABLE
#undef SCX_OPS_DEFINE
#define BPF_STRUCT_OPS(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define BPF_STRUCT_OPS_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)
#define SCX_OPS_DEFINE(name, ...) SEC(".struct_ops.link") struct sched_ext_ops name = { __VA_ARGS__ }

#include "tables.bpf.h"
#include "state.bpf.h"
#include "tier.bpf.h"
#include "limit.bpf.h"
#include "limited.bpf.h"
#include "shares.bpf.h"
#include "vtime.bpf.h"
#include "owing.bpf.h"
#include "queue.bpf.h"
#include "allowed.bpf.h"
#include "masks.bpf.h"
#include "served.bpf.h"
#include "idle.bpf.h"
#include "victim.bpf.h"
#include "peer.bpf.h"
#include "place.bpf.h"
#include "yield.bpf.h"
#include "look.bpf.h"
#include "park.bpf.h"
#include "budget.bpf.h"
#include "select.bpf.h"
#include "own.bpf.h"
#include "late.bpf.h"
#include "to_user.bpf.h"
#include "pinned.bpf.h"
#include "enqueue.bpf.h"
#include "release.bpf.h"
#include "sweep.bpf.h"
#include "decide.bpf.h"
#include "stopgap.bpf.h"
#include "keep.bpf.h"
#include "serve.bpf.h"
#include "bound.bpf.h"
#include "dispatch.bpf.h"
#include "run.bpf.h"
#include "taken.bpf.h"
#include "alive.bpf.h"
#include "dump.bpf.h"

void BPF_STRUCT_OPS(infera_enable, struct task_struct *p)
{
	rustland_enable(p);
}

/* @p leaves sched_ext: it exits, or changes its class. */
void BPF_STRUCT_OPS(infera_disable, struct task_struct *p)
{
	struct infera_task *t = lookup_task(p);

	if (!t)
		return;
	leave_queue(t);
	count_out(t);
}

s32 BPF_STRUCT_OPS(infera_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	return bpf_task_storage_get(&infera_tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) ? 0 : -ENOMEM;
}

/*
 * Tables start as "every tier may use every online CPU", so that the moment between attach and
 * user space's first write is an ordinary, unfenced node.
 */
s32 BPF_STRUCT_OPS_SLEEPABLE(infera_init)
{
	const struct cpumask *online;
	s32 i, err = rustland_init();

	if (err)
		return err;
	online = scx_bpf_get_online_cpumask();
	bpf_for(i, 0, nr_cpu_ids) {
		if (i >= MAX_CPUS)
			break;
		infera_cpu_home[i] = bpf_cpumask_test_cpu(i, online) ? 0xff : 0;
		infera_sibling[i] = i;
		cpu_ctxs[i].pinned_turn = NR_TIERS;
	}
	scx_bpf_put_cpumask(online);
	bpf_for(i, 0, NR_TIERS) {
		tier_clock[slot(i)] = VTIME_START;
		/* Until the policy publishes: wakeups that may wait a slice for a peer, at the stock scheduler's scale. */
		infera_wake_gran_ns[slot(i)] = NSEC_PER_SEC / 1000;
		infera_wake_slice_ns[slot(i)] = 3 * (NSEC_PER_SEC / 1000);
		infera_wake_credit_ns[slot(i)] = 5 * (NSEC_PER_SEC / 1000);
		infera_bound_ns[slot(i)] = NSEC_PER_SEC;
		err = scx_bpf_create_dsq(TIER_DSQ(i), -1);
		if (err)
			return err;
	}
	infera_default_tier = TIER_NORMAL;
	infera_preempts = TIER_BIT(TIER_SYSTEM) | TIER_BIT(TIER_CRITICAL) | TIER_BIT(TIER_HIGH) |
			  TIER_BIT(TIER_NORMAL) | TIER_BIT(TIER_LOW);
	infera_bound_ns[TIER_SYSTEM] = 50 * (NSEC_PER_SEC / 1000);
	infera_bound_ns[TIER_CRITICAL] = 15 * (NSEC_PER_SEC / 1000);
	infera_bound_ns[TIER_HIGH] = 50 * (NSEC_PER_SEC / 1000);
	infera_bound_ns[TIER_NORMAL] = 100 * (NSEC_PER_SEC / 1000);
	infera_drain_batch = 8;
	infera_turn_ns = 4 * (NSEC_PER_SEC / 1000);
	infera_sched_bound_ns = 5 * (NSEC_PER_SEC / 1000);
	err = make_masks();
	if (err)
		return err;
	start_looking();
	start_budgets();
	err = start_releasing();
	if (err)
		return err;
	err = make_limit_queues();
	if (err)
		return err;
	err = start_checking();
	if (err)
		return err;
	return scx_bpf_create_dsq(HELPER_DSQ, -1);
}

void BPF_STRUCT_OPS(infera_exit, struct scx_exit_info *ei)
{
	rustland_exit(ei);
}

SCX_OPS_DEFINE(rustland,
	       .select_cpu		= (void *)infera_select_cpu,
	       .enqueue			= (void *)infera_enqueue,
	       .dispatch		= (void *)infera_dispatch,
	       .running			= (void *)infera_running,
	       .tick			= (void *)infera_tick,
	       .stopping		= (void *)infera_stopping,
	       .cpu_release		= (void *)infera_cpu_release,
	       .dump			= (void *)infera_dump,
	       .dump_cpu		= (void *)infera_dump_cpu,
	       .dump_task		= (void *)infera_dump_task,
	       .enable			= (void *)infera_enable,
	       .disable			= (void *)infera_disable,
	       .init_task		= (void *)infera_init_task,
	       .init			= (void *)infera_init,
	       .exit			= (void *)infera_exit,
	       /*
		* The kernel's longest: it counts any long wait, also that of the last of ten
		* thousand busy tasks, and what it is for we find out sooner.
		*/
	       .timeout_ms		= 30000,
	       .dispatch_max_batch	= MAX_DISPATCH_SLOT,
	       .name			= "infera");
