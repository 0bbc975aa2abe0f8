// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Waiting for messages, calls and the kernel's events at once.
 *
 * A receiver that waits sleeps in the kernel, which polls the epoll instance for
 * it; meanwhile it can be called. A message calls it without anything to run:
 * it comes out of its wait, on the caller's task, and the call ends when it
 * waits again. So a wait may begin and end in user mode any number of times
 * while its task sleeps on, with the descriptor and the time-out that it had
 * when it last came to the kernel: it is "parked". Where those do not do for
 * what is wanted now, the caller is asked to wake it when the call ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "events.h"
#include "internal.h"

#define FOREVER INT64_MAX

/* In tramp_in's flags for the kernel: it was not asked. */
#define NOT_ASKED 0xffffffffU

/* Times that more events may be handed out before the caller goes on. */
#define MAX_ROUNDS 8

/* News of the kernel may get lost if a program plays with its descriptors. */
#define MAX_UNLOOKED 65535

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int64_t deadline(int64_t timeout_ns)
{
	int64_t end;

	if (timeout_ns < 0)
		return FOREVER;
	return __builtin_add_overflow(now_ns(), timeout_ns, &end) ? FOREVER : end;
}

/* --- one wait */

static uint64_t *waiters_word(struct event_set *set, const struct rpal_thr *thr, uint64_t *bit)
{
	unsigned int index = RPAL_TID_INDEX(thr->tid);

	*bit = 1ULL << index % 64;
	return &set->ready->waiters[index / 64];
}

/* Writers need not look for this thread any more. */
static void withdraw(struct rpal_thr *thr)
{
	uint64_t bit, *word;

	if (!thr->waits_on)
		return;
	word = waiters_word(thr->waits_on, thr, &bit);
	__atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST);
	thr->waits_on = NULL;
}

/* From now on writers that make something ready also look for this thread. */
static void announce(struct rpal_thr *thr, struct event_set *set)
{
	uint64_t bit, *word;

	if (thr->waits_on == set)
		return;
	withdraw(thr);
	if (!set)
		return;
	thr->waits_on = set;
	word = waiters_word(set, thr, &bit);
	__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
}

/* The call that goes on is to end through the kernel, and that wakes us. */
static void ask_for_wake(struct rpal_thr *thr)
{
	uint64_t word = __atomic_load_n(&thr->block->word, __ATOMIC_ACQUIRE);

	__atomic_fetch_or(&thr->block->news, RPAL_NEWS_MESSAGE, __ATOMIC_SEQ_CST);
	while ((word & RPAL_ST_MASK) == RPAL_ST_CALL && !(word & RPAL_ST_PENDING))
		if (__atomic_compare_exchange_n(&thr->block->word, &word, word | RPAL_ST_PENDING,
						false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
			break;
}

static void prepare(struct rpal_thr *thr, int fd, int64_t until)
{
	struct rpal_wait *wait = &thr->in.wait;
	int64_t left = until;

	wait->size = sizeof(*wait);
	wait->fd = fd;
	wait->timeout_ns = -1;
	if (until != FOREVER) {
		left -= now_ns();
		wait->timeout_ns = left > 0 ? left : 0;
	}
	wait->flags = NOT_ASKED;
	thr->in.dev = rpal_state.fd;
	thr->in.flags = RPAL_WAIT_NEWS;
}

/* In the kernel a wait has begun. */
static void parked(struct rpal_thr *thr, int fd, int64_t until)
{
	thr->parked_fd = fd;
	thr->parked_until = until;
	thr->parked_epoch = events_epoch();
}

/*
 * Inline, as all between the program and the trampoline in what follows: a message
 * makes a wait return on the sender's CPU, which expects the sender's returns, and
 * gets each of them wrong.
 */
static inline __attribute__((always_inline)) int64_t
answer(struct rpal_thr *thr, int fd, int64_t until, int64_t status, int64_t result)
{
	int64_t ret;

	if (thr->parked_fd != fd || until < thr->parked_until)
		ask_for_wake(thr);
	prepare(thr, fd, until);
	ret = rpal_tr_reply(thr, status, result);
	if (thr->in.wait.flags != NOT_ASKED)
		parked(thr, fd, until);
	return ret;
}

/* Did a wait begin that the kernel has ended? */
static bool was_parked(int64_t ret)
{
	return ret == -EINTR || ret == -EPROTO || ret == RPAL_WAITED_EVENT ||
	       ret == RPAL_WAITED_TIMEOUT || ret == RPAL_WAITED_NEWS;
}

/* Procedures, until it is a message that calls, or none does: as wait_once(). */
static __attribute__((noinline)) int64_t run_procedures(struct rpal_thr *thr, int fd, int64_t until)
{
	struct tramp_ret r;
	int64_t ret;

	do {
		r = rpal_dispatch(&thr->in);
		/* The procedure has forked, and it is the child that returns. */
		if (unlikely(rpal_thr_lost(thr)))
			return rpal_no_service(-ENXIO);
		ret = answer(thr, fd, until, r.status, r.result);
		/* The descriptor is gone, say: who has called is not to wait for that. */
		if (ret && !was_parked(ret))
			answer(thr, -1, 0, r.status, r.result);
	} while (!ret && TRAMP_PROC(thr->in.what) != RPAL_MESSAGE);
	return ret;
}

static __attribute__((noinline)) int64_t begin_wait(struct rpal_thr *thr, int fd, int64_t until)
{
	memset(&thr->in, 0, sizeof(thr->in));
	prepare(thr, fd, until);
	parked(thr, fd, until);
	return rpal_tr_wait(thr);
}

/*
 * Wait once; 0: a message has come, and the call is open. Procedures that are
 * called meanwhile are run. Else RPAL_WAITED_* or a negative errno.
 */
static inline __attribute__((always_inline)) int64_t wait_and_serve(struct rpal_thr *thr, int fd,
								    int64_t until)
{
	int64_t ret;

	if (thr->open) {
		thr->open = false;
		thr->depth = 0;
		ret = answer(thr, fd, until, 0, 0);
	} else {
		ret = begin_wait(thr, fd, until);
	}
	if (unlikely(!ret && TRAMP_PROC(thr->in.what) != RPAL_MESSAGE))
		ret = run_procedures(thr, fd, until);
	if (unlikely(ret)) {
		thr->parked_fd = -2;
		return ret;
	}
	thr->open = true;
	thr->depth = TRAMP_DEPTH(thr->in.what);
	thr->rounds = 0;
	return 0;
}

/* Procedures are not to see what the application has set up for itself. */
static __attribute__((noinline)) int64_t wait_aside(struct rpal_thr *thr, int fd, int64_t until)
{
	struct rpal_aside aside;
	int64_t ret;

	rpal_put_aside(thr, &aside);
	ret = wait_and_serve(thr, fd, until);
	rpal_take_back(thr, &aside);
	return ret;
}

static inline __attribute__((always_inline)) int64_t wait_once(struct rpal_thr *thr, int fd,
							       int64_t until)
{
	if (unlikely(rpal_is_armed(thr)))
		return wait_aside(thr, fd, until);
	return wait_and_serve(thr, fd, until);
}

/* Let the caller go on, and be on one's own task. 0 or -EINTR. */
static int end_call(struct rpal_thr *thr)
{
	int64_t ret = 0;

	while (thr->open) {
		ask_for_wake(thr);
		/* By now, if it has to be asked for at all. */
		ret = wait_once(thr, -1, 0);
	}
	return ret == -EINTR ? -EINTR : 0;
}

void rpal_epoll_forget(struct rpal_thr *thr)
{
	end_call(thr);
	withdraw(thr);
	thr->parked_fd = -2;
	thr->watched_fd = -2;
}

/* --- looking for events */

static void take_news(struct rpal_thr *thr)
{
	if (!__atomic_load_n(&thr->block->news, __ATOMIC_ACQUIRE))
		return;
	if (__atomic_exchange_n(&thr->block->news, 0, __ATOMIC_SEQ_CST) & RPAL_NEWS_EVENT)
		thr->look = true;
}

/*
 * May the kernel have events of this epoll instance that it has not told of? It
 * tells of the one that is watched, by news, and of the one that it polls for a
 * wait that goes on, which it ends.
 */
static inline __attribute__((always_inline)) bool must_look(struct rpal_thr *thr, int epfd)
{
	unsigned int epoch = events_epoch();

	if (thr->watched_fd == epfd && thr->watch_epoch == epoch)
		return thr->look || thr->unlooked++ >= MAX_UNLOOKED;
	if (!thr->open || thr->parked_fd != epfd || thr->parked_epoch != epoch)
		return true;
	/* A system call since has ended that wait. */
	return (__atomic_load_n(&thr->block->word, __ATOMIC_ACQUIRE) & RPAL_ST_MASK) !=
	       RPAL_ST_CALL;
}

static void watch(struct rpal_thr *thr, int epfd)
{
	struct rpal_watch req = { .size = sizeof(req), .fd = epfd };

	if (thr->open || (thr->watched_fd == epfd && thr->watch_epoch == events_epoch()))
		return;
	thr->watch_epoch = events_epoch();
	/* If it has some already, it says so at once. */
	thr->look = false;
	thr->watched_fd = rpal_ioctl(RPAL_IOC_WATCH, &req) ? -2 : epfd;
}

/* Number of events of both kinds, or -1 with errno. */
static __attribute__((noinline)) int look_at_both(struct rpal_thr *thr, struct event_set *set,
						  int epfd, struct epoll_event *events, int max)
{
	bool owed = thr->owed;
	int n = 0, more;

	take_news(thr);
	/* The kernel's events have filled the last answer: they come second now. */
	if (owed && set)
		n = events_collect(set, events, max);
	thr->owed = false;
	if (n == max)
		return n;
	if (must_look(thr, epfd)) {
		more = epoll_wait(epfd, events + n, max - n, 0);
		if (more < 0)
			return n ? n : more;
		thr->unlooked = 0;
		/* What was reported may still be there. */
		if (thr->watched_fd == epfd)
			thr->look = more > 0;
		if (set && more)
			events_used_up(set, events + n, more);
		n += more;
		thr->owed = n == max;
	}
	if (set && n < max && !owed)
		n += events_collect(set, events + n, max - n);
	return n;
}

/* The same: mostly the kernel is known to have none. */
static inline __attribute__((always_inline)) int look(struct rpal_thr *thr, struct event_set *set,
						      int epfd, struct epoll_event *events, int max)
{
	if (likely(set && !thr->owed && !__atomic_load_n(&thr->block->news, __ATOMIC_ACQUIRE) &&
		   !must_look(thr, epfd)))
		return events_collect(set, events, max);
	return look_at_both(thr, set, epfd, events, max);
}

/* --- the whole of it */

/* The calling thread if this is where calls come to it, else NULL. */
static inline struct rpal_thr *receiver(void)
{
	struct rpal_thr *thr = rpal_thr_self();

	if (!thr || !(thr->roles & RPAL_THREAD_RECEIVER) || (thr->depth && !thr->open))
		return NULL;
	return thr;
}

static int fail_with(int err)
{
	errno = err;
	return -1;
}

static inline int found(struct rpal_thr *thr, struct event_set *set, int epfd, int n)
{
	if (thr->open)
		return n;
	withdraw(thr);
	/* It may go on so without the kernel, which then has to say if it has events. */
	if (set)
		watch(thr, epfd);
	return n;
}

/* A caller goes on even if this thread never waits any longer than not at all. */
static int timed_out(struct rpal_thr *thr, struct event_set *set, int epfd,
		     struct epoll_event *events, int max)
{
	bool open = thr->open;

	if (end_call(thr))
		return fail_with(EINTR);
	withdraw(thr);
	return open ? look(thr, set, epfd, events, max) : 0;
}

static inline __attribute__((always_inline)) int
wait_until(struct rpal_thr *thr, int epfd, struct epoll_event *events, int max, int64_t until)
{
	struct event_set *set = events_set(epfd);
	int64_t ret;
	int n;

	for (;;) {
		if (thr->open && ++thr->rounds > MAX_ROUNDS && set && ready_any(set->ready) &&
		    end_call(thr))
			return fail_with(EINTR);
		n = look(thr, set, epfd, events, max);
		if (n)
			return n < 0 ? n : found(thr, set, epfd, n);
		if (until != FOREVER && now_ns() >= until)
			return timed_out(thr, set, epfd, events, max);
		/* Another thread may add RPAL events while this one waits. */
		if (!set)
			set = events_set_get(epfd);
		announce(thr, set);
		if (set && ready_any(set->ready))
			continue;
		ret = wait_once(thr, epfd, until);
		if (ret == RPAL_WAITED_EVENT)
			thr->look = true;
		else if (ret < 0 && !was_parked(ret))
			return fail_with(-ret);
		else if (ret == -EINTR)
			return fail_with(EINTR);
	}
}

static int plain(int epfd, struct epoll_event *events, int max, int64_t timeout_ns,
		 const sigset_t *mask)
{
	struct timespec ts = { timeout_ns / 1000000000, timeout_ns % 1000000000 };

	return epoll_pwait2(epfd, events, max, timeout_ns < 0 ? NULL : &ts, mask);
}

/* Signals and the wait are the kernel's matter then, and so are messages. */
static int wait_masked(struct rpal_thr *thr, int epfd, struct epoll_event *events, int max,
		       int64_t until, const sigset_t *mask)
{
	struct event_set *set = events_set_get(epfd);
	struct epoll_event dummy[2];
	int64_t left = -1;
	int n, outer;

	if (end_call(thr))
		return fail_with(EINTR);
	withdraw(thr);
	outer = set ? events_outer_fd(set) : epfd;
	if (outer < 0)
		return fail_with(-outer);
	for (;;) {
		n = look(thr, set, epfd, events, max);
		if (n)
			return n;
		if (set && !events_arm(set))
			continue;
		if (until != FOREVER) {
			left = until - now_ns();
			left = left < 0 ? 0 : left;
		}
		n = plain(outer, set ? dummy : events, set ? 2 : max, left, mask);
		if (n <= 0 || !set)
			return n;
	}
}

static int wait_for(int epfd, struct epoll_event *events, int max, int64_t timeout_ns,
		    const sigset_t *mask)
{
	struct rpal_thr *thr = receiver();

	if (!thr)
		return plain(epfd, events, max, timeout_ns, mask);
	if (max <= 0)
		return fail_with(EINVAL);
	if (!events)
		return fail_with(EFAULT);
	if (mask)
		return wait_masked(thr, epfd, events, max, deadline(timeout_ns), mask);
	return wait_until(thr, epfd, events, max, deadline(timeout_ns));
}

EXPORT int rpal_epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	struct rpal_thr *thr = receiver();

	/* The usual case by the straightest way. */
	if (likely(thr && events && maxevents > 0 && timeout < 0))
		return wait_until(thr, epfd, events, maxevents, FOREVER);
	return wait_for(epfd, events, maxevents, timeout < 0 ? -1 : timeout * 1000000LL, NULL);
}

EXPORT int rpal_epoll_pwait(int epfd, struct epoll_event *events, int maxevents, int timeout,
			    const sigset_t *sigmask)
{
	return wait_for(epfd, events, maxevents, timeout < 0 ? -1 : timeout * 1000000LL, sigmask);
}

EXPORT int rpal_epoll_pwait2(int epfd, struct epoll_event *events, int maxevents,
			     const struct timespec *timeout, const sigset_t *sigmask)
{
	int64_t ns = -1;

	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)
			return fail_with(EINVAL);
		ns = timeout->tv_sec < INT64_MAX / 1000000000 - 1 ?
			     timeout->tv_sec * 1000000000LL + timeout->tv_nsec :
			     -1;
	}
	return wait_for(epfd, events, maxevents, ns, sigmask);
}

EXPORT int rpal_epoll_wait_user(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
	struct event_set *set = events_set(epfd);
	int n;

	(void)timeout;
	if (maxevents <= 0)
		return fail_with(EINVAL);
	if (!set)
		return fail_with(EBADF);
	if (!events)
		return fail_with(EFAULT);
	do
		n = events_collect(set, events, maxevents);
	while (!n && set->ready_fd >= 0 && !events_arm(set));
	return n;
}

/* When there is no more time to wait for it in the kernel. */
static int input_of(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0 || poll(&p, 1, 0) <= 0)
		return 0;
	if (p.revents & POLLNVAL)
		return rpal_failf(-EBADF, "descriptor %d is not open", fd);
	return RPAL_WAIT_INPUT;
}

EXPORT int rpal_wait(int epfd, int fd, int timeout_ms)
{
	struct event_set *set = events_set(epfd);
	int64_t until = deadline(timeout_ms < 0 ? -1 : timeout_ms * 1000000LL), ret;
	struct rpal_thr *thr = rpal_thr_self();

	if (!thr || !(thr->roles & RPAL_THREAD_RECEIVER))
		return rpal_fail(-EPERM,
				 "only a receiver can wait: rpal_thread_init() comes first");
	if (thr->depth && !thr->open)
		return rpal_fail(-EBUSY, "a procedure cannot wait for messages");
	/* There may come some, from other threads, or after what fd is for. */
	if (!set && fcntl(epfd, F_GETFD) >= 0)
		set = events_set_get(epfd);
	if (!set)
		return rpal_failf(-EBADF, "descriptor %d is no epoll instance", epfd);
	for (;;) {
		take_news(thr);
		announce(thr, set);
		if (events_ready(set)) {
			if (!thr->open)
				withdraw(thr);
			return RPAL_WAIT_MESSAGES;
		}
		if (until != FOREVER && now_ns() >= until) {
			ret = end_call(thr);
			return ret ? ret : input_of(fd);
		}
		ret = wait_once(thr, fd, until);
		if (ret == RPAL_WAITED_EVENT)
			return RPAL_WAIT_INPUT | (events_ready(set) ? RPAL_WAIT_MESSAGES : 0);
		if (ret == -EINTR || rpal_thr_lost(thr))
			return ret;
		if (ret < 0 && !was_parked(ret))
			return rpal_failf(ret, "the thread cannot wait: %s", strerror(-ret));
	}
}
