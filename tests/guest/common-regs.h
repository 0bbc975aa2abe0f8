/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * All registers of a user context, filled with random values, and compared
 * after something that must not change them.
 */
#ifndef TESTS_GUEST_COMMON_REGS_H
#define TESTS_GUEST_COMMON_REGS_H

#include "common.h"

/* General registers, as ordered in struct regs. */
enum {
	R_AX,
	R_BX,
	R_CX,
	R_DX,
	R_SI,
	R_DI,
	R_BP,
	R_8,
	R_9,
	R_10,
	R_11,
	R_12,
	R_13,
	R_14,
	R_15,
	R_FLAGS,
	NR_REGS
};

#define REGS_BIT(r) (1U << (r))
/* CF PF AF ZF SF DF OF. Not ID, which no return from a signal handler restores. */
#define REGS_FLAGS 0xcd5

/* What regs_probe() does between loading and storing. */
typedef void regs_action(void);

regs_action regs_nothing;
regs_action regs_syscall; /* ax to r9 are number and arguments */
regs_action regs_spin;	  /* cx times round a loop that changes no flag */
regs_action regs_store;	  /* ax to (dx) */
regs_action regs_ud2;	  /* a SIGILL; whoever catches it skips two bytes */
regs_action regs_int3;	  /* a SIGTRAP, after it */

/**
 * struct regs - one probe
 * @in:		general registers and flags before
 * @out:	after
 * @sp_in:	stack pointer before, for the evidence
 * @sp_out:	after
 * @action:	what happens in between
 * @mask:	state components, as in XCR0
 * @xin:	xsave image before: x87 with its control word and tags, SSE with
 *		mxcsr, AVX, AVX-512 as far as there
 * @xout:	after
 */
struct regs {
	u64 in[NR_REGS];
	u64 out[NR_REGS];
	u64 sp_in;
	u64 sp_out;
	regs_action *action;
	u64 mask;
	unsigned char *xin;
	unsigned char *xout;
};

struct regs *regs_new(void);
/* Other values everywhere; @seed is moved on. */
void regs_random(struct regs *r, u32 *seed);
/* Load all, do r->action, store all; the caller finds its own registers again. */
void regs_probe(struct regs *r);
/* false, and which register first in @text, if any but those in @skip differs. */
bool regs_same(const struct regs *r, u32 skip, char *text, size_t size);

/**
 * struct regs_call - a function called with known callee-saved registers
 * @fn:		the function
 * @a:		its arguments
 * @ret:	what it has returned
 * @in:		bx, bp, r12 to r15 before
 * @out:	after
 * @sp_in:	stack pointer at the call
 * @sp_out:	after
 * @flags:	after
 */
struct regs_call {
	void *fn;
	u64 a[6];
	u64 ret;
	u64 in[6];
	u64 out[6];
	u64 sp_in;
	u64 sp_out;
	u64 flags;
};

void regs_call(struct regs_call *c);
/* The six registers, sp, DF and an empty x87 stack after regs_call(). */
bool regs_call_same(const struct regs_call *c, char *text, size_t size);

/* Control words, which a function leaves as they are. */
static inline void regs_control(u32 *mxcsr, uint16_t *fcw)
{
	asm volatile("stmxcsr %0; fnstcw %1" : "=m"(*mxcsr), "=m"(*fcw));
}

static inline u64 regs_fsbase(void)
{
	u64 fs;

	asm volatile("rdfsbase %0" : "=r"(fs));
	return fs;
}

static inline u32 regs_next(u32 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

#endif /* TESTS_GUEST_COMMON_REGS_H */
