// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Debuggers and filters of system calls: whoever traces one side of a call sees
 * that side's registers, system calls, steps and traps, and nothing breaks; a
 * seccomp filter of one side does not hold for the other. And the module's event
 * that tells of a recovery point.
 *
 * usage: call-trace [pair]
 */
#include "call.h"

#include <dirent.h>
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>

enum {
	P_SUM,
	P_GETPID,
	P_STORE,
	P_GETPPID,
	P_GETPGRP,
	P_FILTER,
	P_NR,
};

/* What tracer and traced share. */
struct shared {
	volatile int calls;   /* finished, good ones */
	volatile int wrong;   /* and others */
	volatile int stop;    /* for the caller */
	volatile int quiet;   /* the caller makes no system call */
	volatile u64 sum_ip;  /* first instruction of P_SUM */
	volatile u64 word_at; /* a word of the caller's that P_STORE writes */
};

static struct shared *shared;

/* ------------------------------------------------------------------- server */

__attribute__((noinline)) PROC(p_sum)
{
	const unsigned char *p = arg;
	int64_t sum = 0;

	while (len--)
		sum = sum * 31 + *p++;
	return sum;
}

PROC(p_pid)
{
	return syscall(SYS_getpid);
}

PROC(p_store)
{
	++*(volatile u64 *)arg;
	return 0;
}

PROC(p_ppid)
{
	return syscall(SYS_getppid) < 0 ? -errno : 1;
}

static volatile int sigsys_nr;
static volatile pid_t sigsys_tid;

static void on_sigsys(int sig CALL_UNUSED, siginfo_t *si, void *context CALL_UNUSED)
{
	sigsys_nr = si->si_syscall;
	sigsys_tid = syscall(SYS_gettid);
}

PROC(p_pgrp)
{
	sigsys_nr = 0;
	syscall(SYS_getpgrp);
	NEED(sigsys_nr == SYS_getpgrp && sigsys_tid == call_tid);
	return 0;
}

/* An error for one system call, and a signal for another one. */
static int filter(int nr_error, int nr_trap)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr_error, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr_trap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
}

PROC(p_filter)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	NEED(!sigaction(SIGSYS, &sa, NULL));
	NEED(!filter(SYS_getppid, SYS_getpgrp));
	return 0;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_SUM] = p_sum,      [P_GETPID] = p_pid,   [P_STORE] = p_store,
		[P_GETPPID] = p_ppid, [P_GETPGRP] = p_pgrp, [P_FILTER] = p_filter,
	};

	/* Only some servers are traced. */
	if (fcntl(TEST_FD_SHARED, F_GETFD) >= 0) {
		shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
		shared->sum_ip = (u64)p_sum;
	}
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- caller */

static struct call_peer a;
static volatile u64 word __attribute__((aligned(8)));

/* The same as the procedure, for what it should say. */
static int64_t sum(const unsigned char *p, size_t len)
{
	return p_sum((void *)p, len, NULL, NULL);
}

static __attribute__((noinline)) void good(bool ok)
{
	__atomic_add_fetch(ok ? &shared->calls : &shared->wrong, 1, __ATOMIC_RELEASE);
}

/* Calls until it is told to end; of the system calls it makes none is getpid. */
static int caller_role(void)
{
	unsigned char buf[24] = "what is to be added up";
	int64_t r, server_pid;
	u64 i, before;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	snprintf(a.path, sizeof(a.path), "%s", test_arg);
	call_init(1);
	call_connect(&a);
	server_pid = call_result(&a, P_GETPID, NULL, 0, 0);
	shared->word_at = (u64)&word;
	for (i = 0; !shared->stop; i++) {
		buf[i % 20] = i;
		r = 0;
		good(!rpal_call(a.id, P_SUM, buf, sizeof(buf), &r) && r == sum(buf, sizeof(buf)));
		before = word;
		good(!rpal_call_flags(a.id, P_STORE, (void *)&word, 8, &r, RPAL_CALL_GRANT_WRITE) &&
		     word == before + 1);
		word++;
		if (shared->quiet)
			continue;
		good(!rpal_call(a.id, P_GETPID, NULL, 0, &r) && r == server_pid);
		syscall(SYS_getppid);
	}
	return shared->wrong != 0;
}

/* ------------------------------------------------------------------- tracer */

struct traced {
	pid_t pid;
	u64 slot;
	pid_t tid[8];
	int nr;
};

static struct test_child server, caller;
static struct traced t_server, t_caller;

/* Waits for a stop of any or one of the traced; its status. */
static int wait_stop(pid_t tid)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int status;
	pid_t r;

	do {
		r = waitpid(tid, &status, __WALL | WNOHANG);
		if (r == tid)
			return status;
		usleep(100);
	} while (!r && test_now_ns() < end);
	CHECK(false, "%d does not stop", tid);
	return -1;
}

static u64 slot_of(pid_t pid)
{
	char path[64], line[256];
	u64 start = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof(line), f)) {
		start = strtoull(line, NULL, 16);
		if (start >= LOW_END)
			break;
	}
	fclose(f);
	return start >> RPAL_SLOT_SHIFT;
}

static void find_threads(struct traced *t, pid_t pid)
{
	char path[64];
	struct dirent *d;
	DIR *dir;

	t->pid = pid;
	t->slot = slot_of(pid);
	t->nr = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	MUST(dir);
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && t->nr < (int)ARRAY_SIZE(t->tid))
			t->tid[t->nr++] = atoi(d->d_name);
	closedir(dir);
}

static void seize(struct traced *t)
{
	int i;

	for (i = 0; i < t->nr; i++)
		if (ptrace(PTRACE_SEIZE, t->tid[i], 0, PTRACE_O_TRACESYSGOOD))
			test_die(__FILE__, __LINE__, "PTRACE_SEIZE");
}

static bool interrupt(pid_t tid)
{
	int status;

	MUST(!ptrace(PTRACE_INTERRUPT, tid, 0, 0));
	status = wait_stop(tid);
	return CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "%s", test_status(status));
}

static void detach(struct traced *t)
{
	int i;

	for (i = 0; i < t->nr; i++) {
		if (!interrupt(t->tid[i]))
			continue;
		MUST(!ptrace(PTRACE_DETACH, t->tid[i], 0, 0));
	}
}

/* Registers of a stopped thread; they must be its own process's. */
static bool own_registers(const struct traced *t, pid_t tid, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };
	long text;

	MUST(!ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov));
	errno = 0;
	text = ptrace(PTRACE_PEEKTEXT, tid, regs->rip, 0);
	return CHECK(regs->rip >> RPAL_SLOT_SHIFT == t->slot &&
			     regs->rsp >> RPAL_SLOT_SHIFT == t->slot &&
			     regs->fs_base >> RPAL_SLOT_SHIFT == t->slot,
		     "ip %llx, sp %llx, fs %llx of %d, whose slot is %lu", regs->rip, regs->rsp,
		     regs->fs_base, tid, (unsigned long)t->slot) &&
	       CHECK(text != -1 || !errno, "nothing at ip %llx", regs->rip);
}

static void check_goes_on(void)
{
	int calls = shared->calls;

	CHECK(call_wait_for(&shared->calls, calls + 20), "no calls any more");
	CHECK_IS(shared->wrong, 0);
}

static void interrupts(struct traced *t, const char *who)
{
	struct user_regs_struct regs;
	static char xstate[16384];
	int round, i;

	test_begin("PTRACE_INTERRUPT and registers of the %s", who);
	seize(t);
	for (round = 0; round < 30; round++) {
		for (i = 0; i < t->nr; i++) {
			struct iovec iov = { xstate, sizeof(xstate) };

			if (!interrupt(t->tid[i]))
				return;
			own_registers(t, t->tid[i], &regs);
			/* Both back as they are. */
			MUST(!ptrace(PTRACE_GETREGSET, t->tid[i], NT_X86_XSTATE, &iov));
			MUST(!ptrace(PTRACE_SETREGSET, t->tid[i], NT_X86_XSTATE, &iov));
			MUST(!ptrace(PTRACE_SETREGS, t->tid[i], 0, &regs));
			MUST(!ptrace(PTRACE_CONT, t->tid[i], 0, 0));
		}
		usleep(500);
	}
	check_goes_on();
	detach(t);
	check_goes_on();
	test_end();
}

struct syscalls {
	int seen, pid, ppid, odd;
};

/* One thread from stop to stop, at its system calls. */
static void trace_syscalls(const struct traced *t, pid_t tid, int stops, struct syscalls *s)
{
	struct __ptrace_syscall_info info;
	struct user_regs_struct regs;
	int i, status, in = 0;

	MUST(!ptrace(PTRACE_SYSCALL, tid, 0, 0));
	for (i = 0; i < stops; i++) {
		status = wait_stop(tid);
		if (!CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80), "%s",
			   test_status(status)))
			return;
		MUST(ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0);
		if (!own_registers(t, tid, &regs))
			return;
		s->seen++;
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			s->odd += in++;
			s->pid += info.entry.nr == SYS_getpid;
			s->ppid += info.entry.nr == SYS_getppid;
		} else {
			in = 0;
		}
		MUST(!ptrace(PTRACE_SYSCALL, tid, 0, 0));
	}
	/* It runs to its next stop: there interrupt() finds it as well. */
	wait_stop(tid);
	MUST(!ptrace(PTRACE_CONT, tid, 0, 0));
}

static void syscalls(void)
{
	struct syscalls s = {};
	int i;

	test_begin("PTRACE_SYSCALL of the caller");
	find_threads(&t_caller, caller.pid);
	CHECK_IS(t_caller.nr, 1);
	seize(&t_caller);
	if (interrupt(t_caller.pid))
		trace_syscalls(&t_caller, t_caller.pid, 120, &s);
	CHECK(s.ppid > 10 && !s.pid && !s.odd, "%d stops: getppid %d, getpid %d, odd %d", s.seen,
	      s.ppid, s.pid, s.odd);
	check_goes_on();
	detach(&t_caller);
	test_end();

	test_begin("PTRACE_SYSCALL of the receiver");
	seize(&t_server);
	memset(&s, 0, sizeof(s));
	/* Which of them is called is up to the library. */
	for (i = 0; i < t_server.nr && !s.seen; i++) {
		if (t_server.tid[i] == t_server.pid)
			continue;
		if (interrupt(t_server.tid[i]))
			trace_syscalls(&t_server, t_server.tid[i], 120, &s);
	}
	CHECK(s.pid > 10 && !s.ppid, "%d stops: getppid %d, getpid %d", s.seen, s.ppid, s.pid);
	check_goes_on();
	detach(&t_server);
	check_goes_on();
	test_end();
}

/* Steps of one thread; false if it has gone astray. */
static bool step(const struct traced *t, pid_t tid, int steps)
{
	struct user_regs_struct regs;
	int i, status;

	for (i = 0; i < steps; i++) {
		MUST(!ptrace(PTRACE_SINGLESTEP, tid, 0, 0));
		status = wait_stop(tid);
		if (!CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "step %d: %s", i,
			   test_status(status)) ||
		    !own_registers(t, tid, &regs))
			return false;
	}
	return true;
}

/* A call is one step; so many calls must be finished by stepping alone. */
static void steps_of_caller(bool quiet)
{
	int calls, i;

	test_begin("PTRACE_SINGLESTEP of the caller%s", quiet ? ", no system calls" : "");
	shared->quiet = quiet;
	check_goes_on();
	seize(&t_caller);
	if (interrupt(t_caller.pid)) {
		calls = shared->calls;
		for (i = 0; i < 100 && shared->calls < calls + 8; i++)
			if (!step(&t_caller, t_caller.pid, 200))
				break;
		CHECK(shared->calls >= calls + 8, "%d calls after %d steps", shared->calls - calls,
		      i * 200);
		MUST(!ptrace(PTRACE_CONT, t_caller.pid, 0, 0));
	}
	check_goes_on();
	detach(&t_caller);
	check_goes_on();
	shared->quiet = 0;
	test_end();
}

static void steps_of_receiver(void)
{
	int i, n, calls;
	pid_t tid;

	test_begin("PTRACE_SINGLESTEP of the receiver");
	seize(&t_server);
	for (i = 0; i < t_server.nr; i++) {
		tid = t_server.tid[i];
		if (tid == t_server.pid || !interrupt(tid))
			continue;
		/* Its wait is one step: up to the next call that is handed over. */
		calls = shared->calls;
		for (n = 0; n < 100 && shared->calls < calls + 12; n++)
			if (!step(&t_server, tid, 200))
				break;
		CHECK(shared->calls >= calls + 12, "%d calls after %d steps", shared->calls - calls,
		      n * 200);
		MUST(!ptrace(PTRACE_CONT, tid, 0, 0));
	}
	check_goes_on();
	detach(&t_server);
	check_goes_on();
	test_end();
}

/* The next thread of the receiver's process that stops, with a trap. */
static pid_t wait_trap(const struct traced *t, int seconds)
{
	u64 end = test_now_ns() + seconds * 1000000000ULL;
	int i, status;

	while (test_now_ns() < end) {
		for (i = 0; i < t->nr; i++) {
			if (waitpid(t->tid[i], &status, __WALL | WNOHANG) != t->tid[i])
				continue;
			CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "%s",
			      test_status(status));
			return t->tid[i];
		}
		usleep(200);
	}
	return 0;
}

static void set_byte(pid_t tid, u64 addr, unsigned char byte, unsigned char *old)
{
	long text = ptrace(PTRACE_PEEKTEXT, tid, addr, 0);

	if (old)
		*old = text;
	MUST(!ptrace(PTRACE_POKETEXT, tid, addr, (text & ~0xffL) | byte));
}

/*
 * The emulator may go on with an old translation of code that is changed while
 * it translates. If calls go by without a trap, change it again.
 */
static pid_t wait_trap_at(const struct traced *t, u64 at)
{
	pid_t tid;
	int tries, calls;

	for (tries = 0; tries < 10; tries++) {
		calls = shared->calls;
		do
			tid = wait_trap(t, 1);
		while (!tid && shared->calls < calls + 50 && shared->calls != calls);
		if (tid || shared->calls == calls)
			return tid ?: wait_trap(t, test_patience());
		printf("# %d calls past a breakpoint\n", shared->calls - calls);
		set_byte(t->pid, at, 0xcc, NULL);
	}
	return 0;
}

/* As a debugger does it: stop, take it out, step, put it in, go on. */
static void breakpoints(void)
{
	struct user_regs_struct regs;
	u64 at = shared->sum_ip;
	unsigned char old;
	pid_t tid;
	int i;

	test_begin("a breakpoint in a procedure");
	seize(&t_server);
	if (!interrupt(t_server.pid))
		return;
	set_byte(t_server.pid, at, 0xcc, &old);
	for (i = 0; i < 30; i++) {
		tid = wait_trap_at(&t_server, at);
		if (!CHECK(tid && tid != t_server.pid, "no receiver stops the %d. time", i) ||
		    !own_registers(&t_server, tid, &regs))
			break;
		CHECK(regs.rip == at + 1, "ip %llx, not %lx", regs.rip, (unsigned long)at + 1);
		set_byte(tid, at, old, NULL);
		regs.rip = at;
		MUST(!ptrace(PTRACE_SETREGS, tid, 0, &regs));
		if (!step(&t_server, tid, 5))
			break;
		if (i < 29)
			set_byte(tid, at, 0xcc, NULL);
		MUST(!ptrace(PTRACE_CONT, tid, 0, 0));
	}
	MUST(!ptrace(PTRACE_CONT, t_server.pid, 0, 0));
	check_goes_on();
	detach(&t_server);
	check_goes_on();
	test_end();
}

#define DR(n) (offsetof(struct user, u_debugreg) + (n)*8)

/* Of the caller's debugger: what called code does to the word is not its business. */
static void watchpoints(void)
{
	struct user_regs_struct regs;
	int i, status;
	u64 dr6;

	test_begin("a watchpoint of the caller");
	seize(&t_caller);
	if (!interrupt(t_caller.pid))
		return;
	MUST(!ptrace(PTRACE_POKEUSER, t_caller.pid, DR(0), shared->word_at));
	/* Enabled for writing, eight bytes. */
	MUST(!ptrace(PTRACE_POKEUSER, t_caller.pid, DR(7), 1 | 9 << 16));
	for (i = 0; i < 30; i++) {
		MUST(!ptrace(PTRACE_CONT, t_caller.pid, 0, 0));
		status = wait_stop(t_caller.pid);
		if (!CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "%s",
			   test_status(status)) ||
		    !own_registers(&t_caller, t_caller.pid, &regs))
			break;
		dr6 = ptrace(PTRACE_PEEKUSER, t_caller.pid, DR(6), 0);
		CHECK(dr6 & 1, "dr6 %lx", (unsigned long)dr6);
	}
	MUST(!ptrace(PTRACE_POKEUSER, t_caller.pid, DR(7), 0));
	MUST(!ptrace(PTRACE_CONT, t_caller.pid, 0, 0));
	check_goes_on();
	detach(&t_caller);
	check_goes_on();
	test_end();
}

/* Old style, with signals; and the tracer goes away without a word, but not in a stop. */
static void attach_and_die(pid_t pid, const char *who)
{
	int i, status;
	pid_t tracer;

	test_begin("PTRACE_ATTACH to the %s, and the tracer dies", who);
	for (i = 0; i < 10; i++) {
		tracer = fork();
		if (!tracer) {
			if (ptrace(PTRACE_ATTACH, pid, 0, 0) ||
			    waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status) ||
			    ptrace(PTRACE_CONT, pid, 0, 0))
				_exit(1);
			usleep(2000);
			_exit(0);
		}
		status = test_wait(tracer);
		CHECK(!status, "%s", test_status(status));
		check_goes_on();
	}
	test_end();
}

/* ------------------------------------------------------------------ seccomp */

static int filtered_role(void)
{
	struct call_peer plain;
	int i;

	call_init(1);
	test_begin("a filter of the receiver's");
	call_peer_new(&plain, "server", 2);
	CHECK_IS(call_result(&plain, P_GETPPID, NULL, 0, 0), 1);
	CHECK_IS(call_result(&plain, P_FILTER, NULL, 0, 0), 0);
	for (i = 0; i < 50; i++) {
		CHECK_IS(call_result(&plain, P_GETPPID, NULL, 0, 0), -ENOTTY);
		CHECK_IS(call_result(&plain, P_GETPGRP, NULL, 0, 0), 0);
		CHECK(syscall(SYS_getppid) > 0 && syscall(SYS_getpgrp) > 0, "errno %d", errno);
	}
	call_peer_end(&plain);
	test_end();
	test_begin("a filter of the caller's");
	call_peer_new(&plain, "server", 2);
	CHECK_IS(filter(SYS_getppid, -1), 0);
	for (i = 0; i < 50; i++) {
		CHECK_IS(call_result(&plain, P_GETPPID, NULL, 0, 0), 1);
		CHECK(syscall(SYS_getppid) == -1 && errno == ENOTTY, "errno %d", errno);
	}
	call_peer_end(&plain);
	test_end();
	return 0;
}

/* ------------------------------------------------------------------- events */

#define TRACING "/sys/kernel/tracing/"
/* A buffer of our own: nobody else's events, and nobody else sees ours. */
#define INSTANCE TRACING "instances/call-trace/"

/* Events that tell of the calling thread, which went on in its own slot. */
static int guarded_events(void)
{
	long ip, own = (u64)guarded_events >> RPAL_SLOT_SHIFT;
	char line[512], want[64], *at;
	FILE *f = fopen(INSTANCE "trace", "re");
	int n = 0;

	MUST(f);
	snprintf(want, sizeof(want),
		 "rpal_restart: how=guarded thread=%ld status=%d ip=", syscall(SYS_gettid),
		 -EFAULT);
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, want);
		if (!at)
			continue;
		ip = strtol(at + strlen(want), NULL, 16);
		CHECK(ip >> RPAL_SLOT_SHIFT == own, "at %lx: %s", ip, line);
		n++;
	}
	fclose(f);
	return n;
}

static int touch(va_list args)
{
	return *va_arg(args, volatile int *);
}

/* Nothing is there, at the end of its slot. */
static void touch_nothing(const struct call_peer *p)
{
	volatile int *at = (void *)(((u64)p->id + 1) * RPAL_SLOT_SIZE - PAGE);
	int ret;

	CHECK_IS(rpal_read_access_safety(touch, &ret, at), RPAL_FAILURE);
}

/*
 * For the names of tasks the kernel would begin to trace the scheduler, too: that
 * is code which is run while it is patched, and the emulator trips over it.
 */
#define NAMES TRACING "options/record-cmd"

static void guarded_events_on(void)
{
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	/* One that was killed has left it. */
	rmdir(INSTANCE);
	MUST(test_write_file(NAMES, "0") && !mkdir(INSTANCE, 0700));
	MUST(test_write_file(INSTANCE "events/rpal/rpal_restart/enable", "1"));
}

static void guarded_events_off(void)
{
	MUST(test_write_file(INSTANCE "events/rpal/rpal_restart/enable", "0"));
	CHECK_IS(guarded_events(), 3);
	CHECK(!rmdir(INSTANCE), "errno %d", errno);
	test_write_file(NAMES, "1");
}

static int guarded_role(void)
{
	struct call_peer p;
	int i, there = 0, ret;

	call_init(1);
	test_begin("the event of a recovery point");
	call_peer_new(&p, "server", 1);
	touch_nothing(&p);
	guarded_events_on();
	CHECK_IS(guarded_events(), 0);
	for (i = 1; i <= 3; i++) {
		touch_nothing(&p);
		CHECK_IS(guarded_events(), i);
	}
	/* It was not needed. */
	CHECK_IS(rpal_read_access_safety(touch, &ret, &there), RPAL_SUCCESS);
	CHECK_IS(guarded_events(), 3);
	guarded_events_off();
	touch_nothing(&p);
	call_peer_end(&p);
	test_end();
	return 0;
}

/* ------------------------------------------------------------------- driver */

/* A client that starts its servers by itself. */
static void run_role(const char *role, int fd)
{
	struct test_spawn s = { .role = role, .group = "call", .shared = fd };
	struct test_child c;
	int status;

	MUST(!test_spawn(&c, &s));
	status = test_wait(c.pid);
	CHECK(!status, "%s: %s", role, test_status(status));
	close(c.sock);
}

static void start(int fd)
{
	static char arg[64];
	struct test_spawn s = { .role = "server", .arg = arg, .group = "call", .shared = fd };

	snprintf(arg, sizeof(arg), "1 @call-trace-%d", getpid());
	MUST(!test_spawn(&server, &s));
	s.role = "caller";
	s.arg = strchr(arg, ' ') + 1;
	MUST(!test_spawn(&caller, &s));
	if (!call_wait_for(&shared->calls, 10))
		test_die(__FILE__, __LINE__, "no calls");
	find_threads(&t_server, server.pid);
	find_threads(&t_caller, caller.pid);
}

/*
 * For other tracers: says which processes they are, and lets them call each
 * other until the end of its standard input.
 */
static int run_pair(int fd)
{
	int status;
	char byte;

	start(fd);
	printf("%d %d\n", server.pid, caller.pid);
	while (read(0, &byte, 1) > 0)
		;
	check_goes_on();
	shared->stop = 1;
	status = test_wait(caller.pid);
	CHECK(!status, "caller: %s", test_status(status));
	test_reap(&server);
	printf("%d calls, %d wrong\n", shared->calls, shared->wrong);
	return test_finish();
}

static const struct test_role roles[] = { { "server", server_role },
					  { "caller", caller_role },
					  { "filtered", filtered_role },
					  { "guarded", guarded_role },
					  {} };

int main(int argc, char **argv)
{
	int fd, status;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &fd);
	if (argc > 1 && !strcmp(argv[1], "pair"))
		return run_pair(fd);
	start(fd);
	interrupts(&t_caller, "caller");
	interrupts(&t_server, "receiver");
	syscalls();
	breakpoints();
	watchpoints();
	steps_of_caller(true);
	steps_of_caller(false);
	steps_of_receiver();
	attach_and_die(caller.pid, "caller");
	attach_and_die(t_server.tid[t_server.nr - 1], "receiver");
	shared->stop = 1;
	status = test_wait(caller.pid);
	CHECK(!status, "caller: %s", test_status(status));
	test_reap(&server);
	run_role("filtered", fd);
	run_role("guarded", fd);
	return test_finish();
}
