/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The smallest program that stays: to fill slots with. Linked as a static-pie
 * (tiny) and at a fixed address (tiny-fixed).
 */
#include <sys/syscall.h>

	.globl	_start
	.type	_start, @function
_start:
	movl	$SYS_pause, %eax
	syscall
	jmp	_start
	.size	_start, . - _start

	.section .note.GNU-stack, "", @progbits
