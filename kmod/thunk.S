/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thunks to kernel functions whose addresses sym.c has found.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/frame.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

	.text

/* Enter *addr by a return: valid with IBT, and with mitigated returns. */
.macro THUNK name addr
SYM_FUNC_START(\name)
	pushq	\addr(%rip)
	UNWIND_HINT_FUNC
	RET
SYM_FUNC_END(\name)
	.pushsection .bss
	.balign	8
SYM_DATA(\addr, .quad 0)
	.popsection
.endm

.macro KTHUNK name
	THUNK	rpal_k_\name, rpal_addr_\name
.endm

	KTHUNK	kallsyms_lookup_name
	KTHUNK	flush_tlb_mm_range
	KTHUNK	ftrace_location
	KTHUNK	lock_mm_and_find_vma
	KTHUNK	bad_area_nosemaphore
	KTHUNK	__bad_area_nosemaphore
	KTHUNK	arch_do_signal_or_restart
	KTHUNK	force_sig_info_to_task
	KTHUNK	do_exit
	KTHUNK	wake_up_new_task
	KTHUNK	do_mprotect_pkey
	KTHUNK	ptrace_may_access
	KTHUNK	task_call_func
	KTHUNK	task_sched_runtime
	KTHUNK	account_user_time

SYM_FUNC_START_LOCAL(enter_rax)
	pushq	%rax
	UNWIND_HINT_FUNC
	RET
SYM_FUNC_END(enter_rax)

/*
 * Call a function with no arguments that mean anything; by the address to which
 * this call returns hooks know that they are tried.
 */
SYM_FUNC_START(rpal_probe)
	FRAME_BEGIN
	movq	%rdi, %rax
	xorl	%edi, %edi
	xorl	%esi, %esi
	xorl	%edx, %edx
	xorl	%ecx, %ecx
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	call	enter_rax
SYM_INNER_LABEL(rpal_probe_return, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	FRAME_END
	RET
SYM_FUNC_END(rpal_probe)

/* Where such a call goes instead: SKIPPED of hook.c. */
SYM_FUNC_START(rpal_probe_skip)
	movabsq	$0x7270616c736b6970, %rax
	RET
SYM_FUNC_END(rpal_probe_skip)

/* See RPAL_NEED_PTI_THUNK. */
#if !defined(CONFIG_PARAVIRT_XXL) && \
	(defined(CONFIG_PAGE_TABLE_ISOLATION) || \
	 defined(CONFIG_MITIGATION_PAGE_TABLE_ISOLATION))
	THUNK	__pti_set_user_pgtbl, rpal_addr___pti_set_user_pgtbl
#endif
