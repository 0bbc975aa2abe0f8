// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A sender's process is killed in the middle of calls: usage: stress-kill-sender N
 *
 * One service has receivers. N times a process comes, calls it from several
 * threads in all ways, and is killed. Each procedure that it has left behind
 * must go on where it was, on its receiver's own task, and end; and then all
 * receivers must be there for the next one: it can have them all at once.
 */
#include "common-lazy.h"

#include <sys/wait.h>

#define RECEIVERS 3

enum { DO_MEET = DO_OWN };

/* Counts of the program's own. */
enum { MET, ENTERED, LEFT, RUNNING, ORPHANS, CALLS };

static int service;
static int meeting; /* in the receivers' process: how many have come */

/* ---------------------------------------------------------------- receivers */

/*
 * The context goes on whatever becomes of the caller: what is on the stack and
 * in thread-local storage before the work must be there after it.
 */
static int64_t counted(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	static __thread u64 sequence;
	int op = (intptr_t)ctx;
	u64 before = sequence++;
	u32 v = lazy_random() % 32;
	int times = v < 24 ? 1 : v < 29 ? 10 : 50, i;
	int64_t r = 0;

	(void)arg, (void)caller;
	lazy_enter(op);
	LAZY_ADD(lazy->count[ENTERED]);
	for (i = 0; i < times; i++, sequence++)
		r = lazy_work(op, len);
	if (sequence != before + 1 + times)
		lazy_bad("op %d: step %lu, was %lu", op, (long)sequence, (long)before);
	LAZY_ADD(lazy->count[LEFT]);
	lazy_leave(op);
	return r;
}

/* Comes back when all receivers are in it. */
static int64_t meet(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int all, n;

	(void)arg, (void)len, (void)caller, (void)ctx;
	lazy_enter(DO_MEET);
	n = __atomic_add_fetch(&meeting, 1, __ATOMIC_ACQ_REL);
	all = (n + RECEIVERS - 1) / RECEIVERS * RECEIVERS;
	while (__atomic_load_n(&meeting, __ATOMIC_ACQUIRE) < all && test_now_ns() < end)
		usleep(100);
	n = __atomic_load_n(&meeting, __ATOMIC_ACQUIRE) >= all;
	lazy_leave(DO_MEET);
	return n;
}

/* Whoever goes away while he is let in is just one of those who have gone. */
static void *doorman(void *arg)
{
	int fd = (intptr_t)arg;

	for (;;)
		rpal_accept(fd, -1, NULL);
	return NULL;
}

static int receiver_role(void)
{
	char name[40];
	pthread_t t;
	intptr_t op;
	int fd, i;

	lazy_init(0, RECEIVERS);
	for (op = 1; op < NR_DO; op++)
		MUST(!rpal_export(DO_OWN + op, counted, (void *)op));
	MUST(!rpal_export(DO_MEET, meet, NULL));
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&t, lazy_receiver, NULL);
	lazy_name(name, sizeof(name), "r", 0);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	lazy_start(&t, doorman, (void *)(intptr_t)fd);
	lazy_shoot();
	return 0;
}

/* ------------------------------------------------------------------- victims */

static void *victim(void *unused)
{
	int64_t r = 0;
	int err, op;
	u64 n;

	(void)unused;
	lazy_thread(false);
	err = lazy_call_checked(service, DO_MEET, NULL, 0, &r, 0);
	if (err || r != 1)
		lazy_bad("not all receivers are there: %d, %ld: %s", err, (long)r,
			 rpal_last_error());
	LAZY_ADD(lazy->count[MET]);
	for (;;) {
		op = lazy_pick(LAZY_ALL_OPS);
		/* What a procedure reads of its caller is gone with it, so it reads nothing. */
		if (lazy_random() % 4 == 0) {
			lazy_call(service, op, RPAL_CALL_GRANT_NONE, false);
		} else {
			n = 1 + lazy_random() % sizeof(r);
			err = lazy_call_checked(service, DO_OWN + op, &r, n, &r, lazy_grant());
			if (err || r != lazy_answer(service, op, n))
				lazy_bad("op %d: %d, %lx: %s", op, err, (long)r, rpal_last_error());
		}
		LAZY_ADD(lazy->count[CALLS]);
	}
	return NULL;
}

static int sender_role(void)
{
	pthread_t t[RECEIVERS];
	char name[40];
	int i;

	lazy_init(1, 1);
	lazy_name(name, sizeof(name), "r", 0);
	service = lazy_connect(name, NULL);
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&t[i], victim, NULL);
	for (;;) {
		usleep(500);
		lazy_shoot_once();
	}
	return 0;
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "receiver", receiver_role },
					  { "sender", sender_role },
					  {} };

static bool wait_until(long *now, long want, struct test_child *c, const char *what)
{
	u64 end = test_now_ns() + 2 * test_patience() * 1000000000ULL;
	int status;

	while (__atomic_load_n(now, __ATOMIC_ACQUIRE) < want) {
		if (c && c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid) {
			c->pid = 0;
			lazy_bad("%s: the sender has ended: %s", what, test_status(status));
			return false;
		}
		if (test_now_ns() > end) {
			lazy_bad("%s: %ld of %ld", what, *now, want);
			return false;
		}
		usleep(200);
	}
	return true;
}

/* Procedures that nobody waits for any more come to their end all the same. */
static bool round_ok(struct test_spawn *s)
{
	long met = lazy->count[MET];
	struct test_child c;
	bool ok;

	s->role = "sender";
	MUST(!test_spawn(&c, s));
	ok = wait_until((long *)&lazy->count[MET], met + RECEIVERS, &c, "the receivers");
	usleep(test_random() % 8000);
	if (c.pid > 0)
		kill(c.pid, SIGKILL);
	lazy->count[RUNNING] += lazy->count[ENTERED] - lazy->count[LEFT];
	test_reap(&c);
	lazy->count[ORPHANS] += lazy->count[ENTERED] - lazy->count[LEFT];
	return ok && wait_until((long *)&lazy->count[LEFT], lazy->count[ENTERED], NULL,
				"procedures that end");
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress", .role = "receiver" };
	struct test_child receiver;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 20, &s.shared);
	MUST(!test_spawn(&receiver, &s));
	while (lazy->calls < lazy->wanted && round_ok(&s))
		lazy->calls++;
	if (!lazy_alive(&receiver))
		lazy_bad("the receiver has ended");
	lazy_need("calls", lazy->count[CALLS], 10);
	/* Procedures that ran at the time of a kill, and when nothing was left of it. */
	lazy_need("running", lazy->count[RUNNING], 30);
	lazy_need("orphans", lazy->count[ORPHANS], 30);
	lazy_need_ops(LAZY_ALL_OPS, 100);
	lazy_need("receiver_handlers", lazy_handled(0), 30);
	lazy_need("sender_handlers", lazy_handled(1), 30);
	lazy_need_switches(100);
	return lazy_end("kill-sender");
}
