// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls out of procedures, as deep as they go: usage: stress-nested N
 *
 * Services a, b and c call each other in chains made at random, back into the
 * service that has begun, too; d begins chains as well, but is linked with b
 * alone, so that the rest of its chain is nothing that its task can run. At each
 * level system calls, faults and signals come at random, before the next call
 * and after it, and all registers and results are checked.
 */
#include "common-lazy.h"

#define SENDERS	  2  /* in a, and in d */
#define RECEIVERS 16 /* in a, b and c: enough for the worst chains of all */
#define DEPTH	  RPAL_MAX_DEPTH

enum { DO_HOP = DO_OWN };
enum { A, B, C, D, NR_SERVICES };

/* Counts of the program's own. */
enum { DEEP, BACK = DEEP + DEPTH + 1, UNLINKED, IDS };

static int me;

/**
 * struct plan - a chain of calls
 * @seed:	of all results
 * @level:	whose turn it is, from 0
 * @depth:	how many there are
 * @who:	services
 * @op:		what each does before it calls
 * @then:	what each does afterwards
 */
struct plan {
	u64 seed;
	int level;
	int depth;
	unsigned char who[DEPTH];
	unsigned char op[DEPTH];
	unsigned char then[DEPTH];
};

static int id_of(int who)
{
	return lazy->count[IDS + who];
}

static u64 step(u64 own, u64 deeper)
{
	return own * 31 + (deeper ^ deeper >> 7);
}

static u64 expected(const struct plan *p, int level)
{
	u64 own;

	if (level == p->depth)
		return p->seed;
	own = lazy_answer(id_of(p->who[level]), p->op[level], p->seed + level) ^
	      lazy_answer(id_of(p->who[level]), p->then[level], p->seed + level);
	return step(own, expected(p, level + 1));
}

static int64_t hop(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	struct plan p = *(struct plan *)arg;
	int64_t own, r = p.seed, level = p.level;
	int err;

	(void)ctx;
	lazy_enter(DO_HOP);
	if (len != sizeof(p) || p.who[level] != me || caller->depth != level + 1)
		lazy_bad("level %ld: length %zu, service %d, depth %u", (long)level, len,
			 p.who[level], caller->depth);
	own = lazy_work(p.op[level], p.seed + level);
	if (++p.level < p.depth) {
		err = lazy_call_checked(id_of(p.who[p.level]), DO_HOP, &p, sizeof(p), &r, 0);
		if (err)
			lazy_bad("level %d of %d: %d: %s", p.level, p.depth, err,
				 rpal_last_error());
	}
	own ^= lazy_work(p.then[level], p.seed + level);
	if (memcmp(((struct plan *)arg)->who, p.who, sizeof(p.who)))
		lazy_bad("level %ld: the plan has changed", (long)level);
	lazy_leave(DO_HOP);
	return step(own, r);
}

/* ------------------------------------------------------------------ senders */

static int next_to(int who)
{
	static const unsigned char next[NR_SERVICES][2] = {
		[A] = { B, C }, [B] = { A, C }, [C] = { A, B }, [D] = { B, B }
	};

	return next[who][lazy_random() % 2];
}

static void make_plan(struct plan *p)
{
	int i, at = me;

	memset(p, 0, sizeof(*p));
	p->seed = (u64)lazy_random() << 32 | lazy_random();
	p->depth = 1 + lazy_random() % DEPTH;
	for (i = 0; i < p->depth; i++) {
		at = p->who[i] = next_to(at);
		/* The deeper, the more often it stays without the kernel. */
		p->op[i] = lazy_random() % 3 ? DO_FAST : lazy_pick(LAZY_ALL_OPS);
		p->then[i] = lazy_random() % 3 ? DO_FAST : lazy_pick(LAZY_ALL_OPS);
	}
}

static void count_plan(const struct plan *p)
{
	bool back = false, unlinked = false;
	int i;

	for (i = 0; i < p->depth; i++) {
		back |= p->who[i] == me;
		unlinked |= me == D && p->who[i] != B;
	}
	LAZY_ADD(lazy->count[DEEP + p->depth]);
	if (back)
		LAZY_ADD(lazy->count[BACK]);
	if (unlinked)
		LAZY_ADD(lazy->count[UNLINKED]);
}

static void *sender(void *timers)
{
	struct plan p;
	int64_t r;
	int err;

	lazy_thread(false);
	if (timers)
		lazy_timer();
	while (!lazy->stop) {
		make_plan(&p);
		r = 0;
		err = lazy_call_checked(id_of(p.who[0]), DO_HOP, &p, sizeof(p), &r, 0);
		if (err || (u64)r != expected(&p, 0))
			lazy_bad("depth %d: %d, %lx: %s", p.depth, err, (long)r,
				 err ? rpal_last_error() : "wrong result");
		count_plan(&p);
		if (LAZY_ADD(lazy->calls) >= lazy->wanted)
			lazy->stop = 1;
	}
	return NULL;
}

/* -------------------------------------------------------------------- roles */

static void let_in(int n)
{
	char name[40];
	int fd;

	lazy_name(name, sizeof(name), "s", me);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	while (n--)
		MUST(rpal_accept(fd, test_patience() * 1000, NULL) > 0);
}

static void go_to(int who)
{
	char name[40];

	lazy_name(name, sizeof(name), "s", who);
	lazy_connect(name, NULL);
}

static void link_all(void)
{
	switch (me) {
	case A:
		let_in(2);
		break;
	case B:
		go_to(A);
		let_in(2);
		break;
	case C:
		go_to(A);
		go_to(B);
		break;
	case D:
		go_to(B);
		break;
	}
}

static int service_role(void)
{
	pthread_t t[SENDERS], r;
	int i;

	me = atoi(test_arg);
	lazy_init(me, RECEIVERS);
	MUST(!rpal_export(DO_HOP, hop, NULL));
	for (i = 0; i < RECEIVERS && me != D; i++)
		lazy_start(&r, lazy_receiver, NULL);
	link_all();
	lazy->count[IDS + me] = rpal_get_service_id();
	LAZY_ADD(lazy->ready);
	while (lazy->ready < NR_SERVICES && !lazy->stop)
		usleep(1000);
	for (i = 0; i < SENDERS && (me == A || me == D); i++)
		lazy_start(&t[i], sender, i == 0 ? t : NULL);
	lazy_shoot();
	for (i = 0; i < SENDERS && (me == A || me == D); i++)
		pthread_join(t[i], NULL);
	LAZY_ADD(lazy->done);
	while (lazy->done < NR_SERVICES)
		usleep(1000);
	return 0;
}

static const struct test_role roles[] = { { "service", service_role }, {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress", .role = "service" };
	struct test_child c[NR_SERVICES];
	char arg[8];
	int i;

	_Static_assert(IDS + NR_SERVICES <= LAZY_COUNTS, "counts");
	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 1000, &s.shared);
	s.arg = arg;
	for (i = 0; i < NR_SERVICES; i++) {
		snprintf(arg, sizeof(arg), "%d", i);
		MUST(!test_spawn(&c[i], &s));
	}
	lazy_watch(c, NR_SERVICES, NULL);
	for (i = 1; i <= DEPTH; i++) {
		snprintf(arg, sizeof(arg), "deep%d", i);
		lazy_need(arg, lazy->count[DEEP + i], 1000);
	}
	lazy_need("back", lazy->count[BACK], 1000);
	lazy_need("unlinked", lazy->count[UNLINKED], 1000);
	for (i = 0; i < NR_SERVICES; i++) {
		snprintf(arg, sizeof(arg), "hand%c", 'a' + i);
		lazy_need(arg, lazy_handled(i), 1000);
	}
	lazy_need_ops(LAZY_ALL_OPS, 1000);
	lazy_need_switches(2000);
	return lazy_end("nested");
}
