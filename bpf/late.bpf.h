/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When the policy is late, the kernel side goes on by itself: what used up its slice waits by virtual time as woken tasks
 * do, and what the policy has in its hands is taken back from a shadow of the messages. When the policy answers again, it
 * is back in charge. So a policy that is slow, loops or is dead costs LATE_NS, and nothing is stranded.
 */

#define LATE_NS		(20 * 1000000ULL)

/* Entries of the shadow that one dispatch looks at: it holds its runqueue's lock. */
#define RESCUED		64

/* What the policy was asked about last. Most entries are of tasks that it has decided on since. */
struct asked {
	u32 pid;
	u32 enq_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_ASKED);
	__type(value, struct asked);
} infera_asked SEC(".maps");

/* Since when the policy has had a message that it may not have seen, and the loop's round at that time. */
static volatile u64 policy_wanted_at __attribute__((aligned(64)));
static volatile u64 wanted_round;

/*
 * The loop has seen the message of wanted_round: a round that began later has ended, or none is on its way and the ring
 * is empty.
 */
static bool policy_has_seen(void)
{
	u64 ended = infera_round_ended;

	return ended > wanted_round ||
	       (ended == infera_round_began && !bpf_ringbuf_query(&queued, BPF_RB_AVAIL_DATA));
}

/* For how long the policy has had a message that it has not seen. */
static u64 policy_unseen(u64 now)
{
	u64 since = policy_wanted_at;

	return since && !policy_has_seen() ? time_delta(now, since) : 0;
}

/* Also before the loop's first round: user space is still getting ready. */
static bool policy_is_late(u64 now)
{
	u64 since = policy_wanted_at;

	return !infera_round_ended ||
	       (since && time_delta(now, since) >= LATE_NS && !policy_has_seen());
}

/* The policy is late though it had a CPU: it computes for too long, or loops. */
static bool policy_is_slow(u64 now)
{
	return infera_round_ended && usersched_last_run_at > policy_wanted_at && policy_is_late(now);
}

/* Before a message to the policy. */
static void expect_policy(u64 now)
{
	if (!policy_wanted_at || policy_has_seen()) {
		wanted_round = infera_round_began;
		policy_wanted_at = now;
	}
}

/* The policy has @t from now on. */
static void remember_asked(const struct task_struct *p, struct infera_task *t)
{
	struct asked asked = { .pid = p->pid, .enq_cnt = t->enq_cnt };

	t->flags |= TASK_ASKED;
	bpf_map_push_elem(&infera_asked, &asked, BPF_EXIST);
}

/* Takes back one task, of an entry that may be old. */
static void rescue(const struct asked *asked, u64 now)
{
	struct task_struct *p = bpf_task_from_pid(asked->pid);
	struct infera_task *t;
	u32 tier;
	s32 cpu;

	if (!p)
		return;
	t = lookup_task(p);
	if (!t || t->enq_cnt != asked->enq_cnt || !(t->flags & TASK_ASKED))
		goto out;
	/* What the policy decides on it now is stale. */
	t->enq_cnt++;
	t->flags &= ~TASK_ASKED;
	tier = slot(t->tier);
	cpu = scx_bpf_task_cpu(p);
	count_path(bpf_get_smp_processor_id(), tier, PATH_FULL);
	if (is_pinned(p) || served_as(p, tier) == NO_TIER) {
		queue_pinned(p, cpu, tier, slice_of(tier), 0, now);
	} else {
		queue_tier(p, t, tier, slice_of(tier), 0, now);
		cpu = pick_idle(p, cpu, tier);
	}
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
out:
	bpf_task_release(p);
}

/* In ops.dispatch: takes back what the policy has, if that is late. Whether there was anything. */
GLOBAL s32 rescue_asked(u64 now)
{
	struct asked asked;
	s32 some = 0;
	int i;

	if (!policy_is_late(now))
		return 0;
	bpf_for(i, 0, RESCUED) {
		if (!scx_bpf_dispatch_nr_slots() || bpf_map_pop_elem(&infera_asked, &asked))
			break;
		rescue(&asked, now);
		some = 1;
	}
	return some;
}

/* From a timer or a thread: has idle CPUs look, and busy ones at the end of their slices. */
static void wake_rescuers(u64 now)
{
	s32 cpu;

	if (!policy_is_late(now))
		return;
	bpf_for(cpu, 0, nr_cpu_ids)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
}
