/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What all processes of a run have in common, placed ones among them. */
#ifndef BENCH_SHARED_H
#define BENCH_SHARED_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench.h"
#include "peer.h"
#include "timer.h"

#define MAX_FIGURES 256

/**
 * struct shared - memory that is mapped in each of them
 * @cpus:		where all may run
 * @timer:		what is known of the clock
 * @part:		one part-th of the samples is to be taken
 * @entered:		see bench.h
 * @setup:		of the peers
 * @key:		each peer's, 0: not known yet
 * @by_the_clock:	who gets a message is to say when
 * @arrived:		it has come then
 * @n:			figures that are there
 * @figure:		they
 */
struct shared {
	cpu_set_t cpus;
	struct timer timer;
	unsigned int part;
	struct entered entered;
	struct peer_setup setup;
	uint64_t key[NR_PEERS + 1];
	bool by_the_clock __attribute__((aligned(64)));
	uint64_t arrived __attribute__((aligned(64)));
	unsigned int n __attribute__((aligned(64)));
	struct figure figure[MAX_FIGURES];
};

extern struct shared *shared;

/* In the first process. */
void shared_init(void);
/* Its descriptor, which is not inherited over exec. */
int shared_fd(void);
/* In one that has been executed, with that descriptor. */
void shared_join(int fd);

#endif /* BENCH_SHARED_H */
