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

/* The lowest n of the bits; 0 if they are fewer. */
static uint32_t lowest(uint32_t bits, unsigned int n)
{
	uint32_t rest = bits;

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
 * All messages from the newest on, as the inbox had them. Their chains were
 * written by a peer: followed no further than there are places, each once.
 */
static void take(struct queue *q, struct queue_reader *r, uint32_t newest)
{
	uint8_t firsts[QUEUE_PLACES];
	uint32_t seen = 0;
	unsigned int n = 0, at;

	while (newest != QUEUE_NONE && newest <= QUEUE_PLACES && n < QUEUE_PLACES) {
		firsts[n++] = newest - 1;
		newest = q->prev[newest - 1];
	}
	while (n--) {
		for (at = firsts[n]; at < QUEUE_PLACES; at = q->next[at]) {
			if (seen & 1U << at || r->count == QUEUE_PLACES)
				break;
			seen |= 1U << at;
			r->order[(r->head + r->count++) % QUEUE_PLACES] = at;
		}
	}
}

static void refill(struct queue *q, struct queue_reader *r)
{
	uint64_t inbox = LOAD(&q->inbox);

	while (LOW(inbox) != QUEUE_NONE)
		if (SWAP(&q->inbox, &inbox, STAMPED(queue_generation(inbox), QUEUE_NONE))) {
			take(q, r, LOW(inbox));
			break;
		}
}

unsigned int queue_get(struct queue *q, struct queue_reader *r, int64_t *words, unsigned int n)
{
	unsigned int got = 0, at;
	uint32_t freed = 0;

	while (got < n) {
		if (!r->count)
			refill(q, r);
		if (!r->count)
			break;
		at = r->order[r->head % QUEUE_PLACES];
		r->head = (r->head + 1) % QUEUE_PLACES;
		r->count--;
		words[got++] = q->words[at];
		freed |= 1U << at;
	}
	if (freed)
		__atomic_fetch_and(&q->used, ~(uint64_t)freed, __ATOMIC_SEQ_CST);
	return got;
}

bool queue_is_empty(const struct queue *q, const struct queue_reader *r)
{
	return !r->count && LOW(LOAD(&q->inbox)) == QUEUE_NONE;
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
