// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A round trip of messages without the kernel: one thread on each side, which is
 * sender and receiver, asks by rpal_write_ptrs() and is answered by
 * rpal_write_ptrs(), and both wait in rpal_epoll_wait(). The kernel counts the
 * system calls of both processes; between two marks there are none.
 */
#include "call.h"

#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define WARM	500
#define ROUNDS	10000
#define TRACING "/sys/kernel/tracing/"
#define EVENT	TRACING "events/raw_syscalls/sys_enter/"
/*
 * For the names of tasks the kernel would begin to trace the scheduler, too: that
 * is code which is run while it is patched, and the emulator trips over it.
 */
#define NAMES TRACING "options/record-cmd"

enum { STARTS, WARMED, GO, DONE, END };

struct shared {
	volatile int phase;
	volatile int server_pid;
	volatile int wrong;
};

static struct shared *shared;
static int epoll, sock, peer;
static uint64_t handle;

/* Without system calls: they are what is counted. */
static void wait_for_phase(int phase)
{
	while (__atomic_load_n(&shared->phase, __ATOMIC_ACQUIRE) < phase)
		test_pause();
}

static void set_phase(int phase)
{
	__atomic_store_n(&shared->phase, phase, __ATOMIC_RELEASE);
}

static void prepare(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };

	epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(epoll >= 0 && !rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &ev));
	MUST(!rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, &handle, test_patience() * 1000));
}

static void init(void)
{
	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	call_init(1);
	MUST(!rpal_thread_init());
}

static int server_role(void)
{
	struct epoll_event ev;
	int64_t words[4];
	int fd;

	init();
	shared->server_pid = getpid();
	fd = rpal_listen(test_arg);
	MUST(fd >= 0);
	peer = rpal_accept(fd, -1, &sock);
	MUST(peer > 0);
	prepare();
	for (;;) {
		if (rpal_epoll_wait(epoll, &ev, 1, -1) != 1)
			continue;
		if (!(ev.events & EPOLLRPALIN))
			return 0; /* the client has ended */
		while (rpal_read_ptrs(sock, words, 4) == 4) {
			words[3] = words[0] * 3;
			MUST(rpal_write_ptrs(peer, handle, words, 4) == 4);
		}
	}
}

static void rounds(int n)
{
	struct epoll_event ev;
	int64_t i;

	for (i = 0; i < n; i++) {
		int64_t words[4] = { i }, back[4] = {};

		if (rpal_write_ptrs(peer, handle, words, 4) != 4 ||
		    rpal_epoll_wait(epoll, &ev, 1, -1) != 1 || ev.events != EPOLLRPALIN ||
		    rpal_read_ptrs(sock, back, 4) != 4 || back[0] != i || back[3] != i * 3)
			shared->wrong++;
	}
}

static int client_role(void)
{
	init();
	peer = rpal_connect(test_arg, test_patience() * 1000, &sock);
	MUST(peer > 0);
	prepare();
	rounds(WARM);
	set_phase(WARMED);
	wait_for_phase(GO);
	rounds(ROUNDS);
	set_phase(DONE);
	wait_for_phase(END);
	return shared->wrong != 0;
}

/* ------------------------------------------------------------------- driver */

/* System calls of all tasks of a process since counting began. */
static long calls_of(pid_t pid)
{
	char line[256], path[64];
	long sum = 0, tid, hits;
	FILE *f = fopen(EVENT "hist", "r");

	MUST(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "{ common_pid: %ld } hitcount: %ld", &tid, &hits) != 2)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%ld", pid, tid);
		if (!access(path, F_OK))
			sum += hits;
	}
	fclose(f);
	return sum;
}

static bool reach(int phase)
{
	return CHECK(call_wait_for(&shared->phase, phase), "phase %d is not reached", phase);
}

static void count(struct test_child *client)
{
	long before[2], after[2];

	if (!reach(WARMED))
		return;
	before[0] = calls_of(client->pid);
	before[1] = calls_of(shared->server_pid);
	set_phase(GO);
	if (!reach(DONE))
		return;
	after[0] = calls_of(client->pid);
	after[1] = calls_of(shared->server_pid);
	printf("stress: call-zero: %d round trips, %ld and %ld system calls; %ld and %ld before\n",
	       ROUNDS, after[0] - before[0], after[1] - before[1], before[0], before[1]);
	/* Or nothing was counted at all. */
	CHECK(before[0] > 0 && before[1] > 0, "no system call was counted");
	CHECK_IS(after[0] - before[0], 0);
	CHECK_IS(after[1] - before[1], 0);
	CHECK_IS(shared->wrong, 0);
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "call", .arg = "@call-zero" };
	struct test_child client, server;
	int status, fd;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &fd);
	s.shared = fd;
	mkdir(TRACING, 0755);
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	if (!access(EVENT "enable", R_OK) && access(EVENT "hist", R_OK)) {
		printf("skip %s: this kernel does not count events\n", test_name);
		return TEST_SKIP;
	}
	test_begin("round trips without system calls");
	test_write_file(NAMES, "0");
	test_write_file(EVENT "trigger", "hist:keys=common_pid");
	s.role = "server";
	MUST(!test_spawn(&server, &s));
	s.role = "client";
	MUST(!test_spawn(&client, &s));
	count(&client);
	set_phase(END);
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&server);
	test_write_file(EVENT "trigger", "!hist:keys=common_pid");
	test_end();
	return test_finish();
}
