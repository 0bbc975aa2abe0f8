// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What of an epoll set is ready; see ready.h. */
#include "ready.h"

#define BIT(n) (1ULL << ((n) % 64))

/* From below, and each of them: who set the lower ones may never have come here. */
void ready_mark_far(struct ready_set *set, uint32_t index)
{
	index %= READY_BITS;
	ready_set_bit(&set->low[index / 64], index);
	if (index < 64)
		return;
	ready_set_bit(&set->mid[index / 64 / 64], index / 64);
	ready_set_bit(&set->top, index / 64 / 64);
}

/*
 * There is nothing below any more: clear the bit above, and set it again if
 * something has come meanwhile.
 */
static void clear_above(uint64_t *above, uint32_t n, const uint64_t *below)
{
	__atomic_fetch_and(above, ~BIT(n), __ATOMIC_SEQ_CST);
	if (__atomic_load_n(below, __ATOMIC_SEQ_CST))
		ready_set_bit(above, n);
}

/* The first word of low from w on, but not the first of all, that has a bit from n on; -1. */
static int find(struct ready_set *set, uint32_t w, unsigned int n)
{
	unsigned int m = w / 64, i = w % 64, bit;
	uint64_t mid, low;

	for (;; m++, i = 0) {
		bit = ready_next_bit(__atomic_load_n(&set->top, __ATOMIC_SEQ_CST), m);
		if (bit >= READY_BITS / 64 / 64)
			return -1;
		if (bit != m)
			i = 0;
		m = bit;
		mid = __atomic_load_n(&set->mid[m], __ATOMIC_SEQ_CST);
		if (!mid)
			clear_above(&set->top, m, &set->mid[m]);
		while ((i = ready_next_bit(mid, i)) < 64) {
			low = __atomic_load_n(&set->low[m * 64 + i], __ATOMIC_SEQ_CST);
			if (!low)
				clear_above(&set->mid[m], i, &set->low[m * 64 + i]);
			else if (ready_next_bit(low, m * 64 + i == w ? n : 0) < 64)
				return m * 64 + i;
			i++;
		}
	}
}

int ready_find_far(struct ready_set *set, uint32_t from)
{
	unsigned int bit;
	int w;

	while (from < READY_BITS) {
		w = find(set, from / 64, from % 64);
		if (w < 0)
			return -1;
		if ((uint32_t)w != from / 64)
			from = w * 64;
		bit = ready_next_bit(__atomic_load_n(&set->low[w], __ATOMIC_SEQ_CST), from % 64);
		if (bit < 64)
			return w * 64 + bit;
	}
	return -1;
}

bool ready_clear_far(struct ready_set *set, uint32_t index)
{
	uint64_t *low = &set->low[index / 64], *mid = &set->mid[index / 64 / 64];
	uint64_t was = __atomic_fetch_and(low, ~BIT(index), __ATOMIC_SEQ_CST);

	if (was == BIT(index))
		clear_above(mid, index / 64, low);
	if (!__atomic_load_n(mid, __ATOMIC_SEQ_CST))
		clear_above(&set->top, index / 64 / 64, mid);
	return was & BIT(index);
}

int ready_take(struct ready_set *set, uint32_t *from)
{
	int index;

	do
		index = ready_find(set, *from);
	while (index >= 0 && !ready_clear(set, index));
	if (index >= 0)
		*from = index + 1;
	return index;
}
