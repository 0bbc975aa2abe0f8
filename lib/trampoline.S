/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The trampolines: how a thread of one service comes to run, in user mode, the
 * context of a thread of another.
 *
 * Four sets are assembled from one source, for CPUs with and without protection
 * keys, and for kernels that need calls to be timed and those that do not;
 * rpal_init() chooses. None carries a CET note on purpose: a shadow
 * stack would have to be switched, too, and the module refuses threads that
 * have one.
 */
#include "asm-offsets.h"

	.text

#define PKEYS 1
#define TIMED 0
#define F(name) rpal_pk_##name
#include "trampoline-body.h"
#undef PKEYS
#undef F

#define PKEYS 0
#define F(name) rpal_nopk_##name
#include "trampoline-body.h"
#undef TIMED
#undef F

#define TIMED 1
#define F(name) rpal_nopk_timed_##name
#include "trampoline-body.h"
#undef PKEYS
#undef F

#define PKEYS 1
#define F(name) rpal_pk_timed_##name
#include "trampoline-body.h"

/*
 * status_t rpal_copy_prepare(int service_id)
 *
 * Notes where and with what it will return, for it may do so a second time.
 */
	.p2align 4
	.globl	rpal_copy_prepare
	.type	rpal_copy_prepare, @function
rpal_copy_prepare:
	.cfi_startproc
	mov	%rsp, %rax
	mov	(%rsp), %rcx
	sub	$FR_SIZE + 8, %rsp
	.cfi_adjust_cfa_offset FR_SIZE + 8
	mov	%rbx, FR_BX(%rsp)
	mov	%rbp, FR_BP(%rsp)
	mov	%r12, FR_R12(%rsp)
	mov	%r13, FR_R13(%rsp)
	mov	%r14, FR_R14(%rsp)
	mov	%r15, FR_R15(%rsp)
	mov	%rax, FR_SP(%rsp)
	mov	%rcx, FR_IP(%rsp)
	mov	%rsp, %rsi
	call	rpal_tr_prepare
	add	$FR_SIZE + 8, %rsp
	.cfi_adjust_cfa_offset -(FR_SIZE + 8)
	ret
	.cfi_endproc
	.size	rpal_copy_prepare, . - rpal_copy_prepare

	.section .note.GNU-stack, "", @progbits
