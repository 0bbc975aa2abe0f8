// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Verdicts, children, faults and small helpers, see common.h.
 */
#include "common.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#define ENV_ROLE "RPAL_TEST_ROLE"
#define ENV_ARG	 "RPAL_TEST_ARG"

const char *test_name = "?";
const char *test_arg = "";
__thread struct test_fault test_fault;

static char self_path[PATH_MAX];
static int failures;
static int case_failures;
static bool case_skipped;
static char case_name[160];

/* ----------------------------------------------------------------- verdicts */

bool test_check(bool ok, const char *file, int line, const char *cond, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (ok)
		return true;
	__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("%s: %s:%d: not (%s): %s\n", test_name, file, line, cond, text);
	fflush(stdout);
	return false;
}

void test_die(const char *file, int line, const char *what)
{
	int e = errno;

	printf("%s: %s:%d: cannot go on: %s (errno %d, %s)\n", test_name, file, line, what, e,
	       strerror(e));
	fflush(stdout);
	_exit(1);
}

void test_begin(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(case_name, sizeof(case_name), fmt, ap);
	va_end(ap);
	case_failures = failures;
	case_skipped = false;
}

void test_skip_case(const char *why)
{
	printf("skip %s: %s: %s\n", test_name, case_name, why);
	fflush(stdout);
	case_skipped = true;
}

void test_end(void)
{
	if (failures != case_failures)
		printf("FAILED %s: %s\n", test_name, case_name);
	else if (!case_skipped)
		printf("ok %s: %s\n", test_name, case_name);
	fflush(stdout);
	case_name[0] = 0;
}

int test_failures(void)
{
	return failures;
}

int test_patience(void)
{
	const char *kernel = getenv("RPAL_KERNEL");

	return kernel && !strcmp(kernel, "debug") ? 300 : 60;
}

bool test_have_pkeys(void)
{
	static int have = -1;
	u32 a = 7, b, c = 0, d;

	if (have < 0) {
		/* OSPKE: the kernel has turned protection keys on. */
		asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		have = c >> 4 & 1;
	}
	return have;
}

/* ------------------------------------------------------------------- faults */

extern const int __start_test_extable[], __stop_test_extable[];

static __thread u64 call_target;

static void dump(int sig, const siginfo_t *si, const ucontext_t *uc)
{
	static const struct {
		const char *name;
		int reg;
	} regs[] = {
		{ "ip", REG_RIP },  { "sp", REG_RSP },	{ "ax", REG_RAX },  { "bx", REG_RBX },
		{ "cx", REG_RCX },  { "dx", REG_RDX },	{ "si", REG_RSI },  { "di", REG_RDI },
		{ "bp", REG_RBP },  { "r8", REG_R8 },	{ "r9", REG_R9 },   { "r10", REG_R10 },
		{ "r11", REG_R11 }, { "r12", REG_R12 }, { "r13", REG_R13 }, { "r14", REG_R14 },
		{ "r15", REG_R15 }, { "err", REG_ERR },
	};
	char text[1024];
	size_t i;
	int n;

	n = snprintf(text, sizeof(text),
		     "%s: pid %d: unexpected signal %d code %d addr %p pkey %u\n ", test_name,
		     getpid(), sig, si->si_code, si->si_addr,
		     si->si_code == SEGV_PKUERR ? si->si_pkey : 0);
	for (i = 0; i < ARRAY_SIZE(regs); i++)
		n += snprintf(text + n, sizeof(text) - n, " %s %llx", regs[i].name,
			      (unsigned long long)uc->uc_mcontext.gregs[regs[i].reg]);
	n += snprintf(text + n, sizeof(text) - n, "\n  dump at %p\n", (void *)dump);
	if (write(1, text, n) != n)
		_exit(71);
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	const int *e;
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	u64 ip = g[REG_RIP];

	test_fault.sig = sig;
	test_fault.code = si->si_code;
	test_fault.addr = (u64)si->si_addr;
	test_fault.pkey = si->si_code == SEGV_PKUERR ? si->si_pkey : 0;
	for (e = __start_test_extable; e < __stop_test_extable; e += 2) {
		if ((u64)e + e[0] != ip)
			continue;
		g[REG_RAX] = sig;
		g[REG_RIP] = (u64)(e + 1) + e[1];
		return;
	}
	if (call_target && ip == call_target) {
		/* The first instruction of a function: as if it returned. */
		g[REG_RIP] = *(u64 *)g[REG_RSP];
		g[REG_RSP] += 8;
		return;
	}
	dump(sig, si, uc);
	_exit(70);
}

void test_catch_faults(void)
{
	struct sigaction sa = {
		.sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
}

__attribute__((noinline)) int test_call(void *fn, int arg, int *ret)
{
	int (*f)(int) = (int (*)(int))fn;

	test_fault.sig = 0;
	call_target = (u64)fn;
	*ret = f(arg);
	call_target = 0;
	return test_fault.sig;
}

/* -------------------------------------------------------------------- pkeys */

u32 pkru_read(void)
{
	u32 a, d;

	if (!test_have_pkeys())
		return 0;
	asm volatile("rdpkru" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

void pkru_write(u32 v)
{
	if (test_have_pkeys())
		asm volatile("wrpkru" : : "a"(v), "c"(0), "d"(0) : "memory");
}

enum test_rights pkru_rights(u32 pkru, unsigned int pkey)
{
	u32 bits = pkru >> (2 * pkey) & 3;

	if (!test_have_pkeys() || !bits)
		return RIGHTS_WRITE;
	return bits & 1 ? RIGHTS_NONE : RIGHTS_READ;
}

u32 pkru_with(u32 pkru, unsigned int pkey, enum test_rights r)
{
	static const u32 bits[] = { 3, 2, 0 };

	pkru &= ~(3U << (2 * pkey));
	return pkru | bits[r] << (2 * pkey);
}

/* -------------------------------------------------------------------- roles */

static int report_role(void)
{
	struct rpal_self self;
	int fd = test_open();

	MUST(fd >= 0);
	MUST(!test_self(fd, &self));
	close(fd);
	test_send(TEST_FD_DRIVER, &self, sizeof(self));
	return 0;
}

static int sleep_role(void)
{
	report_role();
	while (pause())
		;
	return 0;
}

static const struct test_role own_roles[] = {
	{ "puppet", test_puppet_role }, { "report", report_role }, { "sleep", sleep_role }, {}
};

static const struct test_role *find_role(const struct test_role *r, const char *name)
{
	for (; r && r->name; r++)
		if (!strcmp(r->name, name))
			return r;
	return NULL;
}

void test_init(int argc, char **argv, const struct test_role *roles)
{
	const char *name = getenv(ENV_ROLE), *s;
	const struct test_role *role;
	ssize_t n;

	(void)argc;
	s = argv[0] ? strrchr(argv[0], '/') : NULL;
	test_name = s ? s + 1 : argv[0] ? argv[0] : "?";
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
	MUST(n > 0);
	/* Not by the clock: a case wants a process that has not looked at it. */
	test_seed(getpid() * 2654435761U ^ (u32)__builtin_ia32_rdtsc());
	test_catch_faults();
	if (!name) {
		/* Whoever talks to a child that has died finds out by EPIPE. */
		signal(SIGPIPE, SIG_IGN);
		if (access(TEST_DEV, R_OK | W_OK)) {
			printf("skip %s: no %s\n", test_name, TEST_DEV);
			exit(TEST_SKIP);
		}
		return;
	}
	s = getenv(ENV_ARG);
	if (s)
		test_arg = s;
	role = find_role(roles, name);
	if (!role)
		role = find_role(own_roles, name);
	MUST(role);
	n = role->run();
	fflush(stdout);
	exit(n ? n : failures != 0);
}

int test_finish(void)
{
	fflush(stdout);
	return failures != 0;
}

/* ----------------------------------------------------------------- children */

static void child_exec(const struct test_spawn *s, int sock, int err, pid_t parent)
{
	char *default_argv[] = { (char *)test_name, NULL };
	struct rpal_place place = { .size = sizeof(place) };
	const char *path = s->path ? s->path : self_path;
	int peer = -1, shared = -1, dev, e;
	struct rlimit inf = { RLIM_INFINITY, RLIM_INFINITY };
	struct stat st;

	/* All out of the way of the numbers that they are to have. */
	sock = fcntl(sock, F_DUPFD_CLOEXEC, 100);
	err = fcntl(err, F_DUPFD_CLOEXEC, 100);
	if (s->peer)
		peer = fcntl(s->peer, F_DUPFD_CLOEXEC, 100);
	if (s->shared)
		shared = fcntl(s->shared, F_DUPFD_CLOEXEC, 100);
	dev = open(TEST_DEV, O_RDWR | O_CLOEXEC);
	dev = fcntl(dev, F_DUPFD_CLOEXEC, 100);
	syscall(SYS_close_range, 3, 99, 0);
	dup2(sock, TEST_FD_DRIVER);
	if (peer >= 0)
		dup2(peer, TEST_FD_PEER);
	if (shared >= 0)
		dup2(shared, TEST_FD_SHARED);

	signal(SIGPIPE, SIG_DFL);
	setenv(ENV_ROLE, s->role ? s->role : "puppet", 1);
	if (s->arg)
		setenv(ENV_ARG, s->arg, 1);
	else
		unsetenv(ENV_ARG);
	if (s->stack_unlimited && setrlimit(RLIMIT_STACK, &inf))
		goto fail;
	if (s->uid) {
		if (stat(TEST_DEV, &st) || setgroups(1, &st.st_gid) || setgid(s->uid) ||
		    setuid(s->uid))
			goto fail;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (s->persona && personality(s->persona) < 0)
		goto fail;
	if (!s->unplaced) {
		if (s->group)
			strncpy((char *)place.group, s->group, sizeof(place.group) - 1);
		if (!test_have_pkeys())
			place.flags |= RPAL_PLACE_NO_PKEYS;
		if (ioctl(dev, RPAL_IOC_PLACE, &place))
			goto fail;
	}
	execve(path, s->argv ? s->argv : default_argv, environ);
fail:
	e = errno;
	if (write(err, &e, sizeof(e)) != sizeof(e))
		_exit(99);
	_exit(98);
}

int test_spawn(struct test_child *c, const struct test_spawn *s)
{
	pid_t parent = getpid();
	int sv[2], ev[2], e = 0;

	fflush(stdout);
	test_socketpair(sv);
	MUST(!pipe2(ev, O_CLOEXEC));
	c->pid = fork();
	MUST(c->pid >= 0);
	if (!c->pid)
		child_exec(s, sv[1], ev[1], parent);
	close(sv[1]);
	close(ev[1]);
	if (read(ev[0], &e, sizeof(e)) != sizeof(e))
		e = 0;
	close(ev[0]);
	c->sock = sv[0];
	if (e) {
		close(c->sock);
		waitpid(c->pid, NULL, 0);
		c->pid = 0;
		c->sock = -1;
	}
	return e;
}

static void show_file(const char *path)
{
	char text[2048];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	if (n > 0) {
		text[n] = 0;
		printf("  %s: %s\n", path, text);
	}
	close(fd);
}

/* What a process hangs in, thread by thread, for the reader of the log. */
static void show_stuck(pid_t pid)
{
	static const char *const files[] = { "comm", "wchan", "stack", "syscall" };
	char path[320];
	struct dirent *task;
	size_t i;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (task = readdir(dir))) {
		if (task->d_name[0] == '.')
			continue;
		for (i = 0; i < ARRAY_SIZE(files); i++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, task->d_name,
				 files[i]);
			show_file(path);
		}
	}
	if (dir)
		closedir(dir);
	show_file("/sys/kernel/debug/rpal/stats");
	fflush(stdout);
}

/*
 * What the CPUs are doing goes to the kernel log, where it is a report; but not
 * of a test that is meant to fail.
 */
static void show_cpus(void)
{
	if (!getenv("TEST_IS_CONTROL"))
		test_write_file("/proc/sysrq-trigger", "l");
}

int test_wait(pid_t pid)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int status;
	pid_t r;

	for (;;) {
		r = waitpid(pid, &status, WNOHANG);
		if (r == pid)
			return status;
		MUST(r == 0);
		if (test_now_ns() > end)
			break;
		usleep(1000);
	}
	printf("%s: process %d does not end\n", test_name, pid);
	show_stuck(pid);
	show_cpus();
	kill(pid, SIGKILL);
	for (end = test_now_ns() + 10000000000ULL; test_now_ns() < end; usleep(10000))
		if (waitpid(pid, &status, WNOHANG) == pid)
			return -1;
	printf("%s: not even when killed\n", test_name);
	show_stuck(pid);
	show_cpus();
	return -1;
}

const char *test_status(int status)
{
	static char text[64];

	if (status == -1)
		return "hung";
	if (WIFEXITED(status))
		snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(status));
	else
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(status));
	return text;
}

void test_reap(struct test_child *c)
{
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		test_wait(c->pid);
	}
	if (c->sock >= 0)
		close(c->sock);
	c->pid = 0;
	c->sock = -1;
}

void test_socketpair(int fd[2])
{
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
}

int test_pass_fd(int sock, int fd)
{
	char byte = 1, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	m.msg_control = control;
	m.msg_controllen = sizeof(control);
	if (fd >= 0) {
		cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(int));
		return sendmsg(sock, &m, 0) == 1 ? 0 : -errno;
	}
	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != 1)
		return -errno;
	cm = CMSG_FIRSTHDR(&m);
	if (!cm)
		return -ENOMSG;
	memcpy(&fd, CMSG_DATA(cm), sizeof(int));
	return fd;
}

void test_send(int fd, const void *p, size_t n)
{
	const char *s = p;
	ssize_t w;

	while (n) {
		w = send(fd, s, n, MSG_NOSIGNAL);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			test_die(__FILE__, __LINE__, "send: the other side is gone");
		s += w;
		n -= w;
	}
}

bool test_try_recv(int fd, void *p, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char *s = p;
	ssize_t r;

	while (n) {
		r = poll(&pfd, 1, test_patience() * 1000);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		r = read(fd, s, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		s += r;
		n -= r;
	}
	return true;
}

void test_recv(int fd, void *p, size_t n)
{
	if (!test_try_recv(fd, p, n))
		test_die(__FILE__, __LINE__, "receive: the other side is gone");
}

void test_send_u64(int fd, u64 v)
{
	test_send(fd, &v, sizeof(v));
}

u64 test_recv_u64(int fd)
{
	u64 v;

	test_recv(fd, &v, sizeof(v));
	return v;
}

/* ------------------------------------------------------------------ address */

static char vma_text[1 << 20];

int test_for_each_vma(bool keys, int (*fn)(const struct test_vma *, void *), void *arg)
{
	char *line, *next, *end;
	struct test_vma v, w;
	bool have = false;
	size_t len = 0;
	int ret = 0, fd, key;
	ssize_t n;

	/* All at once and without malloc: looking must not change it. */
	fd = open(keys ? "/proc/self/smaps" : "/proc/self/maps", O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0);
	while ((n = read(fd, vma_text + len, sizeof(vma_text) - 1 - len)) > 0)
		len += n;
	close(fd);
	MUST(len < sizeof(vma_text) - 1);
	vma_text[len] = 0;
	end = vma_text + len;
	for (line = vma_text; line < end; line = next) {
		next = strchr(line, '\n');
		next = next ? next + 1 : end;
		next[-1] = 0;
		memset(&w, 0, sizeof(w));
		w.pkey = -1;
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %127[^\n]", &w.start, &w.end, w.perms,
			   w.name) >= 3) {
			if (have)
				ret |= fn(&v, arg);
			v = w;
			have = true;
		} else if (sscanf(line, "ProtectionKey: %d", &key) == 1) {
			v.pkey = key;
		}
	}
	if (have)
		ret |= fn(&v, arg);
	return ret;
}

struct bad_vmas {
	const struct rpal_self *self;
	bool low;
	int bad;
};

static int bad_vma(const struct test_vma *v, void *arg)
{
	struct bad_vmas *b = arg;
	bool ok;

	if (!strcmp(v->name, "[vsyscall]"))
		return 0;
	ok = (v->start >= b->self->base && v->end <= b->self->end) || (b->low && v->end <= LOW_END);
	if (b->self->pkey && v->pkey != (int)b->self->pkey)
		ok = false;
	if (!ok) {
		b->bad++;
		printf("%s: bad mapping (slot %u, key %u): %lx-%lx %s %s key %d\n", test_name,
		       b->self->slot, b->self->pkey, v->start, v->end, v->perms, v->name, v->pkey);
	}
	return 0;
}

int test_bad_vmas(const struct rpal_self *self, bool low)
{
	struct bad_vmas b = { self, low, 0 };

	test_for_each_vma(true, bad_vma, &b);
	return b.bad;
}

bool test_mapped(pid_t pid, u64 start, u64 end)
{
	char path[64], line[512];
	bool found = false;
	u64 a, b;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	MUST(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &a, &b) == 2 && a < end && b > start)
			found = true;
	fclose(f);
	return found;
}

struct pkey_of {
	u64 addr;
	int pkey;
};

static int pkey_of(const struct test_vma *v, void *arg)
{
	struct pkey_of *p = arg;

	if (p->addr >= v->start && p->addr < v->end)
		p->pkey = v->pkey;
	return 0;
}

int test_vma_pkey(const void *addr)
{
	struct pkey_of p = { (u64)addr, -1 };

	test_for_each_vma(true, pkey_of, &p);
	return p.pkey;
}

/* ----------------------------------------------------------------- services */

int test_open(void)
{
	return open(TEST_DEV, O_RDWR | O_CLOEXEC);
}

int test_self(int fd, struct rpal_self *s)
{
	memset(s, 0, sizeof(*s));
	s->size = sizeof(*s);
	return ioctl(fd, RPAL_IOC_SELF, s) ? -errno : 0;
}

/* Nobody calls here; the module only wants addresses within the slot. */
__attribute__((noinline, used)) static void range_target(void)
{
	asm volatile(".fill 64, 1, 0x90");
}

void test_ranges(struct rpal_ranges *r)
{
	u64 a = (u64)range_target;

	r->open_start = a;
	r->open_end = a + 4;
	r->enter_start = a + 8;
	r->enter_end = a + 12;
	r->leave_start = a + 16;
	r->leave_end = a + 20;
	r->home_start = a + 24;
	r->home_end = a + 28;
	r->lazy_ip = a + 32;
	r->wait_ip = a + 36;
}

int test_register(int fd, struct rpal_register *r)
{
	memset(r, 0, sizeof(*r));
	r->size = sizeof(*r);
	r->nr_receivers = 1;
	test_ranges(&r->ranges);
	return ioctl(fd, RPAL_IOC_REGISTER, r) ? -errno : 0;
}

int test_request(int fd, u64 key, struct rpal_request *r)
{
	memset(r, 0, sizeof(*r));
	r->size = sizeof(*r);
	r->key = key;
	return ioctl(fd, RPAL_IOC_REQUEST, r) ? -errno : 0;
}

int test_release(int fd, u64 key, struct rpal_request *r)
{
	memset(r, 0, sizeof(*r));
	r->size = sizeof(*r);
	r->key = key;
	return ioctl(fd, RPAL_IOC_RELEASE, r) ? -errno : 0;
}

int test_peer(int fd, u64 key, u32 id, struct rpal_peer *p)
{
	memset(p, 0, sizeof(*p));
	p->size = sizeof(*p);
	p->key = key;
	p->id = id;
	return ioctl(fd, RPAL_IOC_PEER, p) ? -errno : 0;
}

int test_hooks(void)
{
	static const char *const names[] = {
		"begin_new_exec",      "setup_arg_pages",  "get_unmapped_area",
		"__get_unmapped_area", "vm_unmapped_area", "mmap_region",
		"do_mprotect_pkey",    "finalize_exec",	   "bad_area_nosemaphore",
		"wake_up_new_task",    "exit_mmap",	   "fpu__clear_user_states",
	};
	char line[512], name[128];
	bool counted = false;
	int n = 0;
	size_t i;
	FILE *f;

	f = fopen("/sys/kernel/tracing/enabled_functions", "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		bool ours = strstr(line, "rpal");

		/* What a function calls directly is in a second line. */
		if (line[0] == '\t') {
			n += ours && !counted;
			continue;
		}
		if (sscanf(line, "%127s", name) == 1)
			for (i = 0; i < ARRAY_SIZE(names); i++)
				ours |= !strcmp(name, names[i]);
		counted = ours;
		n += ours;
	}
	fclose(f);
	return n;
}

void test_hooks_go_soon(void)
{
	test_write_file("/sys/module/rpal/parameters/hook_linger_ms", "2000");
}

int test_wait_hooks_gone(int seconds)
{
	u64 end = test_now_ns() + seconds * 1000000000ULL;
	int n;

	while ((n = test_hooks()) && test_now_ns() < end)
		usleep(50000);
	return n;
}

long test_wait_users_gone(int seconds)
{
	u64 end = test_now_ns() + seconds * 1000000000ULL;
	long n;

	while ((n = test_file_value("/sys/kernel/debug/rpal/stats", "hook_users")) &&
	       test_now_ns() < end)
		usleep(50000);
	return n;
}

/* --------------------------------------------------------------------- misc */

u64 test_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void test_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	MUST(!sched_setaffinity(0, sizeof(set), &set));
}

static __thread u32 random_state; /* 0: not seeded yet */

void test_seed(u32 seed)
{
	random_state = seed ? seed : 1;
}

u32 test_random(void)
{
	u32 x = random_state;

	/* A thread that nobody has seeded: not the same as all others. */
	if (!x)
		x = (u32)(uintptr_t)&random_state * 2654435761U ^ (u32)__builtin_ia32_rdtsc() ^ 1;
	if (!x)
		x = 1;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	random_state = x;
	return x;
}

bool test_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

long test_file_value(const char *path, const char *word)
{
	size_t len = strlen(word);
	char line[256];
	long v = -1;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, word, len) &&
		    (isspace((unsigned char)line[len]) || line[len] == ':'))
			v = strtol(line + len + 1, NULL, 0);
	fclose(f);
	return v;
}

long test_file_number(const char *path)
{
	char text[64];
	long v = -1;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fgets(text, sizeof(text), f))
		v = strtol(text, NULL, 0);
	fclose(f);
	return v;
}

int test_copy_file(const char *from, const char *to, int mode)
{
	static char buf[65536];
	int in, out, ret = -1;
	ssize_t n;

	unlink(to);
	in = open(from, O_RDONLY | O_CLOEXEC);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (in < 0 || out < 0)
		goto out;
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			goto out;
	ret = n || fchmod(out, mode) ? -1 : 0;
out:
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return ret;
}

void *test_shared_map(size_t len, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	MUST(p != MAP_FAILED);
	return p;
}

void *test_shared_new(size_t len, int *fd)
{
	*fd = memfd_create("test", MFD_CLOEXEC);
	MUST(*fd >= 0 && !ftruncate(*fd, len));
	return test_shared_map(len, *fd);
}
