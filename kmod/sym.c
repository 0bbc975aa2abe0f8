// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding kernel symbols that are not exported.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>

#include "rpal.h"
#include "sym.h"

u32 *rpal_k_init_pkru_value;
int *rpal_k_ftrace_enabled;

#define SYM(name)	{ #name, &rpal_addr_##name }

static const struct {
	const char *name;
	unsigned long *addr;
} symbols[] = {
	SYM(flush_tlb_mm_range),
	SYM(ftrace_location),
	SYM(lock_mm_and_find_vma),
	SYM(bad_area_nosemaphore),
	SYM(__bad_area_nosemaphore),
	SYM(arch_do_signal_or_restart),
	SYM(force_sig_info_to_task),
	SYM(do_exit),
	SYM(wake_up_new_task),
	SYM(do_mprotect_pkey),
	SYM(ptrace_may_access),
	SYM(task_call_func),
	SYM(task_sched_runtime),
	SYM(account_user_time),
#ifdef RPAL_NEED_PTI_THUNK
	SYM(__pti_set_user_pgtbl),
#endif
};

/**
 * rpal_sym_find() - address of a kernel symbol
 * @name:	its name
 *
 * Context: process context. Usable once rpal_sym_init() has begun.
 * Return: the address, or 0 after naming the missing symbol in the log.
 */
unsigned long rpal_sym_find(const char *name)
{
	unsigned long addr = rpal_k_kallsyms_lookup_name(name);

	if (!addr)
		pr_err("this kernel has no symbol %s\n", name);
	return addr;
}

/*
 * kallsyms_lookup_name() is not exported, but a kprobe may be put on it. It need not
 * be armed, which would go through the function tracer: that loses count of such a
 * probe if kernel.ftrace_enabled is 0, and stops itself with a warning later.
 */
static int find_lookup(void)
{
	struct kprobe probe = {
		.symbol_name = "kallsyms_lookup_name",
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err = register_kprobe(&probe);

	if (err) {
		pr_err("no kprobe on kallsyms_lookup_name (%d): is CONFIG_KPROBES on and not locked down?\n",
		       err);
		return err;
	}
	rpal_addr_kallsyms_lookup_name = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

/**
 * rpal_sym_init() - find all symbols that the module needs
 *
 * Context: module load.
 * Return: 0, or a negative errno after naming everything that is missing.
 */
int rpal_sym_init(void)
{
	int err = find_lookup();
	unsigned int i;

	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(symbols); i++) {
		*symbols[i].addr = rpal_sym_find(symbols[i].name);
		if (!*symbols[i].addr)
			err = -ENOENT;
	}
	rpal_k_init_pkru_value = (u32 *)rpal_sym_find("init_pkru_value");
	rpal_k_ftrace_enabled = (int *)rpal_sym_find("ftrace_enabled");
	if (!rpal_k_init_pkru_value || !rpal_k_ftrace_enabled)
		err = -ENOENT;
	return err;
}
