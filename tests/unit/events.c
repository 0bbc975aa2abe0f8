// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Collecting RPAL events of an epoll set, without the module: this process is told
 * that it is a service, and plays the peer itself.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../lib/events.h"
#include "../../lib/internal.h"

#define NR 100

static int epfd;
static int fds[NR];
static struct event_set *set;

static void add_fd(int i, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = i };
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fds[i] = pair[0];
	ck_assert_int_eq(rpal_epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), 0);
	set = events_set(epfd);
	ck_assert_ptr_nonnull(set);
}

static void setup(void)
{
	rpal_state.up = true;
	rpal_state.key = 4711;
	epfd = epoll_create1(0);
	ck_assert_int_ge(epfd, 0);
}

/* As rpal_write_ptrs() of a peer. */
static void put(int i)
{
	struct channel *ch = events_channel(fds[i]);
	int64_t word = i;

	ck_assert_int_eq(queue_put(ch->q, ch->generation, &word, 1), 0);
	ready_mark(set->ready, ch->q->watchers[0].index);
}

static void take(int i)
{
	int64_t word;

	ck_assert_int_eq(rpal_read_ptrs(fds[i], &word, 1), 1);
	ck_assert_int_eq(word, i);
}

/* Number of events; of each its descriptor's number in got. */
static int collect(int *got, int max)
{
	struct epoll_event events[NR];
	int i, n = events_collect(set, events, max);

	for (i = 0; i < n; i++) {
		ck_assert_uint_eq(events[i].events, EPOLLRPALIN);
		got[i] = events[i].data.u64;
	}
	return n;
}

static void expect_none(void)
{
	int got[NR];

	ck_assert_int_eq(collect(got, NR), 0);
	/* Nothing is left that would keep a thread from its sleep. */
	ck_assert(!ready_any(set->ready));
	ck_assert(!events_ready(set));
}

static void expect(int i)
{
	int got[NR];

	ck_assert(events_ready(set));
	ck_assert_int_eq(collect(got, NR), 1);
	ck_assert_int_eq(got[0], i);
}

/* Until it has been read, and not longer. */
START_TEST(level)
{
	int i;

	add_fd(0, EPOLLRPALIN);
	expect_none();
	for (i = 0; i < 50; i++) {
		put(0);
		expect(0);
		expect(0);
		put(0);
		take(0);
		expect(0);
		take(0);
		/* Read before it was looked at: no event, and no mark that stays. */
		expect_none();
		put(0);
		take(0);
		expect_none();
	}
}
END_TEST

START_TEST(edge)
{
	int i;

	add_fd(0, EPOLLRPALIN | EPOLLET);
	for (i = 0; i < 10; i++) {
		put(0);
		expect(0);
		expect_none();
		put(0);
		expect(0);
		expect_none();
		take(0);
		take(0);
		expect_none();
	}
}
END_TEST

START_TEST(oneshot)
{
	struct epoll_event ev = { .events = EPOLLRPALIN | EPOLLONESHOT };

	add_fd(0, EPOLLRPALIN | EPOLLONESHOT);
	put(0);
	expect(0);
	put(0);
	expect_none();
	ck_assert_int_eq(rpal_epoll_ctl(epfd, EPOLL_CTL_MOD, fds[0], &ev), 0);
	expect(0);
	expect_none();
}
END_TEST

/* With room for one event at a time, each has its turn, levels that hold, too. */
START_TEST(in_turn)
{
	int seen[NR] = {}, got[NR], i;

	for (i = 0; i < NR; i++)
		add_fd(i, EPOLLRPALIN);
	for (i = 0; i < NR; i++)
		put(i);
	for (i = 0; i < 3 * NR; i++) {
		ck_assert_int_eq(collect(got, 1), 1);
		seen[got[0]]++;
	}
	for (i = 0; i < NR; i++)
		ck_assert_int_eq(seen[i], 3);
	/* All at once, and none twice, wherever the search begins. */
	for (i = 0; i < 2 * NR; i++) {
		int once[NR] = {}, n;

		ck_assert_int_eq(collect(got, 1), 1);
		n = collect(got, NR);
		ck_assert_int_eq(n, NR);
		while (n--)
			once[got[n]]++;
		for (n = 0; n < NR; n++)
			ck_assert_int_eq(once[n], 1);
	}
	for (i = 0; i < NR; i += 2)
		take(i);
	ck_assert_int_eq(collect(got, NR), NR / 2);
	for (i = 1; i < NR; i += 2)
		take(i);
	expect_none();
}
END_TEST

/* A set in a set: ready as long as the inner one is. */
START_TEST(nested)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 }, out;
	int outer = epoll_create1(0);
	struct event_set *o;

	add_fd(0, EPOLLRPALIN);
	ck_assert_int_eq(rpal_epoll_ctl(outer, EPOLL_CTL_ADD, epfd, &ev), 0);
	o = events_set(outer);
	ck_assert_ptr_nonnull(o);
	ck_assert_int_eq(events_collect(o, &out, 1), 0);
	put(0);
	ready_mark(o->ready, set->ready->parents[0].index);
	ck_assert_int_eq(events_collect(o, &out, 1), 1);
	ck_assert_uint_eq(out.data.u64, 77);
	ck_assert_uint_eq(out.events, EPOLLIN);
	ck_assert_int_eq(events_collect(o, &out, 1), 1);
	expect(0);
	take(0);
	ck_assert_int_eq(events_collect(o, &out, 1), 0);
	ck_assert(!ready_any(o->ready));
}
END_TEST

/* Marks that a peer has forged name nothing, and do not stay. */
START_TEST(forged)
{
	add_fd(0, EPOLLRPALIN);
	ready_mark(set->ready, 1);
	ready_mark(set->ready, 4242);
	ready_mark(set->ready, READY_BITS - 1);
	expect_none();
	ready_mark(set->ready, READY_BITS - 1);
	put(0);
	expect(0);
	take(0);
	expect_none();
}
END_TEST

/* ------------------------------------------------- with another thread that looks */

#define ROUNDS 30000

static pthread_barrier_t both;
static volatile bool ended;

/* Twice in each round: it is looked at while something happens. */
static void *looker(void *arg)
{
	struct epoll_event events[2];

	(void)arg;
	for (;;) {
		pthread_barrier_wait(&both);
		if (ended)
			return NULL;
		events_collect(set, events, 2);
		events_collect(set, events, 2);
		pthread_barrier_wait(&both);
	}
}

static void with_looker(void (*round)(int i))
{
	pthread_t t;
	int i;

	pthread_barrier_init(&both, NULL, 2);
	ended = false;
	ck_assert_int_eq(pthread_create(&t, NULL, looker, NULL), 0);
	for (i = 0; i < ROUNDS; i++)
		round(i);
	ended = true;
	pthread_barrier_wait(&both);
	pthread_join(t, NULL);
	pthread_barrier_destroy(&both);
}

/* What is on its way from the queue to the reader is not overlooked. */
static void read_half(int i)
{
	struct channel *ch = events_channel(fds[0]);
	int64_t words[2] = { i, i + 1 }, word;

	ck_assert_int_eq(queue_put(ch->q, ch->generation, words, 2), 0);
	ready_mark(set->ready, ch->q->watchers[0].index);
	pthread_barrier_wait(&both);
	ck_assert_int_eq(rpal_read_ptrs(fds[0], &word, 1), 1);
	pthread_barrier_wait(&both);
	ck_assert_int_eq(word, i);
	expect(0);
	ck_assert_int_eq(rpal_read_ptrs(fds[0], &word, 1), 1);
	ck_assert_int_eq(word, i + 1);
	expect_none();
}

START_TEST(left_over)
{
	add_fd(0, EPOLLRPALIN);
	with_looker(read_half);
}
END_TEST

/* An item's place is taken by another descriptor, which has got a message at once. */
static void replace(int i)
{
	struct epoll_event ev = { .events = EPOLLRPALIN, .data.u64 = 1 + i % 2 };
	int old = fds[2 - i % 2], new = fds[1 + i % 2];

	ready_mark(set->ready, events_channel(old)->q->watchers[0].index);
	pthread_barrier_wait(&both);
	ck_assert_int_eq(rpal_epoll_ctl(epfd, EPOLL_CTL_DEL, old, NULL), 0);
	ck_assert_int_eq(rpal_epoll_ctl(epfd, EPOLL_CTL_ADD, new, &ev), 0);
	put(1 + i % 2);
	pthread_barrier_wait(&both);
	expect(1 + i % 2);
	take(1 + i % 2);
	expect_none();
}

START_TEST(replaced)
{
	add_fd(0, EPOLLRPALIN);
	add_fd(1, EPOLLRPALIN);
	add_fd(2, EPOLLRPALIN);
	ck_assert_int_eq(rpal_epoll_ctl(epfd, EPOLL_CTL_DEL, fds[1], NULL), 0);
	with_looker(replace);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("events");
	TCase *tc = tcase_create("events");
	SRunner *sr;
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, level);
	tcase_add_test(tc, edge);
	tcase_add_test(tc, oneshot);
	tcase_add_test(tc, in_turn);
	tcase_add_test(tc, nested);
	tcase_add_test(tc, forged);
	tcase_add_test(tc, left_over);
	tcase_add_test(tc, replaced);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
