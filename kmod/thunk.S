/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thunks to kernel functions whose addresses sym.c has found, and from others to
 * their hooks.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/frame.h>
#include <asm/nospec-branch.h>
#include <asm/ptrace.h>
#include <asm/unwind_hints.h>

#include "compat/current.h"
#include "offsets.h"

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

/* Call a function with no arguments that mean anything. */
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
	FRAME_END
	RET
SYM_FUNC_END(rpal_probe)

/* Where such a call goes instead: SKIPPED of hook-try.c. */
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

/* ------------------------------------------------------- from hooked functions */

/* The other way out: to the hook, for a task that may be ours or one that tries it. */
.macro HOOK_END name
2:	movq	rpal_hook_\name(%rip), %rax
	jmp	hook_enter
SYM_FUNC_END(rpal_enter_\name)
	.pushsection .bss
	.balign	8
SYM_DATA(rpal_hook_\name, .quad 0)
	.popsection
.endm

/*
 * What most calls of a hooked function meet, as its first instruction calls one of
 * these: a few instructions that see that the task is not ours. Only %rax may be
 * used. The depth of calls that some CPUs keep for their return predictors is not
 * counted up: that makes them refill it earlier, which is on the safe side.
 */
.macro HOOK name also
SYM_FUNC_START(rpal_enter_\name)
	movq	RPAL_CURRENT, %rax
	movq	RPAL_TASK_MM(%rax), %rax
	testq	%rax, %rax
	jz	1f
	cmpq	$0, RPAL_MM_SUBSCRIPTIONS(%rax)		/* rpal_maybe_ours() */
	jne	2f
1:	cmpq	$0, rpal_trying(%rip)
	jne	2f
	.ifnb	\also
	cmpl	$0, \also(%rip)
	jne	2f
	.endif
	RET
	HOOK_END \name
.endm

/*
 * The same for functions that are about another's memory, too: what counts is the mm
 * that the first argument leads to. When hooks are tried that is no address.
 */
.macro HOOK_OF name mm:vararg
SYM_FUNC_START(rpal_enter_\name)
	cmpq	$0, rpal_trying(%rip)
	jne	2f
	movq	\mm, %rax
	cmpq	$0, RPAL_MM_SUBSCRIPTIONS(%rax)
	jne	2f
	RET
	HOOK_END \name
.endm

/*
 * Call rpal_hook_enter(hook, regs). Of its registers only the six of arguments and
 * ip are there, which is where it returns to: into the function, if it is not changed.
 */
SYM_FUNC_START_LOCAL(hook_enter)
	FRAME_BEGIN
	subq	$FRAME_SIZE, %rsp
	movq	%rdi, RDI(%rsp)
	movq	%rsi, RSI(%rsp)
	movq	%rdx, RDX(%rsp)
	movq	%rcx, RCX(%rsp)
	movq	%r8, R8(%rsp)
	movq	%r9, R9(%rsp)
	movq	FRAME_SIZE + FRAME_OFFSET(%rsp), %rcx
	movq	%rcx, RIP(%rsp)
	movq	%rax, %rdi
	movq	%rsp, %rsi
	call	rpal_hook_enter
	movq	RIP(%rsp), %rax
	movq	%rax, FRAME_SIZE + FRAME_OFFSET(%rsp)
	movq	RDI(%rsp), %rdi
	movq	RSI(%rsp), %rsi
	movq	RDX(%rsp), %rdx
	movq	RCX(%rsp), %rcx
	movq	R8(%rsp), %r8
	movq	R9(%rsp), %r9
	addq	$FRAME_SIZE, %rsp
	FRAME_END
	RET
SYM_FUNC_END(hook_enter)

	HOOK	get_unmapped_area
	HOOK	vm_unmapped_area
	HOOK	security_mmap_addr
	HOOK	mmap_region
	HOOK_OF	expand_downwards, RPAL_VMA_MM(%rdi)
	HOOK	do_mprotect_pkey
	HOOK	signal_setup_done, rpal_nr_heirs
	HOOK	bad_area_nosemaphore
	HOOK	pin_user_pages_fast
	HOOK	get_user_pages_fast_only
	HOOK_OF	flush_tlb_mm_range, %rdi
	HOOK	arch_do_signal_or_restart
	HOOK	force_sig_info_to_task
	HOOK	unhandled_signal
