// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* How often was which value: buckets whose width grows with the value. */
#include <string.h>

#include "histogram.h"

void histogram_clear(struct histogram *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

/* Small values each have their own; above, the highest bits say which. */
static unsigned int bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < 2 * HISTOGRAM_SUB)
		return value;
	shift = 63 - __builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	return (shift << HISTOGRAM_SUB_BITS) + (value >> shift);
}

static uint64_t middle_of(unsigned int bucket)
{
	unsigned int shift;
	uint64_t top;

	if (bucket < 2 * HISTOGRAM_SUB)
		return bucket;
	shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
	top = bucket - (shift << HISTOGRAM_SUB_BITS);
	return (top << shift) + (1ULL << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->bucket[bucket_of(value)]++;
	h->n++;
	if (value < h->min)
		h->min = value;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned int per_mille)
{
	uint64_t want = (h->n * per_mille + 999) / 1000, seen = 0;
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= want && seen)
			return middle_of(i);
	}
	return 0;
}
