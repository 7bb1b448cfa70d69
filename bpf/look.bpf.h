/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A timer for each CPU, armed where a woken task was queued: it asks whether what runs there gives way. At 250 ticks a second a tick
 * is longer than most waits that are promised.
 */

/* By CPU; each is started on its own CPU alone. */
struct look_timer {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CPUS);
	__type(key, u32);
	__type(value, struct look_timer);
} look_timers SEC(".maps");

/* Since 6.7: the timer stays on the CPU that starts it. */
#define TIMER_CPU_PIN	2

/* Has this CPU look at what it runs, @ns from now at the latest; where the timer expires before, again then. */
static void look_in(u64 ns, u64 now)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct cpu_ctx *c = lookup_cpu(cpu);
	struct look_timer *look;
	u64 at = now + ns;

	if (!c)
		return;
	if (c->look_at > now) {
		if (c->look_at <= at) {
			if (c->look_then <= c->look_at || c->look_then > at)
				c->look_then = at;
			return;
		}
		c->look_then = c->look_at;
	}
	look = bpf_map_lookup_elem(&look_timers, &cpu);
	if (!look)
		return;
	c->look_at = at;
	bpf_timer_start(&look->timer, ns, TIMER_CPU_PIN);
}

/* The least patience of those that wait; 0: none does. */
static u64 least_patience(void)
{
	u64 least = 0;
	u32 tier;

	bpf_for(tier, 0, NR_TIERS) {
		u64 ns = patience(tier);

		if (woken_waiting[slot(tier)] && by_vtime(tier) && (!least || ns < least))
			least = ns;
	}
	return least;
}

static int look(void *map, u32 *key, struct bpf_timer *timer)
{
	s32 cpu = *key;
	struct cpu_ctx *c = lookup_cpu(cpu);
	u64 now = clock_ns(), next;
	struct head head;

	if (!c)
		return 0;
	/* Nothing runs here, or what no wakeup may take the CPU from; or it is taken already. */
	if (c->tier != TIER_SYSTEM && c->shown && !c->in_turn && !c->claimed && gives_way(cpu, c->shown - 1, now))
		preempt(cpu);
	next = least_patience();
	if (!next && peek_woken(cpu, &head, now))
		next = MIN_PATIENCE_NS;
	/* A task that was queued after the one that this was armed for. */
	if (next && c->look_then > now && c->look_then < now + next)
		next = c->look_then - now;
	c->look_then = 0;
	c->look_at = next ? now + next : 0;
	if (next)
		bpf_timer_start(timer, next, TIMER_CPU_PIN);
	return 0;
}

static void start_looking(void)
{
	u32 cpu;

	bpf_for(cpu, 0, nr_cpu_ids) {
		struct look_timer *look_timer = bpf_map_lookup_elem(&look_timers, &cpu);

		if (!look_timer)
			break;
		bpf_timer_init(&look_timer->timer, &look_timers, CLOCK_MONOTONIC);
		bpf_timer_set_callback(&look_timer->timer, look);
	}
}
