// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-calls [ROUNDS]: round trips of 32 bytes between two processes, side by
 * side in one run: an RPAL call, an RPAL call whose procedure makes a system
 * call (so that it is handed over to the receiver's own task), and a Unix
 * socket with epoll on both sides. Each with both processes on one CPU, and
 * with each on its own. One line per place:
 *
 *	bench: name=calls cpus=1 fast_ns=MEDIAN/P99 lazy_ns=... epoll_ns=...
 */
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#include <rpal/rpal.h>

#define SOCKET "@bench-calls"
#define LEN    32

enum { P_FAST = 1, P_LAZY };

static void init(void)
{
	if (rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

/* ------------------------------------------------------------------- server */

static int64_t procedure(void *arg, size_t len, const struct rpal_caller *caller, void *lazy)
{
	u64 *message = arg;

	(void)len, (void)caller;
	if (lazy)
		syscall(SYS_getppid);
	return message[0] + message[LEN / 8 - 1];
}

static void *receiver(void *unused)
{
	(void)unused;
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return NULL;
}

static int one_event(int epoll)
{
	struct epoll_event event;

	while (epoll_wait(epoll, &event, 1, -1) != 1)
		MUST(errno == EINTR);
	return event.data.fd;
}

static int epoll_on(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	MUST(epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	return epoll;
}

static int server_role(void)
{
	u64 message[LEN / 8];
	pthread_t thread;
	int fd, sock, epoll;

	test_pin(atoi(test_arg));
	init();
	MUST(!rpal_export(P_FAST, procedure, NULL));
	MUST(!rpal_export(P_LAZY, procedure, (void *)1));
	MUST(!pthread_create(&thread, NULL, receiver, NULL));
	fd = rpal_listen(SOCKET);
	MUST(fd >= 0);
	MUST(rpal_accept(fd, -1, &sock) > 0);
	epoll = epoll_on(sock);
	while (read(one_event(epoll), message, LEN) == LEN) {
		message[1] = message[0] + message[LEN / 8 - 1];
		MUST(write(sock, message, LEN) == LEN);
	}
	return 0;
}

/* ------------------------------------------------------------------- client */

static int server, sock, epoll;

static void by_call(int procedure_nr, u64 *message)
{
	int64_t sum;

	MUST(!rpal_call(server, procedure_nr, message, LEN, &sum));
	MUST(sum == (int64_t)(message[0] + message[LEN / 8 - 1]));
}

static void by_socket(u64 *message)
{
	u64 sum = message[0] + message[LEN / 8 - 1];

	MUST(write(sock, message, LEN) == LEN);
	MUST(read(one_event(epoll), message, LEN) == LEN);
	MUST(message[1] == sum);
}

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

struct figure {
	u64 median, p99;
};

static u64 ticks_per_us;

static struct figure measure(int way, unsigned int rounds)
{
	u64 *times = calloc(rounds, sizeof(*times)), message[LEN / 8] = {}, begin;
	struct figure f;
	unsigned int i;

	MUST(times);
	for (i = 0; i < rounds; i++) {
		message[0] = i;
		message[LEN / 8 - 1] = i * 3;
		begin = __rdtsc();
		if (way)
			by_call(way, message);
		else
			by_socket(message);
		times[i] = __rdtsc() - begin;
	}
	qsort(times, rounds, sizeof(*times), by_value);
	f.median = times[rounds / 2] * 1000 / ticks_per_us;
	f.p99 = times[rounds * 99UL / 100] * 1000 / ticks_per_us;
	free(times);
	return f;
}

static int client_role(void)
{
	unsigned int rounds = strtoul(strchr(test_arg, ',') + 1, NULL, 0);
	u64 ticks = __rdtsc(), ns = test_now_ns();
	struct figure fast, lazy, socket;

	while (test_now_ns() - ns < 100000000)
		;
	ticks_per_us = (__rdtsc() - ticks) / 100000;
	test_pin(atoi(test_arg));
	init();
	server = rpal_connect(SOCKET, 60000, &sock);
	MUST(server > 0);
	epoll = epoll_on(sock);
	measure(P_LAZY, 100);
	fast = measure(P_FAST, rounds);
	lazy = measure(P_LAZY, rounds);
	socket = measure(0, rounds);
	printf("bench: name=calls cpus=%d rounds=%u fast_ns=%lu/%lu lazy_ns=%lu/%lu epoll_ns=%lu/%lu epoll_by_fast=%.1f lazy_by_epoll=%.2f\n",
	       1 + atoi(test_arg), rounds, fast.median, fast.p99, lazy.median, lazy.p99,
	       socket.median, socket.p99, (double)socket.median / fast.median,
	       (double)lazy.median / socket.median);
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
