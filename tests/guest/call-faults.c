// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Faults of called code: its process's handler sees exactly what it would have
 * seen without a call, and can mend it; without a handler that process dies,
 * with its own core, and neither the kernel log nor the caller is told lies.
 */
#include "call.h"

#include <elf.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <ucontext.h>

/* ------------------------------------------------------------------- faults */

enum {
	F_MAPERR, /* nothing is there */
	F_NULL,
	F_CALLER,  /* nothing is there, in the caller's slot */
	F_ACCERR,  /* may not be written */
	F_NOEXEC,  /* may not be executed */
	F_NOCANON, /* no address */
	F_PRIVILEGED,
	F_DIVIDE,
	F_FLOAT,
	F_ILLEGAL,
	F_BUS, /* behind the end of a file */
	F_BREAK,
	F_STEP, /* traps after each instruction, for some */
	F_NR,
};

static const char *const fault_names[F_NR] = {
	[F_MAPERR] = "no mapping",
	[F_NULL] = "null pointer",
	[F_CALLER] = "no mapping at the caller's",
	[F_ACCERR] = "not writable",
	[F_NOEXEC] = "not executable",
	[F_NOCANON] = "no canonical address",
	[F_PRIVILEGED] = "privileged instruction",
	[F_DIVIDE] = "division by zero",
	[F_FLOAT] = "division by zero, floating-point",
	[F_ILLEGAL] = "illegal instruction",
	[F_BUS] = "behind the end of a file",
	[F_BREAK] = "breakpoint",
	[F_STEP] = "single steps",
};

static const int fault_signals[F_NR] = {
	[F_MAPERR] = SIGSEGV, [F_NULL] = SIGSEGV,    [F_CALLER] = SIGSEGV, [F_ACCERR] = SIGSEGV,
	[F_NOEXEC] = SIGSEGV, [F_NOCANON] = SIGSEGV, [F_DIVIDE] = SIGFPE,  [F_PRIVILEGED] = SIGSEGV,
	[F_FLOAT] = SIGFPE,   [F_ILLEGAL] = SIGILL,  [F_BUS] = SIGBUS,	   [F_BREAK] = SIGTRAP,
	[F_STEP] = SIGTRAP,
};

/* What a handler has seen. */
struct seen {
	int count;
	int sig;
	int code;
	u64 addr;
	u64 ip;
	u64 trapno, err, cr2;
	u64 r12, r14, xmm;
	pid_t tid;
	bool on_stack; /* of the thread that the fault is in */
	u32 flags;
};

#define R12 0xc0ffee12c0ffee12UL
#define XMM 0x1234567890abcdefUL

static __thread struct seen seen;
static __thread u64 resume;
static __thread char *stack_low, *stack_high;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;

	seen.count++;
	seen.sig = sig;
	seen.code = si->si_code;
	seen.addr = (u64)si->si_addr;
	seen.ip = g[REG_RIP];
	seen.trapno = g[REG_TRAPNO];
	seen.err = g[REG_ERR];
	seen.cr2 = g[REG_CR2];
	seen.r12 = g[REG_R12];
	seen.r14 = g[REG_R14];
	memcpy(&seen.xmm, &uc->uc_mcontext.fpregs->_xmm[7], sizeof(seen.xmm));
	seen.tid = syscall(SYS_gettid);
	seen.on_stack = (char *)&sig > stack_low && (char *)&sig < stack_high;
	seen.flags = g[REG_EFL];
	if (si->si_code == TRAP_TRACE && sig == SIGTRAP)
		return; /* steps end by themselves */
	/* Mended: go on behind it, with something new in a register. */
	g[REG_R13] = 0x5eed;
	g[REG_RIP] = resume;
}

static void catch_all(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sigs); i++)
		MUST(!sigaction(sigs[i], &sa, NULL));
}

/* No handlers: whoever faults dies, and the kernel says so. */
static void catch_nothing(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sigs); i++)
		signal(sigs[i], SIG_DFL);
}

/*
 * One instruction with @addr in r14 and known values in other registers;
 * evaluates to 0 if all of them are what they must be behind it. Where it is
 * goes to @at.
 */
#define FAULT(insn, addr, at)                                                                     \
	({                                                                                        \
		register u64 r12_ asm("r12") = R12;                                               \
		register u64 r13_ asm("r13") = 0;                                                 \
		register u64 r14_ asm("r14") = (addr);                                            \
		u64 xmm_ = XMM, at_, resume_, zero_ = 0, back_;                                   \
		asm volatile("lea 1f(%%rip), %[at]\n"                                             \
			     "lea 2f(%%rip), %[resume]\n"                                         \
			     "mov %[resume], %[var]\n"                                            \
			     "mov %[at], %[out]\n"                                                \
			     "movq %[x], %%xmm7\n"                                                \
			     "xor %%edx, %%edx\n" insn "\n2:\n"                                   \
			     "movq %%xmm7, %[back]\n"                                             \
			     : [at] "=&r"(at_), [resume] "=&r"(resume_), "+r"(r12_), "+r"(r13_),  \
			       "+r"(r14_), [var] "=m"(resume), [out] "=m"(at), [back] "=m"(back_) \
			     : [x] "m"(xmm_), [zero] "m"(zero_)                                   \
			     : "rax", "rdx", "xmm7", "memory", "cc");                             \
		r12_ != R12 || r13_ != 0x5eed || r14_ != (addr) || back_ != xmm_;                 \
	})

static u64 addresses[F_NR];

static void prepare_addresses(void)
{
	char *p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	volatile char *b;

	MUST(p != MAP_FAILED && fd >= 0);
	addresses[F_ACCERR] = (u64)p + 8;
	addresses[F_NOEXEC] = (u64)p + PAGE;
	addresses[F_MAPERR] = (u64)p + 3 * PAGE + 5;
	addresses[F_NULL] = 24;
	addresses[F_NOCANON] = 0x8000000000001000;
	MUST(!ftruncate(fd, PAGE));
	b = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(b != MAP_FAILED);
	b[0] = 1;
	addresses[F_BUS] = (u64)b + PAGE + 16;
	/* Last, or something else would come there. */
	MUST(!munmap(p + 3 * PAGE, PAGE));
	close(fd);
}

/* 0: the fault was mended and nothing else has changed. */
static __attribute__((noinline)) int make_fault(int which, u64 addr, u64 *ip)
{
	u64 at = 0;
	int bad = 1;
	uint16_t fcw;

	switch (which) {
	case F_MAPERR:
	case F_NULL:
	case F_CALLER:
	case F_BUS:
	case F_NOCANON:
		bad = FAULT("1: mov (%%r14), %%al", addr, at);
		break;
	case F_ACCERR:
		bad = FAULT("1: movb $1, (%%r14)", addr, at);
		break;
	case F_NOEXEC:
		bad = FAULT("1: jmp *%%r14", addr, at);
		at = addr;
		break;
	case F_PRIVILEGED:
		bad = FAULT("1: hlt", addr, at);
		break;
	case F_DIVIDE:
		bad = FAULT("1: divq %[zero]", addr, at);
		break;
	case F_FLOAT:
		asm volatile("fnstcw %0; fnclex" : "=m"(fcw));
		fcw &= ~4;
		asm volatile("fldcw %0" : : "m"(fcw));
		bad = FAULT("fld1; fldz; fdivrp; 1: fwait", addr, at);
		asm volatile("fninit");
		break;
	case F_ILLEGAL:
		bad = FAULT("1: ud2", addr, at);
		break;
	case F_BREAK:
		bad = FAULT("int3; 1:", addr, at);
		break;
	case F_STEP:
		/* The red zone: nothing may be pushed above it. */
		bad = FAULT("lea -256(%%rsp), %%rsp\n pushfq\n orl $0x100, (%%rsp)\n popfq\n"
			    "nop\n nop\n nop\n"
			    "pushfq\n andl $~0x100, (%%rsp)\n popfq\n1:\n"
			    "lea 256(%%rsp), %%rsp\n mov $0x5eed, %%r13d\n",
			    addr, at);
		break;
	}
	*ip = at;
	return bad;
}

/* ------------------------------------------------------------------- server */

enum {
	P_FAULT,      /* and its handler mends it */
	P_FAULT_LAZY, /* the same behind a system call */
	P_PKUERR,
	P_HELPLESS, /* no handlers any more */
	P_DIE,	    /* of one fault */
	P_ABORT,
	P_CLOCK,
	P_TID,
	P_NR,
};

static void receiver_begins(void)
{
	pthread_attr_t attr;
	void *stack;
	size_t size;

	MUST(!pthread_getattr_np(pthread_self(), &attr));
	MUST(!pthread_attr_getstack(&attr, &stack, &size));
	stack_low = stack;
	stack_high = stack_low + size;
}

struct fault_arg {
	int which;
	u64 addr; /* of the caller's, for F_CALLER */
	pid_t tid;
	u64 ip;
};

/* What a thread sees on which nobody has called anything. */
static struct seen expected[F_NR];

static void *expect_thread(void *arg)
{
	u64 ip;
	int i;

	(void)arg;
	receiver_begins();
	for (i = 0; i < F_NR; i++) {
		memset(&seen, 0, sizeof(seen));
		if (i == F_CALLER)
			continue;
		CHECK(!make_fault(i, addresses[i], &ip), "%s", fault_names[i]);
		expected[i] = seen;
	}
	expected[F_CALLER] = expected[F_MAPERR];
	return NULL;
}

static void expect(void)
{
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, expect_thread, NULL));
	pthread_join(thread, NULL);
}

static int64_t check_seen(int which, u64 addr, u64 ip)
{
	const struct seen *e = &expected[which];

	NEED(seen.count == e->count);
	NEED(seen.sig == fault_signals[which] && seen.sig == e->sig);
	NEED(seen.code == e->code);
	if (which == F_CALLER)
		NEED(seen.addr == addr && seen.cr2 == addr);
	else
		NEED(seen.addr == e->addr);
	NEED(seen.ip == e->ip);
	if (which != F_STEP)
		NEED(seen.ip == ip);
	NEED(seen.trapno == e->trapno);
	NEED(seen.err == e->err);
	if (which != F_CALLER && e->trapno == 14)
		NEED(seen.cr2 == e->cr2);
	NEED(seen.r12 == R12 && seen.r14 == addr && seen.xmm == XMM);
	NEED(seen.tid == call_tid && seen.on_stack);
	NEED(seen.flags == e->flags);
	return 0;
}

static int64_t do_fault(struct fault_arg *f)
{
	u64 addr = f->which == F_CALLER ? f->addr : addresses[f->which], ip;
	int which = f->which;

	memset(&seen, 0, sizeof(seen));
	NEED(!make_fault(which, addr, &ip));
	return check_seen(which, addr, ip);
}

PROC(p_fault)
{
	return do_fault(arg);
}

PROC(p_fault_lazy)
{
	syscall(SYS_getppid);
	return do_fault(arg);
}

PROC(p_pkuerr)
{
	u64 at = 0;

	memset(&seen, 0, sizeof(seen));
	NEED(!FAULT("1: mov (%%r14), %%al", (u64)arg, at));
	NEED(seen.count == 1 && seen.sig == SIGSEGV && seen.code == SEGV_PKUERR);
	NEED(seen.addr == (u64)arg && seen.ip == at && seen.trapno == 14);
	NEED(seen.r12 == R12 && seen.r14 == (u64)arg && seen.xmm == XMM);
	NEED(seen.tid == call_tid && seen.on_stack);
	return 0;
}

PROC(p_helpless)
{
	catch_nothing();
	return 0;
}

/* Says who is going to die, then does; on the caller's task so far. */
PROC(p_die)
{
	struct fault_arg *f = arg;
	u64 ip;

	f->tid = call_tid;
	make_fault(f->which, f->which == F_CALLER ? f->addr : addresses[f->which], &ip);
	return -1;
}

PROC(p_abort)
{
	((struct fault_arg *)arg)->tid = call_tid;
	abort();
}

/* The page that this reads belongs to no ordinary mapping. */
PROC(p_clock)
{
	struct timespec ts;

	NEED(!clock_gettime(CLOCK_MONOTONIC, &ts));
	NEED(ts.tv_sec || ts.tv_nsec);
	return 0;
}

PROC(p_tid)
{
	return call_tid;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_FAULT] = p_fault,   [P_FAULT_LAZY] = p_fault_lazy,
		[P_PKUERR] = p_pkuerr, [P_HELPLESS] = p_helpless,
		[P_DIE] = p_die,       [P_ABORT] = p_abort,
		[P_CLOCK] = p_clock,   [P_TID] = p_tid,
	};
	struct rlimit inf = { RLIM_INFINITY, RLIM_INFINITY };

	prctl(PR_SET_NAME, "callee");
	MUST(!setrlimit(RLIMIT_CORE, &inf));
	prepare_addresses();
	catch_all();
	expect();
	if (test_failures())
		return 1;
	call_receiver_begins = receiver_begins;
	return call_server(procs, P_NR);
}

/* --------------------------------------------------------------- kernel log */

static int kmsg = -1;

static void log_mark(void)
{
	if (kmsg >= 0)
		close(kmsg);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	MUST(kmsg >= 0);
	MUST(lseek(kmsg, 0, SEEK_END) >= 0);
}

/* What was said since the mark. */
static char log_text[1 << 16];

static void log_read(void)
{
	size_t at = 0;
	ssize_t n;

	for (;;) {
		n = read(kmsg, log_text + at, sizeof(log_text) - 1 - at);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			break;
		at += n;
	}
	log_text[at] = 0;
}

static int log_count(const char *what)
{
	const char *p = log_text;
	int n = 0;

	while ((p = strstr(p, what))) {
		p++;
		n++;
	}
	return n;
}

/* --------------------------------------------------------------------- core */

static char core_path[64];

static bool core_notes(const char *file, prstatus_t *status, prpsinfo_t *info)
{
	static char notes[65536];
	int fd = open(file, O_RDONLY | O_CLOEXEC), i, found = 0;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	size_t at;

	if (fd < 0 || pread(fd, &eh, sizeof(eh), 0) != sizeof(eh))
		return false;
	for (i = 0; i < eh.e_phnum; i++) {
		MUST(pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) == sizeof(ph));
		if (ph.p_type == PT_NOTE)
			break;
	}
	MUST(i < eh.e_phnum);
	MUST(pread(fd, notes, sizeof(notes), ph.p_offset) > 0);
	close(fd);
	for (at = 0; at < ph.p_filesz && at < sizeof(notes) - 4096 && found != 3;) {
		Elf64_Nhdr *n = (Elf64_Nhdr *)(notes + at);
		char *desc = (char *)(n + 1) + ((n->n_namesz + 3) & ~3);

		if (n->n_type == NT_PRSTATUS && !(found & 1)) {
			memcpy(status, desc, sizeof(*status));
			found |= 1;
		} else if (n->n_type == NT_PRPSINFO) {
			memcpy(info, desc, sizeof(*info));
			found |= 2;
		}
		at = desc + ((n->n_descsz + 3) & ~3) - notes;
	}
	return found == 3;
}

static void check_core(pid_t pid, pid_t tid, int sig, u64 ip)
{
	prstatus_t status;
	prpsinfo_t info;

	snprintf(core_path, sizeof(core_path), "/tmp/core.%d", pid);
	if (!CHECK(core_notes(core_path, &status, &info), "no core at %s", core_path))
		return;
	/* The first thread is the one that died. */
	CHECK_IS(status.pr_pid, tid);
	CHECK_IS(status.pr_cursig, sig);
	CHECK_IS(info.pr_pid, pid);
	CHECK(!strcmp(info.pr_fname, "callee"), "name %s", info.pr_fname);
	if (ip)
		CHECK_IS(status.pr_reg[16], ip);
	unlink(core_path);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;

static void mended(void)
{
	struct fault_arg f;
	int i;

	f.addr = (u64)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap((void *)f.addr, PAGE);
	for (f.which = 0; f.which < F_NR; f.which++) {
		test_begin("mended: %s", fault_names[f.which]);
		for (i = 0; i < 10; i++) {
			CHECK_IS(call_result(&a, P_FAULT, &f, sizeof(f), 0), 0);
			CHECK_IS(call_result(&a, P_FAULT_LAZY, &f, sizeof(f), 0), 0);
		}
		test_end();
	}
	test_begin("mended: closed by its key");
	if (test_have_pkeys())
		for (i = 0; i < 10; i++)
			CHECK_IS(call_result(&a, P_PKUERR, &f, sizeof(f), RPAL_CALL_GRANT_NONE), 0);
	else
		test_skip_case("no protection keys");
	test_end();
}

/* The caller has no handlers, so a fault that seemed to be its own would show. */
static void no_word(void)
{
	char mine[32], name[32];

	snprintf(mine, sizeof(mine), "[%d]", (int)syscall(SYS_gettid));
	prctl(PR_GET_NAME, name);
	test_begin("no word in the log of faults that were handled");
	log_read();
	CHECK(!log_count(mine), "%s", log_text);
	CHECK(!log_count("caller["), "%s", log_text);
	CHECK(!log_count("callee["), "%s", log_text);
	test_end();
}

/* Does the kernel say a word when a process dies of it? */
static int is_logged(int which)
{
	return which != F_FLOAT && which != F_BUS && which != F_BREAK && which != F_STEP;
}

static void die_of(int which)
{
	char mine[32], its[32];
	struct fault_arg f = { .which = which };
	struct call_peer p;
	int status;

	test_begin("died of: %s", fault_names[which]);
	f.addr = (u64)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap((void *)f.addr, PAGE);
	call_peer_new(&p, "server", 1);
	CHECK_IS(call_result(&p, P_HELPLESS, NULL, 0, 0), 0);
	log_mark();
	CHECK_IS(call_error(&p, P_DIE, &f, sizeof(f)), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == fault_signals[which] && WCOREDUMP(status),
	      "%s, %s", test_status(status), WCOREDUMP(status) ? "core" : "no core");
	CHECK(f.tid && f.tid != p.child.pid, "thread %d", f.tid);
	check_core(p.child.pid, f.tid, fault_signals[which], 0);
	snprintf(mine, sizeof(mine), "[%d]", (int)syscall(SYS_gettid));
	snprintf(its, sizeof(its), "callee[%d]", f.tid);
	log_read();
	CHECK(!log_count(mine) && !log_count("caller["), "%s", log_text);
	CHECK(log_count(its) == is_logged(which), "%d times %s: %s", log_count(its), its, log_text);
	p.child.pid = 0;
	call_peer_end(&p);
	test_end();
}

static void deaths(void)
{
	struct fault_arg f = {};
	struct call_peer p;
	int i, status;

	for (i = 0; i < F_NR; i++)
		die_of(i);
	test_begin("died of: abort()");
	call_peer_new(&p, "server", 1);
	CHECK_IS(call_error(&p, P_ABORT, &f, sizeof(f)), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s", test_status(status));
	check_core(p.child.pid, f.tid, SIGABRT, 0);
	p.child.pid = 0;
	call_peer_end(&p);
	test_end();
}

static int client_role(void)
{
	prctl(PR_SET_NAME, "caller");
	catch_nothing();
	call_init(1);
	call_peer_new(&a, "server", 2);
	log_mark();
	test_begin("a page of the kernel's own");
	CHECK_IS(call_result(&a, P_CLOCK, NULL, 0, 0), 0);
	test_end();
	mended();
	no_word();
	deaths();
	CHECK_IS(call_result(&a, P_CLOCK, NULL, 0, 0), 0);
	call_peer_end(&a);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	MUST(test_write_file("/proc/sys/kernel/core_pattern", "/tmp/core.%p"));
	/* Each line counts. */
	MUST(test_write_file("/proc/sys/kernel/printk_ratelimit", "0"));
	call_run_client("client");
	return test_finish();
}
