// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * As many threads as a service can have: 256 receivers in one, 1024 senders in
 * another, all at work at once; and one more of each is refused.
 */
#include "common.h"

#include <pthread.h>
#include <sys/ioctl.h>

#include <rpal/rpal.h>

#define SOCKET "@call-limits"
#define CALLS  5

static volatile int arrived, failed;
/* Held until all senders are there: a thousand pollers are too many. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void init(int n)
{
	if (rpal_init(n, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

static void many(int n, void *(*fn)(void *), pthread_t *threads)
{
	pthread_attr_t attr;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	for (i = 0; i < n; i++)
		MUST(!pthread_create(&threads[i], &attr, fn, (void *)(intptr_t)i));
}

static bool wait_for(volatile int *v, int want)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (__atomic_load_n(v, __ATOMIC_ACQUIRE) < want) {
		if (test_now_ns() > end)
			return false;
		usleep(10000);
	}
	return true;
}

static int64_t twice(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	int64_t *p = arg;

	(void)caller, (void)ctx;
	return len == sizeof(*p) ? *p * 2 : -1;
}

/* ---------------------------------------------------------------- receivers */

static void *receiver(void *arg)
{
	int r = rpal_thread_init();

	(void)arg;
	if (r) {
		printf("receiver: %d: %s\n", r, rpal_last_error());
		__atomic_add_fetch(&failed, 1, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&arrived, 1, __ATOMIC_RELEASE);
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return NULL;
}

static int server_role(void)
{
	static pthread_t threads[RPAL_MAX_RECEIVERS];
	int fd, r;

	init(RPAL_MAX_RECEIVERS);
	MUST(!rpal_export(1, twice, NULL));
	many(RPAL_MAX_RECEIVERS, receiver, threads);
	CHECK(wait_for(&arrived, RPAL_MAX_RECEIVERS), "%d receivers", arrived);
	CHECK(!failed, "%d", failed);
	r = rpal_thread_init();
	CHECK(r == -ENOSPC, "one more: %d", r);
	/* One less, one more. */
	rpal_serve_stop();
	for (r = 0; r < RPAL_MAX_RECEIVERS; r++)
		pthread_join(threads[r], NULL);
	r = rpal_thread_init();
	CHECK(!r, "all have ended, but: %d: %s", r, rpal_last_error());
	rpal_exit();
	init(RPAL_MAX_RECEIVERS);
	arrived = 0;
	many(RPAL_MAX_RECEIVERS, receiver, threads);
	CHECK(wait_for(&arrived, RPAL_MAX_RECEIVERS), "%d receivers", arrived);
	CHECK(!failed, "%d", failed);
	fd = rpal_listen(SOCKET);
	CHECK(rpal_accept(fd, 60000, NULL) > 0, "%s", rpal_last_error());
	test_send_u64(TEST_FD_DRIVER, test_failures());
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

/* ------------------------------------------------------------------ senders */

static int server;

static void *sender(void *arg)
{
	int64_t v, r;
	int i, err;

	if (rpal_sender_init(NULL)) {
		printf("sender: %s\n", rpal_last_error());
		__atomic_add_fetch(&failed, 1, __ATOMIC_RELEASE);
	}
	__atomic_add_fetch(&arrived, 1, __ATOMIC_RELEASE);
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	for (i = 0; i < CALLS; i++) {
		v = (intptr_t)arg * 1000 + i;
		err = rpal_call(server, 1, &v, sizeof(v), &r);
		if (err || r != 2 * v) {
			printf("sender %ld: %d, %ld: %s\n", (long)(intptr_t)arg, err, (long)r,
			       rpal_last_error());
			__atomic_add_fetch(&failed, 1, __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

static int client_role(void)
{
	static pthread_t threads[RPAL_MAX_SENDERS];
	rpal_error_code_t code = 0;
	int64_t v = 3, r;
	int i;

	init(1);
	server = rpal_connect(SOCKET, 60000, NULL);
	MUST(server > 0);
	pthread_mutex_lock(&gate);
	many(RPAL_MAX_SENDERS, sender, threads);
	CHECK(wait_for(&arrived, RPAL_MAX_SENDERS), "%d senders", arrived);
	CHECK(!failed, "%d", failed);
	CHECK(rpal_sender_init(&code) == RPAL_FAILURE, "one more is a sender");
	CHECK(code == RPAL_ERR_REACH_LIMIT, "one more: %d", code);
	i = rpal_call(server, 1, &v, sizeof(v), &r);
	CHECK(i == -ENOSPC, "one more: %d", i);
	pthread_mutex_unlock(&gate);
	for (i = 0; i < RPAL_MAX_SENDERS; i++)
		pthread_join(threads[i], NULL);
	CHECK(!failed, "%d", failed);
	/* Their blocks are free again. */
	i = rpal_call(server, 1, &v, sizeof(v), &r);
	CHECK(!i && r == 6, "after all have ended: %d: %s", i, rpal_last_error());
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "limits" };
	struct test_child server_, client;
	int status;
	u64 bad;

	test_init(argc, argv, roles);
	test_begin("%d receivers, %d senders", RPAL_MAX_RECEIVERS, RPAL_MAX_SENDERS);
	s.role = "server";
	MUST(!test_spawn(&server_, &s));
	s.role = "client";
	MUST(!test_spawn(&client, &s));
	bad = test_recv_u64(server_.sock);
	CHECK(!bad, "server: %d", (int)bad);
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&server_);
	test_end();
	return test_finish();
}
