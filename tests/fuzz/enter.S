/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * long fuzz_enter(struct rpal_block *block, int fd, u32 cmd, u64 arg, u32 pkru)
 *
 * An ioctl() before which the context is saved as librpal does it: whichever way
 * the kernel ends it, the thread continues at fuzz_back with what the block says,
 * and its caller finds the result in ax.
 */
	.text
	.globl	fuzz_enter, fuzz_back
	.type	fuzz_enter, @function
fuzz_enter:
	mov	%rsp, 72(%rdi)
	mov	%rbx, 80(%rdi)
	mov	%rbp, 88(%rdi)
	mov	%r12, 96(%rdi)
	mov	%r13, 104(%rdi)
	mov	%r14, 112(%rdi)
	mov	%r15, 120(%rdi)
	rdfsbase %rax
	mov	%rax, 128(%rdi)
	mov	%r8d, 136(%rdi)
	stmxcsr	140(%rdi)
	fnstcw	144(%rdi)
	mov	%esi, %edi
	mov	%edx, %esi
	mov	%rcx, %rdx
	mov	$16, %eax		/* __NR_ioctl */
	syscall
fuzz_back:
	ret
	.size	fuzz_enter, . - fuzz_enter

	.section .note.GNU-stack, "", @progbits
