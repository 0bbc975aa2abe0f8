// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Mappings, of the device and others, and what lies in shared pages.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
/* The block of a service's first sender, if it has one receiver. */
#define BLOCKS 12

static __thread char buffer[3 * PAGE] __attribute__((aligned(PAGE)));

void fuzz_make_arena(void)
{
	u64 base = fuzz_self.base ? fuzz_self.base : 0x100000000000;
	char *p = mmap((void *)(base + FUZZ_ARENA), FUZZ_ARENA_SIZE, RW,
		       ANON | MAP_FIXED | MAP_NORESERVE, -1, 0);

	MUST(p != MAP_FAILED);
	place->arena = (u64)p;
}

/* ---------------------------------------------------------------- addresses */

static u64 pages(u32 max)
{
	return (1 + below(max)) * PAGE;
}

static u64 in_arena(u64 arena)
{
	return arena + below(FUZZ_ARENA_SIZE / PAGE) * PAGE;
}

static u64 odd_address(void)
{
	static const u64 odd[] = {
		0,
		1,
		PAGE,
		0x10000,
		LOW_END - 8,
		LOW_END,
		0x7fffffffeff8,
		0x7ffffffff000,
		0x800000000000,
		0x8000000000000000,
		0xffff800000000000,
		0xffff888000001000,
		0xffffffff81000000,
		0xffffffffff600000,
		~0UL - 7,
		~0UL,
	};

	return PICK(odd);
}

u64 any_address(u64 len)
{
	struct fuzz_place *p = any_place();

	switch (below(16)) {
	case 0:
		return odd_address();
	case 1:
		return (u64)buffer + below(PAGE);
	case 2:
		return (u64)buffer + 2 * PAGE - below(len + 1);
	case 3:
		return board->good_address + below(PAGE);
	case 4:
	case 5: /* near the end of a page */
		return in_arena(place->arena) + PAGE - below(len + 8);
	case 6:
	case 7:
	case 8:
		return in_arena(place->arena);
	case 9:
	case 10:
		return in_arena(p->arena) + below(PAGE);
	case 11:
		return p->area + below(BLOCKS * RPAL_BLOCK_SIZE);
	case 12:
		return p->base + random64() % RPAL_SLOT_SIZE;
	case 13:
		return (u64)any_address; /* can be read and run only */
	default:
		return (u64)buffer;
	}
}

void fuzz_put(u64 addr, const void *from, size_t len)
{
	const unsigned char *c = from;
	size_t i;

	for (i = 0; i < len && !test_store8((void *)(addr + i), c[i]);)
		i++;
}

/* ----------------------------------------------------------------- mappings */

static int any_prot(void)
{
	static const int usual[] = { RW, RW, RW, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC };

	return one_in(8) ? (int)below(8) : PICK(usual);
}

static int any_flags(void)
{
	static const int more[] = {
		MAP_FIXED,     MAP_FIXED_NOREPLACE, MAP_POPULATE, MAP_LOCKED,	 MAP_32BIT,
		MAP_GROWSDOWN, MAP_NORESERVE,	    MAP_HUGETLB,  MAP_ANONYMOUS, MAP_STACK,
	};
	int flags = one_in(4) ? MAP_PRIVATE : MAP_SHARED;

	return one_in(2) ? flags : flags | PICK(more);
}

/* Where it may be laid over something: nowhere where the program itself is. */
static u64 any_place_to_map(void)
{
	switch (below(8)) {
	case 0:
		return any_place()->base + below(1 << 20) * PAGE;
	case 1:
		return odd_address();
	case 2:
		return place->area;
	case 3:
		return board->good_address & -PAGE;
	default:
		return in_arena(place->arena);
	}
}

static u64 any_length(void)
{
	switch (below(8)) {
	case 0:
		return pages(128);
	case 1:
		return random64();
	case 2:
		return fuzz_area_size + (int)(below(3) - 1) * PAGE;
	default:
		return fuzz_area_size ? fuzz_area_size : PAGE;
	}
}

void op_map(void)
{
	u64 addr = one_in(2) ? 0 : any_place_to_map(), len = any_length();
	int flags = any_flags(), fd = any_file();
	void *p;

	if (one_in(2)) {
		flags = MAP_SHARED;
		fd = fuzz_service_fd;
	}
	/* Not over what the program lives in. */
	if (flags & MAP_FIXED)
		len = fuzz_area_size < FUZZ_ARENA_SIZE / 2 ? fuzz_area_size : PAGE;
	p = mmap((void *)addr, len, any_prot(), flags, fd, one_in(8) ? pages(64) : 0);
	if (p == MAP_FAILED)
		return;
	if (flags & MAP_SHARED)
		place->area = (u64)p;
	else
		munmap(p, len);
}

static void advise(u64 addr, u64 len)
{
	/* All but those that say that the memory is broken. */
	int advice = one_in(3) ? 8 + (int)below(18) : (int)below(26);

	/* The process forks: once with it, once without. */
	if (one_in(3))
		advice = one_in(2) ? MADV_DOFORK : MADV_DONTFORK;
	madvise((void *)addr, len, advice);
}

static void move(u64 addr, u64 len)
{
	static const int flags[] = { 0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED,
				     MREMAP_MAYMOVE | MREMAP_FIXED,
				     MREMAP_MAYMOVE | MREMAP_FIXED | 4 /* DONTUNMAP */ };
	u64 len2 = one_in(2) ? len : one_in(2) ? pages(128) : one_in(2) ? 0 : len + PAGE;
	u64 old = one_in(8) ? 0 : len;

	if (mremap((void *)addr, old, len2, PICK(flags), in_arena(place->arena)) != MAP_FAILED)
		return;
	/* In another's slot, or where nothing may be. */
	mremap((void *)addr, old, len2, MREMAP_MAYMOVE | MREMAP_FIXED, any_place_to_map());
}

/* Read or written by the kernel, in its several ways. */
static void by_kernel(u64 addr, u64 len)
{
	struct iovec local = { buffer, PAGE }, remote = { (void *)addr, len };
	pid_t pid = one_in(2) ? getpid() : any_place()->pid;
	int fd;

	len = len > PAGE ? PAGE : len;
	switch (below(6)) {
	case 0:
		if (write(FUZZ_PIPE + 1, (void *)addr, len) <= 0)
			break;
		/* fall through */
	case 1:
		if (read(FUZZ_PIPE, (void *)addr, len) < 0)
			break;
		break;
	case 2:
		process_vm_readv(pid, &local, 1, &remote, 1, 0);
		break;
	case 3:
		remote.iov_len = 64;
		process_vm_writev(pid, &local, 1, &remote, 1, 0);
		break;
	case 4:
		if (pwrite(FUZZ_MEMFD, (void *)addr, len, 0) < 0)
			break;
		break;
	case 5:
		fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		if (pread(fd, buffer, len, addr) == (ssize_t)len &&
		    pwrite(fd, buffer, 64, addr) < 0)
			buffer[0]++;
		close(fd);
		break;
	}
}

static void change(u64 addr, u64 len)
{
	switch (below(12)) {
	case 0:
		munmap((void *)addr, len);
		break;
	case 1:
	case 2:
		move(addr, len);
		break;
	case 3:
		mprotect((void *)addr, len, any_prot());
		break;
	case 4:
		pkey_mprotect((void *)addr, len, RW, (int)below(18) - 1);
		break;
	case 5:
	case 6:
	case 7:
		advise(addr, len);
		break;
	case 8:
		if (!mlock((void *)addr, len))
			munlock((void *)addr, len);
		break;
	case 9:
		msync((void *)addr, len, MS_SYNC);
		break;
	default:
		by_kernel(addr, len);
	}
}

/* The whole of it; parts cannot be changed. */
void op_area(void)
{
	u64 len = fuzz_area_size ? fuzz_area_size : PAGE;

	if (place->area)
		change(place->area + (one_in(8) ? pages(8) : 0), one_in(8) ? pages(8) : len);
}

void op_arena(void)
{
	u64 addr = in_arena(place->arena), len = pages(one_in(8) ? 512 : 16);

	/* As it is at the end of a page that was changed for good. */
	if (addr + len > place->arena + FUZZ_ARENA_SIZE)
		len = PAGE;
	if (!one_in(4))
		change(addr, len);
	else if (one_in(2))
		mmap((void *)addr, len, RW, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0);
	else
		mmap((void *)addr, len, RW, MAP_SHARED | MAP_FIXED, FUZZ_MEMFD, 0);
}

/* ------------------------------------------------------------------ contents */

void op_touch(void)
{
	u64 addr = any_address(8), v;
	int ret;

	switch (below(6)) {
	case 0:
	case 1:
		test_load((void *)addr, &v);
		break;
	case 2:
	case 3:
		if (in_slot(&fuzz_self, (void *)addr, 8) && addr != (u64)buffer)
			addr = in_arena(place->arena);
		test_store((void *)addr, random64());
		break;
	case 4:
		by_kernel(addr, 64);
		break;
	case 5:
		/* Mostly zeros, or not executable. */
		if (addr >= place->arena && addr < place->arena + FUZZ_ARENA_SIZE && one_in(64))
			test_call((void *)addr, 0, &ret);
		break;
	}
}

static struct rpal_block *any_block(void)
{
	u64 area = one_in(2) ? place->area : any_place()->area;

	if (fuzz_block && one_in(4))
		return fuzz_block;
	if (!area)
		area = (u64)buffer;
	if (one_in(8))
		return (void *)(area + below(1280) * RPAL_BLOCK_SIZE);
	return (void *)(area + below(BLOCKS) * RPAL_BLOCK_SIZE);
}

static u64 any_word(void)
{
	static const unsigned char states[] = { 0, 1, 1, 2, 2, 3, 4, 5, 0x7f };
	u64 state = PICK(states);
	u64 v = 0;

	if (one_in(4))
		state |= RPAL_ST_PENDING;
	if (one_in(2))
		return state;
	if (one_in(2))
		return (u64)any_tid() << 32 | (test_random() & 0xffffff00) | state;
	test_load(&any_block()->call_word, &v);
	return v + (one_in(4) ? (u64)(below(5) - 2) << 8 : 0);
}

static void store(volatile void *p, u64 v)
{
	test_store(p, v);
}

/* As if one thread had called the other: that is what the kernel looks for. */
static void claim(struct rpal_block *from, struct rpal_block *to)
{
	u64 word = 0, tids = 0;

	if (test_load(&from->call_word, &word) || test_load(&to->callee, &tids))
		return;
	store(&to->caller, (u64)from);
	store(&to->caller_word, word);
	store(&to->word, word | (one_in(4) ? RPAL_ST_PENDING : 0));
	/* callee, with the own tid behind it. */
	if (!test_load(&from->callee, &word))
		store(&from->callee, (word & ~0xffffffffULL) | tids >> 32);
}

/* A block of somebody's who waits to be called, if there is one. */
static struct rpal_block *waiting_block(void)
{
	u64 area = any_place()->area, word;
	u32 i;

	for (i = 0; area && i < BLOCKS; i++) {
		struct rpal_block *b = (void *)(area + i * RPAL_BLOCK_SIZE);

		if (!test_load(&b->word, &word) && word == RPAL_ST_WAIT && b != fuzz_block)
			return b;
	}
	return NULL;
}

/*
 * A call without a procedure: whoever is called goes on with what we are doing, as
 * soon as we enter the kernel, and has our stack and all. Few live through that.
 */
void op_claim(void)
{
	struct rpal_self self = { .size = sizeof(self) };
	struct rpal_block *b = waiting_block();

	if (!fuzz_block || !b)
		return;
	fuzz_count(&board->claims);
	if (one_in(4))
		store(&fuzz_block->news, (u64)RPAL_BLOCK_ASYNC << 32);
	claim(fuzz_block, b);
	fuzz_ioctl(fuzz_service_fd, RPAL_IOC_SELF, &self);
}

static void forge_one(struct rpal_block *b)
{
	u64 v = 0;

	switch (below(13)) {
	case 12:
		store(&b->deadline, one_in(4) ? random64() : test_now_ns() + below(5000000));
		break;
	case 0:
	case 1:
		store(&b->word, any_word());
		break;
	case 2:
		store(&b->caller_word, any_word());
		break;
	case 3:
	case 4:
		test_load(&b->callee, &v);
		store(&b->callee, (v & ~0xffffffffULL) | any_tid());
		break;
	case 5:
		store(&b->callee, random64());
		break;
	case 6:
		store(&b->news, (u64)below(4) | (u64)below(4) << 32);
		break;
	case 7:
		store(&b->status, random64());
		break;
	case 8:
		claim(fuzz_block ? fuzz_block : any_block(), b);
		break;
	case 9:
		claim(any_block(), any_block());
		break;
	case 10: /* the context: who goes home with it does not get far */
		if (one_in(8))
			store((u64 *)b + 8 + below(11), random64());
		break;
	default:
		store((u64 *)b + 19 + below(13), random64());
	}
}

void op_forge(void)
{
	u32 n = 1 + below(3);

	while (n--)
		forge_one(any_block());
}

/*
 * Memory of those who are linked with nobody here. They know what must not be
 * seen: who has forged its state need not have read what it takes for read.
 */
void op_stranger(void)
{
	u64 addr = board->good_address + below(PAGE / 8) * 8, v = 0;

	if (!board->good_address)
		return;
	if (one_in(2))
		test_load((void *)addr, &v);
	else if (write(FUZZ_PIPE + 1, (void *)addr, 8) > 0 && read(FUZZ_PIPE, &v, 8) < 8)
		v = 0;
	if (v)
		board->leaked = v;
}

/* The word that says whom the own thread calls goes back to normal now and then. */
void op_break_in(void)
{
	u64 v;

	if (!fuzz_block || test_load(&fuzz_block->callee, &v))
		return;
	store(&fuzz_block->callee, v & ~0xffffffffULL);
	store(&fuzz_block->word, 0);
}
