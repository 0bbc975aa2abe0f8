// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Protection keys: a peer's memory is closed to everybody who has not opened
 * it, and a denied access says so; the own memory is open wherever code runs.
 */
#include "common.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

enum {
	OP_HANDLER = OP_USER, /* PKRU in a signal handler, and after it */
	OP_ALT_HANDLER,	      /* the same on another stack */
	OP_THREAD,	      /* PKRU in a new thread */
	OP_THREAD_HANDLER,    /* PKRU in a handler in a new thread */
	OP_FORKED,	      /* PKRU in a child */
	OP_FORKED_HANDLER,    /* PKRU in a handler in a child */
	OP_FAULT_HANDLER,     /* does the handler of a child's fault run? */
};

/* ----------------------------------------------------------- in the puppet */

static volatile u32 handler_pkru;

static void handler(int sig)
{
	volatile char room[4096];

	memset((char *)room, sig, sizeof(room));
	handler_pkru = pkru_read();
}

static u32 by_handler(int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	sigaction(SIGUSR1, &sa, NULL);
	handler_pkru = ~0U;
	raise(SIGUSR1);
	return handler_pkru;
}

static void *thread(void *want_handler)
{
	u32 v = want_handler ? by_handler(0) : pkru_read();

	return (void *)(u64)v;
}

static u32 by_thread(bool want_handler)
{
	pthread_t t;
	void *v;

	MUST(!pthread_create(&t, NULL, thread, want_handler ? "" : NULL));
	pthread_join(t, &v);
	return (u32)(u64)v;
}

static u32 by_child(bool want_handler)
{
	int fd[2], status;
	u32 v = ~0U;
	pid_t pid;

	MUST(!pipe(fd));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		v = pkru_read();
		if (want_handler)
			v = by_handler(0);
		_exit(write(fd[1], &v, sizeof(v)) != sizeof(v));
	}
	close(fd[1]);
	if (read(fd[0], &v, sizeof(v)) != sizeof(v))
		v = ~0U;
	close(fd[0]);
	status = test_wait(pid);
	return status ? ~0U : v;
}

static void fault_handler(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)si;
	(void)context;
	_exit(7);
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction sa = { .sa_sigaction = fault_handler, .sa_flags = SA_SIGINFO };
	int status;
	pid_t pid;

	switch (c->op) {
	case OP_HANDLER:
		r->val = by_handler(0);
		break;
	case OP_ALT_HANDLER:
		sigaltstack(&ss, NULL);
		r->val = by_handler(SA_ONSTACK);
		break;
	case OP_THREAD:
		r->val = by_thread(false);
		break;
	case OP_THREAD_HANDLER:
		r->val = by_thread(true);
		break;
	case OP_FORKED:
		r->val = by_child(false);
		break;
	case OP_FORKED_HANDLER:
		r->val = by_child(true);
		break;
	case OP_FAULT_HANDLER:
		/* In a child, where it is a fault of the child's own. */
		fflush(stdout);
		pid = fork();
		if (!pid) {
			sigaction(SIGSEGV, &sa, NULL);
			asm volatile("movb $1, 8" : : : "memory");
			_exit(1);
		}
		status = test_wait(pid);
		r->ret = WIFEXITED(status) && WEXITSTATUS(status) == 7;
		break;
	}
	if (c->op != OP_FAULT_HANDLER)
		r->ret = pkru_read();
}

static u32 user_do(struct puppet *p, int op, u32 *after)
{
	struct test_cmd c = { .op = op };
	struct test_res r;

	puppet_do(p, &c, &r);
	if (after)
		*after = r.ret;
	return r.val;
}

/* ------------------------------------------------------------ in the driver */

static struct puppet a, b;
static u64 there, not_yet; /* memory of b: touched, and not touched */

static void check_denied(int sig, u64 addr, int line)
{
	CHECK(sig == SIGSEGV, "line %d: signal %d", line, sig);
	CHECK(test_fault.code == SEGV_PKUERR, "line %d: code %d", line, test_fault.code);
	CHECK(test_fault.pkey == b.self.pkey, "line %d: key %u, not %u", line, test_fault.pkey,
	      b.self.pkey);
	CHECK(test_fault.addr == addr, "line %d: at %lx, not %lx", line, test_fault.addr, addr);
}

#define DENIED(expr, addr) check_denied(expr, addr, __LINE__)

static void defaults(void)
{
	unsigned int k;
	u32 pkru;

	test_begin("at exec the own key is open, all others are closed");
	pkru = puppet_pkru(&a);
	for (k = 1; k < 16; k++)
		CHECK(pkru_rights(pkru, k) == (k == a.self.pkey ? RIGHTS_WRITE : RIGHTS_NONE),
		      "pkru %x, own key %u", pkru, a.self.pkey);
	CHECK(a.self.pkey != b.self.pkey, "both have %u", a.self.pkey);
	test_end();
}

static void denied(void)
{
	u64 v, fresh, prot;
	int fd[2], x;
	long r;

	puppet_rights(&a, &b, RIGHTS_NONE);
	test_begin("closed: reading and writing");
	DENIED(puppet_load(&a, there, &v), there);
	DENIED(puppet_store(&a, there, 1), there);
	DENIED(puppet_load(&a, there + 2000, &v), there + 2000);
	test_end();
	test_begin("closed: memory that its owner has not touched");
	DENIED(puppet_load(&a, not_yet, &v), not_yet);
	DENIED(puppet_store(&a, not_yet + 3 * PAGE, 1), not_yet + 3 * PAGE);
	test_end();
	test_begin("closed: what is mapped later, or mapped otherwise");
	fresh = puppet_alloc(&b, PAGE, 2);
	DENIED(puppet_load(&a, fresh, &v), fresh);
	prot = puppet_alloc(&b, PAGE, 2);
	puppet_sys(&b, SYS_mprotect, prot, PAGE, PROT_EXEC);
	DENIED(puppet_load(&a, prot, &v), prot);
	puppet_sys(&b, SYS_mprotect, prot, PAGE, RW);
	DENIED(puppet_load(&a, prot, &v), prot);
	fresh = puppet_mmap(&b, 0, PAGE, PROT_EXEC, ANON);
	DENIED(puppet_load(&a, fresh, &v), fresh);
	fresh = puppet_mmap(&b, 0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
	DENIED(puppet_store(&a, fresh, 1), fresh);
	puppet_sys(&b, SYS_pkey_mprotect, prot, PAGE, RW, 0);
	DENIED(puppet_load(&a, prot, &v), prot);
	DENIED(puppet_load(&a, b.buf, &v), b.buf);
	test_end();
	test_begin("closed: no mapping is still no mapping");
	CHECK(puppet_load(&a, b.self.base + 7 * GB, &v) == SIGSEGV, "%lx", v);
	CHECK(test_fault.code == SEGV_MAPERR, "code %d", test_fault.code);
	test_end();
	test_begin("closed: the kernel does not go round it");
	MUST(!puppet_sys(&a, SYS_pipe, a.buf));
	puppet_get(&a, 0, fd, sizeof(fd));
	r = puppet_sys(&a, SYS_write, fd[1], there, 8);
	CHECK(r == -EFAULT, "%ld", r);
	r = puppet_sys(&a, SYS_write, fd[1], not_yet + 5 * PAGE, 8);
	CHECK(r == -EFAULT, "%ld", r);
	r = puppet_sys(&a, SYS_write, fd[1], a.buf, 8);
	CHECK(r == 8, "%ld", r);
	r = puppet_sys(&a, SYS_read, fd[0], there, 8);
	CHECK(r == -EFAULT, "%ld", r);
	test_end();
	test_begin("closed: keys do not forbid executing");
	{
		struct test_cmd c = { .op = OP_CODE };
		struct test_res res;

		puppet_do(&b, &c, &res);
		CHECK(!puppet_call(&a, res.val, 1, &x) && x == 2, "%d", x);
	}
	test_end();

	test_begin("open for reading only");
	puppet_rights(&a, &b, RIGHTS_READ);
	CHECK(!puppet_load(&a, there, &v) && v == 5, "%lx", v);
	CHECK(!puppet_load(&a, not_yet + 6 * PAGE, &v) && !v, "%lx", v);
	DENIED(puppet_store(&a, there, 6), there);
	DENIED(puppet_store(&a, not_yet + 6 * PAGE, 6), not_yet + 6 * PAGE);
	DENIED(puppet_store(&a, not_yet + 7 * PAGE, 6), not_yet + 7 * PAGE);
	r = puppet_sys(&a, SYS_write, fd[1], there, 8);
	CHECK(r == 8, "%ld", r);
	r = puppet_sys(&a, SYS_read, fd[0], there, 8);
	CHECK(r == -EFAULT, "%ld", r);
	r = puppet_sys(&a, SYS_read, fd[0], not_yet + 8 * PAGE, 8);
	CHECK(r == -EFAULT, "%ld", r);
	CHECK(!puppet_load(&b, there, &v) && v == 5, "%lx", v);
	test_end();

	test_begin("open");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	CHECK(!puppet_store(&a, there, 6), "signal %d", test_fault.sig);
	CHECK(!puppet_store(&a, not_yet + 9 * PAGE, 7), "signal %d", test_fault.sig);
	r = puppet_sys(&a, SYS_clock_gettime, 1, not_yet + 10 * PAGE);
	CHECK(!r, "%ld", r);
	CHECK(!puppet_load(&b, there, &v) && v == 6, "%lx", v);
	CHECK(!puppet_load(&b, not_yet + 9 * PAGE, &v) && v == 7, "%lx", v);
	puppet_rights(&a, &b, RIGHTS_NONE);
	DENIED(puppet_load(&a, there, &v), there);
	test_end();
}

static void contexts(void)
{
	static const struct {
		int op;
		bool comes_back; /* PKRU afterwards is what it was */
		const char *name;
	} ops[] = {
		{ OP_HANDLER, true, "a signal handler" },
		{ OP_ALT_HANDLER, true, "a signal handler on its own stack" },
		{ OP_THREAD, true, "a new thread" },
		{ OP_THREAD_HANDLER, true, "a signal handler in a new thread" },
		{ OP_FORKED, true, "a forked child" },
		{ OP_FORKED_HANDLER, true, "a signal handler in a forked child" },
	};
	u32 before, in, after;
	size_t i;

	puppet_rights(&a, &b, RIGHTS_WRITE);
	before = puppet_pkru(&a);
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		test_begin("%s has its own memory open and no peer's", ops[i].name);
		in = user_do(&a, ops[i].op, &after);
		CHECK(pkru_rights(in, a.self.pkey) == RIGHTS_WRITE, "pkru %x", in);
		CHECK(pkru_rights(in, b.self.pkey) == RIGHTS_NONE, "pkru %x", in);
		CHECK(after == before, "pkru %x became %x", before, after);
		test_end();
	}
	test_begin("the handler of a fault in a forked child");
	user_do(&a, OP_FAULT_HANDLER, &in);
	CHECK(in == 1, "%u", in);
	test_end();
	puppet_rights(&a, &b, RIGHTS_NONE);
}

static void groups(void)
{
	struct puppet p[15];
	size_t i, j;

	test_begin("members of a group have different keys");
	for (i = 0; i < ARRAY_SIZE(p); i++) {
		puppet_new(&p[i], "differ");
		for (j = 0; j < i; j++)
			CHECK(p[i].self.pkey != p[j].self.pkey, "key %u twice", p[i].self.pkey);
	}
	for (i = 0; i < ARRAY_SIZE(p); i++)
		CHECK(!puppet_end(&p[i]), "end");
	test_end();
}

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, NULL);
	if (!test_have_pkeys()) {
		printf("skip %s: no protection keys\n", test_name);
		return TEST_SKIP;
	}
	puppet_new(&a, "pkeys");
	puppet_new(&b, "pkeys");
	defaults();
	puppet_link(&a, &b);
	there = puppet_alloc(&b, PAGE, 5);
	not_yet = puppet_mmap(&b, 0, 16 * PAGE, RW, ANON);
	puppet_sys(&b, SYS_madvise, not_yet, 16 * PAGE, MADV_NOHUGEPAGE);
	denied();
	contexts();
	CHECK(!puppet_end(&a), "end");
	CHECK(!puppet_end(&b), "end");
	groups();
	return test_finish();
}
