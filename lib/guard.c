// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Recovery points: code that touches memory of peers, which may go at any moment.
 *
 * A thread's block holds one context. Where another recovery point or a call comes
 * in between, by the code that is guarded or by a signal handler, what the block
 * holds is put aside and taken back afterwards, as on a stack.
 */
#include <string.h>

#include "internal.h"

#define CONTEXT(block) ((void *)&(block)->ip)

_Static_assert(sizeof(((struct rpal_point *)0)->context) ==
		       offsetof(struct rpal_block, stamp) - offsetof(struct rpal_block, ip),
	       "context");

/* Nothing is moved across this: a signal handler may look. */
static inline void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}

__thread uint64_t rpal_tr_resume __attribute__((tls_model("initial-exec")));

static void save_point(const struct rpal_block *b, struct rpal_point *point)
{
	memcpy(point->context, CONTEXT(b), sizeof(point->context));
	point->callee = b->callee;
	point->resume = rpal_tr_resume;
}

/* Without one in between: what is half there must not be used. */
static void set_point(struct rpal_block *b, const struct rpal_point *point)
{
	b->callee = 0;
	barrier();
	memcpy(CONTEXT(b), point->context, sizeof(point->context));
	rpal_tr_resume = point->resume;
	barrier();
	b->callee = point->callee;
}

void rpal_put_aside(struct rpal_thr *thr, struct rpal_aside *aside)
{
	save_point(thr->block, &aside->point);
	aside->opened = thr->opened;
	barrier();
	thr->block->callee = 0;
	barrier();
	thr->opened.keys = 0;
	rpal_tr_resume = 0;
}

void rpal_take_back(struct rpal_thr *thr, const struct rpal_aside *aside)
{
	thr->opened = aside->opened;
	set_point(thr->block, &aside->point);
}

/* What was in the way of it may be a call that a signal handler has interrupted. */
int64_t rpal_guard_aside(struct rpal_thr *thr, int64_t (*fn)(void *arg), void *arg, uint32_t pkru)
{
	struct rpal_aside aside;
	int64_t ret;

	rpal_put_aside(thr, &aside);
	ret = rpal_state.tramp->guard(thr->block, fn, arg, pkru);
	rpal_take_back(thr, &aside);
	return ret;
}

struct access {
	access_fn fn;
	va_list *args;
	int ret;
};

static int64_t do_access(void *arg)
{
	struct access *a = arg;

	a->ret = a->fn(*a->args);
	return 0;
}

EXPORT status_t rpal_read_access_safety(access_fn fn, int *ret, ...)
{
	struct access a = { .fn = fn };
	struct rpal_thr *thr;
	va_list args;
	int64_t err;

	if (!fn)
		return rpal_fail(RPAL_FAILURE, "a function is needed");
	if (rpal_thr_get(RPAL_THREAD_SENDER, &thr))
		return RPAL_FAILURE;
	va_start(args, ret);
	a.args = &args;
	err = rpal_guard_aside(thr, do_access, &a, rpal_state.pkeys ? rpal_pkru_read() : 0);
	va_end(args);
	if (err)
		return rpal_fail(RPAL_FAILURE, "memory of a peer is not there any more");
	if (ret)
		*ret = a.ret;
	return RPAL_SUCCESS;
}

/* ------------------------------------------------- from prepare to finish */

/*
 * The context of who has called rpal_copy_prepare(), as it will be when that
 * returns. At a fault the trampoline at lazy_ip puts the return address back to
 * where it was on the stack: calls that were made since have used the place.
 */
static void arm(struct rpal_thr *thr, const struct tramp_frame *frame)
{
	struct rpal_block *b = thr->block;

	b->callee = b->tid;
	barrier();
	b->sp = frame->sp;
	b->bx = frame->bx;
	b->bp = frame->bp;
	b->r12 = frame->r12;
	b->r13 = frame->r13;
	b->r14 = frame->r14;
	b->r15 = frame->r15;
	__asm__ volatile("rdfsbase %0" : "=r"(b->fsbase));
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(b->mxcsr), "=m"(b->fcw));
	b->pkru = thr->opened.pkru;
	rpal_tr_resume = frame->ip;
	barrier();
	b->callee = RPAL_TID_GUARD;
}

status_t rpal_tr_prepare(int service_id, const struct tramp_frame *frame)
{
	struct rpal_thr *thr;
	struct rpal_link link;

	if (rpal_link_get(service_id, &link) || rpal_thr_get(RPAL_THREAD_SENDER, &thr))
		return RPAL_FAILURE;
	if (!thr->opened.keys) {
		if (rpal_in_call(thr))
			return rpal_fail(RPAL_FAILURE, "a signal handler that has interrupted a "
						       "call cannot open memory of peers");
		save_point(thr->block, &thr->opened.before);
		thr->opened.pkru = rpal_state.pkeys ? rpal_pkru_read() : 0;
	}
	/* Key 0 is nobody's. */
	thr->opened.keys |= 1U << (rpal_state.pkeys ? link.pkey : 0);
	arm(thr, frame);
	if (rpal_state.pkeys)
		rpal_pkru_write(rpal_pkru_open(rpal_pkru_read(), link.pkey));
	return RPAL_SUCCESS;
}

static void finish(struct rpal_thr *thr)
{
	thr->opened.keys = 0;
	set_point(thr->block, &thr->opened.before);
}

/* Its second return: the kernel has restored everything but this. */
status_t rpal_tr_prepare_failed(void)
{
	struct rpal_thr *thr = rpal_thr_self();

	if (thr)
		finish(thr);
	return rpal_fail(RPAL_FAILURE, "memory of a peer is not there any more; what "
				       "rpal_copy_prepare() had opened is closed");
}

EXPORT status_t rpal_copy_finish(void)
{
	struct rpal_thr *thr = rpal_thr_self();

	if (!thr || !thr->opened.keys)
		return rpal_fail(RPAL_FAILURE, "rpal_copy_prepare() has opened "
					       "nothing in this thread");
	/* Only these: a procedure may have more open by its caller's grant. */
	if (rpal_state.pkeys)
		rpal_pkru_write(
			rpal_pkru_close(rpal_pkru_read(), thr->opened.keys, thr->opened.pkru));
	finish(thr);
	return RPAL_SUCCESS;
}
