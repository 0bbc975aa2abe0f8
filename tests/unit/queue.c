// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Queues of words and ready sets: alone, with many threads, and with lies in them. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/queue.h"
#include "../../lib/ready.h"

#define WRITERS	 4
#define MESSAGES 20000

static struct queue q;
static struct queue_reader reader;

static void fresh(uint32_t generation)
{
	memset(&q, 0, sizeof(q));
	queue_open(&q, &reader, generation);
}

START_TEST(order)
{
	int64_t out[QUEUE_PLACES], word;
	int i;

	fresh(1);
	ck_assert(queue_is_empty(&q, &reader));
	ck_assert_int_eq(queue_get(&q, &reader, out, 1), 0);
	for (i = 0; i < 1000; i++) {
		int64_t three[3] = { i, i + 1, i + 2 };

		ck_assert_int_eq(queue_put(&q, 1, three, 3), 0);
		word = -i;
		ck_assert_int_eq(queue_put(&q, 1, &word, 1), 0);
		ck_assert(!queue_is_empty(&q, &reader));
		ck_assert_int_eq(queue_get(&q, &reader, out, 2), 2);
		ck_assert(out[0] == i && out[1] == i + 1);
		ck_assert_int_eq(queue_get(&q, &reader, out, QUEUE_PLACES), 2);
		ck_assert(out[0] == i + 2 && out[1] == -i);
		ck_assert(queue_is_empty(&q, &reader));
	}
}
END_TEST

START_TEST(full)
{
	int64_t words[QUEUE_PLACES], out[QUEUE_PLACES];
	int i;

	fresh(7);
	for (i = 0; i < QUEUE_PLACES; i++) {
		words[i] = i;
		ck_assert_int_eq(queue_put(&q, 7, &words[i], 1), 0);
	}
	ck_assert_int_eq(queue_put(&q, 7, words, 1), -EAGAIN);
	ck_assert_int_eq(queue_get(&q, &reader, out, 5), 5);
	/* All or nothing. */
	ck_assert_int_eq(queue_put(&q, 7, words, 6), -EAGAIN);
	ck_assert_int_eq(queue_put(&q, 7, words, 5), 0);
	ck_assert_int_eq(queue_get(&q, &reader, out, QUEUE_PLACES), QUEUE_PLACES);
	for (i = 0; i < QUEUE_PLACES; i++)
		ck_assert_int_eq(out[i], i < 27 ? i + 5 : i - 27);
	ck_assert_int_eq(queue_put(&q, 7, words, QUEUE_PLACES), 0);
	ck_assert_int_eq(queue_put(&q, 7, words, 0), -EINVAL);
	ck_assert_int_eq(queue_put(&q, 7, words, QUEUE_PLACES + 1), -EINVAL);
}
END_TEST

START_TEST(generations)
{
	int64_t word = 5;

	fresh(3);
	ck_assert_int_eq(queue_put(&q, 2, &word, 1), -ESTALE);
	ck_assert_int_eq(queue_put(&q, 3, &word, 1), 0);
	ck_assert(!queue_retire(&q, &reader));
	ck_assert_int_eq(queue_put(&q, 3, &word, 1), -ESTALE);
	queue_open(&q, &reader, 4);
	ck_assert(queue_is_empty(&q, &reader));
	ck_assert_int_eq(queue_put(&q, 3, &word, 1), -ESTALE);
	ck_assert_int_eq(queue_put(&q, 4, &word, 1), 0);
	/* A writer that was killed after its claim. */
	q.used |= 1U << 31;
	ck_assert(queue_retire(&q, &reader));
}
END_TEST

/* Whatever a peer has written there: it ends, and touches nothing else. */
START_TEST(lies)
{
	int64_t out[QUEUE_PLACES];
	unsigned int i, n;

	srand(_i + 1);
	fresh(1);
	for (i = 0; i < QUEUE_PLACES; i++) {
		q.next[i] = rand();
		q.prev[i] = rand() % (QUEUE_PLACES + 3);
	}
	q.inbox = 1ULL << 32 | (uint32_t)(rand() % 40);
	n = queue_get(&q, &reader, out, QUEUE_PLACES);
	ck_assert_uint_le(n, QUEUE_PLACES);
	queue_retire(&q, &reader);
}
END_TEST

/* ------------------------------------------------------------- many writers */

static void *writer(void *arg)
{
	int64_t who = (intptr_t)arg, i, words[8];
	unsigned int n, k;

	for (i = 0; i < MESSAGES; i++) {
		n = 1 + i % 8;
		for (k = 0; k < n; k++)
			words[k] = who << 48 | (int64_t)n << 40 | (int64_t)k << 32 | i;
		while (queue_put(&q, 1, words, n) == -EAGAIN)
			sched_yield();
	}
	return NULL;
}

/* Each writer's messages come in its order, and whole. */
START_TEST(writers)
{
	pthread_t threads[WRITERS];
	int64_t next[WRITERS] = {}, word, left = (int64_t)WRITERS * MESSAGES;
	intptr_t i;

	fresh(1);
	for (i = 0; i < WRITERS; i++)
		ck_assert(!pthread_create(&threads[i], NULL, writer, (void *)i));
	while (left) {
		unsigned int n, k;
		int64_t who;

		if (!queue_get(&q, &reader, &word, 1)) {
			sched_yield();
			continue;
		}
		who = word >> 48;
		n = word >> 40 & 0xff;
		ck_assert(who >= 0 && who < WRITERS && n >= 1 && n <= 8);
		ck_assert_int_eq(word & 0xffffffff, next[who]);
		for (k = 1; k < n; k++) {
			int64_t more = 0;

			ck_assert_int_eq(queue_get(&q, &reader, &more, 1), 1);
			ck_assert_int_eq(more, word + ((int64_t)k << 32));
		}
		next[who]++;
		left--;
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert(queue_is_empty(&q, &reader) && !(uint32_t)q.used);
}
END_TEST

/* -------------------------------------------------------------- ready sets */

static struct ready_set set;

START_TEST(bits)
{
	static const uint32_t some[] = { 0, 1, 63, 64, 4095, 4096, 5000, 65535 };
	uint32_t from = 0;
	size_t i;

	memset(&set, 0, sizeof(set));
	ck_assert(!ready_any(&set));
	ck_assert_int_eq(ready_take(&set, &from), -1);
	for (i = 0; i < sizeof(some) / sizeof(*some); i++)
		ready_mark(&set, some[i]);
	ck_assert(ready_any(&set));
	for (i = 0; i < sizeof(some) / sizeof(*some); i++) {
		ck_assert_int_eq(ready_take(&set, &from), some[i]);
		ck_assert_uint_eq(from, some[i] + 1);
	}
	ck_assert_int_eq(ready_take(&set, &from), -1);
	ck_assert(!ready_any(&set));
	/* From the middle. */
	for (i = 0; i < sizeof(some) / sizeof(*some); i++)
		ready_mark(&set, some[i]);
	from = 4096;
	ck_assert_int_eq(ready_take(&set, &from), 4096);
	from = 65;
	ck_assert_int_eq(ready_take(&set, &from), 4095);
}
END_TEST

/* One counter for each bit: what was counted before a mark is found by a take. */
#define COUNTERS 200

static uint32_t counters[COUNTERS];

static void *marker(void *arg)
{
	unsigned int seed = (uintptr_t)arg;
	int i;

	for (i = 0; i < MESSAGES * 5; i++) {
		uint32_t n = rand_r(&seed) % COUNTERS;

		__atomic_fetch_add(&counters[n], 1, __ATOMIC_SEQ_CST);
		ready_mark(&set, n * 317);
	}
	return NULL;
}

START_TEST(markers)
{
	uint64_t want = (uint64_t)WRITERS * MESSAGES * 5, got = 0;
	pthread_t threads[WRITERS];
	uint32_t from = 0;
	uintptr_t i;

	memset(&set, 0, sizeof(set));
	memset(counters, 0, sizeof(counters));
	for (i = 0; i < WRITERS; i++)
		ck_assert(!pthread_create(&threads[i], NULL, marker, (void *)(i + 1)));
	while (got < want) {
		int at = ready_take(&set, &from);

		if (at >= 0)
			got += __atomic_exchange_n(&counters[at / 317], 0, __ATOMIC_SEQ_CST);
		else
			from = 0;
		if (at < 0 && !ready_any(&set))
			sched_yield();
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	from = 0;
	while (ready_take(&set, &from) >= 0)
		;
	ck_assert(!ready_any(&set));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("queue");
	TCase *t = tcase_create("queue");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, order);
	tcase_add_test(t, full);
	tcase_add_test(t, generations);
	tcase_add_loop_test(t, lies, 0, 2000);
	tcase_add_test(t, writers);
	tcase_add_test(t, bits);
	tcase_add_test(t, markers);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_set_fork_status(r, CK_FORK);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
