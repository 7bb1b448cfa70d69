/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a task may run, and whose CPU it takes.
 *
 * find_cpu() is the one place that decides between an idle CPU, the CPU of a lower tier, the CPU of
 * a peer that is ahead in virtual time, and a queue.
 */

/* Threads of a core that are looked at: more than any machine with sched_ext has. */
#define MAX_SIBLINGS	8

static bool is_home(s32 cpu, u32 tier)
{
	volatile u8 *home = ARRAY_ELEM_PTR(infera_cpu_home, cpu, MAX_CPUS);

	return home && (*home & TIER_BIT(tier));
}

/* @cpu is in Critical's fence. */
static bool is_fenced(s32 cpu)
{
	return infera_fenced && is_home(cpu, TIER_CRITICAL);
}

static s32 next_sibling(s32 cpu)
{
	volatile u16 *next = ARRAY_ELEM_PTR(infera_sibling, cpu, MAX_CPUS);

	return next ? *next : cpu;
}

/* A sibling of @cpu runs Critical. */
GLOBAL s32 core_runs_critical(s32 cpu)
{
	s32 sibling = cpu;
	int i;

	bpf_for(i, 0, MAX_SIBLINGS) {
		struct cpu_ctx *c;

		sibling = next_sibling(sibling);
		if (sibling == cpu)
			break;
		c = lookup_cpu(sibling);
		if (c && c->tier == TIER_CRITICAL)
			return 1;
	}
	return 0;
}

/* A fence holds whole cores: half of a core whose other half runs Critical is not lent. */
GLOBAL s32 may_use(s32 cpu, u32 tier)
{
	volatile u8 *loan;

	if (is_home(cpu, tier))
		return 1;
	loan = ARRAY_ELEM_PTR(infera_cpu_loan, cpu, MAX_CPUS);
	return loan && (*loan & TIER_BIT(tier)) && !core_runs_critical(cpu);
}

/*
 * @p has exactly one CPU to go to. A task that leaves its CPU is the current one, and for that
 * one the kernel counts a callback like this as disabled migration.
 */
static bool is_pinned(const struct task_struct *p)
{
	return p->nr_cpus_allowed == 1 || is_migration_disabled(p);
}

/*
 * Some CPU that @p may use serves @tier. Loans do not count for user tiers: they may vanish.
 */
GLOBAL s32 has_cpu(struct task_struct *p __arg_trusted, u32 tier)
{
	s32 found = 0;
	int i;

	/* For infera_measure(), which may sleep: the verifier checks this function without its callers. */
	bpf_rcu_read_lock();
	bpf_for(i, 0, nr_cpu_ids) {
		if ((is_user_tier(tier) ? is_home(i, tier) : may_use(i, tier)) &&
		    bpf_cpumask_test_cpu(i, p->cpus_ptr)) {
			found = 1;
			break;
		}
	}
	bpf_rcu_read_unlock();
	return found;
}

/*
 * The tier whose CPUs and queue serve @p of @tier: its own, unless its affinity leaves it none of
 * them. Critical outside of its fence is served as High is. NO_TIER: @p waits for the CPU it is on.
 */
static u32 served_as(struct task_struct *p, u32 tier)
{
	if (!infera_fenced || (p->nr_cpus_allowed >= nr_cpu_ids && !is_pinned(p)) ||
	    has_cpu(p, tier))
		return tier;
	if (tier == TIER_CRITICAL && has_cpu(p, TIER_HIGH))
		return TIER_HIGH;
	return NO_TIER;
}

/* System has the fence only where it has no other CPU: Critical would have to wait for it. */
static bool prefers(s32 cpu, u32 tier)
{
	return is_home(cpu, tier) && (tier != TIER_SYSTEM || !is_fenced(cpu));
}

static bool core_is_idle(s32 cpu)
{
	const struct cpumask *cores = scx_bpf_get_idle_smtmask();
	bool idle = bpf_cpumask_test_cpu(cpu, cores);

	scx_bpf_put_cpumask(cores);
	return idle;
}

/*
 * Claims an idle CPU for @p: where it last ran, then any. Critical and High take a whole idle core
 * before a half-busy one, as the stock scheduler does. CPUs of the own tier go before loans.
 */
GLOBAL s32 pick_idle(struct task_struct *p __arg_trusted, s32 prev, u32 tier)
{
	bool whole_core = smt_enabled && tier <= TIER_HIGH && tier != TIER_SYSTEM;
	s32 cpu;
	int i;

	if (prefers(prev, tier) && bpf_cpumask_test_cpu(prev, p->cpus_ptr) &&
	    (!whole_core || core_is_idle(prev)) && scx_bpf_test_and_clear_cpu_idle(prev))
		return prev;
	if (!infera_fenced) {
		if (whole_core) {
			cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, SCX_PICK_IDLE_CORE);
			if (cpu >= 0)
				return cpu;
			if (scx_bpf_test_and_clear_cpu_idle(prev))
				return prev;
		}
		return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	}
	if (whole_core) {
		bpf_for(i, 0, nr_cpu_ids) {
			if (prefers(i, tier) && bpf_cpumask_test_cpu(i, p->cpus_ptr) &&
			    core_is_idle(i) && scx_bpf_test_and_clear_cpu_idle(i))
				return i;
		}
	}
	bpf_for(i, 0, nr_cpu_ids) {
		if (prefers(i, tier) && bpf_cpumask_test_cpu(i, p->cpus_ptr) &&
		    scx_bpf_test_and_clear_cpu_idle(i))
			return i;
	}
	bpf_for(i, 0, nr_cpu_ids) {
		if (may_use(i, tier) && bpf_cpumask_test_cpu(i, p->cpus_ptr) &&
		    scx_bpf_test_and_clear_cpu_idle(i))
			return i;
	}
	return NO_CPU;
}

/*
 * The rank of @p that wakers compare with. System's is that of no victim, except on a fence, which it
 * gives back to Critical like a loan. So is the rank of the scheduler process and of its helpers.
 */
static u32 rank_shown(const struct task_struct *p, const struct infera_task *t, s32 cpu)
{
	u32 tier = slot(t->tier);

	if (tier == TIER_SYSTEM && p->tgid != usersched_pid && p->nr_cpus_allowed > 1 && is_fenced(cpu))
		return TIER_HIGH;
	return tier;
}

/* A guaranteed turn is given up to Critical alone. */
static u32 turn_rank(u32 tier)
{
	return tier > TIER_HIGH ? TIER_HIGH : tier;
}

/* The best rank (lowest number) that @tier may take a CPU from. */
static u32 preempts_from(u32 tier)
{
	/* System's threads are short and many: they wait for protected tiers. */
	return tier == TIER_SYSTEM ? TIER_NORMAL : tier + 1;
}

GLOBAL u32 lowest_bit(u64 word)
{
	u32 bit = 0;

#define HALVE(bits)					\
	if (!(word & ((1ULL << (bits)) - 1))) {		\
		word >>= (bits);			\
		bit += (bits);				\
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

/* The claim keeps two wakeups at the same time from taking the same CPU. */
static bool claim_from(s32 cpu, struct task_struct *p, u32 runs, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || c->tier != runs || !may_use(cpu, tier) || !bpf_cpumask_test_cpu(cpu, p->cpus_ptr) ||
	    __sync_val_compare_and_swap(&c->tier, runs, tier) != runs)
		return false;
	c->claimed = tier + 1;
	return true;
}

/*
 * Claims a CPU that runs the lowest tier below @tier: @prev, then the next ones after it. A claim
 * that another waker was faster with goes on to the next CPU.
 */
GLOBAL s32 claim_lower(struct task_struct *p __arg_trusted, s32 prev, u32 tier)
{
	u32 from = preempts_from(tier), words = (nr_cpu_ids + 63) / 64;
	int back, i, j;

	if (!(infera_preempts & TIER_BIT(tier)))
		return NO_CPU;
	bpf_for(back, 0, NR_TIERS - from) {
		u32 runs = TIER_BACKGROUND - back;

		if (claim_from(prev, p, runs, tier))
			return prev;
		bpf_for(i, 0, words) {
			u32 at = (i + prev / 64) & (CPU_WORDS - 1);
			u64 word, shift = prev & 63;

			if (at >= words)
				at = 0;
			word = running_on[slot(runs)][at];
			if (!word)
				continue;
			/* Rotated, so that wakers with different homes find different CPUs first. */
			word = shift ? word >> shift | word << (64 - shift) : word;
			bpf_for(j, 0, 64) {
				s32 cpu;

				if (!word)
					break;
				cpu = at * 64 + ((lowest_bit(word) + shift) & 63);
				word &= word - 1;
				if (claim_from(cpu, p, runs, tier))
					return cpu;
			}
		}
	}
	return NO_CPU;
}

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
 * Takes @cpu from the peer that runs there, for a task at @vt, as far as the credit of wakeups goes. Where half
 * of that is used up, only for the first of the tier: in a storm of wakeups the others in the queue are further behind.
 */
static bool claim_from_peer(s32 cpu, u32 tier, u64 vt, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 theirs;

	if (!c || !has_credit(c, now) || (c->credit < CREDIT_MAX_NS / 2 && is_preceded(tier, vt, now)))
		return false;
	theirs = c->vt;
	if (__sync_val_compare_and_swap(&c->vt, theirs, vt) != theirs)
		return false;
	c->vt_at = now;
	c->credit -= infera_wake_gran_ns[slot(tier)] / 2;
	c->claimed = tier + 1;
	return true;
}

/*
 * Claims the CPU of a peer that is ahead of @p, whose virtual time is @vt: @prev if it will do, else that of
 * the one furthest ahead.
 */
GLOBAL s32 claim_peer(struct task_struct *p __arg_trusted, s32 prev, u32 tier, u64 vt, u64 now)
{
	u64 gran = infera_wake_gran_ns[slot(tier)], most = 0;
	u32 words = (nr_cpu_ids + 63) / 64, seen = 0;
	s32 best = NO_CPU;
	int i, j;

	if (gran == NEVER)
		return NO_CPU;
	if (peer_lead(prev, p, tier, vt, gran, now) && claim_from_peer(prev, tier, vt, now))
		return prev;
	bpf_for(i, 0, words) {
		u32 at = (i + prev / 64) & (CPU_WORDS - 1);
		u64 word, shift = prev & 63;

		if (at >= words)
			at = 0;
		word = running_on[slot(tier)][at];
		word = shift ? word >> shift | word << (64 - shift) : word;
		bpf_for(j, 0, PEERS_SEEN) {
			u64 lead;
			s32 cpu;

			if (!word || seen >= PEERS_SEEN)
				break;
			cpu = at * 64 + ((lowest_bit(word) + shift) & 63);
			word &= word - 1;
			seen++;
			lead = peer_lead(cpu, p, tier, vt, gran, now);
			if (lead > most) {
				most = lead;
				best = cpu;
			}
		}
	}
	return best >= 0 && claim_from_peer(best, tier, vt, now) ? best : NO_CPU;
}

static void claim(s32 cpu, u32 tier)
{
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (c)
		c->tier = tier;
}

/* How find_cpu() found a CPU: what the caller does to get it. */
enum how {
	HOW_QUEUE,	/* none: the task waits in a queue */
	HOW_IDLE,
	HOW_LOWER,
	HOW_PEER,
};

static s32 find_cpu(struct task_struct *p, struct infera_task *t, s32 prev, u32 tier, u32 *how)
{
	s32 cpu = pick_idle(p, prev, tier);

	*how = HOW_IDLE;
	if (cpu >= 0) {
		claim(cpu, tier);
		return cpu;
	}
	*how = HOW_LOWER;
	cpu = claim_lower(p, prev, tier);
	if (cpu >= 0)
		return cpu;
	*how = HOW_PEER;
	cpu = claim_peer(p, prev, tier, t->vtime, clock_ns());
	if (cpu >= 0)
		return cpu;
	*how = HOW_QUEUE;
	return prev;
}

/* find_cpu() for a task that can only run on @cpu. */
static u32 find_pinned(struct task_struct *p, struct infera_task *t, s32 cpu, u32 tier, u64 now)
{
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 gran = infera_wake_gran_ns[slot(tier)];

	if (!c)
		return HOW_QUEUE;
	if (scx_bpf_test_and_clear_cpu_idle(cpu)) {
		claim(cpu, tier);
		return HOW_IDLE;
	}
	if ((infera_preempts & TIER_BIT(tier)) && c->tier >= preempts_from(tier)) {
		c->tier = tier;
		c->claimed = tier + 1;
		return HOW_LOWER;
	}
	if (gran != NEVER && peer_lead(cpu, p, tier, t->vtime, gran, now) &&
	    claim_from_peer(cpu, tier, t->vtime, now))
		return HOW_PEER;
	return HOW_QUEUE;
}

/*
 * Sends @p to the local queue @dsq of a CPU that was found for it, past everything else there. A wake
 * slice ends soon enough for what waits; on an idle CPU nothing does.
 */
static __always_inline void send_to(struct task_struct *p, struct infera_task *t, u64 dsq, u32 tier, u32 how, u64 enq_flags)
{
	u64 slice = how == HOW_PEER ? infera_wake_slice_ns[slot(tier)] : slice_of(tier);
	u32 path = how == HOW_IDLE ? PATH_IDLE : how == HOW_LOWER ? PATH_PREEMPT : PATH_PEER;

	if (how == HOW_PEER)
		t->flags |= TASK_CREDITED;
	scx_bpf_dsq_insert(p, dsq, slice, enq_flags | (how == HOW_IDLE ? 0 : SCX_ENQ_PREEMPT));
	count_path(bpf_get_smp_processor_id(), tier, path);
}
