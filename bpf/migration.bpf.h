/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a task may not migrate now, instead of common.bpf.h's function of that name. That one asks the kernel's
 * version and configuration, which libbpf reads from files: without /proc/config.gz and /boot, as in most containers, or
 * with a release of two numbers, it refuses the whole object.
 */

/*
 * For the current task, entering a callback may count as disabled migration. Whether it does on this kernel
 * scx_lib_init_probe() has found out when the scheduler was registered.
 */
static bool is_migration_disabled(const struct task_struct *p)
{
	if (!bpf_core_field_exists(p->migration_disabled))
		return false;
	if (p->migration_disabled == 1 && __scx_prolog_disables_migration)
		return bpf_get_current_task_btf() != p;
	return p->migration_disabled;
}
