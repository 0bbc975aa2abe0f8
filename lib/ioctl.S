/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * long rpal_tr_ioctl(int fd, unsigned long cmd, void *arg)
 *
 * The system call in which a receiver waits. In a file of its own so that a
 * test can put something else in its place.
 */
	.text
	.globl	rpal_tr_ioctl
	.hidden	rpal_tr_ioctl
	.type	rpal_tr_ioctl, @function
rpal_tr_ioctl:
	.cfi_startproc
	mov	$16, %eax		/* __NR_ioctl */
	syscall
	ret
	.cfi_endproc
	.size	rpal_tr_ioctl, . - rpal_tr_ioctl

	.section .note.GNU-stack, "", @progbits
