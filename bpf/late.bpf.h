/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When the policy is late, the kernel side schedules without it: tasks that used up their slices wait by virtual time as woken tasks
 * do, and the tasks in the policy's hands are taken back, by a shadow of the messages. When the policy answers again, it
 * decides again. So a policy that is slow, loops or is dead delays a task by LATE_NS, and strands none.
 */

#define LATE_NS		(20 * 1000000ULL)

/* Entries of the shadow that one dispatch looks at: it holds its runqueue's lock. */
#define RESCUED		64

/*
 * A shadow of the messages to the policy. Written by remember_asked(), which also removes old entries, so that it holds
 * about twice as many as there are tasks in the policy's hands: a dispatch that finds the policy late soon has all of them.
 */
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

/*
 * A message may have come in a round that did not read it any more, and that round have ended: expect_policy() of another
 * message took it for seen, and no message follows. So while the ring holds some, or a round is on its way, the policy
 * is expected to end one that begins later. For timers and threads.
 */
static void expect_rest(u64 now)
{
	if (infera_round_ended &&
	    (infera_round_ended != infera_round_began || bpf_ringbuf_query(&queued, BPF_RB_AVAIL_DATA)))
		expect_policy(now);
}

/* Entries that each new one looks at. Two, because one would never shorten the shadow. */
#define ASKED_CHECKED	2

/* Removes entries whose tasks are not in the policy's hands any more. Others go to the end. */
GLOBAL s32 forget_old(void)
{
	struct asked asked;
	int i;

	bpf_for(i, 0, ASKED_CHECKED) {
		struct task_struct *p;
		struct infera_task *t;
		bool old;

		if (bpf_map_pop_elem(&infera_asked, &asked))
			break;
		p = bpf_task_from_pid(asked.pid);
		if (!p)
			continue;
		t = lookup_task(p);
		old = !t || t->enq_cnt != asked.enq_cnt;
		bpf_task_release(p);
		if (!old)
			bpf_map_push_elem(&infera_asked, &asked, BPF_EXIST);
	}
	return 0;
}

/* The policy has @t from now on. */
static void remember_asked(const struct task_struct *p, struct infera_task *t)
{
	struct asked asked = { .pid = p->pid, .enq_cnt = t->enq_cnt };

	forget_old();
	bpf_map_push_elem(&infera_asked, &asked, BPF_EXIST);
}

/* Takes one task back from the policy, unless the entry is old. */
static void rescue(const struct asked *asked, u64 now)
{
	struct task_struct *p = bpf_task_from_pid(asked->pid);
	struct infera_task *t;
	u32 tier, limit;
	s32 cpu;

	if (!p)
		return;
	t = lookup_task(p);
	/* From here on, what the policy decides on the task is stale. */
	if (!t || !take_task(t, asked->enq_cnt))
		goto out;
	tier = slot(t->tier);
	cpu = scx_bpf_task_cpu(p);
	count_path(bpf_get_smp_processor_id(), tier, PATH_FULL);
	limit = must_park(p, t, 1, now);
	if (limit) {
		park(p, t, limit, turn_of(t, tier), 0, now);
		cpu = NO_CPU;
	} else if (is_pinned(p) || served_as(p, tier) == NO_TIER) {
		queue_pinned(p, cpu, tier, turn_of(t, tier), 0, now);
	} else {
		queue_tier(p, t, tier, turn_of(t, tier), 0, now);
		cpu = pick_idle(p, cpu, tier);
	}
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
out:
	bpf_task_release(p);
}

/* In ops.dispatch: takes back what the policy has, if that is late. Returns whether there was any. */
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

/* Wakes idle CPUs, whose dispatch takes tasks back. Busy CPUs dispatch at the end of a slice. For timers and threads, which may not dispatch. */
static void wake_rescuers(u64 now)
{
	s32 cpu;

	if (!policy_is_late(now))
		return;
	bpf_for(cpu, 0, nr_cpu_ids)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
}
