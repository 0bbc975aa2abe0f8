/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the trampolines know of structures and commands. tramp.c asserts at
 * compile time that each of these is what the C side says.
 */
#ifndef _RPAL_ASM_OFFSETS_H
#define _RPAL_ASM_OFFSETS_H

/* struct rpal_block */
#define B_WORD		0
#define B_CALLER	8
#define B_CALLER_WORD	16
#define B_CALL_WORD	24
#define B_CALLEE	32
#define B_TID		36
#define B_STATUS	40
#define B_RESULT	48
#define B_IP		64
#define B_SP		72
#define B_BX		80
#define B_BP		88
#define B_R12		96
#define B_R13		104
#define B_R14		112
#define B_R15		120
#define B_FSBASE	128
#define B_PKRU		136
#define B_MXCSR		140
#define B_FCW		144
#define B_STAMP		152
#define B_AWAY_TICKS	160
#define B_AWAY_TID	192
#define B_SIZE		256

/* struct tramp_scan */
#define SC_BLOCK		0
#define SC_TID		8
#define SC_PKRU		12
#define SC_NR		16
#define SC_START		20

/* struct tramp_post */
#define PO_BLOCK	0
#define PO_WHAT		8
#define PO_RIGHTS	16
#define PO_TID		24

/* struct tramp_in */
#define I_ARG		0
#define I_LEN		8
#define I_WHAT		16
#define I_CALLER	24
#define I_RET_PKRU	32
#define I_PKRU		36
#define I_DEV		40
#define I_FLAGS		44
#define I_WAIT		48
#define I_WAIT_FLAGS	52
#define I_RUN		72
#define I_BLOCK		80

/* struct tramp_frame */
#define FR_BX		0
#define FR_BP		8
#define FR_R12		16
#define FR_R13		24
#define FR_R14		32
#define FR_R15		40
#define FR_SP		48
#define FR_IP		56
#define FR_SIZE		64

/* States, commands, and what the call trampolines answer themselves. */
#define S_WAIT		1
#define S_DEAD		5
#define S_MASK		0x7f
#define S_PENDING	0x80

#define W_REPLY		1
#define IOC_WAIT	0x4018bf22

#define T_GUARD		0xffffffff

#define E_NXIO		6
#define E_FAULT		14
#define E_BUSY		16
#define E_PIPE		32

#define T_MISS		4101	/* this receiver cannot be claimed now */
#define T_NONE		4102	/* all receivers are busy */
#define T_ABSENT	4103	/* there is no receiver at all */

#endif /* _RPAL_ASM_OFFSETS_H */
