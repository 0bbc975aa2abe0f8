// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls with deadlines, by the thousand: usage: stress-deadline [CALLS]
 *
 * Threads of a client call a server whose procedures take about as long as they
 * may, awake, asleep, or in a call of their own; another thread cancels them at
 * random, and signals fly on both sides. What a call returns is its own answer, or
 * none.
 */
#include "call.h"

#include <signal.h>
#include <sys/time.h>

#define THREADS 4

enum { P_ECHO, P_LINK, P_NR };

enum { AWAKE, ASLEEP, NESTED, NESTED_TIMED, WAYS };

struct echo {
	u64 number;
	u64 ns;
	int way;
};

/* ------------------------------------------------------------------- server */

static int other; /* service that nested calls go to */

static int64_t pass_on(struct echo *e, bool timed)
{
	struct echo *on = calloc(1, sizeof(*on)); /* late ones may read it: never freed */
	int64_t r = -1;
	int err;

	MUST(on);
	*on = *e;
	on->way = e->number & 1 ? ASLEEP : AWAKE;
	err = timed ? rpal_call_timeout(other, P_ECHO, on, sizeof(*on), &r, 0, 1) :
		      rpal_call(other, P_ECHO, on, sizeof(*on), &r);
	if (!err || !timed)
		free(on);
	if (timed && err == -ETIMEDOUT)
		return e->number;
	return err ? err : r;
}

PROC(p_echo)
{
	struct echo e = *(struct echo *)arg;
	struct timespec ts = { .tv_nsec = e.ns };
	u64 end = test_now_ns() + e.ns;

	if (e.way >= NESTED)
		return pass_on(&e, e.way == NESTED_TIMED);
	if (e.way == ASLEEP)
		nanosleep(&ts, NULL);
	while (test_now_ns() < end)
		;
	return e.number;
}

PROC(p_link)
{
	other = rpal_connect(arg, test_patience() * 1000, NULL);
	return other;
}

static void on_signal(int sig CALL_UNUSED)
{
}

static void signals_fly(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, 7000 }, { 0, 7000 } };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = { [P_ECHO] = p_echo, [P_LINK] = p_link };

	signals_fly();
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a, b;
static u64 wanted;
static volatile int number[THREADS];
static volatile u64 done, over, cancelled;
static volatile int ended, bad;

static void one_call(struct echo *e, u64 n)
{
	int64_t r = -1;
	int err;

	*e = (struct echo){ n, test_random() % 3000000, test_random() % WAYS };
	err = rpal_call_timeout(a.id, P_ECHO, e, sizeof(*e), &r, 0,
				test_random() % 8 ? (int)(test_random() % 3) : -1);
	if (!err && r == (int64_t)n)
		__atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
	else if (err == -ETIMEDOUT)
		__atomic_add_fetch(&over, 1, __ATOMIC_RELAXED);
	else if (err == -ECANCELED)
		__atomic_add_fetch(&cancelled, 1, __ATOMIC_RELAXED);
	else if (__atomic_add_fetch(&bad, 1, __ATOMIC_RELAXED) < 20)
		printf("%s: call %lu: %d, %ld: %s\n", test_name, (unsigned long)n, err, (long)r,
		       rpal_last_error());
}

static void *caller(void *arg)
{
	int i = (int)(intptr_t)arg;
	u64 n;

	__atomic_store_n(&number[i], rpal_thread_number(), __ATOMIC_RELEASE);
	for (n = i; n < wanted && !bad; n += THREADS) {
		/* A late procedure may still read it, so it is never freed. */
		struct echo *e = malloc(sizeof(*e));

		MUST(e);
		one_call(e, n);
	}
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int client_role(void)
{
	pthread_t thread[THREADS];
	int i;

	wanted = strtoul(test_arg, NULL, 0);
	call_init(1);
	call_peer_new(&a, "server", 5);
	call_peer_new(&b, "server", 8);
	CHECK(call_result(&a, P_LINK, b.path, strlen(b.path) + 1, 0) > 0, "no link");
	signals_fly();
	for (i = 0; i < THREADS; i++)
		number[i] = -1;
	for (i = 0; i < THREADS; i++)
		MUST(!pthread_create(&thread[i], NULL, caller, (void *)(intptr_t)i));
	while (__atomic_load_n(&ended, __ATOMIC_ACQUIRE) < THREADS) {
		usleep(test_random() % 5000);
		rpal_call_cancel(number[test_random() % THREADS]);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	printf("stress: name=deadline n=%lu bad=%d done=%lu over=%lu cancelled=%lu\n",
	       (unsigned long)(done + over + cancelled + bad), bad, (unsigned long)done,
	       (unsigned long)over, (unsigned long)cancelled);
	fflush(stdout);
	CHECK(done && over && cancelled, "something has never happened");
	call_peer_end(&a);
	call_peer_end(&b);
	return bad != 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	const char *n = argc > 1 ? argv[1] : "10000";
	struct test_spawn s = { .role = "client", .arg = n, .group = "call" };
	struct test_child c;
	int status;

	test_init(argc, argv, roles);
	MUST(!test_spawn(&c, &s));
	/* A long run is not a hang: the harness has the time limit. */
	while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
		;
	CHECK(!status, "client: %s", test_status(status));
	return test_finish();
}
