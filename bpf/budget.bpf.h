/* SPDX-License-Identifier: GPL-2.0-only */
/* A task of a limited cgroup on its CPU: it runs on what was reserved, and a timer of the CPU reserves more or ends its slice. */

struct budget_timer {
	struct bpf_timer timer;
};

/* By CPU; each is started on its own CPU alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CPUS);
	__type(key, u32);
	__type(value, struct budget_timer);
} budget_timers SEC(".maps");

static void budget_in(s32 cpu, u64 ns)
{
	u32 key = cpu;
	struct budget_timer *timer = bpf_map_lookup_elem(&budget_timers, &key);

	if (timer)
		bpf_timer_start(&timer->timer, ns, TIMER_CPU_PIN);
}

/* Lets what runs on @c have @ns without budget. */
static void owe(struct cpu_ctx *c, u64 ns)
{
	struct infera_limit *l = limit_at(c->limit);

	c->reserved_until += ns;
	c->reserved += ns;
	add_budget(c->limit, -(s64)ns, 0);
	if (l)
		__sync_fetch_and_add(&l->owed_ns, ns);
}

/* @p starts or goes on, on @cpu, for @slice. */
GLOBAL s32 spend_budget(struct task_struct *p __arg_trusted, s32 cpu, u64 slice, u64 now)
{
	struct infera_task *t = lookup_task(p);
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 got;

	if (!c || !t)
		return 0;
	c->limit = task_limit(p, t, now);
	if (!c->limit)
		return 0;
	got = reserve(c->limit, slice, now);
	c->reserved = got;
	c->reserved_until = now + got;
	if (!got && (t->flags & TASK_OWES || is_on_its_way_out(p))) {
		got = OWED_RUN_NS;
		owe(c, got);
	}
	if (!got)
		/* Others of its cgroup used up the budget while it waited for this CPU. */
		preempt(cpu);
	else if (got < slice)
		budget_in(cpu, got);
	return 0;
}

/* What is reserved for this CPU is used up, unless another task has started here since. */
static int budget_ends(void *map, u32 *key, struct bpf_timer *timer)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct infera_task *t = lookup_task(p);
	struct cpu_ctx *c = lookup_cpu(*key);
	u64 now = clock_ns(), got, left;
	u32 nr;

	if (!c || !t || !c->limit || t->limit != c->limit)
		return 0;
	if (now < c->reserved_until) {
		bpf_timer_start(timer, c->reserved_until - now, TIMER_CPU_PIN);
		return 0;
	}
	left = time_delta(t->until, now);
	got = reserve(c->limit, left, now);
	c->reserved += got;
	c->reserved_until = now + got;
	if (!got) {
		nr = park_limited(p, 0, now);
		if (nr) {
			preempt(*key);
			return 0;
		}
		got = OWED_RUN_NS;
		owe(c, got);
	}
	/* The slice ends by itself. */
	if (got < left)
		bpf_timer_start(timer, got, TIMER_CPU_PIN);
	return 0;
}

static void start_budgets(void)
{
	u32 cpu;

	bpf_for(cpu, 0, nr_cpu_ids) {
		struct budget_timer *budget_timer = bpf_map_lookup_elem(&budget_timers, &cpu);

		if (!budget_timer)
			break;
		bpf_timer_init(&budget_timer->timer, &budget_timers, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&budget_timer->timer, budget_ends);
	}
}
