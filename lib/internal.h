/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the files of the library share. */
#ifndef _RPAL_INTERNAL_H
#define _RPAL_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <linux/rpal.h>
#include <rpal/rpal.h>

#include "tramp.h"

#define EXPORT	    __attribute__((visibility("default")))
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* These variables are read on each call: no function call to find them. */
#define TLS __thread __attribute__((tls_model("initial-exec")))

#define RPAL_DEVICE "/dev/rpal"

/*
 * Nothing below is seen outside of the library, and the compiler is to know: then
 * it need not look up where a variable is.
 */
#pragma GCC visibility push(hidden)

/* In place of a procedure's number: a message has come, look for it. */
#define RPAL_MESSAGE 0xffffffffU

/* Services have the numbers of their slots. */
#define MAX_ID RPAL_MAX_SLOT

/* --- error.c */

/* Remember a constant sentence; returns @ret. */
int rpal_fail(int ret, const char *sentence);
/* Remember a sentence made as by printf. */
int rpal_failf(int ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- init.c */

/**
 * struct rpal_state - this process as a service
 * @up:		is it one?
 * @forked:	this process is a child of one, and none itself
 * @pid:	the process that is one
 * @epoch:	how often it has become one; threads see by it that their
 *		registration is of an earlier time
 * @pkeys:	do protection keys guard memory?
 * @timed:	does the kernel want to know how long calls take?
 * @fd:		the management file
 * @stop_fd:	eventfd that is readable after rpal_serve_stop()
 * @id:		own service id
 * @slot:	own slot
 * @pkey:	own protection key
 * @nr_receivers: as asked for
 * @key:	own service key
 * @area:	where the thread area is mapped
 * @area_size:	its size in bytes
 * @tramp:	the set of trampolines in use
 */
struct rpal_state {
	bool up;
	bool forked;
	pid_t pid;
	unsigned int epoch;
	bool pkeys;
	bool timed;
	int fd;
	int stop_fd;
	uint32_t id;
	uint32_t slot;
	uint32_t pkey;
	uint32_t nr_receivers;
	uint64_t key;
	void *area;
	size_t area_size;
	const struct tramp *tramp;
};

extern struct rpal_state rpal_state;

static inline bool rpal_up(void)
{
	return __atomic_load_n(&rpal_state.up, __ATOMIC_ACQUIRE);
}

/* Remember that, and why, this process is no service; returns @ret. */
int rpal_no_service(int ret);
/* ioctl on the management file with size filled in; 0 or a negative errno. */
int rpal_ioctl(unsigned long cmd, void *arg);

struct event_set;

/* --- thread.c */

/**
 * struct rpal_point - a recovery point
 * @context:	what the block has of it: from ip to fcw
 * @callee:	RPAL_TID_GUARD; or what else the thread was doing
 * @resume:	if it is one of rpal_copy_prepare(): where that returns to
 */
struct rpal_point {
	uint64_t context[11];
	uint32_t callee;
	uint64_t resume;
};

/**
 * struct rpal_opened - memory that rpal_copy_prepare() has opened
 * @keys:	whose, one bit for each protection key
 * @pkru:	PKRU before the first of them
 * @before:	recovery point before the first of them
 */
struct rpal_opened {
	unsigned int keys;
	uint32_t pkru;
	struct rpal_point before;
};

/**
 * struct rpal_aside - what is put aside while the thread's block is used for another
 *		       recovery point, or a call
 */
struct rpal_aside {
	struct rpal_point point;
	struct rpal_opened opened;
};

/**
 * struct rpal_thr - a thread that is or was registered
 * @block:	its block; NULL if it is not registered
 * @epoch:	when it was
 * @roles:	RPAL_THREAD_*, as the application sees it
 * @tid:	its tid
 * @depth:	depth of the call that it serves, 0 if none
 * @serving:	is it in rpal_serve()?
 * @rseq_len:	length with which rseq was registered, 0 if it still is
 * @lent:	it is in the trampoline of a wait: its block has the context for that
 * @opened:	what rpal_copy_prepare() has opened
 * @ep_fd:	epoll instance of rpal_serve(), -1 if there is none
 * @hint:	for each service the receiver that was free last
 * @in:		what it was called with; outlives the call
 * @open:	a message has called it, and its caller waits for its next wait
 * @rounds:	how often it has looked for events since
 * @parked_fd:	descriptor that its wait in the kernel polls; -2: it does not wait
 * @parked_until: and until when, in ns of CLOCK_MONOTONIC
 * @parked_epoch: events_epoch() then
 * @watched_fd:	epoll instance whose events come as news; -2: none
 * @watch_epoch:	events_epoch() when that began
 * @look:	@watched_fd may have events of the kernel
 * @owed:	its events come first next time: there was no room for them
 * @unlooked:	how often it was not asked
 * @waits_on:	epoll set that knows it as a waiter
 */
struct rpal_thr {
	struct rpal_block *block;
	unsigned int epoch;
	unsigned int roles;
	uint32_t tid;
	unsigned int depth;
	bool serving;
	unsigned int rseq_len;
	bool lent;
	struct rpal_opened opened;
	int ep_fd;
	uint8_t hint[MAX_ID + 1];
	struct tramp_in in;
	bool open;
	unsigned int rounds;
	int parked_fd;
	int64_t parked_until;
	unsigned int parked_epoch;
	int watched_fd;
	unsigned int watch_epoch;
	bool look;
	bool owed;
	unsigned int unlooked;
	struct event_set *waits_on;
};

/* The calling thread, registered or not. */
extern TLS struct rpal_thr *rpal_self;

/* The calling thread if it is registered, else NULL. Cheap. */
static inline struct rpal_thr *rpal_thr_self(void)
{
	struct rpal_thr *thr = rpal_self;

	if (likely(thr && thr->block &&
		   thr->epoch == __atomic_load_n(&rpal_state.epoch, __ATOMIC_RELAXED) && rpal_up()))
		return thr;
	return NULL;
}

/*
 * How deep in calls it is. Who was woken by a message, and has been handed over to
 * its own task since, is in none: the writer goes on and waits for nothing.
 */
static inline unsigned int rpal_thr_depth(const struct rpal_thr *thr)
{
	uint64_t word;

	if (likely(!thr->open))
		return thr->depth;
	word = __atomic_load_n(&thr->block->word, __ATOMIC_ACQUIRE);
	return (word & RPAL_ST_MASK) == RPAL_ST_CALL ? thr->depth : 0;
}

/* The block of one of the own threads, NULL if there is none. */
struct rpal_block *rpal_thr_block(int index);
/* What the library keeps in the user words of a block. */
enum {
	USER_DIRECTORY, /* of events, for peers */
};
/* Register it in a role, if need be. 0 or a negative errno. */
int rpal_thr_get(unsigned int role, struct rpal_thr **thr);
/* In the child of a fork nothing is registered. */
void rpal_thr_forked(void);
/*
 * Has its process been forked since it was registered? Code of the library that was
 * in the middle of something then has a block still, but nobody else has it.
 */
bool rpal_thr_lost(struct rpal_thr *thr);

/* --- link.c */

/**
 * struct rpal_link - a linked service, as a call needs it
 * @key:	its key
 * @area:	address of its first block
 * @nr:		number of receivers' blocks
 * @pkey:	its protection key
 * @rights:	TRAMP_RIGHTS() for a call, by GRANT()
 */
struct rpal_link {
	uint64_t key;
	uint64_t area;
	uint32_t nr;
	uint32_t pkey;
	uint64_t rights[3];
};

/* Which rights a call of these flags gives. */
enum { GRANT_READ, GRANT_NONE, GRANT_WRITE };
#define GRANT(flags) (((flags) & (RPAL_CALL_GRANT_NONE | RPAL_CALL_GRANT_WRITE)) / 2)
_Static_assert(GRANT(RPAL_CALL_GRANT_NONE) == GRANT_NONE &&
		       GRANT(RPAL_CALL_GRANT_WRITE) == GRANT_WRITE,
	       "flags");

enum { LINK_NONE, LINK_ASKED, LINK_LINKED, LINK_GONE };

/**
 * struct rpal_link_entry - what is known of a service that was asked for
 * @seq:	odd while the rest changes
 * @state:	one of the above
 * @link:	for calls; only the key is valid before LINK_LINKED
 */
struct rpal_link_entry {
	unsigned int seq;
	unsigned int state;
	struct rpal_link link;
} __attribute__((aligned(64)));

extern struct rpal_link_entry rpal_links[MAX_ID + 1];

/* What is known of a service, and in which state it is. */
static inline unsigned int rpal_link_read(int id, struct rpal_link *link)
{
	const struct rpal_link_entry *e = &rpal_links[id];
	unsigned int seq, state;

	do {
		do
			seq = __atomic_load_n(&e->seq, __ATOMIC_ACQUIRE);
		while (unlikely(seq & 1));
		state = e->state;
		*link = e->link;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (unlikely(__atomic_load_n(&e->seq, __ATOMIC_RELAXED) != seq));
	return state;
}

/*
 * As rpal_link_read(), for a thread that is registered; but false unless it is linked
 * and nobody changes that just now.
 */
static inline bool rpal_link_peek(int id, struct rpal_link *link)
{
	const struct rpal_link_entry *e = &rpal_links[id];
	unsigned int seq, state;

	if (unlikely(id < 1 || id > MAX_ID))
		return false;
	seq = __atomic_load_n(&e->seq, __ATOMIC_ACQUIRE);
	state = e->state;
	*link = e->link;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return likely(__atomic_load_n(&e->seq, __ATOMIC_RELAXED) == seq && !(seq & 1) &&
		      state == LINK_LINKED);
}

/* If it is not linked as far as is known: look again, and say why not. */
int rpal_link_get_slowly(int id, struct rpal_link *link);

/* 0, -ESRCH, -ENOTCONN or -EPIPE. */
static inline int rpal_link_get(int id, struct rpal_link *link)
{
	struct rpal_link slow; /* so that @link itself can be in registers */
	int ret;

	if (likely(rpal_up() && id >= 1 && id <= MAX_ID && rpal_link_read(id, link) == LINK_LINKED))
		return 0;
	ret = rpal_link_get_slowly(id, &slow);
	*link = slow;
	return ret;
}

/* Look again after a call has failed: 0 if still linked, or -EPIPE. */
int rpal_link_check(int id, uint64_t key);
/* The id of a linked service, -ENOTCONN, or -ENOENT if nobody asks for it. */
int rpal_link_state(uint64_t key);
/* Forget all. */
void rpal_link_reset(void);
/* Remember a sentence about why a service cannot be asked for; returns @err. */
int rpal_link_refused(int err);

/* --- refusal.c: what one side of a socket knows about why the two cannot link */

/* The kernel has refused this process's request; returns @err. */
int rpal_refusal_own(int sock, int err);
/* The peer says that the kernel has refused its request; returns -EREMOTEIO. */
int rpal_refusal_peer(int sock, int err);

/* --- sockpath.c: what is at the path of a socket */

struct sockaddr_un;

/* Does the socket there belong to nobody any more? */
bool rpal_sockpath_stale(const struct sockaddr_un *addr, socklen_t len);
/* bind() says that there is something, which stays; returns -EADDRINUSE. */
int rpal_sockpath_taken(const char *path, const struct sockaddr_un *addr, socklen_t len);
/* Nobody can be reached there; returns a negative errno. */
int rpal_sockpath_unreachable(const char *path, int err);

/* --- pkru.c */

/* Two bits of PKRU for each key. */
#define PKRU_NO_ACCESS	     1U
#define PKRU_NO_WRITE	     2U
#define PKRU_BITS(bits, key) ((uint32_t)(bits) << 2 * (key))
/* Everything closed but key 0, as at the start of each thread. */
#define PKRU_ALL_CLOSED 0x55555554U

static inline uint32_t rpal_pkru_with(uint32_t pkru, uint32_t key, uint32_t bits)
{
	return (pkru & ~PKRU_BITS(PKRU_NO_ACCESS | PKRU_NO_WRITE, key)) | PKRU_BITS(bits, key);
}

/* Rights with which only memory of @callee, and of @own as granted, is open. */
static inline uint32_t rpal_pkru_for(uint32_t own, uint32_t callee, unsigned int flags)
{
	uint32_t pkru = rpal_pkru_with(PKRU_ALL_CLOSED, callee, 0);

	if (flags & RPAL_CALL_GRANT_WRITE)
		return rpal_pkru_with(pkru, own, 0);
	if (flags & RPAL_CALL_GRANT_NONE)
		return pkru;
	return rpal_pkru_with(pkru, own, PKRU_NO_WRITE);
}

/* Rights with which the memory of @key is open, besides. */
uint32_t rpal_pkru_open(uint32_t pkru, uint32_t key);
/* Rights as @pkru, but those for @keys, a bit for each, as @before. */
uint32_t rpal_pkru_close(uint32_t pkru, unsigned int keys, uint32_t before);
/* PKRU itself. */
uint32_t rpal_pkru_read(void);
void rpal_pkru_write(uint32_t pkru);

/* --- guard.c */

/*
 * Where rpal_copy_prepare() returns to when a fault comes out at lazy_ip; 0 while
 * another recovery point, or none, is set.
 */
extern __thread uint64_t rpal_tr_resume __attribute__((tls_model("initial-exec")));

/*
 * Is there something in the block that a call or a recovery point would overwrite,
 * and that can be put aside for it? Not a call: there is one at a time. What is
 * found by a signal handler is of the code that it has interrupted.
 */
static inline bool rpal_is_armed(const struct rpal_thr *thr)
{
	uint32_t callee = thr->block->callee;

	/* Its own: it is just about to have a recovery point. */
	return callee ? callee == RPAL_TID_GUARD || callee == thr->tid :
			thr->lent || rpal_tr_resume;
}

/* Has the block nothing that a call or a recovery point would be in the way of? */
static inline bool rpal_is_idle(const struct rpal_thr *thr)
{
	return !thr->block->callee && !thr->lent && !rpal_tr_resume;
}

/* Is this a signal handler that has interrupted the thread's call? */
static inline bool rpal_in_call(const struct rpal_thr *thr)
{
	return thr->block->callee && !rpal_is_armed(thr);
}

void rpal_put_aside(struct rpal_thr *thr, struct rpal_aside *aside);
void rpal_take_back(struct rpal_thr *thr, const struct rpal_aside *aside);
int64_t rpal_guard_aside(struct rpal_thr *thr, int64_t (*fn)(void *arg), void *arg, uint32_t pkru);

/* Run fn with a peer's memory open: what it returns, or -EFAULT if that is gone. */
static inline int64_t rpal_guard(struct rpal_thr *thr, const struct rpal_link *peer,
				 int64_t (*fn)(void *arg), void *arg)
{
	uint32_t pkru = TRAMP_PKRU(peer->rights[GRANT_WRITE]);

	if (likely(rpal_is_idle(thr)))
		return rpal_state.tramp->guard(thr->block, fn, arg, pkru);
	return rpal_guard_aside(thr, fn, arg, pkru);
}

/* After a procedure: it was not to leave anything open. */
static inline void rpal_close_all(struct rpal_thr *thr)
{
	if (unlikely(thr->opened.keys))
		rpal_copy_finish();
}

/* --- call.c */

/* Run the procedure that is asked for in a thread's in. Status and result of the call. */
struct tramp_ret rpal_dispatch(struct tramp_in *in);
/* Call one receiver without waiting for its answer; status as of tramp.call. */
int64_t rpal_call_async(struct rpal_thr *thr, const struct rpal_link *link, int id,
			unsigned int index);
/* The status of a call that nobody was to wait for, and that is waited for all the same. */
int64_t rpal_await_async(void);

/*
 * A call that was handed over has ended for who has written a message; but a signal
 * handler's call may have come in between, and then an answer is due.
 */
static inline int64_t rpal_async_status(const struct rpal_thr *thr, int64_t status)
{
	if (unlikely(status == RPAL_CALL_LAZY && thr->block->callee))
		return rpal_await_async();
	return status;
}

/*
 * Run fn as by rpal_guard(), and if it returns more than 0 do the call that it has filled
 * in, as by rpal_call_async(): *status is of the one or the other. False, and nothing is
 * done, if something is in the way that would have to be put aside.
 */
static inline bool rpal_post_async(struct rpal_thr *thr, const struct rpal_link *link,
				   int64_t (*fn)(void *arg), struct tramp_post *post,
				   int64_t *status)
{
	uint32_t saved = thr->block->flags;

	if (unlikely(!rpal_is_idle(thr)))
		return false;
	post->what = TRAMP_WHAT(RPAL_MESSAGE, RPAL_CALL_GRANT_NONE, rpal_thr_depth(thr) + 1);
	post->rights = link->rights[GRANT_NONE];
	thr->block->flags = RPAL_BLOCK_ASYNC;
	*status =
		rpal_state.tramp->post(thr->block, fn, post, TRAMP_PKRU(link->rights[GRANT_WRITE]));
	thr->block->flags = saved;
	*status = rpal_async_status(thr, *status);
	return true;
}

/* As tramp.wait; a signal handler's call leaves alone what the block has for it. */
static inline int64_t rpal_tr_wait(struct rpal_thr *thr)
{
	int64_t ret;

	__atomic_store_n(&thr->lent, true, __ATOMIC_RELEASE);
	ret = rpal_state.tramp->wait(thr->block, &thr->in);
	__atomic_store_n(&thr->lent, false, __ATOMIC_RELEASE);
	return ret;
}

/* As tramp.reply, in the same way. */
static inline int64_t rpal_tr_reply(struct rpal_thr *thr, int64_t status, int64_t result)
{
	int64_t ret;

	__atomic_store_n(&thr->lent, true, __ATOMIC_RELEASE);
	ret = rpal_state.tramp->reply(thr->block, &thr->in, status, result);
	__atomic_store_n(&thr->lent, false, __ATOMIC_RELEASE);
	return ret;
}

/* --- epoll.c */

/* Before a thread's registration ends. */
void rpal_epoll_forget(struct rpal_thr *thr);

void rpal_call_reset(void);

#pragma GCC visibility pop

#endif /* _RPAL_INTERNAL_H */
