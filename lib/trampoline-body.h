/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * One set of trampolines; included by trampoline.S with PKEYS, TIMED and F().
 *
 * The kernel may stop a thread anywhere in here, and knows by the address
 * ranges that rpal_init() has registered whether a call is to be taken back or
 * to be finished for it (struct rpal_ranges). For it to be able to, the
 * following holds, and must go on holding when this file is changed:
 *
 * - %r10 is the caller's block from open_start, and %r11 the receiver's from
 *   enter_start, to home_end. From leave_start to home_end %r8 is the status
 *   and %r9 the result.
 * - Each of the ranges may be left at any instruction and never come back.
 * - A thread's block holds a complete context before its thread can be taken
 *   away: before open_start for a caller, before leave_start for a receiver.
 * - callee is not 0 from before the context is saved until after all is
 *   restored; a signal handler that calls in between is refused.
 * - From open_start on the caller's own memory may be closed: no stack, and of
 *   memory only the receiver's block, until PKRU is restored.
 *
 * Registers other than the callee-saved ones, and the flags, are free: this is
 * a function call for both sides. Both come here with DF clear, by the ABI.
 */

/* Set callee, or give up: one call at a time. %rdi own block; uses %rax. */
.macro F(begin) tid
	cmpl	$0, B_CALLEE(%rdi)
	jne	F(busy)
	mov	\tid, %eax
	mov	%eax, B_CALLEE(%rdi)
.endm

/*
 * The context that another one will return to. %rdi own block; uses %rax. STMXCSR
 * comes first, because it takes long. The FS base is also in memory where it points
 * to, as the ABI has it for thread-local storage; RDFSBASE would take six cycles.
 */
.macro F(save) ip
	stmxcsr	B_MXCSR(%rdi)
	lea	\ip(%rip), %rax
	mov	%rax, B_IP(%rdi)
	mov	%rsp, B_SP(%rdi)
	mov	%rbx, B_BX(%rdi)
	mov	%rbp, B_BP(%rdi)
	mov	%r12, B_R12(%rdi)
	mov	%r13, B_R13(%rdi)
	mov	%r14, B_R14(%rdi)
	mov	%r15, B_R15(%rdi)
	mov	%fs:0, %rax
	mov	%rax, B_FSBASE(%rdi)
	fnstcw	B_FCW(%rdi)
.endm

/* The other side's stack and callee-saved registers. */
.macro F(load) block
	mov	B_SP(\block), %rsp
	mov	B_BX(\block), %rbx
	mov	B_BP(\block), %rbp
	mov	B_R12(\block), %r12
	mov	B_R13(\block), %r13
	mov	B_R14(\block), %r14
	mov	B_R15(\block), %r15
.endm

/* Own rights to %eax and, in both sets, to the block. Uses %rcx, %rdx. */
.macro F(save_pkru)
#if PKEYS
	xor	%ecx, %ecx
	rdpkru
#else
	xor	%eax, %eax
#endif
	mov	%eax, B_PKRU(%rdi)
.endm

/* PKRU = %eax. Uses %rcx, %rdx. */
.macro F(write_pkru)
#if PKEYS
	xor	%ecx, %ecx
	xor	%edx, %edx
	wrpkru
#endif
.endm

/* A call begins now. %rdi own block; uses %rax, %r10. */
.macro F(stamp)
#if TIMED
	mov	%rdx, %r10
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, B_STAMP(%rdi)
	mov	%r10, %rdx
#endif
.endm

/*
 * It has ended: what it took is the callee's. Two callees may share a place: then
 * the later one has it all. %r10 own block; uses %rax, %rcx, %rdx.
 */
.macro F(add_up)
#if TIMED
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	sub	B_STAMP(%r10), %rax
	mov	B_CALLEE(%r10), %ecx
	mov	%ecx, %edx
	and	$3, %edx
	mov	%ecx, B_AWAY_TID(%r10,%rdx,4)
	add	%rax, B_AWAY_TICKS(%r10,%rdx,8)
#endif
.endm

/* Tell the unwinder that a register's value is in the block at %r10. */
.macro F(cfi_in_block) reg offset
	/* DW_CFA_expression reg, 3 bytes: DW_OP_breg10 offset (64 .. 127) */
	.cfi_escape 0x10, \reg, 3, 0x7a, 0x80 | \offset, 0
.endm

/*
 * struct tramp_ret call(struct rpal_block *own, uint64_t arg, uint64_t len,
 *			 uint64_t what, uint64_t block, uint64_t rights, uint32_t tid)
 *
 * At the jump to the receiver: %rdi argument, %rsi length, %r8 what, %r9 the
 * caller's call word, %edx the rights with which to return.
 */
	.p2align 6
	.globl	F(call)
	.hidden	F(call)
	.type	F(call), @function
F(call):
	.cfi_startproc
	F(begin) 8(%rsp)
	F(stamp)
	F(save) F(home_start)
	/* What is needed while own memory is closed goes into registers. */
	mov	%rdi, %r10
	F(cfi_in_block) 3, B_BX
	F(cfi_in_block) 6, B_BP
	F(cfi_in_block) 12, B_R12
	F(cfi_in_block) 13, B_R13
	F(cfi_in_block) 14, B_R14
	mov	%r8, %r11
	mov	%rcx, %r8
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	8(%rsp), %r12d
	mov	B_MXCSR(%r10), %ebp
	movzwl	B_FCW(%r10), %r14d
#if PKEYS
	xor	%ecx, %ecx
	rdpkru				/* clears %edx, as WRPKRU wants it */
	mov	%eax, B_PKRU(%r10)
	mov	%eax, %ebx
	mov	%r9d, %eax
	mov	%r9, %r13
	shr	$32, %r13
#endif
	mov	B_CALL_WORD(%r10), %r9
	.globl	F(open_start)
	.hidden	F(open_start)
F(open_start):
#if PKEYS
	wrpkru
#endif
	/* Is it still the thread that we mean? Addresses are used again. */
	cmp	%r12d, B_TID(%r11)
	jne	F(miss)
	mov	$S_WAIT, %eax
	lock cmpxchg %r9, B_WORD(%r11)
	/* The very next instruction: the word says already whose call this is. */
	.globl	F(enter_start)
	.hidden	F(enter_start)
F(enter_start):
	jne	F(miss)
	mov	%r10, B_CALLER(%r11)
	mov	%r9, B_CALLER_WORD(%r11)
	cmp	B_MXCSR(%r11), %ebp
	je	1f
	ldmxcsr	B_MXCSR(%r11)
1:	cmp	B_FCW(%r11), %r14w
	je	2f
	fldcw	B_FCW(%r11)
2:
#if PKEYS
	mov	%r13d, %edx
#endif
	F(load)	%r11
	mov	B_FSBASE(%r11), %rax
	wrfsbase %rax			/* waits for all before it: so it comes last */
	jmp	*B_IP(%r11)
	.globl	F(enter_end)
	.hidden	F(enter_end)
F(enter_end):
	/* In the range of open_start: search for a receiver, own memory open. */
F(scan_open):
	F(write_pkru)
F(scan_next):
	mov	%rdi, %rcx
	shl	$8, %rcx		/* B_SIZE */
	add	%r11, %rcx
	lea	(%r8, %rdi), %edx
	cmp	%edx, B_TID(%rcx)
	jne	1f			/* nobody was ever there */
	mov	B_WORD(%rcx), %rax
	cmp	$S_WAIT, %rax
	je	3f
	and	$S_MASK, %eax
	cmp	$S_DEAD, %eax
	je	1f
	mov	$-T_NONE, %r9
1:	inc	%edi
	cmp	%r12d, %edi
	jb	2f
	xor	%edi, %edi
2:	dec	%ebp
	jnz	F(scan_next)
	jmp	F(close)
3:	mov	%edi, %r9d
	jmp	F(close)

F(miss):
	mov	$-T_MISS, %r9
F(close):
	/* Own rights back; %r9 is the status. */
	mov	%ebx, %eax
	F(write_pkru)
	.globl	F(open_end)
	.hidden	F(open_end)
F(open_end):
	mov	B_BX(%r10), %rbx
	mov	B_BP(%r10), %rbp
	mov	B_R12(%r10), %r12
	mov	B_R13(%r10), %r13
	mov	B_R14(%r10), %r14
	.cfi_restore 3
	.cfi_restore 6
	.cfi_restore 12
	.cfi_restore 13
	.cfi_restore 14
	mov	%r9, %rax
	movl	$0, B_CALLEE(%r10)
	ret

F(busy):
	mov	$-E_BUSY, %rax
	ret

	/*
	 * Back from the receiver, with its rights: own memory can be read.
	 * If something happened meanwhile that it must see, the word is no
	 * longer ours alone but PENDING, too: then leave that to be found,
	 * and wake it.
	 */
	.globl	F(home_start)
	.hidden	F(home_start)
F(home_start):
	mov	B_CALL_WORD(%r10), %rax
	mov	$S_WAIT, %ecx
	xor	%edi, %edi
	lock cmpxchg %rcx, B_WORD(%r11)
	je	1f
	movq	$(S_WAIT | S_PENDING), B_WORD(%r11)
	mov	$1, %edi
1:	mov	B_PKRU(%r10), %eax
	F(write_pkru)
	.globl	F(home_end)
	.hidden	F(home_end)
F(home_end):
	F(add_up)
	mov	%r8, %rax
	mov	%r9, %rdx
	test	%edi, %edi
	jne	2f
	movl	$0, B_CALLEE(%r10)
	ret
2:	mov	B_CALLEE(%r10), %edi
	movl	$0, B_CALLEE(%r10)
	push	%rax
	.cfi_adjust_cfa_offset 8
	push	%rdx
	.cfi_adjust_cfa_offset 8
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	rpal_tr_wake
	add	$8, %rsp
	.cfi_adjust_cfa_offset -8
	pop	%rdx
	.cfi_adjust_cfa_offset -8
	pop	%rax
	.cfi_adjust_cfa_offset -8
	ret

	/*
	 * The kernel has ended the call, restored the context, cleared callee. If
	 * it was the recovery point of rpal_copy_prepare() that returns once more.
	 */
	.globl	F(lazy_ip)
	.hidden	F(lazy_ip)
F(lazy_ip):
	cmp	$-E_FAULT, %rax
	je	1f
	ret
1:	mov	rpal_tr_resume@gottpoff(%rip), %rcx
	mov	%fs:(%rcx), %rcx
	test	%rcx, %rcx
	jne	2f
	ret
2:	mov	%rcx, (%rsp)
	jmp	rpal_tr_prepare_failed

	.cfi_endproc
	.size	F(call), . - F(call)

/*
 * struct tramp_ret scan(struct rpal_block *own, const struct tramp_scan *s)
 *
 * Lies in the range that begins at open_start, so that a peer that vanishes
 * meanwhile is no crash. Own memory stays open.
 */
	.p2align 4
	.globl	F(scan)
	.hidden	F(scan)
	.type	F(scan), @function
F(scan):
	.cfi_startproc
	F(begin) SC_TID(%rsi)
	F(save) F(home_start)
	mov	%rdi, %r10
	F(save_pkru)
	F(cfi_in_block) 3, B_BX
	F(cfi_in_block) 6, B_BP
	F(cfi_in_block) 12, B_R12
	F(cfi_in_block) 13, B_R13
	F(cfi_in_block) 14, B_R14
	mov	%eax, %ebx
	mov	SC_BLOCK(%rsi), %r11
	mov	SC_TID(%rsi), %r8d
	mov	SC_NR(%rsi), %r12d
	mov	SC_START(%rsi), %edi
	mov	SC_PKRU(%rsi), %eax
	mov	%r12d, %ebp		/* how many are left */
	mov	$-T_ABSENT, %r9
	jmp	F(scan_open)

	.cfi_endproc
	.size	F(scan), . - F(scan)

/* A receiver is called: %rbx is what was given to the wait. */
.macro F(note_call)
	mov	%rdi, I_ARG(%rbx)
	mov	%rsi, I_LEN(%rbx)
	mov	%r8, I_WHAT(%rbx)
	mov	%r9, I_CALLER(%rbx)
	mov	%edx, I_RET_PKRU(%rbx)
.endm

/*
 * int64_t wait(struct rpal_block *own, struct tramp_in *in)
 *
 * Called on another task it comes back through F(called), else through
 * wait_ip. Both find the frame that was left here, with %rbx = in, although
 * the stack below it has been used by others since.
 */
	.p2align 4
	.globl	F(wait)
	.hidden	F(wait)
	.type	F(wait), @function
F(wait):
	.cfi_startproc
	push	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov	%rsi, %rbx
	F(save) F(called)
F(first_sleep):
	F(save_pkru)
	mov	%eax, I_PKRU(%rbx)
	mov	I_FLAGS(%rbx), %eax
	mov	%eax, I_WAIT_FLAGS(%rbx)
F(sleep):
	mov	I_DEV(%rbx), %edi
	mov	$IOC_WAIT, %esi
	lea	I_WAIT(%rbx), %rdx
	call	rpal_tr_ioctl
	.globl	F(wait_ip)
	.hidden	F(wait_ip)
F(wait_ip):
	pop	%rbx
	.cfi_remember_state
	.cfi_def_cfa_offset 8
	.cfi_restore %rbx
	ret

	.cfi_restore_state
F(called):
	F(note_call)
	xor	%eax, %eax
	pop	%rbx
	.cfi_def_cfa_offset 8
	.cfi_restore %rbx
	ret
	.cfi_endproc
	.size	F(wait), . - F(wait)

/*
 * int64_t serve(struct rpal_block *own, struct tramp_in *in)
 *
 * As wait, with the same frame, but calls do not come back from it: they are run
 * and answered here. In a wait that returns for each call, that return and the
 * one at the caller's end are each taken for the other by the CPU.
 */
	.p2align 6
	.globl	F(serve)
	.hidden	F(serve)
	.type	F(serve), @function
F(serve):
	.cfi_startproc
	push	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov	%rsi, %rbx
	F(save) F(serving)
	jmp	F(first_sleep)
F(serving):
	mov	%edx, I_RET_PKRU(%rbx)
	mov	%r8, %rdx
	mov	%r9, %rcx
	mov	%rbx, %r8
	call	*I_RUN(%rbx)
	mov	I_BLOCK(%rbx), %rdi
	mov	%rax, %r8
	mov	%rdx, %r9
	/*
	 * The callee-saved registers are what they were at F(serving), so the
	 * block still has them, unless a call of the procedure has used it.
	 */
	lea	F(serving)(%rip), %rax
	cmp	%rax, B_IP(%rdi)
	jne	1f
	stmxcsr	B_MXCSR(%rdi)
	fnstcw	B_FCW(%rdi)
	jmp	F(answer)
	/* Nor has the child of a procedure that has forked: it has no block at all. */
1:	cmpl	$0, B_TID(%rdi)
	je	2f
	F(save) F(serving)
	jmp	F(answer)
2:	mov	$-E_NXIO, %rax
	pop	%rbx
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size	F(serve), . - F(serve)

/*
 * int64_t reply(struct rpal_block *own, struct tramp_in *in, int64_t status,
 *		 int64_t result)
 *
 * If the call was handed to the receiver's own task, the word is not what the
 * caller has put there, and the kernel passes the answer on.
 */
	.p2align 6
	.globl	F(reply)
	.hidden	F(reply)
	.type	F(reply), @function
F(reply):
	.cfi_startproc
	push	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov	%rsi, %rbx
	mov	%rdx, %r8
	mov	%rcx, %r9
	F(save) F(called)
F(answer):
	/* Not what RDPKRU says now: that is for this one call. */
	mov	I_PKRU(%rbx), %eax
	mov	%eax, B_PKRU(%rdi)
	mov	%rdi, %r11
	mov	B_CALLER(%rdi), %r10
#if PKEYS
	/* It may have granted us nothing, or the procedure has closed it. */
	mov	I_RET_PKRU(%rbx), %edi
	xor	%ecx, %ecx
	rdpkru
	cmp	%eax, %edi
	je	1f
	mov	%edi, %eax
	wrpkru				/* RDPKRU has cleared %edx */
1:
#endif
	mov	B_CALLER_WORD(%r11), %rcx
	.globl	F(leave_start)
	.hidden	F(leave_start)
F(leave_start):
	/* PENDING alone is the caller's business, at home. */
	xor	B_WORD(%r11), %rcx
	and	$~S_PENDING, %rcx
	jne	F(reply_slow)
	mov	B_MXCSR(%r11), %eax
	cmp	B_MXCSR(%r10), %eax
	je	2f
	ldmxcsr	B_MXCSR(%r10)
2:	movzwl	B_FCW(%r11), %eax
	cmp	B_FCW(%r10), %ax
	je	3f
	fldcw	B_FCW(%r10)
3:	F(load)	%r10
	mov	B_FSBASE(%r10), %rax
	wrfsbase %rax
	jmp	*B_IP(%r10)
	.globl	F(leave_end)
	.hidden	F(leave_end)
F(leave_end):
F(reply_slow):
	mov	%r8, B_STATUS(%r11)
	mov	%r9, B_RESULT(%r11)
	mov	I_FLAGS(%rbx), %eax
	or	$W_REPLY, %eax
	mov	%eax, I_WAIT_FLAGS(%rbx)
	jmp	F(sleep)
	.cfi_endproc
	.size	F(reply), . - F(reply)

/*
 * int64_t guard(struct rpal_block *own, int64_t (*fn)(void *arg), void *arg,
 *		 uint32_t pkru)
 *
 * A fault on a peer's memory in fn comes out at lazy_ip, with the stack as it is
 * at the entry here. Until the context is complete the thread is said to call
 * itself, which it does not: signal handlers cannot call, and a fault in one of
 * them does not lead to a context that is only half there.
 */
	.p2align 4
	.globl	F(guard)
	.hidden	F(guard)
	.type	F(guard), @function
F(guard):
	.cfi_startproc
	cmpl	$0, B_CALLEE(%rdi)
	jne	F(busy)
	mov	B_TID(%rdi), %eax
	mov	%eax, B_CALLEE(%rdi)
	F(save) F(lazy_ip)
	push	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov	%rdi, %rbx
	mov	%rsi, %r8
	mov	%rdx, %r9
	mov	%ecx, %esi
	F(save_pkru)
	movl	$T_GUARD, B_CALLEE(%rbx)
	mov	%esi, %eax
	F(write_pkru)
	mov	%r9, %rdi
	call	*%r8
	mov	%rax, %rsi
	mov	B_PKRU(%rbx), %eax
	F(write_pkru)
	movl	$0, B_CALLEE(%rbx)
	mov	%rsi, %rax
	pop	%rbx
	.cfi_def_cfa_offset 8
	.cfi_restore %rbx
	ret
	.cfi_endproc
	.size	F(guard), . - F(guard)

/*
 * int64_t post(struct rpal_block *own, int64_t (*fn)(void *arg),
 *		struct tramp_post *arg, uint32_t pkru)
 *
 * What the function has done is mostly worth a call, for which its recovery point is
 * a complete context, but for where a call comes back to: neither need it be saved
 * again, nor own rights be restored in between.
 */
	.p2align 6
	.globl	F(post)
	.hidden	F(post)
	.type	F(post), @function
F(post):
	.cfi_startproc
	F(begin) B_TID(%rdi)
	F(save) F(lazy_ip)
	push	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	push	%rbp
	.cfi_def_cfa_offset 24
	.cfi_offset %rbp, -24
	sub	$8, %rsp
	.cfi_def_cfa_offset 32
	mov	%rdi, %rbx
	mov	%rdx, %rbp
	mov	%rsi, %r8
	mov	%ecx, %esi
	F(save_pkru)
	movl	$T_GUARD, B_CALLEE(%rbx)
	mov	%esi, %eax
	F(write_pkru)
	mov	%rbp, %rdi
	call	*%r8
	mov	%rbx, %r10
	mov	%rbp, %rsi
	add	$8, %rsp
	.cfi_def_cfa_offset 24
	pop	%rbp
	.cfi_def_cfa_offset 16
	.cfi_restore %rbp
	pop	%rbx
	.cfi_def_cfa_offset 8
	.cfi_restore %rbx
	test	%rax, %rax
	jg	1f
	mov	%rax, %rsi
	mov	B_PKRU(%r10), %eax
	F(write_pkru)
	movl	$0, B_CALLEE(%r10)
	mov	%rsi, %rax
	ret
	/* As F(call) up to open_start. All is where it was when the context was saved. */
1:
#if TIMED
	mov	%r10, %rdi
	F(stamp)
	mov	%rdi, %r10
#endif
	lea	F(home_start)(%rip), %rax
	mov	%rax, B_IP(%r10)
	F(cfi_in_block) 3, B_BX
	F(cfi_in_block) 6, B_BP
	F(cfi_in_block) 12, B_R12
	F(cfi_in_block) 13, B_R13
	F(cfi_in_block) 14, B_R14
	mov	PO_TID(%rsi), %r12d
	mov	%r12d, B_CALLEE(%r10)
	mov	PO_BLOCK(%rsi), %r11
	mov	PO_WHAT(%rsi), %r8
	mov	B_MXCSR(%r10), %ebp
	movzwl	B_FCW(%r10), %r14d
#if PKEYS
	mov	PO_RIGHTS(%rsi), %r13
	mov	B_PKRU(%r10), %ebx
	mov	%r13d, %eax
	shr	$32, %r13
	xor	%ecx, %ecx
	xor	%edx, %edx
#endif
	mov	B_CALL_WORD(%r10), %r9
	xor	%edi, %edi
	xor	%esi, %esi
	jmp	F(open_start)
	.cfi_endproc
	.size	F(post), . - F(post)
