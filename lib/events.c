// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Descriptors with queues, and the epoll sets that they are in.
 *
 * Nothing of this is ever given back to the allocator while the process is a
 * service: peers hold addresses, and other threads may be looking at what one
 * is closing. What is no longer used is used again for the same purpose.
 *
 * Lock order: table, then a set, then a channel.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "events.h"
#include "internal.h"

/**
 * struct entry - what is known of a descriptor
 * @channel:	it has a queue
 * @set:	it is an epoll instance with RPAL events
 * @peer_id:	service at its other end, 0: not known
 * @peer_handle: what that service calls the other end
 */
struct entry {
	struct channel *channel;
	struct event_set *set;
	uint32_t peer_id;
	uint64_t peer_handle;
};

static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static struct entry *entries; /* by descriptor */
static struct directory *directory;
static int last_peer = -1; /* no descriptor above it has a known peer */
static uint32_t generation;
static unsigned int epoch;
static struct channel *free_channels;
static struct event_set *free_sets;
static struct queue *lost_queues; /* a dead writer had begun with them */

#define DIRECTORY_SIZE (sizeof(struct directory) + MAX_FDS * sizeof(uint64_t))
#define ENTRIES_SIZE   (MAX_FDS * sizeof(struct entry))

/* --- tables: address space for all descriptors, memory for those that are used */

static void *reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* Little of it is ever used, here and there. */
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

static bool make_tables(void)
{
	struct directory *dir;

	if (!entries)
		__atomic_store_n(&entries, reserve(ENTRIES_SIZE), __ATOMIC_RELEASE);
	if (!entries || directory)
		return entries;
	dir = reserve(DIRECTORY_SIZE);
	if (dir) {
		dir->nr = MAX_FDS;
		dir->magic = DIRECTORY_MAGIC;
	}
	__atomic_store_n(&directory, dir, __ATOMIC_RELEASE);
	return dir;
}

uint64_t events_directory(void)
{
	struct directory *dir = __atomic_load_n(&directory, __ATOMIC_ACQUIRE);

	if (!dir) {
		pthread_mutex_lock(&table);
		make_tables();
		dir = directory;
		pthread_mutex_unlock(&table);
	}
	return (uintptr_t)dir;
}

static struct entry *entry(int fd)
{
	struct entry *all = __atomic_load_n(&entries, __ATOMIC_ACQUIRE);

	return all && fd >= 0 && (unsigned int)fd < MAX_FDS ? &all[fd] : NULL;
}

struct event_set *events_set(int epfd)
{
	struct entry *e = entry(epfd);

	return e ? __atomic_load_n(&e->set, __ATOMIC_ACQUIRE) : NULL;
}

struct channel *events_channel(int fd)
{
	struct entry *e = entry(fd);

	return e ? __atomic_load_n(&e->channel, __ATOMIC_ACQUIRE) : NULL;
}

void events_set_peer(int fd, uint32_t id, uint64_t handle)
{
	struct channel *ch;
	struct entry *e;

	pthread_mutex_lock(&table);
	e = entry(fd);
	if (!e && make_tables())
		e = entry(fd);
	if (e) {
		e->peer_handle = handle;
		__atomic_store_n(&e->peer_id, id, __ATOMIC_RELEASE);
		if (id && fd > last_peer)
			last_peer = fd;
	}
	pthread_mutex_unlock(&table);
	ch = events_channel(fd);
	if (ch && id)
		events_touch(ch, EPOLLRPALOUT);
}

int events_find_peer(uint32_t id, uint64_t handle)
{
	int fd;

	pthread_mutex_lock(&table);
	for (fd = last_peer; fd >= 0; fd--)
		if (entries[fd].peer_id == id && entries[fd].peer_handle == handle)
			break;
	pthread_mutex_unlock(&table);
	return fd;
}

/* --- marks */

/* In a set and in those that it is in. */
static void mark(struct event_set *set, uint32_t index, int depth)
{
	int i;

	ready_mark(set->ready, index);
	for (i = 0; i < WATCHERS && depth < READY_NESTED; i++) {
		struct event_set *outer = __atomic_load_n(&set->watch.set[i], __ATOMIC_ACQUIRE);

		if (outer)
			mark(outer, set->watch.shown[i].index, depth + 1);
	}
}

static void tell(struct event_set *set, int depth);

static void touch(struct watch_list *w, uint32_t event)
{
	int i;

	for (i = 0; i < WATCHERS; i++) {
		struct event_set *set = __atomic_load_n(&w->set[i], __ATOMIC_ACQUIRE);

		if (set && w->shown[i].events & event) {
			mark(set, w->shown[i].index, 0);
			tell(set, 0);
		}
	}
}

void events_touch(struct channel *ch, uint32_t event)
{
	touch(&ch->watch, event);
}

/*
 * While they were on their way from the queue to the reader, another thread may have
 * seen neither, and cleared the bits.
 */
void events_left_over(struct channel *ch)
{
	const struct watch_list *w = &ch->watch;
	int i;

	for (i = 0; i < WATCHERS; i++) {
		struct event_set *set = __atomic_load_n(&w->set[i], __ATOMIC_ACQUIRE);

		if (set && !(w->shown[i].events & EPOLLET))
			mark(set, w->shown[i].index, 0);
	}
}

/* The place of a set in a list, or of no set; -1. */
static int watch_find(const struct watch_list *w, const struct event_set *set)
{
	int i;

	for (i = 0; i < WATCHERS; i++)
		if (w->set[i] == set)
			return i;
	return -1;
}

static void watch_put(struct watch_list *w, int i, struct event_set *set, uint32_t index,
		      uint32_t events)
{
	w->shown[i].index = index;
	w->shown[i].events = events;
	__atomic_store_n(&w->shown[i].set, set ? (uintptr_t)set->ready : 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&w->set[i], set, __ATOMIC_SEQ_CST);
}

/* --- sets */

static struct event_set *set_alloc(void)
{
	struct event_set *set = calloc(1, sizeof(*set));
	size_t size = (sizeof(*set->ready) + 63) & ~63UL;

	if (!set)
		return NULL;
	set->ready = aligned_alloc(64, size);
	set->items = reserve(READY_BITS * sizeof(*set->items));
	if (!set->ready || !set->items) {
		if (set->items)
			munmap(set->items, READY_BITS * sizeof(*set->items));
		free(set->ready);
		free(set);
		return NULL;
	}
	set->watch.shown = set->ready->parents;
	pthread_mutex_init(&set->lock, NULL);
	return set;
}

static struct event_set *set_new(int epfd)
{
	struct event_set *set = free_sets;

	if (set)
		free_sets = set->next;
	else
		set = set_alloc();
	if (!set)
		return NULL;
	memset(set->ready, 0, sizeof(*set->ready));
	memset(set->watch.set, 0, sizeof(set->watch.set));
	set->ready->magic = READY_MAGIC;
	set->epfd = epfd;
	set->nr_items = 0;
	set->free = 0;
	set->cursor = 0;
	set->nr_oneshot = 0;
	set->ready_fd = -1;
	set->outer_fd = -1;
	set->number = 0;
	return set;
}

static struct event_set *set_get_locked(int epfd)
{
	struct event_set *set = events_set(epfd);

	if (set || epfd < 0 || (unsigned int)epfd >= MAX_FDS || !make_tables())
		return set;
	set = set_new(epfd);
	__atomic_store_n(&entries[epfd].set, set, __ATOMIC_RELEASE);
	return set;
}

struct event_set *events_set_get(int epfd)
{
	struct event_set *set = events_set(epfd);

	if (!set) {
		pthread_mutex_lock(&table);
		set = set_get_locked(epfd);
		pthread_mutex_unlock(&table);
	}
	return set;
}

/* Items are read without the lock, too: who has done so sees by @seq what came between. */
static void change_begin(struct event_set *set)
{
	pthread_mutex_lock(&set->lock);
	__atomic_store_n(&set->seq, set->seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static void change_end(struct event_set *set)
{
	__atomic_store_n(&set->seq, set->seq + 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&set->lock);
}

static bool unchanged(const struct event_set *set, unsigned int seq)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&set->seq, __ATOMIC_RELAXED) == seq;
}

/* Between change_begin() and change_end(). Index of a new item, or a negative errno. */
static int item_new(struct event_set *set)
{
	uint32_t index = set->free;

	if (index < set->nr_items) {
		set->free = set->items[index].next;
		return index;
	}
	if (index == READY_BITS)
		return -ENOSPC;
	__atomic_store_n(&set->nr_items, set->nr_items + 1, __ATOMIC_RELEASE);
	set->free = set->nr_items;
	return index;
}

/* Table held. The thing at the list's place i is no longer in that set. */
static void item_drop(struct watch_list *w, int i)
{
	struct event_set *set = w->set[i];
	uint32_t index = w->shown[i].index;
	struct item *item;

	watch_put(w, i, NULL, 0, 0);
	change_begin(set);
	item = &set->items[index];
	if (item->events & EPOLLONESHOT)
		set->nr_oneshot--;
	item->fd = -1;
	item->next = set->free;
	set->free = index;
	change_end(set);
}

static void drop_all_items(struct watch_list *w)
{
	int i;

	for (i = 0; i < WATCHERS; i++)
		if (w->set[i])
			item_drop(w, i);
}

/* --- channels */

static bool queue_new(struct channel *ch)
{
	size_t size = (sizeof(struct queue) + 63) & ~63UL;

	if (ch->q)
		return true;
	ch->q = aligned_alloc(64, size);
	if (!ch->q)
		return false;
	memset(ch->q, 0, size);
	ch->watch.shown = ch->q->watchers;
	return true;
}

static struct channel *channel_alloc(void)
{
	struct channel *ch = free_channels;

	if (ch) {
		free_channels = ch->next;
	} else {
		ch = calloc(1, sizeof(*ch));
		if (ch)
			pthread_spin_init(&ch->busy, PTHREAD_PROCESS_PRIVATE);
	}
	if (ch && !queue_new(ch)) {
		ch->next = free_channels;
		free_channels = ch;
		ch = NULL;
	}
	return ch;
}

static struct channel *channel_new(int fd, uint64_t inode)
{
	struct rpal_thr *thr = rpal_thr_self();
	struct channel *ch = channel_alloc();

	if (!ch)
		return NULL;
	/*
	 * Who had this id before may have had the same descriptor: begin somewhere
	 * else, for a peer may still have its handle.
	 */
	if (!generation)
		generation = rpal_state.key % 0xffff;
	/* As many as a handle has bits for, and none is 0. */
	generation = generation % 0xffff + 1;
	ch->generation = generation;
	ch->fd = fd;
	ch->inode = inode;
	ch->blocked = false;
	memset(ch->watch.set, 0, sizeof(ch->watch.set));
	ch->q->fd = fd;
	ch->q->rid = thr && thr->roles & RPAL_THREAD_RECEIVER ? RPAL_TID_INDEX(thr->tid) : 0;
	queue_open(ch->q, &ch->reader, generation);
	__atomic_store_n(&entries[fd].channel, ch, __ATOMIC_RELEASE);
	__atomic_store_n(&directory->queues[fd], (uintptr_t)ch->q, __ATOMIC_RELEASE);
	return ch;
}

/* Table held. Whoever has its handle is refused from now on. */
static void channel_retire(struct channel *ch)
{
	struct queue *q = ch->q;

	__atomic_store_n(&directory->queues[ch->fd], 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&entries[ch->fd].channel, NULL, __ATOMIC_RELEASE);
	drop_all_items(&ch->watch);
	channel_lock(ch);
	ch->generation = 0;
	if (queue_retire(q, &ch->reader)) {
		/* Somebody may still be writing into it: it is not used again. */
		q->peer_key = (uintptr_t)lost_queues;
		lost_queues = q;
		__atomic_store_n(&ch->q, NULL, __ATOMIC_RELEASE);
	}
	channel_unlock(ch);
	ch->next = free_channels;
	free_channels = ch;
}

/* --- rpal_epoll_ctl() */

/* What a descriptor is: enough to see that its number was used again. */
static uint64_t inode_of(int fd, bool *epoll)
{
	char path[32], name[32] = "";
	struct stat st;

	*epoll = false;
	if (fstat(fd, &st))
		return 0;
	if (!(st.st_mode & S_IFMT)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		*epoll = readlink(path, name, sizeof(name) - 1) > 0 &&
			 !strcmp(name, "anon_inode:[eventpoll]");
	}
	return (uint64_t)st.st_dev << 48 ^ st.st_ino;
}

/* Table held. A descriptor's queue, of the file that it is now. */
static struct channel *channel_get(int fd, uint64_t inode)
{
	struct channel *ch = events_channel(fd);

	if (ch && ch->inode != inode) {
		channel_retire(ch);
		ch = NULL;
	}
	return ch ? ch : channel_new(fd, inode);
}

/* Table held. 0 or a negative errno. */
static int item_add(struct event_set *set, int fd, struct channel *ch, struct event_set *inner,
		    const struct epoll_event *ev)
{
	struct watch_list *w = ch ? &ch->watch : &inner->watch;
	int i = watch_find(w, set), index;

	/* The kernel did not know it: the number was closed and is used again. */
	if (i >= 0)
		item_drop(w, i);
	i = watch_find(w, NULL);
	if (i < 0)
		return -ENOSPC;
	change_begin(set);
	index = item_new(set);
	if (index >= 0) {
		set->items[index] = (struct item){
			.fd = fd,
			.events = ev->events,
			.data = ev->data,
			.channel = ch,
			.inner = inner,
		};
		if (ev->events & EPOLLONESHOT)
			set->nr_oneshot++;
	}
	change_end(set);
	if (index < 0)
		return index;
	watch_put(w, i, set, index, ev->events);
	/* There may be something already. */
	mark(set, index, 0);
	return 0;
}

static int add(int epfd, int fd, const struct epoll_event *ev)
{
	struct event_set *set, *inner = NULL;
	struct channel *ch = NULL;
	bool epoll;
	uint64_t inode = inode_of(fd, &epoll);

	if (!(ev->events & RPAL_EVENTS) && !epoll)
		return 0;
	if ((unsigned int)fd >= MAX_FDS)
		return -ENOSPC;
	set = set_get_locked(epfd);
	if (!set)
		return -ENOMEM;
	if (ev->events & RPAL_EVENTS)
		ch = channel_get(fd, inode);
	else
		inner = set_get_locked(fd);
	if (!ch && !inner)
		return -ENOMEM;
	return item_add(set, fd, ch, inner, ev);
}

/* Where a descriptor is in a set; NULL if it is not. */
static struct watch_list *find(struct event_set *set, int fd, int *i)
{
	struct channel *ch = events_channel(fd);
	struct event_set *inner = events_set(fd);

	*i = set && ch ? watch_find(&ch->watch, set) : -1;
	if (*i >= 0)
		return &ch->watch;
	*i = set && inner ? watch_find(&inner->watch, set) : -1;
	return *i >= 0 ? &inner->watch : NULL;
}

static int modify(int epfd, int fd, const struct epoll_event *ev)
{
	struct event_set *set = events_set(epfd);
	struct watch_list *w;
	struct item *item;
	int i;

	w = find(set, fd, &i);
	if (!w)
		return add(epfd, fd, ev);
	change_begin(set);
	item = &set->items[w->shown[i].index];
	if (item->events & EPOLLONESHOT)
		set->nr_oneshot--;
	item->events = ev->events;
	item->data = ev->data;
	item->off = false;
	if (item->events & EPOLLONESHOT)
		set->nr_oneshot++;
	change_end(set);
	__atomic_store_n(&w->shown[i].events, ev->events, __ATOMIC_SEQ_CST);
	/* What was ready before is no news to the sets around this one. */
	if (!ready_is(set->ready, w->shown[i].index))
		mark(set, w->shown[i].index, 0);
	return 0;
}

/* A channel that is in no set any more has no use. */
static int del(int epfd, int fd)
{
	struct event_set *set = events_set(epfd);
	struct channel *ch = events_channel(fd);
	struct watch_list *w;
	int i;

	w = find(set, fd, &i);
	if (w)
		item_drop(w, i);
	if (w && ch && w == &ch->watch) {
		for (i = 0; i < WATCHERS && !w->set[i]; i++)
			;
		if (i == WATCHERS)
			channel_retire(ch);
	}
	return 0;
}

/* Table held. Is it in the set, but not in the kernel's: used up? */
static bool is_off(int epfd, int fd)
{
	struct event_set *set = events_set(epfd);
	struct watch_list *w;
	bool off, epoll;
	int i;

	w = find(set, fd, &i);
	if (!w)
		return false;
	pthread_mutex_lock(&set->lock);
	off = set->items[w->shown[i].index].off;
	pthread_mutex_unlock(&set->lock);
	/* Or was the number closed and used again since? */
	return off && (w != &events_channel(fd)->watch ||
		       events_channel(fd)->inode == inode_of(fd, &epoll));
}

/* Table held. The kernel's half; -1 with errno. */
static int ctl_kernel(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct epoll_event ev = {};

	if (event && op != EPOLL_CTL_DEL) {
		ev = *event;
		ev.events &= ~RPAL_EVENTS;
	}
	if (is_off(epfd, fd)) {
		switch (op) {
		case EPOLL_CTL_ADD:
			errno = EEXIST;
			return -1;
		case EPOLL_CTL_DEL:
			return 0;
		case EPOLL_CTL_MOD:
			op = EPOLL_CTL_ADD;
		}
	}
	return epoll_ctl(epfd, op, fd, event ? &ev : NULL);
}

static int ctl(int epfd, int op, int fd, const struct epoll_event *event)
{
	int ret;

	switch (op) {
	case EPOLL_CTL_ADD:
		ret = add(epfd, fd, event);
		if (ret)
			epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
		return ret;
	case EPOLL_CTL_MOD:
		return modify(epfd, fd, event);
	}
	return del(epfd, fd);
}

EXPORT int rpal_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct event_set *set;
	int ret;

	if (!rpal_up()) {
		if (op == EPOLL_CTL_DEL || !event || !(event->events & RPAL_EVENTS))
			return epoll_ctl(epfd, op, fd, event);
		errno = ENXIO;
		return rpal_fail(-1, "RPAL events come after rpal_init()");
	}
	pthread_mutex_lock(&table);
	ret = ctl_kernel(epfd, op, fd, event);
	if (ret) {
		pthread_mutex_unlock(&table);
		return ret;
	}
	ret = ctl(epfd, op, fd, event);
	set = events_set(epfd);
	pthread_mutex_unlock(&table);
	if (!ret && set && op != EPOLL_CTL_DEL)
		tell(set, 0);
	if (!ret)
		return 0;
	errno = -ret;
	return rpal_failf(-1, "no RPAL events for descriptor %d: %s", fd, strerror(-ret));
}

/* Table held. */
static void set_retire(struct event_set *set)
{
	struct watch_list *w;
	uint32_t index;
	int i;

	drop_all_items(&set->watch);
	for (index = 0; index < set->nr_items; index++) {
		struct item *item = &set->items[index];

		if (item->fd < 0)
			continue;
		w = item->channel ? &item->channel->watch : &item->inner->watch;
		i = watch_find(w, set);
		if (i >= 0)
			item_drop(w, i);
	}
	if (set->outer_fd >= 0)
		close(set->outer_fd);
	if (set->ready_fd >= 0)
		close(set->ready_fd);
	__atomic_store_n(&entries[set->epfd].set, NULL, __ATOMIC_RELEASE);
	set->epfd = -1;
	set->next = free_sets;
	free_sets = set;
}

EXPORT int rpal_close(int fd)
{
	struct event_set *set;
	struct channel *ch;
	struct entry *e;

	pthread_mutex_lock(&table);
	e = entry(fd);
	if (e) {
		ch = events_channel(fd);
		set = events_set(fd);
		if (ch)
			channel_retire(ch);
		if (set) {
			set_retire(set);
			__atomic_add_fetch(&epoch, 1, __ATOMIC_RELEASE);
		}
		e->peer_id = 0;
	}
	pthread_mutex_unlock(&table);
	return close(fd);
}

/* --- collecting */

static bool set_has_events(struct event_set *set, int depth);

/* What holds of an item now. Lock of its set held. */
static uint32_t state_of(const struct item *item, int depth)
{
	struct channel *ch = item->channel;
	uint32_t state = 0;

	if (item->inner)
		return set_has_events(item->inner, depth + 1) ? EPOLLIN : 0;
	if (!queue_is_empty(ch->q, &ch->reader))
		state |= EPOLLRPALIN;
	if (item->events & EPOLLRPALOUT) {
		if (__atomic_load_n(&ch->blocked, __ATOMIC_ACQUIRE) &&
		    __atomic_exchange_n(&ch->q->room, 0, __ATOMIC_ACQ_REL))
			__atomic_store_n(&ch->blocked, false, __ATOMIC_RELEASE);
		if (!ch->blocked && __atomic_load_n(&entries[ch->fd].peer_id, __ATOMIC_ACQUIRE))
			state |= EPOLLRPALOUT;
	}
	return state & item->events;
}

/* Looks, and leaves all as it is. */
static bool set_has_events(struct event_set *set, int depth)
{
	uint32_t from = 0;
	bool has = false;
	int index;

	if (depth > READY_NESTED)
		return false;
	pthread_mutex_lock(&set->lock);
	while (!has && (index = ready_find(set->ready, from)) >= 0) {
		const struct item *item = &set->items[index];
		bool known = (uint32_t)index < set->nr_items && item->fd >= 0 && !item->off;

		from = index + 1;
		has = known && state_of(item, depth);
		if (has)
			break;
		/* Cleared first, and then looked at: now it is certain. */
		ready_clear(set->ready, index);
		has = known && state_of(item, depth);
		if (has)
			ready_mark(set->ready, index);
	}
	pthread_mutex_unlock(&set->lock);
	return has;
}

/*
 * EPOLLONESHOT has been used up: of both halves. One that the kernel has switched
 * off itself is taken out, too; EPOLL_CTL_MOD puts it in again.
 */
static void use_up(struct event_set *set, struct item *item)
{
	item->off = true;
	epoll_ctl(set->epfd, EPOLL_CTL_DEL, item->fd, NULL);
}

/* What there is to report of an item now, 0: nothing. Lock of its set held. */
static uint32_t due(const struct item *item)
{
	return item->fd < 0 || item->off ? 0 : state_of(item, 0);
}

/*
 * The same, and its bit is cleared unless that is to stay: a level that holds is
 * looked at again next time, and leaves all as it is. Else the bit goes first, so
 * that what comes after the look sets it anew.
 */
static uint32_t take_due(struct event_set *set, uint32_t index)
{
	const struct item *item = &set->items[index];
	bool level = !(item->events & (EPOLLET | EPOLLONESHOT));
	uint32_t state = level ? due(item) : 0;

	if (state)
		return state;
	ready_clear(set->ready, index);
	state = due(item);
	if (state && level)
		ready_mark(set->ready, index);
	return state;
}

/*
 * The usual case without the lock: a descriptor that waits for messages, and for as
 * long as there are some. 1: reported; 0: there are none; -1: it is not so simple.
 */
static inline __attribute__((always_inline)) int report_input(struct event_set *set, uint32_t index,
							      struct epoll_event *ev)
{
	const struct item *item = &set->items[index];
	unsigned int seq = __atomic_load_n(&set->seq, __ATOMIC_ACQUIRE);
	struct channel *ch = item->channel;
	epoll_data_t data = item->data;
	struct queue *q;

	if (unlikely((item->events & (RPAL_EVENTS | EPOLLET | EPOLLONESHOT)) != EPOLLRPALIN ||
		     item->fd < 0 || !ch || seq & 1 || !unchanged(set, seq)))
		return -1;
	q = __atomic_load_n(&ch->q, __ATOMIC_ACQUIRE);
	if (unlikely(!q))
		return -1;
	if (queue_is_empty(q, &ch->reader)) {
		/* As in take_due(). */
		ready_clear(set->ready, index);
		if (queue_is_empty(q, &ch->reader) && unchanged(set, seq))
			return 0;
		/* Some have come, or the bit is that of something else since. */
		ready_mark(set->ready, index);
	}
	if (unlikely(!unchanged(set, seq)))
		return -1;
	ev->events = EPOLLRPALIN;
	ev->data = data;
	return 1;
}

static void report(struct event_set *set, struct item *item, uint32_t state, struct epoll_event *ev)
{
	ev->events = state;
	ev->data = item->data;
	if (item->events & EPOLLONESHOT)
		use_up(set, item);
}

/* The next one, from *from on and then from the beginning to start; -1. */
static int find_next(struct ready_set *ready, uint32_t *from, uint32_t start, bool *wrapped)
{
	int index = ready_find(ready, *from);

	if (index < 0 && !*wrapped && start) {
		*wrapped = true;
		index = ready_find(ready, 0);
	}
	if (*wrapped && (uint32_t)index >= start)
		return -1;
	*from = index + 1;
	return index;
}

/* How many events of an item there are to report: 0 or 1. */
static __attribute__((noinline)) int report_locked(struct event_set *set, uint32_t index,
						   struct epoll_event *ev)
{
	uint32_t state = 0;

	change_begin(set);
	/* Hints may be wrong: peers can write them. */
	if (index < set->nr_items)
		state = take_due(set, index);
	else
		ready_clear(set->ready, index);
	if (state)
		report(set, &set->items[index], state, ev);
	change_end(set);
	return !!state;
}

/* Where to begin next time; at the end there is nothing more to find. */
static inline void set_cursor(struct event_set *set, uint32_t index, uint32_t nr)
{
	__atomic_store_n(&set->cursor, index + 1 < nr ? index + 1 : 0, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) int collect_all(struct event_set *set, struct epoll_event *events,
						 int max, uint32_t nr)
{
	uint32_t start = __atomic_load_n(&set->cursor, __ATOMIC_RELAXED), from = start;
	bool wrapped = false;
	int n = 0, index, found;

	while (n < max && (index = find_next(set->ready, &from, start, &wrapped)) >= 0) {
		found = (uint32_t)index < nr ? report_input(set, index, &events[n]) : -1;
		if (unlikely(found < 0))
			found = report_locked(set, index, &events[n]);
		if (found)
			set_cursor(set, index, nr);
		n += found;
	}
	return n;
}

int events_collect(struct event_set *set, struct epoll_event *events, int max)
{
	uint64_t low = __atomic_load_n(&set->ready->low[0], __ATOMIC_SEQ_CST);
	uint32_t nr = __atomic_load_n(&set->nr_items, __ATOMIC_ACQUIRE), index;
	int found = -1;

	if (!ready_far(set->ready)) {
		if (!low)
			return 0;
		/* Mostly it is just one. */
		index = __builtin_ctzll(low);
		if (likely(!(low & (low - 1)) && index < nr))
			found = report_input(set, index, events);
	}
	if (unlikely(found < 0))
		return collect_all(set, events, max, nr);
	if (found)
		set_cursor(set, index, nr);
	return found;
}

void events_used_up(struct event_set *set, const struct epoll_event *events, int n)
{
	uint32_t index;
	int i;

	if (!__atomic_load_n(&set->nr_oneshot, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&set->lock);
	for (index = 0; index < set->nr_items; index++) {
		struct item *item = &set->items[index];

		for (i = 0; item->fd >= 0 && item->events & EPOLLONESHOT && i < n; i++)
			if (!item->off && item->data.u64 == events[i].data.u64)
				use_up(set, item);
	}
	pthread_mutex_unlock(&set->lock);
}

bool events_ready(struct event_set *set)
{
	return ready_any(set->ready) && set_has_events(set, 0);
}

unsigned int events_epoch(void)
{
	return __atomic_load_n(&epoch, __ATOMIC_ACQUIRE);
}

/* --- for other event loops */

/* Table held. A file that peers can make readable, or a negative errno. */
static int channel_file(uint32_t *number)
{
	struct rpal_channel req = { .size = sizeof(req), .service = rpal_state.fd };
	int ret, fd = open(RPAL_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, RPAL_IOC_CHANNEL, &req) ? -errno : 0;
	if (ret) {
		close(fd);
		return ret;
	}
	*number = req.number;
	return fd;
}

static void notify_self(struct event_set *set)
{
	struct rpal_notify req = {
		.size = sizeof(req),
		.id = rpal_state.id,
		.number = set->number,
	};

	if (__atomic_exchange_n(&set->ready->channel, 0, __ATOMIC_SEQ_CST))
		rpal_ioctl(RPAL_IOC_NOTIFY, &req);
}

static void wake_own(unsigned int index)
{
	struct rpal_wake req = { .size = sizeof(req), .tid = RPAL_TID(rpal_state.id, index) };
	char *blocks = rpal_state.area;
	struct rpal_block *b = (void *)(blocks + index * RPAL_BLOCK_SIZE);
	struct rpal_thr *thr = rpal_thr_self();

	if (thr && thr->tid == req.tid)
		return;
	/* It sees this before it waits, or is woken; in a call when that ends. */
	__atomic_fetch_or(&b->news, RPAL_NEWS_MESSAGE, __ATOMIC_SEQ_CST);
	rpal_ioctl(RPAL_IOC_WAKE, &req);
}

/*
 * What this process has done itself has made something ready: who waits for the set
 * is to look. A peer that has written before it could see the set has told nobody.
 */
static void tell(struct event_set *set, int depth)
{
	struct event_set *outer;
	uint64_t bits;
	unsigned int i;

	if (depth > READY_NESTED || !set_has_events(set, depth))
		return;
	for (i = 0; i < RPAL_MAX_RECEIVERS / 64; i++) {
		bits = __atomic_load_n(&set->ready->waiters[i], __ATOMIC_SEQ_CST);
		for (; bits; bits &= bits - 1)
			wake_own(i * 64 + __builtin_ctzll(bits));
	}
	notify_self(set);
	for (i = 0; i < WATCHERS; i++) {
		outer = __atomic_load_n(&set->watch.set[i], __ATOMIC_ACQUIRE);
		if (outer)
			tell(outer, depth + 1);
	}
}

static int ready_fd_locked(struct event_set *set)
{
	int fd;

	if (set->ready_fd >= 0)
		return set->ready_fd;
	fd = channel_file(&set->number);
	if (fd < 0)
		return fd;
	__atomic_store_n(&set->ready_fd, fd, __ATOMIC_RELEASE);
	/* What is there already is to be seen, too. */
	if (events_arm(set))
		return fd;
	notify_self(set);
	return fd;
}

EXPORT int rpal_ready_fd(int epfd)
{
	struct event_set *set;
	int fd;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	pthread_mutex_lock(&table);
	set = set_get_locked(epfd);
	fd = set ? ready_fd_locked(set) : -ENOMEM;
	pthread_mutex_unlock(&table);
	return fd < 0 ? rpal_failf(fd, "no descriptor for RPAL events: %s", strerror(-fd)) : fd;
}

static int outer_fd_locked(struct event_set *set)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ready = ready_fd_locked(set), fd, ret;

	if (ready < 0 || set->outer_fd >= 0)
		return ready < 0 ? ready : set->outer_fd;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = epoll_ctl(fd, EPOLL_CTL_ADD, set->epfd, &ev) ||
			      epoll_ctl(fd, EPOLL_CTL_ADD, ready, &ev) ?
		      -errno :
		      0;
	if (ret)
		close(fd);
	else
		set->outer_fd = fd;
	return ret ? ret : fd;
}

int events_outer_fd(struct event_set *set)
{
	int fd;

	pthread_mutex_lock(&table);
	fd = outer_fd_locked(set);
	pthread_mutex_unlock(&table);
	return fd;
}

bool events_arm(struct event_set *set)
{
	uint64_t n;

	if (read(set->ready_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return true; /* the service has ended */
	__atomic_store_n(&set->ready->channel, set->number, __ATOMIC_SEQ_CST);
	return !ready_any(set->ready);
}

/* --- the end */

/* No links are left, so no peer is in here; memory is kept for the next time. */
void events_reset(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	table = fresh;
	if (directory)
		munmap(directory, DIRECTORY_SIZE);
	if (entries)
		munmap(entries, ENTRIES_SIZE);
	directory = NULL;
	entries = NULL;
	last_peer = -1;
	free_channels = NULL;
	free_sets = NULL;
	lost_queues = NULL;
}
