/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The smallest program that stays: to fill slots with. With an argument it ends at
 * once. Linked as a static-pie (tiny) and at a fixed address (tiny-fixed).
 */
#include <sys/syscall.h>

	.globl	_start
	.type	_start, @function
_start:
	cmpq	$1, (%rsp)
	ja	2f
1:	movl	$SYS_pause, %eax
	syscall
	jmp	1b
2:	xorl	%edi, %edi
	movl	$SYS_exit_group, %eax
	syscall
	.size	_start, . - _start

	.section .note.GNU-stack, "", @progbits
