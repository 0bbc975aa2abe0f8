// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls of all kinds between several processes at once, with signals from all
 * sides: usage: stress-call N
 *
 * Two services have receivers, one of which calls the other in its procedures;
 * two others only call; each has several threads. The contents of each message
 * and answer are checked, and after each call that the caller is as it was.
 */
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <rpal/rpal.h>

#define NR_SERVERS 2
#define NR_CLIENTS 2
#define RECEIVERS  2
#define SENDERS	   3
#define WORDS	   32

enum { DO_SUM = 1, DO_FILL, DO_SYSCALL, DO_FAULT, DO_BLIND, DO_RELAY, DO_ALLOC, DO_VDSO, NR_OPS };

struct shared {
	long calls;
	long bad;
	long again;
	long signals;
	long per_op[NR_OPS];
	volatile int stop;
	volatile int ready;
	long wanted;
};

static struct shared *shared;
static int server[NR_SERVERS];

static void bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void bad(const char *fmt, ...)
{
	va_list ap;

	if (__atomic_add_fetch(&shared->bad, 1, __ATOMIC_RELAXED) > 20)
		return;
	va_start(ap, fmt);
	printf("%s: pid %d: ", test_name, getpid());
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
	va_end(ap);
}

/* ------------------------------------------------------- what a call carries */

struct message {
	u64 seed;
	u64 words[WORDS];
	u64 answer[WORDS];
};

static u64 mix(u64 x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ULL;
	return x ^ x >> 29;
}

static u64 sum(const struct message *m)
{
	u64 s = m->seed;
	int i;

	for (i = 0; i < WORDS; i++)
		s = mix(s + m->words[i]);
	return s;
}

/* --- what a thread has that a call must not change */

struct mine {
	u64 fsbase;
	u32 mxcsr;
	uint16_t fcw;
	pid_t tid;
	u32 random;
};

static __thread struct mine mine;

/* Threads that get signals, which a process's own signals do not pick. */
static pid_t target[RECEIVERS + SENDERS + 1];
static int targets;

static void control(u32 *mxcsr, uint16_t *fcw)
{
	asm volatile("stmxcsr %0; fnstcw %1" : "=m"(*mxcsr), "=m"(*fcw));
}

static void remember(int n)
{
	u32 mxcsr = 0x1f80 | (n & 3) << 13;
	uint16_t fcw = 0x37f & ~((n & 3) << 8);

	asm volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(fcw));
	control(&mine.mxcsr, &mine.fcw);
	mine.tid = syscall(SYS_gettid);
	mine.random = test_random() | 1;
	/* Last: from here on signal handlers look. */
	asm volatile("rdfsbase %0" : "=r"(mine.fsbase)::"memory");
	target[__atomic_fetch_add(&targets, 1, __ATOMIC_RELAXED)] = mine.tid;
}

static void still_me(const char *where, int op)
{
	uint16_t fcw;
	u32 mxcsr;
	u64 fs;

	asm volatile("rdfsbase %0" : "=r"(fs));
	control(&mxcsr, &fcw);
	if (fs != mine.fsbase || mxcsr != mine.mxcsr || fcw != mine.fcw)
		bad("%s, op %d: fsbase %lx/%lx mxcsr %x/%x fcw %x/%x", where, op, (long)fs,
		    (long)mine.fsbase, mxcsr, mine.mxcsr, fcw, mine.fcw);
}

static u32 rnd(void)
{
	mine.random ^= mine.random << 13;
	mine.random ^= mine.random >> 17;
	mine.random ^= mine.random << 5;
	return mine.random;
}

/* --------------------------------------------------------------- procedures */

static int64_t relay(const struct message *m)
{
	struct message copy = *m;
	int64_t r = 0;
	int err;

	err = rpal_call(server[1], DO_SUM, &copy, sizeof(copy), &r);
	if (err)
		bad("relay: %d: %s", err, rpal_last_error());
	return r;
}

static void alloc_some(void)
{
	size_t n = 64 + rnd() % 200000;
	char *p = malloc(n);

	if (p) {
		memset(p, 0x77, 64);
		p[n - 1] = 1;
	}
	free(p);
}

static int64_t procedure(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	struct message *m = arg;
	int op = (intptr_t)ctx, i;
	struct timespec ts;
	u64 v;

	(void)caller;
	still_me("procedure", op);
	if (op == DO_BLIND)
		return mix(len);
	if (len != sizeof(*m))
		bad("length %zu", len);
	switch (op) {
	case DO_FILL:
		for (i = 0; i < WORDS; i++)
			m->answer[i] = mix(m->words[i] + m->seed);
		break;
	case DO_SYSCALL:
		if (syscall(SYS_gettid) != mine.tid)
			bad("another thread's system call");
		break;
	case DO_FAULT:
		/* Not granted: a signal, in the middle of the procedure. */
		if (test_store(&m->answer[0], 1) != SIGSEGV && test_have_pkeys())
			bad("wrote without a grant");
		break;
	case DO_RELAY:
		return relay(m);
	case DO_ALLOC:
		alloc_some();
		break;
	case DO_VDSO:
		clock_gettime(CLOCK_MONOTONIC, &ts);
		break;
	}
	v = sum(m);
	still_me("procedure's end", op);
	return v;
}

static void export_all(void)
{
	intptr_t i;

	for (i = 1; i < NR_OPS; i++)
		MUST(!rpal_export(i, procedure, (void *)i));
}

/* ------------------------------------------------------------------ threads */

static void on_signal(int sig)
{
	int saved = errno;
	pid_t tid;
	u64 fs;

	(void)sig;
	asm volatile("rdfsbase %0" : "=r"(fs));
	tid = syscall(SYS_gettid);
	if (mine.fsbase && (fs != mine.fsbase || tid != mine.tid))
		bad("signal in thread %d, fsbase %lx; context of %d, %lx", tid, (long)fs, mine.tid,
		    (long)mine.fsbase);
	__atomic_add_fetch(&shared->signals, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static void init(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &sa, NULL);
	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	if (rpal_init(RECEIVERS, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

/* Until the end: signals for the threads, in and out of calls. */
static void shoot(void)
{
	int n;

	while (!shared->stop) {
		usleep(50 + test_random() % 700);
		n = __atomic_load_n(&targets, __ATOMIC_RELAXED);
		if (test_random() % 4 == 0)
			kill(getpid(), SIGUSR1);
		else if (n)
			syscall(SYS_tgkill, getpid(), target[test_random() % n], SIGUSR1);
	}
}

static void *receiver(void *arg)
{
	int r;

	remember((intptr_t)arg);
	do
		r = rpal_serve(-1, -1);
	while (r == -EINTR);
	bad("serve: %d: %s", r, rpal_last_error());
	return NULL;
}

static int one_call(struct message *m)
{
	static const unsigned char ops[16] = {
		DO_SUM,	    DO_SUM,   DO_SUM,	DO_SUM,	  DO_SUM,   DO_FILL,  DO_FILL,	DO_FILL,
		DO_SYSCALL, DO_FAULT, DO_BLIND, DO_BLIND, DO_RELAY, DO_RELAY, DO_ALLOC, DO_VDSO,
	};
	int op = ops[rnd() % 16], to = op == DO_RELAY ? 0 : rnd() % NR_SERVERS, i, err;
	size_t len = op == DO_BLIND ? rnd() % 1000 : sizeof(*m);
	unsigned int flags = 0;
	int64_t r = 0;

	m->seed = rnd();
	m->words[rnd() % WORDS] = rnd();
	if (op == DO_FILL)
		flags = RPAL_CALL_GRANT_WRITE;
	if (op == DO_BLIND)
		flags = RPAL_CALL_GRANT_NONE;
	if (rnd() % 8 == 0)
		flags |= RPAL_CALL_NOWAIT;
	err = rpal_call_flags(server[to], op, m, len > sizeof(*m) ? sizeof(*m) : len, &r, flags);
	still_me("caller", op);
	if (err == -EAGAIN && flags & RPAL_CALL_NOWAIT) {
		__atomic_add_fetch(&shared->again, 1, __ATOMIC_RELAXED);
		return 0;
	}
	__atomic_add_fetch(&shared->per_op[op], 1, __ATOMIC_RELAXED);
	if (err)
		bad("op %d: %d: %s", op, err, rpal_last_error());
	else if (op == DO_BLIND ? (u64)r != mix(len > sizeof(*m) ? sizeof(*m) : len) :
				  (u64)r != sum(m))
		bad("op %d: wrong result %lx", op, (long)r);
	for (i = 0; op == DO_FILL && i < WORDS; i++)
		if (m->answer[i] != mix(m->words[i] + m->seed)) {
			bad("wrong answer, word %d", i);
			break;
		}
	return 1;
}

static void *sender(void *arg)
{
	struct message *m = calloc(1, sizeof(*m));

	remember((intptr_t)arg);
	MUST(m);
	while (!shared->stop) {
		if (one_call(m) &&
		    __atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED) >= shared->wanted)
			shared->stop = 1;
	}
	free(m);
	return NULL;
}

/* -------------------------------------------------------------------- roles */

static void socket_name(char *buf, size_t size, int i)
{
	snprintf(buf, size, "@stress-call-%d", i);
}

static int connect_to(int i)
{
	char name[40];
	int id;

	socket_name(name, sizeof(name), i);
	id = rpal_connect(name, 60000, NULL);
	if (id < 0) {
		printf("connect: %s\n", rpal_last_error());
		_exit(1);
	}
	return id;
}

static int server_role(void)
{
	int n = atoi(test_arg), fd, i, clients = NR_CLIENTS + (n == 1);
	char name[40];
	pthread_t t;

	init();
	export_all();
	if (n == 0)
		server[1] = connect_to(1);
	for (i = 0; i < RECEIVERS; i++)
		MUST(!pthread_create(&t, NULL, receiver, (void *)(intptr_t)(n * 2 + i + 1)));
	socket_name(name, sizeof(name), n);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	for (i = 0; i < clients; i++)
		if (rpal_accept(fd, 60000, NULL) < 0)
			bad("accept: %s", rpal_last_error());
	shoot();
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

static int client_role(void)
{
	pthread_t t[SENDERS];
	int i;

	init();
	for (i = 0; i < NR_SERVERS; i++)
		server[i] = connect_to(i);
	for (i = 0; i < SENDERS; i++)
		MUST(!pthread_create(&t[i], NULL, sender, (void *)(intptr_t)(i + 5)));
	shoot();
	for (i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

/* No call for a minute: say so and end. */
static void watch(struct test_child *clients)
{
	u64 seen = test_now_ns();
	long last = -1;
	int i, left, status;
	pid_t pid;

	for (left = NR_CLIENTS; left; usleep(50000)) {
		for (i = 0; i < NR_CLIENTS; i++) {
			if (clients[i].pid <= 0)
				continue;
			pid = waitpid(clients[i].pid, &status, WNOHANG);
			if (!pid)
				continue;
			if (status)
				bad("client: %s", test_status(status));
			clients[i].pid = 0;
			shared->stop |= status != 0;
			left--;
		}
		if (shared->calls != last) {
			last = shared->calls;
			seen = test_now_ns();
		} else if (test_now_ns() - seen > test_patience() * 1000000000ULL) {
			bad("stuck after %ld calls", last);
			for (i = 0; i < NR_CLIENTS; i++)
				if (clients[i].pid > 0)
					test_wait(clients[i].pid);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct test_child servers[NR_SERVERS], clients[NR_CLIENTS];
	struct test_spawn s = { .group = "stress" };
	const char *kernel = getenv("RPAL_KERNEL");
	char arg[8];
	long done;
	int i;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &s.shared);
	shared->wanted = argc > 1 ? atol(argv[1]) : 1000;
	s.arg = arg;
	s.role = "server";
	for (i = NR_SERVERS - 1; i >= 0; i--) {
		snprintf(arg, sizeof(arg), "%d", i);
		MUST(!test_spawn(&servers[i], &s));
	}
	s.role = "client";
	for (i = 0; i < NR_CLIENTS; i++)
		MUST(!test_spawn(&clients[i], &s));
	watch(clients);
	for (i = 0; i < NR_SERVERS; i++) {
		if (waitpid(servers[i].pid, NULL, WNOHANG))
			bad("server %d has ended", i);
		else
			test_reap(&servers[i]);
	}
	printf("%ld signals, %ld calls found no receiver; by kind:", shared->signals,
	       shared->again);
	for (i = 1; i < NR_OPS; i++)
		printf(" %ld", shared->per_op[i]);
	putchar('\n');
	/* The last of each sender may come after the end. */
	done = shared->calls < shared->wanted ? shared->calls : shared->wanted;
	printf("stress: name=call kernel=%s n=%ld bad=%ld\n", kernel ? kernel : "?", done,
	       shared->bad);
	return shared->bad || done != shared->wanted;
}
