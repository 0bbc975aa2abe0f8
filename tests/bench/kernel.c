// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What two processes have without RPAL: a round trip of 32 bytes, and payloads
 * with an answer of 32 bytes, between a process and its child. What it goes by is
 * in lines.c.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "lines.h"
#include "timer.h"

#define SAMPLES 1500

/**
 * struct session - one way between two processes
 * @way:	which
 * @line:	own end
 * @out:	what is sent
 * @len:	its length
 * @number:	of the message
 */
struct session {
	const struct way *way;
	struct line line;
	uint64_t *out;
	size_t len;
	uint64_t number;
};

/* What comes says how long it is to be next time, so one child does for all. */
enum { W_NUMBER, W_NEXT_LEN, W_ANSWER };

static void server(struct session *s)
{
	static uint64_t in[MAX_PAYLOAD / 8];
	uint64_t answer[SMALL / 8] = {};
	size_t len = SMALL;

	for (;;) {
		s->way->take(&s->line, in, len);
		answer[W_ANSWER] = in[W_NUMBER] + in[len / 8 - 1];
		len = in[W_NEXT_LEN];
		s->way->put(&s->line, answer, SMALL);
	}
}

static void exchange(struct session *s, size_t next_len)
{
	uint64_t answer[SMALL / 8];

	s->out[W_NEXT_LEN] = next_len;
	s->out[W_NUMBER] = s->number++;
	s->out[s->len / 8 - 1] = s->number;
	s->way->put(&s->line, s->out, s->len);
	s->way->take(&s->line, answer, SMALL);
	MUST(answer[W_ANSWER] == 2 * s->number - 1);
	s->len = next_len;
}

static uint64_t round_trip(void *arg, unsigned int batch)
{
	struct session *s = arg;
	uint64_t begin = timer_begin();

	(void)batch;
	exchange(s, s->len);
	return timer_end() - begin;
}

static void measure(struct session *s, enum pinning place, unsigned int samples)
{
	const struct job job = {
		.name = s->way->name,
		.kind = s->way->polling ? KIND_POLLING : KIND_KERNEL,
		.place = place,
		.size = s->len,
		.batch = 1,
		.samples = samples,
		.once = round_trip,
		.arg = s,
	};

	figures_measure(&job);
}

static bool has_sense(const struct way *way, enum pinning place)
{
	if (place == TWO_CPUS && !machine_has_two_cpus())
		return false;
	return !way->polling || (way->yields ? place == ONE_CPU : place == TWO_CPUS);
}

static pid_t start(struct session *s, enum pinning place)
{
	pid_t pid;

	line_open(&s->line, s->way);
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		machine_pin(place, 1);
		s->line.side = 1;
		if (s->way->begin)
			s->way->begin(&s->line);
		server(s);
	}
	machine_pin(place, 0);
	if (s->way->begin)
		s->way->begin(&s->line);
	return pid;
}

static void run(const struct way *way, enum pinning place)
{
	static uint64_t out[MAX_PAYLOAD / 8];
	struct session s = { .way = way, .out = out, .len = SMALL };
	pid_t pid = start(&s, place);
	unsigned int i;

	measure(&s, place, SAMPLES);
	for (i = 0; way->payloads && place != FREE && i < nr_payload_sizes; i++) {
		if (payload_sizes[i] == SMALL)
			continue;
		exchange(&s, payload_sizes[i]);
		measure(&s, place, payload_samples(s.len));
	}
	kill(pid, SIGKILL);
	MUST(waitpid(pid, NULL, 0) == pid);
	line_close(&s.line, way);
}

static void all_ways(void)
{
	const struct way *way;
	enum pinning place;

#ifndef HAVE_URING
	printf("io_uring is not measured: liburing-dev was not there when this was built\n");
#endif
	if (!machine_has_two_cpus())
		printf("only one CPU may be used: nothing is measured on two\n");
	for (way = ways; way->name; way++) {
		if (way->usable && !way->usable()) {
			printf("%s: not measured, the kernel refuses it\n", way->name);
			continue;
		}
		for (place = 0; place < NR_PLACES; place++)
			if (has_sense(way, place))
				run(way, place);
	}
}

void kernel_measure(void)
{
	machine_in_child(all_ways);
}
