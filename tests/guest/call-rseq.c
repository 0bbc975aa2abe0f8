// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Restartable sequences: librpal takes them from its threads and gives them
 * back; a registered thread cannot take them again, or the kernel would write
 * its area in the middle of a call, under rights that close it.
 */
#include "common.h"

#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <rpal/rpal.h>

#define PATH	  "/tmp/call-rseq.sock"
#define P_NOTHING 1
#define P_TAKE	  2
#define WAIT_MS	  60000
#define UNREG	  1 /* RSEQ_FLAG_UNREGISTER */

static int64_t nothing(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return 0;
}

static int rseq(int flags)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	return syscall(SYS_rseq, area, 32, flags, RSEQ_SIG) ? -errno : 0;
}

static bool has_rseq(void)
{
	const struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);

	return (int)area->cpu_id >= 0;
}

/* In a procedure: its own thread, a receiver. */
static int64_t take(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return rseq(0);
}

static void init(void)
{
	MUST(rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) >= 0);
}

static int server_role(void)
{
	init();
	MUST(!rpal_export(P_NOTHING, nothing, NULL));
	MUST(!rpal_export(P_TAKE, take, NULL));
	MUST(!rpal_thread_init());
	MUST(rpal_accept(rpal_listen(PATH), WAIT_MS, NULL) > 0);
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return 0;
}

static void taken_and_given_back(int id)
{
	int64_t r;

	test_begin("librpal takes rseq from a sender and gives it back");
	CHECK(__rseq_size && has_rseq(), "the C library has registered it");
	CHECK(!rpal_call(id, P_NOTHING, NULL, 0, &r), "%s", rpal_last_error());
	CHECK(!has_rseq(), "still there");
	CHECK(sched_getcpu() >= 0, "sched_getcpu");
	CHECK(rpal_sender_exit() == RPAL_SUCCESS, "%s", rpal_last_error());
	CHECK(has_rseq(), "not given back");
	test_end();
}

static void refused(int id)
{
	int64_t r;

	test_begin("a registered thread cannot take it again");
	CHECK(!rpal_call(id, P_NOTHING, NULL, 0, &r), "%s", rpal_last_error());
	CHECK(rseq(0) == -EBUSY, "a sender: %d", rseq(0));
	/* The kernel's own answer to who has none. */
	CHECK(rseq(UNREG) == -EINVAL, "unregister: %d", rseq(UNREG));
	CHECK(!rpal_call(id, P_TAKE, NULL, 0, &r), "%s", rpal_last_error());
	CHECK(r == -EBUSY, "a receiver: %lld", (long long)r);
	CHECK(!has_rseq(), "it has");
	CHECK(!rpal_call(id, P_NOTHING, NULL, 0, &r), "%s", rpal_last_error());
	test_end();
}

static int client_role(void)
{
	int id;

	init();
	id = rpal_connect(PATH, WAIT_MS, NULL);
	MUST(id > 0);
	taken_and_given_back(id);
	refused(id);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "server", .group = "rseq" };
	struct test_child server, client;
	int status;

	test_init(argc, argv, roles);
	MUST(!(errno = test_spawn(&server, &s)));
	s.role = "client";
	MUST(!(errno = test_spawn(&client, &s)));
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&server);
	return test_finish();
}
