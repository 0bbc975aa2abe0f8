/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Descriptors with queues, and the epoll sets that they are in: own side. */
#ifndef _RPAL_EVENTS_H
#define _RPAL_EVENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "queue.h"
#include "ready.h"

#define RPAL_EVENTS (EPOLLRPALIN | EPOLLRPALOUT)

/* Descriptors are numbers below this. */
#define MAX_FDS (1U << 20)

#define DIRECTORY_MAGIC 0x7269642d6c617072ULL

/**
 * struct directory - where peers find a descriptor's queue; its address is in
 *		      user[0] of each receiver's block
 * @magic:	DIRECTORY_MAGIC
 * @nr:		number of entries
 * @queues:	address of a struct queue, by descriptor; 0: there is none
 */
struct directory {
	uint64_t magic;
	uint64_t nr;
	uint64_t queues[];
};

/**
 * struct watch_list - the epoll sets in which something is
 * @shown:	what peers see of it: WATCHERS of them
 * @set:	the same
 */
struct watch_list {
	struct queue_watcher *shown;
	struct event_set *set[WATCHERS];
};

/**
 * struct channel - an own descriptor with RPAL events
 * @next:	in the list of those that are not used
 * @q:		its queue
 * @generation:	of the queue; 0: not in use
 * @busy:	lock of @reader, held for some ten words at most
 * @reader:	what was taken out of the queue
 * @watch:	sets in which it is; under the table's lock
 * @fd:		the descriptor
 * @inode:	what it was when this was made
 * @blocked:	the peer's queue was full
 */
struct channel {
	struct channel *next;
	struct queue *q;
	uint32_t generation;
	pthread_spinlock_t busy;
	struct queue_reader reader;
	struct watch_list watch;
	int fd;
	uint64_t inode;
	bool blocked;
};

/**
 * struct item - a descriptor in an epoll set
 * @fd:		the descriptor, -1: not in use
 * @events:	as given to rpal_epoll_ctl()
 * @data:	as given to rpal_epoll_ctl()
 * @off:	EPOLLONESHOT has been used up, and the kernel's half taken out of its set
 * @channel:	its queue, or NULL
 * @inner:	it is an epoll instance with RPAL events itself
 * @next:	next one that is not in use
 */
struct item {
	int fd;
	uint32_t events;
	epoll_data_t data;
	bool off;
	struct channel *channel;
	struct event_set *inner;
	uint32_t next;
};

/**
 * struct event_set - an epoll instance, as far as RPAL events go
 * @next:	in the list of those that are not used
 * @ready:	what peers see of it
 * @watch:	sets in which it is itself; under the table's lock
 * @lock:	of the items
 * @seq:	odd while one of them changes
 * @epfd:	its descriptor, -1: not in use
 * @items:	by index: address space for READY_BITS
 * @nr_items:	how many of them have ever been used
 * @free:	first that is not in use, nr_items: none
 * @cursor:	where to look first, so that none has to wait for ever
 * @nr_oneshot:	items with EPOLLONESHOT
 * @ready_fd:	see rpal_ready_fd(); -1: not asked for
 * @number:	its number, for peers
 * @outer_fd:	epoll instance of rpal_epoll_pwait(): @epfd and @ready_fd; -1
 */
struct event_set {
	struct event_set *next;
	struct ready_set *ready;
	struct watch_list watch;
	pthread_mutex_t lock;
	unsigned int seq;
	int epfd;
	struct item *items;
	uint32_t nr_items;
	uint32_t free;
	uint32_t cursor;
	unsigned int nr_oneshot;
	int ready_fd;
	uint32_t number;
	int outer_fd;
};

/* The directory's address, made if need be; 0 without memory. */
uint64_t events_directory(void);
/* The set of an epoll instance, NULL if it has no RPAL events. */
struct event_set *events_set(int epfd);
/* The same, made if need be; NULL without memory. */
struct event_set *events_set_get(int epfd);
/*
 * A mutex takes two locked operations, this one. Hardly ever do two threads read one
 * descriptor at once; then the second one sleeps, as its priority may be the higher.
 */
static inline void channel_lock(struct channel *ch)
{
	const struct timespec some = { .tv_nsec = 20000 };

	while (pthread_spin_trylock(&ch->busy))
		nanosleep(&some, NULL);
}

static inline void channel_unlock(struct channel *ch)
{
	pthread_spin_unlock(&ch->busy);
}

/* The channel of a descriptor, NULL if it has none. */
struct channel *events_channel(int fd);
/* Up to max RPAL events. */
int events_collect(struct event_set *set, struct epoll_event *events, int max);
/* Are there any? Leaves all as it is. */
bool events_ready(struct event_set *set);
/*
 * Empty the set's ready_fd and have it become readable when something becomes
 * ready. False: something has become so meanwhile.
 */
bool events_arm(struct event_set *set);
/* An epoll instance of the set's own descriptor and its ready_fd; or -errno. */
int events_outer_fd(struct event_set *set);
/* Changes when an epoll instance was closed. */
unsigned int events_epoch(void);
/* These events came from the kernel: their EPOLLONESHOT is used up. */
void events_used_up(struct event_set *set, const struct epoll_event *events, int n);
/* Words were left in a channel's queue: who waits for a level is to look again. */
void events_left_over(struct channel *ch);
/* Something of a channel has changed: have it looked at by who wants this event. */
void events_touch(struct channel *ch, uint32_t event);
/* Where a descriptor's other end was found: service and handle; 0, 0: forget. */
void events_set_peer(int fd, uint32_t id, uint64_t handle);
/* The descriptor whose other end that is, -1 if it is not known. */
int events_find_peer(uint32_t id, uint64_t handle);
/* rpal_exit() and the child of fork(): there are none any more. */
void events_reset(void);

#endif /* _RPAL_EVENTS_H */
