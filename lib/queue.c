// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Queues of words; see queue.h. */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define LOW(word)	  ((uint32_t)(word))
#define STAMPED(gen, low) ((uint64_t)(gen) << 32 | (uint32_t)(low))
#define PLACE_END	  QUEUE_PLACES
#define LOAD(p)		  __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define SWAP(p, expect, new) \
	__atomic_compare_exchange_n(p, expect, new, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)

_Static_assert(QUEUE_PLACES == 32, "places are the bits of half a word");

void queue_open(struct queue *q, struct queue_reader *r, uint32_t generation)
{
	memset(r, 0, sizeof(*r));
	q->peer_key = 0;
	q->want_out = 0;
	q->room = 0;
	memset(q->watchers, 0, sizeof(q->watchers));
	__atomic_store_n(&q->inbox, STAMPED(generation, QUEUE_NONE), __ATOMIC_RELAXED);
	/* Last: from now on it can be written. */
	__atomic_store_n(&q->used, STAMPED(generation, 0), __ATOMIC_RELEASE);
}

/* The lowest n of the bits; 0 if they are fewer. Mostly they lie side by side. */
static uint32_t lowest(uint32_t bits, unsigned int n)
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
static uint32_t claim(struct queue *q, uint32_t generation, unsigned int n, int *err)
{
	uint64_t used = LOAD(&q->used);
	uint32_t places;

	do {
		*err = -ESTALE;
		if (queue_generation(used) != generation)
			return 0;
		*err = -EAGAIN;
		places = lowest(~LOW(used), n);
		if (!places)
			return 0;
	} while (!SWAP(&q->used, &used, used | places));
	return places;
}

/* Into the places, chained; returns the first. */
static unsigned int fill(struct queue *q, uint32_t places, const int64_t *words)
{
	unsigned int first = __builtin_ctz(places), at = first;

	for (;;) {
		q->words[at] = *words++;
		places &= places - 1;
		if (!places)
			break;
		q->next[at] = __builtin_ctz(places);
		at = q->next[at];
	}
	q->next[at] = PLACE_END;
	return first;
}

int queue_put(struct queue *q, uint32_t generation, const int64_t *words, unsigned int n)
{
	uint32_t places;
	unsigned int first;
	uint64_t inbox;
	int err;

	if (n < 1 || n > QUEUE_PLACES)
		return -EINVAL;
	places = claim(q, generation, n, &err);
	if (!places)
		return err;
	first = fill(q, places, words);
	inbox = LOAD(&q->inbox);
	do {
		if (queue_generation(inbox) != generation)
			return -ESTALE;
		q->prev[first] = LOW(inbox);
	} while (!SWAP(&q->inbox, &inbox, STAMPED(generation, first + 1)));
	return 0;
}

/*
 * The rest of a message, behind what the reader has. Its chain was written by a peer:
 * followed no further than there are places, each once.
 */
static void append(const struct queue *q, struct queue_reader *r, unsigned int at, uint32_t *seen)
{
	for (; at < QUEUE_PLACES; at = q->next[at]) {
		if (*seen & 1U << at || r->count == QUEUE_PLACES)
			break;
		*seen |= 1U << at;
		r->order[(r->head + r->count++) % QUEUE_PLACES] = at;
	}
}

/* All messages from the newest on, as the inbox had them. */
static void take(const struct queue *q, struct queue_reader *r, uint32_t newest)
{
	uint8_t firsts[QUEUE_PLACES];
	unsigned int n = 0;
	uint32_t seen = 0;

	while (newest != QUEUE_NONE && newest <= QUEUE_PLACES && n < QUEUE_PLACES) {
		firsts[n++] = newest - 1;
		newest = q->prev[newest - 1];
	}
	while (n--)
		append(q, r, firsts[n], &seen);
}

/* The newest message, and that the queue is empty now; QUEUE_NONE if it was. */
static uint32_t take_inbox(struct queue *q)
{
	uint64_t inbox = LOAD(&q->inbox);

	while (LOW(inbox) != QUEUE_NONE)
		if (SWAP(&q->inbox, &inbox, STAMPED(queue_generation(inbox), QUEUE_NONE)))
			return LOW(inbox);
	return QUEUE_NONE;
}

/*
 * One message that was alone, past the reader's order; what there is no room for goes
 * there. That a peer may have chained a place twice is nobody else's loss.
 */
static unsigned int get_single(const struct queue *q, struct queue_reader *r, unsigned int at,
			       int64_t *words, unsigned int n, uint32_t *freed)
{
	unsigned int got;
	uint32_t seen = 0;

	n = n < QUEUE_PLACES ? n : QUEUE_PLACES;
	for (got = 0; got < n && at < QUEUE_PLACES; got++) {
		words[got] = q->words[at];
		seen |= 1U << at;
		at = q->next[at];
	}
	*freed = seen;
	if (at < QUEUE_PLACES)
		append(q, r, at, &seen);
	return got;
}

static unsigned int get_ordered(const struct queue *q, struct queue_reader *r, int64_t *words,
				unsigned int n, uint32_t *freed)
{
	unsigned int head = r->head, got, at;

	n = n < r->count ? n : r->count;
	for (got = 0; got < n; got++) {
		at = r->order[head++ % QUEUE_PLACES];
		words[got] = q->words[at];
		*freed |= 1U << at;
	}
	r->head = head % QUEUE_PLACES;
	r->count -= n;
	return n;
}

unsigned int queue_get(struct queue *q, struct queue_reader *r, int64_t *words, unsigned int n)
{
	uint32_t freed = 0, newest;
	unsigned int got = 0;

	if (!n)
		return 0;
	if (r->count)
		got = get_ordered(q, r, words, n, &freed);
	newest = got < n ? take_inbox(q) : QUEUE_NONE;
	if (newest != QUEUE_NONE && newest <= QUEUE_PLACES) {
		if (!got && q->prev[newest - 1] == QUEUE_NONE) {
			got = get_single(q, r, newest - 1, words, n, &freed);
		} else {
			take(q, r, newest);
			got += get_ordered(q, r, words + got, n - got, &freed);
		}
	}
	if (freed)
		__atomic_fetch_and(&q->used, ~(uint64_t)freed, __ATOMIC_SEQ_CST);
	return got;
}

bool queue_retire(struct queue *q, struct queue_reader *r)
{
	uint32_t used = LOW(__atomic_exchange_n(&q->used, 0, __ATOMIC_SEQ_CST));
	uint32_t newest = LOW(__atomic_exchange_n(&q->inbox, 0, __ATOMIC_SEQ_CST));
	unsigned int i;

	if (!r->count)
		r->head = 0;
	take(q, r, newest);
	for (i = 0; i < r->count; i++)
		used &= ~(1U << r->order[(r->head + i) % QUEUE_PLACES]);
	r->count = 0;
	return used;
}
