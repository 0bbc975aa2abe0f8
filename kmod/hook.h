/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks: what runs when a kernel function is entered.
 *
 * A callback runs in the context of the hooked function; with preemption off, if
 * others trace that, too. So it must not sleep or allocate, nor take a lock that
 * sleeps with PREEMPT_RT, which all do but the raw ones, those of signals and wait
 * queues among them. It may change the arguments, or, where the table in hook.c says
 * so, divert the call to a replacement of the same type, which may do what the
 * function itself may. Every callback returns at once for tasks that are not ours.
 */
#ifndef RPAL_HOOK_H
#define RPAL_HOOK_H

#include <linux/ftrace.h>
#include <linux/module.h>

#include "compat/compat.h"

#define RPAL_CALLBACK(name)						\
	void name(unsigned long ip, unsigned long parent_ip,		\
		  struct ftrace_ops *ops, struct ftrace_regs *fregs)

/* thunk.S: calls of ours by which hooks are tried come from this address. */
unsigned long rpal_probe(unsigned long function);
extern const char rpal_probe_return[];
void rpal_probe_skip(void);

/* hook.c */
void rpal_hook_tried(struct ftrace_ops *ops, struct ftrace_regs *fregs);
void rpal_hook_fired(struct ftrace_ops *ops);

/*
 * Each callback asks this first: a call that is made to try the hook has no arguments
 * that mean anything.
 */
static inline bool rpal_only_tried(unsigned long parent_ip,
				   struct ftrace_ops *ops,
				   struct ftrace_regs *fregs)
{
	if (likely(parent_ip != (unsigned long)rpal_probe_return))
		return false;
	rpal_hook_tried(ops, fregs);
	return true;
}

/* Divert the call, unless it is the replacement's own call of the original. */
static inline void rpal_divert(struct ftrace_regs *fregs,
			       unsigned long parent_ip, void *replacement)
{
	if (!within_module(parent_ip, THIS_MODULE))
		rpal_fregs(fregs)->ip = (unsigned long)replacement;
}

/* layout.c */
RPAL_CALLBACK(rpal_on_setup_arg_pages);
RPAL_CALLBACK(rpal_on_get_unmapped_area);
RPAL_CALLBACK(rpal_on_vm_unmapped_area);
RPAL_CALLBACK(rpal_on_mmap_region);
RPAL_CALLBACK(rpal_on_do_mprotect_pkey);
RPAL_CALLBACK(rpal_on_finalize_exec);

/* fault.c */
RPAL_CALLBACK(rpal_on_bad_area_nosemaphore);
RPAL_CALLBACK(rpal_on_pin_user_pages_fast);

/* pkey.c */
RPAL_CALLBACK(rpal_on_wake_up_new_task);
RPAL_CALLBACK(rpal_on_exit_mmap);
RPAL_CALLBACK(rpal_on_signal_setup_done);

/* entry.c */
RPAL_CALLBACK(rpal_on_syscall_user_dispatch);
RPAL_CALLBACK(rpal_on_arch_do_signal_or_restart);
RPAL_CALLBACK(rpal_on_force_sig_info_to_task);
RPAL_CALLBACK(rpal_on_unhandled_signal);
RPAL_CALLBACK(rpal_on_do_exit);

/* account.c */
RPAL_CALLBACK(rpal_on_account_user_time);

#endif /* RPAL_HOOK_H */
