// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * CPU time of called code is charged to the receiver, and none is made or lost.
 *
 * What both processes have used is compared with what the scheduler says that
 * their cgroup has used, which the module does not touch.
 */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <x86intrin.h>

#include <rpal/rpal.h>

#define SOCKET	"@call-time"
#define CGROUP	"/tmp/call-time-cgroup"
#define ACCOUNT "/sys/module/rpal/parameters/account"
#define SECOND	1000000000LL
#define WORK	(2 * SECOND)

/* ------------------------------------------------------------------- server */

static void spin(u64 ticks)
{
	u64 end = __rdtsc() + ticks;

	while (__rdtsc() < end)
		;
}

/* Without entering the kernel, for as many ticks of the TSC as the argument says. */
static int64_t spin_procedure(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)caller, (void)ctx;
	if (len != sizeof(u64))
		return -1;
	spin(*(u64 *)arg);
	return 0;
}

static void init(void)
{
	if (rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

static void *serve(void *unused)
{
	(void)unused;
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return NULL;
}

static int server_role(void)
{
	pthread_t thread;
	int fd, sock;

	test_pin(0);
	init();
	MUST(!rpal_export(1, spin_procedure, NULL));
	MUST(!pthread_create(&thread, NULL, serve, NULL));
	fd = rpal_listen(SOCKET);
	MUST(fd >= 0);
	test_send_u64(TEST_FD_DRIVER, 0);
	for (;;)
		MUST(rpal_accept(fd, -1, &sock) > 0);
}

/* ------------------------------------------------------------------- client */

static int server;

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	MUST(!clock_gettime(clock, &ts));
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

static u64 ticks_per_second(void)
{
	u64 ticks = __rdtsc(), ns = test_now_ns();

	while (test_now_ns() - ns < SECOND / 10)
		;
	return (__rdtsc() - ticks) * 10;
}

static void call(u64 ticks)
{
	int64_t result = -1;
	int err = rpal_call(server, 1, &ticks, sizeof(ticks), &result);

	CHECK(!err && !result, "%d, %ld: %s", err, (long)result, rpal_last_error());
}

/* Calls of all lengths, until the calls have taken so many ticks. */
static void calls(u64 ticks, u64 second)
{
	u64 one;

	while (ticks) {
		one = second / 10000 * (1 + test_random() % 500);
		if (one > ticks)
			one = ticks;
		call(one);
		ticks -= one;
	}
}

/* A clock that a thread reads between its calls never goes back. */
static void clocks(u64 second)
{
	int64_t last = 0, now, worst = 0;
	u64 i;

	test_begin("a caller's clock does not go back");
	for (i = 0; i < 4000; i++) {
		call(second / 10000 * (test_random() % 16 ? 3 : 80));
		if (test_random() % 4)
			continue;
		now = clock_ns(i % 3 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID);
		if (now - last < worst && i % 3)
			worst = now - last;
		if (i % 3)
			last = now;
	}
	CHECK(worst >= 0, "%ld ns", (long)worst);
	test_end();
}

static int client_role(void)
{
	u64 second, work;

	/* Away from the server's own task, if that is possible. */
	test_pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	init();
	server = rpal_connect(SOCKET, 60000, NULL);
	MUST(server > 0);
	second = ticks_per_second();
	test_send_u64(TEST_FD_DRIVER, 0);
	/* Told how long to call, in ns; 0 is the end. */
	while ((work = test_recv_u64(TEST_FD_DRIVER))) {
		calls(second * work / SECOND, second);
		test_send_u64(TEST_FD_DRIVER, 0);
	}
	clocks(second);
	return 0;
}

/* ------------------------------------------------------------------- driver */

static struct test_child s, c;

/* What a process has used, by the exact clock and as user time by /proc. */
struct used {
	int64_t ns;
	int64_t user_ns;
};

static struct used used_by(pid_t pid)
{
	unsigned long user = 0;
	char path[64];
	clockid_t clock;
	struct used u;
	FILE *f;

	MUST(!clock_getcpuclockid(pid, &clock));
	u.ns = clock_ns(clock);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	MUST(f);
	MUST(fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &user) == 1);
	fclose(f);
	u.user_ns = user * (SECOND / sysconf(_SC_CLK_TCK));
	return u;
}

/* Both processes into a cgroup of their own; false if there is none. */
static bool together(void)
{
	char pid[16];

	mkdir(CGROUP, 0755);
	if (mount("none", CGROUP, "cgroup2", 0, NULL))
		return false;
	mkdir(CGROUP "/both", 0755);
	snprintf(pid, sizeof(pid), "%d", s.pid);
	if (!test_write_file(CGROUP "/both/cgroup.procs", pid))
		return false;
	snprintf(pid, sizeof(pid), "%d", c.pid);
	return test_write_file(CGROUP "/both/cgroup.procs", pid);
}

static int64_t cgroup_ns(void)
{
	return test_file_value(CGROUP "/both/cpu.stat", "usage_usec") * 1000LL;
}

struct shares {
	struct used server, client;
	int64_t cgroup;
};

static struct shares shares(void)
{
	return (struct shares){ used_by(s.pid), used_by(c.pid), cgroup_ns() };
}

static struct shares work(void)
{
	struct shares before = shares(), after;

	test_send_u64(c.sock, WORK);
	test_recv_u64(c.sock);
	usleep(200000); /* both are asleep again */
	after = shares();
	after.server.ns -= before.server.ns;
	after.server.user_ns -= before.server.user_ns;
	after.client.ns -= before.client.ns;
	after.client.user_ns -= before.client.user_ns;
	after.cgroup -= before.cgroup;
	printf("# server %ld ms (user %ld), client %ld ms (user %ld), cgroup %ld ms\n",
	       after.server.ns / 1000000, after.server.user_ns / 1000000, after.client.ns / 1000000,
	       after.client.user_ns / 1000000, after.cgroup / 1000000);
	return after;
}

/* Of what the scheduler has seen nothing is missing, and nothing is twice there. */
static void conserved(const struct shares *w)
{
	int64_t both = w->server.ns + w->client.ns;
	int64_t slack = 20000000;

	CHECK(both < w->cgroup + slack && both > w->cgroup - slack, "%ld ms of %ld ms",
	      both / 1000000, w->cgroup / 1000000);
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

static void start(struct test_child *child, const char *role)
{
	struct test_spawn spawn = { .role = role, .group = "time" };

	MUST(!test_spawn(child, &spawn));
	test_recv_u64(child->sock);
}

int main(int argc, char **argv)
{
	struct shares w;
	int status;

	test_init(argc, argv, roles);
	start(&s, "server");
	start(&c, "client");
	MUST(together());

	test_begin("the receiver is charged");
	w = work();
	CHECK(w.server.ns * 10 > w.cgroup * 8, "%ld of %ld ns", w.server.ns, w.cgroup);
	CHECK(w.server.user_ns * 10 > w.cgroup * 7, "%ld of %ld ns", w.server.user_ns, w.cgroup);
	conserved(&w);
	test_end();

	test_begin("with account=0 the caller is charged");
	MUST(test_write_file(ACCOUNT, "0"));
	w = work();
	MUST(test_write_file(ACCOUNT, "1"));
	CHECK(w.client.ns * 10 > w.cgroup * 8, "%ld of %ld ns", w.client.ns, w.cgroup);
	CHECK(w.server.user_ns * 10 < w.cgroup, "%ld of %ld ns", w.server.user_ns, w.cgroup);
	conserved(&w);
	test_end();

	test_send_u64(c.sock, 0);
	status = test_wait(c.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&s);
	rmdir(CGROUP "/both");
	umount(CGROUP);
	return test_finish();
}
