/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* How often was which value: buckets whose width grows with the value. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

/* Each power of two has this many buckets: a value is kept to 0.4 %. */
#define HISTOGRAM_SUB_BITS 8
#define HISTOGRAM_SUB	   (1U << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS  ((64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB)

struct histogram {
	uint64_t n;
	uint64_t min;
	uint32_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
/* The value that @per_mille of all do not exceed, as the middle of its bucket. */
uint64_t histogram_quantile(const struct histogram *h, unsigned int per_mille);

#endif /* BENCH_HISTOGRAM_H */
