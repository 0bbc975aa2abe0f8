// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-storm N: five services do anything at any time, and N times one of
 * them is killed and another takes its place.
 *
 * Every word that a process writes into its data area says whose it is: slot
 * and life number. Whoever reads a peer's memory must find its words there, or
 * zeros, or a fault; anything else is somebody's memory in the wrong place.
 */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#define PLACES	     5
#define AREAS	     8
#define AREA_SIZE    (4 * MB)
#define DATA	     (209 * GB) /* in the slot */
#define SCRATCH	     (208 * GB) /* anybody may write here */
#define SCRATCH_SIZE 65536UL

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* What a life tells the others; good if key is the same before and after. */
struct place {
	volatile u64 key;
	volatile u32 slot, life, pkey;
};

struct board {
	struct place places[PLACES];
	volatile u32 lives;
	/* counts */
	volatile u64 ops, reads, faults, writes, links, releases, forks, execs, kernel_reads, bad,
		errors;
};

static struct board *board;
static struct rpal_self self;
static u32 life;
static int dev, my_place;

static void count(volatile u64 *p, u64 n)
{
	__atomic_add_fetch(p, n, __ATOMIC_RELAXED);
}

static void error(const char *what, int value)
{
	count(&board->errors, 1);
	printf("%s: life %u: %s: %d (errno %d)\n", test_name, life, what, value, errno);
}

static u64 word(u32 counter)
{
	return (u64)self.slot << 56 | (u64)(life & 0xffffff) << 32 | counter;
}

/* --------------------------------------------------- the own memory, a thread */

static char *area(u32 i)
{
	return (char *)self.base + DATA + i % AREAS * AREA_SIZE;
}

static void fill_area(char *a, u64 len)
{
	static u32 counter;
	u64 off;

	/* Not there yet, or no longer writable: never mind. */
	for (off = 0; off < len; off += PAGE)
		if (test_store(a + off, word(++counter)))
			return;
}

static void own_op(void)
{
	char *a = area(test_random()), *b = area(test_random());
	u64 len = (1 + test_random() % 16) * PAGE;

	switch (test_random() % 14) {
	case 0:
	case 1:
	case 2:
		if (test_random() % 8 == 0)
			len = AREA_SIZE;
		munmap(a, AREA_SIZE);
		if (mmap(a, len, RW, ANON | MAP_FIXED, -1, 0) != a)
			error("mmap", 0);
		if (len == AREA_SIZE)
			madvise(a, len, test_random() & 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		/* fall through */
	case 3:
	case 4:
		fill_area(a, len);
		break;
	case 5:
		munmap(a, AREA_SIZE);
		break;
	case 6:
		munmap(a, len);
		break;
	case 7:
		madvise(a, len, MADV_DONTNEED);
		break;
	case 8:
		mprotect(a, len, PROT_READ);
		break;
	case 9:
		mprotect(a, len, test_random() & 1 ? RW : PROT_NONE);
		break;
	case 10:
		madvise(a, len, MADV_PAGEOUT);
		break;
	case 11:
		madvise(a, AREA_SIZE, MADV_COLLAPSE);
		break;
	case 12:
		if (a != b)
			mremap(a, PAGE, len, MREMAP_MAYMOVE | MREMAP_FIXED, b);
		break;
	case 13:
		if (mmap(a, len, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a)
			fill_area(a, len);
		break;
	}
	count(&board->ops, 1);
}

static void *own_thread(void *unused)
{
	(void)unused;
	test_seed(life * 7919 + 13);
	for (;;)
		own_op();
	return NULL;
}

/* --------------------------------------------------------- others' memory */

/* Whom we have asked last at each place. */
static struct peer {
	u64 key;
	u32 slot, life, pkey;
} peers[PLACES];

static void ask(int i)
{
	struct place *p = &board->places[i];
	struct rpal_request req;
	struct peer new;
	int e, other;

	new.key = __atomic_load_n(&p->key, __ATOMIC_ACQUIRE);
	new.slot = p->slot;
	new.life = p->life;
	new.pkey = p->pkey;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (!new.key || p->key != new.key)
		return;
	e = test_request(dev, new.key, &req);
	switch (e) {
	case 0:
	case -EALREADY:
		break;
	case -ENOENT: /* dead meanwhile */
		return;
	default:
		error("request", e);
		return;
	}
	/* Who has lived in that slot before is dead. */
	for (other = 0; other < PLACES; other++)
		if (peers[other].slot == new.slot)
			peers[other].key = 0;
	peers[i] = new;
	if (!e && (req.state & RPAL_LINK_LINKED))
		count(&board->links, 1);
}

static void bad_word(const struct peer *p, u64 addr, u64 v, const char *how)
{
	count(&board->bad, 1);
	if (board->bad < 20)
		printf("%s: slot %u life %u reads %lx at %lx (%s) of slot %u life %u\n", test_name,
		       self.slot, life, v, addr, how, p->slot, p->life);
}

static bool good_word(const struct peer *p, u64 v)
{
	return !v || v >> 32 == ((u64)p->slot << 24 | (p->life & 0xffffff));
}

static u64 peer_word(const struct peer *p)
{
	return p->slot * RPAL_SLOT_SIZE + DATA + test_random() % AREAS * AREA_SIZE +
	       test_random() % 16 * PAGE;
}

static void read_peer(int place)
{
	const struct peer *p = &peers[place];
	u64 addr, v;
	int i;

	for (i = 0; i < 200; i++) {
		addr = peer_word(p);
		if (test_load((void *)addr, &v)) {
			count(&board->faults, 1);
			/* No memory, or no link. */
			if (test_random() % 4 == 0)
				ask(place);
			break;
		}
		if (!good_word(p, v))
			bad_word(p, addr, v, "read");
		count(&board->reads, 1);
	}
}

static int memory_fd;

static void read_peer_by_kernel(const struct peer *p)
{
	u64 addr = peer_word(p), v = 0;

	if (pwrite(memory_fd, (void *)addr, 8, 0) != 8)
		return;
	if (pread(memory_fd, &v, 8, 0) == 8 && !good_word(p, v))
		bad_word(p, addr, v, "kernel");
	count(&board->kernel_reads, 1);
}

static void write_peer(const struct peer *p)
{
	u64 addr = p->slot * RPAL_SLOT_SIZE + SCRATCH + test_random() % SCRATCH_SIZE;

	if (!test_store8((void *)addr, self.slot))
		count(&board->writes, 1);
}

static void handler(int sig)
{
	(void)sig;
}

static void forked(void)
{
	char *s = (char *)self.base + SCRATCH;
	int status, i;
	pid_t pid;

	pid = fork();
	if (!pid) {
		for (i = 0; i < 16; i++)
			s[i * PAGE]++;
		raise(SIGUSR1);
		_exit(0);
	}
	if (pid < 0) {
		error("fork", pid);
		return;
	}
	waitpid(pid, &status, 0);
	if (status)
		error("child", status);
	count(&board->forks, 1);
}

static void again(void)
{
	struct rpal_place place = { .size = sizeof(place), .group = "storm" };
	char *argv[] = { (char *)test_name, NULL };

	if (!test_have_pkeys())
		place.flags = RPAL_PLACE_NO_PKEYS;
	count(&board->execs, 1);
	board->places[my_place].key = 0;
	if (ioctl(dev, RPAL_IOC_PLACE, &place)) {
		error("place", 0);
		return;
	}
	execv("/proc/self/exe", argv);
	/*
	 * The own key is still in use, so with fifteen of them in the group it
	 * could fail; here there are five.
	 */
	error("exec", 0);
	_exit(1);
}

static int life_role(void)
{
	struct rpal_register reg;
	struct rpal_request req;
	struct place *mine;
	pthread_t t;
	char *scratch;
	int e, i;

	board = test_shared_map(sizeof(*board), TEST_FD_SHARED);
	my_place = atoi(test_arg);
	mine = &board->places[my_place];
	mine->key = 0;
	life = __atomic_add_fetch(&board->lives, 1, __ATOMIC_RELAXED);
	test_seed(life * 104729 + 1);
	dev = test_open();
	memory_fd = memfd_create("copy", MFD_CLOEXEC);
	if (test_self(dev, &self) || !(self.state & RPAL_SELF_PLACED)) {
		error("not placed", self.state);
		return 1;
	}
	scratch = mmap((char *)self.base + SCRATCH, SCRATCH_SIZE, RW, ANON | MAP_FIXED, -1, 0);
	if (scratch == MAP_FAILED) {
		error("scratch", 0);
		return 1;
	}
	signal(SIGUSR1, handler);
	e = test_register(dev, &reg);
	if (e) {
		error("register", e);
		return 1;
	}
	mine->slot = self.slot;
	mine->life = life;
	mine->pkey = self.pkey;
	__atomic_store_n(&mine->key, reg.key, __ATOMIC_RELEASE);
	if (pthread_create(&t, NULL, own_thread, NULL))
		error("thread", 0);
	/* All keys open: nothing but the link is to keep us out. */
	pkru_write(0);
	for (;;) {
		i = test_random() % PLACES;
		if (i == my_place) {
			own_op();
			continue;
		}
		switch (test_random() % 12) {
		case 0:
		case 1:
			ask(i);
			break;
		case 2:
		case 3:
		case 4:
		case 5:
		case 6:
			if (peers[i].key)
				read_peer(i);
			break;
		case 7:
			if (peers[i].key)
				read_peer_by_kernel(&peers[i]);
			break;
		case 8:
			if (peers[i].key)
				write_peer(&peers[i]);
			break;
		case 9:
			if (test_random() % 32 || !peers[i].key)
				break;
			e = test_release(dev, peers[i].key, &req);
			if (e && e != -ENOENT)
				error("release", e);
			count(&board->releases, 1);
			break;
		case 10:
			if (test_random() % 64 == 0)
				forked();
			break;
		case 11:
			if (test_random() % 512 == 0)
				again();
			break;
		}
		count(&board->ops, 1);
	}
}

static const struct test_role roles[] = { { "life", life_role }, {} };

static int start(struct test_child *c, int place, int fd)
{
	struct test_spawn s = { .role = "life", .group = "storm", .shared = fd };
	char arg[16];
	int e;

	snprintf(arg, sizeof(arg), "%d", place);
	s.arg = arg;
	e = test_spawn(c, &s);
	if (e)
		printf("%s: cannot start: %s\n", test_name, strerror(e));
	return e;
}

int main(int argc, char **argv)
{
	struct test_child c[PLACES];
	u64 n, kills = 0, bad = 0, t;
	int fd, i, status;
	long users;

	test_init(argc, argv, roles);
	n = argc > 1 ? strtoull(argv[1], NULL, 0) : 50;
	if (system("test -e /sys/block/zram0 || modprobe zram 2>/dev/null;"
		   "grep -q zram0 /proc/swaps || {"
		   " echo 128M >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null &&"
		   " swapon /dev/zram0; }"))
		printf("%s: no swap\n", test_name);
	board = test_shared_new(sizeof(*board), &fd);
	t = test_now_ns();
	for (i = 0; i < PLACES; i++)
		bad += !!start(&c[i], i, fd);
	while (kills < n && bad < 20) {
		usleep(10000 + test_random() % 140000);
		i = test_random() % PLACES;
		board->places[i].key = 0;
		kill(c[i].pid, SIGKILL);
		status = test_wait(c[i].pid);
		close(c[i].sock);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
			printf("%s: kill %lu: it had ended: %s\n", test_name, kills,
			       test_status(status));
			bad++;
		}
		kills++;
		bad += !!start(&c[i], i, fd);
	}
	for (i = 0; i < PLACES; i++)
		test_reap(&c[i]);
	bad += board->bad + board->errors;
	if (n >= 20 && (!board->reads || !board->links || !board->faults || !board->kernel_reads ||
			!board->forks)) {
		printf("%s: something never happened\n", test_name);
		bad++;
	}
	users = test_wait_users_gone(30);
	if (users) {
		printf("%s: %ld users of hooks are left\n", test_name, users);
		bad++;
	}
	printf("stress: name=storm kernel=%s n=%lu bad=%lu lives=%u ops=%lu links=%lu releases=%lu reads=%lu faults=%lu kernel_reads=%lu writes=%lu forks=%lu execs=%lu wrong_words=%lu errors=%lu seconds=%lu\n",
	       getenv("RPAL_KERNEL") ?: "?", kills, bad, board->lives, board->ops, board->links,
	       board->releases, board->reads, board->faults, board->kernel_reads, board->writes,
	       board->forks, board->execs, board->bad, board->errors,
	       (test_now_ns() - t) / 1000000000);
	return bad || kills != n;
}
