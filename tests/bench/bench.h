/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the files of the benchmark share. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Something that must be so, or no figure means anything. */
#define MUST(cond)                                             \
	do {                                                   \
		if (!(cond))                                   \
			bench_fail(__FILE__, __LINE__, #cond); \
	} while (0)

void bench_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* --- figures.c */

/* Where the two sides run. */
enum pinning { ONE_CPU, TWO_CPUS, FREE, NR_PLACES };

extern const char *const place_names[NR_PLACES];

/* What a figure counts as. */
enum kind {
	KIND_FLOOR,   /* instructions that no call can do without */
	KIND_RPAL,    /* this library */
	KIND_KERNEL,  /* sleeps in the kernel until it is woken */
	KIND_POLLING, /* burns its CPU while it waits */
};

/**
 * struct figure - one thing that was measured, in ticks of the TSC
 * @name:	what
 * @kind:	what it counts as
 * @place:	where
 * @size:	bytes of payload
 * @batch:	so many were timed together, and divided
 * @samples:	of one repeat
 * @median:	of the repeat whose median is in the middle, as @p99 and @p999
 * @p99:	99 of 100 are not above
 * @p999:	999 of 1000 are not above
 * @min:	of all repeats
 */
struct figure {
	char name[40];
	enum kind kind;
	enum pinning place;
	size_t size;
	unsigned int batch;
	unsigned int samples;
	double median;
	double p99;
	double p999;
	double min;
};

/**
 * struct job - how something is measured
 * @name:	what
 * @kind:	what it counts as
 * @place:	where
 * @size:	bytes of payload
 * @batch:	how many are timed together
 * @samples:	how often, in each repeat
 * @once:	does it @batch times; ticks, with the timer's overhead
 * @arg:	for it
 */
struct job {
	const char *name;
	enum kind kind;
	enum pinning place;
	size_t size;
	unsigned int batch;
	unsigned int samples;
	uint64_t (*once)(void *arg, unsigned int batch);
	void *arg;
};

/* One part-th of the samples is to be taken. */
void figures_init(unsigned int part);
/* Measure, and keep. May be done in a child of fork(). */
void figures_measure(const struct job *job);
/* The first figure from *i on, or NULL; *i is then behind it. */
const struct figure *figures_next(unsigned int *i);
/* That one, NULL if it was not measured. */
const struct figure *figures_find(const char *name, enum pinning place, size_t size);
/* The fastest round trip of 32 bytes by way of the kernel at a place, or NULL. */
const struct figure *figures_best_kernel(enum pinning place);
/* The median, or 0 if it was not measured. */
double figures_median(const char *name, enum pinning place, size_t size);

/* --- machine.c */

/* The CPU of the first (0) or second (1) side; the same one if there is only one. */
int machine_cpu(int side);
bool machine_has_two_cpus(void);
bool machine_has_pku(void);
/* By QEMU, in software: targets make no sense. */
bool machine_is_emulated(void);
/* Have the calling process run where this side does at a place. */
void machine_pin(enum pinning place, int side);
/* The calling process is ended if it does not say this again for a long time. */
void machine_is_alive(void);
/* In a child of its own. */
void machine_in_child(void (*fn)(void));

/* --- the jobs; SMALL bytes are the message of all round trips */

#define SMALL	    32
#define MAX_PAYLOAD (1U << 20)

extern const size_t payload_sizes[];
extern const unsigned int nr_payload_sizes;

/* Fewer of what takes long. */
unsigned int payload_samples(size_t size);

void floor_measure(void);
void calls_measure(void);
void messages_measure(void);
void kernel_measure(void);

/* What the messages' steady state costs in system calls; see shared.h. */
struct entered {
	unsigned int messages; /* round trips looked at */
	unsigned int entered;  /* system calls that these have made */
};

/* --- report.c, table.c */

int report_write(const char *path);
/* Columns for plotting: PREFIX-small.tsv and PREFIX-payload.tsv. */
int report_columns(const char *prefix);
void table_print(void);

/**
 * struct target - a ratio that is aimed at
 * @name:	what
 * @value:	measured
 * @limit:	aimed at
 * @at_least:	it is to be above, else below
 */
struct target {
	const char *name;
	double value;
	double limit;
	bool at_least;
};

#define NR_TARGETS 8
/* How many there are, of NR_TARGETS at most. */
int targets_get(struct target *t);
bool target_met(const struct target *t);

#endif /* BENCH_H */
