/* SPDX-License-Identifier: GPL-2.0-only */
/* Tasks that waited for budget go on: by a timer that is armed while there are some. */

/* How @p, parked at @nr, leaves that queue: 1 + the entry for whose budget it waits next, or one of these. */
#define STAYS		0
#define GOES_ON		(~0U)

/* @t of @tier has waited for budget. From now on it waits for a CPU, which the guard judges. */
static void end_throttled(struct infera_task *t, u32 tier, u64 now)
{
	volatile struct infera_waits *row = &infera_throttled[bpf_get_smp_processor_id() & (MAX_CPUS - 1)][slot(tier)];

	row->waits++;
	row->ns += time_delta(now, t->queued_at);
	t->queued_at = now;
}

/* @left: budget that is not given out yet. */
GLOBAL u32 next_stop(struct task_struct *p __arg_trusted, u32 nr, s64 left, u64 now)
{
	struct infera_task *t = lookup_task(p);
	struct infera_limit *l = limit_at(nr);
	u32 other;

	/* Free of limits since it was parked. */
	if (!t || !l || !task_limit(p, t, now))
		return GOES_ON;
	if (time_delta(now, t->queued_at) > LONGEST_PARK_NS || is_on_its_way_out(p)) {
		t->flags |= TASK_OWES;
		return GOES_ON;
	}
	if (left < quantum(l))
		return goes_on(p, nr, 1) ? GOES_ON : STAYS;
	other = out_of_budget(p, now);
	return other && other != nr ? other : GOES_ON;
}

/*
 * Has an idle CPU serve @p, which was moved to the queue of @tier. Where none idles, what runs gives way at its next tick: the
 * verifier checks this for a context that may sleep, where the functions of a wakeup may not be called.
 */
GLOBAL s32 fetch_idle(struct task_struct *p __arg_trusted, u32 tier)
{
	s32 cpu = scx_bpf_task_cpu(p);

	if (!prefers(cpu, tier) || !scx_bpf_test_and_clear_cpu_idle(cpu)) {
		if (infera_fenced) {
			cpu = pick_idle_fenced(p, tier, false);
		} else {
			bpf_rcu_read_lock();
			cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
			bpf_rcu_read_unlock();
		}
	}
	if (cpu >= 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	return cpu;
}

/*
 * Where no CPU idles: @t, of @tier, takes @cpu, where it last ran, from a lower tier, or from a peer that is ahead of it.
 * Otherwise it would wait for the end of a slice after each bit of budget, and lose what does not fit into its period.
 */
static void take_last_cpu(s32 cpu, const struct infera_task *t, u32 tier, u64 now)
{
	u64 gran = infera_wake_gran_ns[slot(tier)];
	struct cpu_ctx *c = lookup_cpu(cpu);

	if (!c || c->woken || c->in_turn || !may_use(cpu, tier))
		return;
	if (c->tier > tier ? c->tier >= preempts_from(tier) && c->tier < NR_TIERS && infera_preempts & TIER_BIT(tier) :
	    c->tier == tier && gran != NEVER && vtime_on(c, now) > t->vtime + gran && has_credit(c, now))
		preempt(cpu);
}

/* Not on the stack: see `measured` in alive.bpf.h. */
static volatile u32 release_seen;

/* Has the tasks of @nr go on for which there is budget; returns in how many ns to look again, 0: none waits. */
GLOBAL u64 release_group(u32 nr, u64 now)
{
	struct infera_limit *l = limit_at(nr);
	struct task_struct *p;
	u32 at = nr - 1;
	s64 left;

	if (!l)
		return 0;
	refill(nr, now);
	if (!scx_bpf_dsq_nr_queued(LIMIT_DSQ(nr))) {
		/* An insert takes effect after it was marked. */
		if (time_delta(now, l->parked_at) < SETTLE_NS)
			return RELEASE_MAX_NS;
		__sync_fetch_and_and(&parked_in[(at / 64) & (LIMIT_WORDS - 1)], ~(1ULL << (at & 63)));
		l->parked = 0;
		l->throttled_ns += time_delta(now, l->throttled_since);
		return 0;
	}
	left = l->budget;
	release_seen = 0;
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, LIMIT_DSQ(nr), 0) {
		struct infera_task *t = lookup_task(p);
		s32 cpu = scx_bpf_task_cpu(p);
		u32 stop = next_stop(p, nr, left, now), tier, served;

		if (++release_seen > RELEASE_SEEN)
			break;
		if (!t || stop == STAYS)
			continue;
		if (stop != GOES_ON) {
			/* In the order in which they began to wait: it has waited already. */
			scx_bpf_dsq_move_set_vtime(BPF_FOR_EACH_ITER, t->queued_at);
			if (scx_bpf_dsq_move_vtime(BPF_FOR_EACH_ITER, p, LIMIT_DSQ(stop), 0))
				mark_parked(stop, now);
			continue;
		}
		tier = task_tier(p, t);
		served = served_as(p, tier);
		if (by_vtime(tier))
			enter_order(t, tier);
		t->due = now;
		if (is_pinned(p) || served == NO_TIER) {
			struct cpu_ctx *c = lookup_cpu(cpu);

			scx_bpf_dsq_move_set_vtime(BPF_FOR_EACH_ITER, next_turn(cpu, tier));
			if (!scx_bpf_dsq_move_vtime(BPF_FOR_EACH_ITER, p, cpu_to_dsq(cpu), 0))
				continue;
			if (c)
				fill(&c->pinned, now);
			scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		} else {
			scx_bpf_dsq_move_set_vtime(BPF_FOR_EACH_ITER, by_vtime(served) ? t->vtime : t->due);
			if (!scx_bpf_dsq_move_vtime(BPF_FOR_EACH_ITER, p, TIER_DSQ(served), 0))
				continue;
			fill(&tier_queues[slot(served)], now);
			if (fetch_idle(p, served) < 0)
				take_last_cpu(cpu, t, served, now);
		}
		end_throttled(t, tier, now);
		left -= quantum(l);
	}
	bpf_rcu_read_unlock();
	return until_budget(l, now);
}

/* One pass over all that wait for budget; returns in how many ns to do it again, 0: none waits. */
GLOBAL u64 release_all(u64 now)
{
	u64 next = 0;
	u32 word, i;

	bpf_for(word, 0, LIMIT_WORDS) {
		u64 bits = parked_in[word & (LIMIT_WORDS - 1)];

		if (!bits)
			continue;
		bpf_for(i, 0, 64) {
			u64 ns;
			u32 bit;

			if (!bits)
				break;
			bit = highest_bit(bits & -bits);
			bits &= bits - 1;
			ns = release_group(word * 64 + bit + 1, now);
			if (ns && (!next || ns < next))
				next = ns;
		}
	}
	return next;
}

static int release(void *map, u32 *key, struct bpf_timer *timer)
{
	u64 now = clock_ns(), next;

	release_at = 0;
	next = release_all(now);
	if (next)
		release_in(next, now);
	return 0;
}

static s32 start_releasing(void)
{
	u32 key = 0;
	struct release_timer *timer = bpf_map_lookup_elem(&release_timers, &key);

	if (!timer)
		return -ENOENT;
	bpf_timer_init(&timer->timer, &release_timers, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&timer->timer, release);
	return 0;
}
