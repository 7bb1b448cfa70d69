/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose CPU a wakeup takes within its tier: that of a peer which is ahead of it in virtual time. */

/* How many CPUs of peers a wakeup looks at: on larger machines a sample, from the own CPU on. */
#define PEERS_SEEN	8

/* How far what runs on @cpu is ahead of @vt, beyond @gran; 0: not ahead, or no peer. */
static __always_inline u64 peer_lead(s32 cpu, struct task_struct *p, u32 tier, u64 vt, u64 gran, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 theirs;

	/*
	 * What was woken itself keeps its CPU for its wake slice: where most tasks sleep and wake, each
	 * wakeup would otherwise cost two switches, and win nothing that the next does not lose.
	 */
	if (!c || c->woken || c->tier != tier || c->shown != tier + 1 || !may_use(cpu, tier) ||
	    !bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
		return 0;
	theirs = vtime_on(c, now);
	return theirs > vt + gran ? theirs - vt - gran : 0;
}

/* Some task waits for @tier's CPUs that comes before @vt. */
GLOBAL s32 is_preceded(u32 tier, u64 vt, u64 now)
{
	struct head head;

	return tier_waiting(tier, now) && peek(TIER_DSQ(tier), &head) && head.key < vt;
}

/*
 * Takes @cpu from the peer that runs there, for @t, as far as the credit of wakeups goes. Where half
 * of that is used up, only for the first of the tier: in a storm of wakeups the others in the queue are further behind.
 */
static bool claim_from_peer(s32 cpu, u32 tier, const struct infera_task *t, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 theirs, vt = t->vtime;

	if (!c || !has_credit(c, now) || (c->credit < CREDIT_MAX_NS / 2 && is_preceded(tier, vt, now)))
		return false;
	theirs = c->vt;
	if (__sync_val_compare_and_swap(&c->vt, theirs, vt) != theirs)
		return false;
	c->vt_at = now;
	c->credit -= infera_wake_gran_ns[slot(tier)] / 16;
	c->claimed = tier + 1;
	return true;
}

/*
 * Claims the CPU of a peer that is ahead of @p, whose virtual time is @vt: @prev if it will do, else that of
 * the one furthest ahead.
 */
GLOBAL s32 claim_peer(struct task_struct *p __arg_trusted, s32 prev, u32 tier, u64 now)
{
	struct infera_task *t = lookup_task(p);
	u64 gran = infera_wake_gran_ns[slot(tier)], most = 0;
	u32 words = (nr_cpu_ids + 63) / 64, seen = 0;
	s32 best = NO_CPU;
	int i, j;
	u64 vt;

	if (!t || gran == NEVER)
		return NO_CPU;
	vt = t->vtime;
	if (peer_lead(prev, p, tier, vt, gran, now) && claim_from_peer(prev, tier, t, now))
		return prev;
	bpf_for(i, 0, words) {
		u32 at = (i + prev / 64) % words, shift = prev & 63;
		u64 word = cpus_running(tier, at, shift);

		if (!word)
			continue;
		bpf_for(j, 0, PEERS_SEEN) {
			u64 lead;
			s32 cpu;

			if (!word || seen >= PEERS_SEEN)
				break;
			cpu = take_first(&word, at, shift);
			seen++;
			lead = peer_lead(cpu, p, tier, vt, gran, now);
			if (lead > most) {
				most = lead;
				best = cpu;
			}
		}
	}
	return best >= 0 && claim_from_peer(best, tier, t, now) ? best : NO_CPU;
}
