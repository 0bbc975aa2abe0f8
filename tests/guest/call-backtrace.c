// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Who looks at the stack in a procedure sees the receiver's frames down to its
 * thread's start, through the trampoline, and none of the caller's.
 */
#include "common.h"

#include <execinfo.h>
#include <pthread.h>

#include <rpal/rpal.h>

#define SOCKET "@call-backtrace"

struct trace {
	void *frame[32];
	int n;
};

static int64_t trace(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	struct trace *t = arg;

	(void)caller, (void)ctx;
	if (len != sizeof(*t))
		return -1;
	t->n = backtrace(t->frame, ARRAY_SIZE(t->frame));
	return t->n;
}

static __attribute__((noinline)) void *receiver(void *arg)
{
	int r;

	do
		r = rpal_serve(-1, -1);
	while (r == -EINTR);
	return arg;
}

static void init(void)
{
	if (rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
}

static int server_role(void)
{
	struct trace t;
	pthread_t thread;
	int fd;

	t.n = backtrace(t.frame, 4); /* loads the unwinder */
	init();
	MUST(!rpal_export(1, trace, NULL));
	MUST(!pthread_create(&thread, NULL, receiver, NULL));
	test_send_u64(TEST_FD_DRIVER, (uintptr_t)receiver);
	test_send_u64(TEST_FD_DRIVER, (uintptr_t)trace);
	fd = rpal_listen(SOCKET);
	MUST(rpal_accept(fd, 60000, NULL) > 0);
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

static bool has(const struct trace *t, u64 from, u64 len)
{
	int i;

	for (i = 0; i < t->n; i++)
		if ((u64)t->frame[i] - from < len)
			return true;
	return false;
}

static int client_role(void)
{
	u64 receiver_at = test_recv_u64(TEST_FD_DRIVER), trace_at = test_recv_u64(TEST_FD_DRIVER);
	struct trace t = {};
	struct rpal_self self;
	int fd, id, i, err;
	int64_t n;

	init();
	id = rpal_connect(SOCKET, 60000, NULL);
	MUST(id > 0);
	err = rpal_call_flags(id, 1, &t, sizeof(t), &n, RPAL_CALL_GRANT_WRITE);
	CHECK(!err, "%d: %s", err, rpal_last_error());
	CHECK(n == t.n && n >= 5, "%d frames", (int)n);
	CHECK(has(&t, trace_at, 256), "the procedure is not there");
	CHECK(has(&t, receiver_at, 256), "the receiver's thread is not there");
	fd = test_open();
	MUST(fd >= 0 && !test_self(fd, &self));
	CHECK(!has(&t, self.base, self.end - self.base), "a frame of the caller's");
	for (i = 0; i < t.n && test_failures(); i++)
		printf("  #%d %p\n", i, t.frame[i]);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "backtrace" };
	struct test_child server, client;
	int status, i;

	test_init(argc, argv, roles);
	test_begin("backtrace in a procedure");
	s.role = "server";
	MUST(!test_spawn(&server, &s));
	s.role = "client";
	MUST(!test_spawn(&client, &s));
	for (i = 0; i < 2; i++) {
		u64 v = test_recv_u64(server.sock);

		test_send_u64(client.sock, v);
	}
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&server);
	test_end();
	return test_finish();
}
