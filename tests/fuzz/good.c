// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Whoever has nothing to do with the workers looks at itself all the time: memory,
 * registers, signals, what it is charged, how long things take. What it sees is a
 * sentence, and the end of the run.
 */
#include "../guest/common-regs.h"
#include "fuzz.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

#define SECOND	1000000000UL
#define WORDS	(MB / 8)
#define SPIN	100000
#define NAP_US	5000
#define FRESH	(16 * PAGE)
#define PATTERN 0x9e3779b97f4a7c15UL

static struct regs *regs;
static u32 regs_seed = 0x1234567;
static u64 *memory, gs, fs;
static u64 slept, charged;
static volatile int signals;

void fuzz_good_wrong(const char *fmt, ...)
{
	va_list ap;

	if (!fuzz_good->wrong) {
		va_start(ap, fmt);
		vsnprintf(fuzz_good->why, sizeof(fuzz_good->why), fmt, ap);
		va_end(ap);
	}
	fuzz_good->wrong++;
}

static void on_any(int sig)
{
	signals = sig;
}

static u64 cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static u64 gs_base(void)
{
	u64 v;

	asm volatile("rdgsbase %0" : "=r"(v));
	return v;
}

/* How many want to run for each CPU there is; at least 1. */
static u64 crowd(void)
{
	int running = 1;
	FILE *f = fopen("/proc/loadavg", "re");

	if (f && fscanf(f, "%*s %*s %*s %d/", &running) != 1)
		running = 1;
	if (f)
		fclose(f);
	return 1 + running / sysconf(_SC_NPROCESSORS_ONLN);
}

/* Signals that a library may want are its own, if there is one. */
void fuzz_good_begin(bool alone)
{
	struct sigaction sa = { .sa_handler = on_any };
	u64 i;
	int s;

	for (s = 1; s <= SIGRTMAX; s++)
		if (s != SIGCHLD && (alone || (s != SIGSEGV && s != SIGBUS && s < 32)))
			sigaction(s, &sa, NULL);
	regs = regs_new();
	memory = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(memory != MAP_FAILED);
	for (i = 0; i < WORDS; i++)
		memory[i] = i * PATTERN;
	if (alone)
		asm volatile("wrgsbase %0" : : "r"(memory));
	gs = gs_base();
	fs = regs_fsbase();
}

static void look_at_registers(void)
{
	char text[128];

	regs_random(regs, &regs_seed);
	regs->action = regs_spin;
	regs->in[R_CX] = SPIN;
	regs_probe(regs);
	if (!regs_same(regs, REGS_BIT(R_CX), text, sizeof(text)))
		fuzz_good_wrong("a register of somebody not linked has changed: %s", text);
	if (gs_base() != gs || regs_fsbase() != fs)
		fuzz_good_wrong("the FS or GS base of somebody not linked has changed");
}

/* What is there must stay, and what is new must be empty. */
static void look_at_memory(void)
{
	u64 i, *p;

	for (i = 0; i < WORDS; i++)
		if (memory[i] != i * PATTERN) {
			fuzz_good_wrong("memory of somebody not linked: %lx instead of %lx",
					memory[i], i * PATTERN);
			return;
		}
	p = mmap(NULL, FRESH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return;
	for (i = 0; i < FRESH / 8; i++) {
		if (p[i])
			fuzz_good_wrong("new memory of somebody not linked has %lx in it", p[i]);
		p[i] = ~i;
	}
	for (i = 0; i < FRESH / 8; i++)
		if (p[i] != ~i)
			fuzz_good_wrong("new memory of somebody not linked has become %lx", p[i]);
	munmap(p, FRESH);
}

/* Who sleeps has no costs. Summed up: a single nap may be interrupted at any moment. */
static void nap(void)
{
	u64 wall = test_now_ns(), cpu = cpu_time();

	usleep(NAP_US);
	slept += test_now_ns() - wall;
	charged += cpu_time() - cpu;
	if (charged > slept / 2 + 2 * SECOND)
		fuzz_good_wrong("charged %lu ms for %lu ms of sleep", charged / 1000000,
				slept / 1000000);
}

void fuzz_good_look(void)
{
	u64 begin = test_now_ns(), took;

	look_at_registers();
	look_at_memory();
	nap();
	if (signals)
		fuzz_good_wrong("a signal, %d, for somebody not linked", signals);
	took = test_now_ns() - begin;
	/* Only when it seems long is it asked how many there are. */
	if (took > test_patience() * SECOND / 6 && took > test_patience() * SECOND / 6 * crowd())
		fuzz_good_wrong("what takes some ms has taken %lu ms", took / 1000000);
}

/* One that is not even placed. */
int fuzz_bystander_role(void)
{
	fuzz_good = test_shared_map(sizeof(*fuzz_good), TEST_FD_PEER);
	fuzz_good_begin(true);
	while (!fuzz_good->stop) {
		fuzz_good_look();
		fuzz_good->looks++;
	}
	return fuzz_good->wrong != 0;
}
