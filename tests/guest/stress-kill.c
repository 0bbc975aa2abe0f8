// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-kill N: one of two linked processes is killed, exits or executes
 * something else at a random moment, while the other uses its memory in one of
 * several ways. Whoever is left must see a clean end: right data until then,
 * faults from then on, and nothing else in the machine harmed.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define RW    (PROT_READ | PROT_WRITE)
#define ANON  (MAP_PRIVATE | MAP_ANONYMOUS)
#define WORDS (MB / 8)
#define STEP  64 /* words */
#define LARGE (8 * GB)

/* How the user of the memory uses it. */
enum use { READ, WRITE, BY_KERNEL, POPULATE, NR_USES };

/* What happens. */
enum event {
	KILL_OWNER,
	KILL_USER,
	KILL_BOTH,
	OWNER_EXITS,
	OWNER_EXECS,
	USER_EXECS,
	OWNER_UNMAPS,
	OWNER_RELEASES,
	NR_EVENTS
};

static const char *const event_names[NR_EVENTS] = {
	"owner killed",
	"user killed",
	"both killed",
	"owner exits",
	"owner execs",
	"user execs",
	"owner unmaps and exits",
	"owner releases",
};

/* From the driver to the two; the owner adds its addresses for the user. */
struct plan {
	u64 round;
	u64 magic;
	u32 use;
	u32 event;
	u32 delay_us;
	u64 data, large;
};

static struct rpal_self self;
static u64 peer_key;
static int dev;

static void connect_peer(struct plan *plan)
{
	struct rpal_register reg;
	struct rpal_request req;
	struct rpal_peer peer;
	char byte = 0;

	test_recv(TEST_FD_DRIVER, plan, sizeof(*plan));
	dev = test_open();
	MUST(!test_self(dev, &self));
	MUST(!test_register(dev, &reg));
	test_send_u64(TEST_FD_PEER, reg.key);
	peer_key = test_recv_u64(TEST_FD_PEER);
	MUST(!test_request(dev, peer_key, &req));
	test_send(TEST_FD_PEER, &byte, 1);
	test_recv(TEST_FD_PEER, &byte, 1);
	MUST(!test_peer(dev, peer_key, 0, &peer));
	MUST(peer.state & RPAL_LINK_LINKED);
	pkru_write(pkru_with(pkru_read(), peer.pkey, RIGHTS_WRITE));
}

static void spin_us(u32 us)
{
	u64 end = test_now_ns() + us * 1000ULL;

	while (test_now_ns() < end)
		test_pause();
}

static void exec_sleeper(void)
{
	char *argv[] = { "sleeper", NULL };

	setenv("RPAL_TEST_ROLE", "sleeper", 1);
	execv("/proc/self/exe", argv);
	_exit(60);
}

/* After an exec: nothing of the link is left. */
static int sleeper_role(void)
{
	MUST(!test_self(test_open(), &self));
	MUST(!self.state);
	return 0;
}

static int owner_role(void)
{
	struct rpal_request req;
	struct plan plan;
	volatile u64 *data;
	char *large;
	u64 i;

	connect_peer(&plan);
	data = mmap(NULL, MB, RW, ANON, -1, 0);
	large = mmap(NULL, LARGE, RW, ANON | MAP_NORESERVE, -1, 0);
	MUST(data != MAP_FAILED && large != MAP_FAILED);
	madvise(large, LARGE, MADV_NOHUGEPAGE);
	for (i = 0; i < WORDS; i += STEP)
		data[i] = plan.magic;
	plan.data = (u64)data;
	plan.large = (u64)large;
	test_send(TEST_FD_PEER, &plan, sizeof(plan));
	test_recv(TEST_FD_PEER, &plan, 1); /* the user is at it */
	test_send_u64(TEST_FD_DRIVER, 1);
	spin_us(plan.delay_us);
	switch (plan.event) {
	case OWNER_EXITS:
		return 0;
	case OWNER_EXECS:
		exec_sleeper();
		break;
	case OWNER_UNMAPS:
		for (i = 0; i < MB; i += 16 * PAGE)
			munmap((char *)data + i, 16 * PAGE);
		munmap(large, LARGE);
		return 0;
	case OWNER_RELEASES:
		MUST(!test_release(dev, peer_key, &req));
		break;
	}
	/* The user's writes are the same word, so it never changes. */
	for (;;) {
		for (i = 0; i < WORDS; i += STEP) {
			if (data[i] != plan.magic)
				return 61;
			data[i] = plan.magic;
		}
		if (plan.event == USER_EXECS || plan.event == KILL_USER ||
		    plan.event == OWNER_RELEASES) {
			/* Until the driver has seen the other's end. */
			char byte;
			ssize_t n = recv(TEST_FD_DRIVER, &byte, 1, MSG_DONTWAIT);

			if (n == 1)
				return 0;
		}
	}
}

static u64 *copy;
static int pipe_fd[2] = { -1, -1 }, memory_fd;

/* A write that failed leaves an empty buffer in a pipe: take a new one. */
static void new_pipe(void)
{
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	MUST(!pipe(pipe_fd));
}

/*
 * One look by the kernel: -1 if it cannot, else the number of wrong words. A
 * pipe copies with faults allowed, a file tries without them first.
 */
static int kernel_look(u64 addr, u64 magic, bool by_pipe)
{
	int bad = 0;
	ssize_t n;
	size_t i;

	if (by_pipe)
		n = write(pipe_fd[1], (void *)addr, PAGE);
	else
		n = pwrite(memory_fd, (void *)addr, PAGE, 0);
	if (n < 0) {
		bad = errno == EFAULT ? -1 : 1;
		if (by_pipe)
			new_pipe();
		return bad;
	}
	if ((by_pipe ? read(pipe_fd[0], copy, n) : pread(memory_fd, copy, n, 0)) != n)
		return 1;
	for (i = 0; i < n / 8UL; i += STEP)
		bad += copy[i] != magic;
	/* A short write: it ended in the middle. */
	return bad ? bad : n < (ssize_t)PAGE ? -1 : 0;
}

/*
 * The frames of the owner's tables are given out again, for data that makes no
 * sense as a table: nothing of ours may still point to them.
 */
static bool still_there(u64 slot)
{
	u64 v, i, len = 3 * MB;
	char *p = mmap(NULL, len, RW, ANON, -1, 0);
	bool found = false;
	int round;

	madvise(p, len, MADV_NOHUGEPAGE);
	for (round = 0; round < 3; round++) {
		memset(p + round * len / 3, 0xff, len / 3);
		for (i = 0; i < 8; i++)
			found |= !test_load((u64 *)(slot + i * 64 * GB), &v);
	}
	munmap(p, len);
	return found;
}

static int user_role(void)
{
	u64 i, v, bad = 0, n = 0;
	struct rpal_peer peer;
	struct plan plan;
	int r, gone = 0;

	connect_peer(&plan);
	new_pipe();
	memory_fd = memfd_create("copy", MFD_CLOEXEC);
	copy = mmap(NULL, PAGE, RW, ANON, -1, 0);
	MUST(memory_fd >= 0 && copy != MAP_FAILED);
	test_recv(TEST_FD_PEER, &plan, sizeof(plan));
	for (i = 0; i < WORDS && plan.round % 3; i += 512)
		if (test_load((u64 *)plan.data + i, &v) || v != plan.magic)
			return 62;
	test_send(TEST_FD_PEER, "x", 1);
	if (plan.event == USER_EXECS) {
		alarm(60);
		/* Some work first. */
		for (i = 0; i < WORDS; i += STEP)
			test_load((u64 *)plan.data + i, &v);
		spin_us(plan.delay_us);
		exec_sleeper();
	}
	while (!gone) {
		for (i = 0; i < WORDS && !gone; i += STEP) {
			u64 *p = (u64 *)plan.data + i;

			switch (plan.use) {
			case READ:
				gone = test_load(p, &v);
				bad += !gone && v != plan.magic;
				break;
			case WRITE:
				gone = test_store(p, plan.magic);
				break;
			case BY_KERNEL:
				r = kernel_look(plan.data + i / 512 * PAGE, plan.magic,
						test_random() & 1);
				gone = r < 0 ? SIGSEGV : 0;
				bad += r > 0;
				i += 512 - STEP;
				break;
			case POPULATE:
				p = (u64 *)(plan.large + n % (LARGE / PAGE) * PAGE);
				gone = test_load(p, &v);
				bad += !gone && v;
				break;
			}
			n++;
		}
	}
	if (gone != SIGSEGV) {
		printf("%s: signal %d\n", test_name, gone);
		return 63;
	}
	if (bad) {
		printf("%s: %lu wrong words\n", test_name, bad);
		return 64;
	}
	/*
	 * Memory that was unmapped, or cannot be populated any more, may be gone
	 * a moment before the rest is.
	 */
	for (r = 0; plan.event != OWNER_RELEASES && r < 10000; r++) {
		if (test_peer(dev, peer_key, 0, &peer) == -ENOENT)
			break;
		usleep(1000);
	}
	/* Gone is gone. */
	for (i = 0; i < WORDS; i += WORDS / 16) {
		if (!test_load((u64 *)plan.data + i, &v) || !test_store((u64 *)plan.data + i, 1) ||
		    kernel_look(plan.data, 0, test_random() & 1) != -1)
			return 65;
	}
	if (still_there(plan.data & ~(RPAL_SLOT_SIZE - 1)))
		return 67;
	if (test_peer(dev, peer_key, 0, &peer) != -ENOENT)
		return 66;
	return 0;
}

static const struct test_role roles[] = {
	{ "owner", owner_role }, { "user", user_role }, { "sleeper", sleeper_role }, {}
};

static bool is_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool round_ok(u64 round)
{
	struct plan plan = {
		.round = round,
		.magic = 0x5ca1ab1e00000000ULL | round,
		.use = round % (NR_USES * NR_EVENTS) / NR_EVENTS,
		.event = round % NR_EVENTS,
		/* In a third of the rounds the end comes at once. */
		.delay_us = test_random() % 3 ? test_random() % 4000 : 0,
	};
	struct test_spawn s = { .group = "kill" };
	struct test_child owner, user;
	int sv[2], so, su;
	bool ok;
	u64 v;

	test_socketpair(sv);
	s.role = "owner";
	s.peer = sv[0];
	MUST(!test_spawn(&owner, &s));
	s.role = "user";
	s.peer = sv[1];
	MUST(!test_spawn(&user, &s));
	close(sv[0]);
	close(sv[1]);
	test_send(owner.sock, &plan, sizeof(plan));
	test_send(user.sock, &plan, sizeof(plan));
	if (!test_try_recv(owner.sock, &v, sizeof(v))) {
		printf("%s: round %lu (%s, use %u) did not get started\n", test_name, round,
		       event_names[plan.event], plan.use);
		test_reap(&owner);
		test_reap(&user);
		return false;
	}
	if (plan.event <= KILL_BOTH)
		spin_us(plan.delay_us);
	switch (plan.event) {
	case KILL_OWNER:
		kill(owner.pid, SIGKILL);
		break;
	case KILL_USER:
		kill(user.pid, SIGKILL);
		break;
	case KILL_BOTH:
		kill(round & 1 ? owner.pid : user.pid, SIGKILL);
		kill(round & 1 ? user.pid : owner.pid, SIGKILL);
		break;
	}
	su = test_wait(user.pid);
	/* Some go on until they are told that this is over. */
	if (plan.event == KILL_USER || plan.event == USER_EXECS || plan.event == OWNER_RELEASES)
		send(owner.sock, "x", 1, MSG_NOSIGNAL);
	so = test_wait(owner.pid);
	close(owner.sock);
	close(user.sock);
	switch (plan.event) {
	case KILL_OWNER:
		ok = is_killed(so) && !su;
		break;
	case KILL_USER:
		ok = !so && is_killed(su);
		break;
	case KILL_BOTH:
		ok = is_killed(so) && (is_killed(su) || !su);
		break;
	case OWNER_RELEASES:
		/* It is still there, only not for the user. */
		ok = !so && (!su || su == 66 << 8);
		break;
	default:
		ok = !so && !su;
	}
	if (!ok) {
		printf("%s: round %lu (%s, use %u): owner %s", test_name, round,
		       event_names[plan.event], plan.use, test_status(so));
		printf(", user %s\n", test_status(su));
	}
	return ok;
}

int main(int argc, char **argv)
{
	u64 n, i, bad = 0, t;
	long users;

	test_init(argc, argv, roles);
	n = argc > 1 ? strtoull(argv[1], NULL, 0) : 100;
	t = test_now_ns();
	for (i = 0; i < n; i++)
		bad += !round_ok(i);
	/* When all are gone, all is gone. */
	users = test_wait_users_gone(30);
	if (users) {
		printf("%s: %ld users of hooks are left\n", test_name, users);
		bad++;
	}
	printf("stress: name=kill kernel=%s n=%lu bad=%lu seconds=%lu\n",
	       getenv("RPAL_KERNEL") ?: "?", i, bad, (test_now_ns() - t) / 1000000000);
	return bad != 0;
}
