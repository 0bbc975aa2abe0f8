// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A receiver's process is killed in the middle of calls: usage:
 * stress-kill-receiver N
 *
 * One process calls from several threads, in all ways. N times a service comes,
 * is linked, called and killed. Each call must give a right answer or say that
 * the service has gone; each caller must be as it was, and go on with the next.
 */
#include "common-lazy.h"

#include <sys/wait.h>

#define RECEIVERS 2
#define SENDERS	  3

/* Counts of the program's own. */
enum { GOOD, GONE, REFUSED, BROKEN, READY = 8 };

/* The service that is called, and how many there have been. */
static volatile int service;
static volatile long round_now;

/* ------------------------------------------------------------------- callers */

static void wait_for_next(long seen)
{
	while (round_now == seen && !lazy->stop)
		usleep(200);
}

/* A call that was broken off: it may be this or, soon, no receiver any more. */
static bool is_end(int err)
{
	return err == -EPIPE || err == -ECONNREFUSED;
}

static void *sender(void *arg)
{
	long number = (intptr_t)arg, at, last = 0;
	int err, op;

	lazy_thread(false);
	while (!lazy->stop) {
		at = round_now;
		if (at == last) {
			wait_for_next(at);
			continue;
		}
		/* Often one that is caught in user mode, on the caller's task. */
		op = lazy_random() % 2 ? DO_SPIN : lazy_pick(LAZY_ALL_OPS);
		err = lazy_call(service, op, lazy_grant(), true);
		if (!err) {
			/* This one has been seen alive; the driver waits for that. */
			LAZY_ADD(lazy->count[GOOD]);
			lazy->count[READY + number] = at;
			continue;
		}
		if (!is_end(err))
			lazy_bad("a call to a service that dies: %d: %s", err, rpal_last_error());
		LAZY_ADD(lazy->count[err == -EPIPE ? GONE : REFUSED]);
		if (lazy->count[READY + number] == at)
			LAZY_ADD(lazy->count[BROKEN]);
		last = at;
	}
	return NULL;
}

static int sender_role(void)
{
	pthread_t t[SENDERS];
	char name[40];
	int i, sock;
	long n;

	lazy_init(1, 1);
	for (i = 0; i < SENDERS; i++)
		lazy_start(&t[i], sender, (void *)(intptr_t)i);
	for (n = 1; n <= lazy->wanted && !lazy->stop; n++) {
		lazy_name(name, sizeof(name), "r", n);
		service = lazy_connect(name, &sock);
		__atomic_store_n(&round_now, n, __ATOMIC_RELEASE);
		/* The socket tells when it has gone. */
		while (recv(sock, name, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN) {
			usleep(300);
			lazy_shoot_once();
		}
		close(sock);
	}
	lazy->stop = 1;
	for (i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* ------------------------------------------------------------------- victims */

static int receiver_role(void)
{
	char name[40];
	pthread_t t;
	int fd, i, sock;

	lazy_init(0, RECEIVERS);
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&t, lazy_receiver, NULL);
	lazy_name(name, sizeof(name), "r", atoi(test_arg));
	fd = rpal_listen(name);
	MUST(fd >= 0);
	MUST(rpal_accept(fd, test_patience() * 1000, &sock) > 0);
	for (;;) {
		usleep(300);
		lazy_shoot_once();
	}
	return 0;
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "receiver", receiver_role },
					  { "sender", sender_role },
					  {} };

static bool all_have_called(long n)
{
	int i;

	for (i = 0; i < SENDERS; i++)
		if (lazy->count[READY + i] < n)
			return false;
	return true;
}

static bool round_ok(struct test_spawn *s, struct test_child *sender, long n)
{
	u64 end = test_now_ns() + 2 * test_patience() * 1000000000ULL;
	struct test_child c;
	char arg[24];
	int status;
	bool ok = true;

	snprintf(arg, sizeof(arg), "%ld", n);
	s->role = "receiver";
	s->arg = arg;
	MUST(!test_spawn(&c, s));
	while (ok && !all_have_called(n)) {
		if (waitpid(sender->pid, &status, WNOHANG) == sender->pid) {
			sender->pid = 0;
			lazy_bad("the sender has ended: %s", test_status(status));
			ok = false;
		} else if (waitpid(c.pid, &status, WNOHANG) == c.pid) {
			c.pid = 0;
			lazy_bad("the receiver has ended: %s", test_status(status));
			ok = false;
		} else if (test_now_ns() > end) {
			lazy_bad("round %ld: not all threads go on", n);
			ok = false;
		}
		usleep(200);
	}
	usleep(test_random() % 8000);
	test_reap(&c);
	return ok;
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress", .role = "sender" };
	struct test_child sender;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 20, &s.shared);
	MUST(!test_spawn(&sender, &s));
	while (lazy->calls < lazy->wanted && round_ok(&s, &sender, lazy->calls + 1))
		lazy->calls++;
	lazy->stop |= lazy->calls < lazy->wanted;
	if (sender.pid > 0)
		lazy_watch(&sender, 1, NULL);
	lazy_need("good", lazy->count[GOOD], 10);
	lazy_need("gone", lazy->count[GONE], 10);
	/* Of them: the service was there, and ended in or between the calls. */
	lazy_need("broken", lazy->count[BROKEN], 10);
	lazy_need("refused", lazy->count[REFUSED], LONG_MAX);
	lazy_need("receiver_died", lazy_stat("calls_receiver_died"), 100);
	lazy_need_ops(LAZY_ALL_OPS, 100);
	lazy_need("receiver_handlers", lazy_handled(0), 30);
	lazy_need("sender_handlers", lazy_handled(1), 30);
	lazy_need_switches(100);
	return lazy_end("kill-receiver");
}
