/* SPDX-License-Identifier: GPL-2.0-only */
/* A CPU in search of work: when the task that ran there goes on. */

/* A CPU in search of work. */
struct search {
	struct cpu_ctx *c;
	struct task_struct *prev;
	struct infera_task *t;	/* of prev, if it wants to go on and is not the scheduler process */
	u64 now;
	s32 cpu;
	u32 tier;		/* that serves prev, NO_TIER: prev does not go on by a tier's rule */
	u32 lacks;		/* a decision: others wait, with the policy */
};

/* Lets prev go on for @slice. */
static bool keep(struct search *s, u64 slice)
{
	struct task_struct *prev = s->prev;
	struct infera_task *t = s->t;
	struct cpu_ctx *c = s->c;

	/* Never NULL here, which 7.2's verifier does not see. */
	if (!prev || !t || !c)
		return false;
	if (!is_pinned(prev) && !may_use(s->cpu, slot(t->tier)))
		return false;
	/* It may go on like this for minutes: its account must not wait until it stops. */
	charge(prev, t, c, s->cpu);
	if (must_park(prev, t, 0, s->now))
		return false;
	scx_bpf_task_set_slice(prev, slice);
	if (!is_behind(t, slot(t->tier)))
		t->flags &= ~TASK_WOKEN;
	c->started = s->now;
	set_stopgap(s->cpu, s->lacks);
	start_clock(prev, t, c, slot(t->tier), s->now);
	t->until = s->now + slice;
	/* Neither a guaranteed turn nor a claim that led to nothing is for this one. */
	c->tier = rank_shown(prev, t, s->cpu);
	c->cut = 0;
	c->in_turn = 0;
	c->since[slot(t->tier)] = s->now;
	c->limit = 0;
	if (task_limit(prev, t, s->now))
		spend_budget(prev, s->cpu, slice, s->now);
	return true;
}

/* Whether prev comes before @head, by the virtual time that it has now. */
static bool prev_is_before(struct search *s, const struct head *head)
{
	struct task_struct *prev = s->prev;
	struct infera_task *t = s->t;

	if (!t || !prev || !s->c)
		return false;
	charge(prev, t, s->c, s->cpu);
	return t->vtime < head->key;
}

/*
 * Whether prev, within its wake slices, is still behind its tier: then what waits can wait for one more,
 * as far as this CPU's credit goes.
 */
static bool prev_is_entitled(struct search *s, u32 tier)
{
	struct infera_task *t = s->t;

	return t && s->c && is_behind(t, tier) && has_credit(s->c, s->now);
}
