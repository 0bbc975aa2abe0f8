/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What of an epoll set is ready: one bit for each descriptor, and above them
 * bits that say in which words to look. Set by anybody, also by threads of
 * other processes that may be killed in between; cleared by the owner before it
 * looks at what the bit stands for.
 *
 * The first word is looked at each time, and has no bits above it: most sets have
 * no more descriptors than that.
 */
#ifndef _RPAL_READY_H
#define _RPAL_READY_H

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"

#define READY_BITS   65536
#define READY_NESTED 5 /* how deep epoll sets may lie in each other, as in the kernel */
#define READY_MAGIC  0x3274732d6c617072ULL

/**
 * struct ready_set - an epoll set, as peers see it
 * @magic:	READY_MAGIC
 * @channel:	what to notify when something becomes ready; 0: nothing. Who does
 *		sets it to 0
 * @waiters:	receivers, by index, that wait for it or are about to
 * @parents:	sets in which this one is
 * @top:	words of @mid that have bits
 * @mid:	words of @low, but for the first, that have bits
 * @low:	a bit for each descriptor
 */
struct ready_set {
	uint64_t magic;
	uint32_t channel;
	uint32_t pad;
	uint64_t waiters[4];
	struct queue_watcher parents[WATCHERS];
	uint64_t top;
	uint64_t mid[READY_BITS / 64 / 64];
	uint64_t low[READY_BITS / 64];
};

/* Something has become ready. Of set itself, not of its parents. */
void ready_mark(struct ready_set *set, uint32_t index);

/* Is this one? */
static inline bool ready_is(const struct ready_set *set, uint32_t index)
{
	return __atomic_load_n(&set->low[index % READY_BITS / 64], __ATOMIC_SEQ_CST) >> index % 64 &
	       1;
}

/* Is anything? A hint: it may be gone when one looks. */
static inline bool ready_any(const struct ready_set *set)
{
	return __atomic_load_n(&set->low[0], __ATOMIC_SEQ_CST) ||
	       __atomic_load_n(&set->top, __ATOMIC_SEQ_CST);
}

/* The first ready descriptor, of an index of from or more, -1 if there is none. */
int ready_find(struct ready_set *set, uint32_t from);

/* It is not any more. Was it? By the owner, who then looks at what it stands for. */
bool ready_clear(struct ready_set *set, uint32_t index);

/*
 * Take a ready descriptor, with an index of *from or more: its index, and *from
 * is one more. -1 if there is none.
 */
int ready_take(struct ready_set *set, uint32_t *from);

#endif /* _RPAL_READY_H */
