// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The other half of the demonstration: sends messages of 32 bytes, waits for
 * the answer to each, checks it, and shows how long that took.
 *
 * usage: demo_client [MESSAGES]
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <rpal/rpal.h>

#include "demo.h"

#define WARM_UP 500
#define PROBE	3000

static int server, sock, epfd;
static int errors;

struct sample {
	uint32_t one_way; /* in ticks of the time stamp counter */
	uint32_t round_trip;
};

struct result {
	double one_way_median, one_way_p99; /* in nanoseconds */
	double median, p99;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "demo_client: %s: %s\n", what, why);
	exit(1);
}

/* --- one message each way */

static void by_socket(struct demo_call *call)
{
	struct epoll_event ev;
	int n;

	if (write(sock, &call->request, DEMO_LEN) != DEMO_LEN)
		die("write", "the server has gone");
	do
		n = epoll_wait(epfd, &ev, 1, -1);
	while (n < 0 && errno == EINTR);
	if (n != 1 || read(sock, &call->reply, DEMO_LEN) != DEMO_LEN)
		die("read", "the server has gone");
}

static void by_call(struct demo_call *call)
{
	int64_t number;
	int err;

	err = rpal_call_flags(server, DEMO_PROCEDURE, call, sizeof(*call), &number,
			      RPAL_CALL_GRANT_WRITE);
	if (err)
		die("rpal_call", rpal_last_error());
	if ((uint64_t)number != call->request.number)
		errors++;
}

static void exchange(void (*by)(struct demo_call *), uint64_t number, struct sample *sample)
{
	struct demo_call call = {
		.request = { .number = number, .check = demo_check(number, DEMO_REQUEST) },
	};
	uint64_t end;

	call.request.sent = __rdtsc();
	by(&call);
	end = __rdtsc();
	if (call.reply.number != number || call.reply.sent != call.request.sent ||
	    call.reply.check != demo_check(number, DEMO_REPLY))
		errors++;
	sample->one_way = call.reply.received - call.request.sent;
	sample->round_trip = end - call.request.sent;
}

/* --- time and order */

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile(uint32_t *sorted, int n, double q)
{
	return sorted[(int)((n - 1) * q)];
}

static struct result evaluate(const struct sample *samples, int n, double ns_per_tick)
{
	uint32_t *v = malloc(n * sizeof(*v));
	struct result r;
	int i;

	if (!v)
		die("malloc", "out of memory");
	for (i = 0; i < n; i++)
		v[i] = samples[i].one_way;
	qsort(v, n, sizeof(*v), compare);
	r.one_way_median = quantile(v, n, 0.5) * ns_per_tick;
	r.one_way_p99 = quantile(v, n, 0.99) * ns_per_tick;
	for (i = 0; i < n; i++)
		v[i] = samples[i].round_trip;
	qsort(v, n, sizeof(*v), compare);
	r.median = quantile(v, n, 0.5) * ns_per_tick;
	r.p99 = quantile(v, n, 0.99) * ns_per_tick;
	free(v);
	return r;
}

static void progress(const char *what, int done, int n)
{
	if (done % (n / 5 ? n / 5 : 1) && done != n)
		return;
	printf("  %s: %3d %%\n", what, (int)(100LL * done / n));
	fflush(stdout);
}

static struct result run(const char *what, void (*by)(struct demo_call *), int n)
{
	struct sample *samples = malloc(n * sizeof(*samples)), warm;
	double start_ns, ns;
	struct result r;
	uint64_t start;
	int i;

	if (!samples)
		die("malloc", "out of memory");
	for (i = 0; i < WARM_UP; i++)
		exchange(by, i, &warm);
	start_ns = now_ns();
	start = __rdtsc();
	for (i = 0; i < n; i++) {
		exchange(by, i, &samples[i]);
		if (what)
			progress(what, i + 1, n);
	}
	ns = now_ns() - start_ns;
	r = evaluate(samples, n, ns / (__rdtsc() - start));
	free(samples);
	return r;
}

/* --- the baseline gets the placement that suits it better */

static pid_t server_pid(void)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		die("getsockopt", "no credentials");
	return cred.pid;
}

/* On one CPU or free. The server's main thread answers its socket. */
static void pin(bool one_cpu, const cpu_set_t *all)
{
	cpu_set_t set = *all;
	int cpu;

	if (one_cpu) {
		CPU_ZERO(&set);
		for (cpu = 0; !CPU_ISSET(cpu, all); cpu++)
			;
		CPU_SET(cpu, &set);
	}
	if (sched_setaffinity(0, sizeof(set), &set) ||
	    sched_setaffinity(server_pid(), sizeof(set), &set))
		die("sched_setaffinity", "not permitted");
}

static bool better_on_one_cpu(const cpu_set_t *all)
{
	double free_ns, one_ns;

	pin(false, all);
	free_ns = run(NULL, by_socket, PROBE).median;
	pin(true, all);
	one_ns = run(NULL, by_socket, PROBE).median;
	return one_ns < free_ns;
}

static void show(const char *what, const struct result *r)
{
	printf("%-22s %10.0f %10.0f %12.0f %10.0f\n", what, r->one_way_median, r->one_way_p99,
	       r->median, r->p99);
}

static void connect_all(void)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (rpal_init(1, 0, NULL) < 0)
		die("rpal_init", rpal_last_error());
	server = rpal_connect(DEMO_SOCKET, 60000, &sock);
	if (server < 0)
		die("rpal_connect", rpal_last_error());
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, sock, &ev))
		die("epoll", "not possible");
}

static const char *kernel(void)
{
	static struct utsname u;
	const char *name = getenv("RPAL_KERNEL");

	if (name)
		return name;
	uname(&u);
	return u.release;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100000;
	struct result epoll, rpal;
	cpu_set_t all;
	bool one_cpu;

	if (n < 1) {
		fprintf(stderr, "usage: demo_client [MESSAGES]\n");
		return 2;
	}
	sched_getaffinity(0, sizeof(all), &all);
	connect_all();
	printf("demo: %d messages of %d bytes each way, two processes, kernel %s\n", n, DEMO_LEN,
	       kernel());

	one_cpu = better_on_one_cpu(&all);
	pin(one_cpu, &all);
	epoll = run("socket + epoll", by_socket, n);
	pin(false, &all);
	rpal = run("RPAL call", by_call, n);

	printf("\n%-22s %21s %23s\n", "nanoseconds", "one way", "round trip");
	printf("%-22s %10s %10s %12s %10s\n", "", "median", "p99", "median", "p99");
	show("Unix socket + epoll", &epoll);
	show("RPAL call", &rpal);
	printf("\nThe socket's two processes ran %s, which is faster here.\n",
	       one_cpu ? "on one CPU" : "on any CPU");
	if (getenv("RPAL_KERNEL"))
		printf("These are figures of an emulated machine: they compare, but say little\n"
		       "about real ones.\n");
	if (errors)
		printf("%d messages were not what they should be\n", errors);
	printf("demo: kernel=%s len=%d messages=%d epoll_rtt_ns=%.0f rpal_rtt_ns=%.0f ratio=%.1f\n",
	       kernel(), DEMO_LEN, n, epoll.median, rpal.median, epoll.median / rpal.median);
	return errors ? 1 : 0;
}
