/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the loops about the lazy switch share: procedures that enter the kernel
 * in all ways, threads that call them, threads that send signals, and the
 * checks of everything that a call must not change.
 *
 * Processes see each other's counters in shared memory; the driver prints them
 * and sees that nothing is missing.
 */
#ifndef TESTS_GUEST_COMMON_LAZY_H
#define TESTS_GUEST_COMMON_LAZY_H

#include "common-regs.h"

#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>

#include <rpal/rpal.h>

/* What a procedure does; also its number. */
enum lazy_op {
	DO_FAST = 1, /* nothing that the kernel sees */
	DO_GETPID,   /* a system call with a known result */
	DO_PIPE,     /* one that sleeps until another thread writes */
	DO_SLEEP,    /* one that a signal ends */
	DO_FUTEX,    /* one with a time-out */
	DO_SPIN,     /* stays in user mode until something interrupts it */
	DO_TOUCH,    /* a fault that nobody but the kernel sees */
	DO_SEGV,     /* faults whose handlers go on */
	DO_ILL,
	DO_TRAP, /* after which the fault is not made again */
	NR_DO,
	DO_OWN = 16, /* procedures of the program's own */
};

#define LAZY_ALL_OPS   ((1U << NR_DO) - 2)
#define LAZY_THREADS   64 /* per process */
#define LAZY_PROCESSES 8
#define LAZY_COUNTS    48
#define LAZY_SIGNALS   5

/**
 * struct lazy_shared - what all processes of a loop see
 * @wanted:	calls to be made, or rounds
 * @calls:	made
 * @bad:	what went wrong
 * @stop:	enough
 * @ready:	processes that have begun
 * @done:	processes that make no more calls
 * @ops:	procedures that ran to their end, by what they did
 * @refused:	calls that found no free receiver
 * @handled:	signal handlers that ran, by process and kind
 * @alternate:	of them on an alternate stack, by process
 * @faults:	signals for faults, expected and handled
 * @count:	the program's own
 */
struct lazy_shared {
	long wanted;
	long calls;
	long bad;
	volatile int stop;
	volatile int ready;
	volatile int done;
	long ops[NR_DO];
	long refused;
	long handled[LAZY_PROCESSES][LAZY_SIGNALS];
	long alternate[LAZY_PROCESSES];
	long faults;
	volatile long count[LAZY_COUNTS];
};

extern struct lazy_shared *lazy;
extern int lazy_fd; /* a service's management file */

#define LAZY_ADD(what) __atomic_add_fetch(&(what), 1, __ATOMIC_RELAXED)

void lazy_bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* --- in a child */

/*
 * First thing in a role: shared memory, handlers, service, procedures. @process
 * is the number under which it counts.
 */
void lazy_init(int process, int receivers);
/* In a thread, before it calls or serves; and what it must be ever after. */
void lazy_thread(bool receiver);
void lazy_still_me(const char *where, int op);
u32 lazy_random(void);

/*
 * One call with all checks around it: 0, or what rpal_call() has said. Only
 * -EAGAIN with RPAL_CALL_NOWAIT is no failure, unless @may_fail.
 */
int lazy_call(int service, int op, unsigned int flags, bool may_fail);
/* One of @ops at random, fast ones more often. */
int lazy_pick(u32 ops);
/* Any grant, at random. */
unsigned int lazy_grant(void);
/* What a procedure of this process does before it does its own; its result. */
int64_t lazy_work(int op, u64 seed);
/* The result that it must have. */
int64_t lazy_answer(int id, int op, u64 seed);
/* What lazy_call() does around any call: registers and the rest checked. */
int lazy_call_checked(int service, int procedure, void *arg, size_t len, int64_t *result,
		      unsigned int flags);
/* Around a procedure of the program's own. */
void lazy_enter(int op);
void lazy_leave(int op);

/* A thread function: serves until the end. */
void *lazy_receiver(void *unused);
/* Send signals to this process's threads until the end. */
void lazy_shoot(void);
void lazy_shoot_once(void);
/* Have timers hit the calling thread, too. */
void lazy_timer(void);
/* Give all signals a handler again, with or without SA_RESTART and SA_ONSTACK. */
void lazy_handlers(bool restart, bool alternate);
void lazy_start(pthread_t *t, void *(*fn)(void *), void *arg);
int lazy_connect(const char *name, int *sock);
void lazy_name(char *buf, size_t size, const char *what, int i);

/* --- in the driver */

void lazy_driver(long wanted, int *shared_fd);
/* How much a counter of the module has grown since then. */
long lazy_stat(const char *what);
/* For the last line; must not be 0 if the loop was to run at least @from times. */
void lazy_need(const char *what, long value, long from);
/* The same for all that lazy_call() does and for what the module counts. */
void lazy_need_ops(u32 ops, long from);
void lazy_need_switches(long from);
/* Signals that have handlers. */
const char *lazy_signal_name(int i);
/* Signal handlers of a process. */
long lazy_handled(int process);
/*
 * Watch children until all have ended or nothing has moved for long; whoever of
 * them ends badly makes the others end.
 */
void lazy_watch(struct test_child *children, int n, void (*meanwhile)(void));
/* Has it not ended by itself? Ends it. */
bool lazy_alive(struct test_child *c);
/* The last line; exit status. */
int lazy_end(const char *name);

#endif /* TESTS_GUEST_COMMON_LAZY_H */
