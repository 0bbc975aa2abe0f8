/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the programs that test calls share.
 *
 * The driver of such a program starts a client, which is a service, and the
 * client starts the servers that a case needs: with receivers that run the
 * procedures of a table, and to be killed or to die. What is wrong in a
 * procedure comes back as the number of the line where it was seen.
 */
#ifndef TESTS_GUEST_CALL_H
#define TESTS_GUEST_CALL_H

#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <rpal/rpal.h>

/* The same, with what the library says of it. */
#undef CHECK_IS
#define CHECK_IS(expr, want)                                                      \
	do {                                                                      \
		long is_ = (expr), want_ = (want);                                \
		CHECK(is_ == want_, "%s is %ld, not %ld (%s)", #expr, is_, want_, \
		      rpal_last_error());                                         \
	} while (0)

/* In a procedure: what must hold, or the line is its result. */
#define NEED(cond)                                \
	do {                                      \
		if (!(cond))                      \
			return -10000 - __LINE__; \
	} while (0)

#define CALL_UNUSED __attribute__((unused))

/* The head of a procedure. */
#define PROC(name)                                                         \
	static int64_t name(void *arg CALL_UNUSED, size_t len CALL_UNUSED, \
			    const struct rpal_caller *caller CALL_UNUSED, void *ctx CALL_UNUSED)

/* ------------------------------------------------------------------- server */

/* Set in each receiver thread before it serves. */
static __thread pid_t call_tid CALL_UNUSED;
/* What each receiver thread does first, if anything. */
static void (*call_receiver_begins)(void);

static inline void call_init(int receivers)
{
	rpal_error_code_t code;

	if (rpal_init(receivers, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, &code) < 0) {
		printf("%s: rpal_init: %d: %s\n", test_name, code, rpal_last_error());
		_exit(1);
	}
}

static inline void *call_serve_thread(void *arg CALL_UNUSED)
{
	int r;

	call_tid = syscall(SYS_gettid);
	if (call_receiver_begins)
		call_receiver_begins();
	do
		r = rpal_serve(-1, -1);
	while (r == -EINTR);
	return NULL;
}

static inline void call_receivers(int n)
{
	pthread_t thread;

	while (n--)
		MUST(!pthread_create(&thread, NULL, call_serve_thread, NULL));
}

/*
 * A server: test_arg is "RECEIVERS PATH"; procedures have the numbers of the
 * table. Links with everybody who comes, and never returns.
 */
static inline int call_server(const rpal_procedure_fn *procs, int nr)
{
	int i, fd, id, sock, receivers = atoi(test_arg);
	const char *path = strchr(test_arg, ' ') + 1;

	for (i = 0; i < nr; i++)
		if (procs[i])
			MUST(!rpal_export(i, procs[i], NULL));
	call_init(receivers);
	call_receivers(receivers);
	fd = rpal_listen(path);
	if (!CHECK(fd >= 0, "listen: %d: %s", fd, rpal_last_error()))
		return 1;
	for (;;) {
		/* The socket stays open: clients see by it when we end. */
		id = rpal_accept(fd, -1, &sock);
		CHECK(id > 0 || id == -ECONNABORTED, "accept: %d: %s", id, rpal_last_error());
	}
}

/* ------------------------------------------------------------------- client */

struct call_peer {
	struct test_child child;
	int id;
	int sock;
	char path[64];
};

static inline void call_connect(struct call_peer *p)
{
	p->id = rpal_connect(p->path, test_patience() * 1000, &p->sock);
	if (!CHECK(p->id > 0, "connect to %s: %d: %s", p->path, p->id, rpal_last_error()))
		_exit(1);
}

/* Start a server of this program and link with it. */
static inline void call_peer_new(struct call_peer *p, const char *role, int receivers)
{
	static int n;
	char arg[96];
	struct test_spawn s = { .role = role, .arg = arg, .group = "call" };
	int err;

	snprintf(p->path, sizeof(p->path), "@%s-%d-%d", test_name, getpid(), n++);
	snprintf(arg, sizeof(arg), "%d %s", receivers, p->path);
	err = test_spawn(&p->child, &s);
	if (!CHECK(!err, "%s: %d", role, err))
		_exit(1);
	call_connect(p);
}

static inline void call_peer_end(struct call_peer *p)
{
	test_reap(&p->child);
	close(p->sock);
}

static inline int64_t call_result(struct call_peer *p, int proc, void *arg, size_t len,
				  unsigned int flags)
{
	int64_t r = -12345;
	int err = rpal_call_flags(p->id, proc, arg, len, &r, flags);

	CHECK(!err, "procedure %d: %d: %s", proc, err, rpal_last_error());
	return r;
}

static inline int call_error(struct call_peer *p, int proc, void *arg, size_t len)
{
	return rpal_call_flags(p->id, proc, arg, len, NULL, RPAL_CALL_GRANT_WRITE);
}

/* A call in a thread of its own. */
struct call_thread {
	pthread_t thread;
	struct call_peer *peer;
	int proc;
	void *arg;
	size_t len;
	pid_t tid;
	int err;
	int64_t result;
	bool done;
};

static inline void *call_thread_run(void *arg)
{
	struct call_thread *c = arg;

	__atomic_store_n(&c->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	c->err = rpal_call_flags(c->peer->id, c->proc, c->arg, c->len, &c->result,
				 RPAL_CALL_GRANT_WRITE);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline void call_begin(struct call_thread *c, struct call_peer *peer, int proc, void *arg,
			      size_t len)
{
	*c = (struct call_thread){ .peer = peer, .proc = proc, .arg = arg, .len = len };
	MUST(!pthread_create(&c->thread, NULL, call_thread_run, c));
}

/* Its error; 0: the procedure has run. */
static inline int call_join(struct call_thread *c)
{
	pthread_join(c->thread, NULL);
	return c->err;
}

/* Until *@p is at least @v; false if it takes too long. */
static inline bool call_wait_for(const volatile int *p, int v)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (__atomic_load_n(p, __ATOMIC_ACQUIRE) < v) {
		if (test_now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* ------------------------------------------------------------------- driver */

/* Start the client, and wait for its end. */
static inline void call_run_client(const char *role)
{
	struct test_spawn s = { .role = role, .group = "call" };
	struct test_child c;
	int status, err = test_spawn(&c, &s);

	if (!CHECK(!err, "%s: %d", role, err))
		return;
	status = test_wait(c.pid);
	CHECK(!status, "%s: %s", role, test_status(status));
	close(c.sock);
}

#endif /* TESTS_GUEST_CALL_H */
