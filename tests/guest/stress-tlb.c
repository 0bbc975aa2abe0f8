// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-tlb N: whatever the owner of memory does with it, a linked peer that
 * reads or writes it on another CPU never sees what was there before.
 *
 * In each of N rounds the reader, alone on its CPU, uses a word until its
 * translation is cached, and goes on: either using it without a pause, or (a
 * quiet round) touching nothing else until the owner says that it is done, so
 * that a translation which was not flushed is still in the TLB. The owner
 * begins only when it sees the reader run. The reader's first use after the
 * owner has said so must find what the owner's change means.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* What the reader must find. */
enum outcome {
	IS_GONE,      /* a fault */
	IS_ZERO,      /* 0 */
	IS_NEW,	      /* the owner's new value */
	IS_READ_ONLY, /* a fault when writing */
	IS_COPIED,    /* writes go where the owner, not its child, sees them */
};

enum op {
	DONTNEED,
	UNMAP,
	NONE,
	FILE_COPY,
	READ_ONLY,
	UNMAP_TABLE,
	PAGEOUT,
	COLLAPSE,
	MOVE,
	FORK_COPY,
	SPLIT,
	MOVE_TABLE,
	FORK_WRITE,
	PAGEOUT_HUGE,
	NONE_HUGE,
	SHARED_HOLE,
	KHUGEPAGED,
	KSM,
	MIGRATE,
	NR_OPS
};

static const struct {
	const char *name;
	enum outcome outcome;
} ops[NR_OPS] = {
	[DONTNEED] = { "dontneed", IS_ZERO },
	[UNMAP] = { "munmap", IS_GONE },
	[NONE] = { "mprotect-none", IS_GONE },
	[FILE_COPY] = { "file-cow", IS_NEW },
	[READ_ONLY] = { "mprotect-read", IS_READ_ONLY },
	[UNMAP_TABLE] = { "munmap-tables", IS_GONE },
	[PAGEOUT] = { "pageout", IS_NEW },
	[COLLAPSE] = { "collapse", IS_NEW },
	[MOVE] = { "mremap", IS_GONE },
	[FORK_COPY] = { "fork-cow", IS_NEW },
	[SPLIT] = { "thp-split", IS_ZERO },
	[MOVE_TABLE] = { "mremap-tables", IS_GONE },
	[FORK_WRITE] = { "fork-peer-writes", IS_COPIED },
	[PAGEOUT_HUGE] = { "thp-pageout", IS_NEW },
	[NONE_HUGE] = { "thp-mprotect", IS_GONE },
	[SHARED_HOLE] = { "shmem-hole", IS_ZERO },
	[KHUGEPAGED] = { "khugepaged", IS_NEW },
	[KSM] = { "ksm", IS_NEW },
	[MIGRATE] = { "migration", IS_NEW },
};

/* These take their time, so they come rarely. */
#define NR_COMMON  KHUGEPAGED
#define RARE_EVERY 192

static enum op op_of(u64 round)
{
	switch (round % RARE_EVERY) {
	case 0:
		return KHUGEPAGED;
	case RARE_EVERY / 3:
		return KSM;
	case RARE_EVERY / 3 * 2:
		return MIGRATE;
	default:
		return round % NR_COMMON;
	}
}

struct board {
	/* the owner writes */
	volatile u64 round; /* 0: nothing yet */
	volatile u64 addr;
	volatile u32 op, quiet;
	volatile u64 old;
	volatile u64 done; /* round whose change has been made */
	volatile u32 stop;
	/* the reader writes */
	volatile u64 armed __attribute__((aligned(64)));
	volatile u64 uses; /* how often it has used the word */
	volatile u64 answered;
	volatile u64 wrote; /* by IS_COPIED */
	volatile u64 checked[NR_OPS], stale[NR_OPS];
	volatile u64 wrong_start, faults;
	/* the owner counts */
	volatile u64 pageouts, collapses, huge, by_khugepaged, by_ksm, migrated, child_bad, lost;
	volatile u64 ns[NR_OPS];
	volatile u32 failed;
};

static struct board *board;
static struct rpal_self self;
static struct rpal_peer peer;
static int dev;

static u64 acquire(volatile u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void release(volatile u64 *p, u64 v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

/* Both sides: become a service, link, open each other. */
static void connect_peer(void)
{
	struct rpal_register reg;
	struct rpal_request req;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	u64 key;

	board = test_shared_map(sizeof(*board), TEST_FD_SHARED);
	dev = test_open();
	MUST(!test_self(dev, &self));
	MUST(!test_register(dev, &reg));
	test_send_u64(TEST_FD_PEER, reg.key);
	key = test_recv_u64(TEST_FD_PEER);
	MUST(!test_request(dev, key, &req));
	do {
		MUST(!test_peer(dev, key, 0, &peer));
		MUST(test_now_ns() < end);
	} while (!(peer.state & RPAL_LINK_LINKED));
	pkru_write(pkru_with(pkru_read(), peer.pkey, RIGHTS_WRITE));
}

/* --------------------------------------------------------------- the reader */

static void stale(enum op op, u64 round, int sig, u64 v)
{
	board->stale[op]++;
	if (board->stale[op] <= 3)
		printf("%s: stale: %s round %lu (%s): signal %d value %lx, was %lx\n", test_name,
		       ops[op].name, round, board->quiet ? "quiet" : "busy", sig, v, board->old);
}

static void judge(enum op op, u64 round, int sig, u64 v)
{
	bool ok = false;

	switch (ops[op].outcome) {
	case IS_GONE:
	case IS_READ_ONLY:
		ok = sig == SIGSEGV;
		break;
	case IS_ZERO:
		ok = !sig && !v;
		break;
	case IS_NEW:
		ok = !sig && v == board->old + 1;
		break;
	case IS_COPIED:
		ok = !sig; /* the owner compares */
		break;
	}
	board->checked[op]++;
	if (!ok)
		stale(op, round, sig, v);
}

static int reader_role(void)
{
	u64 round = 0, v = 0, d, old;
	volatile u64 *x;
	bool writes, quiet;
	enum op op;
	int sig, i;

	connect_peer();
	test_pin(1);
	test_send_u64(TEST_FD_DRIVER, 1);
	for (;;) {
		while (acquire(&board->round) == round) {
			if (board->stop)
				return 0;
			test_pause();
		}
		round = board->round;
		x = (u64 *)board->addr;
		op = board->op;
		old = board->old;
		quiet = board->quiet;
		writes = ops[op].outcome == IS_READ_ONLY || ops[op].outcome == IS_COPIED;
		for (i = 0; i < 20; i++) {
			sig = test_load(x, &v);
			if (!sig && writes)
				sig = test_store(x, old);
			if (sig || v != old) {
				board->wrong_start++;
				if (board->wrong_start < 10)
					printf("%s: %s round %lu starts with signal %d (code %d) value %lx, not %lx\n",
					       test_name, ops[op].name, round, sig, test_fault.code,
					       v, old);
				break;
			}
		}
		release(&board->armed, round);
		for (;;) {
			d = acquire(&board->done);
			if (!quiet || d == round) {
				if (writes)
					sig = test_store(x, d == round ? old + 7 : old);
				else
					sig = test_load(x, &v);
				if (sig && d != round)
					board->faults++;
			}
			board->uses++;
			if (d == round)
				break;
		}
		judge(op, round, sig, v);
		board->wrote = old + 7;
		release(&board->answered, round);
	}
}

/* ---------------------------------------------------------------- the owner */

static int pagemap, file, shared_file;

/* Bit 62: in swap. */
static bool swapped_out(u64 addr)
{
	u64 entry = 0;

	return pread(pagemap, &entry, 8, addr / PAGE * 8) == 8 && (entry >> 62 & 1);
}

/* Places in the slot, below those of at(). */
#define AWAY   (201 * GB)
#define FILLER (202 * GB)

/* Another place each time; the tables of one GiB are all its own. */
static u64 at(u64 round)
{
	return self.base + (210 + (round * 7) % 16) * GB + (round % 32) * 4 * MB;
}

static u64 map_at(u64 addr, u64 len, int prot, int flags, int fd)
{
	u64 a = (u64)mmap((void *)addr, len, prot, flags | MAP_FIXED, fd, 0);

	if (a != addr)
		board->failed = 1;
	return a;
}

/* Wait for the reader; false if it is gone. */
static bool wait_for(volatile u64 *p, u64 v)
{
	u64 n = 0, end = 0;

	while (acquire(p) != v) {
		test_pause();
		if (++n % 1000000)
			continue;
		if (!end)
			end = test_now_ns() + test_patience() * 1000000000ULL;
		if (test_now_ns() > end || board->failed)
			return false;
	}
	return true;
}

static bool reader_runs(void)
{
	u64 uses = board->uses, n = 0;

	while (board->uses - uses < 30) {
		test_pause();
		if (++n > 4000000000ULL)
			return false;
	}
	return true;
}

/* Make the memory of a round, with a word of value @old; its address. */
static u64 prepare(enum op op, u64 round, u64 old)
{
	u64 a = at(round), i;
	volatile u64 *x = (u64 *)a;

	switch (op) {
	case FILE_COPY:
		if (pwrite(file, &old, 8, 0) != 8)
			board->failed = 1;
		map_at(a, PAGE, RW, MAP_PRIVATE, file);
		return a;
	case SHARED_HOLE:
		map_at(a, PAGE, RW, MAP_SHARED, shared_file);
		*x = old;
		return a;
	case UNMAP_TABLE:
		map_at(a, 4 * MB, RW, ANON, -1);
		if (round & 2)
			madvise((void *)a, 4 * MB, MADV_NOHUGEPAGE);
		break;
	case SPLIT:
	case PAGEOUT_HUGE:
	case NONE_HUGE:
		map_at(a, 2 * MB, RW, ANON, -1);
		madvise((void *)a, 2 * MB, MADV_HUGEPAGE);
		x += 512 * (round % 512);
		break;
	case COLLAPSE:
	case KHUGEPAGED:
		map_at(a, 2 * MB, RW, ANON, -1);
		madvise((void *)a, 2 * MB, MADV_NOHUGEPAGE);
		for (i = 0; i < 512; i += 2)
			x[i * 512] = i;
		break;
	case MOVE_TABLE:
		map_at(a, 2 * MB, RW, ANON, -1);
		if (round & 2)
			madvise((void *)a, 2 * MB, MADV_NOHUGEPAGE);
		break;
	default:
		map_at(a, 2 * PAGE, RW, ANON, -1);
		if (op == KSM)
			x[PAGE / 8] = old; /* a twin */
		break;
	}
	*x = old;
	return (u64)x;
}

static long huge_kb(void)
{
	return test_file_value("/proc/self/smaps_rollup", "AnonHugePages");
}

static void khugepaged(u64 a)
{
	u64 end = test_now_ns() + 2000000000ULL;
	long before = huge_kb();

	madvise((void *)a, 2 * MB, MADV_HUGEPAGE);
	while (huge_kb() <= before && test_now_ns() < end)
		usleep(20000);
	board->by_khugepaged += huge_kb() > before;
}

static void ksm(u64 page)
{
	u64 end = test_now_ns() + 3000000000ULL;

	madvise((void *)page, 2 * PAGE, MADV_MERGEABLE);
	while (test_file_number("/proc/self/ksm_merging_pages") <= 0 && test_now_ns() < end)
		usleep(20000);
	board->by_ksm += test_file_number("/proc/self/ksm_merging_pages") > 0;
}

static u64 frame(u64 addr)
{
	u64 entry = 0;

	return pread(pagemap, &entry, 8, addr / PAGE * 8) == 8 ? entry & ~(~0UL << 55) : 0;
}

static void migrate(u64 page)
{
	u64 before = frame(page);

	test_write_file("/proc/sys/vm/compact_memory", "1");
	board->migrated += frame(page) != before;
}

/* Freed frames are the next to be given out: so that they go elsewhere. */
static void take_frames(char *p)
{
	u64 i;

	map_at((u64)p, 64 * PAGE, RW, ANON, -1);
	for (i = 0; i < 64; i++)
		p[i * PAGE] = 1;
}

/* The change. Returns a child that is still to be asked, if there is one. */
static pid_t change(enum op op, u64 addr, u64 old, int child_pipe[2])
{
	volatile u64 *x = (u64 *)addr;
	u64 page = addr & ~(PAGE - 1), huge = addr & ~(2 * MB - 1);
	u64 away = self.base + AWAY;
	pid_t child = 0;
	char c;

	switch (op) {
	case DONTNEED:
		madvise((void *)page, PAGE, MADV_DONTNEED);
		break;
	case UNMAP:
		munmap((void *)page, PAGE);
		break;
	case NONE:
		mprotect((void *)page, PAGE, PROT_NONE);
		break;
	case FILE_COPY:
		*x = old + 1;
		break;
	case READ_ONLY:
		mprotect((void *)page, PAGE, PROT_READ);
		break;
	case UNMAP_TABLE:
		munmap((void *)page, 4 * MB);
		break;
	case PAGEOUT:
	case PAGEOUT_HUGE:
		if (op == PAGEOUT)
			madvise((void *)page, PAGE, MADV_PAGEOUT);
		else
			madvise((void *)huge, 2 * MB, MADV_PAGEOUT);
		/* A busy reader takes it in again at once. */
		board->pageouts += swapped_out(page);
		take_frames((char *)self.base + FILLER);
		*x = old + 1;
		break;
	case COLLAPSE:
		madvise((void *)huge, 2 * MB, MADV_HUGEPAGE);
		board->collapses += !madvise((void *)huge, 2 * MB, MADV_COLLAPSE);
		*x = old + 1;
		break;
	case KHUGEPAGED:
		khugepaged(huge);
		*x = old + 1;
		break;
	case KSM:
		ksm(page);
		*x = old + 1;
		break;
	case MIGRATE:
		migrate(page);
		take_frames((char *)self.base + FILLER);
		*x = old + 1;
		break;
	case MOVE:
		if (mremap((void *)page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) ==
		    MAP_FAILED)
			board->failed = 1;
		break;
	case MOVE_TABLE:
		if (mremap((void *)huge, 2 * MB, 2 * MB, MREMAP_MAYMOVE | MREMAP_FIXED, away) ==
		    MAP_FAILED)
			board->failed = 1;
		break;
	case FORK_COPY:
	case FORK_WRITE:
		if (pipe(child_pipe))
			board->failed = 1;
		child = fork();
		if (!child) {
			close(child_pipe[1]);
			if (read(child_pipe[0], &c, 1) < 0)
				_exit(2);
			_exit(*x != old);
		}
		if (child < 0)
			board->failed = 1;
		if (op == FORK_COPY)
			*x = old + 1;
		break;
	case SPLIT:
		madvise((void *)page, PAGE, MADV_DONTNEED);
		break;
	case NONE_HUGE:
		mprotect((void *)page, PAGE, PROT_NONE);
		break;
	case SHARED_HOLE:
		if (fallocate(shared_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE))
			board->failed = 1;
		break;
	case NR_OPS:
		break;
	}
	return child;
}

static void clean_up(enum op op, u64 addr, pid_t child, int child_pipe[2], u64 old)
{
	int status;

	if (child > 0) {
		if (op == FORK_WRITE && *(volatile u64 *)addr != old + 7)
			board->lost++;
		close(child_pipe[1]);
		status = test_wait(child);
		if (status)
			board->child_bad++;
		close(child_pipe[0]);
	}
	if (op == MOVE || op == MOVE_TABLE)
		munmap((void *)(self.base + AWAY), 2 * MB);
	if (op == PAGEOUT || op == PAGEOUT_HUGE || op == MIGRATE)
		munmap((void *)(self.base + FILLER), 64 * PAGE);
	munmap((void *)(addr & ~(2 * MB - 1)), 4 * MB);
}

static int owner_role(void)
{
	int pipes[2] = { -1, -1 };
	u64 n = strtoull(test_arg, NULL, 0), i, old, addr, start;
	enum op op;
	pid_t child;

	connect_peer();
	test_pin(0);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	file = open("/tmp/stress-tlb", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	shared_file = memfd_create("hole", MFD_CLOEXEC);
	MUST(pagemap >= 0 && file >= 0 && !ftruncate(file, PAGE));
	MUST(shared_file >= 0 && !ftruncate(shared_file, PAGE));
	test_send_u64(TEST_FD_DRIVER, 1);
	test_recv_u64(TEST_FD_DRIVER);
	for (i = 1; i <= n; i++) {
		op = op_of(i);
		start = test_now_ns();
		old = i << 8;
		addr = prepare(op, i, old);
		board->addr = addr;
		board->op = op;
		board->old = old;
		board->quiet = i / NR_COMMON & 1;
		release(&board->round, i);
		if (!wait_for(&board->armed, i) || !reader_runs())
			break;
		child = change(op, addr, old, pipes);
		release(&board->done, i);
		if (!wait_for(&board->answered, i))
			break;
		clean_up(op, addr, child, pipes, old);
		board->ns[op] += test_now_ns() - start;
		if (board->failed)
			break;
	}
	board->huge = test_file_value("/proc/vmstat", "thp_fault_alloc");
	board->stop = 1;
	unlink("/tmp/stress-tlb");
	return i <= n;
}

/* --------------------------------------------------------------- the driver */

static const struct test_role roles[] = { { "owner", owner_role }, { "reader", reader_role }, {} };

static void set_up(void)
{
	static const char thp[] = "/sys/kernel/mm/transparent_hugepage/";
	char path[128];

	if (system("test -e /sys/block/zram0 || modprobe zram 2>/dev/null;"
		   "grep -q zram0 /proc/swaps || {"
		   " echo 128M >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null &&"
		   " swapon /dev/zram0; }"))
		printf("%s: no swap\n", test_name);
	snprintf(path, sizeof(path), "%senabled", thp);
	test_write_file(path, "madvise");
	snprintf(path, sizeof(path), "%skhugepaged/scan_sleep_millisecs", thp);
	test_write_file(path, "10");
	snprintf(path, sizeof(path), "%skhugepaged/alloc_sleep_millisecs", thp);
	test_write_file(path, "10");
	snprintf(path, sizeof(path), "%skhugepaged/pages_to_scan", thp);
	test_write_file(path, "65536");
	test_write_file("/sys/kernel/mm/ksm/sleep_millisecs", "10");
	test_write_file("/sys/kernel/mm/ksm/pages_to_scan", "1000");
	test_write_file("/sys/kernel/mm/ksm/run", "1");
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "tlb" };
	struct test_child owner, reader;
	u64 n, i, bad = 0, checked = 0;
	int sv[2], fd, st;
	long huge;

	test_init(argc, argv, roles);
	n = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000;
	set_up();
	huge = test_file_value("/proc/vmstat", "thp_fault_alloc");
	board = test_shared_new(sizeof(*board), &fd);
	test_socketpair(sv);
	s.shared = fd;
	s.peer = sv[0];
	s.role = "owner";
	s.arg = argc > 1 ? argv[1] : "1000";
	MUST(!test_spawn(&owner, &s));
	s.peer = sv[1];
	s.role = "reader";
	MUST(!test_spawn(&reader, &s));
	close(sv[0]);
	close(sv[1]);
	test_recv_u64(owner.sock);
	test_recv_u64(reader.sock);
	test_send_u64(owner.sock, 1);
	/* As long as rounds are done there is no hurry. */
	for (i = 0; waitpid(owner.pid, &st, WNOHANG) == 0; i = board->answered)
		usleep(100000);
	owner.pid = 0;
	if (st) {
		printf("%s: the owner: %s in round %lu (%s)\n", test_name, test_status(st),
		       board->round, ops[board->op].name);
		bad++;
	}
	if (bad)
		kill(reader.pid, SIGKILL);
	st = test_wait(reader.pid);
	if (st && !bad) {
		printf("%s: the reader: %s\n", test_name, test_status(st));
		bad++;
	}
	for (i = 0; i < NR_OPS; i++) {
		checked += board->checked[i];
		bad += board->stale[i];
	}
	if (board->failed)
		printf("%s: an operation failed\n", test_name);
	bad += board->failed + board->wrong_start + board->child_bad + board->lost;
	huge = board->huge - huge;
	/* Without these it would not have been tested. */
	if (n >= 200) {
		if (!board->pageouts) {
			printf("%s: nothing was ever paged out\n", test_name);
			bad++;
		}
		if (!board->collapses) {
			printf("%s: nothing was ever collapsed\n", test_name);
			bad++;
		}
		if (!board->by_ksm && !access("/sys/kernel/mm/ksm/run", W_OK)) {
			printf("%s: nothing was ever merged\n", test_name);
			bad++;
		}
		if (huge <= 0) {
			printf("%s: no huge page was ever used\n", test_name);
			bad++;
		}
	}
	for (i = 0; i < NR_OPS; i++)
		printf("  %-18s checked %lu stale %lu (%lu us each)\n", ops[i].name,
		       board->checked[i], board->stale[i],
		       board->ns[i] / 1000 / (board->checked[i] ?: 1));
	printf("stress: name=tlb kernel=%s n=%lu bad=%lu paged_out=%lu collapsed=%lu khugepaged=%lu merged=%lu migrated=%lu huge=%ld wrong_start=%lu child=%lu lost=%lu\n",
	       getenv("RPAL_KERNEL") ?: "?", checked, bad, board->pageouts, board->collapses,
	       board->by_khugepaged, board->by_ksm, board->migrated, huge, board->wrong_start,
	       board->child_bad, board->lost);
	return bad || checked != n;
}
