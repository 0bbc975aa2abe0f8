// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-ordinary [ROUNDS]: what processes pay that have nothing to do with us.
 *
 * Small operations of an ordinary process, measured in turns: without the
 * module, with the module loaded and idle, with linked services alive, so that
 * all hooks are installed, and without the module again. The last says what the
 * noise is. A line for each operation, with medians of TSC ticks:
 *
 *	bench: name=ordinary op=OP none=T idle=T busy=T again=T idle_ratio=R ...
 *
 * On a machine whose clock counts instructions (tests/vm/run --icount) a ratio
 * of a thousandth can be read.
 */
#include "common.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <x86intrin.h>

#define SERVICES 16
#define SAMPLES	 2000

/* --------------------------------------------------------------- operations */

/* busybox: static, so that this is about exec. */
static const char program[] = "/bin/true";
static char *page, *closed;
static sigjmp_buf back;

static void on_signal(int sig)
{
	(void)sig;
}

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static void op_getppid(void)
{
	syscall(SYS_getppid);
}

static void op_mmap(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED && !munmap(p, PAGE));
}

static void op_mprotect(void)
{
	MUST(!mprotect(page, PAGE, PROT_READ) && !mprotect(page, PAGE, PROT_READ | PROT_WRITE));
}

static void op_page_fault(void)
{
	MUST(!madvise(page, PAGE, MADV_DONTNEED));
	*(volatile char *)page = 1;
}

static void op_signal(void)
{
	MUST(!raise(SIGUSR1));
}

static void op_segv(void)
{
	if (!sigsetjmp(back, 0))
		*(volatile char *)closed = 1;
}

static void wait_for(pid_t pid)
{
	int status;

	MUST(waitpid(pid, &status, 0) == pid && !status);
}

static void op_fork(void)
{
	pid_t pid = fork();

	MUST(pid >= 0);
	if (!pid)
		_exit(0);
	wait_for(pid);
}

static void op_exec(void)
{
	pid_t pid = vfork();

	MUST(pid >= 0);
	if (!pid) {
		execl(program, program, NULL);
		_exit(1);
	}
	wait_for(pid);
}

static void *thread(void *unused)
{
	return unused;
}

static void op_thread(void)
{
	pthread_t t;

	MUST(!pthread_create(&t, NULL, thread, NULL) && !pthread_join(t, NULL));
}

static const struct op {
	const char *name;
	void (*run)(void);
	int share; /* of SAMPLES */
} ops[] = {
	{ "getppid", op_getppid, 1 },	   { "mmap_munmap", op_mmap, 1 },
	{ "mprotect", op_mprotect, 1 },	   { "page_fault", op_page_fault, 1 },
	{ "signal", op_signal, 1 },	   { "sigsegv", op_segv, 1 },
	{ "thread_create", op_thread, 2 }, { "fork_exit", op_fork, 10 },
	{ "exec", op_exec, 10 },
};

/* ------------------------------------------------------------------ figures */

enum phase { NONE, IDLE, BUSY, AGAIN, PHASES };

static const char *const phase_name[] = { "none", "idle", "busy", "again" };

struct figures {
	unsigned int n[ARRAY_SIZE(ops)];
	u64 *times[ARRAY_SIZE(ops)];
};

/* All that a measuring child gives back, in shared memory. */
static u64 (*samples)[SAMPLES];
static struct figures figures[PHASES];

static void measure(void)
{
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	unsigned int i, j;
	u64 begin;

	MUST(signal(SIGUSR1, on_signal) != SIG_ERR && !sigaction(SIGSEGV, &sa, NULL));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	closed = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(page != MAP_FAILED && closed != MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		ops[i].run();
		for (j = 0; j < SAMPLES / (unsigned int)ops[i].share; j++) {
			begin = __rdtsc();
			ops[i].run();
			samples[i][j] = __rdtsc() - begin;
		}
	}
}

/* All at once: what a fork costs grows with the parent. */
static void make_room(unsigned int rounds)
{
	unsigned int phase, i;
	size_t size;

	for (phase = 0; phase < PHASES; phase++) {
		for (i = 0; i < ARRAY_SIZE(ops); i++) {
			size = rounds * SAMPLES / ops[i].share * sizeof(u64);
			figures[phase].times[i] = malloc(size);
			MUST(figures[phase].times[i]);
			memset(figures[phase].times[i], 0, size);
		}
	}
}

/* In a child, so that each time begins with the same memory. */
static void measure_phase(enum phase phase)
{
	unsigned int i, n;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		measure();
		_exit(0);
	}
	wait_for(pid);
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		struct figures *f = &figures[phase];

		n = SAMPLES / ops[i].share;
		memcpy(f->times[i] + f->n[i], samples[i], n * sizeof(u64));
		f->n[i] += n;
	}
}

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static u64 median(enum phase phase, unsigned int op)
{
	struct figures *f = &figures[phase];

	qsort(f->times[op], f->n[op], sizeof(u64), by_value);
	return f->times[op][f->n[op] / 2];
}

static void report(void)
{
	u64 ticks[PHASES];
	unsigned int i;
	int phase;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		printf("bench: name=ordinary op=%s", ops[i].name);
		for (phase = 0; phase < PHASES; phase++) {
			ticks[phase] = median(phase, i);
			printf(" %s=%lu", phase_name[phase], ticks[phase]);
		}
		for (phase = IDLE; phase < PHASES; phase++)
			printf(" %s_ratio=%.4f", phase_name[phase],
			       (double)ticks[phase] / ticks[NONE]);
		printf("\n");
	}
}

/* ----------------------------------------------------------------- services */

static struct puppet services[SERVICES];

static void start_services(void)
{
	unsigned int i;

	for (i = 0; i < SERVICES; i++)
		puppet_new(&services[i], NULL);
	/* Each has another key than the one before. */
	for (i = 1; i < SERVICES; i++)
		puppet_link(&services[i - 1], &services[i]);
}

static void end_services(void)
{
	unsigned int i;

	for (i = 0; i < SERVICES; i++)
		puppet_end(&services[i]);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 3, fd;

	test_init(argc, argv, NULL);
	if (!test_module_file()) {
		printf("bench-ordinary: the module cannot be taken out here\n");
		return TEST_SKIP;
	}

	MUST(!access(program, X_OK));
	samples = test_shared_new(ARRAY_SIZE(ops) * sizeof(*samples), &fd);
	make_room(rounds);
	while (rounds--) {
		MUST(!test_module_unload_soon(60));
		measure_phase(NONE);
		MUST(!test_module_load(test_have_pkeys() ? "" : "allow_no_pkeys=1"));
		/* Loading has tried the hooks, which stay for a while. */
		test_hooks_go_soon();
		MUST(!test_wait_hooks_gone(60));
		measure_phase(IDLE);
		start_services();
		measure_phase(BUSY);
		end_services();
		MUST(!test_module_unload_soon(60));
		measure_phase(AGAIN);
		MUST(!test_module_load(""));
	}
	report();
	return 0;
}
