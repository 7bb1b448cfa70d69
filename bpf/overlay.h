/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sizes and enums that the overlay shares with user space. bpf/src/lib.rs mirrors them, and a test
 * there compares every entry of this file with its mirror.
 */
#ifndef INFERA_OVERLAY_H
#define INFERA_OVERLAY_H

/* Ranks, best first: the discriminants of infera_policy::Tier. */
enum infera_tier {
	TIER_SYSTEM,
	TIER_CRITICAL,
	TIER_HIGH,
	TIER_NORMAL,
	TIER_LOW,
	TIER_BACKGROUND,
	NR_TIERS,
};

enum infera_size {
	TIER_SLOTS	= 8,	/* per-tier tables: a power of two, so that a mask bounds the index */
	LAT_BUCKETS	= 32,	/* wakeup latency: bucket b counts [2^b, 2^(b+1)) ns */
	MAX_ASKED	= 65536,/* messages to the policy that are remembered, should it be late */
	MAX_CGROUPS	= 16384,/* cgroups with a tier of their own; their subtrees cost nothing */
	ALIVE_MS	= 2000,	/* user space's longest silence */
	ALIVE_CHECK_MS	= 250,	/* how often that is checked */
	LOOP_MS		= 1000,	/* the loop's longest round, while work waits for it */
	REALTIME_MS	= 500,	/* how long real-time threads may have every CPU, where the kernel serves nothing beside them */
	KEPT_MS		= 20000,/* how long a real-time thread may keep a CPU from a task that waits there */
	ATTACH_MS	= 20000,/* the same from loading until its first sign of life */
	MEASURED	= 32,	/* tasks looked at in each queue to find the longest wait */
	MAX_LIMITED	= 4096,	/* cgroups whose cpu.max is in force at a time */
	MAX_GROUPS	= 16384,/* cgroups whose cpu.weight is in force at a time: a power of two */
	SHARE_ONE	= 64,	/* weights are counted in this many parts: nice 0 and a cpu.weight of 100 are 6400 */
	SHORTEST_SLICE_US = 1000,/* the slice of the lightest tasks */
	MAX_DEPTH	= 32,	/* cgroup levels walked when a task is seen in a new cgroup */
};

/* Codes of an exit that the overlay asks for. */
enum infera_exit {
	EXIT_SILENT,		/* user space, or its loop, does not run */
	EXIT_REALTIME,		/* real-time threads had every CPU */
	EXIT_PAUSE,		/* a real-time thread kept a CPU from a task that waits there */
	EXIT_KILLED,		/* the scheduler's process is on its way out */
};

/* How a task got to its CPU: the index of a counter, the discriminants of infera_bpf::Path. */
enum infera_path {
	PATH_IDLE,		/* an idle CPU, straight from the wakeup */
	PATH_PREEMPT,		/* a CPU taken from a lower tier */
	PATH_QUEUE,		/* a queue in the kernel, by virtual time */
	PATH_USER,		/* ordered by the policy in user space */
	PATH_FULL,		/* PATH_QUEUE instead of PATH_USER: the policy was late, or the ring full */
	PATH_PEER,		/* a CPU taken from a peer that is ahead in virtual time */
	NR_PATHS,
	PATH_SLOTS	= 8,
};

/* What becomes of cpu.max: infera_limits_mode. */
enum infera_limits_mode {
	LIMITS_STRICT,		/* no cgroup has more than its quota */
	LIMITS_OFF,		/* it is not in force */
};

/* Flags of a message to user space, in its field stop_ts. */
enum infera_message {
	MSG_PICKED	= 1,	/* the policy decided on the task since it last had it */
};

#endif
