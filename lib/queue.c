// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Queues of words; see queue.h. */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define LOW(word) ((uint32_t)(word))

_Static_assert(QUEUE_PLACES == 32, "places are the bits of half a word");

void queue_open(struct queue *q, struct queue_reader *r, uint32_t generation)
{
	memset(r, 0, sizeof(*r));
	q->peer_key = 0;
	q->want_out = 0;
	q->room = 0;
	memset(q->watchers, 0, sizeof(q->watchers));
	__atomic_store_n(&q->inbox, queue_word(generation, QUEUE_NONE), __ATOMIC_RELAXED);
	/* Last: from now on it can be written. */
	__atomic_store_n(&q->used, queue_word(generation, 0), __ATOMIC_RELEASE);
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
	uint64_t inbox = __atomic_load_n(&q->inbox, __ATOMIC_ACQUIRE);

	while (LOW(inbox) != QUEUE_NONE)
		if (queue_swap(&q->inbox, &inbox, queue_word(queue_generation(inbox), QUEUE_NONE)))
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
