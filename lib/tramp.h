/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The trampolines, seen from C. */
#ifndef _RPAL_TRAMP_H
#define _RPAL_TRAMP_H

#include <stdint.h>
#include <linux/rpal.h>
#include <rpal/rpal.h>

#include "asm-offsets.h"

/* The procedure's number and what goes with it, in one register. */
#define TRAMP_WHAT(proc, flags, depth) \
	((uint32_t)(proc) | (uint64_t)(uint8_t)(flags) << 32 | (uint64_t)(depth) << 40)
#define TRAMP_PROC(what)  ((uint32_t)(what))
#define TRAMP_FLAGS(what) ((uint8_t)((what) >> 32))
#define TRAMP_DEPTH(what) ((uint8_t)((what) >> 40))

/* Returned in two registers. */
struct tramp_ret {
	int64_t status;
	int64_t result;
};

/*
 * Rights while the receiver's context runs, and those with which it can read the
 * caller's block afterwards.
 */
#define TRAMP_RIGHTS(pkru, ret_pkru) ((uint32_t)(pkru) | (uint64_t)(ret_pkru) << 32)
#define TRAMP_PKRU(rights)	     ((uint32_t)(rights))

/**
 * struct tramp_scan - a search for a receiver
 * @block:	the first receiver's block
 * @tid:	the first receiver's
 * @pkru:	rights while searching
 * @nr:		number of receivers
 * @start:	which one to look at first
 */
struct tramp_scan {
	uint64_t block;
	uint32_t tid;
	uint32_t pkru;
	uint32_t nr;
	uint32_t start;
};

/**
 * struct tramp_post - a call that may follow on something done in a peer's memory
 * @block:	the receiver's block
 * @what:	TRAMP_WHAT()
 * @rights:	TRAMP_RIGHTS()
 * @tid:	the receiver's
 */
struct tramp_post {
	uint64_t block;
	uint64_t what;
	uint64_t rights;
	uint32_t tid;
};

/**
 * struct tramp_in - what a receiver is called with, and how it waits
 * @arg:	as passed by the caller
 * @len:	as passed by the caller
 * @what:	as passed by the caller
 * @caller:	the caller's call_word
 * @ret_pkru:	rights with which the caller's block can be read
 * @pkru:	own rights outside of calls
 * @dev:	file descriptor of /dev/rpal
 * @flags:	RPAL_WAIT_*, passed whenever it waits. Answered in user mode, it is
 *		still in the wait in which it was called, with the flags of that
 * @wait:	argument of RPAL_IOC_WAIT
 * @run:	for serve: runs a call, of which it is given what else would be noted here
 * @block:	for serve: the receiver's own block
 */
struct tramp_in {
	uint64_t arg;
	uint64_t len;
	uint64_t what;
	uint64_t caller;
	uint32_t ret_pkru;
	uint32_t pkru;
	int32_t dev;
	uint32_t flags;
	struct rpal_wait wait;
	struct tramp_ret (*run)(uint64_t arg, uint64_t len, uint64_t what, uint64_t caller,
				struct tramp_in *in);
	struct rpal_block *block;
};

/**
 * struct tramp_frame - who has called rpal_copy_prepare()
 * @bx, @bp, @r12, @r13, @r14, @r15: its registers
 * @sp:		where on the stack its return address is
 * @ip:		its return address
 */
struct tramp_frame {
	uint64_t bx;
	uint64_t bp;
	uint64_t r12;
	uint64_t r13;
	uint64_t r14;
	uint64_t r15;
	uint64_t sp;
	uint64_t ip;
};

/**
 * struct tramp - one set of trampolines
 * @call:	run a procedure: @what is TRAMP_WHAT(), @block and @tid are the
 *		receiver's, @rights TRAMP_RIGHTS(). Status: what the receiver answers; -EAGAIN (ended
 *		by the kernel before it began: try again), -EPIPE, -EBUSY,
 *		RPAL_CALL_LAZY, -T_MISS
 * @scan:	look for a receiver that can be claimed. Status: its index;
 *		-EAGAIN, -EPIPE, -EBUSY, -T_NONE, -T_ABSENT
 * @wait:	wait to be called. 0: called, tramp_in filled in; else why not
 * @reply:	answer a call, then as @wait
 * @serve:	wait, and run and answer all calls. Why it has ended; if the wait that
 *		was to follow an answer has not begun, that one has RPAL_WAIT_REPLY
 *		in its flags, and the block has status and result
 * @guard:	run a function, with rights, that may touch memory of peers. What it
 *		returns; -EFAULT if that memory is not there; -EBUSY
 * @post:	as @guard, but if the function returns more than 0, then it has filled in
 *		what it was given, and this call follows, without an argument. Status: as
 *		of @guard or of @call
 * @ranges:	addresses for the kernel
 */
struct tramp {
	struct tramp_ret (*call)(struct rpal_block *own, uint64_t arg, uint64_t len, uint64_t what,
				 uint64_t block, uint64_t rights, uint32_t tid);
	struct tramp_ret (*scan)(struct rpal_block *own, const struct tramp_scan *s);
	int64_t (*wait)(struct rpal_block *own, struct tramp_in *in);
	int64_t (*reply)(struct rpal_block *own, struct tramp_in *in, int64_t status,
			 int64_t result);
	int64_t (*serve)(struct rpal_block *own, struct tramp_in *in);
	int64_t (*guard)(struct rpal_block *own, int64_t (*fn)(void *arg), void *arg,
			 uint32_t pkru);
	int64_t (*post)(struct rpal_block *own, int64_t (*fn)(void *arg), struct tramp_post *arg,
			uint32_t pkru);
	struct rpal_ranges ranges;
};

extern const struct tramp rpal_tramp_pk;   /* with protection keys */
extern const struct tramp rpal_tramp_nopk; /* without */
/* The same, but each call is timed for the kernel. */
extern const struct tramp rpal_tramp_pk_timed;
extern const struct tramp rpal_tramp_nopk_timed;

/* ioctl(fd, cmd, arg), for the trampolines only; a negative errno on failure. */
long rpal_tr_ioctl(int fd, unsigned long cmd, void *arg);

/* Called by rpal_copy_prepare(), and at a fault in the place of its second return. */
status_t rpal_tr_prepare(int service_id, const struct tramp_frame *frame);
status_t rpal_tr_prepare_failed(void);

/* Called by the trampolines when the receiver of a finished call must be woken. */
void rpal_tr_wake(uint32_t tid);

#endif /* _RPAL_TRAMP_H */
