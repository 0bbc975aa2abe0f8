// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Everybody calls everybody, in all ways: usage: stress-lazy-many N
 *
 * Three services have four threads that only call and four that are called;
 * those call, too: out of procedures, and between two waits for a call.
 */
#include "common-lazy.h"

#define SERVICES 3

enum { DO_RELAY = DO_OWN };

/* Counts of the program's own. */
enum { RELAYS, RELAYED, BETWEEN, IDS };

static const int receivers[SERVICES] = { 2, 1, 1 };
static const int senders[SERVICES] = { 1, 1, 2 };
#define RECEIVERS 4
#define SENDERS	  4

static int me;

static int id_of(int who)
{
	return lazy->count[IDS + who];
}

static int other(void)
{
	return (me + 1 + lazy_random() % (SERVICES - 1)) % SERVICES;
}

static void count_call(void)
{
	if (LAZY_ADD(lazy->calls) >= lazy->wanted)
		lazy->stop = 1;
}

/* ------------------------------------------------------------------- threads */

struct request {
	u64 seed;
	int op;
	int to;
};

/*
 * Never waits for a receiver: of those that wait for each other there may be as
 * many as there are.
 */
static int64_t relay(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	struct request q = *(struct request *)arg;
	int64_t r;
	int err;

	(void)len, (void)caller, (void)ctx;
	lazy_enter(DO_RELAY);
	r = lazy_work(q.op, q.seed);
	if (q.to != me) {
		err = lazy_call(id_of(q.to), q.op, lazy_grant() | RPAL_CALL_NOWAIT, false);
		if (!err)
			LAZY_ADD(lazy->count[RELAYED]);
	}
	lazy_leave(DO_RELAY);
	return r;
}

static void call_relay(int to)
{
	struct request q = { (u64)lazy_random() << 32 | lazy_random(), lazy_pick(LAZY_ALL_OPS),
			     other() };
	int64_t r = 0;
	int err;

	err = lazy_call_checked(id_of(to), DO_RELAY, &q, sizeof(q), &r, 0);
	if (err || r != lazy_answer(id_of(to), q.op, q.seed))
		lazy_bad("relay: %d, %lx: %s", err, (long)r, rpal_last_error());
	LAZY_ADD(lazy->count[RELAYS]);
	count_call();
}

static void *sender(void *timers)
{
	int to;

	lazy_thread(false);
	if (timers)
		lazy_timer();
	while (!lazy->stop) {
		to = other();
		if (lazy_random() % 4 == 0)
			call_relay(to);
		else if (!lazy_call(id_of(to), lazy_pick(LAZY_ALL_OPS), lazy_grant(), false))
			count_call();
	}
	LAZY_ADD(lazy->done);
	return NULL;
}

/* Serves, and calls when nobody has come for a moment or a signal has. */
static void *both(void *unused)
{
	bool done = false;
	int r;

	(void)unused;
	lazy_thread(true);
	LAZY_ADD(lazy->ready);
	while (lazy->ready < RECEIVERS + SERVICES)
		usleep(1000);
	for (;;) {
		r = rpal_serve(-1, done ? -1 : 3);
		lazy_still_me("serve", 0);
		if (r != -EINTR && r != RPAL_SERVE_TIMEOUT)
			lazy_bad("serve: %d: %s", r, rpal_last_error());
		if (!lazy->stop && !lazy_call(id_of(other()), lazy_pick(LAZY_ALL_OPS),
					      lazy_grant() | RPAL_CALL_NOWAIT, false)) {
			LAZY_ADD(lazy->count[BETWEEN]);
			count_call();
		}
		if (lazy->stop && !done)
			LAZY_ADD(lazy->done);
		done = lazy->stop;
	}
	return NULL;
}

/* --------------------------------------------------------------------- roles */

/* Each lets those in that come after it. */
static void link_all(void)
{
	char name[40];
	int i, fd;

	for (i = 0; i < me; i++) {
		lazy_name(name, sizeof(name), "s", i);
		lazy_connect(name, NULL);
	}
	lazy_name(name, sizeof(name), "s", me);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	for (i = me + 1; i < SERVICES; i++)
		MUST(rpal_accept(fd, test_patience() * 1000, NULL) > 0);
}

static int service_role(void)
{
	pthread_t t;
	int i;

	me = atoi(test_arg);
	lazy_init(me, receivers[me]);
	MUST(!rpal_export(DO_RELAY, relay, NULL));
	link_all();
	lazy->count[IDS + me] = rpal_get_service_id();
	for (i = 0; i < receivers[me]; i++)
		lazy_start(&t, both, NULL);
	LAZY_ADD(lazy->ready);
	while (lazy->ready < RECEIVERS + SERVICES)
		usleep(1000);
	for (i = 0; i < senders[me]; i++)
		lazy_start(&t, sender, i == 0 ? &t : NULL);
	lazy_shoot();
	/* Signals make receivers look whether it is over. */
	while (lazy->done < RECEIVERS + SENDERS) {
		usleep(1000);
		lazy_shoot_once();
	}
	_exit(0);
}

static const struct test_role roles[] = { { "service", service_role }, {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress", .role = "service" };
	struct test_child c[SERVICES];
	char arg[16];
	int i;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 1000, &s.shared);
	s.arg = arg;
	for (i = 0; i < SERVICES; i++) {
		snprintf(arg, sizeof(arg), "%d", i);
		MUST(!test_spawn(&c[i], &s));
	}
	lazy_watch(c, SERVICES, NULL);
	lazy_need("relays", lazy->count[RELAYS], 1000);
	lazy_need("relayed", lazy->count[RELAYED], 1000);
	lazy_need("between", lazy->count[BETWEEN], 1000);
	lazy_need("refused", lazy->refused, 1000);
	for (i = 0; i < SERVICES; i++) {
		snprintf(arg, sizeof(arg), "handlers%d", i);
		lazy_need(arg, lazy_handled(i), 1000);
	}
	lazy_need_ops(LAZY_ALL_OPS, 1000);
	lazy_need_switches(2000);
	return lazy_end("lazy-many");
}
