/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The time-stamp counter as a clock, and what it costs to read. */
#ifndef BENCH_TIMER_H
#define BENCH_TIMER_H

#include <stdint.h>
#include <x86intrin.h>

/**
 * struct timer - what is known of the clock
 * @hz:		its ticks in a second
 * @overhead:	ticks between timer_begin() and timer_end() with nothing in between:
 *		the median, which is taken from all that is measured
 * @step:	the smallest difference between two readings that is not 0
 */
struct timer {
	uint64_t hz;
	uint64_t overhead;
	uint64_t step;
};

extern struct timer timer;

void timer_init(void);

/* Nothing of before is still running, and nothing of after has begun. */
static inline uint64_t timer_begin(void)
{
	uint64_t now;

	_mm_lfence();
	now = __rdtsc();
	_mm_lfence();
	return now;
}

/* RDTSCP waits for what is before it. */
static inline uint64_t timer_end(void)
{
	unsigned int cpu;
	uint64_t now = __rdtscp(&cpu);

	_mm_lfence();
	return now;
}

#endif /* BENCH_TIMER_H */
