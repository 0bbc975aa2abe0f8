// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Direct calls: exporting, serving, calling. */
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define CALL_FLAGS (RPAL_CALL_NOWAIT | RPAL_CALL_GRANT_NONE | RPAL_CALL_GRANT_WRITE)

/* A peer that is linked but has no receiver yet gets this long, in ms. */
#define START_MS      2000
#define START_STEP_MS 5

static struct procedure {
	rpal_procedure_fn fn;
	void *ctx;
} procedures[RPAL_MAX_PROCEDURES];

static pthread_mutex_t export_lock = PTHREAD_MUTEX_INITIALIZER;
static bool stopped;

void rpal_call_reset(void)
{
	__atomic_store_n(&stopped, false, __ATOMIC_RELAXED);
}

void rpal_tr_wake(uint32_t tid)
{
	struct rpal_wake wake = { .size = sizeof(wake), .tid = tid };

	rpal_tr_ioctl(rpal_state.fd, RPAL_IOC_WAKE, &wake);
}

/* ----------------------------------------------------------------- serving */

EXPORT int rpal_export(uint32_t procedure, rpal_procedure_fn fn, void *ctx)
{
	struct procedure *p;
	int ret = 0;

	if (procedure >= RPAL_MAX_PROCEDURES)
		return rpal_failf(-EINVAL, "procedures have the numbers 0 to %d",
				  RPAL_MAX_PROCEDURES - 1);
	p = &procedures[procedure];
	pthread_mutex_lock(&export_lock);
	if (fn && p->fn) {
		ret = -EEXIST;
	} else {
		if (fn)
			p->ctx = ctx;
		__atomic_store_n(&p->fn, fn, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&export_lock);
	if (ret)
		rpal_failf(ret, "procedure %u is exported already", procedure);
	return ret;
}

/* Runs on the caller's task; so no system call here. */
static inline struct tramp_ret dispatch(struct rpal_thr *thr, uint64_t arg, uint64_t len,
					uint64_t what, uint64_t from)
{
	struct tramp_ret none = { .status = -ENOENT };
	struct rpal_caller caller;
	rpal_procedure_fn fn;
	uint32_t number = TRAMP_PROC(what);
	int64_t result;

	if (unlikely(number >= RPAL_MAX_PROCEDURES))
		return none;
	fn = __atomic_load_n(&procedures[number].fn, __ATOMIC_ACQUIRE);
	if (unlikely(!fn))
		return none;
	caller.service_id = RPAL_TID_SERVICE(from >> 32);
	caller.thread = RPAL_TID_INDEX(from >> 32);
	caller.flags = TRAMP_FLAGS(what);
	caller.depth = TRAMP_DEPTH(what);
	thr->depth = caller.depth;
	result = fn((void *)(uintptr_t)arg, len, &caller, procedures[number].ctx);
	rpal_close_all(thr);
	thr->depth = 0;
	return (struct tramp_ret){ .result = result };
}

static struct rpal_thr *thr_of(struct tramp_in *in)
{
	return (void *)((char *)in - offsetof(struct rpal_thr, in));
}

struct tramp_ret rpal_dispatch(struct tramp_in *in)
{
	return dispatch(thr_of(in), in->arg, in->len, in->what, in->caller);
}

/* For the trampolines: meanwhile the block is free for calls of the procedure. */
static struct tramp_ret run(uint64_t arg, uint64_t len, uint64_t what, uint64_t caller,
			    struct tramp_in *in)
{
	struct rpal_thr *thr = thr_of(in);
	struct tramp_ret r;

	__atomic_store_n(&thr->lent, false, __ATOMIC_RELEASE);
	r = dispatch(thr, arg, len, what, caller);
	__atomic_store_n(&thr->lent, true, __ATOMIC_RELEASE);
	return r;
}

/* Did the wait begin, and end for a reason of its own? */
static bool wait_ended(int64_t ret)
{
	return ret == -EINTR || ret == RPAL_WAITED_EVENT || ret == RPAL_WAITED_TIMEOUT ||
	       ret == -EPROTO;
}

/* Wait and answer until something else than a call comes. */
static int serve(struct rpal_thr *thr, int fd, int64_t timeout_ns)
{
	struct tramp_in *in = &thr->in;
	struct tramp_ret r;
	int64_t ret, failed;

	*in = (struct tramp_in){
		.dev = rpal_state.fd,
		.wait = { .size = sizeof(in->wait), .fd = fd, .timeout_ns = timeout_ns },
		.run = run,
		.block = thr->block,
	};
	__atomic_store_n(&thr->lent, true, __ATOMIC_RELEASE);
	ret = rpal_state.tramp->serve(thr->block, in);
	__atomic_store_n(&thr->lent, false, __ATOMIC_RELEASE);
	/* -ENXIO: a procedure has forked, and it is the child that returns. */
	if (wait_ended(ret) || ret == -ENXIO || !(in->wait.flags & RPAL_WAIT_REPLY))
		return ret;
	/* The file was closed meanwhile, say. A caller may wait for its answer. */
	failed = ret;
	in->wait.fd = -1;
	in->wait.timeout_ns = 0;
	ret = rpal_tr_reply(thr, thr->block->status, thr->block->result);
	while (!ret) {
		r = rpal_dispatch(in);
		ret = rpal_tr_reply(thr, r.status, r.result);
	}
	return failed;
}

static int epoll_add(int ep, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* The kernel watches one file: of two, make an epoll instance, and keep it. */
static int wait_fd(struct rpal_thr *thr, int fd)
{
	int ep, ret;

	if (fd < 0)
		return rpal_state.stop_fd;
	if (thr->ep_fd >= 0)
		close(thr->ep_fd);
	thr->ep_fd = -1;
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		return rpal_failf(-errno, "cannot make an epoll instance: %s", strerror(errno));
	ret = epoll_add(ep, rpal_state.stop_fd);
	if (!ret)
		ret = epoll_add(ep, fd);
	if (ret) {
		close(ep);
		return rpal_failf(ret, "file descriptor %d cannot be waited for: %s", fd,
				  strerror(-ret));
	}
	thr->ep_fd = ep;
	return ep;
}

EXPORT int rpal_serve(int fd, int timeout_ms)
{
	int64_t timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * 1000000LL;
	struct rpal_aside aside;
	struct rpal_thr *thr;
	int ret, wfd;

	ret = rpal_thr_get(RPAL_THREAD_RECEIVER, &thr);
	if (ret)
		return ret;
	if (thr->serving || thr->depth)
		return rpal_fail(-EBUSY, "a procedure cannot serve, nor can a thread that has "
					 "not gone back to rpal_epoll_wait() since a message "
					 "has woken it");
	wfd = wait_fd(thr, fd);
	if (wfd < 0)
		return wfd;
	if (__atomic_load_n(&stopped, __ATOMIC_ACQUIRE))
		return RPAL_SERVE_STOPPED;

	/* Procedures are not to see what the application has set up for itself. */
	rpal_put_aside(thr, &aside);
	thr->serving = true;
	ret = serve(thr, wfd, timeout_ns);
	thr->serving = false;
	rpal_take_back(thr, &aside);

	switch (ret) {
	case RPAL_WAITED_EVENT:
		return __atomic_load_n(&stopped, __ATOMIC_ACQUIRE) ? RPAL_SERVE_STOPPED :
								     RPAL_SERVE_EVENT;
	case RPAL_WAITED_TIMEOUT:
		return RPAL_SERVE_TIMEOUT;
	case -EINTR:
		return rpal_fail(ret, "a signal handler has run; serve again");
	case -ENXIO:
		if (rpal_thr_lost(thr))
			return rpal_no_service(ret);
		break;
	case -EPROTO:
		return rpal_fail(ret, "a peer has destroyed this thread's state word");
	}
	return rpal_failf(ret, "the thread cannot wait for calls: %s", strerror(-ret));
}

EXPORT void rpal_serve_stop(void)
{
	uint64_t one = 1;

	if (!rpal_up())
		return;
	__atomic_store_n(&stopped, true, __ATOMIC_RELEASE);
	if (write(rpal_state.stop_fd, &one, sizeof(one)) < 0)
		return; /* full: readable as well */
}

/* ----------------------------------------------------------------- calling */

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int64_t now_ms(void)
{
	return now_ns() / 1000000;
}

/* Is there memory at arg that the peer can reach? Any of ours or of its own. */
static bool reachable(int peer, const void *arg, size_t len)
{
	uintptr_t first = (uintptr_t)arg, last = first + len - 1;
	uint64_t slot = first >> RPAL_SLOT_SHIFT;

	return last >= first && slot == last >> RPAL_SLOT_SHIFT &&
	       (slot == rpal_state.slot || slot == (unsigned int)peer);
}

static inline bool valid_flags(unsigned int flags)
{
	return !(flags & ~CALL_FLAGS) &&
	       !(flags & RPAL_CALL_GRANT_NONE && flags & RPAL_CALL_GRANT_WRITE);
}

static int check_args(struct rpal_thr *thr, int id, const void *arg, size_t len, unsigned int flags)
{
	if (!valid_flags(flags))
		return rpal_fail(-EINVAL, "unknown flags, or two grants that exclude each other");
	if (rpal_thr_depth(thr) >= RPAL_MAX_DEPTH)
		return rpal_failf(-ELOOP, "calls can be nested %d deep", RPAL_MAX_DEPTH);
	if (len && !reachable(id, arg, len))
		return rpal_fail(-EFAULT,
				 "the argument lies where the peer cannot reach it: use "
				 "memory of this process that is not mapped below 512 GiB");
	return 0;
}

/**
 * struct call - a call that is to be made
 * @arg:	for the procedure
 * @len:	for the procedure
 * @what:	TRAMP_WHAT()
 * @rights:	TRAMP_RIGHTS()
 */
struct call {
	uint64_t arg;
	uint64_t len;
	uint64_t what;
	uint64_t rights;
};

/* Try one receiver. */
static inline struct tramp_ret try(struct rpal_thr *thr, const struct rpal_link *link, int id,
				   unsigned int index, const struct call *c)
{
	return rpal_state.tramp->call(thr->block, c->arg, c->len, c->what,
				      link->area + (uint64_t)index * RPAL_BLOCK_SIZE, c->rights,
				      RPAL_TID(id, index));
}

/*
 * Look for another receiver. 0: *index may be free; -EAGAIN: look again;
 * -T_NONE, -T_ABSENT, -EPIPE, -EBUSY.
 */
static int scan(struct rpal_thr *thr, const struct rpal_link *link, int id, uint8_t *index)
{
	const struct tramp_scan s = {
		.block = link->area,
		.tid = RPAL_TID(id, 0),
		.pkru = TRAMP_PKRU(link->rights[GRANT_WRITE]),
		.nr = link->nr,
		.start = *index,
	};
	struct tramp_ret r = rpal_state.tramp->scan(thr->block, &s);

	if (r.status < 0)
		return r.status;
	*index = r.status;
	return 0;
}

/* Sleep until a receiver may be free. 0, -EAGAIN (none is there) or -EPIPE. */
static int await(int id, int64_t timeout_ns)
{
	struct rpal_await req = { .size = sizeof(req), .id = id, .timeout_ns = timeout_ns };
	int ret = rpal_ioctl(RPAL_IOC_AWAIT, &req);

	switch (ret) {
	case -EPIPE:
		return -EAGAIN;
	case -ESRCH:
		return -EPIPE;
	case 0:
	case -EINTR:
	case -ETIMEDOUT:
		return 0;
	}
	return ret;
}

/*
 * Is the time of this thread's call over? Another thread may have had it end by
 * writing the deadline.
 */
static bool is_over(struct rpal_thr *thr)
{
	return now_ns() >= (int64_t)__atomic_load_n(&thr->block->deadline, __ATOMIC_RELAXED);
}

/* For await(). */
static int64_t time_left(struct rpal_thr *thr, bool timed)
{
	int64_t left;

	if (!timed)
		return -1;
	left = (int64_t)__atomic_load_n(&thr->block->deadline, __ATOMIC_RELAXED) - now_ns();
	return left > 0 ? left : 0;
}

/*
 * No receiver can be had. 0 when it is worth another try. *since is when the
 * peer was first seen without any.
 */
static int none_free(int id, uint64_t key, unsigned int flags, bool absent, int64_t timeout_ns,
		     int64_t *since)
{
	struct timespec step = { .tv_nsec = START_STEP_MS * 1000000L };
	int ret, saved = errno;

	if (absent && rpal_link_check(id, key))
		return -EPIPE;
	if (flags & RPAL_CALL_NOWAIT)
		return absent ? -ECONNREFUSED : -EAGAIN;
	ret = await(id, timeout_ns);
	if (ret != -EAGAIN) {
		*since = 0;
		return ret == -EPIPE && !rpal_link_check(id, key) ? 0 : ret;
	}
	if (!*since)
		*since = now_ms();
	if (now_ms() - *since >= START_MS)
		return -ECONNREFUSED;
	nanosleep(&step, NULL);
	errno = saved;
	return 0;
}

/* The call goes on at the receiver's own task. */
static struct tramp_ret await_reply(bool timed)
{
	struct rpal_reply req = { .size = sizeof(req), .flags = timed ? RPAL_REPLY_DEADLINE : 0 };
	int ret;

	do
		ret = rpal_ioctl(RPAL_IOC_AWAIT_REPLY, &req);
	while (ret == -EINTR);
	if (ret == -ETIMEDOUT)
		return (struct tramp_ret){ .status = ret };
	if (ret)
		return (struct tramp_ret){ .status = -EPIPE };
	return (struct tramp_ret){ .status = req.status, .result = req.result };
}

int64_t rpal_await_async(void)
{
	return await_reply(false).status;
}

static int64_t call_async(struct rpal_thr *thr, const struct rpal_link *link, int id,
			  unsigned int index)
{
	const struct call c = {
		.what = TRAMP_WHAT(RPAL_MESSAGE, RPAL_CALL_GRANT_NONE, rpal_thr_depth(thr) + 1),
		.rights = link->rights[GRANT_NONE],
	};
	uint32_t saved = thr->block->flags;
	struct tramp_ret r;

	thr->block->flags = RPAL_BLOCK_ASYNC;
	do
		r = try(thr, link, id, index, &c);
	while (r.status == -EAGAIN); /* stopped before it began */
	thr->block->flags = saved;
	return rpal_async_status(thr, r.status);
}

int64_t rpal_call_async(struct rpal_thr *thr, const struct rpal_link *link, int id,
			unsigned int index)
{
	struct rpal_aside aside;
	int64_t ret;

	if (likely(!rpal_is_armed(thr)))
		return call_async(thr, link, id, index);
	rpal_put_aside(thr, &aside);
	ret = call_async(thr, link, id, index);
	rpal_take_back(thr, &aside);
	return ret;
}

/* One sentence for each way in which a call does not come about. */
static int call_failed(int ret, int id, uint32_t procedure)
{
	switch (ret) {
	case -ENOENT:
		return rpal_failf(ret, "service %d exports no procedure %u", id, procedure);
	case -EPIPE:
		return rpal_failf(ret,
				  "service %d has ended, has released the link, or its thread "
				  "died in the procedure",
				  id);
	case -ECONNREFUSED:
		return rpal_failf(ret,
				  "service %d has no receiver thread: one must call "
				  "rpal_serve()",
				  id);
	case -EAGAIN:
		return rpal_fail(ret, "all receivers are busy; try again, or call without "
				      "RPAL_CALL_NOWAIT");
	case -ETIMEDOUT:
		return rpal_failf(ret,
				  "service %d has not answered in time; what it answers now is "
				  "dropped",
				  id);
	case -ECANCELED:
		return rpal_fail(ret, "another thread has cancelled the call");
	case -EBUSY:
		return rpal_fail(ret, "a signal handler has interrupted this thread's call and "
				      "cannot call itself");
	}
	return rpal_failf(-EPROTO, "service %d has answered nonsense (%d)", id, ret);
}

/* How a call differs from another one. */
struct how {
	uint32_t procedure;
	unsigned int flags;
	bool timed; /* its deadline is in the block */
};

/* Is it linked still, and as what? */
static bool still_linked(int id, uint64_t key, struct rpal_link *link)
{
	return !rpal_link_get(id, link) && link->key == key;
}

static inline struct call prepare(const struct rpal_link *link, struct how how, void *arg,
				  size_t len, unsigned int depth)
{
	return (struct call){
		.arg = (uintptr_t)arg,
		.len = len,
		.what = TRAMP_WHAT(how.procedure, how.flags, depth + 1),
		.rights = link->rights[GRANT(how.flags)],
	};
}

/*
 * The first attempt has not brought the answer: go on until a receiver has answered
 * or it is clear that none will.
 */
static int call_on(struct rpal_thr *thr, int id, uint64_t key, struct how how, void *arg,
		   size_t len, struct tramp_ret *r)
{
	uint8_t *hint = &thr->hint[id];
	struct rpal_link link;
	struct call c;
	int64_t since = 0;
	int ret = 0;

	for (;;) {
		if (r->status == RPAL_CALL_LAZY)
			*r = await_reply(how.timed);
		if (!r->status)
			return 0;
		if (r->status != -EAGAIN && r->status != -T_MISS)
			break;
		if (how.timed && is_over(thr)) {
			r->status = -ETIMEDOUT;
			break;
		}
		if (!still_linked(id, key, &link)) {
			r->status = -EPIPE;
			break;
		}
		/* -EAGAIN: stopped before it began. */
		if (r->status == -T_MISS) {
			do
				ret = scan(thr, &link, id, hint);
			while (ret == -EAGAIN);
			if (ret == -T_NONE || ret == -T_ABSENT)
				ret = none_free(id, key, how.flags, ret == -T_ABSENT,
						time_left(thr, how.timed), &since);
			if (ret) {
				r->status = ret;
				break;
			}
		}
		c = prepare(&link, how, arg, len, rpal_thr_depth(thr));
		*r = try(thr, &link, id, *hint, &c);
	}
	/* Let the next call know what this one has found out. */
	if (r->status == -EPIPE)
		rpal_link_check(id, key);
	return r->status;
}

/* A deadline that has passed long ago: what rpal_call_cancel() writes. */
#define CANCELLED 1

static int conclude(struct rpal_thr *thr, int id, struct how how, int ret,
		    const struct tramp_ret *r, int64_t *result)
{
	if (ret == -ETIMEDOUT && thr->block->deadline == CANCELLED)
		ret = -ECANCELED;
	if (ret)
		return call_failed(ret, id, how.procedure);
	if (result)
		*result = r->result;
	return 0;
}

/*
 * The rest of a usual call: its receiver was busy, or something has come in between. It
 * finds anew what can be found, so that nothing of that need be kept during the call.
 */
static __attribute__((noinline)) int call_again(int id, uint64_t key, struct how how, void *arg,
						size_t len, struct tramp_ret r, int64_t *result)
{
	struct rpal_thr *thr = rpal_self;
	int ret = call_on(thr, id, key, how, arg, len, &r);

	return conclude(thr, id, how, ret, &r, result);
}

/*
 * A call that is not a usual one: the thread is not registered yet, or is in the middle
 * of something, or there are no such arguments or link.
 */
static __attribute__((noinline)) int call_unusual(int id, struct how how, void *arg, size_t len,
						  int64_t *result)
{
	struct rpal_aside aside;
	struct rpal_link link;
	struct rpal_thr *thr;
	struct tramp_ret r;
	uint32_t saved;
	struct call c;
	bool armed;
	int ret;

	ret = rpal_link_get(id, &link);
	if (ret)
		return ret;
	ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);
	if (ret)
		return ret;
	ret = check_args(thr, id, arg, len, how.flags);
	if (ret)
		return ret;
	c = prepare(&link, how, arg, len, rpal_thr_depth(thr));
	/* A signal handler's call, in the middle of a message's, is not like that one. */
	saved = thr->block->flags;
	thr->block->flags = 0;
	thr->hint[id] %= link.nr;
	/* What the application, or whom this signal handler has interrupted, had set up stays. */
	armed = rpal_is_armed(thr);
	if (armed)
		rpal_put_aside(thr, &aside);
	r = try(thr, &link, id, thr->hint[id], &c);
	ret = call_on(thr, id, link.key, how, arg, len, &r);
	if (armed)
		rpal_take_back(thr, &aside);
	thr->block->flags = saved;
	return conclude(thr, id, how, ret, &r, result);
}

/* Is the thread in the middle of nothing that a call would be in the way of? */
static inline bool is_free(const struct rpal_thr *thr)
{
	return rpal_is_idle(thr) && !thr->open && !thr->block->flags;
}

static inline bool is_usual(const struct rpal_thr *thr, int id, const struct rpal_link *link,
			    unsigned int flags, void *arg, size_t len)
{
	return is_free(thr) && thr->depth < RPAL_MAX_DEPTH && thr->hint[id] < link->nr &&
	       valid_flags(flags) && (!len || reachable(id, arg, len));
}

static inline __attribute__((always_inline)) int call_with(int id, struct how how, void *arg,
							   size_t len, int64_t *result)
{
	struct rpal_thr *thr = rpal_thr_self();
	struct rpal_link link;
	struct tramp_ret r;
	struct call c;

	if (unlikely(!thr || !rpal_link_peek(id, &link) ||
		     !is_usual(thr, id, &link, how.flags, arg, len)))
		return call_unusual(id, how, arg, len, result);
	c = prepare(&link, how, arg, len, thr->depth);
	r = try(thr, &link, id, thr->hint[id], &c);
	if (unlikely(r.status))
		return call_again(id, link.key, how, arg, len, r, result);
	if (result)
		*result = r.result;
	return 0;
}

EXPORT int rpal_call_flags(int service_id, uint32_t procedure, void *arg, size_t len,
			   int64_t *result, unsigned int flags)
{
	const struct how how = { .procedure = procedure, .flags = flags };

	return call_with(service_id, how, arg, len, result);
}

EXPORT int rpal_call(int service_id, uint32_t procedure, void *arg, size_t len, int64_t *result)
{
	const struct how how = { .procedure = procedure };

	return call_with(service_id, how, arg, len, result);
}

/* --------------------------------------------------------------- deadlines */

/* Without a limit it can be cancelled all the same. */
#define NEVER INT64_MAX

static void look_at_deadline(uint32_t tid)
{
	struct rpal_deadline req = { .size = sizeof(req), .tid = tid };

	rpal_ioctl(RPAL_IOC_DEADLINE, &req);
}

/* The kernel need not be asked if it is going to look in time anyway. */
static void set_deadline(struct rpal_thr *thr, int64_t end)
{
	struct rpal_block *b = thr->block;
	uint64_t timer;

	__atomic_exchange_n(&b->deadline, end, __ATOMIC_SEQ_CST);
	timer = __atomic_load_n(&b->timer, __ATOMIC_SEQ_CST);
	if (end != NEVER && (!timer || timer > (uint64_t)end))
		look_at_deadline(b->tid);
}

EXPORT int rpal_call_timeout(int service_id, uint32_t procedure, void *arg, size_t len,
			     int64_t *result, unsigned int flags, int timeout_ms)
{
	const struct how how = { .procedure = procedure, .flags = flags, .timed = true };
	struct rpal_thr *thr;
	uint64_t outer;
	int ret;

	ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);
	if (ret)
		return ret;
	/* Of a call that this one, a signal handler's, has interrupted. */
	outer = thr->block->deadline;
	set_deadline(thr, timeout_ms < 0 ? NEVER : now_ns() + timeout_ms * 1000000LL);
	ret = call_with(service_id, how, arg, len, result);
	if (unlikely(outer))
		set_deadline(thr, outer);
	else
		__atomic_store_n(&thr->block->deadline, 0, __ATOMIC_RELAXED);
	return ret;
}

EXPORT int rpal_thread_number(void)
{
	struct rpal_thr *thr;
	int ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);

	return ret ? ret : (int)RPAL_TID_INDEX(thr->block->tid);
}

EXPORT int rpal_call_cancel(int thread)
{
	struct rpal_block *b = rpal_thr_block(thread);
	uint64_t end;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	end = b ? __atomic_load_n(&b->deadline, __ATOMIC_ACQUIRE) : 0;
	if (!end)
		return rpal_failf(-ESRCH, "thread %d is in no call of rpal_call_timeout()", thread);
	/* Not of another call, if this one has just ended. */
	if (!__atomic_compare_exchange_n(&b->deadline, &end, CANCELLED, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return rpal_failf(-ESRCH, "thread %d's call has just ended", thread);
	look_at_deadline(b->tid);
	return 0;
}
