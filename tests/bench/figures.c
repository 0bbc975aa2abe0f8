// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Measuring something often enough, and keeping what came out. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "histogram.h"
#include "shared.h"

#define REPEATS 5

/* Parts of a tick, for what was timed in batches. */
#define PARTS 64

const char *const place_names[NR_PLACES] = { "one-cpu", "two-cpus", "unpinned" };

void figures_init(unsigned int part)
{
	shared->part = part ? part : 1;
}

static void run(const struct job *job, unsigned int samples, struct histogram *h)
{
	uint64_t ticks;

	histogram_clear(h);
	while (samples--) {
		ticks = job->once(job->arg, job->batch);
		ticks = ticks > timer.overhead ? ticks - timer.overhead : 0;
		histogram_add(h, ticks * PARTS / job->batch);
	}
}

static int by_median(const void *a, const void *b)
{
	const struct figure *x = a, *y = b;

	return x->median < y->median ? -1 : x->median > y->median;
}

static double quantile(const struct histogram *h, unsigned int per_mille)
{
	return (double)histogram_quantile(h, per_mille) / PARTS;
}

void figures_measure(const struct job *job)
{
	static struct histogram h;
	struct figure repeat[REPEATS] = {}, *f = &repeat[REPEATS / 2];
	unsigned int samples = job->samples / shared->part + 1;
	double min = 0;
	int i;

	machine_is_alive();
	run(job, samples / 4 + 1, &h); /* to be warm */
	for (i = 0; i < REPEATS; i++) {
		run(job, samples, &h);
		repeat[i].median = quantile(&h, 500);
		repeat[i].p99 = quantile(&h, 990);
		repeat[i].p999 = quantile(&h, 999);
		if (!i || (double)h.min / PARTS < min)
			min = (double)h.min / PARTS;
	}
	qsort(repeat, REPEATS, sizeof(repeat[0]), by_median);
	strncpy(f->name, job->name, sizeof(f->name) - 1);
	f->kind = job->kind;
	f->place = job->place;
	f->size = job->size;
	f->batch = job->batch;
	f->samples = samples;
	f->min = min;
	MUST(shared->n < MAX_FIGURES);
	shared->figure[shared->n++] = *f;
}

const struct figure *figures_next(unsigned int *i)
{
	return *i < shared->n ? &shared->figure[(*i)++] : NULL;
}

const struct figure *figures_find(const char *name, enum pinning place, size_t size)
{
	const struct figure *f;
	unsigned int i = 0;

	while ((f = figures_next(&i)))
		if (!strcmp(f->name, name) && f->place == place && f->size == size)
			return f;
	return NULL;
}

const struct figure *figures_best_kernel(enum pinning place)
{
	const struct figure *f, *best = NULL;
	unsigned int i = 0;

	while ((f = figures_next(&i)))
		if (f->kind == KIND_KERNEL && f->place == place && f->size == SMALL &&
		    (!best || f->median < best->median))
			best = f;
	return best;
}

double figures_median(const char *name, enum pinning place, size_t size)
{
	const struct figure *f = figures_find(name, place, size);

	return f ? f->median : 0;
}
