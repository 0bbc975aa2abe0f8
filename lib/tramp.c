// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The sets of trampolines, and proof that C and assembly agree. */
#include <errno.h>
#include <stddef.h>

#include "tramp.h"

#define SAME(type, field, off) \
	_Static_assert(offsetof(struct type, field) == (off), #type "." #field)

SAME(rpal_block, word, B_WORD);
SAME(rpal_block, caller, B_CALLER);
SAME(rpal_block, caller_word, B_CALLER_WORD);
SAME(rpal_block, call_word, B_CALL_WORD);
SAME(rpal_block, callee, B_CALLEE);
SAME(rpal_block, tid, B_TID);
SAME(rpal_block, status, B_STATUS);
SAME(rpal_block, result, B_RESULT);
SAME(rpal_block, ip, B_IP);
SAME(rpal_block, sp, B_SP);
SAME(rpal_block, bx, B_BX);
SAME(rpal_block, bp, B_BP);
SAME(rpal_block, r12, B_R12);
SAME(rpal_block, r13, B_R13);
SAME(rpal_block, r14, B_R14);
SAME(rpal_block, r15, B_R15);
SAME(rpal_block, fsbase, B_FSBASE);
SAME(rpal_block, pkru, B_PKRU);
SAME(rpal_block, mxcsr, B_MXCSR);
SAME(rpal_block, fcw, B_FCW);
SAME(rpal_block, stamp, B_STAMP);
SAME(rpal_block, away_ticks, B_AWAY_TICKS);
SAME(rpal_block, away_tid, B_AWAY_TID);
_Static_assert(sizeof(struct rpal_block) == B_SIZE, "block size");
_Static_assert(RPAL_BLOCK_SIZE == B_SIZE, "block size");

SAME(tramp_scan, block, SC_BLOCK);
SAME(tramp_scan, tid, SC_TID);
SAME(tramp_scan, pkru, SC_PKRU);
SAME(tramp_scan, nr, SC_NR);
SAME(tramp_scan, start, SC_START);

SAME(tramp_post, block, PO_BLOCK);
SAME(tramp_post, what, PO_WHAT);
SAME(tramp_post, rights, PO_RIGHTS);
SAME(tramp_post, tid, PO_TID);

SAME(tramp_in, arg, I_ARG);
SAME(tramp_in, len, I_LEN);
SAME(tramp_in, what, I_WHAT);
SAME(tramp_in, caller, I_CALLER);
SAME(tramp_in, ret_pkru, I_RET_PKRU);
SAME(tramp_in, pkru, I_PKRU);
SAME(tramp_in, dev, I_DEV);
SAME(tramp_in, flags, I_FLAGS);
SAME(tramp_in, wait, I_WAIT);
SAME(tramp_in, wait.flags, I_WAIT_FLAGS);
SAME(tramp_in, run, I_RUN);
SAME(tramp_in, block, I_BLOCK);

SAME(tramp_frame, bx, FR_BX);
SAME(tramp_frame, bp, FR_BP);
SAME(tramp_frame, r12, FR_R12);
SAME(tramp_frame, r13, FR_R13);
SAME(tramp_frame, r14, FR_R14);
SAME(tramp_frame, r15, FR_R15);
SAME(tramp_frame, sp, FR_SP);
SAME(tramp_frame, ip, FR_IP);
_Static_assert(sizeof(struct tramp_frame) == FR_SIZE, "frame size");

_Static_assert(RPAL_ST_WAIT == S_WAIT && RPAL_ST_DEAD == S_DEAD, "states");
_Static_assert(RPAL_ST_MASK == S_MASK && RPAL_ST_PENDING == S_PENDING, "states");
_Static_assert(ENXIO == E_NXIO, "error");
_Static_assert(RPAL_WAIT_REPLY == W_REPLY, "wait flags");
_Static_assert(RPAL_IOC_WAIT == IOC_WAIT, "command");
_Static_assert(RPAL_TID_GUARD == T_GUARD, "recovery points");
_Static_assert(EBUSY == E_BUSY && EPIPE == E_PIPE && EFAULT == E_FAULT, "errno");

#define HIDDEN __attribute__((visibility("hidden")))

/* clang-format off */
#define TRAMP(set)							\
HIDDEN struct tramp_ret rpal_##set##_call(struct rpal_block *, uint64_t,	\
					  uint64_t, uint64_t, uint64_t,	\
					  uint64_t, uint32_t);		\
HIDDEN struct tramp_ret rpal_##set##_scan(struct rpal_block *,		\
					  const struct tramp_scan *);	\
HIDDEN int64_t rpal_##set##_wait(struct rpal_block *, struct tramp_in *); \
HIDDEN int64_t rpal_##set##_reply(struct rpal_block *, struct tramp_in *, \
				  int64_t, int64_t);			\
HIDDEN int64_t rpal_##set##_serve(struct rpal_block *, struct tramp_in *); \
HIDDEN int64_t rpal_##set##_guard(struct rpal_block *,			\
				  int64_t (*)(void *), void *, uint32_t); \
HIDDEN int64_t rpal_##set##_post(struct rpal_block *, int64_t (*)(void *), \
				 struct tramp_post *, uint32_t);	\
HIDDEN extern const char rpal_##set##_open_start[], rpal_##set##_open_end[], \
	rpal_##set##_enter_start[], rpal_##set##_enter_end[],		\
	rpal_##set##_leave_start[], rpal_##set##_leave_end[],		\
	rpal_##set##_home_start[], rpal_##set##_home_end[],		\
	rpal_##set##_lazy_ip[], rpal_##set##_wait_ip[];			\
const struct tramp rpal_tramp_##set = {					\
	.call = rpal_##set##_call,					\
	.scan = rpal_##set##_scan,					\
	.wait = rpal_##set##_wait,					\
	.reply = rpal_##set##_reply,					\
	.serve = rpal_##set##_serve,					\
	.guard = rpal_##set##_guard,					\
	.post = rpal_##set##_post,					\
	.ranges = {							\
		.open_start = (uintptr_t)rpal_##set##_open_start,	\
		.open_end = (uintptr_t)rpal_##set##_open_end,		\
		.enter_start = (uintptr_t)rpal_##set##_enter_start,	\
		.enter_end = (uintptr_t)rpal_##set##_enter_end,		\
		.leave_start = (uintptr_t)rpal_##set##_leave_start,	\
		.leave_end = (uintptr_t)rpal_##set##_leave_end,		\
		.home_start = (uintptr_t)rpal_##set##_home_start,	\
		.home_end = (uintptr_t)rpal_##set##_home_end,		\
		.lazy_ip = (uintptr_t)rpal_##set##_lazy_ip,		\
		.wait_ip = (uintptr_t)rpal_##set##_wait_ip,		\
	},								\
}
/* clang-format on */

TRAMP(pk);
TRAMP(nopk);
TRAMP(pk_timed);
TRAMP(nopk_timed);
