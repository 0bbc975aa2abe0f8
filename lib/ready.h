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

/*
 * A bit of a word. Looking first is cheaper than to write what is there already. It is
 * enough: the owner clears a bit before it looks at what that stands for.
 */
static inline void ready_set_bit(uint64_t *word, uint32_t n)
{
	uint64_t bit = 1ULL << n % 64;

	if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit))
		__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
}

/* The lowest bit of a word, from n on; 64 if there is none. */
static inline unsigned int ready_next_bit(uint64_t word, unsigned int n)
{
	if (n < 64)
		word &= ~0ULL << n;
	return n < 64 && word ? (unsigned int)__builtin_ctzll(word) : 64;
}

/* The same as without _far, for an index of 64 or more. */
void ready_mark_far(struct ready_set *set, uint32_t index);
int ready_find_far(struct ready_set *set, uint32_t from);
bool ready_clear_far(struct ready_set *set, uint32_t index);

/* Something has become ready. Of set itself, not of its parents. */
static inline void ready_mark(struct ready_set *set, uint32_t index)
{
	if (__builtin_expect(index < 64, 1))
		ready_set_bit(&set->low[0], index);
	else
		ready_mark_far(set, index);
}

/* Is this one? */
static inline bool ready_is(const struct ready_set *set, uint32_t index)
{
	return __atomic_load_n(&set->low[index % READY_BITS / 64], __ATOMIC_SEQ_CST) >> index % 64 &
	       1;
}

/* Is any of an index of 64 or more? A hint: it may be gone when one looks. */
static inline bool ready_far(const struct ready_set *set)
{
	return __atomic_load_n(&set->top, __ATOMIC_SEQ_CST);
}

/* Is anything? A hint, too. */
static inline bool ready_any(const struct ready_set *set)
{
	return __atomic_load_n(&set->low[0], __ATOMIC_SEQ_CST) || ready_far(set);
}

/* The first ready descriptor, of an index of from or more, -1 if there is none. */
static inline int ready_find(struct ready_set *set, uint32_t from)
{
	unsigned int bit;

	bit = ready_next_bit(__atomic_load_n(&set->low[0], __ATOMIC_SEQ_CST), from);
	return bit < 64 ? (int)bit : ready_find_far(set, from < 64 ? 64 : from);
}

/* It is not any more. Was it? By the owner, who then looks at what it stands for. */
static inline bool ready_clear(struct ready_set *set, uint32_t index)
{
	uint64_t bit = 1ULL << index % 64;

	if (__builtin_expect(index >= 64, 0))
		return ready_clear_far(set, index);
	return __atomic_fetch_and(&set->low[0], ~bit, __ATOMIC_SEQ_CST) & bit;
}

/*
 * Take a ready descriptor, with an index of *from or more: its index, and *from
 * is one more. -1 if there is none.
 */
int ready_take(struct ready_set *set, uint32_t *from);

#endif /* _RPAL_READY_H */
