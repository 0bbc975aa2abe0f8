// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Shared memory of linked services: every kind of memory can be read, written
 * and executed by the peer as its owner could, by user code and by the kernel
 * on the peer's behalf, and what the owner may not do the peer may not either.
 */
#include "common.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/futex.h>
#include <linux/userfaultfd.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

enum {
	OP_FORK = OP_USER, /* fork; the child waits */
	OP_CHILD_LOAD,	   /* what the child reads at an address */
	OP_CHILD_END,
	OP_STACK_ADDR, /* address of a local variable */
	OP_VVAR,       /* start of the vvar area */
	OP_CLOCK,      /* the time, as the vdso says */
};

/* ----------------------------------------------------------- in the puppet */

static int child_pipe[2], answer_pipe[2];
static pid_t child;

static void child_loop(void)
{
	u64 addr, v;

	while (read(child_pipe[0], &addr, sizeof(addr)) == sizeof(addr)) {
		if (test_load((void *)addr, &v))
			v = ~0UL;
		if (write(answer_pipe[1], &v, sizeof(v)) != sizeof(v))
			break;
	}
	_exit(0);
}

static int find_vvar(const struct test_vma *v, void *arg)
{
	if (!strncmp(v->name, "[vvar", 5) && !*(u64 *)arg)
		*(u64 *)arg = v->start;
	return 0;
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	int status = 0;
	u64 v = 0;

	switch (c->op) {
	case OP_FORK:
		if (pipe(child_pipe) || pipe(answer_pipe))
			r->ret = -errno;
		fflush(stdout);
		child = fork();
		if (!child) {
			close(child_pipe[1]);
			child_loop();
		}
		close(child_pipe[0]);
		r->ret = child > 0 ? 0 : -errno;
		break;
	case OP_CHILD_LOAD:
		if (write(child_pipe[1], &c->a[0], 8) != 8 || read(answer_pipe[0], &v, 8) != 8)
			r->ret = -EPIPE;
		r->val = v;
		break;
	case OP_CHILD_END:
		close(child_pipe[1]);
		close(answer_pipe[0]);
		close(answer_pipe[1]);
		status = test_wait(child);
		r->ret = status;
		break;
	case OP_STACK_ADDR:
		r->val = (u64)&v;
		break;
	case OP_VVAR:
		test_for_each_vma(false, find_vvar, &r->val);
		break;
	case OP_CLOCK:
		r->val = test_now_ns();
		break;
	}
}

static long user_do(struct puppet *p, int op, u64 a, u64 *v)
{
	struct test_cmd c = { .op = op, .a = { a } };
	struct test_res r;

	puppet_do(p, &c, &r);
	if (v)
		*v = r.val;
	return r.ret;
}

/* ------------------------------------------------------------ two of them */

static struct puppet own, use; /* the owner of the memory, and its user */

static void pair_new(void)
{
	puppet_new(&own, "sharing");
	puppet_new(&use, "sharing");
	puppet_link(&own, &use);
}

static void pair_end(void)
{
	CHECK(!puppet_end(&use), "user");
	CHECK(!puppet_end(&own), "owner");
}

static u64 load(struct puppet *p, u64 addr)
{
	u64 v;
	int sig = puppet_load(p, addr, &v);

	CHECK(!sig, "signal %d at %lx, code %d", sig, addr, test_fault.code);
	return v;
}

static void store(struct puppet *p, u64 addr, u64 v)
{
	int sig = puppet_store(p, addr, v);

	CHECK(!sig, "signal %d at %lx, code %d", sig, addr, test_fault.code);
}

#define CHECK_LOAD(p, addr, want)                                          \
	do {                                                               \
		u64 v_ = load(p, addr);                                    \
		CHECK(v_ == (u64)(want), "%lx, not %lx", v_, (u64)(want)); \
	} while (0)

#define CHECK_SEGV(expr)                                   \
	do {                                               \
		int sig_ = (expr);                         \
		CHECK(sig_ == SIGSEGV, "signal %d", sig_); \
	} while (0)

/* ------------------------------------------------------------ kinds of memory */

static void basics(void)
{
	struct test_cmd c = { .op = OP_CODE };
	struct test_res r;
	int x = 0;
	u64 a;

	pair_new();
	test_begin("data in both directions");
	a = puppet_alloc(&own, PAGE, 0x1234);
	CHECK_LOAD(&use, a, 0x1234);
	store(&use, a, 0x5678);
	CHECK_LOAD(&own, a, 0x5678);
	store(&own, a, 0x9abc);
	CHECK_LOAD(&use, a, 0x9abc);
	a = puppet_alloc(&use, PAGE, 0x4321);
	CHECK_LOAD(&own, a, 0x4321);
	CHECK_LOAD(&use, own.buf, 0);
	test_end();

	test_begin("code of the peer runs");
	puppet_do(&own, &c, &r);
	CHECK(!puppet_call(&use, r.val, 41, &x) && x == 42, "%d", x);
	test_end();

	test_begin("private low memory is out of reach");
	a = puppet_mmap(&own, 0x20000000, PAGE, RW, ANON | MAP_FIXED);
	CHECK(a == 0x20000000, "%lx", a);
	store(&own, a, 1);
	CHECK_SEGV(puppet_load(&use, a, &a));
	a = 0x20000000;
	CHECK(puppet_mmap(&use, a, PAGE, RW, ANON | MAP_FIXED) == a, "its own");
	CHECK_LOAD(&use, a, 0);
	CHECK_LOAD(&own, a, 1);
	test_end();
	pair_end();
}

static void unpopulated(void)
{
	u64 big = 64 * MB, m, far, sh, stack, p;

	pair_new();
	test_begin("memory the owner has not touched");
	m = puppet_mmap(&own, 0, big, RW, ANON);
	puppet_sys(&own, SYS_madvise, m, big, MADV_NOHUGEPAGE);
	CHECK(!puppet_fill(&use, m, big, 16 * PAGE, 1), "write");
	CHECK(!puppet_verify(&own, m, big, 16 * PAGE, 1), "wrong words");
	far = puppet_mmap(&own, own.self.base + 3 * GB, MB, RW, ANON | MAP_FIXED);
	CHECK_LOAD(&use, far, 0);
	store(&use, far + 2 * PAGE, 77);
	CHECK_LOAD(&own, far + 2 * PAGE, 77);
	/* Tables of all levels are new in the very first and last pages. */
	p = puppet_mmap(&own, own.self.base, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	CHECK(p == own.self.base, "%lx", p);
	CHECK_LOAD(&use, p, 0);
	p = puppet_mmap(&own, own.self.end - PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	CHECK(p == own.self.end - PAGE, "%lx", p);
	store(&use, p + PAGE - 8, 5);
	CHECK_LOAD(&own, p + PAGE - 8, 5);
	test_end();

	test_begin("shared anonymous memory");
	sh = puppet_mmap(&own, 0, MB, RW, MAP_SHARED | MAP_ANONYMOUS);
	store(&use, sh + 70000, 9);
	CHECK_LOAD(&own, sh + 70000, 9);
	CHECK_LOAD(&use, sh + 140000, 0);
	test_end();

	test_begin("the owner's stack grows");
	user_do(&own, OP_STACK_ADDR, 0, &stack);
	store(&use, (stack & ~7UL) - 600000, 7);
	CHECK_LOAD(&own, (stack & ~7UL) - 600000, 7);
	test_end();
	pair_end();
}

static void files(void)
{
	static const char path[] = "/tmp/sharing-file";
	char word[8] = "abcdefg";
	u64 m, v;
	int fd, sig;

	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && !ftruncate(fd, 4 * PAGE));
	MUST(pwrite(fd, word, 8, 0) == 8 && pwrite(fd, word, 8, 3 * PAGE) == 8);
	memcpy(&v, word, 8);

	pair_new();
	test_begin("a file, private");
	puppet_put(&own, 0, path, sizeof(path));
	fd = puppet_sys(&own, SYS_open, own.buf, O_RDWR, 0);
	m = puppet_sys(&own, SYS_mmap, 0, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
	CHECK_LOAD(&use, m, v);
	CHECK_LOAD(&use, m + PAGE, 0);
	store(&use, m, 1); /* copied for the owner, not for the file */
	CHECK_LOAD(&own, m, 1);
	CHECK_LOAD(&use, m + 3 * PAGE, v);
	test_end();

	test_begin("a file, shared");
	m = puppet_sys(&own, SYS_mmap, 0, 4 * PAGE, RW, MAP_SHARED, fd, 0);
	CHECK_LOAD(&use, m, v);
	store(&use, m + PAGE, v);
	CHECK(puppet_sys(&own, SYS_pread64, fd, own.buf + 64, 8, PAGE) == 8, "read");
	CHECK_LOAD(&own, own.buf + 64, v);
	test_end();

	test_begin("a file, read only");
	m = puppet_sys(&own, SYS_mmap, 0, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK_LOAD(&use, m, v);
	CHECK_SEGV(puppet_store(&use, m, 1));
	CHECK_SEGV(puppet_store(&use, m + 2 * PAGE, 1));
	test_end();

	test_begin("behind the end of a file");
	m = puppet_sys(&own, SYS_mmap, 0, 8 * PAGE, RW, MAP_SHARED, fd, 0);
	sig = puppet_load(&use, m + 6 * PAGE, &v);
	CHECK(sig == SIGSEGV || sig == SIGBUS, "signal %d", sig);
	store(&own, m + 2 * PAGE, 3);
	CHECK_LOAD(&use, m + 2 * PAGE, 3);
	CHECK(!puppet_sys(&own, SYS_ftruncate, fd, PAGE), "truncate");
	sig = puppet_load(&use, m + 2 * PAGE, &v);
	CHECK(sig == SIGSEGV || sig == SIGBUS, "signal %d", sig);
	CHECK(puppet_load(&own, m + 2 * PAGE, &v) == SIGBUS, "owner");
	test_end();
	pair_end();
	unlink(path);
}

static void huge(void)
{
	long before, after;
	u64 m;

	pair_new();
	test_begin("transparent huge pages, and splitting them");
	before = test_file_value("/proc/vmstat", "thp_fault_alloc");
	m = puppet_mmap(&own, own.self.base + 20 * GB, 8 * MB, RW, ANON | MAP_FIXED);
	puppet_sys(&own, SYS_madvise, m, 8 * MB, MADV_HUGEPAGE);
	CHECK(!puppet_fill(&use, m, 8 * MB, PAGE, 3), "write");
	after = test_file_value("/proc/vmstat", "thp_fault_alloc");
	CHECK(after > before || before < 0, "no huge page was used: %ld", after);
	CHECK(!puppet_verify(&own, m, 8 * MB, PAGE, 3), "wrong words");
	puppet_sys(&own, SYS_madvise, m + 10 * PAGE, 3 * PAGE, MADV_DONTNEED);
	CHECK(!puppet_verify(&use, m, 10 * PAGE, PAGE, 3), "below the hole");
	CHECK_LOAD(&use, m + 10 * PAGE, 0);
	CHECK_LOAD(&use, m + 12 * PAGE, 0);
	CHECK(load(&use, m + 13 * PAGE), "above the hole");
	puppet_sys(&own, SYS_mprotect, m + 2 * MB, PAGE, PROT_READ);
	CHECK_SEGV(puppet_store(&use, m + 2 * MB, 1));
	store(&use, m + 2 * MB + PAGE, 1);
	puppet_sys(&own, SYS_munmap, m, 8 * MB);
	CHECK_SEGV(puppet_load(&use, m, &m));
	test_end();

	test_begin("hugetlb");
	m = -1;
	if (test_write_file("/proc/sys/vm/nr_hugepages", "8"))
		m = puppet_mmap(&own, 0, 4 * MB, RW, ANON | MAP_HUGETLB);
	if (m >= -4095UL) {
		test_skip_case("no huge pages to be had");
	} else {
		CHECK(in_slot(&own.self, (void *)m, 4 * MB), "%lx", m);
		CHECK_LOAD(&use, m, 0);
		store(&use, m + 3 * MB, 6);
		CHECK_LOAD(&own, m + 3 * MB, 6);
		puppet_sys(&own, SYS_mprotect, m, 4 * MB, PROT_READ);
		CHECK_SEGV(puppet_store(&use, m + 3 * MB, 6));
		CHECK_LOAD(&use, m + 3 * MB, 6);
		puppet_sys(&own, SYS_munmap, m, 4 * MB);
		CHECK_SEGV(puppet_load(&use, m + 3 * MB, &m));
	}
	test_end();
	pair_end();
	test_write_file("/proc/sys/vm/nr_hugepages", "0");
}

/* -------------------------------------------------------------- what is refused */

static void permissions(void)
{
	u64 m, gone, v;
	int x;

	pair_new();
	test_begin("no mapping there");
	gone = own.self.base + 7 * GB;
	CHECK_SEGV(puppet_load(&use, gone, &v));
	CHECK(test_fault.addr == gone && test_fault.code == SEGV_MAPERR, "at %lx, code %d",
	      test_fault.addr, test_fault.code);
	CHECK_SEGV(puppet_store(&use, gone, 1));
	m = puppet_alloc(&own, PAGE, 1);
	CHECK_LOAD(&use, m, 1);
	puppet_sys(&own, SYS_munmap, m, PAGE);
	CHECK_SEGV(puppet_load(&use, m, &v));
	test_end();

	test_begin("PROT_NONE");
	m = puppet_mmap(&own, 0, PAGE, PROT_NONE, ANON);
	CHECK_SEGV(puppet_load(&use, m, &v));
	CHECK_SEGV(puppet_store(&use, m, 1));
	puppet_sys(&own, SYS_mprotect, m, PAGE, RW);
	store(&use, m, 5);
	puppet_sys(&own, SYS_mprotect, m, PAGE, PROT_NONE);
	CHECK_SEGV(puppet_load(&use, m, &v));
	test_end();

	test_begin("read only");
	m = puppet_alloc(&own, 2 * PAGE, 1);
	puppet_sys(&own, SYS_mprotect, m, 2 * PAGE, PROT_READ);
	CHECK_LOAD(&use, m, 1);
	CHECK_SEGV(puppet_store(&use, m, 2));
	CHECK(test_fault.addr == m, "at %lx", test_fault.addr);
	CHECK_SEGV(puppet_store(&use, m + PAGE, 2));
	CHECK_LOAD(&own, m, 1);
	test_end();

	test_begin("not executable");
	m = puppet_alloc(&own, 2 * PAGE, 0xc3); /* ret */
	CHECK_SEGV(puppet_call(&use, m, 0, &x));
	CHECK_SEGV(puppet_call(&use, m + PAGE, 0, &x));
	puppet_sys(&own, SYS_mprotect, m, PAGE, PROT_READ | PROT_EXEC);
	CHECK(!puppet_call(&use, m, 0, &x), "executable now");
	test_end();

	test_begin("memory of a device kind (vvar)");
	/*
	 * The owner has not looked at a clock yet, so it has none of the pages. From glibc
	 * 2.41 on it may have the first: a program begins with the vDSO's getrandom(),
	 * whose data lie there on some kernels.
	 */
	CHECK(!user_do(&own, OP_VVAR, 0, &m) && m, "no vvar");
	if (strverscmp(gnu_get_libc_version(), "2.41") < 0) {
		CHECK_SEGV(puppet_load(&use, m, &v));
		CHECK(puppet_sys(&use, SYS_access, m, 0) == -EFAULT, "by the kernel");
	}
	CHECK_SEGV(puppet_load(&use, m + PAGE, &v));
	CHECK_SEGV(puppet_store(&use, m, 0));
	CHECK(puppet_sys(&use, SYS_access, m + PAGE, 0) == -EFAULT, "by the kernel");
	/* Now it has them, and they can be read or not, but never written. */
	CHECK(!user_do(&own, OP_CLOCK, 0, &v) && v, "no time");
	x = puppet_load(&use, m, &v);
	CHECK(!x || x == SIGSEGV, "signal %d", x);
	CHECK_SEGV(puppet_store(&use, m, 0));
	test_end();
	pair_end();
}

/* --------------------------------------------------- the kernel for the peer */

static void kernel_access(void)
{
	long rd, wr, r;
	u64 m, v, gone, buf;
	int fd2[2];
	struct iovec iov[2];

	pair_new();
	m = puppet_mmap(&own, 0, 64 * PAGE, RW, ANON);
	puppet_sys(&own, SYS_madvise, m, 64 * PAGE, MADV_NOHUGEPAGE);
	gone = own.self.base + 7 * GB;
	buf = use.buf + 1024;

	test_begin("the kernel reads and writes a peer's memory");
	CHECK(!puppet_sys(&use, SYS_pipe, use.buf), "pipe");
	puppet_get(&use, 0, fd2, sizeof(fd2));
	rd = fd2[0];
	wr = fd2[1];
	r = puppet_sys(&use, SYS_write, wr, m + 5 * PAGE, 100);
	CHECK(r == 100, "write from memory not there yet: %ld", r);
	r = puppet_sys(&use, SYS_read, rd, buf, 100);
	CHECK(r == 100, "%ld", r);
	CHECK_LOAD(&use, buf, 0);
	store(&use, buf, 0x4b4b);
	r = puppet_sys(&use, SYS_write, wr, buf, 100);
	CHECK(r == 100, "%ld", r);
	r = puppet_sys(&use, SYS_read, rd, m + PAGE, 100);
	CHECK(r == 100, "read into memory not there yet: %ld", r);
	CHECK_LOAD(&own, m + PAGE, 0x4b4b);
	r = puppet_sys(&use, SYS_write, wr, m + PAGE, 100);
	CHECK(r == 100, "write from memory that is there: %ld", r);
	r = puppet_sys(&use, SYS_read, rd, m + 8 * PAGE - 50, 100);
	CHECK(r == 100, "read across two pages: %ld", r);
	CHECK_LOAD(&own, m + 8 * PAGE - 50, 0x4b4b);
	/* A path, a vector, and the result of a call by the kernel. */
	puppet_put(&own, 0, "/proc/self/status", 18);
	r = puppet_sys(&use, SYS_open, own.buf, O_RDONLY, 0);
	CHECK(r >= 0, "path in the peer: %ld", r);
	puppet_sys(&use, SYS_close, r);
	iov[0].iov_base = (void *)(m + 20 * PAGE);
	iov[0].iov_len = 8;
	iov[1].iov_base = (void *)(m + PAGE);
	iov[1].iov_len = 8;
	puppet_put(&own, 64, iov, sizeof(iov));
	r = puppet_sys(&use, SYS_writev, wr, own.buf + 64, 2);
	CHECK(r == 16, "writev: %ld", r);
	r = puppet_sys(&use, SYS_read, rd, buf, 16);
	CHECK(r == 16, "%ld", r);
	CHECK_LOAD(&use, buf + 8, 0x4b4b);
	r = puppet_sys(&use, SYS_clock_gettime, CLOCK_MONOTONIC, m + 30 * PAGE);
	CHECK(!r, "clock_gettime: %ld", r);
	CHECK(load(&own, m + 30 * PAGE), "time");
	test_end();

	test_begin("EFAULT where there is nothing, or no right");
	r = puppet_sys(&use, SYS_write, wr, gone, 10);
	CHECK(r == -EFAULT, "%ld", r);
	r = puppet_sys(&use, SYS_open, gone, O_RDONLY, 0);
	CHECK(r == -EFAULT, "%ld", r);
	puppet_sys(&own, SYS_mprotect, m + 40 * PAGE, PAGE, PROT_READ);
	r = puppet_sys(&use, SYS_write, wr, m + 40 * PAGE, 10);
	CHECK(r == 10, "%ld", r);
	r = puppet_sys(&use, SYS_read, rd, m + 40 * PAGE, 10);
	CHECK(r == -EFAULT, "%ld", r);
	puppet_sys(&own, SYS_mprotect, m + 40 * PAGE, PAGE, PROT_NONE);
	r = puppet_sys(&use, SYS_write, wr, m + 40 * PAGE, 10);
	CHECK(r == -EFAULT, "%ld", r);
	test_end();

	test_begin("system calls that look for a mapping do not find it");
	r = puppet_sys(&use, SYS_munmap, m, PAGE);
	CHECK(r <= 0, "munmap: %ld", r);
	r = puppet_sys(&use, SYS_mprotect, m, PAGE, PROT_NONE);
	CHECK(r == -ENOMEM, "mprotect: %ld", r);
	r = puppet_sys(&use, SYS_madvise, m, PAGE, MADV_DONTNEED);
	CHECK(r == -ENOMEM, "madvise: %ld", r);
	r = puppet_sys(&use, SYS_mremap, m, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	CHECK(r == -EFAULT, "mremap: %ld", r);
	r = puppet_sys(&use, SYS_mmap, m, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	CHECK(r == -ENOMEM, "mmap over it: %lx", r);
	r = puppet_sys(&use, SYS_mlock, m, PAGE);
	CHECK(r < 0, "mlock: %ld", r);
	r = puppet_sys(&use, SYS_munmap, own.self.base, RPAL_SLOT_SIZE);
	CHECK(r <= 0, "munmap of the slot: %ld", r);
	CHECK_LOAD(&use, m + PAGE, 0x4b4b);
	CHECK_LOAD(&own, m + PAGE, 0x4b4b);
	r = puppet_sys(&use, SYS_vmsplice, wr, use.buf, 0, 0);
	CHECK(!r, "vmsplice of nothing: %ld", r);
	iov[0].iov_base = (void *)(m + PAGE);
	puppet_put(&use, 64, iov, sizeof(iov));
	r = puppet_sys(&use, SYS_vmsplice, wr, use.buf + 64, 1, 0);
	CHECK(r < 0 || r == 8, "vmsplice: %ld", r);
	test_end();

	test_begin("a futex on shared memory wakes, whoever asks");
	v = puppet_mmap(&own, 0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
	store(&own, v, 7);
	{
		struct timespec ts = { test_patience() / 2, 0 };
		struct test_cmd c = {
			.op = OP_SYSCALL,
			.a = { SYS_futex, v, FUTEX_WAIT, 7, 0 },
		};
		struct test_res res;
		u64 end;

		c.a[4] = puppet_put(&own, 128, &ts, sizeof(ts));
		puppet_send(&own, &c);
		end = test_now_ns() + 20000000000ULL;
		do {
			r = puppet_sys(&use, SYS_futex, v, FUTEX_WAKE, 1);
		} while (!r && test_now_ns() < end);
		CHECK(r == 1, "woken: %ld", r);
		MUST(puppet_result(&own, &res));
		CHECK(!res.ret, "the waiter: %ld", (long)res.ret);
	}
	test_end();

	test_begin("the kernel's access ends with the owner");
	puppet_kill(&own);
	r = puppet_sys(&use, SYS_write, wr, m + PAGE, 10);
	CHECK(r == -EFAULT, "%ld", r);
	r = puppet_sys(&use, SYS_read, rd, m + PAGE, 10);
	CHECK(r == -EFAULT, "%ld", r);
	CHECK(!puppet_end(&use), "user");
	test_end();
}

/* --------------------------------------------- faults that the owner resolves */

/* A page that is missing until the owner provides it. */
static void missing_page(struct puppet *p, int uffd, u64 addr, u64 value)
{
	struct uffdio_copy copy = { .dst = addr, .len = PAGE };
	struct uffd_msg msg;
	u64 end = test_now_ns() + 20000000000ULL;
	long r;

	do {
		r = puppet_sys(p, SYS_read, uffd, p->buf, sizeof(msg));
	} while (r == -EAGAIN && test_now_ns() < end);
	if (!CHECK(r == sizeof(msg), "%ld", r))
		return;
	puppet_get(p, 0, &msg, sizeof(msg));
	CHECK(msg.event == UFFD_EVENT_PAGEFAULT && msg.arg.pagefault.address == addr, "at %llx",
	      msg.arg.pagefault.address);
	if (!value)
		return;
	store(p, p->buf + PAGE, value);
	copy.src = p->buf + PAGE;
	r = puppet_ioctl(p, uffd, UFFDIO_COPY, &copy, sizeof(copy));
	CHECK(!r, "copy: %ld", r);
}

static void user_faults(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct test_cmd c = { .op = OP_LOAD };
	struct test_res r;
	int uffd, status;
	u64 m;

	test_begin("a page that the owner's fault handler provides");
	pair_new();
	uffd = puppet_sys(&own, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0) {
		test_skip_case("no userfaultfd");
		pair_end();
		test_end();
		return;
	}
	CHECK(!puppet_ioctl(&own, uffd, UFFDIO_API, &api, sizeof(api)), "api");
	m = puppet_mmap(&own, 0, 4 * PAGE, RW, ANON);
	reg.range.start = m;
	reg.range.len = 4 * PAGE;
	CHECK(!puppet_ioctl(&own, uffd, UFFDIO_REGISTER, &reg, sizeof(reg)), "register");
	c.a[0] = m;
	puppet_send(&use, &c);
	missing_page(&own, uffd, m, 0x77);
	MUST(puppet_result(&use, &r));
	CHECK(!r.sig && r.val == 0x77, "signal %d value %lx", r.sig, r.val);
	/* By the kernel, too. */
	CHECK(!puppet_sys(&use, SYS_pipe, use.buf), "pipe");
	puppet_get(&use, 0, &r.buf, 8);
	memset(&c, 0, sizeof(c));
	c.op = OP_SYSCALL;
	c.a[0] = SYS_write;
	c.a[1] = ((int *)r.buf)[1];
	c.a[2] = m + PAGE;
	c.a[3] = 8;
	puppet_send(&use, &c);
	missing_page(&own, uffd, m + PAGE, 0x78);
	MUST(puppet_result(&use, &r));
	CHECK(r.ret == 8, "%ld", (long)r.ret);
	test_end();

	test_begin("who waits for such a page can be killed");
	memset(&c, 0, sizeof(c));
	c.op = OP_LOAD;
	c.a[0] = m + 2 * PAGE;
	puppet_send(&use, &c);
	missing_page(&own, uffd, m + 2 * PAGE, 0);
	kill(use.child.pid, SIGKILL);
	status = test_wait(use.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", test_status(status));
	close(use.child.sock);
	CHECK(load(&own, m) == 0x77, "the owner's memory");
	test_end();

	test_begin("so can the owner");
	puppet_new(&use, "sharing");
	puppet_link(&own, &use);
	c.a[0] = m + 3 * PAGE;
	puppet_send(&use, &c);
	missing_page(&own, uffd, m + 3 * PAGE, 0);
	puppet_kill(&own);
	MUST(puppet_result(&use, &r));
	CHECK(r.sig == SIGSEGV, "signal %d", r.sig);
	CHECK(!puppet_end(&use), "user");
	test_end();
}

/* ------------------------------------------------------------- copy on write */

static void copy_on_write(void)
{
	u64 a, v;

	pair_new();
	test_begin("the peer writes while a child shares the page");
	a = puppet_alloc(&own, PAGE, 1);
	store(&use, a, 1); /* writable in its TLB */
	CHECK(!user_do(&own, OP_FORK, 0, NULL), "fork");
	store(&use, a, 55);
	CHECK_LOAD(&own, a, 55);
	CHECK_LOAD(&use, a, 55);
	CHECK(!user_do(&own, OP_CHILD_LOAD, a, &v) && v == 1, "the child sees %lx", v);
	CHECK(!user_do(&own, OP_CHILD_END, 0, NULL), "child");
	test_end();

	test_begin("the owner writes while a child shares the page");
	store(&own, a, 2);
	CHECK_LOAD(&use, a, 2); /* readable in its TLB */
	CHECK(!user_do(&own, OP_FORK, 0, NULL), "fork");
	CHECK_LOAD(&use, a, 2);
	store(&own, a, 77);
	CHECK_LOAD(&use, a, 77);
	CHECK(!user_do(&own, OP_CHILD_LOAD, a, &v) && v == 2, "the child sees %lx", v);
	test_end();

	test_begin("a child does not inherit links");
	v = puppet_alloc(&use, PAGE, 6);
	CHECK_LOAD(&own, v, 6);
	CHECK(!user_do(&own, OP_CHILD_LOAD, v, &v) && v == ~0UL, "the child sees %lx", v);
	CHECK(!user_do(&own, OP_CHILD_END, 0, NULL), "child");
	test_end();

	test_begin("the kernel writes for the peer while a child shares the page");
	CHECK(!user_do(&own, OP_FORK, 0, NULL), "fork");
	CHECK(!puppet_sys(&use, SYS_clock_gettime, CLOCK_REALTIME, a), "clock_gettime");
	CHECK(load(&own, a) != 77, "written");
	CHECK(!user_do(&own, OP_CHILD_LOAD, a, &v) && v == 77, "the child sees %lx", v);
	CHECK(!user_do(&own, OP_CHILD_END, 0, NULL), "child");
	test_end();

	test_begin("the zero page");
	a = puppet_mmap(&own, 0, PAGE, RW, ANON);
	CHECK_LOAD(&use, a, 0);
	CHECK_LOAD(&own, a, 0);
	store(&own, a, 3);
	CHECK_LOAD(&use, a, 3);
	test_end();
	pair_end();
}

/* ------------------------------------------------------------- ends of one side */

static void user_ends_first(void)
{
	u64 a;

	test_begin("pages that a peer has faulted in are the owner's");
	pair_new();
	a = puppet_mmap(&own, 0, 8 * MB, RW, ANON);
	CHECK(!puppet_fill(&use, a, 8 * MB, 2 * PAGE, 5), "write");
	CHECK(!puppet_end(&use), "user");
	CHECK(!puppet_verify(&own, a, 8 * MB, 2 * PAGE, 5), "wrong words");
	CHECK(!puppet_fill(&own, a, 8 * MB, PAGE, 6), "write");
	CHECK(!puppet_sys(&own, SYS_munmap, a, 8 * MB), "munmap");
	CHECK(!puppet_end(&own), "owner");
	test_end();
}

static void owner_unmaps_all(void)
{
	struct test_cmd c = { .op = OP_SYSCALL, .a = { SYS_munmap } };
	struct test_res r;
	u64 a, v;
	int status;

	test_begin("the owner unmaps its whole slot");
	pair_new();
	a = puppet_alloc(&own, PAGE, 3);
	CHECK_LOAD(&use, a, 3);
	c.a[1] = own.self.base;
	c.a[2] = RPAL_SLOT_SIZE;
	puppet_send(&own, &c);
	CHECK(!puppet_result(&own, &r), "the owner lives without memory");
	status = test_wait(own.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "%s", test_status(status));
	close(own.child.sock);
	CHECK_SEGV(puppet_load(&use, a, &v));
	CHECK(!puppet_end(&use), "user");
	test_end();
}

static void owner_execs(void)
{
	struct test_cmd c = { .op = OP_EXEC };
	struct rpal_self old;
	u64 a, v;
	int placed;

	for (placed = 0; placed < 2; placed++) {
		test_begin(placed ? "the owner executes a program that is placed" :
				    "the owner executes a program");
		pair_new();
		a = puppet_alloc(&own, PAGE, 3);
		CHECK_LOAD(&use, a, 3);
		old = own.self;
		c.a[0] = placed;
		strcpy((char *)c.buf, "report");
		puppet_send(&own, &c);
		/* The new program says where it lives, and ends. */
		MUST(test_try_recv(own.child.sock, &own.self, sizeof(own.self)));
		CHECK(!!(own.self.state & RPAL_SELF_PLACED) == placed, "state %x", own.self.state);
		CHECK(!(own.self.state & RPAL_SELF_REGISTERED), "state %x", own.self.state);
		CHECK(old.slot, "slot %u", old.slot);
		CHECK_SEGV(puppet_load(&use, a, &v));
		CHECK(!test_wait(own.child.pid), "the new program");
		close(own.child.sock);
		CHECK_SEGV(puppet_load(&use, a, &v));
		CHECK(!puppet_end(&use), "user");
		test_end();
	}
}

/* Aligned to 1 GiB, where the puppet itself has nothing. */
static u64 map_big(struct puppet *p, u64 size)
{
	long a = -1;
	int i;

	for (i = 100; i < 400 && (a < 0 && a >= -4095); i += 50)
		a = puppet_sys(p, SYS_mmap, p->self.base + i * GB, size, RW,
			       ANON | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	MUST(a > 0);
	return a;
}

/* A table of the owner goes away and another comes in its place. */
static void new_tables(void)
{
	u64 a = 0, v;
	int i;

	test_begin("tables that are freed and made again");
	pair_new();
	for (i = 0; i < 50; i++) {
		a = map_big(&own, 3 * GB);
		CHECK_LOAD(&use, a, 0);
		store(&own, a + 2 * GB, i + 1);
		CHECK_LOAD(&use, a + 2 * GB, i + 1);
		CHECK(!puppet_sys(&own, SYS_munmap, a, 3 * GB), "munmap");
		CHECK_SEGV(puppet_load(&use, a + 2 * GB, &v));
	}
	pair_end();
	test_end();
}

static void many_peers(void)
{
	struct puppet p[15];
	size_t i, j, n = test_have_pkeys() ? 15 : 10;
	u64 a[15], v;

	test_begin("fifteen services, each linked with every other");
	for (i = 0; i < n; i++) {
		puppet_new(&p[i], "all");
		a[i] = puppet_alloc(&p[i], PAGE, 1000 + i);
		for (j = 0; j < i; j++)
			puppet_link(&p[i], &p[j]);
	}
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++)
			CHECK_LOAD(&p[i], a[j], 1000 + j);
	/* One changes its memory, all see it. */
	puppet_sys(&p[0], SYS_madvise, a[0], PAGE, MADV_DONTNEED);
	for (i = 0; i < n; i++)
		CHECK_LOAD(&p[i], a[0], 0);
	puppet_sys(&p[0], SYS_munmap, a[0], PAGE);
	for (i = 0; i < n; i++)
		CHECK_SEGV(puppet_load(&p[i], a[0], &v));
	for (i = 0; i < n; i++) {
		CHECK(!puppet_end(&p[i]), "end of %zu", i);
		for (j = i + 1; j < n; j++)
			CHECK_SEGV(puppet_load(&p[j], a[i], &v));
	}
	test_end();
}

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, NULL);
	basics();
	unpopulated();
	files();
	huge();
	permissions();
	kernel_access();
	user_faults();
	copy_on_write();
	user_ends_first();
	owner_unmaps_all();
	owner_execs();
	new_tables();
	many_peers();
	return test_finish();
}
