/* SPDX-License-Identifier: GPL-2.0-only */
/* How long woken tasks waited for a CPU, by tier. */

/* The position of the highest bit. Without a loop: this is on the way of every wakeup. */
static u32 latency_bucket(u32 ns)
{
	u32 bucket = 0;

#define HALVE(bits)			\
	if (ns >> (bits)) {		\
		ns >>= (bits);		\
		bucket += (bits);	\
	}
	HALVE(16)
	HALVE(8)
	HALVE(4)
	HALVE(2)
	HALVE(1)
#undef HALVE
	return bucket & (LAT_BUCKETS - 1);
}

static void record_latency(struct infera_task *t, s32 cpu, u32 tier, u64 now)
{
	u64 waited = time_delta(now, t->woke_at);

	if (waited > 0xffffffff)
		waited = 0xffffffff;
	infera_latency[cpu & (MAX_CPUS - 1)][slot(tier)][latency_bucket(waited)]++;
	t->woke_at = 0;
}
