// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Mappings that try to leave their slot, or to change while others use them: pieces of
 * stacks, edges, huge pages, faults that another thread answers, programs with odd
 * segments.
 */
#include "fuzz.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define HUGE (2 * MB)

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* ------------------------------------------------------------- to the edges */

/* Where one slot ends and the next begins: the own one, another's, low memory. */
static u64 any_edge(void)
{
	u64 base = one_in(2) ? fuzz_self.base : any_place()->base;

	switch (below(8)) {
	case 0:
		return LOW_END;
	case 1:
		return 16 * PAGE; /* the lowest that may be mapped */
	case 2:
		return 0x7ffffffff000;
	case 3:
	case 4:
		return base + RPAL_SLOT_SIZE;
	default:
		return base;
	}
}

/* @len bytes at an edge, before it, or on both sides of it. */
static u64 at_edge(u64 len)
{
	u64 edge = any_edge();

	switch (below(4)) {
	case 0:
		return edge - len;
	case 1:
		return edge - len / 2 / PAGE * PAGE;
	case 2:
		return edge + PAGE;
	default:
		return edge;
	}
}

/* Down from there, as a stack grows. */
static void touch_below(u64 addr)
{
	u64 v;

	if (one_in(2))
		test_store((void *)(addr - 8), random64());
	else
		test_load((void *)(addr - below(64) * PAGE - 8), &v);
}

void op_edge(void)
{
	static const int flags[] = { 0, 0, MAP_GROWSDOWN, MAP_POPULATE, MAP_STACK, MAP_32BIT };
	u64 len = (1 + below(one_in(8) ? 1024 : 8)) * PAGE, addr = at_edge(len);
	int fixed = one_in(2) ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	void *p = mmap((void *)addr, len, RW, ANON | MAP_NORESERVE | fixed | PICK(flags), -1, 0);

	if (p == MAP_FAILED)
		return;
	fuzz_moved(MOVE_EDGE);
	touch_below((u64)p + (one_in(2) ? len : 0));
	if (one_in(2))
		madvise(p, len, MADV_DONTNEED);
	if (one_in(4))
		mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at_edge(len));
	if (!one_in(4))
		munmap(p, len);
}

/* ------------------------------------------------------------------- stacks */

static int is_stack(const struct test_vma *v, void *start)
{
	if (strcmp(v->name, "[stack]"))
		return 0;
	*(u64 *)start = v->start;
	return 1;
}

/* Something that grows downwards and is not in use: the stack's low end, or an own one. */
static u64 stack_piece(u64 len)
{
	u64 start = 0;
	void *p;

	if (one_in(2) && test_for_each_vma(false, is_stack, &start) && start) {
		/* More of it, so that what is taken away is not missed. */
		touch_below(start);
		return start;
	}
	p = mmap((void *)(place->arena + MB), len, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
	return p == MAP_FAILED ? 0 : (u64)p;
}

static u64 where_to(u64 len)
{
	return one_in(4) ? place->arena + below(256) * PAGE : at_edge(len);
}

/* Pieces are moved, split, made longer, and grow where they are then. */
void op_stack(void)
{
	static const int flags[] = { MREMAP_FIXED, MREMAP_FIXED, MREMAP_FIXED | MREMAP_DONTUNMAP,
				     MREMAP_DONTUNMAP, 0 };
	u64 len = (1 + below(4)) * PAGE, from = stack_piece(len);
	u64 len2 = one_in(4) ? len + below(16) * PAGE : len;
	char *p;

	if (!from)
		return;
	p = mremap((void *)from, len, len2, MREMAP_MAYMOVE | PICK(flags), where_to(len2));
	if (p == MAP_FAILED)
		return;
	fuzz_moved(MOVE_STACK);
	if (one_in(4))
		munmap(p + (len2 > PAGE ? PAGE : 0), PAGE);
	if (one_in(4))
		mprotect(p, PAGE, PROT_READ);
	touch_below((u64)p);
	if (one_in(2))
		madvise(p - PAGE, PAGE, MADV_DONTNEED);
	if ((u64)p != from && !one_in(8))
		munmap(p, len2);
}

/* The same with what the kernel shares with the threads; others use it meanwhile. */
void op_area_pieces(void)
{
	u64 size = fuzz_area_size, off, to;
	void *p;

	if (!place->area || size < 2 * PAGE)
		return;
	off = below(size / PAGE) * PAGE;
	to = one_in(2) ? place->area + off : where_to(PAGE);
	switch (below(6)) {
	case 0:
		/* A hole, and perhaps it is filled with something else. */
		if (one_in(8) && !munmap((void *)(place->area + off), PAGE) && one_in(2))
			mmap((void *)(place->area + off), PAGE, RW, ANON | MAP_FIXED, -1, 0);
		return;
	case 1:
		p = mremap((void *)(place->area + off), 0, PAGE, MREMAP_MAYMOVE, 0);
		break;
	case 2:
		p = mremap((void *)(place->area + off), PAGE, PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
		break;
	case 3:
		p = mremap((void *)place->area, size, size + PAGE, MREMAP_MAYMOVE, 0);
		break;
	case 4:
		p = mremap((void *)(place->area + off), PAGE, 2 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, to);
		break;
	default:
		p = mmap((void *)to, PAGE, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, fuzz_service_fd,
			 off);
	}
	if (p == MAP_FAILED)
		return;
	fuzz_moved(MOVE_AREA);
	if (!one_in(4))
		munmap(p, PAGE);
}

struct audit {
	u32 inside, outside;
	u64 start, end;
};

static int audit_one(const struct test_vma *v, void *audit)
{
	struct audit *a = audit;

	if (v->end <= LOW_END || v->start >= 0x800000000000)
		return 0;
	if (v->start >= fuzz_self.base && v->end <= fuzz_self.end) {
		a->inside++;
	} else {
		a->outside++;
		a->start = v->start;
		a->end = v->end;
	}
	return 0;
}

/*
 * Whatever was done to them: a placed process has no mapping outside of its slot. Who has
 * lied about whom it calls may have another's task read this: then nothing is inside.
 */
void op_audit(void)
{
	struct rpal_self self;
	struct audit a = {};
	int fd;

	if (place->pid != getpid() || !fuzz_self.base)
		return;
	fd = open(TEST_DEV, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!test_self(fd, &self) && self.base == fuzz_self.base && self.end == fuzz_self.end)
		test_for_each_vma(false, audit_one, &a);
	if (a.inside)
		fuzz_moved(MOVE_AUDIT);
	if (a.inside && a.outside)
		fuzz_bad("%u mappings outside of the slot at %lx, one is %lx-%lx", a.outside,
			 (u64)self.base, a.start, a.end);
	close(fd);
}

/* --------------------------------------------------------------- huge pages */

static void fill_pages(char *p, u64 len)
{
	u64 i;

	for (i = 0; i < len && !test_store(p + i, i); i += PAGE)
		;
}

/* Collapsed and split again, while others read it. */
void op_huge(void)
{
	char *p = (char *)place->arena + below(2) * HUGE, *part = p + below(HUGE / PAGE) * PAGE;

	switch (below(8)) {
	case 0:
		mmap(p, HUGE, RW, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0);
		break;
	case 1:
		madvise(p, HUGE, MADV_HUGEPAGE);
		fill_pages(p, HUGE);
		break;
	case 2:
		if (!madvise(p, HUGE, MADV_COLLAPSE))
			fuzz_moved(MOVE_COLLAPSE);
		break;
	case 3:
		mprotect(part, PAGE, one_in(2) ? PROT_READ : RW);
		break;
	case 4:
		madvise(part, PAGE, one_in(2) ? MADV_DONTNEED : MADV_FREE);
		break;
	case 5:
		mremap(part, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       place->arena + below(FUZZ_ARENA_SIZE / PAGE) * PAGE);
		break;
	case 6:
		mremap(p, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       place->arena + (p == (char *)place->arena ? HUGE : 0));
		break;
	default:
		p = mmap(p, HUGE, RW, ANON | MAP_FIXED | MAP_HUGETLB, -1, 0);
		if (p != MAP_FAILED) {
			fuzz_moved(MOVE_HUGETLB);
			fill_pages(p, HUGE);
		}
	}
}

/* The file behind it, in ways that do not ask who has it mapped. */
void op_memfd(void)
{
	u64 off = below(FUZZ_ARENA_SIZE / PAGE) * PAGE, len = (1 + below(64)) * PAGE;

	switch (below(4)) {
	case 0:
	case 1:
		fallocate(FUZZ_MEMFD, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
		break;
	case 2:
		if (!ftruncate(FUZZ_MEMFD, off))
			sched_yield();
		/* fall through */
	default:
		if (ftruncate(FUZZ_MEMFD, FUZZ_ARENA_SIZE))
			return;
		fallocate(FUZZ_MEMFD, 0, off, len);
	}
}

/* What the kernel does to pages by itself: moved, merged, written out, kept. */
void op_pages(void)
{
	u64 addr = place->arena + below(512) * PAGE, len = (1 + below(64)) * PAGE, nodes = 1;
	void *page[2] = { (void *)addr, (void *)any_address(8) };
	int node[2] = { 0, below(3) }, status[2], fd;
	void *p;

	switch (below(8)) {
	case 0:
		madvise((void *)addr, len, one_in(2) ? MADV_MERGEABLE : MADV_UNMERGEABLE);
		break;
	case 1:
		syscall(SYS_move_pages, one_in(2) ? 0 : any_place()->pid, 2, page, node, status,
			2 /* MPOL_MF_MOVE */);
		break;
	case 2:
		syscall(SYS_mbind, addr, len, below(5), &nodes, 2, 1 + below(3));
		break;
	case 3:
		madvise((void *)addr, len, MADV_PAGEOUT);
		break;
	case 4:
		madvise((void *)addr, len, MADV_COLD);
		break;
	case 5:
		if (one_in(8) && !mlockall(one_in(2) ? MCL_CURRENT : MCL_CURRENT | MCL_ONFAULT))
			munlockall();
		break;
	default:
		fd = syscall(SYS_memfd_secret, 0);
		if (fd < 0)
			return;
		if (!ftruncate(fd, len)) {
			p = mmap((void *)addr, len, RW, MAP_SHARED | MAP_FIXED, fd, 0);
			if (p != MAP_FAILED) {
				fuzz_moved(MOVE_SECRET);
				fill_pages(p, len);
			}
		}
		close(fd);
	}
}

/* ------------------------------------------------- faults answered by others */

struct answer {
	int fd;
	u64 addr, len;
	u32 how;
};

/* Whoever faults there sleeps until it is answered; all are, when the file goes. */
static void *answer_faults(void *arg)
{
	struct answer a = *(struct answer *)arg;
	char page[PAGE] = "answer";
	struct uffdio_copy copy = { .dst = a.addr, .src = (u64)page, .len = PAGE };
	struct uffdio_zeropage zero = { .range = { a.addr, a.len } };
	struct uffdio_writeprotect wp = { .range = { a.addr, a.len }, .mode = a.how & 1 };
	/* UFFDIO_MOVE, which is younger than the headers: dst, src, len, mode, moved */
	u64 move[5] = { a.addr, a.addr + a.len, PAGE, 0, 0 };

	free(arg);
	usleep(500);
	switch (a.how % 4) {
	case 0:
		ioctl(a.fd, UFFDIO_COPY, &copy);
		break;
	case 1:
		ioctl(a.fd, UFFDIO_ZEROPAGE, &zero);
		break;
	case 2:
		ioctl(a.fd, UFFDIO_WRITEPROTECT, &wp);
		break;
	default:
		ioctl(a.fd, _IOWR(0xaa, 5, u64[5]), move);
	}
	usleep(500);
	close(a.fd);
	return NULL;
}

void op_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = 1 + below(3) };
	struct answer *a = malloc(sizeof(*a));
	pthread_attr_t attr;
	pthread_t thread;
	u64 v;

	if (!a)
		return;
	a->fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	a->addr = place->arena + below(256) * PAGE;
	a->len = (1 + below(8)) * PAGE;
	a->how = test_random();
	reg.range = (struct uffdio_range){ a->addr, a->len };
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 << 10);
	madvise((void *)a->addr, a->len, MADV_DONTNEED);
	v = a->addr;
	if (a->fd < 0 || ioctl(a->fd, UFFDIO_API, &api) || ioctl(a->fd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, &attr, answer_faults, a)) {
		close(a->fd);
		free(a);
		return;
	}
	fuzz_moved(MOVE_UFFD);
	if (one_in(2))
		test_store((void *)v, 1);
	else
		test_load((void *)v, &v);
}

/* --------------------------------------------------- programs with odd parts */

/* mov $231, %eax; xor %edi, %edi; syscall: ends at once. */
static const unsigned char elf_code[] = { 0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05 };

#define ELF_IMAGE (300 * GB)

static u64 elf_address(void)
{
	switch (below(8)) {
	case 0:
		return below(64) * PAGE;
	case 1:
		return ELF_IMAGE + ((u64)below(8) << 39);
	case 2:
		return ELF_IMAGE - (u64)below(512) * GB;
	case 3:
		return random64();
	case 4:
		return random64() >> 17 & -PAGE;
	case 5:
		return any_place()->base + below(64) * PAGE;
	default:
		return ELF_IMAGE + (2 + below(64)) * PAGE;
	}
}

static void fill_header(Elf64_Phdr *p)
{
	static const u32 types[] = { PT_LOAD,	   PT_LOAD, PT_LOAD,	    PT_LOAD,
				     PT_GNU_STACK, PT_TLS,  PT_GNU_PROPERTY };
	static const u64 aligns[] = { PAGE, PAGE, PAGE, HUGE, GB, 0, 3, 1ULL << 63 };

	p->p_type = PICK(types);
	p->p_flags = below(8);
	p->p_vaddr = p->p_paddr = elf_address();
	p->p_filesz = below(3) * PAGE;
	p->p_memsz = one_in(8) ? random64() >> below(64) : p->p_filesz + below(16) * PAGE;
	p->p_offset = one_in(8) ? random64() >> below(64) : 0;
	p->p_align = PICK(aligns);
}

static int make_elf(void)
{
	static char page[2 * PAGE];
	Elf64_Ehdr *e = (Elf64_Ehdr *)page;
	Elf64_Phdr *p = (Elf64_Phdr *)(e + 1);
	int n = 1 + below(6), i, real = one_in(2) ? 0 : below(n), fd;

	memset(page, 0, sizeof(page));
	memcpy(e->e_ident, ELFMAG "\x02\x01\x01", 7);
	e->e_type = one_in(4) ? ET_EXEC : ET_DYN;
	e->e_machine = EM_X86_64;
	e->e_version = 1;
	e->e_entry = ELF_IMAGE + PAGE;
	e->e_phoff = sizeof(*e);
	e->e_ehsize = sizeof(*e);
	e->e_phentsize = sizeof(*p);
	e->e_phnum = n;
	for (i = 0; i < n; i++)
		fill_header(p + i);
	p[real] = (Elf64_Phdr){ .p_type = PT_LOAD,
				.p_flags = PF_R | PF_X,
				.p_vaddr = ELF_IMAGE,
				.p_paddr = ELF_IMAGE,
				.p_filesz = 2 * PAGE,
				.p_memsz = 2 * PAGE,
				.p_align = PAGE };
	memcpy(page + PAGE, elf_code, sizeof(elf_code));
	fd = memfd_create("fuzz-elf", 0);
	if (fd >= 0 && write(fd, page, sizeof(page)) != sizeof(page)) {
		close(fd);
		return -1;
	}
	return fd;
}

void op_elf(void)
{
	struct rpal_place p = { .size = sizeof(p) };
	struct rlimit cpu = { 2, 2 };
	char path[32], *argv[] = { path, NULL }, *env[] = { NULL };
	int fd;

	if (!test_have_pkeys())
		p.flags = RPAL_PLACE_NO_PKEYS;
	fuzz_count(&board->forks);
	if (fork())
		return;
	fd = make_elf();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	setrlimit(RLIMIT_CPU, &cpu);
	if (!one_in(4))
		ioctl(any_file(), RPAL_IOC_PLACE, &p);
	if (fd >= 0) {
		fuzz_count(&board->execs);
		execve(path, argv, env);
	}
	_exit(0);
}
