// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Generations: a service forks two children and ends, in one way or another. Both
 * want its slot; who gets it becomes a service, links itself with one that stays,
 * calls, and goes on in the same way. Whoever does not get it ends.
 *
 * usage: stress-adopt [GENERATIONS]
 */
#include "call.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

static struct shared {
	int target;
	int begun;   /* processes */
	int won;     /* of these have got the slot */
	int lost;    /* have found somebody else in it */
	int waited;  /* have found their parent in it first */
	int crowded; /* have had a thread first, and were refused */
	int ways[4]; /* how parents have ended */
	int bad;
	bool done;
} * shared;

static int count(int *what)
{
	return __atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------- the one that stays */

PROC(p_add)
{
	const int *v = arg;

	return v[0] + v[1];
}

static int anchor_role(void)
{
	static const rpal_procedure_fn procs[] = { p_add };

	return call_server(procs, 1);
}

/* ------------------------------------------------------------------- generations */

static bool mapping;

static void *map_thread(void *arg)
{
	(void)arg;
	while (__atomic_load_n(&mapping, __ATOMIC_ACQUIRE)) {
		char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		MUST(p != MAP_FAILED);
		p[0] = 1;
		MUST(!mprotect(p, PAGE, PROT_READ));
		MUST(!munmap(p, 4 * PAGE));
	}
	return NULL;
}

static int adopt(int fd)
{
	return ioctl(fd, RPAL_IOC_ADOPT) ? -errno : 0;
}

/* Until it is clear who has the slot: 0 if it is this process. */
static int get_slot(void)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int fd = test_open(), err = adopt(fd);

	if (err == -EBUSY)
		count(&shared->waited);
	/* A thread that was joined may be seen for an instant. */
	while ((err == -EBUSY || err == -EUSERS) && test_now_ns() < end) {
		usleep(test_random() % 500);
		err = adopt(fd);
	}
	close(fd);
	return err;
}

/* False: it was somebody else. */
static bool win(void)
{
	bool crowd = !(test_random() % 4);
	pthread_t thread;
	int err, fd;

	if (crowd) {
		mapping = true;
		MUST(!pthread_create(&thread, NULL, map_thread, NULL));
		count(&shared->crowded);
	}
	if (crowd) {
		fd = test_open();
		CHECK_IS(adopt(fd), -EUSERS);
		close(fd);
		__atomic_store_n(&mapping, false, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
	}
	err = get_slot();
	CHECK(!err || err == -EADDRINUSE, "adoption: %d", err);
	count(err ? &shared->lost : &shared->won);
	return !err;
}

/* What a service does. */
static void serve_time(void)
{
	struct rpal_self s;
	int v[2], i, id, fd = test_open();
	int64_t r;

	call_init(1);
	MUST(!test_self(fd, &s));
	close(fd);
	CHECK(s.state & RPAL_SELF_REGISTERED, "state %x", s.state);
	CHECK(!test_bad_vmas(&s, true), "mappings");
	id = rpal_connect(test_arg, test_patience() * 1000, NULL);
	if (!CHECK(id > 0, "connect: %d: %s", id, rpal_last_error()))
		return;
	for (i = 0; i < 5; i++) {
		v[0] = test_random() % 1000;
		v[1] = i;
		r = 0;
		id = rpal_call(id, 0, v, sizeof(v), &r) ? 0 : id;
		if (!CHECK(id && r == v[0] + v[1], "call: %s", rpal_last_error()))
			return;
	}
}

static void __attribute__((noreturn)) end_somehow(void)
{
	int how = test_random() % 4;

	count(&shared->ways[how]);
	switch (how) {
	case 0:
		kill(getpid(), SIGKILL);
		break;
	case 1:
		execl("/bin/true", "true", NULL);
		break;
	case 2:
		rpal_exit();
		break;
	}
	_exit(0);
}

static int generation_role(void)
{
	int i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	test_seed(1);
	count(&shared->begun);
	count(&shared->won);
	for (;;) {
		serve_time();
		if (test_failures() || shared->won >= shared->target)
			break;
		fflush(stdout);
		for (i = 0; i < 2; i++) {
			pid_t pid = fork();

			MUST(pid >= 0);
			if (!pid)
				break;
		}
		if (i == 2)
			end_somehow();
		test_seed(count(&shared->begun));
		if (win())
			continue;
		if (!test_failures())
			return 0;
		break;
	}
	if (test_failures())
		count(&shared->bad);
	__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
	return 0;
}

/* ------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "anchor", anchor_role },
					  { "generation", generation_role },
					  {} };

static void wait_for_the_last(pid_t anchor)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int seen = 0, won, status;
	pid_t pid;

	while (!__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE)) {
		won = __atomic_load_n(&shared->won, __ATOMIC_ACQUIRE);
		if (won != seen)
			end = test_now_ns() + test_patience() * 1000000000ULL;
		seen = won;
		if (!CHECK(test_now_ns() < end, "nobody has got the slot since %d", won))
			break;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			CHECK(pid != anchor, "who stays has ended: %s", test_status(status));
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "anchor", .group = "call" };
	int n = argc > 1 ? atoi(argv[1]) : 100, fd;
	struct test_child anchor, first;
	char arg[64], path[48];

	test_init(argc, argv, roles);
	test_begin("%d generations", n);
	shared = test_shared_new(sizeof(*shared), &fd);
	shared->target = n;
	/* Whose parent has ended is the driver's. */
	MUST(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	snprintf(path, sizeof(path), "@stress-adopt-%d", getpid());
	snprintf(arg, sizeof(arg), "1 %s", path);
	s.arg = arg;
	MUST(!test_spawn(&anchor, &s));
	s.role = "generation";
	s.arg = path;
	s.shared = fd;
	MUST(!test_spawn(&first, &s));
	wait_for_the_last(anchor.pid);
	CHECK(shared->lost && shared->waited && shared->crowded,
	      "never: lost %d waited %d crowded %d", shared->lost, shared->waited, shared->crowded);
	CHECK(!shared->bad, "%d processes", shared->bad);
	test_reap(&anchor);
	test_end();
	printf("stress: name=adopt n=%d bad=%d begun=%d lost=%d waited=%d crowded=%d ends=%d,%d,%d,%d\n",
	       n, test_failures(), shared->begun, shared->lost, shared->waited, shared->crowded,
	       shared->ways[0], shared->ways[1], shared->ways[2], shared->ways[3]);
	return test_finish();
}
