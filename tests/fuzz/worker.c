// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The life of a worker. What it does follows from the seed, from which worker it
 * is, its how manyth life this is, which thread and which operation: each begins
 * with a seed of its own, so that it does not matter what others drew before.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>

struct fuzz_board *board;
struct fuzz_place *place;
struct rpal_self fuzz_self;
u32 fuzz_me;

static u32 life;
static bool gentle;
static int log_fd = -1;

#define CALL 0

static const struct {
	const char *name;
	void (*run)(void);
	u32 weight;
} ops[] = {
	[CALL] = { "call", op_call, 12 },
	{ "ioctl", op_ioctl, 24 },
	{ "wrong ioctl", op_wrong_ioctl, 24 },
	{ "wait", op_wait, 6 },
	{ "link", op_link, 8 },
	{ "service", op_service, 2 },
	{ "map", op_map, 6 },
	{ "area", op_area, 6 },
	{ "arena", op_arena, 12 },
	{ "touch", op_touch, 12 },
	{ "forge", op_forge, 6 },
	{ "claim", op_claim, 6 },
	{ "unforge", op_break_in, 6 },
	{ "stranger", op_stranger, 2 },
	{ "open", op_open, 4 },
	{ "close", op_close, 3 },
	{ "dup", op_dup, 3 },
	{ "pass", op_pass, 6 },
	{ "connect", op_connect, 4 },
	{ "read", op_read, 5 },
	{ "poll", op_poll, 8 },
	{ "thread", op_thread, 3 },
	{ "fork", op_fork, 1 },
	{ "vfork", op_vfork, 1 },
	{ "exec", op_exec, 2 },
	{ "signal", op_signal, 5 },
	{ "rights", op_rights, 4 },
	{ "edge", op_edge, 6 },
	{ "stack", op_stack, 4 },
	{ "area pieces", op_area_pieces, 3 },
	{ "audit", op_audit, 1 },
	{ "huge", op_huge, 5 },
	{ "memfd", op_memfd, 4 },
	{ "pages", op_pages, 4 },
	{ "uffd", op_uffd, 2 },
	{ "elf", op_elf, 1 },
	{ "perf", op_perf, 3 },
	{ "trace", op_trace, 1 },
	{ "seccomp", op_seccomp, 1 },
	{ "freeze", op_freeze, 1 },
	{ "other user", op_other_user, 1 },
	{ "kvm", op_kvm, 1 },
	{ "outlive", op_outlive, 1 },
	{ "scribble", op_scribble, 3 },
};

const char *fuzz_op_name(u32 op)
{
	return op < ARRAY_SIZE(ops) ? ops[op].name : "?";
}

void fuzz_bad(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(board->why, sizeof(board->why), fmt, ap);
	va_end(ap);
	__atomic_store_n(&board->bad, FUZZ_BAD, __ATOMIC_RELEASE);
}

static u32 mix(u32 h, u32 v)
{
	h = (h ^ v) * 0x9e3779b1;
	return h ^ h >> 15;
}

static void seed_for(u32 thread, u32 n)
{
	test_seed(mix(mix(mix(mix(mix(board->seed, 1), fuzz_me), life), thread), n));
}

static u32 any_op(void)
{
	static u32 sum;
	u32 i, r, s = 0;

	if (!sum) {
		for (i = 0; i < ARRAY_SIZE(ops); i++)
			s += ops[i].weight;
		sum = s;
	}
	r = below(sum);
	for (i = 0; r >= ops[i].weight; i++)
		r -= ops[i].weight;
	return i;
}

/* Into the kernel's log, where it is seen what came before a report. */
static void trace(u32 thread, u32 n, u32 op)
{
	char text[96];
	int len;

	if (log_fd < 0)
		log_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	len = snprintf(text, sizeof(text), "fuzz: worker %u life %u thread %u: %u %s", fuzz_me,
		       life, thread, n, ops[op].name);
	if (write(log_fd, text, len) != len)
		return;
}

void fuzz_run(u32 thread, u64 n)
{
	u64 i;
	u32 op;

	for (i = 0; i < n; i++) {
		if (__atomic_fetch_add(&board->ops, 1, __ATOMIC_RELAXED) >= board->limit)
			_exit(0);
		seed_for(thread, i);
		op = any_op();
		if ((ops[op].run == op_forge || ops[op].run == op_claim) && gentle && !one_in(16))
			op = CALL;
		place->doing = op;
		place->ops++;
		if (board->trace)
			trace(thread, i, op);
		ops[op].run();
	}
}

/* What it has to say when it crashes is of no interest. */
static void be_quiet(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	MUST(fd >= 0 && dup2(fd, 1) == 1 && dup2(fd, 2) == 2);
}

static void begin(void)
{
	fuzz_me = atoi(test_arg);
	board = test_shared_map(sizeof(*board), TEST_FD_SHARED);
	place = &board->place[fuzz_me];
	if (!board->loud)
		be_quiet();
	fuzz_signals();
	fuzz_tick(false);
}

/* Kinds of lives: from nothing, as a service, as one of the library's. */
static void begin_life(void)
{
	seed_for(0, ~0U);
	fuzz_open_files();
	test_self(FUZZ_FD, &fuzz_self);
	place->base = fuzz_self.base;
	place->key = place->id = place->tid = place->area = 0;
	fuzz_make_arena();
	/* Who forges does not live long: some calls want more time than that. */
	gentle = one_in(2);
	switch (below(8)) {
	case 0:
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		fuzz_begin_library();
		break;
	default:
		op_service();
	}
	pkru_write(0);
}

int fuzz_worker_role(void)
{
	begin();
	setpgid(0, 0);
	life = __atomic_fetch_add(&place->life, 1, __ATOMIC_RELAXED);
	place->pid = getpid();
	begin_life();
	fuzz_tick(true);
	fuzz_run(0, ~0ULL);
	return 0;
}

/* A worker's child that has executed the program; it takes no part for long. */
int fuzz_visitor_role(void)
{
	struct fuzz_place none = {};

	begin();
	life = place->life;
	place = &none;
	seed_for(0x20000, ~0U);
	fuzz_open_files();
	test_self(FUZZ_FD, &fuzz_self);
	fuzz_make_arena();
	fuzz_tick(true);
	fuzz_run(0x20000, 1 + below(16));
	return 0;
}
