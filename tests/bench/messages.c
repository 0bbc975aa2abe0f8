// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Messages of 32 bytes between two event loops: rpal_write_ptrs() until the
 * peer's rpal_epoll_wait() has returned, and there and back.
 */
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "shared.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON	     1
#endif

enum { CLIENT = 1, SERVER };

#define WORDS	(SMALL / 8)
#define SAMPLES 40000
#define LOOKED	10000

/* One per process: its end of the connection. */
struct end {
	int peer;
	int epoll;
	int sock;
	uint64_t handle;
};

static void connect_end(struct end *e, int peer)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRPALIN };

	peer_init(true);
	e->sock = shared->setup.sock[me->id];
	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(e->epoll >= 0);
	MUST(!me->lib->epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->sock, &event));
	e->peer = peer_service(peer);
	e->handle = (uint64_t)e->peer << 32 | e->sock;
}

static void find_peer(struct end *e)
{
	if (!me->lib->fdmap(e->handle, &e->handle, 10000))
		return;
	fprintf(stderr, "peer %u: %s\n", me->id, me->lib->last_error());
	_exit(1);
}

static int one_event(const struct end *e, struct epoll_event *event)
{
	int n;

	do
		n = me->lib->epoll_wait(e->epoll, event, 1, -1);
	while (n != 1);
	return n;
}

/* ------------------------------------------------------------------- server */

static void server(void)
{
	int64_t words[WORDS];
	struct epoll_event event;
	bool found = false;
	struct end e;

	connect_end(&e, CLIENT);
	for (;;) {
		one_event(&e, &event);
		if (shared->by_the_clock)
			shared->arrived = timer_end();
		if (me->lib->read_ptrs(e.sock, words, WORDS) != WORDS)
			continue;
		if (!words[1])
			continue;
		/* An answer is wanted. The first message says that the client is there. */
		if (!found)
			find_peer(&e);
		found = true;
		words[3] = words[0] + 1;
		MUST(me->lib->write_ptrs(e.peer, e.handle, words, WORDS) == WORDS);
	}
}

/* ------------------------------------------------------------------- client */

static uint64_t one_way(void *arg, unsigned int batch)
{
	int64_t words[WORDS] = { 4711 };
	const struct end *e = arg;
	uint64_t begin;

	(void)batch;
	begin = timer_begin();
	MUST(me->lib->write_ptrs(e->peer, e->handle, words, WORDS) == WORDS);
	MUST(shared->arrived > begin);
	return shared->arrived - begin;
}

/*
 * Until it is called, and does not find messages on its own task: there it would answer
 * by calling us, and without the module nobody brings us back from that task. If it
 * does not get to run for some time, the queue is full.
 */
static void wait_for_server(const struct end *e)
{
	const int64_t words[WORDS] = { 4711 };
	rpal_delivery_t how;
	int n;

	do {
		usleep(1000);
		n = me->lib->write_ptrs_ex(e->peer, e->handle, words, WORDS, 0, &how);
		MUST(n == WORDS || n == -RPAL_QUEUE_PUT_FAILED);
	} while (n != WORDS || how != RPAL_DELIVERED);
}

static bool round_trip_of(const struct end *e, int64_t number)
{
	int64_t words[WORDS] = { number, 1 };
	struct epoll_event event;

	if (me->lib->write_ptrs(e->peer, e->handle, words, WORDS) != WORDS)
		return false;
	one_event(e, &event);
	return me->lib->read_ptrs(e->sock, words, WORDS) == WORDS && words[3] == number + 1;
}

static uint64_t round_trip(void *arg, unsigned int batch)
{
	uint64_t begin = timer_begin();
	bool ok = true;

	while (batch--)
		ok = round_trip_of(arg, 4711 + batch) && ok;
	begin = timer_end() - begin;
	MUST(ok);
	return begin;
}

/* ------------------------------------------- are there system calls in it? */

static volatile char selector;
static volatile unsigned int refused;

/* This one is made after all, and those that follow. */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig, (void)info;
	selector = 0;
	refused++;
	uc->uc_mcontext.gregs[REG_RIP] -= 2;
}

/* With syscall user dispatch the kernel refuses each system call of this task. */
static bool count_refused(const struct end *e)
{
	/* A handler begins with key 0 alone, so the thread's stack is closed to it. */
	static char stack[65536];
	const stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = {
		.sa_sigaction = on_sigsys,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	unsigned int i;

	MUST(!sigaltstack(&ss, NULL));
	MUST(!sigaction(SIGSYS, &sa, NULL));
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector))
		return false;
	/* It does see them. */
	selector = 1;
	syscall(SYS_getppid);
	MUST(refused == 1 && !selector);
	refused = 0;
	for (i = 0; i < LOOKED; i++) {
		selector = 1;
		round_trip_of(e, i);
		selector = 0;
	}
	shared->entered.messages = LOOKED;
	shared->entered.entered = refused;
	return true;
}

/* A counter of this task's system calls; -1 without the right to have one. */
static int open_counter(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	FILE *f = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "re");
	unsigned long id = 0;

	if (!f)
		return -1;
	MUST(fscanf(f, "%lu", &id) == 1);
	fclose(f);
	attr.config = id;
	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static uint64_t counted(int counter)
{
	uint64_t n;

	MUST(read(counter, &n, sizeof(n)) == sizeof(n));
	return n;
}

/* The module keeps user dispatch to itself, for threads that it knows. */
static bool count_traced(const struct end *e)
{
	unsigned int i, nr = LOOKED / shared->part;
	int counter = open_counter();
	uint64_t before, reads;

	if (counter < 0)
		return false;
	before = counted(counter);
	reads = counted(counter) - before;
	MUST(reads == 1);
	before = counted(counter);
	for (i = 0; i < nr; i++)
		round_trip_of(e, i);
	shared->entered.messages = nr;
	shared->entered.entered = counted(counter) - before - reads;
	close(counter);
	return true;
}

/* Whosever code this task runs. Looked at apart from all that is timed. */
static void count_system_calls(const struct end *e)
{
	if (!count_refused(e) && !count_traced(e))
		printf("system calls of messages cannot be counted here\n");
}

static void measure(const char *name, unsigned int batch,
		    uint64_t (*once)(void *arg, unsigned int batch), struct end *e)
{
	const struct job job = {
		.name = name,
		.kind = KIND_RPAL,
		.place = ONE_CPU,
		.size = SMALL,
		.batch = batch,
		.samples = SAMPLES / batch,
		.once = once,
		.arg = e,
	};

	figures_measure(&job);
}

static void client(void)
{
	struct end e;

	connect_end(&e, SERVER);
	find_peer(&e);
	wait_for_server(&e);
	MUST(round_trip_of(&e, 0));
	/* It has looked for us meanwhile, which may have brought it to its own task. */
	wait_for_server(&e);
	shared->by_the_clock = true;
	measure("message, one way", 1, one_way, &e);
	shared->by_the_clock = false;
	measure("message, round trip", 1, round_trip, &e);
	measure("message, round trips in a row", 16, round_trip, &e);
	count_system_calls(&e);
}

static void session(void)
{
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &shared->setup.sock[CLIENT]));
	peers_run(2, (void (*const[])(void)){ client, server });
}

void messages_measure(void)
{
	machine_in_child(session);
}
