// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Messages: finding the peer's end of a socket, writing into its queue, reading
 * the own one.
 *
 * A writer opens the peer's memory, follows addresses that lie there, which may
 * be wrong or gone at any moment, and leaves it again before it calls or wakes
 * anybody. All that touches a peer's memory runs under a recovery point and
 * follows only addresses within the peer's slot.
 */
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "events.h"
#include "internal.h"

#define HANDLE(gen, rid, fd) \
	((uint64_t)(gen) << 48 | (uint64_t)(uint8_t)(rid) << 32 | (uint32_t)(fd))
#define HANDLE_GEN(handle) ((uint32_t)((handle) >> 48))
#define HANDLE_RID(handle) ((uint8_t)((handle) >> 32))
#define HANDLE_FD(handle)  ((uint32_t)(handle))

#define MAX_WAITERS (RPAL_MAX_RECEIVERS / 64)

/* Sets that one message can reach, by way of nesting. */
#define MAX_SETS 64

/**
 * struct post - what is done in a peer's memory, and what was found there
 * @call:	out, if a message was written: the call of @hit
 * @written:	out: a message was written
 * @link:	with the peer
 * @first:	its slot: first address
 * @handle:	its descriptor, the receiver to begin with, and the queue's generation; 0: any
 * @words:	message
 * @n:		its length
 * @want_out:	how to tell us that there is room again
 * @nr_words:	words with a bit for each of its receivers
 * @waiters:	out: receivers that wait for what was made ready
 * @hit:	out: one of them that can be called, -1: none
 * @channels:	out: files to be made readable
 * @nr_channels: out: how many
 * @nr_sets:	out: sets that were marked
 */
struct post {
	struct tramp_post call;
	bool written;
	const struct rpal_link *link;
	uint64_t first;
	uint64_t handle;
	const int64_t *words;
	unsigned int n;
	uint64_t want_out;
	unsigned int nr_words;
	uint64_t waiters[MAX_WAITERS];
	int hit;
	uint32_t channels[MAX_SETS];
	int nr_channels;
	int nr_sets;
};

/* --- in the peer's memory */

static void *peer_ptr(const struct post *p, uint64_t addr, size_t size)
{
	if (unlikely(addr - p->first > RPAL_SLOT_SIZE - size || addr % 8))
		return NULL;
	return (void *)(uintptr_t)addr;
}

static struct rpal_block *block_of(const struct post *p, unsigned int index)
{
	return (struct rpal_block *)(uintptr_t)(p->link->area + (uint64_t)index * RPAL_BLOCK_SIZE);
}

static struct directory *directory_of(const struct post *p, unsigned int index)
{
	uint64_t at = __atomic_load_n(&block_of(p, index)->user[USER_DIRECTORY], __ATOMIC_ACQUIRE);
	struct directory *dir = at ? peer_ptr(p, at, sizeof(*dir)) : NULL;

	return dir && dir->magic == DIRECTORY_MAGIC ? dir : NULL;
}

/* Any of its receivers knows where it is, if it is registered. */
static __attribute__((noinline)) struct directory *search_directory(const struct post *p)
{
	struct directory *dir = NULL;
	unsigned int i;

	for (i = 0; i < p->link->nr && !dir; i++)
		dir = directory_of(p, i);
	return dir;
}

static inline struct directory *find_directory(const struct post *p)
{
	unsigned int index = HANDLE_RID(p->handle);
	struct directory *dir = likely(index < p->link->nr) ? directory_of(p, index) : NULL;

	return likely(dir) ? dir : search_directory(p);
}

static struct queue *find_queue(const struct post *p)
{
	const struct directory *dir = find_directory(p);
	uint32_t fd = HANDLE_FD(p->handle);
	const uint64_t *at;

	if (!dir || fd >= dir->nr)
		return NULL;
	at = peer_ptr(p, (uintptr_t)&dir->queues[fd], sizeof(*at));
	return at ? peer_ptr(p, __atomic_load_n(at, __ATOMIC_ACQUIRE), sizeof(struct queue)) : NULL;
}

/* Of whom it takes messages: of the first service that has written. */
static bool may_write(struct queue *q, uint64_t key)
{
	uint64_t other = __atomic_load_n(&q->peer_key, __ATOMIC_ACQUIRE);

	return other == key ||
	       (!other && (__atomic_compare_exchange_n(&q->peer_key, &other, key, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE) ||
			   other == key));
}

static void mark_parents(struct post *p, const struct ready_set *set, int depth);

/* A set and those that it is in: mark, and note who is to hear of it. */
static inline void mark(struct post *p, uint64_t at, uint32_t index, int depth)
{
	struct ready_set *set = peer_ptr(p, at, sizeof(*set));
	uint32_t channel;
	unsigned int i;

	if (!set || set->magic != READY_MAGIC || ++p->nr_sets > MAX_SETS)
		return;
	ready_mark(set, index);
	p->waiters[0] |= __atomic_load_n(&set->waiters[0], __ATOMIC_SEQ_CST);
	for (i = 1; unlikely(i < p->nr_words); i++)
		p->waiters[i] |= __atomic_load_n(&set->waiters[i], __ATOMIC_SEQ_CST);
	channel = __atomic_load_n(&set->channel, __ATOMIC_SEQ_CST);
	if (unlikely(channel) && __atomic_exchange_n(&set->channel, 0, __ATOMIC_SEQ_CST))
		p->channels[p->nr_channels++] = channel;
#pragma GCC unroll 4
	for (i = 0; i < WATCHERS; i++)
		if (unlikely(set->parents[i].set))
			return mark_parents(p, set, depth);
}

static __attribute__((noinline)) void mark_parents(struct post *p, const struct ready_set *set,
						   int depth)
{
	int i;

	for (i = 0; i < WATCHERS && depth < READY_NESTED; i++)
		if (set->parents[i].set)
			mark(p, set->parents[i].set, set->parents[i].index, depth + 1);
}

static int next_waiter(const struct post *p, int from)
{
	uint64_t bits;
	int at;

	for (; from < (int)p->link->nr; from = (from | 63) + 1) {
		bits = p->waiters[from / 64] >> from % 64;
		if (!bits)
			continue;
		at = from + __builtin_ctzll(bits);
		return at < (int)p->link->nr ? at : -1;
	}
	return -1;
}

/* One that waits in user mode's sense: it can be called. */
static void find_hit(struct post *p)
{
	int i;

	p->hit = -1;
	for (i = next_waiter(p, 0); i >= 0; i = next_waiter(p, i + 1))
		if (__atomic_load_n(&block_of(p, i)->word, __ATOMIC_SEQ_CST) == RPAL_ST_WAIT) {
			p->hit = i;
			return;
		}
}

static void tell_watchers(struct post *p, const struct queue *q, uint32_t event)
{
	int i;

#pragma GCC unroll 4
	for (i = 0; i < WATCHERS; i++) {
		uint64_t set = __atomic_load_n(&q->watchers[i].set, __ATOMIC_SEQ_CST);

		if (set && __atomic_load_n(&q->watchers[i].events, __ATOMIC_SEQ_CST) & event)
			mark(p, set, q->watchers[i].index, 0);
	}
	find_hit(p);
}

static int64_t post_message(void *arg)
{
	struct post *p = arg;
	struct queue *q = find_queue(p);
	int ret;

	if (!q)
		return -ESTALE;
	if (!may_write(q, rpal_state.key))
		return -EPERM;
	ret = queue_put(q, HANDLE_GEN(p->handle), p->words, p->n);
	if (ret == -EAGAIN) {
		__atomic_store_n(&q->want_out, p->want_out, __ATOMIC_SEQ_CST);
		/* Who has read meanwhile may not have seen that. */
		ret = queue_put(q, HANDLE_GEN(p->handle), p->words, p->n);
	}
	if (!ret)
		tell_watchers(p, q, EPOLLRPALIN);
	return ret;
}

/* More than 0 if somebody is to be called. */
static __attribute__((flatten)) int64_t post_and_call(void *arg)
{
	struct post *p = arg;
	int64_t ret = post_message(p);

	if (unlikely(ret))
		return ret;
	p->written = true;
	if (p->hit < 0)
		return 0;
	p->call.block = (uintptr_t)block_of(p, p->hit);
	p->call.tid = RPAL_TID(p->first >> RPAL_SLOT_SHIFT, p->hit);
	return 1;
}

/* Where somebody found no room, there is some now. */
static int64_t post_room(void *arg)
{
	struct post *p = arg;
	struct queue *q = find_queue(p);

	if (!q)
		return -ESTALE;
	__atomic_store_n(&q->room, 1, __ATOMIC_SEQ_CST);
	tell_watchers(p, q, EPOLLRPALOUT);
	return 0;
}

/*
 * Receivers that cannot be called now must not overlook what was made ready:
 * who is about to wait sees the news, who is in a call gets them when it ends.
 */
static int64_t post_news(void *arg)
{
	struct post *p = arg;
	int i;

	for (i = next_waiter(p, 0); i >= 0; i = next_waiter(p, i + 1)) {
		struct rpal_block *b = block_of(p, i);
		uint64_t word;

		__atomic_fetch_or(&b->news, RPAL_NEWS_MESSAGE, __ATOMIC_SEQ_CST);
		word = __atomic_load_n(&b->word, __ATOMIC_SEQ_CST);
		while ((word & RPAL_ST_MASK) == RPAL_ST_CALL && !(word & RPAL_ST_PENDING))
			if (__atomic_compare_exchange_n(&b->word, &word, word | RPAL_ST_PENDING,
							false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				break;
	}
	find_hit(p);
	return 0;
}

static int64_t post_lookup(void *arg)
{
	struct post *p = arg;
	struct queue *q = find_queue(p);
	uint32_t generation;

	if (!q)
		return -ESTALE;
	generation = queue_generation(__atomic_load_n(&q->used, __ATOMIC_ACQUIRE));
	p->handle = HANDLE(generation, q->rid, HANDLE_FD(p->handle));
	return generation ? 0 : -ESTALE;
}

/* --- around it */

static void post_init(struct post *p, const struct rpal_link *link, int id, uint64_t handle)
{
	unsigned int i;

	p->link = link;
	p->first = (uint64_t)id << RPAL_SLOT_SHIFT;
	p->handle = handle;
	p->nr_words = (link->nr + 63) / 64;
	p->waiters[0] = 0;
	for (i = 1; unlikely(i < p->nr_words); i++)
		p->waiters[i] = 0;
	p->hit = -1;
	p->nr_channels = 0;
	p->nr_sets = 0;
}

static void notify(const struct post *p, int id)
{
	struct rpal_notify req = { .size = sizeof(req), .id = id };
	int i;

	for (i = 0; i < p->nr_channels; i++) {
		req.number = p->channels[i];
		rpal_ioctl(RPAL_IOC_NOTIFY, &req);
	}
}

/* Through the kernel, for who sleeps there. */
static void wake_waiters(struct rpal_thr *thr, const struct rpal_link *link, struct post *p, int id)
{
	struct rpal_wake req = { .size = sizeof(req) };

	if (rpal_guard(thr, link, post_news, p))
		return;
	while (p->hit >= 0) {
		req.tid = RPAL_TID(id, p->hit);
		rpal_ioctl(RPAL_IOC_WAKE, &req);
		p->waiters[p->hit / 64] &= ~(1ULL << p->hit % 64);
		p->hit = next_waiter(p, 0);
	}
}

/* After a call of p->hit: was it had? */
static inline bool was_called(struct post *p, int64_t status)
{
	if (likely(!status || status == RPAL_CALL_LAZY))
		return true;
	/* It waits for something else, or has died: the others may not. */
	if (status != -T_MISS)
		p->waiters[p->hit / 64] &= ~(1ULL << p->hit % 64);
	p->hit = -1;
	return false;
}

/* Call one receiver; if none can be had, leave the news to all that wait. Was one? */
static bool call_or_tell(struct rpal_thr *thr, const struct rpal_link *link, struct post *p, int id)
{
	for (;;) {
		if (p->hit < 0) {
			if (next_waiter(p, 0) < 0 || rpal_guard(thr, link, post_news, p) ||
			    p->hit < 0)
				return false;
		}
		if (was_called(p, rpal_call_async(thr, link, id, p->hit)))
			return true;
	}
}

/* A message, and at once a call of who waits for it. 0 if it was written. */
static inline int64_t write_and_call(struct rpal_thr *thr, const struct rpal_link *link,
				     struct post *p, bool *called)
{
	int64_t ret;

	_Static_assert(!offsetof(struct post, call), "as the trampoline gives it on");
	p->written = false;
	if (unlikely(!rpal_post_async(thr, link, post_and_call, &p->call, &ret)))
		return rpal_guard(thr, link, post_message, p);
	if (unlikely(!p->written))
		return ret;
	/* -EAGAIN: it was stopped before it began. */
	*called = p->hit >= 0 && ret != -EAGAIN && was_called(p, ret);
	return 0;
}

static int write_failed(int64_t ret, int id)
{
	switch (ret) {
	case -ESTALE:
		return rpal_failf(-RPAL_FDE_OUTDATED,
				  "service %d has closed this descriptor or taken it out of its epoll "
				  "instances: get a new handle by rpal_uds_fdmap()",
				  id);
	case -EPERM:
		return rpal_failf(-RPAL_INVAL_SERVICE,
				  "this queue of service %d belongs to another connection", id);
	case -EAGAIN:
		return rpal_failf(-RPAL_QUEUE_PUT_FAILED,
				  "the queue of service %d is full: wait for EPOLLRPALOUT", id);
	case -EBUSY:
		return rpal_fail(-RPAL_INVAL_THREAD,
				 "a signal handler that has interrupted a call cannot write");
	}
	return rpal_failf(-RPAL_ERR_PEER_MEM, "the memory of service %d is not there any more", id);
}

/* NULL if another thread is just closing the descriptor. */
static struct queue *own_queue(const struct channel *ch)
{
	return ch ? __atomic_load_n(&ch->q, __ATOMIC_ACQUIRE) : NULL;
}

/* It was full: have oneself told. A reader may have made room before we knew. */
static void blocked(int id, uint64_t handle)
{
	struct channel *ch = events_channel(events_find_peer(id, handle));
	struct queue *q = own_queue(ch);

	if (!q)
		return;
	__atomic_store_n(&ch->blocked, true, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&q->room, __ATOMIC_SEQ_CST))
		events_touch(ch, EPOLLRPALOUT);
}

static void forget_room(int id, uint64_t handle, struct post *p)
{
	int fd = events_find_peer(id, handle);
	struct queue *q = own_queue(events_channel(fd));

	if (!q)
		return;
	__atomic_store_n(&q->room, 0, __ATOMIC_SEQ_CST);
	p->want_out = (uint64_t)rpal_state.id << 32 | (uint32_t)fd;
}

EXPORT int rpal_write_ptrs_ex(int service_id, uint64_t rpalfd, const int64_t *ptrs, int len,
			      unsigned int flags, rpal_delivery_t *how)
{
	struct rpal_thr *thr = rpal_thr_self();
	bool called = false, can_call;
	struct rpal_link link;
	struct post p;
	int64_t ret;

	if (unlikely(!ptrs || len < 1 || len > RPAL_MAX_WORDS || flags & ~RPAL_WRITE_QUEUE))
		return rpal_failf(-RPAL_INVALID_ARG, "a message has 1 to %d words", RPAL_MAX_WORDS);
	if (unlikely(!thr || !rpal_link_peek(service_id, &link)) &&
	    rpal_link_get(service_id, &link))
		return -RPAL_INVAL_SERVICE;
	if (unlikely(!thr) && rpal_thr_get(RPAL_THREAD_SENDER, &thr))
		return -RPAL_INVAL_THREAD;
	/* It could not wake anybody by a call. */
	if (unlikely(rpal_in_call(thr)))
		return write_failed(-EBUSY, service_id);
	post_init(&p, &link, service_id, rpalfd);
	p.words = ptrs;
	p.n = len;
	p.want_out = 0;
	can_call = !(flags & RPAL_WRITE_QUEUE) && rpal_thr_depth(thr) < RPAL_MAX_DEPTH;
	ret = likely(can_call) ? write_and_call(thr, &link, &p, &called) :
				 rpal_guard(thr, &link, post_message, &p);
	if (unlikely(ret == -EAGAIN)) {
		/* Once more, and this time it is known whom to tell. */
		forget_room(service_id, rpalfd, &p);
		ret = rpal_guard(thr, &link, post_message, &p);
		if (ret == -EAGAIN)
			blocked(service_id, rpalfd);
	}
	if (unlikely(ret)) {
		if (ret == -EFAULT && rpal_link_check(service_id, link.key))
			return rpal_failf(-RPAL_INVAL_SERVICE, "service %d has ended", service_id);
		return write_failed(ret, service_id);
	}
	if (unlikely(!can_call))
		wake_waiters(thr, &link, &p, service_id);
	else if (!called)
		called = call_or_tell(thr, &link, &p, service_id);
	if (unlikely(p.nr_channels))
		notify(&p, service_id);
	if (how)
		*how = called ? RPAL_DELIVERED : RPAL_QUEUED;
	return len;
}

EXPORT int rpal_write_ptrs(int service_id, uint64_t rpalfd, int64_t *ptrs, int len)
{
	return rpal_write_ptrs_ex(service_id, rpalfd, ptrs, len, 0, NULL);
}

/* --- reading */

/* Whoever has found the queue full can go on. */
static void tell_room(uint64_t want_out)
{
	int id = want_out >> 32;
	struct rpal_link link;
	struct rpal_thr *thr;
	struct post p;

	if (rpal_link_get(id, &link) || rpal_thr_get(RPAL_THREAD_SENDER, &thr))
		return;
	post_init(&p, &link, id, (uint32_t)want_out);
	if (rpal_guard(thr, &link, post_room, &p))
		return;
	wake_waiters(thr, &link, &p, id);
	notify(&p, id);
}

EXPORT int rpal_read_ptrs(int fd, int64_t *ptrs, int len)
{
	struct channel *ch = events_channel(fd);
	uint64_t want_out = 0;
	int n = -1;

	if (len < 0 || (len && !ptrs))
		return rpal_fail(-1, "a place for the words is needed");
	if (!ch)
		return rpal_failf(-1,
				  "descriptor %d has no queue: rpal_epoll_ctl() with "
				  "EPOLLRPALIN gives it one",
				  fd);
	channel_lock(ch);
	if (ch->generation && ch->fd == fd) {
		n = queue_get(ch->q, &ch->reader, ptrs, len);
		if (unlikely(ch->reader.count))
			events_left_over(ch);
		if (n && __atomic_load_n(&ch->q->want_out, __ATOMIC_SEQ_CST))
			want_out = __atomic_exchange_n(&ch->q->want_out, 0, __ATOMIC_SEQ_CST);
	}
	channel_unlock(ch);
	if (unlikely(want_out))
		tell_room(want_out);
	return n;
}

/* --- the peer's end */

static int map_failed(int err, int id, int fd)
{
	switch (err) {
	case -EAGAIN:
		return rpal_failf(err,
				  "service %d is not ready: it has not accepted this connection yet, "
				  "or not given it to rpal_epoll_ctl() with EPOLLRPALIN, or has no "
				  "thread that has called rpal_thread_init()",
				  id);
	case -ETIMEDOUT:
		return rpal_failf(err,
				  "service %d did not get ready in time: it must accept this "
				  "connection and give it to rpal_epoll_ctl() with EPOLLRPALIN, and "
				  "a thread of it must have called rpal_thread_init()",
				  id);
	case -EBADF:
		return rpal_failf(err, "descriptor %d is not open", fd);
	case -ENOTSOCK:
		return rpal_failf(err, "descriptor %d is no socket", fd);
	case -EPROTONOSUPPORT:
		return rpal_failf(err, "descriptor %d is no Unix stream or seqpacket socket", fd);
	case -ENOTCONN:
		return rpal_failf(err, "socket %d is not connected", fd);
	case -EREMOTE:
		return rpal_failf(err,
				  "the other end of socket %d is not open in service %d: it was "
				  "closed or passed on, or the id is another one's",
				  fd, id);
	case -ENOTUNIQ:
		return rpal_failf(err,
				  "the other end of socket %d has been duplicated in service %d: it "
				  "must have one descriptor",
				  fd, id);
	case -EPIPE:
		return rpal_failf(err, "service %d has ended or has released the link", id);
	}
	return rpal_failf(err, "the other end of socket %d is not found: %s", fd, strerror(-err));
}

/* Once. 0 or a negative errno, with its sentence; -EAGAIN if it may come. */
static int map(int id, int fd, uint64_t *handle)
{
	struct rpal_peer_fd req = { .size = sizeof(req), .id = id, .fd = fd };
	struct rpal_link link;
	struct rpal_thr *thr;
	struct post p;
	int64_t ret;

	ret = rpal_link_get(id, &link);
	if (!ret)
		ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);
	/* These have said why. */
	if (ret)
		return ret;
	ret = rpal_ioctl(RPAL_IOC_PEER_FD, &req);
	if (ret == -ESRCH) {
		/* It was linked when we knew last: that is to be known from now on. */
		rpal_link_check(id, link.key);
		ret = -EPIPE;
	}
	if (ret)
		return map_failed(ret, id, fd);
	post_init(&p, &link, id, (uint32_t)req.peer_fd);
	ret = rpal_guard(thr, &link, post_lookup, &p);
	if (ret == -EFAULT)
		ret = rpal_link_check(id, link.key) ? -EPIPE : -EAGAIN;
	else if (ret == -ESTALE)
		ret = -EAGAIN;
	if (ret)
		return map_failed(ret, id, fd);
	*handle = p.handle;
	return 0;
}

EXPORT int rpal_uds_fdmap_timeout(uint64_t sid_fd, uint64_t *rpalfd, int timeout_ms)
{
	struct timespec step = { .tv_nsec = 1000000 };
	int id = sid_fd >> 32, fd = (uint32_t)sid_fd, ret, waited;

	if (!rpalfd)
		return rpal_fail(-EINVAL, "a place for the handle is needed");
	for (waited = 0;; waited++) {
		ret = map(id, fd, rpalfd);
		if (ret != -EAGAIN || (timeout_ms >= 0 && waited >= timeout_ms))
			break;
		/* The peer's program is still on its way; nothing tells when it is there. */
		nanosleep(&step, NULL);
	}
	if (ret == -EAGAIN && timeout_ms)
		return map_failed(-ETIMEDOUT, id, fd);
	if (ret)
		return ret;
	events_set_peer(fd, id, *rpalfd);
	return 0;
}

EXPORT status_t rpal_uds_fdmap(uint64_t sid_fd, uint64_t *rpalfd)
{
	return rpal_uds_fdmap_timeout(sid_fd, rpalfd, 2000) ? RPAL_FAILURE : RPAL_SUCCESS;
}

EXPORT int rpal_get_peer_rid(uint64_t sid_fd)
{
	uint64_t handle;

	return rpal_uds_fdmap_timeout(sid_fd, &handle, 0) ? -1 : HANDLE_RID(handle);
}
