// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Placement: whatever a placed program does with its address space, every
 * mapping that can be shared lies in its slot and carries its key, and the
 * program works as it would elsewhere.
 *
 * Built twice: as an ordinary program and as a static-pie (static-placement).
 */
#include "common.h"

#include <asm/prctl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/io_uring.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define LAZY (ANON | MAP_NORESERVE)

static struct rpal_self self;
static int dev;

static int get_self(void)
{
	dev = test_open();
	MUST(dev >= 0);
	return test_self(dev, &self);
}

/* Test addresses that nothing else uses: the middle of the slot. */
static char *spot(u64 off)
{
	return (char *)(self.base + 230 * GB + off);
}

/* An address in a slot that is not ours. */
static char *foreign(void)
{
	return (char *)((self.slot == 100 ? 101 : 100) * RPAL_SLOT_SIZE + GB);
}

static bool low_reported(void)
{
	struct rpal_self s;

	MUST(!test_self(dev, &s));
	return s.state & RPAL_SELF_PRIVATE_LOW;
}

#define CHECK_IN(p, len) \
	CHECK((p) != MAP_FAILED && in_slot(&self, p, len), "%p, errno %d", (void *)(p), errno)

#define CHECK_NOMEM(p)                                                                 \
	do {                                                                           \
		void *p_ = (p);                                                        \
		CHECK(p_ == MAP_FAILED && errno == ENOMEM, "%p, errno %d", p_, errno); \
	} while (0)

static void *map(void *addr, u64 len, int prot, int flags)
{
	errno = 0;
	return mmap(addr, len, prot, flags, -1, 0);
}

/* -------------------------------------------------- mappings in the slot */

static void layout(void)
{
	int x;

	CHECK(self.state & RPAL_SELF_PLACED, "state %x", self.state);
	CHECK(!(self.state & ~RPAL_SELF_PLACED), "state %x", self.state);
	CHECK(self.slot >= 1 && self.slot <= RPAL_MAX_SLOT, "slot %u", self.slot);
	CHECK(self.base == self.slot * RPAL_SLOT_SIZE, "%llx", self.base);
	CHECK(self.end == self.base + RPAL_SLOT_SIZE, "%llx", self.end);
	CHECK(!!self.pkey == test_have_pkeys() && self.pkey < 16, "key %u", self.pkey);
	CHECK(!self.id && !self.key, "id %u key %llx", self.id, self.key);
	CHECK(in_slot(&self, &x, sizeof(x)), "stack %p", (void *)&x);
	CHECK(in_slot(&self, &self, sizeof(self)), "data %p", (void *)&self);
	CHECK(in_slot(&self, (void *)layout, 1), "code %p", (void *)layout);
	CHECK(in_slot(&self, environ[0], 1), "environment %p", environ[0]);
	CHECK(in_slot(&self, (void *)getauxval(AT_SYSINFO_EHDR), PAGE), "vdso %lx",
	      getauxval(AT_SYSINFO_EHDR));
	CHECK(!test_bad_vmas(&self, false), "from the start");
	CHECK(pkru_rights(pkru_read(), self.pkey) == RIGHTS_WRITE, "pkru %x", pkru_read());
}

static void heap(void)
{
	char *p, *q;
	int i;

	for (i = 0; i < 100; i++) {
		p = malloc(i * 5000 + 1);
		CHECK_IN(p, i * 5000 + 1);
		memset(p, 1, i * 5000 + 1);
	}
	p = sbrk(0);
	CHECK_IN(p, 1);
	q = sbrk(MB);
	CHECK(p == q, "%p %p", (void *)p, (void *)q);
	memset(p, 1, MB);
	CHECK(syscall(SYS_brk, self.end + PAGE) == (long)(p + MB), "brk out, above");
	CHECK(syscall(SYS_brk, PAGE) == (long)(p + MB), "brk out, below");
	CHECK(sbrk(-(long)MB) == p + MB, "sbrk back");
}

static void big(void)
{
	/*
	 * Searching upwards begins after a third of the slot, and an unlimited
	 * stack has a quarter of it kept free.
	 */
	u64 large = strstr(test_arg, "unlimited") ? 60 * GB :
		    strstr(test_arg, "legacy")	  ? 200 * GB :
						    300 * GB;
	void *q[64], *p;
	int n;

	p = map(NULL, 3 * GB, RW, LAZY);
	CHECK_IN(p, 3 * GB);
	*(char *)p = 1;
	((char *)p)[3 * GB - 1] = 1;
	munmap(p, 3 * GB);
	p = map(NULL, large, PROT_NONE, LAZY);
	CHECK_IN(p, large);
	munmap(p, large);
	CHECK_NOMEM(map(NULL, 512 * GB, PROT_NONE, LAZY));
	CHECK_NOMEM(map(NULL, 600 * GB, PROT_NONE, LAZY));
	CHECK_NOMEM(map(NULL, 100 * 1024 * GB, PROT_NONE, LAZY));
	CHECK_NOMEM(map(NULL, ~0UL << 12, PROT_NONE, LAZY));
	for (n = 0; n < 64; n++) {
		q[n] = map(NULL, 16 * GB, PROT_NONE, LAZY);
		if (q[n] == MAP_FAILED)
			break;
		CHECK_IN(q[n], 16 * GB);
	}
	CHECK(errno == ENOMEM && n >= 10 && n < 32, "%d times 16 GiB", n);
	/* Small ones are still to be had, and all of it again afterwards. */
	p = map(NULL, PAGE, RW, ANON);
	CHECK_IN(p, PAGE);
	while (n--)
		munmap(q[n], 16 * GB);
	p = map(NULL, large, PROT_NONE, LAZY);
	CHECK_IN(p, large);
	munmap(p, large);
}

static void kinds(void)
{
	static const int flags[] = {
		ANON,
		MAP_SHARED | MAP_ANONYMOUS,
		ANON | MAP_POPULATE,
		ANON | MAP_LOCKED,
		ANON | MAP_STACK,
		ANON | MAP_GROWSDOWN,
		ANON | MAP_NONBLOCK,
	};
	static const u64 lens[] = { 1, PAGE, 70000, 2 * MB, 5 * MB, 64 * MB };
	size_t i, j;
	unsigned long aio = 0;
	void *p;
	int fd;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			if (lens[j] > 5 * MB && (flags[i] & (MAP_POPULATE | MAP_LOCKED)))
				continue;
			p = map(NULL, lens[j], RW, flags[i]);
			CHECK_IN(p, lens[j]);
			if (p != MAP_FAILED) {
				*(char *)p = 1;
				munmap(p, lens[j]);
			}
		}
	}
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	p = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
	CHECK_IN(p, 3 * PAGE);
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK_IN(p, PAGE);
	close(fd);
	fd = memfd_create("test", MFD_CLOEXEC);
	CHECK(!ftruncate(fd, 8 * MB), "errno %d", errno);
	for (i = 0; i < 8; i++) {
		p = mmap(NULL, 8 * MB, RW, MAP_SHARED, fd, 0);
		CHECK_IN(p, 8 * MB);
		((char *)p)[i * MB] = 1;
	}
	close(fd);
	/* The kernel maps something by itself. */
	if (!syscall(SYS_io_setup, 8, &aio)) {
		CHECK_IN((void *)aio, PAGE);
		syscall(SYS_io_destroy, aio);
	}
}

static void huge(void)
{
	void *p = map(NULL, 4 * MB, RW, ANON | MAP_HUGETLB);

	if (p == MAP_FAILED) {
		test_skip_case("no huge pages to be had");
		return;
	}
	CHECK_IN(p, 4 * MB);
	memset(p, 1, 4 * MB);
	munmap(p, 4 * MB);
}

/* -------------------------------------------------- fixed addresses, hints */

static void fixed(void)
{
	char *p, *in = spot(0), *out = foreign();

	p = map(in, PAGE, RW, ANON | MAP_FIXED);
	CHECK(p == in, "%p", (void *)p);
	*p = 1;
	p = map(in, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	CHECK(p == MAP_FAILED && errno == EEXIST, "%p, errno %d", (void *)p, errno);
	CHECK(*in == 1, "still there");
	p = map(in + MB, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	CHECK(p == in + MB, "%p", (void *)p);
	munmap(in, 2 * MB);

	CHECK_NOMEM(map(out, PAGE, RW, ANON | MAP_FIXED));
	CHECK_NOMEM(map(out, PAGE, RW, ANON | MAP_FIXED_NOREPLACE));
	CHECK_NOMEM(map((void *)self.end, PAGE, RW, ANON | MAP_FIXED));
	CHECK_NOMEM(map((void *)(self.base - PAGE), 2 * PAGE, RW, ANON | MAP_FIXED));
	CHECK_NOMEM(map((void *)(self.end - PAGE), 2 * PAGE, RW, ANON | MAP_FIXED));
	CHECK_NOMEM(map(in, RPAL_SLOT_SIZE, RW, LAZY | MAP_FIXED));
	/* Above all slots, and above what four levels can have. */
	CHECK_NOMEM(map((void *)0x7ff000000000, PAGE, RW, ANON | MAP_FIXED));
	CHECK_NOMEM(map((void *)(1UL << 50), PAGE, RW, ANON | MAP_FIXED));
	/* Across the end of what is private. */
	CHECK_NOMEM(map((void *)(LOW_END - PAGE), 2 * PAGE, RW, ANON | MAP_FIXED));
}

static void hints(void)
{
	static const u64 outside[] = {
		0x10000000, LOW_END - PAGE, 0x7ff000000000, 1UL << 50, ~0UL << 12,
	};
	char *p, *in = spot(0);
	size_t i;

	p = map(in, PAGE, RW, ANON);
	CHECK(p == in, "%p", (void *)p);
	munmap(p, PAGE);
	p = map(foreign(), PAGE, RW, ANON);
	CHECK_IN(p, PAGE);
	p = map((void *)(self.end - PAGE), 2 * PAGE, RW, ANON);
	CHECK_IN(p, 2 * PAGE);
	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		p = map((void *)outside[i], PAGE, RW, ANON);
		CHECK_IN(p, PAGE);
	}
	CHECK(!low_reported(), "hints make no low mappings");
}

static void edges(void)
{
	char *first = (char *)self.base, *last = (char *)self.end - PAGE;
	char *p;

	p = map(first, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	if (CHECK(p == first, "%p, errno %d", (void *)p, errno)) {
		*p = 1;
		CHECK(mremap(p, PAGE, PAGE, 0) == p, "in place");
		munmap(p, PAGE);
	}
	p = map(last, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	if (CHECK(p == last, "%p, errno %d", (void *)p, errno)) {
		*p = 1;
		CHECK(mremap(p, PAGE, 2 * PAGE, 0) == MAP_FAILED, "grows over the end");
		munmap(p, PAGE);
	}
	/* One that grows down must not grow out. */
	p = map(first, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE);
	CHECK(p == first, "%p, errno %d", (void *)p, errno);
	CHECK(test_store8(first - 8, 1) == SIGSEGV, "grows out of the slot");
	munmap(p, PAGE);
}

static int find_stack(const struct test_vma *v, void *start)
{
	if (strcmp(v->name, "[stack]"))
		return 0;
	*(u64 *)start = v->start;
	return 1;
}

/* MAP_32BIT is a wish that a fixed address, and some searches, do not heed. */
static void not_low(void)
{
	char *p, *out = (char *)(self.base >= LOW_END * 2 ? self.base - LOW_END / 2 :
							    self.end + LOW_END / 2);

	p = map(out, PAGE, RW, ANON | MAP_FIXED | MAP_32BIT);
	CHECK(p == MAP_FAILED && errno == ENOMEM, "fixed: %p, errno %d", (void *)p, errno);
	p = map(out, PAGE, RW, ANON | MAP_FIXED_NOREPLACE | MAP_32BIT);
	CHECK(p == MAP_FAILED && errno == ENOMEM, "no replace: %p, errno %d", (void *)p, errno);
	p = map(out, PAGE, RW, ANON | MAP_32BIT);
	CHECK(p != MAP_FAILED && (u64)p < 1UL << 31, "a hint: %p, errno %d", (void *)p, errno);
	if (!test_write_file("/proc/sys/vm/nr_hugepages", "4")) {
		printf("skip %s: huge pages\n", test_name);
		return;
	}
	out = (char *)((u64)out & ~((2UL << 20) - 1));
	p = map(out, 2UL << 20, RW, ANON | MAP_HUGETLB | MAP_32BIT);
	CHECK(p == MAP_FAILED || in_slot(&self, p, 2UL << 20) || (u64)p < 1UL << 31,
	      "huge pages, a hint: %p", (void *)p);
	p = map(out, 2UL << 20, RW, ANON | MAP_HUGETLB);
	CHECK(p == MAP_FAILED || in_slot(&self, p, 2UL << 20), "huge pages: %p", (void *)p);
	test_write_file("/proc/sys/vm/nr_hugepages", "0");
	CHECK(!test_bad_vmas(&self, true), "outside");
}

/* A piece of the stack that is moved still grows, but not out of the slot. */
static void moved_stack(void)
{
	char *first = (char *)self.base, *p;
	u64 start = 0;
	int fd, low;

	/* So much that there is a lowest page that nothing runs on. */
	MUST(test_store8((char *)__builtin_frame_address(0) - 64 * PAGE, 1) == 0);
	MUST(test_for_each_vma(false, find_stack, &start));
	p = mremap((void *)start, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, first);
	if (!CHECK(p == first, "%p, errno %d", (void *)p, errno))
		return;
	CHECK(!test_store8(first, 1), "cannot be used");
	CHECK(test_store8(first - 8, 1) == SIGSEGV, "grows out of the slot");
	/* As a debugger does it. */
	fd = open("/proc/self/mem", O_RDWR);
	MUST(fd >= 0);
	low = fork();
	if (!low)
		_exit(pwrite(fd, "x", 1, self.base - 8) == 1);
	low = test_wait(low);
	CHECK(WIFEXITED(low) && !WEXITSTATUS(low), "another process lets it grow: %s",
	      test_status(low));
	close(fd);
	CHECK(!test_bad_vmas(&self, false), "a mapping out of the slot");
	munmap(first, PAGE);

	/* Where there is room it grows. */
	p = mremap((void *)(start + PAGE), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   first + 4 * PAGE);
	CHECK(p == first + 4 * PAGE, "%p, errno %d", (void *)p, errno);
	CHECK(!test_store8(first + 3 * PAGE, 1), "does not grow in the slot");
	munmap(first, 5 * PAGE);
}

static int bad_protection(const struct test_vma *v, void *unused)
{
	(void)unused;
	return v->start < LOW_END && v->pkey != (int)self.pkey;
}

static void low(void)
{
	char *p, *want = (char *)0x10000000;

	CHECK(!low_reported(), "none yet");
	p = map(NULL, PAGE, RW, ANON | MAP_32BIT);
	CHECK(p != MAP_FAILED && (u64)p < 1UL << 31, "%p, errno %d", (void *)p, errno);
	CHECK(low_reported(), "after MAP_32BIT");
	if (p != MAP_FAILED)
		*p = 1;
	p = map(want, PAGE, RW, ANON | MAP_FIXED);
	CHECK(p == want, "%p, errno %d", (void *)p, errno);
	if (p == want)
		*p = 1;
	want = (char *)(LOW_END - PAGE);
	p = map(want, PAGE, RW, ANON | MAP_FIXED_NOREPLACE);
	CHECK(p == want, "%p, errno %d", (void *)p, errno);
	if (p == want) {
		*p = 1;
		CHECK(mremap(p, PAGE, 2 * PAGE, 0) == MAP_FAILED, "grows out of the low part");
	}
	CHECK(!mprotect(want, PAGE, PROT_READ), "errno %d", errno);
	/* Others still go where they belong. */
	p = map(NULL, PAGE, RW, ANON);
	CHECK_IN(p, PAGE);
	if (self.pkey)
		CHECK(!test_for_each_vma(true, bad_protection, NULL),
		      "a low mapping without the key");
	CHECK(!test_bad_vmas(&self, true), "with low ones");
}

static void low_by_mremap(void)
{
	char *p = map(NULL, PAGE, RW, ANON), *want = (char *)0x20000000, *q;

	q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, want);
	CHECK(q == want || (q == MAP_FAILED && errno == ENOMEM), "%p, errno %d", (void *)q, errno);
	CHECK(low_reported() == (q == want), "reported %d", low_reported());
}

static void compat(void)
{
	long r = -1;
	int sig;

	test_fault.sig = 0;
	/* mmap2() by the gate of 32-bit programs. */
	asm volatile("1: int $0x80\n2:\n" TEST_EXTABLE
		     : "=a"(r)
		     : "a"(192), "b"(0), "c"(PAGE), "d"(RW), "S"(ANON), "D"(-1)
		     : "memory", "r8", "r9", "r10", "r11");
	sig = test_fault.sig;
	if (r == SIGSEGV && sig == SIGSEGV)
		test_skip_case("no 32-bit system calls here");
	else
		CHECK((int)r == -ENOMEM, "%lx", r);
}

/* -------------------------------------------------------- moving and so on */

static void moving(void)
{
	char *p, *q, *in = spot(GB);

	p = map(NULL, 4 * MB, RW, MAP_SHARED | MAP_ANONYMOUS);
	*p = 7;
	q = mremap(p, 4 * MB, 16 * MB, MREMAP_MAYMOVE);
	CHECK_IN(q, 16 * MB);
	CHECK(*q == 7, "%d", *q);
	p = mremap(q, 16 * MB, 16 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, foreign());
	CHECK(p == MAP_FAILED && errno == ENOMEM, "%p, errno %d", (void *)p, errno);
	CHECK(*q == 7, "%d", *q);
	p = mremap(q, 16 * MB, 16 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, in);
	CHECK(p == in && *p == 7, "%p", (void *)p);

	p = map(NULL, 4 * MB, RW, ANON);
	*p = 8;
	q = mremap(p, 4 * MB, 4 * MB, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CHECK_IN(q, 4 * MB);
	CHECK(*q == 8 && *p == 0, "%d %d", *q, *p);
	p = mremap(q, 4 * MB, 8 * MB, MREMAP_MAYMOVE);
	CHECK_IN(p, 8 * MB);
	p = mremap(p, 8 * MB, RPAL_SLOT_SIZE, MREMAP_MAYMOVE);
	CHECK(p == MAP_FAILED, "%p", (void *)p);
}

static void sysv(void)
{
	int id = shmget(IPC_PRIVATE, MB, IPC_CREAT | 0600);
	char *p, *q;

	if (id < 0 && errno == ENOSYS) {
		test_skip_case("no System V shared memory");
		return;
	}
	p = shmat(id, NULL, 0);
	CHECK_IN(p, MB);
	*p = 3;
	q = shmat(id, spot(2 * GB), 0);
	CHECK(q == spot(2 * GB) && *q == 3, "%p, errno %d", (void *)q, errno);
	errno = 0;
	p = shmat(id, foreign(), 0);
	CHECK(p == MAP_FAILED && errno == ENOMEM, "%p, errno %d", (void *)p, errno);
	p = shmat(id, foreign(), SHM_REMAP);
	CHECK(p == MAP_FAILED && errno == ENOMEM, "%p, errno %d", (void *)p, errno);
	CHECK(!shmdt(q), "errno %d", errno);
	shmctl(id, IPC_RMID, NULL);
}

/* A driver's memory, at offsets of its own, by a search of its own. */
static void ring(void)
{
	struct io_uring_params params = {};
	int fd = syscall(SYS_io_uring_setup, 8, &params);
	void *p;

	if (fd < 0) {
		test_skip_case("no io_uring");
		return;
	}
	p = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	CHECK_IN(p, PAGE);
	p = mmap(spot(3 * GB), PAGE, RW, MAP_SHARED | MAP_FIXED, fd, IORING_OFF_SQES);
	CHECK(p == MAP_FAILED || in_slot(&self, p, PAGE), "%p, errno %d", p, errno);
	p = mmap(foreign(), PAGE, RW, MAP_SHARED, fd, IORING_OFF_SQES);
	CHECK(p == MAP_FAILED || in_slot(&self, p, PAGE), "%p, errno %d", p, errno);
	p = mmap(foreign(), PAGE, RW, MAP_SHARED | MAP_FIXED, fd, IORING_OFF_SQES);
	CHECK(p == MAP_FAILED, "%p", p);
	close(fd);
}

/* What ends at @end ends with an address, whose name differs from header to header. */
static void user_addr(void *end, void *addr)
{
	u64 a = (u64)addr;

	memcpy((char *)end - sizeof(a), &a, sizeof(a));
}

/* The other way round, since 6.5: the program says where the ring is, and nothing is mapped. */
static void ring_of_own(void)
{
	struct io_uring_params params = { .flags = 1U << 14 }; /* IORING_SETUP_NO_MMAP */
	char *p = map(NULL, 2 * PAGE, RW, ANON);
	int fd;

	user_addr(&params.cq_off + 1, p);
	user_addr(&params.sq_off + 1, foreign());
	fd = syscall(SYS_io_uring_setup, 8, &params);
	CHECK(fd < 0, "entries out of the slot");
	user_addr(&params.sq_off + 1, p + PAGE);
	fd = syscall(SYS_io_uring_setup, 8, &params);
	if (fd >= 0)
		close(fd);
	munmap(p, 2 * PAGE);
}

/* A process that is another, but shares the memory. */
static void shared_memory(void)
{
	char *out = foreign(), *low = (char *)self.end;
	int status;
	pid_t pid = vfork();

	if (!pid) {
		if (map(out, PAGE, RW, ANON | MAP_FIXED) != MAP_FAILED ||
		    map(low, PAGE, RW, ANON | MAP_FIXED) != MAP_FAILED)
			_exit(1);
		_exit(!in_slot(&self, map(NULL, PAGE, RW, ANON), PAGE));
	}
	MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(!status, "%s", test_status(status));
}

/* An old size of nothing: the same pages once more. */
static void twice(void)
{
	char *p = map(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS), *q;

	*p = 6;
	q = mremap(p, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, foreign());
	CHECK(q == MAP_FAILED && errno == ENOMEM, "%p, errno %d", (void *)q, errno);
	q = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
	CHECK_IN(q, PAGE);
	CHECK(q != p && *q == 6, "%p", (void *)q);
	q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, self.end);
	CHECK(q == MAP_FAILED && errno == ENOMEM, "%p, errno %d", (void *)q, errno);
}

/* map_shadow_stack(), which most machines do not have. */
static void shadow_stack(void)
{
	long r = syscall(453, foreign(), PAGE, 0);

	CHECK(r == -1 || in_slot(&self, (void *)r, PAGE), "%lx", r);
	r = syscall(453, 0, PAGE, 0);
	if (r != -1)
		CHECK_IN((void *)r, PAGE);
}

static int find_vdso(const struct test_vma *v, void *start)
{
	if (strcmp(v->name, "[vdso]"))
		return 0;
	((u64 *)start)[0] = v->start;
	((u64 *)start)[1] = v->end - v->start;
	return 1;
}

static int unmap_vdso(const struct test_vma *v, void *unused)
{
	(void)unused;
	if (!strncmp(v->name, "[vvar", 5) || !strcmp(v->name, "[vdso]"))
		munmap((void *)v->start, v->end - v->start);
	return 0;
}

/* The kernel's own code, moved by the program, and mapped by the kernel. */
static void kernels_code(void)
{
	u64 at[2] = {};
	void *p;

	MUST(test_for_each_vma(false, find_vdso, at));
	p = mremap((void *)at[0], at[1], at[1], MREMAP_MAYMOVE | MREMAP_FIXED, foreign());
	CHECK(p == MAP_FAILED && errno == ENOMEM, "moved: %p, errno %d", p, errno);
	test_for_each_vma(false, unmap_vdso, NULL);
	at[0] = 0;
	if (syscall(SYS_arch_prctl, ARCH_MAP_VDSO_64, foreign()) == -1)
		return; /* not in this kernel */
	CHECK(test_for_each_vma(false, find_vdso, at) && in_slot(&self, (void *)at[0], at[1]),
	      "mapped at %lx", at[0]);
}

static u64 brk_at(u64 at)
{
	return syscall(SYS_brk, at);
}

/* The begin is never above the end. */
static bool set_brk(u64 at)
{
	if (at < brk_at(0))
		return !prctl(PR_SET_MM, PR_SET_MM_START_BRK, at, 0, 0) &&
		       !prctl(PR_SET_MM, PR_SET_MM_BRK, at, 0, 0);
	return !prctl(PR_SET_MM, PR_SET_MM_BRK, at, 0, 0) &&
	       !prctl(PR_SET_MM, PR_SET_MM_START_BRK, at, 0, 0);
}

/* The heap can begin anywhere for who may say so, but it does not grow there. */
static void heap_elsewhere(void)
{
	u64 ends[] = { (u64)foreign(), self.end - PAGE, LOW_END - PAGE }, now;
	u64 in = (u64)spot(4 * GB);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		if (!CHECK(set_brk(ends[i]), "cannot begin at %lx, errno %d", ends[i], errno))
			continue;
		now = brk_at(ends[i] + 2 * PAGE);
		CHECK(now == ends[i], "%lx has grown to %lx", ends[i], now);
	}
	CHECK(set_brk(in) && brk_at(in + PAGE) == in + PAGE, "does not grow in the slot");
}

/*
 * What is done when a process is restored. Afterwards nothing may ask for the time, or want
 * more heap.
 */
static int restored_role(void)
{
	MUST(!get_self());
	setvbuf(stdout, NULL, _IONBF, 0);
	kernels_code();
	heap_elsewhere();
	CHECK(!test_bad_vmas(&self, false), "in the end");
	_exit(!!test_failures());
}

static void stack(void)
{
	volatile char deep[4 * MB];
	size_t i;

	for (i = 0; i < sizeof(deep); i += PAGE)
		deep[sizeof(deep) - 1 - i] = 1;
	CHECK(in_slot(&self, deep, sizeof(deep)), "%p", (void *)deep);
}

static void implied_exec(void)
{
	int old = personality(0xffffffff);
	char *p;

	personality(old | READ_IMPLIES_EXEC);
	p = map(NULL, PAGE, RW, ANON);
	CHECK_IN(p, PAGE);
	CHECK(!mprotect(p, PAGE, PROT_READ), "errno %d", errno);
	CHECK(!mprotect(p, PAGE, PROT_NONE), "errno %d", errno);
	personality(old);
	CHECK(!test_bad_vmas(&self, false), "READ_IMPLIES_EXEC");
}

/* ---------------------------------------------------- threads and libraries */

static __thread int tls = 5;

static void *thread(void *unused)
{
	volatile int x = 1;
	char *p = malloc(200000);

	(void)unused;
	CHECK(in_slot(&self, &x, sizeof(x)), "stack %p", (void *)&x);
	CHECK(in_slot(&self, &tls, sizeof(tls)), "tls %p", (void *)&tls);
	CHECK(in_slot(&self, p, 200000), "heap %p", (void *)p);
	CHECK(tls == 5, "%d", tls);
	tls++;
	memset(p, 1, 200000);
	free(p);
	CHECK(pkru_rights(pkru_read(), self.pkey) == RIGHTS_WRITE, "pkru %x", pkru_read());
	return NULL;
}

static void threads(void)
{
	pthread_t t[8];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(t); i++)
		CHECK(!pthread_create(&t[i], NULL, thread, NULL), "errno %d", errno);
	for (i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}

static void libraries(void)
{
#ifdef STATIC_PIE
	test_skip_case("static");
#else
	double (*cosine)(double);
	void *h = dlopen("libm.so.6", RTLD_NOW);

	if (!CHECK(h, "%s", dlerror()))
		return;
	*(void **)&cosine = dlsym(h, "cos");
	CHECK(in_slot(&self, (void *)cosine, 1), "%p", (void *)cosine);
	CHECK(cosine(0.0) == 1.0, "%f", cosine(0.0));
	dlclose(h);
#endif
}

static void vdso(void)
{
	struct timespec a, b;

	CHECK(!clock_gettime(CLOCK_MONOTONIC, &a), "errno %d", errno);
	CHECK(!syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b), "errno %d", errno);
	CHECK(b.tv_sec - a.tv_sec <= 2, "%ld %ld", a.tv_sec, b.tv_sec);
	CHECK(!clock_gettime(CLOCK_REALTIME_COARSE, &a), "errno %d", errno);
	CHECK(time(NULL) > 0, "time");
}

/* ------------------------------------------------- signals and children */

static volatile int handled;
static volatile u32 handler_pkru;
static sigjmp_buf jump;

static void handler(int sig)
{
	volatile char room[512];

	memset((char *)room, sig, sizeof(room));
	handler_pkru = pkru_read();
	handled++;
	if (sig == SIGUSR2)
		siglongjmp(jump, 1);
	if (sig == SIGHUP)
		raise(SIGUSR1); /* one in the other */
}

static void signals(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction sa = { .sa_handler = handler };
	void *p;

	handled = 0;
	handler_pkru = 0xffffffff;
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	raise(SIGUSR1);
	CHECK(handled == 1, "%d", handled);
	CHECK(pkru_rights(handler_pkru, self.pkey) == RIGHTS_WRITE, "pkru %x", handler_pkru);
	raise(SIGHUP);
	CHECK(handled == 3, "%d", handled);

	CHECK(!sigaltstack(&ss, NULL), "errno %d", errno);
	sa.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	CHECK(handled == 4, "%d", handled);
	p = map(NULL, 65536, RW, ANON);
	ss.ss_sp = p;
	CHECK(!sigaltstack(&ss, NULL), "errno %d", errno);
	raise(SIGUSR1);
	CHECK(handled == 5, "%d", handled);
	ss.ss_flags = SS_DISABLE;
	sigaltstack(&ss, NULL);

	if (!sigsetjmp(jump, 1))
		raise(SIGUSR2);
	CHECK(handled == 6, "%d", handled);
	/* A handler that was jumped out of must leave its memory open. */
	p = map(NULL, PAGE, RW, ANON);
	memset(p, 1, PAGE);
}

static int run_status(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

static void forked(void)
{
	struct rpal_self s;
	pid_t pid;
	char *p;

	signal(SIGUSR1, handler);
	handled = 0;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		int before = test_failures(), fd = test_open();

		p = malloc(MB);
		memset(p, 1, MB);
		raise(SIGUSR1);
		CHECK(handled == 1, "handler in the child, %d", handled);
		MUST(!test_self(fd, &s));
		CHECK(!(s.state & RPAL_SELF_PLACED), "state %x", s.state);
		CHECK(!self.pkey || (s.state & RPAL_SELF_HEIR), "state %x", s.state);
		CHECK(!s.slot, "slot %u", s.slot);
		/* It may do with its address space as it likes. */
		p = map(foreign(), PAGE, RW, ANON | MAP_FIXED);
		CHECK(p == foreign(), "%p, errno %d", (void *)p, errno);
		memset(p, 1, PAGE);
		p = map(NULL, PAGE, PROT_EXEC, ANON);
		CHECK(p != MAP_FAILED, "errno %d", errno);
		CHECK(!mprotect(p, PAGE, RW), "errno %d", errno);
		memset(p, 1, PAGE);
		CHECK(!mprotect((void *)((u64)&jump & ~(PAGE - 1)), PAGE, RW), "errno %d", errno);
		memset(&jump, 0, sizeof(jump));
		pid = fork();
		if (!pid) {
			raise(SIGUSR1);
			CHECK(handled == 2, "handler in the grandchild, %d", handled);
			_exit(test_failures() != before);
		}
		CHECK(!run_status(pid), "grandchild");
		raise(SIGUSR1);
		CHECK(handled == 2, "handler in the child, %d", handled);
		fflush(stdout);
		_exit(test_failures() != before);
	}
	CHECK(!run_status(pid), "child");
	CHECK(handled == 0, "%d", handled);
}

static void spawned(void)
{
	static char *argv[] = { "true", NULL };
	static char *env[] = { NULL };
	pid_t pid;
	int r;

	pid = vfork();
	if (!pid)
		_exit(5);
	CHECK(run_status(pid) == 5 << 8, "vfork");
	r = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env);
	CHECK(!r && !run_status(pid), "posix_spawn %d", r);
	r = system("exit 3");
	CHECK(r == 3 << 8, "system %x", r);
	CHECK(pkru_rights(pkru_read(), self.pkey) == RIGHTS_WRITE, "pkru %x", pkru_read());
}

/* What an exec without a placement makes: nothing of the slot is left. */
static int unplaced_role(void)
{
	struct rpal_self s;
	int fd = test_open();

	MUST(fd >= 0 && !test_self(fd, &s));
	CHECK(!s.state && !s.slot && !s.pkey && !s.base && !s.end, "state %x slot %u key %u",
	      s.state, s.slot, s.pkey);
	s.pkey = 0;
	CHECK(test_vma_pkey(&test_name) <= 0, "key %d", test_vma_pkey(&test_name));
	return 0;
}

static void exec_child(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		setenv("RPAL_TEST_ROLE", "unplaced", 1);
		execl("/proc/self/exe", test_name, NULL);
		_exit(9);
	}
	CHECK(!run_status(pid), "exec in a child");
}

/* ---------------------------------------------------------------- the keys */

static void keys(void)
{
	int own = self.pkey, other = own == 1 ? 2 : 1, r;
	char *p;

	if (!own) {
		test_skip_case("no protection keys");
		return;
	}
	p = map(NULL, PAGE, PROT_EXEC, ANON);
	CHECK(test_vma_pkey(p) == own, "mmap PROT_EXEC: %d", test_vma_pkey(p));
	p = map(NULL, PAGE, RW, ANON);
	*p = 4;
	CHECK(!mprotect(p, PAGE, PROT_EXEC), "errno %d", errno);
	CHECK(test_vma_pkey(p) == own, "mprotect PROT_EXEC: %d", test_vma_pkey(p));
	CHECK(!mprotect(p, PAGE, PROT_NONE), "errno %d", errno);
	CHECK(!mprotect(p, PAGE, RW), "errno %d", errno);
	CHECK(test_vma_pkey(p) == own, "back again: %d", test_vma_pkey(p));
	CHECK(*p == 4, "%d", *p);
	*p = 5;

	r = syscall(SYS_pkey_alloc, 0, 0);
	CHECK(r == -1 && errno == ENOSPC, "%d, errno %d", r, errno);
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, other);
	CHECK(r == -1 && errno == EINVAL, "%d, errno %d", r, errno);
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, 15);
	CHECK(own == 15 || (r == -1 && errno == EINVAL), "%d, errno %d", r, errno);
	CHECK(test_vma_pkey(p) == own, "another key: %d", test_vma_pkey(p));
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, own);
	CHECK(!r, "%d, errno %d", r, errno);
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, -1);
	CHECK(!r, "%d, errno %d", r, errno);
	/* Key 0 is open to everyone: refused, or the own key all the same. */
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, 0);
	CHECK(!r || errno == EINVAL, "%d, errno %d", r, errno);
	CHECK(test_vma_pkey(p) == own, "key 0: %d", test_vma_pkey(p));
	/* Freeing keys must not help either. */
	syscall(SYS_pkey_free, other);
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, other);
	CHECK(r == -1 && errno == EINVAL, "%d, errno %d", r, errno);
	syscall(SYS_pkey_free, own);
	CHECK(!mprotect(p, PAGE, PROT_READ), "mprotect after pkey_free: errno %d", errno);
	CHECK(test_vma_pkey(p) == own, "after pkey_free: %d", test_vma_pkey(p));
	r = syscall(SYS_pkey_alloc, 0, 0);
	if (r >= 0) {
		r = syscall(SYS_pkey_mprotect, p, PAGE, RW, r);
		CHECK(test_vma_pkey(p) == own, "a key got by freeing: %d, key %d", r,
		      test_vma_pkey(p));
	}
}

/* ------------------------------------------------------------------ the role */

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	/* layout() wants to see a fresh process. */
	{ "layout", layout },
	{ "malloc, brk", heap },
	{ "large, exhausted", big },
	{ "kinds of mmap", kinds },
	{ "hugetlb", huge },
	{ "fixed", fixed },
	{ "hints", hints },
	{ "ends of the slot", edges },
	{ "a piece of the stack at the slot's begin", moved_stack },
	{ "32-bit system call", compat },
	{ "mremap", moving },
	{ "mremap of nothing", twice },
	{ "shmat", sysv },
	{ "io_uring", ring },
	{ "io_uring in own memory", ring_of_own },
	{ "another process with the same memory", shared_memory },
	{ "shadow stack", shadow_stack },
	{ "deep stack", stack },
	{ "READ_IMPLIES_EXEC", implied_exec },
	{ "threads", threads },
	{ "dlopen", libraries },
	{ "vdso", vdso },
	{ "signals", signals },
	{ "fork", forked },
	{ "vfork, posix_spawn, system", spawned },
	{ "exec in a child", exec_child },
	{ "protection keys", keys },
};

static int space_role(void)
{
	size_t i;

	MUST(!get_self());
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		test_begin("%s: %s", test_arg, parts[i].name);
		parts[i].run();
		test_end();
	}
	test_begin("%s: all mappings in the end", test_arg);
	CHECK(!test_bad_vmas(&self, false), "in the end");
	CHECK(!low_reported(), "low mappings without asking for them");
	test_end();
	return 0;
}

static int low_role(void)
{
	MUST(!get_self());
	low();
	not_low();
	return 0;
}

static int low_mremap_role(void)
{
	MUST(!get_self());
	low_by_mremap();
	return 0;
}

/* A few lines of work in every layout of many. */
static int quick_role(void)
{
	MUST(!get_self());
	layout();
	heap();
	signals();
	threads();
	CHECK(!test_bad_vmas(&self, false), "in the end");
	return 0;
}

static const struct test_role roles[] = { { "space", space_role },
					  { "low", low_role },
					  { "low-mremap", low_mremap_role },
					  { "quick", quick_role },
					  { "unplaced", unplaced_role },
					  { "restored", restored_role },
					  {} };

/* --------------------------------------------------------------- the driver */

static void run(const struct test_spawn *s)
{
	struct test_child c;
	int e = test_spawn(&c, s), status;

	if (!CHECK(!e, "spawn: %s", strerror(e)))
		return;
	status = test_wait(c.pid);
	CHECK(!status, "%s: %s", s->arg ? s->arg : s->role, test_status(status));
	close(c.sock);
}

/* Nothing placed may have the same addresses every time, or be predictable. */
static void randomness(void)
{
	struct puppet p[4];
	unsigned int same_slot = 0;
	u64 off = 0;
	size_t i;

	test_begin("addresses differ from one start to the next");
	for (i = 0; i < ARRAY_SIZE(p); i++) {
		puppet_new(&p[i], NULL);
		CHECK(in_slot(&p[i].self, (void *)p[i].buf, PUPPET_BUF), "%lx", p[i].buf);
		if (i) {
			off |= (p[i].buf - p[i].self.base) ^ (p[0].buf - p[0].self.base);
			same_slot += p[i].self.slot == p[0].self.slot;
		}
	}
	CHECK(off >> 12, "the program is always at the same place of its slot");
	CHECK(!same_slot, "two in one slot");
	for (i = 0; i < ARRAY_SIZE(p); i++)
		CHECK(!puppet_end(&p[i]), "end");
	test_end();
}

/*
 * Where Linux puts a program that is not randomised, in the middle of a slot. (It has
 * no such place for a static-pie.)
 */
#ifndef STATIC_PIE
#define NATURAL 0x555555554000UL

static void at_home(void)
{
	struct test_spawn s = { .persona = ADDR_NO_RANDOMIZE };
	static struct puppet p[RPAL_MAX_SLOT];
	bool found = false;
	int n = 0;

	test_begin("a program that Linux would put into its slot by itself");
	while (!found && n < RPAL_MAX_SLOT) {
		errno = puppet_start(&p[n], &s);
		if (!CHECK(!errno, "start: %s", strerror(errno)))
			break;
		found = p[n++].self.slot == NATURAL / RPAL_SLOT_SIZE;
	}
	CHECK(found, "%d programs, none of them in slot %llu", n, NATURAL / RPAL_SLOT_SIZE);
	/* Below where mappings begin, as any other. */
	if (found)
		CHECK(p[n - 1].buf - p[n - 1].self.base < RPAL_SLOT_SIZE / 3, "%llx",
		      p[n - 1].buf - p[n - 1].self.base);
	while (n--)
		CHECK(!puppet_end(&p[n]), "end");
	test_end();
}
#endif

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned long persona;
		bool stack_unlimited;
	} modes[] = {
		{ "default", 0, false },
		{ "no randomisation", ADDR_NO_RANDOMIZE, false },
		{ "legacy layout", ADDR_COMPAT_LAYOUT, false },
		{ "legacy layout, no randomisation", ADDR_COMPAT_LAYOUT | ADDR_NO_RANDOMIZE,
		  false },
		{ "read implies exec", READ_IMPLIES_EXEC, false },
		{ "unlimited stack", 0, true },
	};
	struct test_spawn s = { .role = "space" };
	size_t i;
	int n;

	test_init(argc, argv, roles);
	if (!test_write_file("/proc/sys/vm/nr_hugepages", "16"))
		printf("%s: cannot have huge pages\n", test_name);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		s.arg = modes[i].name;
		s.persona = modes[i].persona;
		s.stack_unlimited = modes[i].stack_unlimited;
		run(&s);
	}
	test_write_file("/proc/sys/vm/nr_hugepages", "0");

	memset(&s, 0, sizeof(s));
	test_begin("low private mappings");
	s.role = "low";
	run(&s);
	s.persona = ADDR_COMPAT_LAYOUT;
	run(&s);
	test_end();
	test_begin("low private mapping by mremap");
	s.persona = 0;
	s.role = "low-mremap";
	run(&s);
	test_end();

	test_begin("vdso and heap, as when a process is restored");
	s.role = "restored";
	run(&s);
	test_end();

	test_begin("thirty random layouts");
	s.role = "quick";
	for (n = 0; n < 30; n++) {
		s.persona = n % 5 ? 0 : ADDR_COMPAT_LAYOUT;
		s.stack_unlimited = n % 7 == 6;
		run(&s);
	}
	test_end();
	randomness();
#ifndef STATIC_PIE
	at_home();
#endif
	return test_finish();
}
