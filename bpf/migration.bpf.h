/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a task may not migrate now, instead of common.bpf.h's function of that name. That one asks the kernel's
 * version and configuration, which libbpf reads from files: without /proc/config.gz and /boot, as in most containers, or
 * with a release of two numbers, it refuses the whole object.
 */

/*
 * How many programs the current task is in. The kernel calls ops.enqueue() from within another where that puts a CPU's tasks
 * back, and the current one may be among them: give_up_cpu().
 */
u32 programs_entered(void);

/*
 * For the current task, entering a program may count as disabled migration. Whether it does on this kernel
 * scx_lib_init_probe() has found out when the scheduler was registered.
 */
static bool is_migration_disabled(const struct task_struct *p)
{
	u32 disabled;

	if (!bpf_core_field_exists(p->migration_disabled))
		return false;
	disabled = p->migration_disabled;
	if (disabled && __scx_prolog_disables_migration && bpf_get_current_task_btf() == p)
		return disabled > programs_entered();
	return disabled;
}
