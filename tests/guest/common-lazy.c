// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls that enter the kernel in all ways, see common-lazy.h.
 */
#include "common-lazy.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#define STATS	    "/sys/kernel/debug/rpal/stats"
#define REFERENCES  "/sys/module/rpal/refcnt"
#define ALT_STACK   (128 * 1024)
#define TOUCH_PAGES 64

struct lazy_shared *lazy;
int lazy_fd;

static int process;
static int own_id;
static pid_t own_pid;

/* What a thread is, and what its procedures use. */
static __thread struct mine {
	u64 fsbase; /* 0: not one of ours, or not yet */
	u32 mxcsr;
	uint16_t fcw;
	u32 pkru;
	pid_t tid;
	u32 random;
	bool receiver;
	int in_procedure;
	u64 stack, stack_end;
	u64 alt, alt_end;
	struct regs *regs;
	struct regs *handler_regs;
	u32 handler_random;
	unsigned char *touch;
	unsigned int touched;
	unsigned char *closed;
	volatile int expect; /* signal that a fault is to cause */
	volatile u64 expect_addr;
	volatile int came;
	int ask[2], answer[2]; /* pipes to the thread that answers */
	u32 futex;
} mine;

/* Threads that get signals which the process does not get as a whole. */
static pid_t target[LAZY_THREADS];
static int targets;

static const int signals[LAZY_SIGNALS] = { SIGUSR1, SIGUSR2, SIGALRM, SIGIO, SIGURG };

void lazy_bad(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (LAZY_ADD(lazy->bad) > 20)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("%s: pid %d tid %d: %s\n", test_name, own_pid, mine.tid, text);
	fflush(stdout);
}

u32 lazy_random(void)
{
	return regs_next(&mine.random);
}

static u64 mix(u64 x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ULL;
	return x ^ x >> 29;
}

int64_t lazy_answer(int id, int op, u64 seed)
{
	return mix(seed + mix((u64)id << 8 | op));
}

/* ------------------------------------------------------------ who is running */

void lazy_still_me(const char *where, int op)
{
	u64 fs = regs_fsbase(), here = (u64)__builtin_frame_address(0);
	u32 pkru = pkru_read(), mxcsr;
	uint16_t fcw;

	regs_control(&mxcsr, &fcw);
	if (fs != mine.fsbase || (mxcsr & ~0x3f) != mine.mxcsr || fcw != mine.fcw)
		lazy_bad("%s, op %d: fsbase %lx/%lx mxcsr %x/%x fcw %x/%x", where, op, (long)fs,
			 (long)mine.fsbase, mxcsr, mine.mxcsr, fcw, mine.fcw);
	if (here < mine.stack || here >= mine.stack_end)
		lazy_bad("%s, op %d: stack %lx", where, op, (long)here);
	/* A procedure has the rights that its caller grants. */
	if (!mine.in_procedure && pkru != mine.pkru)
		lazy_bad("%s, op %d: pkru %x/%x", where, op, pkru, mine.pkru);
}

static bool on_own_stack(u64 sp, bool *alternate)
{
	*alternate = sp >= mine.alt && sp <= mine.alt_end;
	return *alternate || (sp >= mine.stack && sp <= mine.stack_end);
}

static void maps_line(u64 addr)
{
	static const char head[] = "  in ";
	char line[300];
	u64 start, end;
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && addr >= start && addr < end)
			if (write(1, head, 5) < 0 || write(1, line, strlen(line)) < 0)
				break;
	if (f)
		fclose(f);
}

/* Not expected: all that may tell why, and the end of the process. */
static void dump(int sig, const siginfo_t *si, const ucontext_t *uc)
{
	static const char *const names[] = { "r8",  "r9",  "r10", "r11", "r12", "r13",
					     "r14", "r15", "di",  "si",	 "bp",	"bx",
					     "dx",  "ax",  "cx",  "sp",	 "ip",	"fl" };
	const greg_t *g = uc->uc_mcontext.gregs;
	char text[1200];
	int n, i;

	n = snprintf(text, sizeof(text),
		     "%s: pid %d tid %ld (of the context: %d): unexpected signal %d code %d addr %p "
		     "pkey %u fsbase %lx/%lx procedure %d expect %d\n ",
		     test_name, own_pid, syscall(SYS_gettid), mine.tid, sig, si->si_code,
		     si->si_addr, si->si_code == SEGV_PKUERR ? si->si_pkey : 0, (long)regs_fsbase(),
		     (long)mine.fsbase, mine.in_procedure, mine.expect);
	for (i = 0; i < 18; i++)
		n += snprintf(text + n, sizeof(text) - n, " %s %llx", names[i], g[i]);
	n += snprintf(text + n, sizeof(text) - n, " err %llx stack %lx-%lx alt %lx-%lx\n",
		      g[REG_ERR], (long)mine.stack, (long)mine.stack_end, (long)mine.alt,
		      (long)mine.alt_end);
	if (lazy)
		LAZY_ADD(lazy->bad);
	if (write(1, text, n) != n)
		_exit(71);
	maps_line(g[REG_RIP]);
	maps_line((u64)si->si_addr);
	_exit(70);
}

/* ----------------------------------------------------------------- handlers */

/* A system call, all registers, the thread-local variable: all one thread's. */
static void check_handler(int sig, const ucontext_t *uc)
{
	u64 here = (u64)__builtin_frame_address(0), sp = uc->uc_mcontext.gregs[REG_RSP];
	u64 ip = uc->uc_mcontext.gregs[REG_RIP];
	bool alternate, before;
	struct regs *r = mine.handler_regs;
	char text[200];

	if (regs_fsbase() != mine.fsbase || syscall(SYS_gettid) != mine.tid)
		lazy_bad("signal %d in thread %ld, fsbase %lx/%lx", sig, syscall(SYS_gettid),
			 (long)regs_fsbase(), (long)mine.fsbase);
	if (!on_own_stack(here, &alternate) || !on_own_stack(sp, &before) ||
	    ip >> RPAL_SLOT_SHIFT != (u64)own_id)
		lazy_bad("signal %d: stack %lx, interrupted %lx, ip %lx", sig, (long)here, (long)sp,
			 (long)ip);
	if (alternate)
		LAZY_ADD(lazy->alternate[process]);
	regs_random(r, &mine.handler_random);
	r->in[R_AX] = SYS_gettid;
	r->action = regs_syscall;
	regs_probe(r);
	if ((pid_t)r->out[R_AX] != mine.tid ||
	    !regs_same(r, REGS_BIT(R_AX) | REGS_BIT(R_CX) | REGS_BIT(R_11), text, sizeof(text)))
		lazy_bad("registers in the handler of %d: ax %lx: %s", sig, (long)r->out[R_AX],
			 text);
}

static void on_signal(int sig, siginfo_t *si, void *context)
{
	int saved = errno, i;

	(void)si;
	if (mine.fsbase)
		check_handler(sig, context);
	for (i = 0; i < LAZY_SIGNALS && signals[i] != sig; i++)
		;
	LAZY_ADD(lazy->handled[process][i]);
	errno = saved;
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;

	if (!mine.fsbase || mine.expect != sig || syscall(SYS_gettid) != mine.tid)
		dump(sig, si, uc);
	if (sig == SIGSEGV) {
		if ((u64)si->si_addr != mine.expect_addr ||
		    mprotect(mine.closed, PAGE, PROT_READ | PROT_WRITE))
			dump(sig, si, uc);
	} else if (g[REG_RIP] != (greg_t)mine.expect_addr) {
		dump(sig, si, uc);
	}
	if (sig == SIGILL)
		g[REG_RIP] += 2;
	mine.expect = 0;
	mine.came++;
	LAZY_ADD(lazy->faults);
}

static void signal_set(sigset_t *set)
{
	int i;

	sigemptyset(set);
	for (i = 0; i < LAZY_SIGNALS; i++)
		sigaddset(set, signals[i]);
}

void lazy_handlers(bool restart, bool alternate)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	int i;

	/* One at a time, so that they may share what they check with. */
	signal_set(&sa.sa_mask);
	for (i = 0; i < LAZY_SIGNALS; i++) {
		sa.sa_flags = SA_SIGINFO | (restart && i != 1 ? SA_RESTART : 0) |
			      (alternate && i >= 1 ? SA_ONSTACK : 0);
		MUST(!sigaction(signals[i], &sa, NULL));
	}
}

static void catch_faults(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	size_t i;

	signal_set(&sa.sa_mask);
	for (i = 0; i < ARRAY_SIZE(faults); i++)
		MUST(!sigaction(faults[i], &sa, NULL));
}

/* ------------------------------------------------------------------- threads */

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static void know_stacks(void)
{
	pthread_attr_t attr;
	stack_t alt = { .ss_size = ALT_STACK };
	size_t size;
	void *p;

	MUST(!pthread_getattr_np(pthread_self(), &attr));
	MUST(!pthread_attr_getstack(&attr, &p, &size));
	pthread_attr_destroy(&attr);
	mine.stack = (u64)p;
	mine.stack_end = (u64)p + size;
	alt.ss_sp = pages(ALT_STACK, PROT_READ | PROT_WRITE);
	MUST(!sigaltstack(&alt, NULL));
	mine.alt = (u64)alt.ss_sp;
	mine.alt_end = mine.alt + ALT_STACK;
}

/* Whoever reads from the pipe of a thread finds the word it was asked for. */
static void *answer_thread(void *arg)
{
	const int *fd = arg;
	u64 v;

	while (read(fd[0], &v, sizeof(v)) == sizeof(v)) {
		v = mix(v);
		if (write(fd[1], &v, sizeof(v)) != sizeof(v))
			break;
	}
	return NULL;
}

static void start_answers(void)
{
	int *fd = malloc(2 * sizeof(*fd));
	pthread_t t;

	MUST(fd && !pipe2(mine.ask, O_CLOEXEC) && !pipe2(mine.answer, O_CLOEXEC));
	fd[0] = mine.ask[0];
	fd[1] = mine.answer[1];
	lazy_start(&t, answer_thread, fd);
}

void lazy_thread(bool receiver)
{
	sigset_t set;
	u32 mxcsr, n;
	uint16_t fcw;

	mine.tid = syscall(SYS_gettid);
	mine.random = test_random() | 1;
	mine.handler_random = test_random() | 1;
	mine.receiver = receiver;
	know_stacks();
	mine.regs = regs_new();
	mine.handler_regs = regs_new();
	mine.touch = pages(TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE);
	mine.closed = pages(PAGE, PROT_NONE);
	start_answers();
	if (receiver ? rpal_thread_init() : rpal_sender_init(NULL)) {
		lazy_bad("no %s: %s", receiver ? "receiver" : "sender", rpal_last_error());
		_exit(1);
	}
	n = lazy_random();
	mxcsr = 0x1f80 | (n & 3) << 13;
	fcw = 0x37f & ~((n >> 2 & 3) << 8);
	asm volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(fcw));
	regs_control(&mine.mxcsr, &mine.fcw);
	mine.pkru = pkru_read();
	/* Last: from here on handlers look, and signals are sent. */
	__atomic_store_n(&mine.fsbase, regs_fsbase(), __ATOMIC_RELEASE);
	n = __atomic_fetch_add(&targets, 1, __ATOMIC_RELAXED);
	MUST(n < LAZY_THREADS);
	signal_set(&set);
	MUST(!pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	__atomic_store_n(&target[n], mine.tid, __ATOMIC_RELEASE);
}

void lazy_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	MUST(!pthread_create(t, NULL, fn, arg));
}

void *lazy_receiver(void *unused)
{
	int r;

	(void)unused;
	lazy_thread(true);
	do {
		r = rpal_serve(-1, -1);
		lazy_still_me("serve", 0);
	} while (r == -EINTR);
	lazy_bad("serve: %d: %s", r, rpal_last_error());
	return NULL;
}

void lazy_timer(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	struct itimerspec it = { { 0, 1700000 }, { 0, 1700000 } };
	timer_t timer;

	ev._sigev_un._tid = mine.tid;
	MUST(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	MUST(!timer_settime(timer, 0, &it, NULL));
}

void lazy_shoot_once(void)
{
	int n = __atomic_load_n(&targets, __ATOMIC_RELAXED);
	u32 v = test_random();
	pid_t tid;

	if (v % 8 == 0) {
		kill(own_pid, signals[v >> 8 & 1]);
		return;
	}
	tid = n ? __atomic_load_n(&target[v / 8 % n], __ATOMIC_ACQUIRE) : 0;
	if (tid)
		syscall(SYS_tgkill, own_pid, tid, signals[(v >> 16) % LAZY_SIGNALS]);
}

void lazy_shoot(void)
{
	while (!lazy->stop) {
		usleep(50 + test_random() % 700);
		lazy_shoot_once();
	}
}

/* ---------------------------------------------------------------- procedures */

static void probe(int op, u32 skip)
{
	char text[200];

	regs_probe(mine.regs);
	if (!regs_same(mine.regs, skip, text, sizeof(text)))
		lazy_bad("registers in the procedure, op %d: %s", op, text);
}

/* What it has returned; all that a system call keeps must be as it was. */
static long probe_syscall(int op, long nr, u64 a, u64 b, u64 c, u64 d)
{
	struct regs *r = mine.regs;

	regs_random(r, &mine.random);
	r->in[R_AX] = nr;
	r->in[R_DI] = a;
	r->in[R_SI] = b;
	r->in[R_DX] = c;
	r->in[R_10] = d;
	r->action = regs_syscall;
	probe(op, REGS_BIT(R_AX) | REGS_BIT(R_CX) | REGS_BIT(R_11));
	return r->out[R_AX];
}

static void read_answer(u64 seed)
{
	u64 v = 0;
	long n;

	do
		n = probe_syscall(DO_PIPE, SYS_write, mine.ask[1], (u64)&seed, sizeof(seed), 0);
	while (n == -EINTR);
	do
		n = probe_syscall(DO_PIPE, SYS_read, mine.answer[0], (u64)&v, sizeof(v), 0);
	while (n == -EINTR);
	if (n != sizeof(v) || v != mix(seed))
		lazy_bad("read in the procedure: %ld, %lx", n, (long)v);
}

static void sleep_some(int op)
{
	struct timespec ts = { .tv_nsec = 20000 + lazy_random() % 200000 };
	long n;

	if (op == DO_SLEEP) {
		n = probe_syscall(op, SYS_nanosleep, (u64)&ts, 0, 0, 0);
		if (n && n != -EINTR)
			lazy_bad("nanosleep in the procedure: %ld", n);
	} else {
		mine.futex = 1;
		n = probe_syscall(op, SYS_futex, (u64)&mine.futex, FUTEX_WAIT_PRIVATE, 1, (u64)&ts);
		if (n != -ETIMEDOUT && n != -EINTR)
			lazy_bad("futex in the procedure: %ld", n);
	}
}

static void spin(void)
{
	struct regs *r = mine.regs;
	u32 v = lazy_random();

	regs_random(r, &mine.random);
	/* Now and then a long one. */
	r->in[R_CX] = 1 + v % (v >> 28 ? 20000 : 500000);
	r->action = regs_spin;
	probe(DO_SPIN, REGS_BIT(R_CX));
	if (r->out[R_CX])
		lazy_bad("cx is %lx at the end of a loop", (long)r->out[R_CX]);
}

static void touch(void)
{
	struct regs *r = mine.regs;

	if (mine.touched == TOUCH_PAGES) {
		MUST(!madvise(mine.touch, TOUCH_PAGES * PAGE, MADV_DONTNEED));
		mine.touched = 0;
	}
	regs_random(r, &mine.random);
	r->in[R_DX] = (u64)mine.touch + PAGE * mine.touched++ + lazy_random() % 512 * 8;
	r->action = regs_store;
	probe(DO_TOUCH, 0);
	if (*(u64 *)r->in[R_DX] != r->in[R_AX])
		lazy_bad("a word that was stored is another");
}

static void fault(int op)
{
	struct regs *r = mine.regs;
	int came = mine.came;

	regs_random(r, &mine.random);
	switch (op) {
	case DO_SEGV:
		MUST(!mprotect(mine.closed, PAGE, PROT_NONE));
		mine.expect_addr = r->in[R_DX] = (u64)mine.closed + lazy_random() % 512 * 8;
		mine.expect = SIGSEGV;
		r->action = regs_store;
		break;
	case DO_ILL:
		mine.expect_addr = (u64)regs_ud2;
		mine.expect = SIGILL;
		r->action = regs_ud2;
		break;
	case DO_TRAP:
		mine.expect_addr = (u64)regs_int3 + 1;
		mine.expect = SIGTRAP;
		r->action = regs_int3;
		break;
	}
	probe(op, 0);
	if (mine.expect || mine.came != came + 1)
		lazy_bad("op %d: %d signals for a fault", op, mine.came - came);
	if (op == DO_SEGV && *(u64 *)r->in[R_DX] != r->in[R_AX])
		lazy_bad("a word that was stored behind a fault is another");
}

static void do_op(int op, u64 seed)
{
	struct regs *r = mine.regs;

	switch (op) {
	case DO_FAST:
		regs_random(r, &mine.random);
		probe(op, 0);
		break;
	case DO_GETPID:
		if (probe_syscall(op, SYS_getpid, seed, ~seed, 0, 0) != own_pid)
			lazy_bad("getpid in the procedure: %ld", (long)r->out[R_AX]);
		break;
	case DO_PIPE:
		read_answer(seed);
		break;
	case DO_SLEEP:
	case DO_FUTEX:
		sleep_some(op);
		break;
	case DO_SPIN:
		spin();
		break;
	case DO_TOUCH:
		touch();
		break;
	default:
		fault(op);
	}
}

int64_t lazy_work(int op, u64 seed)
{
	do_op(op, seed);
	LAZY_ADD(lazy->ops[op]);
	return lazy_answer(own_id, op, seed);
}

void lazy_enter(int op)
{
	if (mine.in_procedure++)
		lazy_bad("op %d: a procedure in a procedure's thread", op);
	lazy_still_me("procedure", op);
}

void lazy_leave(int op)
{
	lazy_still_me("procedure's end", op);
	if (--mine.in_procedure)
		lazy_bad("op %d: the procedure has ended twice", op);
}

struct message {
	u64 seed;
	u64 answer;
};

static int64_t procedure(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	struct message *m = arg;
	int op = (intptr_t)ctx;
	int64_t r;
	u64 seed;

	lazy_enter(op);
	seed = caller->flags & RPAL_CALL_GRANT_NONE ? len : m->seed;
	r = lazy_work(op, seed);
	if (caller->flags & RPAL_CALL_GRANT_WRITE)
		m->answer = mix(r);
	if (!(caller->flags & RPAL_CALL_GRANT_NONE) && m->seed != seed)
		lazy_bad("op %d: what the caller lent has changed", op);
	lazy_leave(op);
	return r;
}

/* --------------------------------------------------------------------- calls */

int lazy_call_checked(int service, int proc, void *arg, size_t len, int64_t *result,
		      unsigned int flags)
{
	struct regs_call c = { .fn = rpal_call_flags,
			       .a = { service, proc, (u64)arg, len, (u64)result, flags } };
	u32 pkru = pkru_read();
	char text[200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(c.in); i++)
		c.in[i] = (u64)lazy_random() << 32 | lazy_random();
	regs_call(&c);
	if (!regs_call_same(&c, text, sizeof(text)))
		lazy_bad("registers after a call of procedure %d: %s", proc, text);
	if (pkru_read() != pkru)
		lazy_bad("procedure %d: pkru %x, was %x", proc, pkru_read(), pkru);
	lazy_still_me("caller", proc);
	return c.ret;
}

int lazy_call(int service, int op, unsigned int flags, bool may_fail)
{
	static __thread struct message m;
	int64_t r = 0;
	u64 seed;
	int err;

	m.seed = (u64)lazy_random() << 32 | lazy_random();
	m.answer = 0;
	seed = flags & RPAL_CALL_GRANT_NONE ? 1 + m.seed % sizeof(m) : m.seed;
	err = lazy_call_checked(service, op, &m, flags & RPAL_CALL_GRANT_NONE ? seed : sizeof(m),
				&r, flags);
	if (err == -EAGAIN && flags & RPAL_CALL_NOWAIT) {
		LAZY_ADD(lazy->refused);
		return err;
	}
	if (err) {
		if (!may_fail)
			lazy_bad("op %d: %d: %s", op, err, rpal_last_error());
		return err;
	}
	if (r != lazy_answer(service, op, seed))
		lazy_bad("op %d: wrong result %lx", op, (long)r);
	if (m.answer != (flags & RPAL_CALL_GRANT_WRITE ? mix(r) : 0))
		lazy_bad("op %d: wrong answer %lx", op, (long)m.answer);
	return 0;
}

int lazy_pick(u32 ops)
{
	int op;

	if (lazy_random() % 3 == 0 && ops & 1U << DO_FAST)
		return DO_FAST;
	do
		op = 1 + lazy_random() % (NR_DO - 1);
	while (!(ops & 1U << op));
	return op;
}

unsigned int lazy_grant(void)
{
	static const unsigned int grants[] = { 0, RPAL_CALL_GRANT_NONE, RPAL_CALL_GRANT_WRITE };

	return grants[lazy_random() % 3];
}

/* --------------------------------------------------------------------- roles */

void lazy_init(int number, int receivers)
{
	intptr_t op;
	sigset_t set;

	/* Only threads that look what a signal has hit get any. */
	signal_set(&set);
	MUST(!pthread_sigmask(SIG_BLOCK, &set, NULL));
	process = number;
	lazy = test_shared_map(sizeof(*lazy), TEST_FD_SHARED);
	own_pid = getpid();
	catch_faults();
	lazy_handlers(true, true);
	lazy_fd = rpal_init(receivers, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	if (lazy_fd < 0) {
		printf("rpal_init: %s\n", rpal_last_error());
		_exit(1);
	}
	own_id = rpal_get_service_id();
	for (op = 1; op < NR_DO; op++)
		MUST(!rpal_export(op, procedure, (void *)op));
}

void lazy_name(char *buf, size_t size, const char *what, int i)
{
	snprintf(buf, size, "@%s-%s-%d", test_name, what, i);
}

int lazy_connect(const char *name, int *sock)
{
	int id = rpal_connect(name, test_patience() * 1000, sock);

	if (id < 0) {
		printf("%s: connect to %s: %s\n", test_name, name, rpal_last_error());
		_exit(1);
	}
	return id;
}

/* -------------------------------------------------------------------- driver */

/* Counters of the module, as they were. */
static struct {
	const char *name;
	long before;
	int kind; /* 1: must grow, 0: rare, -1: must not */
} stats[] = {
	{ "lazy_syscall", 0, 1 },	 { "lazy_signal", 0, 1 },    { "lazy_kick", 0, 1 },
	{ "lazy_fault", 0, 1 },		 { "lazy_exit", 0, 0 },	     { "calls_aborted", 0, 0 },
	{ "calls_completed", 0, 0 },	 { "calls_unopened", 0, 0 }, { "calls_finished", 0, 0 },
	{ "calls_receiver_died", 0, 0 }, { "calls_lost", 0, -1 },    { "words_forged", 0, -1 },
};
static char needs[1024];
static long references;

void lazy_driver(long wanted, int *shared_fd)
{
	size_t i;

	lazy = test_shared_new(sizeof(*lazy), shared_fd);
	lazy->wanted = wanted;
	own_pid = getpid();
	references = test_file_number(REFERENCES);
	for (i = 0; i < ARRAY_SIZE(stats); i++)
		stats[i].before = test_file_value(STATS, stats[i].name);
}

long lazy_stat(const char *what)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(stats); i++)
		if (!strcmp(stats[i].name, what))
			return test_file_value(STATS, what) - stats[i].before;
	return -1;
}

void lazy_need(const char *what, long value, long from)
{
	size_t n = strlen(needs);

	snprintf(needs + n, sizeof(needs) - n, " %s=%ld", what, value);
	if (value <= 0 && lazy->wanted >= from)
		lazy_bad("in %ld there was never: %s", lazy->wanted, what);
}

void lazy_need_ops(u32 ops, long from)
{
	static const char *const names[NR_DO] = {
		[DO_FAST] = "fast",   [DO_GETPID] = "getpid", [DO_PIPE] = "pipe",
		[DO_SLEEP] = "sleep", [DO_FUTEX] = "futex",   [DO_SPIN] = "spin",
		[DO_TOUCH] = "touch", [DO_SEGV] = "segv",     [DO_ILL] = "ill",
		[DO_TRAP] = "trap",
	};
	int i;

	for (i = 1; i < NR_DO; i++)
		if (ops & 1U << i)
			lazy_need(names[i], lazy->ops[i], from);
}

/* All four ways into a lazy switch; what happens in trampolines is rare. */
void lazy_need_switches(long from)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(stats); i++)
		if (stats[i].kind >= 0)
			lazy_need(stats[i].name, lazy_stat(stats[i].name),
				  stats[i].kind ? from : LONG_MAX);
}

const char *lazy_signal_name(int i)
{
	static const char *const names[LAZY_SIGNALS] = { "usr1", "usr2", "alrm", "io", "urg" };

	return names[i];
}

long lazy_handled(int number)
{
	long n = 0;
	int i;

	for (i = 0; i < LAZY_SIGNALS; i++)
		n += lazy->handled[number][i];
	return n;
}

/* After something has gone wrong, that nothing goes on is no news. */
static u64 patience(long bad)
{
	return (bad ? test_patience() / 6 : test_patience()) * 1000000000ULL;
}

/* What they wait in is shown, unless what is wrong is known already. */
static void end_stuck(struct test_child *children, int n, bool known)
{
	int i;

	for (i = 0; i < n; i++) {
		if (children[i].pid > 0 && !known)
			test_wait(children[i].pid);
		else
			test_reap(&children[i]);
		children[i].pid = 0;
	}
}

void lazy_watch(struct test_child *children, int n, void (*meanwhile)(void))
{
	u64 seen = test_now_ns();
	long last = -1;
	int i, left, status;
	bool known;

	for (left = n; left; usleep(meanwhile ? 2000 : 20000)) {
		for (i = 0; i < n; i++) {
			if (children[i].pid <= 0 || waitpid(children[i].pid, &status, WNOHANG) <= 0)
				continue;
			if (status)
				lazy_bad("process %d: %s", i, test_status(status));
			children[i].pid = 0;
			lazy->stop |= status != 0;
			left--;
		}
		if (meanwhile && !lazy->stop)
			meanwhile();
		if (lazy->calls != last) {
			last = lazy->calls;
			seen = test_now_ns();
		} else if (test_now_ns() - seen > patience(lazy->bad)) {
			known = lazy->bad;
			lazy_bad("stuck after %ld calls", last);
			lazy->stop = 1;
			end_stuck(children, n, known);
			return;
		}
	}
}

bool lazy_alive(struct test_child *c)
{
	bool alive = !waitpid(c->pid, NULL, WNOHANG);

	if (!alive)
		c->pid = 0;
	test_reap(c);
	return alive;
}

/* Whatever a thread or a service leaves behind holds a reference on the module. */
static void all_gone(void)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	long now;

	do {
		now = test_file_number(REFERENCES);
		if (now <= references)
			return;
		usleep(10000);
	} while (test_now_ns() < end);
	lazy_bad("all have gone, but the module has %ld references, not %ld", now, references);
}

int lazy_end(const char *name)
{
	const char *kernel = getenv("RPAL_KERNEL");
	long done = lazy->calls < lazy->wanted ? lazy->calls : lazy->wanted;
	size_t i;

	all_gone();
	for (i = 0; i < ARRAY_SIZE(stats); i++)
		if (stats[i].kind < 0 && lazy_stat(stats[i].name))
			lazy_bad("%s: %ld more", stats[i].name, lazy_stat(stats[i].name));
	printf("stress: name=%s kernel=%s n=%ld bad=%ld%s\n", name, kernel ? kernel : "?", done,
	       lazy->bad, needs);
	return lazy->bad || done != lazy->wanted;
}
