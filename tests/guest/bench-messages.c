// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-messages [ROUNDS]: messages of 32 bytes between two event loops, side by
 * side in one run: by rpal_write_ptrs() and rpal_epoll_wait(), and by a Unix
 * socket and epoll_wait(). Round trips, one at a time, and a stream from the
 * client to the server, of which every 16th is answered. Each with both
 * processes on one CPU, and with each on its own. One line per place:
 *
 *	bench: name=messages cpus=1 rpal_rtt_ns=MEDIAN/P99 epoll_rtt_ns=... ...
 */
#include "common.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <x86intrin.h>

#include <rpal/rpal.h>

#define SOCKET "@bench-messages"
#define WORDS  4
#define STREAM 16

static int peer, sock, epoll;
static uint64_t handle;
static bool by_rpal;

static void init(void)
{
	if (rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0 ||
	    rpal_thread_init()) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

static void prepare(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRPALIN };

	epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(epoll >= 0 && !rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &event));
	MUST(!rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, &handle, 60000));
}

static uint32_t one_event(void)
{
	struct epoll_event event;
	int n;

	do
		n = by_rpal ? rpal_epoll_wait(epoll, &event, 1, -1) :
			      epoll_wait(epoll, &event, 1, -1);
	while (n < 0 && errno == EINTR);
	MUST(n == 1);
	return event.events;
}

static void put(int64_t *words)
{
	int n;

	if (!by_rpal) {
		MUST(write(sock, words, WORDS * 8) == WORDS * 8);
		return;
	}
	/* A writer of a socket would sleep; this one lets the reader run. */
	while ((n = rpal_write_ptrs(peer, handle, words, WORDS)) == -RPAL_QUEUE_PUT_FAILED)
		sched_yield();
	if (n != WORDS)
		printf("rpal_write_ptrs: %d: %s\n", n, rpal_last_error());
	MUST(n == WORDS);
}

static bool take(int64_t *words)
{
	if (by_rpal)
		return rpal_read_ptrs(sock, words, WORDS) == WORDS;
	return recv(sock, words, WORDS * 8, MSG_DONTWAIT) == WORDS * 8;
}

/* ------------------------------------------------------------------- server */

/* Words: number, is an answer wanted, how are we to go on. */
static int server_role(void)
{
	int64_t words[WORDS];
	uint32_t events;
	int fd;

	test_pin(atoi(test_arg));
	init();
	fd = rpal_listen(SOCKET);
	MUST(fd >= 0);
	peer = rpal_accept(fd, -1, &sock);
	MUST(peer > 0);
	prepare();
	by_rpal = true; /* hears of both */
	for (;;) {
		events = one_event();
		if (events & EPOLLHUP)
			return 0;
		by_rpal = events & EPOLLRPALIN;
		while (take(words)) {
			words[3] = words[0] + 1;
			if (words[1])
				put(words);
		}
		by_rpal = true;
	}
}

/* ------------------------------------------------------------------- client */

struct figure {
	u64 median, p99;
};

static u64 ticks_per_us;

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static struct figure figure_of(u64 *times, unsigned int n)
{
	struct figure f;

	qsort(times, n, sizeof(*times), by_value);
	f.median = times[n / 2] * 1000 / ticks_per_us;
	f.p99 = times[n * 99UL / 100] * 1000 / ticks_per_us;
	return f;
}

static void answer(int64_t number)
{
	int64_t words[WORDS];

	do
		one_event();
	while (!take(words));
	MUST(words[0] == number && words[3] == number + 1);
}

/* @stream messages, of which the last one is answered; per message. */
static struct figure measure(bool rpal, unsigned int rounds, unsigned int stream)
{
	u64 *times = calloc(rounds, sizeof(*times)), begin;
	struct figure f;
	unsigned int i, k;

	MUST(times);
	by_rpal = rpal;
	for (i = 0; i < rounds; i++) {
		begin = __rdtsc();
		for (k = 0; k < stream; k++) {
			int64_t words[WORDS] = { i, k == stream - 1 };

			put(words);
		}
		answer(i);
		times[i] = (__rdtsc() - begin) / stream;
	}
	f = figure_of(times, rounds);
	free(times);
	return f;
}

static int client_role(void)
{
	unsigned int rounds = strtoul(strchr(test_arg, ',') + 1, NULL, 0);
	u64 ticks = __rdtsc(), ns = test_now_ns();
	struct figure rtt[2], stream[2];
	int way;

	while (test_now_ns() - ns < 100000000)
		;
	ticks_per_us = (__rdtsc() - ticks) / 100000;
	test_pin(atoi(test_arg));
	init();
	peer = rpal_connect(SOCKET, 60000, &sock);
	MUST(peer > 0);
	prepare();
	for (way = 0; way < 2; way++) {
		measure(way, 100, 1);
		rtt[way] = measure(way, rounds, 1);
		stream[way] = measure(way, rounds / STREAM, STREAM);
	}
	printf("bench: name=messages cpus=%d rounds=%u rpal_rtt_ns=%lu/%lu epoll_rtt_ns=%lu/%lu rpal_stream_ns=%lu/%lu epoll_stream_ns=%lu/%lu epoll_by_rpal_rtt=%.1f epoll_by_rpal_stream=%.1f\n",
	       1 + atoi(test_arg), rounds, rtt[1].median, rtt[1].p99, rtt[0].median, rtt[0].p99,
	       stream[1].median, stream[1].p99, stream[0].median, stream[0].p99,
	       (double)rtt[0].median / rtt[1].median, (double)stream[0].median / stream[1].median);
	return 0;
}

/* ------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

static int bench(int client_cpu, const char *rounds)
{
	struct test_child s, c;
	struct test_spawn spawn = { .role = "server", .arg = "0", .group = "bench" };
	char arg[64];
	int status;

	MUST(!test_spawn(&s, &spawn));
	snprintf(arg, sizeof(arg), "%d,%s", client_cpu, rounds);
	spawn.role = "client";
	spawn.arg = arg;
	MUST(!test_spawn(&c, &spawn));
	status = test_wait(c.pid);
	if (status)
		printf("%s: client: %s\n", test_name, test_status(status));
	test_reap(&s);
	return status;
}

int main(int argc, char **argv)
{
	const char *rounds = argc > 1 ? argv[1] : "10000";

	test_init(argc, argv, roles);
	return bench(0, rounds) || (sysconf(_SC_NPROCESSORS_ONLN) > 1 && bench(1, rounds));
}
