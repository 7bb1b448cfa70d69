/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sizes that the overlay and user space share; bpf/src/lib.rs mirrors them and the
 * scheduler asserts at build time that both agree.
 */
#ifndef INFERA_OVERLAY_H
#define INFERA_OVERLAY_H

/* Ranks, best first. Must match infera_policy::Tier. */
enum infera_tier {
	TIER_SYSTEM,
	TIER_CRITICAL,
	TIER_HIGH,
	TIER_NORMAL,
	TIER_LOW,
	TIER_BACKGROUND,
	NR_TIERS,
};

enum {
	TIER_SLOTS	= 8,	/* per-tier tables: a power of two, so that a mask bounds the index */
	LAT_BUCKETS	= 32,	/* wakeup latency: bucket b counts [2^b, 2^(b+1)) ns */
	MAX_CGROUPS	= 16384,/* cgroups with a tier of their own; their subtrees cost nothing */
	ALIVE_MS	= 2000,	/* user space's longest silence */
	ALIVE_CHECK_MS	= 250,	/* how often that is looked at */
	ATTACH_MS	= 20000,/* the same from loading until its first sign of life */
	MEASURED	= 16,	/* tasks looked at in each queue to tell the longest wait */
	MAX_DEPTH	= 32,	/* cgroup levels walked when a task is seen in a new cgroup */
};

/* How a task got to its CPU: the index of a counter. */
enum infera_path {
	PATH_IDLE,		/* an idle CPU, straight from the wakeup */
	PATH_PREEMPT,		/* a CPU taken from a lower tier */
	PATH_QUEUE,		/* its tier's queue in the kernel */
	PATH_USER,		/* ordered by the policy in user space */
	PATH_FULL,		/* arrival order, because the ring to user space was full */
	NR_PATHS,
	PATH_SLOTS	= 8,
};

#endif
