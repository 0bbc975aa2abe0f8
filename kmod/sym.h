/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel functions that are not exported, called through thunks.
 *
 * The name after rpal_k_ is the kernel's. A thunk enters its function by a
 * return, not by an indirect call: on kernels with IBT the ENDBR of functions
 * whose address nobody takes has been removed at boot.
 */
#ifndef RPAL_SYM_H
#define RPAL_SYM_H

#include <linux/types.h>

struct kernel_siginfo;
struct mm_struct;
struct pt_regs;
struct task_struct;
struct vm_area_struct;

unsigned long rpal_k_kallsyms_lookup_name(const char *name);
unsigned long rpal_k_ftrace_location(unsigned long ip);
void rpal_k_flush_tlb_mm_range(struct mm_struct *mm, unsigned long start,
			       unsigned long end, unsigned int stride_shift,
			       bool freed_tables);
struct vm_area_struct *rpal_k_lock_mm_and_find_vma(struct mm_struct *mm,
						   unsigned long addr,
						   struct pt_regs *regs);
void rpal_k_bad_area_nosemaphore(struct pt_regs *regs, unsigned long error_code,
				 unsigned long address);
void rpal_k___bad_area_nosemaphore(struct pt_regs *regs,
				   unsigned long error_code,
				   unsigned long address, u32 pkey,
				   int si_code);
void rpal_k_arch_do_signal_or_restart(struct pt_regs *regs);
int rpal_k_force_sig_info_to_task(struct kernel_siginfo *info,
				  struct task_struct *task, int handler);
void rpal_k_do_exit(long code);
void rpal_k_wake_up_new_task(struct task_struct *task);
int rpal_k_do_mprotect_pkey(unsigned long start, size_t len, unsigned long prot,
			    int pkey);
int rpal_k_task_call_func(struct task_struct *task,
			  int (*func)(struct task_struct *task, void *arg),
			  void *arg);
unsigned long long rpal_k_task_sched_runtime(struct task_struct *task);
void rpal_k_account_user_time(struct task_struct *task, u64 cputime);
bool rpal_k_ptrace_may_access(struct task_struct *task, unsigned int mode);

/* Where the thunks go; beside them in thunk.S, filled in by sym.c. */
extern unsigned long rpal_addr_kallsyms_lookup_name;
extern unsigned long rpal_addr_flush_tlb_mm_range;
extern unsigned long rpal_addr_ftrace_location;
extern unsigned long rpal_addr_lock_mm_and_find_vma;
extern unsigned long rpal_addr_bad_area_nosemaphore;
extern unsigned long rpal_addr___bad_area_nosemaphore;
extern unsigned long rpal_addr_arch_do_signal_or_restart;
extern unsigned long rpal_addr_force_sig_info_to_task;
extern unsigned long rpal_addr_do_exit;
extern unsigned long rpal_addr_wake_up_new_task;
extern unsigned long rpal_addr_do_mprotect_pkey;
extern unsigned long rpal_addr_ptrace_may_access;
extern unsigned long rpal_addr_task_call_func;
extern unsigned long rpal_addr_task_sched_runtime;
extern unsigned long rpal_addr_account_user_time;
extern unsigned long rpal_addr___pti_set_user_pgtbl;

unsigned long rpal_sym_find(const char *name);
extern u32 *rpal_k_init_pkru_value;
extern int *rpal_k_ftrace_enabled;

#endif /* RPAL_SYM_H */
