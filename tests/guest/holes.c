// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What protection keys do not stop, and what they do: each way round a closed key
 * with the outcome that docs/security.md says. Where that is "works", a failure
 * here is no improvement but a document that is wrong.
 */
#include "common.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <ucontext.h>

#define RW	(PROT_READ | PROT_WRITE)
#define ANON	(MAP_PRIVATE | MAP_ANONYMOUS)
#define SECRET	0x5ec4e7
#define RAMDISK "/dev/zram0"
#define YAMA	"/proc/sys/kernel/yama/ptrace_scope"

enum {
	OP_XRSTOR = OP_USER, /* PKRU from memory */
	OP_SIGRETURN,	     /* PKRU from the frame of a signal */
	OP_RING_WRITE,	     /* by io_uring, from memory to a file */
	OP_RING_BUFFER,	     /* have io_uring keep a buffer */
};

/* --------------------------------------------------------------- in the puppet */

#define XSTATE_PKRU   9
#define XSTATE_HEADER 512 /* in an XSAVE area; first is which parts are there */

static unsigned int pkru_offset(void)
{
	unsigned int size, offset = 0, c, d;

	__cpuid_count(0xd, XSTATE_PKRU, size, offset, c, d);
	MUST(size == 8 && offset);
	return offset;
}

static void set_in_area(unsigned char *area, u32 pkru)
{
	u64 *parts = (u64 *)(area + XSTATE_HEADER);

	*parts |= 1 << XSTATE_PKRU;
	memcpy(area + pkru_offset(), &pkru, sizeof(pkru));
}

static void by_xrstor(u32 pkru)
{
	static unsigned char area[8192] __attribute__((aligned(64)));

	memset(area, 0, sizeof(area));
	set_in_area(area, pkru);
	asm volatile("xrstor64 %0" : : "m"(area), "a"(1 << XSTATE_PKRU), "d"(0) : "memory");
}

static u32 in_frame;

static void handler(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;

	(void)sig, (void)si;
	set_in_area((unsigned char *)uc->uc_mcontext.fpregs, in_frame);
}

static void by_sigreturn(u32 pkru)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	in_frame = pkru;
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
}

struct ring {
	int fd;
	struct io_uring_params p;
	unsigned char *rings;
	struct io_uring_sqe *sqes;
};

static int ring_new(struct ring *r, u32 flags)
{
	size_t len;

	memset(r, 0, sizeof(*r));
	r->p.flags = flags;
	r->p.sq_thread_idle = 10;
	r->fd = syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return -errno;
	MUST(r->p.features & IORING_FEAT_SINGLE_MMAP);
	len = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->rings = mmap(NULL, len, RW, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, PAGE, RW, MAP_SHARED, r->fd, IORING_OFF_SQES);
	MUST(r->rings != MAP_FAILED && r->sqes != MAP_FAILED);
	return 0;
}

static u32 *ring_word(struct ring *r, u32 offset)
{
	return (u32 *)(r->rings + offset);
}

/* Submits the first entry and waits for what comes of it. */
static int ring_run(struct ring *r)
{
	struct io_uring_cqe *cqe;
	u32 flags = IORING_ENTER_GETEVENTS;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	if (r->p.flags & IORING_SETUP_SQPOLL)
		flags |= IORING_ENTER_SQ_WAKEUP;
	*ring_word(r, r->p.sq_off.array) = 0;
	__atomic_store_n(ring_word(r, r->p.sq_off.tail), 1, __ATOMIC_RELEASE);
	do {
		if (syscall(SYS_io_uring_enter, r->fd, 1, 1, flags, NULL, 0) < 0 && errno != EINTR)
			return -errno;
	} while (!__atomic_load_n(ring_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) &&
		 test_now_ns() < end);
	cqe = (struct io_uring_cqe *)(r->rings + r->p.cq_off.cqes);
	return __atomic_load_n(ring_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) ? cqe->res :
										   -ETIMEDOUT;
}

static int ring_write(u32 setup, u32 flags, u64 addr, int fd)
{
	struct ring r;
	int e = ring_new(&r, setup);

	if (e)
		return e;
	memset(r.sqes, 0, sizeof(*r.sqes));
	r.sqes->opcode = IORING_OP_WRITE;
	r.sqes->flags = flags;
	r.sqes->fd = fd;
	r.sqes->addr = addr;
	r.sqes->len = 8;
	r.sqes->off = -1;
	e = ring_run(&r);
	close(r.fd);
	return e;
}

static int ring_buffer(u64 addr)
{
	struct iovec iov = { (void *)addr, PAGE };
	struct ring r;
	int e = ring_new(&r, 0);

	if (e)
		return e;
	if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1))
		e = -errno;
	close(r.fd);
	return e;
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	switch (c->op) {
	case OP_XRSTOR:
		by_xrstor(c->a[0]);
		r->val = pkru_read();
		break;
	case OP_SIGRETURN:
		by_sigreturn(c->a[0]);
		r->val = pkru_read();
		break;
	case OP_RING_WRITE:
		r->ret = ring_write(c->a[0], c->a[1], c->a[2], c->a[3]);
		break;
	case OP_RING_BUFFER:
		r->ret = ring_buffer(c->a[0]);
		break;
	}
}

/* --------------------------------------------------------------- in the driver */

/* Linked; a has b's key closed. There is a secret in b's memory. */
static struct puppet a, b;
static u64 secret;
static int wr, rd;

static void pair_new(void)
{
	struct test_spawn s = { .group = "holes", .uid = 1000 };
	int fd[2];

	errno = puppet_start(&a, &s);
	MUST(!errno);
	errno = puppet_start(&b, &s);
	MUST(!errno);
	puppet_link(&a, &b);
	puppet_rights(&a, &b, RIGHTS_NONE);
	secret = puppet_alloc(&b, 16 * PAGE, SECRET);
	MUST(!puppet_sys(&a, SYS_pipe, a.buf));
	puppet_get(&a, 0, fd, sizeof(fd));
	rd = fd[0];
	wr = fd[1];
	/* If nothing has been written that is not to be waited for. */
	MUST(!puppet_sys(&a, SYS_fcntl, rd, F_SETFL, O_NONBLOCK));
}

static void pair_end(void)
{
	CHECK_IS(puppet_end(&a), 0);
	CHECK_IS(puppet_end(&b), 0);
}

/* What a has in its own memory at buf + off. */
static u64 word_of_a(u64 off)
{
	u64 v;

	puppet_get(&a, off, &v, sizeof(v));
	return v;
}

static u32 opened(void)
{
	return pkru_with(puppet_pkru(&a), b.self.pkey, RIGHTS_WRITE);
}

static u64 put_iov(u64 off, u64 base, u64 len)
{
	struct iovec iov = { (void *)base, len };

	return puppet_put(&a, off, &iov, sizeof(iov));
}

#define CLOSED()                                                                   \
	do {                                                                       \
		u64 v_ = 0;                                                        \
		puppet_rights(&a, &b, RIGHTS_NONE);                                \
		CHECK(puppet_load(&a, secret, &v_) == SIGSEGV, "it is %lx", v_);   \
		CHECK(test_fault.code == SEGV_PKUERR, "code %d", test_fault.code); \
	} while (0)

static void check_open(void)
{
	u64 v = 0;

	CHECK(!puppet_load(&a, secret, &v) && v == SECRET, "it is %lx", v);
	CHECK(!puppet_store(&a, secret + 8, SECRET + 1), "signal %d", test_fault.sig);
	CHECK(!puppet_load(&b, secret + 8, &v) && v == SECRET + 1, "it is %lx", v);
}

/* ------------------------------------------------- instructions of user mode */

static void instructions(void)
{
	struct puppet stranger;
	u64 elsewhere, v = 0;

	pair_new();
	test_begin("works: WRPKRU opens a peer's key");
	CLOSED();
	puppet_set_pkru(&a, opened());
	check_open();
	test_end();

	test_begin("works: XRSTOR opens a peer's key");
	CLOSED();
	puppet_op(&a, OP_XRSTOR, opened(), 0, 0, 0);
	check_open();
	test_end();

	test_begin("works: the frame of a signal opens a peer's key");
	CLOSED();
	puppet_op(&a, OP_SIGRETURN, opened(), 0, 0, 0);
	check_open();
	test_end();

	test_begin("refused: all keys open show nothing of who is not linked");
	puppet_new(&stranger, NULL);
	elsewhere = puppet_alloc(&stranger, PAGE, SECRET);
	puppet_set_pkru(&a, 0);
	CHECK(puppet_load(&a, elsewhere, &v) == SIGSEGV, "it is %lx", v);
	CHECK(test_fault.code == SEGV_MAPERR, "code %d", test_fault.code);
	CHECK_IS(puppet_end(&stranger), 0);
	test_end();
	pair_end();
}

/* 15 keys for more services than that. */
static void shared_key(void)
{
	struct puppet p[17], *x, *y, *third = NULL;
	size_t i, j;
	u64 at, v = 0;

	test_begin("works: who opens one peer's key opens another's that has the same");
	for (i = 0; i < ARRAY_SIZE(p); i++)
		puppet_new(&p[i], NULL);
	for (i = 1; i < ARRAY_SIZE(p); i++)
		for (j = 0; j < i; j++)
			if (p[i].self.pkey == p[j].self.pkey)
				goto found;
	MUST(!"two with one key");
found:
	x = &p[i];
	y = &p[j];
	for (i = 0; !third; i++)
		if (p[i].self.pkey != x->self.pkey)
			third = &p[i];
	at = puppet_alloc(y, PAGE, SECRET);
	puppet_link(third, x);
	puppet_link(third, y);
	puppet_rights(third, x, RIGHTS_NONE);
	CHECK(puppet_load(third, at, &v) == SIGSEGV, "it is %lx", v);
	puppet_rights(third, x, RIGHTS_WRITE);
	CHECK(!puppet_load(third, at, &v) && v == SECRET, "it is %lx", v);
	/* But those two do not see each other. */
	puppet_set_pkru(x, 0);
	CHECK(puppet_load(x, at, &v) == SIGSEGV, "it is %lx", v);
	for (i = 0; i < ARRAY_SIZE(p); i++)
		CHECK_IS(puppet_end(&p[i]), 0);
	test_end();
}

/* ------------------------------- what the kernel does by the rules of ptrace */

/* Of a process of the same user it does it all, keys or not, linked or not. */
static long vm_readv(pid_t pid, u64 addr)
{
	u64 local = put_iov(512, a.buf + 1024, 8), remote = put_iov(576, addr, 8);

	puppet_put(&a, 1024, &(u64){ 0 }, 8);
	return puppet_sys(&a, SYS_process_vm_readv, pid, local, 1, remote, 1, 0);
}

static long read_mem(const char *pid, u64 addr)
{
	char path[64];
	long fd, r;

	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	fd = puppet_sys(&a, SYS_open, puppet_put(&a, 512, path, sizeof(path)), O_RDWR, 0);
	if (fd < 0)
		return fd;
	puppet_put(&a, 1024, &(u64){ 0 }, 8);
	r = puppet_sys(&a, SYS_pread64, fd, a.buf + 1024, 8, addr);
	puppet_sys(&a, SYS_close, fd);
	return r;
}

static long peek(pid_t pid, u64 addr)
{
	long r = puppet_sys(&a, SYS_ptrace, PTRACE_ATTACH, pid, 0, 0);

	if (r)
		return r;
	CHECK_IS(puppet_sys(&a, SYS_wait4, pid, 0, __WALL, 0), pid);
	puppet_put(&a, 1024, &(u64){ 0 }, 8);
	r = puppet_sys(&a, SYS_ptrace, PTRACE_PEEKDATA, pid, addr, a.buf + 1024);
	CHECK_IS(puppet_sys(&a, SYS_ptrace, PTRACE_DETACH, pid, 0, 0), 0);
	return r ? r : 8;
}

static void by_ptrace_rules(void)
{
	char pid[16];

	/* Else only parents may attach. */
	if (!access(YAMA, W_OK))
		test_write_file(YAMA, "0");
	pair_new();
	snprintf(pid, sizeof(pid), "%d", b.child.pid);

	test_begin("works: process_vm_readv() of a peer's process, keys or not");
	CLOSED();
	CHECK_IS(vm_readv(b.child.pid, secret), 8);
	CHECK_IS(word_of_a(1024), SECRET);
	test_end();
	test_begin("refused: process_vm_readv() of the own process at a peer's address");
	CHECK_IS(vm_readv(a.child.pid, secret), -EFAULT);
	puppet_rights(&a, &b, RIGHTS_WRITE);
	CHECK_IS(vm_readv(a.child.pid, secret), -EFAULT);
	test_end();

	test_begin("works: /proc/PID/mem of a peer's process, keys or not");
	CLOSED();
	CHECK_IS(read_mem(pid, secret), 8);
	CHECK_IS(word_of_a(1024), SECRET);
	test_end();
	test_begin("refused: /proc/self/mem at a peer's address");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	CHECK_IS(read_mem("self", secret), -EIO);
	test_end();

	test_begin("works: ptrace() of a peer's process, keys or not");
	CLOSED();
	CHECK_IS(peek(b.child.pid, secret), 8);
	CHECK_IS(word_of_a(1024), SECRET);
	test_end();

	test_begin("refused: all of these once the peer may not be dumped, link or not");
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 0), 0);
	CLOSED();
	CHECK_IS(vm_readv(b.child.pid, secret), -EPERM);
	CHECK_IS(read_mem(pid, secret), -EACCES);
	CHECK_IS(peek(b.child.pid, secret), -EPERM);
	test_end();
	test_begin("works: the link that was there before is as it was");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	check_open();
	test_end();
	pair_end();
}

/* --------------------------------------------- kernel threads, pinned pages */

/* With 6.1 a pipe is only written to by a thread of the kernel's, this is not. */
static void use_sockets(void)
{
	int fd[2];

	MUST(!puppet_sys(&a, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, a.buf));
	puppet_get(&a, 0, fd, sizeof(fd));
	rd = fd[0];
	wr = fd[1];
	MUST(!puppet_sys(&a, SYS_fcntl, rd, F_SETFL, O_NONBLOCK));
}

static void io_uring(void)
{
	long r;

	pair_new();
	use_sockets();
	test_begin("refused: io_uring, closed key");
	CLOSED();
	r = puppet_op(&a, OP_RING_WRITE, 0, 0, a.buf, wr);
	if (r == -ENOSYS || r == -EPERM) {
		test_skip_case("no io_uring");
		test_end();
		pair_end();
		return;
	}
	CHECK_IS(r, 8);
	CHECK_IS(puppet_sys(&a, SYS_read, rd, a.buf, 8), 8);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, 0, 0, secret, wr), -EFAULT);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, 0, IOSQE_ASYNC, secret, wr), -EFAULT);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, IORING_SETUP_SQPOLL, 0, secret, wr), -EFAULT);
	test_end();

	test_begin("works: io_uring, open key, in the system call of who has it open");
	puppet_rights(&a, &b, RIGHTS_READ);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, 0, 0, secret, wr), 8);
	CHECK_IS(puppet_sys(&a, SYS_read, rd, a.buf + 1024, 8), 8);
	CHECK_IS(word_of_a(1024), SECRET);
	test_end();

	test_begin("refused: io_uring, open key, in threads of the kernel's");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, 0, IOSQE_ASYNC, secret, wr), -EFAULT);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, IORING_SETUP_SQPOLL, 0, secret, wr), -EFAULT);
	/* But there is nothing wrong with these. */
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, 0, IOSQE_ASYNC, a.buf, wr), 8);
	CHECK_IS(puppet_op(&a, OP_RING_WRITE, IORING_SETUP_SQPOLL, 0, a.buf, wr), 8);
	test_end();

	test_begin("refused: io_uring, a peer's memory as a fixed buffer");
	check_open();
	CHECK_IS(puppet_op(&a, OP_RING_BUFFER, secret, 0, 0, 0), -EFAULT);
	CLOSED();
	CHECK_IS(puppet_op(&a, OP_RING_BUFFER, secret, 0, 0, 0), -EFAULT);
	CHECK_IS(puppet_op(&a, OP_RING_BUFFER, a.buf, 0, 0, 0), 0);
	test_end();
	pair_end();
}

static void pinned(void)
{
	u64 iov, v = 0;

	pair_new();
	test_begin("refused: vmsplice(), closed key");
	CLOSED();
	iov = put_iov(512, secret, 8);
	CHECK_IS(puppet_sys(&a, SYS_vmsplice, wr, iov, 1, 0), -EFAULT);
	test_end();

	test_begin("refused: vmsplice(), open key, a page that is not there");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	iov = put_iov(512, secret + 5 * PAGE, 8);
	CHECK_IS(puppet_sys(&a, SYS_vmsplice, wr, iov, 1, 0), -EFAULT);
	test_end();

	test_begin("works: vmsplice(), open key; such a page outlives the link");
	iov = put_iov(512, secret, 8);
	CHECK_IS(puppet_sys(&a, SYS_vmsplice, wr, iov, 1, 0), 8);
	CHECK_IS(puppet_release(&b, a.key, NULL), 0);
	CHECK(puppet_load(&a, secret, &v) == SIGSEGV, "still linked");
	CHECK(!puppet_store(&b, secret, SECRET + 2), "signal %d", test_fault.sig);
	CHECK_IS(puppet_sys(&a, SYS_read, rd, a.buf + 1024, 8), 8);
	CHECK_IS(word_of_a(1024), SECRET + 2);
	test_end();
	pair_end();
}

/* Since 6.3 the kernel pins pages for it; before, it takes references. */
static bool pins_for_direct_io(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;

	MUST(!uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2);
	return major > 6 || (major == 6 && minor >= 3);
}

/* Writes a page from an address to the disk, and what is there then to a's buffer. */
static long write_direct(long fd, u64 addr)
{
	long r = puppet_sys(&a, SYS_pwrite64, fd, addr, PAGE, 0);

	if (r < 0)
		return r;
	CHECK_IS(puppet_sys(&a, SYS_pread64, fd, a.buf + 4 * PAGE, PAGE, 0), PAGE);
	return r;
}

static void direct_io(void)
{
	long fd;

	pair_new();
	test_begin("O_DIRECT: refused, but up to 6.2 for a page that is there, with an open key");
	puppet_put(&a, 512, RAMDISK, sizeof(RAMDISK));
	/* Unless a test that was here before swaps to it. */
	if (system("{ grep -q zram0 /proc/swaps && exit 1; modprobe zram;"
		   " echo 16M >/sys/block/zram0/disksize && chmod 0666 " RAMDISK "; } 2>/dev/null"))
		fd = -ENOENT;
	else
		fd = puppet_sys(&a, SYS_open, a.buf + 512, O_RDWR | O_DIRECT, 0);
	if (fd < 0) {
		test_skip_case("no " RAMDISK);
	} else {
		CHECK_IS(write_direct(fd, a.buf), PAGE);
		CLOSED();
		CHECK_IS(write_direct(fd, secret), -EFAULT);
		CHECK_IS(puppet_sys(&a, SYS_pread64, fd, secret, PAGE, 0), -EFAULT);
		puppet_rights(&a, &b, RIGHTS_WRITE);
		/* What is not there yet is not looked for. */
		CHECK_IS(write_direct(fd, secret + 5 * PAGE), -EFAULT);
		if (pins_for_direct_io()) {
			CHECK_IS(write_direct(fd, secret), -EFAULT);
		} else {
			CHECK_IS(write_direct(fd, secret), PAGE);
			CHECK_IS(word_of_a(4 * PAGE), SECRET);
		}
	}
	test_end();
	pair_end();
	if (fd >= 0)
		test_write_file("/sys/block/zram0/reset", "1");
}

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, NULL);
	if (!test_have_pkeys()) {
		printf("skip %s: no protection keys\n", test_name);
		return TEST_SKIP;
	}
	instructions();
	shared_key();
	by_ptrace_rules();
	io_uring();
	pinned();
	direct_io();
	return test_finish();
}
