/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a task may not migrate now, instead of common.bpf.h's function of that name. That one asks the kernel's
 * version and configuration, which libbpf reads from files: without /proc/config.gz and /boot, as in most containers, or
 * with a release of two numbers, it refuses the whole object.
 */

/* Whether the task @pid disabled migration itself: @disabled counts the programs that it has entered, too. In state.bpf.h. */
s32 stays_disabled(u32 disabled, u32 pid);

static bool is_migration_disabled(const struct task_struct *p)
{
	return bpf_core_field_exists(p->migration_disabled) && p->migration_disabled &&
	       stays_disabled(p->migration_disabled, p->pid);
}
