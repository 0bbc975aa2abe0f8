// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Recovery points of the library, one case at a time: rpal_copy_prepare() that
 * returns a second time, recovery points in each other, around calls and waits, and
 * in signal handlers. stress-recovery does it all at random.
 */
#include "call.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define TRAP_FLAG 0x100 /* of the flags */
#define STATS	  "/sys/kernel/debug/rpal/stats"

enum { P_GETPID, P_MAP, P_PROTECT, P_SLEEP, P_SPIN, P_OPEN, P_CALL, P_NR };

static u64 *page;

PROC(p_getpid)
{
	return syscall(SYS_getpid);
}

/* A page whose first word is known. */
PROC(p_map)
{
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*page = 4711;
	return (intptr_t)page;
}

PROC(p_protect)
{
	return mprotect(page, PAGE, *(int *)arg);
}

/* Until the caller's word says so. */
PROC(p_sleep)
{
	volatile int *go = arg;

	while (!*go)
		usleep(1000);
	return 4712;
}

PROC(p_spin)
{
	volatile int *go = arg;

	while (!*go)
		test_pause();
	return 4713;
}

/* Opens its caller's memory, and leaves it open; or touches what is not there. */
PROC(p_open)
{
	volatile int *there = arg;

	if (rpal_copy_prepare(caller->service_id))
		return there == NULL ? 3 : 2;
	return there == NULL ? *(volatile int *)(RPAL_SLOT_SIZE * (caller->service_id + 1) - PAGE) :
			       *there;
}

/* Calls its caller back, in a wait for messages of that one. */
PROC(p_call)
{
	int64_t r = -1;
	int err = rpal_call(caller->service_id, P_GETPID, NULL, 0, &r);

	return err ? err : r;
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_GETPID] = p_getpid, [P_MAP] = p_map,	  [P_PROTECT] = p_protect, [P_SLEEP] = p_sleep,
	[P_SPIN] = p_spin,     [P_OPEN] = p_open, [P_CALL] = p_call,
};

static int server_role(void)
{
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a, b;
static volatile u64 *at; /* the page of a */

static void protect(int prot)
{
	CHECK_IS(call_result(&a, P_PROTECT, &prot, sizeof(prot), 0), 0);
}

static int touch(va_list args)
{
	return *va_arg(args, volatile u64 *);
}

/* Without opening anything. */
static bool guarded(void)
{
	int ret = 0;

	return !rpal_read_access_safety(touch, &ret, at) && ret == 4711;
}

static int64_t copied(void)
{
	struct rpal_buffer buffer = { .addr = (void *)at, .len = 8 };
	int64_t word = 0, n = rpal_copy_buffer(a.id, &word, &buffer, 0, 8);

	return n == 8 ? word : n;
}

static u32 rights;

static void all_closed(void)
{
	CHECK_IS(rpal_copy_finish(), RPAL_FAILURE);
	CHECK(pkru_read() == rights, "pkru %x, was %x", pkru_read(), rights);
}

/* 1: the second return came where it should. */
static int open_and_touch(volatile int *step, bool store)
{
	*step = 0;
	if (rpal_copy_prepare(a.id)) {
		CHECK(strstr(rpal_last_error(), "not there"), "\"%s\"", rpal_last_error());
		return *step;
	}
	*step = 1;
	if (store)
		*at = 4711;
	*step += *at == 4711;
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	return *step;
}

static void second_return(void)
{
	volatile int step;
	int i;

	test_begin("rpal_copy_prepare returns a second time");
	for (i = 0; i < 50; i++) {
		protect(PROT_READ | PROT_WRITE);
		CHECK_IS(open_and_touch(&step, i % 2), 2);
		all_closed();
		protect(i % 2 ? PROT_READ : PROT_NONE);
		CHECK_IS(open_and_touch(&step, i % 2), 1);
		all_closed();
	}
	protect(PROT_READ | PROT_WRITE);
	test_end();
}

static void last_of_several(void)
{
	volatile int step = 0;

	test_begin("of several the last one does");
	if (rpal_copy_prepare(a.id)) {
		CHECK(false, "the first, in step %d", step);
		return;
	}
	if (rpal_copy_prepare(b.id)) {
		CHECK_IS(step, 2);
		all_closed();
		protect(PROT_READ | PROT_WRITE);
		test_end();
		return;
	}
	step = 1;
	CHECK_IS(*at, 4711);
	protect(PROT_NONE);
	step = 2;
	CHECK(false, "there is %lu", (unsigned long)*at);
}

static void in_between(void)
{
	volatile int step = 0;

	test_begin("calls and other recovery points in between");
	if (rpal_copy_prepare(a.id)) {
		CHECK_IS(step, 2);
		all_closed();
		protect(PROT_READ | PROT_WRITE);
		test_end();
		return;
	}
	step = 1;
	CHECK_IS(call_result(&a, P_GETPID, NULL, 0, 0), a.child.pid);
	CHECK_IS(*at, 4711);
	CHECK(guarded(), "%s", rpal_last_error());
	CHECK_IS(copied(), 4711);
	protect(PROT_NONE);
	CHECK(!guarded(), "it is there");
	CHECK_IS(copied(), -EFAULT);
	CHECK_IS(call_result(&b, P_GETPID, NULL, 0, 0), b.child.pid);
	CHECK(!guarded(), "it is there");
	step = 2;
	CHECK(false, "there is %lu", (unsigned long)*at);
}

/* Leaves it open, or is cut in the middle of it. */
static int open_inside(va_list args)
{
	bool there = va_arg(args, int);
	volatile int step = 0;

	if (rpal_copy_prepare(a.id))
		return step;
	step = 1;
	return *at == 4711 ? 2 + there : 4;
}

static int guard_inside(va_list args)
{
	int ret = 0, failed = rpal_read_access_safety(touch, &ret, at);

	(void)args;
	CHECK(failed, "it is there");
	CHECK_IS(call_result(&a, P_GETPID, NULL, 0, 0), a.child.pid);
	return *at;
}

static void inside(void)
{
	int i, ret;

	test_begin("inside of a recovery point");
	for (i = 0; i < 20; i++) {
		ret = 0;
		CHECK_IS(rpal_read_access_safety(open_inside, &ret, 1), RPAL_SUCCESS);
		CHECK_IS(ret, 3);
		all_closed();
		protect(PROT_NONE);
		CHECK_IS(rpal_read_access_safety(open_inside, &ret, 0), RPAL_SUCCESS);
		CHECK_IS(ret, 1);
		all_closed();
		CHECK_IS(rpal_read_access_safety(guard_inside, &ret), RPAL_FAILURE);
		all_closed();
		protect(PROT_READ | PROT_WRITE);
	}
	test_end();
}

static void in_procedures(void)
{
	int word = 17, i;

	test_begin(
		"a procedure that leaves its caller's memory open, or touches what is not there");
	for (i = 0; i < 20; i++) {
		CHECK_IS(call_result(&a, P_OPEN, &word, sizeof(word), 0), 17);
		CHECK_IS(call_result(&a, P_OPEN, NULL, 0, 0), 3);
	}
	test_end();
}

/* ------------------------------------------------------------ signal handlers */

static volatile int handled, handler_bad, go;
static volatile int calls_want; /* what a call in the handler must say */
static int after;		/* how many of them end what is interrupted */

static void on_alarm(int sig)
{
	int64_t r = -1, word = 0;
	int saved = errno, err;

	(void)sig;
	err = rpal_call(b.id, P_GETPID, NULL, 0, &r);
	/* One that comes before the call or behind it may call. */
	if (err ? err != calls_want : r != b.child.pid)
		handler_bad++;
	/* There is no such queue, but who cannot call is told that first. */
	if (rpal_write_ptrs(b.id, 0, &word, 1) != (err ? -RPAL_INVAL_THREAD : -RPAL_FDE_OUTDATED))
		handler_bad++;
	/* There are rights for neither, but what a copy has opened itself. */
	if (copied() != (handled % 2 ? -EFAULT : 4711))
		handler_bad++;
	if (test_have_pkeys() && guarded())
		handler_bad++;
	if (++handled >= after)
		go = 1;
	errno = saved;
}

/* A page that is there for every second signal. */
static void *flip(void *unused)
{
	int seen, prot;

	for (seen = 0; !go;) {
		if (seen == handled) {
			usleep(200);
			continue;
		}
		seen = handled;
		prot = seen % 2 ? PROT_NONE : PROT_READ | PROT_WRITE;
		protect(prot);
		kill(getpid(), SIGALRM);
	}
	return unused;
}

static void begin_signals(pthread_t *t, int n, int want)
{
	sigset_t set;

	handled = handler_bad = go = 0;
	after = n;
	calls_want = want;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	MUST(!pthread_create(t, NULL, flip, NULL));
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	kill(getpid(), SIGALRM);
}

static void end_signals(pthread_t t)
{
	pthread_join(t, NULL);
	CHECK(handled >= after, "%d handlers", handled);
	CHECK_IS(handler_bad, 0);
	protect(PROT_READ | PROT_WRITE);
}

static int loop(va_list args)
{
	volatile u64 *word = va_arg(args, volatile u64 *);
	int n = 0;

	while (!go)
		n |= *word != 0;
	return n;
}

static int quiet_loop(void)
{
	volatile int step = 0;

	if (rpal_copy_prepare(a.id))
		return step;
	step = 1;
	while (!go)
		;
	step = 2;
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	return step;
}

static void handlers(void)
{
	pthread_t t;
	u64 own = 1;
	int ret = 0;

	signal(SIGALRM, on_alarm);
	test_begin("a signal handler interrupts a recovery point");
	begin_signals(&t, 40, 0);
	CHECK_IS(rpal_read_access_safety(loop, &ret, &own), RPAL_SUCCESS);
	CHECK_IS(ret, 1);
	end_signals(t);
	all_closed();
	test_end();

	test_begin("and one of rpal_copy_prepare");
	begin_signals(&t, 40, 0);
	CHECK_IS(quiet_loop(), 2);
	end_signals(t);
	all_closed();
	test_end();

	test_begin("and a call that sleeps");
	begin_signals(&t, 40, -EBUSY);
	CHECK_IS(call_result(&b, P_SLEEP, (void *)&go, sizeof(go), 0), 4712);
	end_signals(t);
	all_closed();
	test_end();

	test_begin("and a call in user mode");
	begin_signals(&t, 40, -EBUSY);
	CHECK_IS(call_result(&b, P_SPIN, (void *)&go, sizeof(go), 0), 4713);
	end_signals(t);
	all_closed();
	test_end();
	signal(SIGALRM, SIG_DFL);
}

/* ---------------------------------------------------------------------- waits */

static void *wait_thread(void *arg)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), *stage = arg;
	volatile int step = 0;
	struct epoll_event ev;
	volatile int n = 0;

	MUST(!rpal_thread_init());
	rights = pkru_read();
	if (rpal_copy_prepare(a.id)) {
		CHECK_IS(step, 2);
		all_closed();
		step = 3;
	} else {
		step = 1;
		__atomic_store_n(stage, 1, __ATOMIC_RELEASE);
		/* It is called in here. */
		while (__atomic_load_n(stage, __ATOMIC_ACQUIRE) == 1)
			n |= rpal_epoll_wait(ep, &ev, 1, 20);
		CHECK_IS(n, 0);
		CHECK_IS(*at, 4711);
		protect(PROT_NONE);
		step = 2;
		CHECK(false, "there is %lu", (unsigned long)*at);
	}
	close(ep);
	return NULL;
}

static void waits(void)
{
	pthread_t t;
	int stage = 0, i;

	test_begin("a receiver waits in between, and is called");
	MUST(!rpal_export(P_GETPID, p_getpid, NULL));
	MUST(!pthread_create(&t, NULL, wait_thread, &stage));
	CHECK(call_wait_for(&stage, 1), "it does not begin");
	for (i = 0; i < 50; i++)
		CHECK_IS(call_result(&b, P_CALL, NULL, 0, 0), getpid());
	__atomic_store_n(&stage, 2, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	protect(PROT_READ | PROT_WRITE);
	test_end();
}

/* The library's own; all that is between it and the saved context is a few moves. */
long rpal_tr_ioctl(int fd, unsigned long cmd, void *arg);

static volatile int stepped;

/* After each instruction, until the thread is about to wait in the kernel. */
static void on_step(int sig, siginfo_t *si, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	int64_t r = -1;

	(void)sig, (void)si;
	if (g[REG_RIP] != (greg_t)(uintptr_t)rpal_tr_ioctl || (u32)g[REG_RSI] != RPAL_IOC_WAIT)
		return;
	g[REG_EFL] &= ~TRAP_FLAG;
	CHECK_IS(rpal_call(b.id, P_GETPID, NULL, 0, &r), 0);
	CHECK_IS(r, b.child.pid);
	CHECK_IS(copied(), 4711);
	CHECK(!guarded() || !test_have_pkeys(), "it is open");
	stepped++;
}

static void *step_thread(void *unused)
{
	int r;

	MUST(!rpal_thread_init());
	asm volatile("pushfq; orl %0, (%%rsp); popfq" : : "i"(TRAP_FLAG) : "memory", "cc");
	do
		r = rpal_serve(-1, -1);
	while (r == -EINTR);
	CHECK_IS(r, RPAL_SERVE_STOPPED);
	return unused;
}

/* With its context saved, so that it may be called, and not called yet. */
static void handler_before_wait(void)
{
	struct sigaction sa = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	pthread_t t;
	int i;

	test_begin("a signal handler calls while its thread is about to wait");
	MUST(!sigaction(SIGTRAP, &sa, NULL));
	MUST(!pthread_create(&t, NULL, step_thread, NULL));
	CHECK(call_wait_for(&stepped, 1), "no step has led there");
	for (i = 0; i < 50; i++)
		CHECK_IS(call_result(&b, P_CALL, NULL, 0, 0), getpid());
	rpal_serve_stop();
	pthread_join(t, NULL);
	signal(SIGTRAP, SIG_DFL);
	test_end();
}

static int client_role(void)
{
	long before = test_file_value(STATS, "guards_recovered");

	/* A fault that is not recovered is to show as what it is. */
	signal(SIGSEGV, SIG_DFL);
	call_init(1);
	call_peer_new(&a, "server", 2);
	call_peer_new(&b, "server", 2);
	at = (u64 *)call_result(&a, P_MAP, NULL, 0, 0);
	rights = pkru_read();
	second_return();
	last_of_several();
	in_between();
	inside();
	in_procedures();
	handlers();
	waits();
	handler_before_wait();
	CHECK(test_file_value(STATS, "guards_recovered") > before + 200, "%ld, then %ld", before,
	      test_file_value(STATS, "guards_recovered"));
	call_peer_end(&a);
	call_peer_end(&b);
	return test_failures() != 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
