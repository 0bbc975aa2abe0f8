/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Queues of words, into which threads of one other process write.
 *
 * A writer may be killed at any instruction. It first claims as many places as
 * its message has words, fills and chains them, and then makes the whole message
 * the newest of the queue: each of the two is one compare-and-swap, before the
 * second nobody sees anything of it, and nobody ever waits for anybody. The
 * reader takes all messages away at once and turns their order round. Places
 * that a dead writer has claimed are lost, to a queue whose peer is dead.
 *
 * Both words that are swapped carry the queue's generation: what a writer has
 * begun with a queue that was retired since cannot be finished.
 */
#ifndef _RPAL_QUEUE_H
#define _RPAL_QUEUE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define QUEUE_PLACES 32
#define WATCHERS     4 /* epoll sets in which one descriptor can be */

/* In the low half of inbox: nothing there, else 1 + the newest message's first. */
#define QUEUE_NONE 0

/**
 * struct queue_watcher - an epoll set that is to hear of it
 * @set:	address of its struct ready_set; 0: unused
 * @index:	of the descriptor's bit in it
 * @events:	what it wants to hear of, as EPOLL* bits
 */
struct queue_watcher {
	uint64_t set;
	uint32_t index;
	uint32_t events;
};

/**
 * struct queue - the part of a queue that peers read and write
 * @used:	generation in bits 63..32, places in use below
 * @inbox:	generation in bits 63..32, newest message below
 * @peer_key:	key of the service that writes; 0 until it has begun to
 * @want_out:	RPAL words of who has found it full: see message.c; 0: nobody
 * @room:	the peer's queue, which was full, has room
 * @rid:	index of the receiver that has added it
 * @fd:		own descriptor
 * @next:	the place of a message's next word, QUEUE_PLACES at its end
 * @prev:	of a message's first word: the message before it, as in inbox
 * @words:	the words
 * @watchers:	who is to hear of messages
 */
struct queue {
	uint64_t used;
	uint64_t inbox;
	uint64_t peer_key;
	uint64_t want_out;
	uint32_t room;
	uint32_t rid;
	uint32_t fd;
	uint32_t pad;
	struct queue_watcher watchers[WATCHERS];
	uint8_t next[QUEUE_PLACES];
	uint8_t prev[QUEUE_PLACES];
	int64_t words[QUEUE_PLACES];
};

/**
 * struct queue_reader - the owner's part
 * @order:	places in the order in which they are to be read
 * @head:	first of them
 * @count:	how many
 */
struct queue_reader {
	uint8_t order[QUEUE_PLACES];
	unsigned int head;
	unsigned int count;
};

static inline uint32_t queue_generation(uint64_t word)
{
	return word >> 32;
}

/* Empty, of a generation that is not 0. By the owner, when no writer knows it. */
void queue_open(struct queue *q, struct queue_reader *r, uint32_t generation);

/*
 * No writer can put anything in any more. True if one had begun: then the memory
 * must not be used again while that one may be alive.
 */
bool queue_retire(struct queue *q, struct queue_reader *r);

static inline uint64_t queue_word(uint32_t generation, uint32_t low)
{
	return (uint64_t)generation << 32 | low;
}

static inline bool queue_swap(uint64_t *word, uint64_t *expect, uint64_t new)
{
	return __atomic_compare_exchange_n(word, expect, new, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_ACQUIRE);
}

/* The lowest n of the bits; 0 if they are fewer. Mostly they lie side by side. */
static inline uint32_t queue_lowest(uint32_t bits, unsigned int n)
{
	uint32_t rest = bits;
	uint64_t run;

	if (!bits)
		return 0;
	run = ((1ULL << n) - 1) << __builtin_ctz(bits);
	if (!(run & ~(uint64_t)bits))
		return run;
	for (; n; n--) {
		if (!rest)
			return 0;
		rest &= rest - 1;
	}
	return bits & ~rest;
}

/* Places for n words, or 0 with *err. */
static inline uint32_t queue_claim(struct queue *q, uint32_t generation, unsigned int n, int *err)
{
	uint64_t used = __atomic_load_n(&q->used, __ATOMIC_ACQUIRE);
	uint32_t places;

	do {
		*err = -ESTALE;
		if (queue_generation(used) != generation)
			return 0;
		*err = -EAGAIN;
		places = queue_lowest(~(uint32_t)used, n);
		if (!places)
			return 0;
	} while (!queue_swap(&q->used, &used, used | places));
	return places;
}

/* Into the places, chained; returns the first. */
static inline unsigned int queue_fill(struct queue *q, uint32_t places, const int64_t *words)
{
	unsigned int first = __builtin_ctz(places), at = first, next;

	for (;;) {
		q->words[at] = *words++;
		places &= places - 1;
		if (!places)
			break;
		/* Not read again: it is the peer's memory. */
		next = __builtin_ctz(places);
		q->next[at] = next;
		at = next;
	}
	q->next[at] = QUEUE_PLACES;
	return first;
}

/*
 * A message of 1 .. QUEUE_PLACES words. 0, -EAGAIN (not that much room) or
 * -ESTALE (another generation). By writers, at any time.
 */
static inline int queue_put(struct queue *q, uint32_t generation, const int64_t *words,
			    unsigned int n)
{
	uint32_t places;
	unsigned int first;
	uint64_t inbox;
	int err;

	if (n < 1 || n > QUEUE_PLACES)
		return -EINVAL;
	places = queue_claim(q, generation, n, &err);
	if (!places)
		return err;
	first = queue_fill(q, places, words);
	inbox = __atomic_load_n(&q->inbox, __ATOMIC_ACQUIRE);
	do {
		if (queue_generation(inbox) != generation)
			return -ESTALE;
		q->prev[first] = (uint32_t)inbox;
	} while (!queue_swap(&q->inbox, &inbox, queue_word(generation, first + 1)));
	return 0;
}

/* Up to n words; how many there were. By the owner, one thread at a time. */
unsigned int queue_get(struct queue *q, struct queue_reader *r, int64_t *words, unsigned int n);

/* Is there anything to get? By the owner. */
static inline bool queue_is_empty(const struct queue *q, const struct queue_reader *r)
{
	return !__atomic_load_n(&r->count, __ATOMIC_RELAXED) &&
	       (uint32_t)__atomic_load_n(&q->inbox, __ATOMIC_ACQUIRE) == QUEUE_NONE;
}

#endif /* _RPAL_QUEUE_H */
