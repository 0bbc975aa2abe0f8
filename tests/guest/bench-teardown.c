// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-teardown [RUNS]: what the end of a process costs, side by side in one run:
 * an ordinary process, one that is placed, one that is a service, and services
 * that are linked with 1, 8 and 64 others. From its _exit() to its parent's return
 * from wait4(), both on the last CPU, the peers where they like. Then how long many
 * take to go that are killed at once. One line each:
 *
 *	bench: name=teardown what=KIND wall_ns=MEDIAN/P99 cpu_ns=MEDIAN/P99 ratios
 *
 * cpu_ns is what the process itself has run in the kernel meanwhile. Ratios are of
 * the medians, to those of the process that is placed and no more. To count
 * instructions instead of time: tests/vm/run --icount.
 */
#include "common.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <rpal/rpal.h>

#define MAX_PEERS 64
/* Some of them have the key of whom they are to be linked with. */
#define SPAWNED (MAX_PEERS + 16)
#define MESH	12

enum { OP_SERVICE = OP_USER, OP_LEAVE };

struct stamps {
	u64 wall;
	u64 cpu;
};

static u64 clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* ------------------------------------------------------------------- puppets */

static void leave(void)
{
	struct stamps *stamps = test_shared_map(PAGE, TEST_FD_SHARED);

	test_pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	/* Not the first touch, which faults, between the clock and the end. */
	stamps->wall = 0;
	stamps->cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	stamps->wall = clock_ns(CLOCK_MONOTONIC);
	_exit(0);
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	if (c->op == OP_LEAVE)
		leave();
	r->ret = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	if (r->ret < 0)
		printf("rpal_init: %s\n", rpal_last_error());
	else
		MUST(!rpal_thread_init() && !rpal_get_service_key(&r->val));
}

/* With the library, its area and a registered thread. */
static void become_service(struct puppet *p)
{
	struct test_cmd c = { .op = OP_SERVICE };
	struct test_res r;

	puppet_do(p, &c, &r);
	MUST(r.ret >= 0);
	p->fd = r.ret;
	p->key = r.val;
}

/* ------------------------------------------------------------------- driver */

static struct puppet peers[SPAWNED];
static unsigned int nr_peers;
static int shared;
static struct stamps *stamps;
static cpu_set_t everywhere;

/* Linked, and each has used the other's memory. */
static void link_with(struct puppet *a, struct puppet *b)
{
	u64 v;

	puppet_link(a, b);
	MUST(!puppet_load(a, b->buf, &v));
	MUST(!puppet_load(b, a->buf, &v));
}

static void need_peers(unsigned int n)
{
	for (; nr_peers < n; nr_peers++) {
		puppet_new(&peers[nr_peers], NULL);
		become_service(&peers[nr_peers]);
	}
}

static void end_peers(void)
{
	while (nr_peers)
		puppet_kill(&peers[--nr_peers]);
}

static void link_with_peers(struct puppet *p, int n)
{
	unsigned int i;

	for (i = 0; n > 0; i++) {
		need_peers(i + 1);
		MUST(i < SPAWNED - 1);
		/* Those with the same key cannot be linked with it. */
		if (p->self.pkey && peers[i].self.pkey == p->self.pkey)
			continue;
		link_with(p, &peers[i]);
		n--;
	}
}

struct kind {
	const char *name;
	bool placed;
	int peers; /* -1: no service */
	u64 *wall, *cpu;
};

static u64 time_ns(const struct timeval *t)
{
	return t->tv_sec * 1000000000ULL + t->tv_usec * 1000ULL;
}

static void run(const struct kind *kind, unsigned int i)
{
	struct test_spawn s = { .unplaced = !kind->placed, .shared = shared };
	struct test_cmd c = { .op = OP_LEAVE };
	struct rusage usage;
	struct puppet p;
	int status;

	errno = puppet_start(&p, &s);
	MUST(!errno);
	if (kind->peers >= 0) {
		become_service(&p);
		link_with_peers(&p, kind->peers);
	}
	test_pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	puppet_send(&p, &c);
	MUST(wait4(p.child.pid, &status, 0, &usage) == p.child.pid && !status);
	kind->wall[i] = clock_ns(CLOCK_MONOTONIC) - stamps->wall;
	kind->cpu[i] = time_ns(&usage.ru_utime) + time_ns(&usage.ru_stime) - stamps->cpu;
	MUST(!sched_setaffinity(0, sizeof(everywhere), &everywhere));
	close(p.child.sock);
}

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static u64 rank(u64 *times, unsigned int runs, unsigned int percent)
{
	qsort(times, runs, sizeof(*times), by_value);
	return times[runs * (u64)percent / 100];
}

static void print(const struct kind *kind, const struct kind *placed, unsigned int runs)
{
	u64 wall = rank(kind->wall, runs, 50), cpu = rank(kind->cpu, runs, 50);

	printf("bench: name=teardown what=%s runs=%u wall_ns=%lu/%lu cpu_ns=%lu/%lu wall_ratio=%.2f cpu_ratio=%.2f\n",
	       kind->name, runs, wall, rank(kind->wall, runs, 99), cpu, rank(kind->cpu, runs, 99),
	       (double)wall / rank(placed->wall, runs, 50),
	       (double)cpu / rank(placed->cpu, runs, 50));
}

static void one_by_one(unsigned int runs)
{
	static struct kind kinds[] = {
		{ .name = "placed", .placed = true, .peers = -1 },
		{ .name = "ordinary", .peers = -1 },
		{ .name = "service", .placed = true },
		{ .name = "1-peer", .placed = true, .peers = 1 },
		{ .name = "8-peers", .placed = true, .peers = 8 },
		{ .name = "64-peers", .placed = true, .peers = 64 },
	};
	unsigned int i, k;

	for (k = 0; k < ARRAY_SIZE(kinds); k++) {
		kinds[k].wall = calloc(runs, sizeof(u64));
		kinds[k].cpu = calloc(runs, sizeof(u64));
		MUST(kinds[k].wall && kinds[k].cpu);
		/* The first of its kind is not counted: it makes what is kept. */
		run(&kinds[k], 0);
	}
	for (i = 0; i < runs; i++)
		for (k = 0; k < ARRAY_SIZE(kinds); k++)
			run(&kinds[k], i);
	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		print(&kinds[k], &kinds[0], runs);
}

/* The keys of a group that has just died may be taken for a moment more. */
static const char *new_group(void)
{
	static char name[RPAL_GROUP_LEN];
	static int n;

	snprintf(name, sizeof(name), "teardown-%d", n++);
	return name;
}

/* All at once; nanoseconds for each. */
static u64 kill_all(struct puppet *p, unsigned int n)
{
	u64 begin = clock_ns(CLOCK_MONOTONIC), ns;
	unsigned int i;

	for (i = 0; i < n; i++)
		kill(p[i].child.pid, SIGKILL);
	for (i = 0; i < n; i++)
		MUST(waitpid(p[i].child.pid, NULL, 0) == p[i].child.pid);
	ns = clock_ns(CLOCK_MONOTONIC) - begin;
	for (i = 0; i < n; i++)
		close(p[i].child.sock);
	return ns / n;
}

static u64 mesh_at_once(bool linked)
{
	const char *group = new_group();
	struct puppet p[MESH];
	unsigned int i, j;

	for (i = 0; i < MESH; i++) {
		puppet_new(&p[i], group);
		become_service(&p[i]);
		for (j = 0; linked && j < i; j++)
			link_with(&p[i], &p[j]);
	}
	return kill_all(p, MESH);
}

/* One in the middle, to which all others are linked, or not. */
static u64 star_at_once(bool linked)
{
	struct puppet p[MAX_PEERS + 1], idle[SPAWNED - MAX_PEERS];
	unsigned int n = 1, same = 0;
	u64 ns;

	puppet_new(&p[0], NULL);
	become_service(&p[0]);
	while (n < ARRAY_SIZE(p)) {
		puppet_new(&p[n], NULL);
		if (p[0].self.pkey && p[n].self.pkey == p[0].self.pkey) {
			/* As long as it lives others get other keys. */
			MUST(same < ARRAY_SIZE(idle));
			idle[same++] = p[n];
			continue;
		}
		become_service(&p[n]);
		if (linked)
			link_with(&p[0], &p[n]);
		n++;
	}
	ns = kill_all(p, n);
	while (same)
		puppet_kill(&idle[--same]);
	return ns;
}

static void at_once(const char *name, u64 (*fn)(bool linked), unsigned int n, unsigned int runs)
{
	u64 *linked = calloc(runs, sizeof(u64)), *alone = calloc(runs, sizeof(u64));
	unsigned int i;

	MUST(linked && alone);
	for (i = 0; i < runs; i++) {
		alone[i] = fn(false);
		linked[i] = fn(true);
	}
	printf("bench: name=teardown what=%s n=%u runs=%u linked_ns=%lu unlinked_ns=%lu ratio=%.2f\n",
	       name, n, runs, rank(linked, runs, 50), rank(alone, runs, 50),
	       (double)rank(linked, runs, 50) / rank(alone, runs, 50));
	free(linked);
	free(alone);
}

int main(int argc, char **argv)
{
	static const struct test_role roles[] = { {} };
	unsigned int runs = argc > 1 ? strtoul(argv[1], NULL, 0) : 20;

	test_user_op = user_op;
	test_init(argc, argv, roles);
	MUST(runs);
	stamps = test_shared_new(PAGE, &shared);
	/* Children begin where their parent may run. */
	MUST(!sched_getaffinity(0, sizeof(everywhere), &everywhere));
	one_by_one(runs);
	end_peers();
	at_once("star-at-once", star_at_once, MAX_PEERS + 1, 3);
	at_once("mesh-at-once", mesh_at_once, MESH, 3);
	return test_finish();
}
