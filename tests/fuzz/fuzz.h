/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * stress-fuzz: what its files share. main.c is the driver and has the services
 * that must not notice anything; worker.c is a worker's life; the others are what
 * a worker does.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "../guest/common.h"

#define FUZZ_WORKERS  4
#define FUZZ_OUTSIDER FUZZ_WORKERS /* lives in no slot, unless it gets there by itself */
#define FUZZ_PLACES   (FUZZ_WORKERS + 1)
#define FUZZ_COMMANDS 22
#define FUZZ_BAD      0x0bad0bad /* nobody writes that by chance */
#define FUZZ_GROUP    "fuzz"

/* Descriptors with fixed numbers: who inherits them knows what they are. */
#define FUZZ_FD	   16 /* the first file of /dev/rpal */
#define FUZZ_FILES 8
#define FUZZ_EPOLL (FUZZ_FD + FUZZ_FILES)
#define FUZZ_EVENT (FUZZ_EPOLL + 1)
#define FUZZ_MAIL  (FUZZ_EPOLL + 2) /* datagram socket, for passing descriptors */
#define FUZZ_DOOR  (FUZZ_EPOLL + 3) /* listens */
#define FUZZ_SOCK  (FUZZ_EPOLL + 4) /* connections */
#define FUZZ_SOCKS 4
#define FUZZ_PIPE  (FUZZ_SOCK + FUZZ_SOCKS) /* both ends */
#define FUZZ_MEMFD (FUZZ_PIPE + 2)
#define FUZZ_END   (FUZZ_MEMFD + 1)

/* Memory to be ill-treated, at a place of a slot where nothing else comes. */
#define FUZZ_ARENA	(200 * GB)
#define FUZZ_ARENA_SIZE (4 * MB)

/* Moves of which it is counted how often the kernel has let them happen. */
enum fuzz_move {
	MOVE_EDGE,
	MOVE_STACK,
	MOVE_AREA,
	MOVE_AUDIT,
	MOVE_COLLAPSE,
	MOVE_HUGETLB,
	MOVE_SECRET,
	MOVE_UFFD,
	MOVE_PERF,
	MOVE_PROBE,
	MOVE_TRACE,
	MOVE_SECCOMP,
	MOVE_FREEZE,
	MOVE_KVM,
	MOVE_OUTLIVE,
	MOVE_SCRIBBLE,
	FUZZ_MOVES
};

/* What a worker tells the others; anything of it may be old. */
struct fuzz_place {
	volatile pid_t pid;
	volatile u32 life; /* counts */
	volatile u32 id, tid;
	volatile u64 key, base, arena, area;
	volatile u64 ops;
	volatile u32 doing; /* index of the operation */
};

struct fuzz_board {
	volatile u64 limit, ops;
	volatile u32 seed;
	bool trace, loud, probes;
	struct fuzz_place place[FUZZ_PLACES];
	/* who has nothing to do with it */
	volatile u32 good_id[2];
	volatile u64 good_address;
	volatile u64 leaked; /* what was read there, whatever it is */
	/* how much there was */
	volatile u64 services, claims, passed, links, calls, threads, forks, execs;
	volatile u64 tried[FUZZ_COMMANDS], done[FUZZ_COMMANDS];
	volatile u64 moves[FUZZ_MOVES];
	volatile u32 bad;
	char why[256];
};

/* Not seen by workers. */
struct fuzz_good {
	volatile int calls, looks, wrong, stop;
	char why[192]; /* what was seen first */
};

extern struct fuzz_board *board;
extern struct fuzz_good *fuzz_good;
extern struct fuzz_place *place;   /* one's own */
extern struct rpal_self fuzz_self; /* as it was at the begin */
extern u32 fuzz_me;

/* ---------------------------------------------------------------- worker.c */

int fuzz_worker_role(void);
int fuzz_visitor_role(void);
const char *fuzz_op_name(u32 op);
/* @n operations in the name of thread @thread of this life. */
void fuzz_run(u32 thread, u64 n);
/* What may never happen. */
void fuzz_bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fuzz_tick(bool on);

static inline u32 below(u32 n)
{
	return test_random() % n;
}

static inline bool one_in(u32 n)
{
	return test_random() % n == 0;
}

static inline u64 random64(void)
{
	return (u64)test_random() << 32 | test_random();
}

#define PICK(array) ((array)[below(ARRAY_SIZE(array))])

static inline struct fuzz_place *any_place(void)
{
	return &board->place[below(FUZZ_PLACES)];
}

static inline void fuzz_count(volatile u64 *n)
{
	__atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static inline void fuzz_moved(enum fuzz_move m)
{
	fuzz_count(&board->moves[m]);
}

/* ----------------------------------------------------------------- ioctl.c */

long fuzz_enter(struct rpal_block *block, int fd, u32 cmd, u64 arg, u32 pkru);
extern const char fuzz_back[];

extern volatile int fuzz_service_fd; /* where a service was registered last */
extern volatile u64 fuzz_area_size;
extern __thread struct rpal_block *fuzz_block; /* of this thread, if registered */

void fuzz_print_commands(void);
long fuzz_ioctl(int fd, u32 cmd, void *arg);
int any_file(void);
int any_fd(void);
u64 any_key(void);
u32 any_id(void);
u32 any_tid(void);

void op_ioctl(void);
void op_wrong_ioctl(void);
void op_wait(void);
void op_link(void);
void op_service(void);
void fuzz_be_called(u32 times);

/* ---------------------------------------------------------------- memory.c */

void fuzz_make_arena(void);
/* Any address; @len bytes of it may be there, or not. */
u64 any_address(u64 len);
/* As much of it as can be written. */
void fuzz_put(u64 addr, const void *from, size_t len);

void op_map(void);
void op_area(void);
void op_arena(void);
void op_touch(void);
void op_forge(void);
void op_claim(void);
void op_stranger(void);
void op_break_in(void);

/* ------------------------------------------------------------------ file.c */

void fuzz_open_files(void);
void op_open(void);
void op_close(void);
void op_dup(void);
void op_pass(void);
void op_connect(void);
void op_read(void);
void op_poll(void);

/* ---------------------------------------------------------------- layout.c */

void op_edge(void);
void op_stack(void);
void op_area_pieces(void);
void op_audit(void);
void op_huge(void);
void op_memfd(void);
void op_pages(void);
void op_uffd(void);
void op_elf(void);

/* ----------------------------------------------------------------- watch.c */

/* For the driver: what the workers watch with is there all the time. */
void fuzz_hold_events(void);
void op_perf(void);
void op_trace(void);
void op_seccomp(void);
void op_freeze(void);
void op_other_user(void);
void op_kvm(void);
void op_outlive(void);
void op_scribble(void);

/* ------------------------------------------------------------------ good.c */

/* Say what was seen, in a sentence. */
void fuzz_good_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* @alone: nobody else has a handler in this process. */
void fuzz_good_begin(bool alone);
void fuzz_good_look(void);
int fuzz_bystander_role(void);

/* --------------------------------------------------------------- process.c */

void fuzz_signals(void);
void op_thread(void);
void op_fork(void);
void op_vfork(void);
void op_exec(void);
void fuzz_exec_now(void);
void op_signal(void);
void op_rights(void);

/* ----------------------------------------------------------------- calls.c */

extern bool fuzz_library; /* is what this process has its service from */
void fuzz_begin_library(void);
void op_call(void);
int fuzz_server_role(void);
int fuzz_caller_role(void);

#endif /* TESTS_FUZZ_H */
