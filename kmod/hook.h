/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks: what runs when a kernel function is entered.
 *
 * A callback runs in the context of the hooked function; with preemption off, if
 * others trace that, too. So it must not sleep or allocate, nor take a lock that
 * sleeps with PREEMPT_RT, which all do but the raw ones, those of signals and wait
 * queues among them. It may change the arguments, or, where the table in hook.c says
 * so, divert the call to a replacement of the same type, which may do what the
 * function itself may: its thunk goes into the function behind the hook. Every
 * callback returns at once for tasks that are not ours.
 */
#ifndef RPAL_HOOK_H
#define RPAL_HOOK_H

#include <linux/ftrace.h>
#include <linux/module.h>

#include "compat/compat.h"

struct rpal_hook;

/*
 * Of the registers only ip and those of arguments are good, and may be changed; ip is
 * where the function goes on.
 */
#define RPAL_CALLBACK(name)						\
	void name(struct rpal_hook *hook, struct pt_regs *regs)

/* thunk.S: what tries the hooks. */
unsigned long rpal_probe(unsigned long function);
void rpal_probe_skip(void);

/*
 * thunk.S: what the entries of functions call that many ordinary processes come by,
 * and the hooks for which they do that.
 */
#define RPAL_ENTRY(name)						\
	extern const char rpal_enter_##name[];				\
	extern struct rpal_hook *rpal_hook_##name

RPAL_ENTRY(get_unmapped_area);
RPAL_ENTRY(vm_unmapped_area);
RPAL_ENTRY(security_mmap_addr);
RPAL_ENTRY(mmap_region);
RPAL_ENTRY(expand_downwards);
RPAL_ENTRY(do_mprotect_pkey);
RPAL_ENTRY(signal_setup_done);
RPAL_ENTRY(bad_area_nosemaphore);
RPAL_ENTRY(pin_user_pages_fast);
RPAL_ENTRY(get_user_pages_fast_only);
RPAL_ENTRY(flush_tlb_mm_range);
RPAL_ENTRY(arch_do_signal_or_restart);
RPAL_ENTRY(force_sig_info_to_task);
RPAL_ENTRY(unhandled_signal);

/* What these look at besides: in hook-try.c and in pkey.c. */
extern struct task_struct *rpal_trying;
extern atomic_t rpal_nr_heirs;

/* hook.c */
void rpal_hook_enter(struct rpal_hook *hook, struct pt_regs *regs);
void rpal_hook_fired(struct rpal_hook *hook);

/* The call goes to a replacement, which may call the original by its thunk. */
static inline void rpal_divert(struct pt_regs *regs, void *replacement)
{
	regs->ip = (unsigned long)replacement;
}

/* layout.c */
RPAL_CALLBACK(rpal_on_setup_arg_pages);
RPAL_CALLBACK(rpal_on_get_unmapped_area);
RPAL_CALLBACK(rpal_on_vm_unmapped_area);
RPAL_CALLBACK(rpal_on_security_mmap_addr);
RPAL_CALLBACK(rpal_on_mmap_region);
RPAL_CALLBACK(rpal_on_expand_downwards);
RPAL_CALLBACK(rpal_on_do_mprotect_pkey);
RPAL_CALLBACK(rpal_on_finalize_exec);

/* link.c */
RPAL_CALLBACK(rpal_on_flush_tlb_mm_range);

/* fault.c */
RPAL_CALLBACK(rpal_on_bad_area_nosemaphore);
RPAL_CALLBACK(rpal_on_pin_user_pages_fast);
RPAL_CALLBACK(rpal_on_get_user_pages_fast_only);

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
