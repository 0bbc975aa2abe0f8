// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Storms of signals on both sides of calls: usage: stress-signals N
 *
 * Two processes call each other, each with threads of both kinds. Both get
 * signals of several kinds from themselves, from timers and from outside, with
 * handlers that restart system calls or do not, on the ordinary or on the
 * alternate stack, as it changes all the time; and both are stopped and
 * continued at random.
 */
#include "common-lazy.h"

#include <sys/time.h>

#define SENDERS	  2
#define RECEIVERS 2

/* Counts of the program's own. */
enum { STOPS, CHANGES, OUTSIDE };

static int service;
static struct test_child both[2];

static void *sender(void *timers)
{
	lazy_thread(false);
	if (timers)
		lazy_timer();
	while (!lazy->stop)
		if (!lazy_call(service, lazy_pick(LAZY_ALL_OPS), lazy_grant(), false) &&
		    LAZY_ADD(lazy->calls) >= lazy->wanted)
			lazy->stop = 1;
	return NULL;
}

/* Timers of the process: SIGALRM by the clock, whichever thread it hits. */
static void process_timer(void)
{
	struct itimerval it = { { 0, 2300 }, { 0, 2300 } };

	MUST(!setitimer(ITIMER_REAL, &it, NULL));
}

static void storm(void)
{
	u32 v;

	while (!lazy->stop) {
		usleep(50 + test_random() % 500);
		lazy_shoot_once();
		v = test_random();
		if (v % 16 == 0) {
			lazy_handlers(v & 0x100, v & 0x200);
			LAZY_ADD(lazy->count[CHANGES]);
		}
	}
}

static int side_role(void)
{
	int me = atoi(test_arg), fd, i;
	pthread_t t[SENDERS], r;
	char name[40];

	lazy_init(me, RECEIVERS);
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&r, lazy_receiver, NULL);
	lazy_name(name, sizeof(name), "s", 0);
	if (me == 0) {
		fd = rpal_listen(name);
		MUST(fd >= 0);
		service = rpal_accept(fd, test_patience() * 1000, NULL);
		MUST(service > 0);
	} else {
		service = lazy_connect(name, NULL);
	}
	for (i = 0; i < SENDERS; i++)
		lazy_start(&t[i], sender, i == 0 ? t : NULL);
	process_timer();
	LAZY_ADD(lazy->ready);
	storm();
	for (i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	/* The other one's last calls are served until the driver has seen both. */
	LAZY_ADD(lazy->done);
	while (lazy->done < 2)
		usleep(1000);
	return 0;
}

static const struct test_role roles[] = { { "side", side_role }, {} };

/* From outside: any signal to a process, and stops. */
static void outside(void)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, SIGALRM, SIGIO, SIGURG };
	pid_t pid = both[test_random() % 2].pid;

	if (pid <= 0 || lazy->ready < 2)
		return;
	kill(pid, signals[test_random() % ARRAY_SIZE(signals)]);
	LAZY_ADD(lazy->count[OUTSIDE]);
	if (test_random() % 3)
		return;
	kill(pid, SIGSTOP);
	usleep(test_random() % 3000);
	kill(pid, SIGCONT);
	LAZY_ADD(lazy->count[STOPS]);
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress", .role = "side" };
	char arg[8];
	int i;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 1000, &s.shared);
	s.arg = arg;
	for (i = 0; i < 2; i++) {
		snprintf(arg, sizeof(arg), "%d", i);
		MUST(!test_spawn(&both[i], &s));
	}
	lazy_watch(both, 2, outside);
	lazy_need("stops", lazy->count[STOPS], 1000);
	lazy_need("outside", lazy->count[OUTSIDE], 1000);
	lazy_need("changes", lazy->count[CHANGES], 1000);
	lazy_need("handlers0", lazy_handled(0), 1000);
	lazy_need("handlers1", lazy_handled(1), 1000);
	lazy_need("alternate0", lazy->alternate[0], 1000);
	lazy_need("alternate1", lazy->alternate[1], 1000);
	for (i = 0; i < LAZY_SIGNALS; i++)
		lazy_need(lazy_signal_name(i), lazy->handled[0][i] * lazy->handled[1][i] > 0, 1000);
	lazy_need_ops(LAZY_ALL_OPS, 1000);
	lazy_need_switches(2000);
	return lazy_end("signals");
}
