// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Direct calls between linked processes: results, every error, grants, control
 * registers, nesting, busy receivers, signals, and ends of all kinds.
 */
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <rpal/rpal.h>

#define PATH_A	"@call-basic-a"
#define PATH_B	"@call-basic-b"
#define PATH_C	"@call-basic-c"
#define WAIT_MS 60000

#undef CHECK_IS
#define CHECK_IS(expr, want)                                                      \
	do {                                                                      \
		long is_ = (expr), want_ = (want);                                \
		CHECK(is_ == want_, "%s is %ld, not %ld (%s)", #expr, is_, want_, \
		      rpal_last_error());                                         \
	} while (0)

enum {
	P_SUM = 1, /* of the bytes of the argument */
	P_LOAD,	   /* one access to the argument; the signal it gave */
	P_STORE,
	P_CODE,	   /* what came with that signal */
	P_STATE,   /* 1 if thread, control words and stack are right */
	P_SPIN,	   /* until the word at the argument is not 0 */
	P_PID,	   /* getpid() */
	P_ADDRESS, /* of a word of the server's */
	P_EXIT_THREAD,
	P_DIE,	  /* the whole process */
	P_CALLER, /* what struct rpal_caller says */
	P_BOUNCE, /* calls the caller's service back, down to -ELOOP */
	P_RELAY,  /* calls P_SUM of the other server */
	P_CLOSE,  /* opens and closes the caller's memory, then answers */
	P_HOLE,	  /* exported and taken back */
};

/* ------------------------------------------------------------------- server */

static __thread int receiver;
static __thread char *stack_low, *stack_high;
static u64 word = 4711;
static int other = -1; /* the other server's id, for P_RELAY */

static void set_control(unsigned int n)
{
	u32 mxcsr = 0x1f80 | (n & 3) << 13;
	uint16_t fcw = 0x37f & ~((n & 3) << 8);

	asm volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(fcw));
}

static bool control_is(unsigned int n)
{
	uint16_t fcw;
	u32 mxcsr;

	asm volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	return mxcsr == (0x1f80 | (n & 3) << 13) && fcw == (0x37f & ~((n & 3) << 8));
}

static int64_t sum(const unsigned char *p, size_t len)
{
	int64_t s = 0;

	while (len--)
		s = s * 31 + *p++;
	return s;
}

static int64_t bounce(const struct rpal_caller *caller)
{
	int64_t result = 0;
	int err = rpal_call(caller->service_id, P_BOUNCE, NULL, 0, &result);

	return err ? err * 100 - (int)caller->depth : result;
}

static int store_open(int id, void *at)
{
	if (rpal_copy_prepare(id))
		return -1;
	if (test_store(at, 0x77) || rpal_copy_finish())
		return -2;
	return 0;
}

static int64_t procedure(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	int64_t result = 0;
	char here;
	u64 v;

	switch ((intptr_t)ctx) {
	case P_SUM:
		return sum(arg, len);
	case P_LOAD:
		return test_load(arg, &v);
	case P_STORE:
		return test_store(arg, 0x5a5a);
	case P_CODE:
		return test_fault.code;
	case P_STATE:
		return receiver && control_is(receiver) && &here > stack_low && &here < stack_high;
	case P_SPIN:
		while (!*(volatile int *)arg)
			test_pause();
		return 1;
	case P_PID:
		return syscall(SYS_getpid);
	case P_ADDRESS:
		return (intptr_t)&word;
	case P_EXIT_THREAD:
		pthread_exit(NULL);
	case P_DIE:
		syscall(SYS_exit_group, 3);
		return -1;
	case P_CALLER:
		return (int64_t)caller->service_id << 32 | caller->flags << 16 | caller->depth;
	case P_BOUNCE:
		return bounce(caller);
	case P_RELAY:
		/* Memory of the caller's caller is not passed on: a copy is. */
		v = *(u64 *)arg;
		if (rpal_call(other, P_SUM, &v, sizeof(v), &result))
			return -1;
		return result;
	case P_CLOSE:
		return store_open(caller->service_id, arg);
	}
	return -1;
}

static void export_all(void)
{
	intptr_t i;

	for (i = P_SUM; i <= P_HOLE; i++)
		MUST(!rpal_export(i, procedure, (void *)i));
	MUST(!rpal_export(P_HOLE, NULL, NULL));
}

static void *serve_thread(void *arg)
{
	pthread_attr_t attr;
	void *stack;
	size_t size;
	int r;

	receiver = (intptr_t)arg;
	set_control(receiver);
	MUST(!pthread_getattr_np(pthread_self(), &attr));
	MUST(!pthread_attr_getstack(&attr, &stack, &size));
	stack_low = stack;
	stack_high = stack_low + size;
	do
		r = rpal_serve(-1, -1);
	while (r == -EINTR);
	return (void *)(intptr_t)r;
}

static void start_receivers(int n)
{
	pthread_t thread;
	int i;

	for (i = 0; i < n; i++)
		MUST(!pthread_create(&thread, NULL, serve_thread, (void *)(intptr_t)(i + 1)));
}

static void init(int n)
{
	rpal_error_code_t code;

	if (rpal_init(n, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, &code) < 0) {
		printf("%s: rpal_init: %d: %s\n", test_name, code, rpal_last_error());
		_exit(1);
	}
}

/* Links with everybody who comes. test_arg: receivers, which one it is. */
static int server_role(void)
{
	int fd, id, sock, n = atoi(test_arg);

	init(n ? n : 1);
	export_all();
	start_receivers(n);
	if (strchr(test_arg, 'b')) {
		fd = rpal_listen(PATH_B);
	} else if (strchr(test_arg, 'c')) {
		fd = rpal_listen(PATH_C);
	} else {
		if (strchr(test_arg, '+')) {
			other = rpal_connect(PATH_B, WAIT_MS, NULL);
			CHECK(other > 0, "connect to b: %d: %s", other, rpal_last_error());
		}
		fd = rpal_listen(PATH_A);
	}
	if (!CHECK(fd >= 0, "listen: %d: %s", fd, rpal_last_error()))
		return 1;
	for (;;) {
		id = rpal_accept(fd, -1, &sock);
		/* The socket stays open: clients see by it when we end. */
		if (id == -ECONNABORTED)
			continue;
		CHECK(id > 0, "accept: %d: %s", id, rpal_last_error());
	}
}

/* A service that asks for nobody: only gives its key. */
static int silent_role(void)
{
	u64 key;

	init(1);
	MUST(!rpal_get_service_key(&key));
	test_send_u64(TEST_FD_DRIVER, key);
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

/* ------------------------------------------------------------------- client */

static int a, b, c; /* the servers */
static int b_sock;

static void connect_a(void)
{
	a = rpal_connect(PATH_A, WAIT_MS, NULL);
	if (!CHECK(a > 0, "connect: %d: %s", a, rpal_last_error()))
		_exit(1);
}

static int64_t result_of(int id, int proc, void *arg, size_t len, unsigned int flags)
{
	int64_t r = -12345;
	int err = rpal_call_flags(id, proc, arg, len, &r, flags);

	CHECK(!err, "procedure %d: %d: %s", proc, err, rpal_last_error());
	return r;
}

static int call_error(int id, int proc, void *arg, size_t len, unsigned int flags)
{
	int64_t r = 99;
	int err = rpal_call_flags(id, proc, arg, len, &r, flags);

	CHECK(!err || r == 99, "failed, but result is %ld", (long)r);
	CHECK(!err || rpal_last_error()[0], "no sentence for %d", err);
	return err;
}

/* A service id that is nobody's we know. */
static int unknown_id(void)
{
	int id = 254;

	while (id == a || id == b || id == rpal_get_service_id())
		id--;
	return id;
}

static void errors(u64 silent_key)
{
	static unsigned char buf[64];
	void *low;
	int id;

	test_begin("an error for each case");
	CHECK_IS(call_error(0, 1, NULL, 0, 0), -ESRCH);
	CHECK_IS(call_error(-1, 1, NULL, 0, 0), -ESRCH);
	CHECK_IS(call_error(255, 1, NULL, 0, 0), -ESRCH);
	CHECK_IS(call_error(rpal_get_service_id(), 1, NULL, 0, 0), -ESRCH);
	CHECK_IS(call_error(unknown_id(), 1, NULL, 0, 0), -ESRCH);
	CHECK_IS(call_error(a, 0, NULL, 0, 0), -ENOENT);
	CHECK_IS(call_error(a, P_HOLE, NULL, 0, 0), -ENOENT);
	CHECK_IS(call_error(a, RPAL_MAX_PROCEDURES, NULL, 0, 0), -ENOENT);
	CHECK_IS(call_error(a, 0xffffffff, NULL, 0, 0), -ENOENT);
	CHECK_IS(call_error(a, P_SUM, buf, 64, 8), -EINVAL);
	CHECK_IS(call_error(a, P_SUM, buf, 64, RPAL_CALL_GRANT_NONE | RPAL_CALL_GRANT_WRITE),
		 -EINVAL);
	CHECK_IS(call_error(a, P_SUM, NULL, 1, 0), -EFAULT);
	CHECK_IS(call_error(a, P_SUM, buf, ~0UL, 0), -EFAULT);
	low = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (CHECK(low != MAP_FAILED, "no low memory: %d", errno)) {
		CHECK_IS(call_error(a, P_SUM, low, 8, 0), -EFAULT);
		munmap(low, PAGE);
	}
	CHECK_IS(rpal_export(RPAL_MAX_PROCEDURES, procedure, NULL), -EINVAL);
	CHECK_IS(rpal_export(P_SUM, procedure, NULL), -EEXIST);

	CHECK_IS(rpal_request_service(silent_key), 0);
	CHECK_IS(rpal_request_service(silent_key), -EALREADY);
	CHECK_IS(rpal_request_service(silent_key + 1), -ENOENT);
	CHECK_IS(rpal_request_service(0), -ENOENT);
	CHECK_IS(rpal_get_request_service_id(silent_key), -1);
	for (id = 1; id <= 254; id++)
		if (id != a && call_error(id, 1, NULL, 0, 0) == -ENOTCONN)
			break;
	CHECK(id <= 254, "no service is -ENOTCONN");
	CHECK_IS(rpal_copy_prepare(id), RPAL_FAILURE);
	CHECK_IS(rpal_release_service(silent_key), RPAL_SUCCESS);
	CHECK_IS(rpal_release_service(silent_key), RPAL_FAILURE);
	CHECK_IS(call_error(id, 1, NULL, 0, 0), -ESRCH);
	test_end();
}

static void results(void)
{
	unsigned char buf[4096];
	unsigned int i, n;

	test_begin("arguments and results");
	for (i = 0; i < 20000; i++) {
		n = test_random() % (i % 100 ? 64 : sizeof(buf));
		buf[n / 2] = i;
		buf[n] = i >> 3;
		if (!CHECK(result_of(a, P_SUM, buf, n, 0) == sum(buf, n), "call %u", i))
			break;
	}
	CHECK_IS(rpal_call(a, P_SUM, NULL, 0, NULL), 0);
	CHECK_IS(result_of(a, P_CALLER, NULL, 0, RPAL_CALL_GRANT_WRITE),
		 (int64_t)rpal_get_service_id() << 32 | RPAL_CALL_GRANT_WRITE << 16 | 1);
	test_end();
}

static void grants(void)
{
	static u64 v = 7;
	unsigned char byte = 9;

	test_begin("grants");
	CHECK_IS(result_of(a, P_STORE, &v, sizeof(v), RPAL_CALL_GRANT_WRITE), 0);
	CHECK_IS(v, 0x5a5a);
	v = 7;
	CHECK_IS(result_of(a, P_LOAD, &v, sizeof(v), 0), 0);
	CHECK_IS(result_of(a, P_SUM, &byte, 1, RPAL_CALL_GRANT_WRITE), 9);
	CHECK_IS(result_of(a, P_STATE, &v, sizeof(v), RPAL_CALL_GRANT_NONE), 1);
	if (test_have_pkeys()) {
		CHECK_IS(result_of(a, P_STORE, &v, sizeof(v), 0), SIGSEGV);
		CHECK_IS(result_of(a, P_CODE, NULL, 0, 0), SEGV_PKUERR);
		CHECK_IS(v, 7);
		CHECK_IS(result_of(a, P_LOAD, &v, sizeof(v), RPAL_CALL_GRANT_NONE), SIGSEGV);
		CHECK_IS(result_of(a, P_STORE, &v, sizeof(v), RPAL_CALL_GRANT_NONE), SIGSEGV);
		CHECK_IS(v, 7);
	}
	/* A procedure may close what it has from its caller, and come back. */
	CHECK_IS(result_of(a, P_CLOSE, &v, sizeof(v), 0), 0);
	CHECK_IS(v, 0x77);
	test_end();
}

static void own_memory_afterwards(void)
{
	u32 before = pkru_read();
	static u64 v;
	u64 x;
	int i;

	test_begin("rights before and after are the same");
	for (i = 0; i < 300; i++) {
		result_of(a, P_STATE, NULL, 0,
			  i % 3 == 0 ? 0 :
			  i % 3 == 1 ? RPAL_CALL_GRANT_NONE :
				       RPAL_CALL_GRANT_WRITE);
		if (!CHECK(pkru_read() == before, "PKRU is %x, was %x", pkru_read(), before))
			break;
	}
	CHECK_IS(test_store(&v, 1), 0);
	if (test_have_pkeys())
		CHECK_IS(test_load((void *)result_of(a, P_ADDRESS, NULL, 0, 0), &x), SIGSEGV);
	test_end();
}

/*
 * void checked(struct checked *c): c->fn(c->a[0..5]) with known values in the
 * callee-saved registers, and a count of those that have changed.
 */
struct checked {
	void *fn;
	u64 a[6];
	u64 ret;
	u64 bad;
};

void checked(struct checked *c);

/* clang-format off */
asm(
"	.text\n"
"checked:\n"
"	push	%rbx\n	push	%rbp\n	push	%r12\n"
"	push	%r13\n	push	%r14\n	push	%r15\n"
"	push	%rdi\n"
"	lea	1(%rdi), %rbx\n	lea	2(%rdi), %rbp\n	lea	3(%rdi), %r12\n"
"	lea	4(%rdi), %r13\n	lea	5(%rdi), %r14\n	lea	6(%rdi), %r15\n"
"	mov	%rdi, %rax\n"
"	mov	8(%rax), %rdi\n	mov	16(%rax), %rsi\n	mov	24(%rax), %rdx\n"
"	mov	32(%rax), %rcx\n	mov	40(%rax), %r8\n	mov	48(%rax), %r9\n"
"	call	*(%rax)\n"
"	pop	%rdi\n"
"	mov	%rax, 56(%rdi)\n"
"	sub	%rdi, %rbx\n	cmp	$1, %rbx\n	jne	1f\n"
"	sub	%rdi, %rbp\n	cmp	$2, %rbp\n	jne	1f\n"
"	sub	%rdi, %r12\n	cmp	$3, %r12\n	jne	1f\n"
"	sub	%rdi, %r13\n	cmp	$4, %r13\n	jne	1f\n"
"	sub	%rdi, %r14\n	cmp	$5, %r14\n	jne	1f\n"
"	sub	%rdi, %r15\n	cmp	$6, %r15\n	je	2f\n"
"1:	incq	64(%rdi)\n"
"2:	pop	%r15\n	pop	%r14\n	pop	%r13\n"
"	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
"	ret\n"
);
/* clang-format on */

static void registers(void)
{
	static const int procs[] = { P_STATE, P_SUM, P_PID, P_CALLER, P_HOLE };
	static __thread int tls;
	struct checked k = { .fn = rpal_call_flags };
	int64_t r;
	unsigned int i, n;

	test_begin("registers, control words, thread-local storage");
	tls = 4242;
	for (i = 0; i < 400; i++) {
		set_control(i);
		n = i % ARRAY_SIZE(procs);
		k.a[0] = a;
		k.a[1] = procs[n];
		k.a[2] = (uintptr_t)&r;
		k.a[3] = sizeof(r);
		k.a[4] = (uintptr_t)&r;
		k.a[5] = i % 2 ? RPAL_CALL_GRANT_NONE : RPAL_CALL_GRANT_WRITE;
		if (procs[n] == P_SUM)
			k.a[5] = 0;
		checked(&k);
		if (!CHECK(!k.bad, "callee-saved registers, procedure %d", procs[n]) ||
		    !CHECK(control_is(i), "control words, procedure %d", procs[n]) ||
		    !CHECK(tls == 4242, "thread-local storage, procedure %d", procs[n]))
			break;
		if (procs[n] == P_STATE)
			CHECK_IS(r, 1);
	}
	set_control(0);
	test_end();
}

static void syscalls(pid_t pid)
{
	int i;

	test_begin("a system call in a procedure is the receiver's");
	for (i = 0; i < 500; i++)
		if (!CHECK(result_of(a, P_PID, NULL, 0, 0) == pid, "call %d", i))
			break;
	CHECK_IS(getpid(), syscall(SYS_getpid));
	test_end();
}

static void copy_between(void)
{
	u64 *there = (u64 *)result_of(a, P_ADDRESS, NULL, 0, 0), v;

	test_begin("rpal_copy_prepare, rpal_copy_finish");
	CHECK_IS(rpal_copy_finish(), RPAL_FAILURE);
	CHECK_IS(rpal_copy_prepare(a), RPAL_SUCCESS);
	CHECK_IS(test_load(there, &v), 0);
	CHECK_IS(v, 4711);
	CHECK_IS(test_store(there, 4712), 0);
	/* Calls may be made meanwhile. */
	CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
	CHECK_IS(test_load(there, &v), 0);
	CHECK_IS(v, 4712);
	CHECK_IS(test_store(there, 4711), 0);
	CHECK_IS(rpal_copy_prepare(b), RPAL_SUCCESS);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	if (test_have_pkeys()) {
		CHECK_IS(test_load(there, &v), SIGSEGV);
		CHECK_IS(test_fault.code, SEGV_PKUERR);
	}
	CHECK_IS(rpal_copy_finish(), RPAL_FAILURE);
	test_end();
}

static void nesting(void)
{
	u64 v = 0x1234567;
	int64_t r;
	int i;

	test_begin("calls in calls");
	for (i = 0; i < 2000; i++, v++)
		if (!CHECK(result_of(a, P_RELAY, &v, sizeof(v), 0) ==
				   sum((unsigned char *)&v, sizeof(v)),
			   "call %d", i))
			break;
	/* Back and forth between two services, as deep as it goes. */
	r = result_of(a, P_BOUNCE, NULL, 0, 0);
	CHECK_IS(r, -ELOOP * 100 - RPAL_MAX_DEPTH);
	test_end();
}

/* --- several threads */

struct spinner {
	pthread_t thread;
	volatile int go;
	int err;
	int64_t result;
};

static void *spin_thread(void *arg)
{
	struct spinner *s = arg;

	s->err = rpal_call(b, P_SPIN, (void *)&s->go, sizeof(s->go), &s->result);
	return NULL;
}

static void *sum_thread(void *arg)
{
	struct spinner *s = arg;

	s->err = rpal_call(b, P_SUM, &s->result, 1, &s->result);
	s->go = 1;
	return NULL;
}

/* b has one receiver. */
static void busy(void)
{
	struct spinner s = {}, w[3] = {};
	int i, err = 0;

	test_begin("the only receiver is busy");
	CHECK_IS(result_of(b, P_STATE, NULL, 0, RPAL_CALL_NOWAIT), 1);
	MUST(!pthread_create(&s.thread, NULL, spin_thread, &s));
	for (i = 0; i < 10000 && err != -EAGAIN; i++) {
		err = rpal_call_flags(b, P_CODE, NULL, 0, NULL, RPAL_CALL_NOWAIT);
		usleep(100);
	}
	CHECK_IS(err, -EAGAIN);
	CHECK_IS(call_error(b, P_CODE, NULL, 0, RPAL_CALL_NOWAIT), -EAGAIN);
	for (i = 0; i < 3; i++)
		MUST(!pthread_create(&w[i].thread, NULL, sum_thread, &w[i]));
	usleep(300000);
	for (i = 0; i < 3; i++)
		CHECK(!w[i].go, "a call has not waited");
	s.go = 1;
	pthread_join(s.thread, NULL);
	CHECK_IS(s.err, 0);
	CHECK_IS(s.result, 1);
	for (i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		CHECK_IS(w[i].err, 0);
	}
	CHECK_IS(result_of(b, P_STATE, NULL, 0, RPAL_CALL_NOWAIT), 1);
	test_end();
}

struct hammer {
	pthread_t thread;
	int calls;
	int bad;
};

static void *hammer_thread(void *arg)
{
	struct hammer *h = arg;
	unsigned char buf[64];
	int64_t r;
	int i, err;

	set_control(h->calls);
	memset(buf, h->calls, sizeof(buf));
	for (i = 0; i < h->calls; i++) {
		memcpy(buf, &i, sizeof(i));
		r = 0;
		err = rpal_call(c, P_SUM, buf, sizeof(buf), &r);
		if (err || r != sum(buf, sizeof(buf)) || !control_is(h->calls)) {
			if (h->bad++ < 3)
				printf("call %d: %d, %lx: %s\n", i, err, (long)r,
				       rpal_last_error());
		}
	}
	return NULL;
}

/* c has two receivers. */
static void four_by_two(void)
{
	struct hammer h[4];
	int i;

	test_begin("4 senders, 2 receivers");
	for (i = 0; i < 4; i++) {
		h[i] = (struct hammer){ .calls = 5000 + i };
		MUST(!pthread_create(&h[i].thread, NULL, hammer_thread, &h[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(h[i].thread, NULL);
		CHECK_IS(h[i].bad, 0);
	}
	test_end();
}

/* --- signals */

static volatile int alarms, alarm_busy, alarm_fine, alarm_odd;

static void on_alarm(int sig)
{
	int err, saved = errno;
	int64_t r;

	(void)sig;
	err = rpal_call(a, P_STATE, NULL, 0, &r);
	alarms++;
	if (err == -EBUSY)
		alarm_busy++;
	else if (!err && r == 1)
		alarm_fine++;
	else
		alarm_odd++;
	errno = saved;
}

static void signals(void)
{
	struct itimerval it = { { 0, 3000 }, { 0, 3000 } }, off = {};
	u64 end = test_now_ns() + 3000000000ULL;
	unsigned char buf[256];
	volatile u64 x = 0;
	int i;

	test_begin("signal handlers that call, in and between calls");
	memset(buf, 5, sizeof(buf));
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &it, NULL);
	while (test_now_ns() < end) {
		if (!CHECK(result_of(a, P_SUM, buf, sizeof(buf), 0) == sum(buf, sizeof(buf)),
			   "after %d signals", alarms))
			break;
		for (i = 0; i < 10000; i++)
			x++;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_DFL);
	printf("  %d signals, %d in calls, %d odd\n", alarms, alarm_busy, alarm_odd);
	CHECK(alarms > 10, "%d", alarms);
	CHECK_IS(alarm_odd, 0);
	CHECK(alarm_fine > 0, "%d", alarm_fine);
	test_end();
}

/* --- ends */

static void receiver_dies(void)
{
	test_begin("a receiver ends in a procedure");
	CHECK_IS(call_error(b, P_EXIT_THREAD, NULL, 0, 0), -EPIPE);
	CHECK_IS(call_error(b, P_STATE, NULL, 0, RPAL_CALL_NOWAIT), -ECONNREFUSED);
	CHECK_IS(call_error(b, P_STATE, NULL, 0, 0), -ECONNREFUSED);
	/* One of two: the other one serves. */
	CHECK_IS(call_error(c, P_EXIT_THREAD, NULL, 0, 0), -EPIPE);
	CHECK_IS(result_of(c, P_STATE, NULL, 0, 0), 1);
	test_end();
}

static void peer_dies(void)
{
	char byte;

	test_begin("the peer ends");
	/* The driver kills it; its socket tells when it is gone. */
	test_send_u64(TEST_FD_DRIVER, 1);
	CHECK(read(b_sock, &byte, 1) <= 0, "the socket of the dead is alive");
	CHECK_IS(call_error(b, P_STATE, NULL, 0, 0), -EPIPE);
	CHECK_IS(call_error(b, P_STATE, NULL, 0, 0), -EPIPE);
	CHECK_IS(rpal_copy_prepare(b), RPAL_FAILURE);
	CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
	/* In the middle of a call. */
	CHECK_IS(call_error(c, P_DIE, NULL, 0, 0), -EPIPE);
	CHECK_IS(call_error(c, P_STATE, NULL, 0, 0), -EPIPE);
	CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
	test_end();
}

static void again(void)
{
	u64 key, key2;
	int i;

	test_begin("rpal_exit and rpal_init again");
	CHECK_IS(rpal_get_service_key(&key), 0);
	CHECK_IS(rpal_init(1, 0, NULL), -1);
	for (i = 0; i < 3; i++) {
		rpal_exit();
		rpal_exit();
		CHECK_IS(call_error(a, P_STATE, NULL, 0, 0), -ENXIO);
		CHECK_IS(rpal_get_service_id(), -1);
		CHECK_IS(rpal_get_service_key(&key2), RPAL_FAILURE);
		CHECK_IS(rpal_sender_init(NULL), RPAL_FAILURE);
		CHECK_IS(rpal_thread_init(), -ENXIO);
		init(3);
		CHECK_IS(rpal_get_service_key(&key2), 0);
		CHECK(key != key2, "the key is the same");
		CHECK_IS(call_error(a, P_STATE, NULL, 0, 0), -ESRCH);
		connect_a();
		CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
		CHECK_IS(rpal_sender_exit(), RPAL_SUCCESS);
		CHECK_IS(rpal_sender_exit(), RPAL_FAILURE);
		CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
	}
	test_end();
}

static void *stopped_thread(void *arg)
{
	return (void *)(intptr_t)rpal_serve(*(int *)arg, *(int *)arg >= 0 ? 100 : -1);
}

static void serving(void)
{
	int p[2], none = -1;
	pthread_t t;
	void *r;

	test_begin("rpal_serve: time-out, event, stop");
	MUST(!pipe(p));
	MUST(!pthread_create(&t, NULL, stopped_thread, &p[0]));
	pthread_join(t, &r);
	CHECK_IS((intptr_t)r, RPAL_SERVE_TIMEOUT);
	MUST(write(p[1], "x", 1) == 1);
	MUST(!pthread_create(&t, NULL, stopped_thread, &p[0]));
	pthread_join(t, &r);
	CHECK_IS((intptr_t)r, RPAL_SERVE_EVENT);
	MUST(!pthread_create(&t, NULL, stopped_thread, &none));
	usleep(100000);
	rpal_serve_stop();
	pthread_join(t, &r);
	CHECK_IS((intptr_t)r, RPAL_SERVE_STOPPED);
	CHECK_IS(rpal_serve(-1, 10), RPAL_SERVE_STOPPED);
	rpal_thread_exit();
	close(p[0]);
	close(p[1]);
	test_end();
}

static void in_child(void)
{
	int status = -1;
	pid_t pid;

	test_begin("a forked child is no service");
	pid = fork();
	if (!pid) {
		int64_t r;
		int ok = rpal_call(a, P_STATE, NULL, 0, &r) == -ENXIO &&
			 rpal_get_service_id() == -1 && rpal_init(1, 0, NULL) == -1;

		_exit(ok ? 0 : 1);
	}
	status = test_wait(pid);
	CHECK(!status, "%s", test_status(status));
	CHECK_IS(result_of(a, P_STATE, NULL, 0, 0), 1);
	test_end();
}

static int client_role(void)
{
	u64 silent_key, pid;
	int id;

	silent_key = test_recv_u64(TEST_FD_DRIVER);
	pid = test_recv_u64(TEST_FD_DRIVER);
	test_begin("before rpal_init");
	CHECK_IS(rpal_call(1, 1, NULL, 0, NULL), -ENXIO);
	CHECK_IS(rpal_is_enabled(), 1);
	CHECK_IS(rpal_is_enabled_fast(), 1);
	CHECK_IS(rpal_connect(PATH_A, 0, NULL), -ENXIO);
	rpal_exit();
	test_end();
	init(8);
	export_all();
	id = rpal_get_service_id();
	CHECK(id >= 1 && id <= 254, "id %d", id);
	connect_a();
	b = rpal_connect(PATH_B, WAIT_MS, &b_sock);
	CHECK(b > 0 && b != a, "connect to b: %d: %s", b, rpal_last_error());

	results();
	errors(silent_key);
	grants();
	own_memory_afterwards();
	registers();
	syscalls(pid);
	copy_between();
	serving();
	rpal_exit();
	init(8);
	connect_a();
	b = rpal_connect(PATH_B, WAIT_MS, &b_sock);
	c = rpal_connect(PATH_C, WAIT_MS, NULL);
	start_receivers(4);
	nesting();
	busy();
	four_by_two();
	signals();
	in_child();
	receiver_dies();
	peer_dies();
	return 0;
}

/* Without receivers of its own, so that it can end and begin again. */
static int again_role(void)
{
	init(1);
	connect_a();
	again();
	return 0;
}

/* ------------------------------------------------------------------- driver */

static int unplaced_role(void)
{
	rpal_error_code_t code = 0;

	test_begin("rpal_init in a process that was not placed");
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	CHECK(strstr(rpal_last_error(), "rpal run") && strstr(rpal_last_error(), "rpal mark") &&
		      strstr(rpal_last_error(), "rpal-placed"),
	      "%s", rpal_last_error());
	CHECK_IS(rpal_init(0, 0, &code), -1);
	CHECK_IS(code, RPAL_INVALID_ARG);
	CHECK_IS(rpal_init(257, 0, &code), -1);
	CHECK_IS(code, RPAL_INVALID_ARG);
	CHECK_IS(rpal_init(1, 1 << 30, &code), -1);
	CHECK_IS(code, RPAL_INVALID_ARG);
	CHECK_IS(rpal_is_enabled(), 0);
	CHECK_IS(rpal_is_enabled_fast(), 0);
	test_end();
	return 0;
}

static void start(struct test_child *c, const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .arg = arg, .group = "call" };
	int err = test_spawn(c, &s);

	if (!CHECK(!err, "%s: %d", role, err))
		_exit(1);
}

static const struct test_role roles[] = { { "server", server_role },
					  { "silent", silent_role },
					  { "client", client_role },
					  { "again", again_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_child sa, sb, sc, silent, client;
	u64 x;
	int status;

	test_init(argc, argv, roles);
	unplaced_role();
	start(&sb, "server", "1b");
	start(&sa, "server", "5a+");
	start(&sc, "server", "2c");
	start(&silent, "silent", "");
	start(&client, "client", "");
	test_send_u64(client.sock, test_recv_u64(silent.sock));
	test_send_u64(client.sock, sa.pid);
	if (test_try_recv(client.sock, &x, sizeof(x)))
		test_reap(&sb);
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	start(&client, "again", "");
	status = test_wait(client.pid);
	CHECK(!status, "again: %s", test_status(status));
	test_reap(&silent);
	test_reap(&sa);
	test_reap(&sc);
	return test_finish();
}
