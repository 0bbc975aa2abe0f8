// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The time-stamp counter as a clock, and what it costs to read. */
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "timer.h"

#define READINGS 20001
#define HZ_NS	 50000000

struct timer timer;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t measure_hz(void)
{
	uint64_t ns = now_ns(), ticks = timer_begin(), passed;

	while (now_ns() - ns < HZ_NS)
		;
	ticks = timer_end() - ticks;
	passed = now_ns() - ns;
	return (__uint128_t)ticks * 1000000000 / passed;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

void timer_init(void)
{
	static uint64_t readings[READINGS];
	uint64_t begin;
	int i;

	timer.hz = measure_hz();
	for (i = 0; i < READINGS; i++) {
		begin = timer_begin();
		readings[i] = timer_end() - begin;
	}
	qsort(readings, READINGS, sizeof(readings[0]), by_value);
	timer.overhead = readings[READINGS / 2];
	timer.step = UINT64_MAX;
	for (i = 1; i < READINGS; i++)
		if (readings[i] != readings[i - 1] && readings[i] - readings[i - 1] < timer.step)
			timer.step = readings[i] - readings[i - 1];
}
