// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Registration of threads. */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include "events.h"
#include "internal.h"

TLS struct rpal_thr *rpal_self;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;

/* --- restartable sequences
 *
 * In a call a sender's task runs the receiver's code. The kernel would write
 * the CPU's number to the sender's area (which is closed then), and the code
 * would read the receiver's (which is stale). So threads of ours have none;
 * the C library then asks the kernel where it wants to know the CPU.
 */
#ifdef RSEQ_SIG
#define RSEQ_UNREGISTER 1 /* RSEQ_FLAG_UNREGISTER */

static int rseq(unsigned int len, int flags)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	return syscall(SYS_rseq, area, len, flags, RSEQ_SIG) ? -errno : 0;
}

static void rseq_off(struct rpal_thr *thr)
{
	int saved = errno;
	unsigned int len;

	if (!__rseq_size || thr->rseq_len)
		return;
	/*
	 * The length must be the one that the C library has passed, which is
	 * not __rseq_size everywhere: 32, or what the kernel's area needs.
	 */
	for (len = 32; len <= 512; len += 32) {
		if (!rseq(len, RSEQ_UNREGISTER)) {
			thr->rseq_len = len;
			break;
		}
	}
	errno = saved;
}

static void rseq_on(struct rpal_thr *thr)
{
	int saved = errno;

	if (thr->rseq_len && !rseq(thr->rseq_len, 0))
		thr->rseq_len = 0;
	errno = saved;
}
#else
static void rseq_off(struct rpal_thr *thr)
{
	(void)thr;
}

static void rseq_on(struct rpal_thr *thr)
{
	(void)thr;
}
#endif

/* --- registering */

/* 0, or -EBUSY in a call. Registrations of an earlier epoch have ended. */
static int unregister(struct rpal_thr *thr)
{
	int ret = 0;

	if (thr->block && thr->epoch == rpal_state.epoch && rpal_up()) {
		rpal_epoll_forget(thr);
		rpal_close_all(thr);
		ret = rpal_ioctl(RPAL_IOC_THREAD_EXIT, NULL);
	}
	if (ret == -EBUSY)
		return ret;
	thr->block = NULL;
	thr->roles = 0;
	thr->depth = 0;
	rseq_on(thr);
	return 0;
}

/*
 * In the place of a thread's own while it ends, and afterwards: a signal handler may
 * have interrupted free(), or malloc() of other destructors, and must not allocate.
 */
static struct rpal_thr ended;

static void thread_ends(void *arg)
{
	struct rpal_thr *thr = arg;

	rpal_close_all(thr);
	rpal_self = &ended;
	unregister(thr);
	if (thr->ep_fd >= 0)
		close(thr->ep_fd);
	free(thr);
}

static void make_key(void)
{
	if (pthread_key_create(&exit_key, thread_ends))
		abort();
}

static struct rpal_thr *thr_new(void)
{
	struct rpal_thr *thr = calloc(1, sizeof(*thr));

	pthread_once(&once, make_key);
	if (!thr || pthread_setspecific(exit_key, thr)) {
		free(thr);
		return NULL;
	}
	thr->ep_fd = -1;
	rpal_self = thr;
	return thr;
}

/* A sentence for what RPAL_IOC_THREAD refuses. */
static int refused(int err, unsigned int role)
{
	bool receiver = role & RPAL_THREAD_RECEIVER;

	switch (err) {
	case -ENOSPC:
		if (receiver)
			return rpal_failf(err,
					  "all %u receivers that rpal_init() was asked for "
					  "are taken; ask for more",
					  rpal_state.nr_receivers);
		return rpal_failf(err, "all %u threads that one service can register are taken",
				  RPAL_MAX_SENDERS);
	case -EBUSY:
		return rpal_fail(err, "the thread has restartable sequences (rseq) of another "
				      "library than the C library; start the program with them "
				      "turned off");
	case -EDQUOT:
		return rpal_fail(err, "this user has registered as many threads as one may have: "
				      "end some, or raise the module parameter user_threads");
	case -EOPNOTSUPP:
		return rpal_fail(err, "threads with a user shadow stack, AMX or syscall user "
				      "dispatch cannot call or be called; turn it off for this "
				      "program");
	case -EPERM:
		return rpal_fail(err, "this process was forked from the service and is none "
				      "itself");
	}
	return rpal_failf(err, "the thread cannot be registered: %s", strerror(-err));
}

struct rpal_block *rpal_thr_block(int index)
{
	struct rpal_block *block = rpal_state.area;

	if (!rpal_up() || index < 0 || (size_t)index >= rpal_state.area_size / sizeof(*block))
		return NULL;
	return block[index].tid ? &block[index] : NULL;
}

static int add_role(struct rpal_thr *thr, unsigned int role)
{
	struct rpal_thread req = { .size = sizeof(req) };
	struct rpal_block *block;
	int ret;

	/*
	 * A receiver calls, too, when a procedure of its does; and its block
	 * is of another kind, so a sender that becomes one starts anew.
	 */
	if (thr->block && role == RPAL_THREAD_RECEIVER) {
		ret = unregister(thr);
		if (ret)
			return rpal_fail(ret, "the thread is in a call");
	}
	if (!thr->block) {
		rseq_off(thr);
		req.flags = role | RPAL_THREAD_SENDER;
		ret = rpal_ioctl(RPAL_IOC_THREAD, &req);
		if (ret) {
			rseq_on(thr);
			return refused(ret, role);
		}
		thr->epoch = rpal_state.epoch;
		thr->tid = req.tid;
		thr->depth = 0;
		thr->opened.keys = 0;
		rpal_tr_resume = 0;
		thr->lent = false;
		thr->open = false;
		thr->parked_fd = -2;
		thr->watched_fd = -2;
		thr->waits_on = NULL;
		/* Not all senders are to begin with the same receiver. */
		memset(thr->hint, RPAL_TID_INDEX(req.tid), sizeof(thr->hint));
		block = (struct rpal_block *)(uintptr_t)req.block;
		if (role == RPAL_THREAD_RECEIVER)
			__atomic_store_n(&block->user[USER_DIRECTORY], events_directory(),
					 __ATOMIC_RELEASE);
		__atomic_store_n(&thr->block, block, __ATOMIC_RELEASE);
	}
	thr->roles |= role;
	return 0;
}

int rpal_thr_get(unsigned int role, struct rpal_thr **out)
{
	struct rpal_thr *thr = rpal_thr_self();
	int ret;

	if (likely(thr && thr->roles & role)) {
		*out = thr;
		return 0;
	}
	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	thr = rpal_self;
	if (thr == &ended)
		return rpal_fail(-ENXIO, "the thread is ending, and is no sender or receiver any "
					 "more");
	if (!thr)
		thr = thr_new();
	if (!thr)
		return rpal_fail(-ENOMEM, "out of memory");
	if (thr->block && thr->epoch != rpal_state.epoch) {
		thr->block = NULL;
		thr->roles = 0;
	}
	ret = add_role(thr, role);
	*out = thr;
	return ret;
}

/* In a forked child, for the thread that was registered in the parent. */
static struct rpal_block nobody;

bool rpal_thr_lost(struct rpal_thr *thr)
{
	return thr->block == &nobody;
}

void rpal_thr_forked(void)
{
	struct rpal_thr *thr = rpal_self;

	if (!thr || thr == &ended)
		return;
	memset(&nobody, 0, sizeof(nobody));
	thr->block = &nobody;
	/* If it is in a procedure, the trampoline sees by its tid that it has none. */
	thr->in.block = &nobody;
	thr->roles = 0;
	thr->depth = 0;
	thr->serving = false;
	thr->open = false;
	thr->lent = false;
	thr->opened.keys = 0;
	rpal_tr_resume = 0;
	thr->waits_on = NULL;
	rseq_on(thr);
}

/* One role less; the registration ends with the last. */
static int drop_role(unsigned int role)
{
	struct rpal_thr *thr = rpal_thr_self();
	int ret;

	if (!thr || !(thr->roles & role))
		return rpal_fail(-ENXIO, role == RPAL_THREAD_SENDER ? "the thread is no sender" :
								      "the thread is no receiver");
	if (thr->depth && !thr->open)
		return rpal_fail(-EBUSY, "the thread is in a call");
	if (thr->roles == role) {
		ret = unregister(thr);
		if (ret)
			return rpal_fail(ret, "the thread is in a call");
	}
	thr->roles &= ~role;
	return 0;
}

EXPORT int rpal_thread_init(void)
{
	struct rpal_thr *thr;

	return rpal_thr_get(RPAL_THREAD_RECEIVER, &thr);
}

EXPORT void rpal_thread_exit(void)
{
	drop_role(RPAL_THREAD_RECEIVER);
}

EXPORT int rpal_receiver_init(void)
{
	return rpal_thread_init();
}

EXPORT void rpal_receiver_exit(void)
{
	rpal_thread_exit();
}

EXPORT status_t rpal_sender_init(rpal_error_code_t *error)
{
	rpal_error_code_t code;
	struct rpal_thr *thr;

	switch (rpal_thr_get(RPAL_THREAD_SENDER, &thr)) {
	case 0:
		code = RPAL_ERR_NONE;
		break;
	case -ENXIO:
		code = RPAL_DONT_INITED;
		break;
	case -ENOSPC:
	case -EDQUOT:
		code = RPAL_ERR_REACH_LIMIT;
		break;
	case -ENOMEM:
		code = RPAL_ERR_NOMEM;
		break;
	case -EOPNOTSUPP:
	case -EBUSY:
		code = RPAL_ERR_SENDER_INIT;
		break;
	default:
		code = RPAL_ERR_SENDER_REG;
	}
	if (error)
		*error = code;
	return code == RPAL_ERR_NONE ? RPAL_SUCCESS : RPAL_FAILURE;
}

EXPORT status_t rpal_sender_exit(void)
{
	return drop_role(RPAL_THREAD_SENDER) ? RPAL_FAILURE : RPAL_SUCCESS;
}
