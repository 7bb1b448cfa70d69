/* SPDX-License-Identifier: GPL-2.0-only */
/* ops.running, ops.tick, ops.stopping: a task on its CPU. */

/* Records in running_on[] that @cpu runs @tier. */
static void show(struct cpu_ctx *c, s32 cpu, u32 tier)
{
	u64 bit = 1ULL << (cpu & 63);
	u32 word = (cpu / 64) & (CPU_WORDS - 1), before = c->shown;

	if (before == tier + 1)
		return;
	if (before)
		__sync_fetch_and_and(&running_on[slot(before - 1)][word], ~bit);
	__sync_fetch_and_or(&running_on[slot(tier)][word], bit);
	c->shown = tier + 1;
}

/* How long @t waited for a CPU since it woke up. */
static void record_latency(struct infera_task *t, s32 cpu, u32 tier, u64 now)
{
	u64 waited = time_delta(now, t->woke_at);

	if (waited > 0xffffffff)
		waited = 0xffffffff;
	infera_latency[cpu & (MAX_CPUS - 1)][slot(tier)][highest_bit(waited) & (LAT_BUCKETS - 1)]++;
	t->woke_at = 0;
}

/* Critical starts on @cpu: what was lent its siblings leaves. */
static void clear_siblings(s32 cpu)
{
	s32 sibling;
	int i;

	for_each_sibling(sibling, cpu, i) {
		struct cpu_ctx *c = lookup_cpu(sibling);

		if (c && c->tier > TIER_CRITICAL && !is_home(sibling, c->tier)) {
			c->cut = 1;
			scx_bpf_kick_cpu(sibling, SCX_KICK_PREEMPT);
		}
	}
}

void BPF_STRUCT_OPS(infera_running, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();
	u32 tier, rank;

	if (!c || !t)
		return;
	if (p->tgid == usersched_pid)
		leave_if_killed(p);
	if (is_usersched_task(p)) {
		usersched_last_run_at = now;
		sched_wanted_at = 0;
		sched_on_cpu = 1;
		t->tier = TIER_SYSTEM;
	}
	leave_queue(t);
	tier = slot(t->tier);
	count_in(p, t, tier);
	t->charged = p->se.sum_exec_runtime;
	c->taken = 0;
	note_server(c, now);
	c->cut = 0;
	c->in_turn = 0;
	if (c->guaranteed) {
		u64 turn = infera_turn_ns;

		if (p->scx.slice > turn)
			scx_bpf_task_set_slice(p, turn);
		c->in_turn = c->guaranteed;
		c->guaranteed = 0;
	}
	t->until = now + p->scx.slice;
	c->limit = 0;
	c->started = now;
	set_stopgap(cpu, 0);
	start_clock(p, t, c, tier, now);
	show(c, cpu, tier);
	c->spared = tier == TIER_LOW && is_kthread(p);
	rank = c->in_turn ? turn_rank(tier) : rank_shown(p, t, cpu);
	/*
	 * A better task is on its way to this CPU: the claim on it stands. Its kick may have come while the kernel was
	 * choosing @p, after ops.dispatch() looked into the queues, and be forgotten with that choice.
	 */
	if (c->claimed && c->claimed - 1 < rank) {
		rank = c->claimed - 1;
		preempt(cpu);
	} else {
		c->claimed = 0;
	}
	c->tier = rank;
	c->since[tier] = now;
	if (tier == TIER_CRITICAL && is_fenced(cpu))
		clear_siblings(cpu);
	if (t->woke_at)
		record_latency(t, cpu, tier, now);
	if (task_limit(p, t, now))
		spend_budget(p, cpu, p->scx.slice, now);
}

/* Ends the slice of @p now; what is left of it is @p's rest. */
static void cut_slice(struct task_struct *p, struct cpu_ctx *c)
{
	c->cut = 1;
	scx_bpf_task_set_slice(p, 0);
}

void BPF_STRUCT_OPS(infera_tick, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct infera_task *t = lookup_task(p);

	if (!c || !t || is_usersched_task(p) || is_helper(p) || c->in_turn)
		return;
	if (gives_way(cpu, slot(t->tier), clock_ns()))
		cut_slice(p, c);
}

void BPF_STRUCT_OPS(infera_stopping, struct task_struct *p, bool runnable)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct infera_task *t = lookup_task(p);
	u64 now = clock_ns();

	if (!c || !t)
		return;
	if (is_usersched_task(p))
		sched_on_cpu = 0;
	/*
	 * A better scheduling class leaves p->scx.slice as it is; a preemption of ours ends it. What went on for want of a
	 * decision had its slice before.
	 */
	t->rest = runnable && !c->stopgap && (c->claimed || c->cut || p->scx.slice) ? time_delta(t->until, now) : 0;
	charge(p, t, c, cpu);
	c->limit = 0;
	if (runnable) {
		/* A guaranteed turn that Critical interrupted is owed. */
		if (c->in_turn && t->rest)
			c->since[slot(c->in_turn - 1)] = 0;
	} else {
		count_out(t);
		settle_sleeper(t, cpu);
		note_sleep(p, t);
	}
	c->in_turn = 0;
	/*
	 * A helper thread of the scheduler ran: it may have left something for the main
	 * thread, such as a request to stop; on SIGKILL this is what lets the process die.
	 */
	if (is_helper(p))
		set_usersched_needed();
}
