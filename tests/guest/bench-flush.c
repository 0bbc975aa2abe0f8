// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-flush: whom does the TLB flush of an owner's munmap interrupt?
 *
 * The owner is on the first CPU, and linked with some services, of which a few run on
 * CPUs of their own; the others sleep. How many interrupts one munmap of a page costs
 * is counted by the kernel, so it holds for any machine, and how long it takes is the
 * median in TSC ticks. It may grow with the peers that run, and by less with those
 * that sleep. With as many CPUs as the machine has.
 *
 *	bench: name=flush peers=N running=N interrupts=F munmap=T
 */
#include "common.h"

#include <sched.h>
#include <sys/mman.h>
#include <x86intrin.h>

#define MOST_PEERS 14
#define ROUNDS	   50

enum { OP_MUNMAP = OP_USER, OP_RUN };

/* Shared memory; who runs counts its turns. */
struct word {
	u32 running;
	u32 stop;
	u64 turns[MOST_PEERS];
};

static struct word *word;

/* --------------------------------------------------------------- in puppets */

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Until each is seen to run: another task may have its CPU, which an emulator may stop. */
static void wait_for_turns(const struct word *w, unsigned int running)
{
	unsigned int i;
	u64 before;

	for (i = 0; i < running; i++) {
		before = __atomic_load_n(&w->turns[i], __ATOMIC_ACQUIRE);
		while (__atomic_load_n(&w->turns[i], __ATOMIC_ACQUIRE) == before)
			test_pause();
	}
}

static u64 munmap_time(unsigned int running)
{
	static struct word *w; /* its munmap would count */
	u64 times[ROUNDS], begin;
	unsigned int i;
	char *p;

	if (!w)
		w = test_shared_map(PAGE, TEST_FD_SHARED);
	for (i = 0; i < ROUNDS; i++) {
		p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(p != MAP_FAILED);
		*(volatile char *)p = 1;
		wait_for_turns(w, running);
		begin = __rdtsc();
		MUST(!munmap(p, PAGE));
		times[i] = __rdtsc() - begin;
	}
	qsort(times, ROUNDS, sizeof(*times), by_value);
	return times[ROUNDS / 2];
}

static void run_until_told(int cpu)
{
	struct word *w = test_shared_map(PAGE, TEST_FD_SHARED);

	test_pin(cpu);
	__atomic_add_fetch(&w->running, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE))
		__atomic_add_fetch(&w->turns[cpu - 1], 1, __ATOMIC_RELEASE);
	munmap(w, PAGE);
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	if (c->op == OP_MUNMAP)
		r->val = munmap_time(c->a[0]);
	else
		run_until_told(c->a[0]);
}

/* ------------------------------------------------------------------- driver */

static struct puppet owner, peers[MOST_PEERS];
static int shared;

static void new_service(struct puppet *p)
{
	struct test_spawn s = { .group = "flush", .shared = shared };

	MUST(!puppet_start(p, &s) && !puppet_register(p));
}

/* Of all CPUs together. */
static u64 interrupts(void)
{
	char line[1024], *p;
	u64 sum = 0, n;
	int used;
	FILE *f;

	f = fopen("/proc/interrupts", "re");
	MUST(f);
	while (fgets(line, sizeof(line), f)) {
		p = strstr(line, "TLB:");
		for (p = p ? p + 4 : NULL; p && sscanf(p, "%lu%n", &n, &used) == 1; p += used)
			sum += n;
	}
	fclose(f);
	return sum;
}

static u64 munmap_in_owner(unsigned int running)
{
	struct test_cmd c = { .op = OP_MUNMAP, .a = { running } };
	struct test_res r;

	puppet_do(&owner, &c, &r);
	return r.val;
}

static void run_peers(unsigned int n)
{
	struct test_cmd c = { .op = OP_RUN };
	unsigned int i;

	*word = (struct word){};
	for (i = 0; i < n; i++) {
		c.a[0] = i + 1;
		puppet_send(&peers[i], &c);
	}
	while (__atomic_load_n(&word->running, __ATOMIC_ACQUIRE) < n)
		usleep(1000);
}

static void stop_peers(unsigned int n)
{
	struct test_res r;
	unsigned int i;

	__atomic_store_n(&word->stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < n; i++)
		MUST(puppet_result(&peers[i], &r));
}

static void measure(unsigned int nr_peers, unsigned int running)
{
	u64 before, ticks;

	run_peers(running);
	before = interrupts();
	ticks = munmap_in_owner(running);
	printf("bench: name=flush peers=%u running=%u interrupts=%.2f munmap=%lu\n", nr_peers,
	       running, (double)(interrupts() - before) / ROUNDS, ticks);
	stop_peers(running);
}

static void add_peer(struct puppet *p)
{
	u64 v;

	new_service(p);
	puppet_link(&owner, p);
	/* It has used the owner's memory, so it has something to forget. */
	MUST(!puppet_load(p, owner.buf, &v));
	test_pin(0);
}

int main(int argc, char **argv)
{
	static const unsigned int sizes[] = { 0, 1, 4, MOST_PEERS };
	unsigned int cpus = sysconf(_SC_NPROCESSORS_ONLN), i, n = 0, running;

	test_user_op = user_op;
	test_init(argc, argv, NULL);
	word = test_shared_new(PAGE, &shared);
	new_service(&owner);
	test_pin(0);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		while (n < sizes[i])
			add_peer(&peers[n++]);
		for (running = 0; running <= n && running < cpus; running++)
			measure(n, running);
	}
	while (n)
		puppet_end(&peers[--n]);
	puppet_end(&owner);
	return test_finish();
}
