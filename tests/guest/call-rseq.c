// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Restartable sequences: librpal takes them from its threads and gives them
 * back, and a thread that takes them again does not die of it when the kernel
 * writes its area in the middle of a call.
 */
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <rpal/rpal.h>

#define PATH	 "/tmp/call-rseq.sock"
#define STATS	 "/sys/kernel/debug/rpal/stats"
#define P_SPIN	 1
#define WAIT_MS	 60000
#define NR_CALLS 200
#define SPIN	 1000000
#define UNREG	 1 /* RSEQ_FLAG_UNREGISTER */

static volatile bool done;

static int64_t spin(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	u64 end = *(u64 *)arg;
	volatile u64 i;

	(void)len, (void)caller, (void)ctx;
	for (i = 0; i < end; i++)
		;
	return i;
}

static void init(void)
{
	MUST(rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) >= 0);
}

static int server_role(void)
{
	init();
	MUST(!rpal_export(P_SPIN, spin, NULL));
	MUST(!rpal_thread_init());
	MUST(rpal_accept(rpal_listen(PATH), WAIT_MS, NULL) > 0);
	while (rpal_serve(-1, -1) == -EINTR)
		;
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

/* Each time another task runs here the kernel writes the area afterwards. */
static void *disturb(void *arg)
{
	(void)arg;
	test_pin(0);
	while (!done)
		sched_yield();
	return NULL;
}

static void taken_and_given_back(int id)
{
	u64 n = 1;
	int64_t r;

	test_begin("librpal takes rseq from a sender and gives it back");
	CHECK(__rseq_size && has_rseq(), "the C library has registered it");
	CHECK(!rpal_call(id, P_SPIN, &n, sizeof(n), &r), "%s", rpal_last_error());
	CHECK(!has_rseq(), "still there");
	CHECK(sched_getcpu() >= 0, "sched_getcpu");
	CHECK(rpal_sender_exit() == RPAL_SUCCESS, "%s", rpal_last_error());
	CHECK(has_rseq(), "not given back");
	test_end();
}

static void kept(int id)
{
	pthread_t thread;
	u64 n = SPIN;
	int64_t r;
	int i, bad = 0;
	long faults = test_file_value(STATS, "lazy_fault");

	test_begin("a sender that takes it again");
	MUST(!pthread_create(&thread, NULL, disturb, NULL));
	test_pin(0);
	CHECK(!rpal_call(id, P_SPIN, &n, sizeof(n), &r), "%s", rpal_last_error());
	CHECK(!rseq(0), "register");
	for (i = 0; i < NR_CALLS; i++) {
		int err = rpal_call(id, P_SPIN, &n, sizeof(n), &r);

		if (err || r != SPIN)
			CHECK(bad++ > 5, "call %d: %d, result %lld: %s", i, err, (long long)r,
			      err ? rpal_last_error() : "");
	}
	CHECK(!bad, "%d of %d calls", bad, NR_CALLS);
	CHECK(has_rseq(), "lost");
	/* Where the kernel could not write, the fault has ended in a hand-over. */
	CHECK(test_file_value(STATS, "lazy_fault") == faults, "%ld faults",
	      test_file_value(STATS, "lazy_fault") - faults);
	CHECK(!rseq(UNREG), "unregister");
	done = true;
	MUST(!pthread_join(thread, NULL));
	test_end();
}

static int client_role(void)
{
	int id;

	init();
	id = rpal_connect(PATH, WAIT_MS, NULL);
	MUST(id > 0);
	taken_and_given_back(id);
	kept(id);
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
