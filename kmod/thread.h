/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that call and are called: what the files about them share.
 *
 * Which file does what: thread.c registers threads and buries them, context.c
 * builds register contexts, borrow.c finds out whose context a task is running
 * and hands it over, wait.c is where receivers and senders sleep, entry.c hooks
 * the ways into the kernel.
 */
#ifndef RPAL_THREAD_H
#define RPAL_THREAD_H

#include <linux/hrtimer.h>
#include <linux/refcount.h>
#include <linux/task_work.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/ptrace.h>

#include "rpal.h"

/* Places for time stamps in a block. */
#define RPAL_AWAY	ARRAY_SIZE(((struct rpal_block *)0)->away_tid)

/**
 * struct rpal_context - what a thread is doing in user mode
 * @regs:	general registers, sanitised
 * @fsbase:	FS base, canonical
 * @trapped:	@trap_nr and @error_code are those of a trap that has done its
 *		work already, and whose signal goes along
 * @trap_nr:	its number
 * @error_code:	its error code
 * @pkru:	access rights
 * @fpu:	xsave image, @fpu_size bytes
 * @fpu_size:	size of the image
 */
struct rpal_context {
	struct pt_regs regs;
	unsigned long fsbase;
	bool trapped;
	unsigned long trap_nr;
	unsigned long error_code;
	u32 pkru;
	void *fpu;
	unsigned int fpu_size;
};

/* Where a thread's own context is; mailbox.h says who changes it, and when. */
enum rpal_mailbox {
	RPAL_MAIL_CLOSED,	/* with its own task */
	RPAL_MAIL_EMPTY,	/* in its block: its task sleeps in our wait, a caller may run it */
	RPAL_MAIL_FILLED,	/* in the mailbox, not to be taken yet */
	RPAL_MAIL_READY,	/* in the mailbox: its task takes it */
};

/* The answer to a call that was handed over. */
enum rpal_answer {
	RPAL_ANSWER_NONE,	/* there is no such call */
	RPAL_ANSWER_DUE,
	RPAL_ANSWER_THERE,
};

/**
 * struct rpal_tcb - a registered thread
 * @ref:	references: table, hash, kicks, answers that are due to it, its
 *		task while it sleeps in a wait of ours
 * @free:	for freeing, after a grace period
 * @node:	in the hash by task, until it dies
 * @grave:	in a list of those that are to be put
 * @kept_for:	of a tombstone: the caller that it is kept for; changed under thread_lock
 * @remains:	the tombstone that is kept for it; under thread_lock, read under RCU
 * @user:	who has it, and pays for it until it is freed
 * @space:	its service's space; holds a reference
 * @task:	its task; holds a reference
 * @tid:	its name
 * @receiver:	its block is one of a receiver's
 * @call_word:	what it writes into the word of a thread it calls
 * @block:	its block, in the kernel's mapping; user space can write it
 * @ublock:	address of the block in its process
 * @lock:	mailbox and death
 * @dead:	will never run user code again, or was unregistered; under @lock
 * @died_waiting: so it was while a caller could run its context; set before @dead
 * @mailbox:	where its own context is; under @lock
 * @woken:	look again, somebody wants it to
 * @as_itself:	its task looks at its signals, and may be stopped there: it runs nobody
 *		else's context
 * @faulted:	address in another slot of which its task is about to be told that
 *		it cannot be reached, else 0; only its task's
 * @mail:	context handed over by the task that ran it; under @lock
 * @answer:	as a caller: to a call that was handed over; under @lock
 * @lazy_nr:	which call that is: an answer to another one is late; under @lock
 * @status:	answer to its lazily switched call
 * @result:	answer to its lazily switched call
 * @lazy_caller: whom it owes an answer; holds a reference; under @lock
 * @lazy_caller_nr: to which call of that one; under @lock
 * @answer_wq:	where it waits for an answer
 * @sampled_run: its task's run time at the last sample of its user time, in ns;
 *		together with @away_ns what belongs to its task, or to who has
 *		@lock while the mailbox is not closed
 * @sampled_system: its task's system time then, in ns
 * @clock_read:	it has read its CPU clock since the last look at this
 * @clock_floor: CPU time that it may have seen and keeps, in ns
 * @away_seen:	of the block's away_ticks, what is known already
 * @away_ns:	what its calls have used and was not charged to them yet, in ns
 * @watcher:	its file that is watched; changes owner by xchg()
 * @clock_offset: what its CLOCK_MONOTONIC is ahead of the kernel's, in ns
 * @timer:	looks at the deadline in @block
 * @timer_lock:	for @timer and its time in @block
 * @timer_dead:	it is not started any more; under @timer_lock
 * @timer_in_vain: how often in a row it has looked for nothing; under @timer_lock
 * @install:	task work that installs @mail
 * @kick:	task work that makes another task hand its context over
 * @kicked:	@kick is queued
 * @kicks:	how many have been done
 */
struct rpal_tcb {
	refcount_t ref;
	struct rcu_work free;
	struct hlist_node node;
	struct list_head grave;
	struct rpal_tcb *kept_for;
	struct rpal_tcb __rcu *remains;
	struct rpal_user *user;
	struct rpal_space *space;
	struct task_struct *task;
	u32 tid;
	bool receiver;
	u64 call_word;
	struct rpal_block *block;
	unsigned long ublock;

	raw_spinlock_t lock;
	bool dead;
	bool died_waiting;
	enum rpal_mailbox mailbox;
	bool woken;
	bool as_itself;
	unsigned long faulted;
	struct rpal_context mail;

	enum rpal_answer answer;
	u64 lazy_nr;
	s64 status;
	s64 result;
	struct rpal_tcb *lazy_caller;
	u64 lazy_caller_nr;
	wait_queue_head_t answer_wq;

	u64 sampled_run;
	u64 sampled_system;
	bool clock_read;
	u64 clock_floor;
	u64 away_seen[RPAL_AWAY];
	u64 away_ns[RPAL_AWAY];

	struct rpal_watcher *watcher;

	s64 clock_offset;
	struct hrtimer timer;
	raw_spinlock_t timer_lock;
	bool timer_dead;
	unsigned int timer_in_vain;

	struct callback_head install;
	struct callback_head kick;
	atomic_t kicked;
	unsigned int kicks;
};

/* State words. */
static inline u64 rpal_word(struct rpal_tcb *t)
{
	/* Pairs with whoever wrote it, in user space or here. */
	return smp_load_acquire(&t->block->word);
}

static inline unsigned int rpal_word_state(u64 word)
{
	return word & RPAL_ST_MASK;
}

/* Of a thread in a call: its caller's call_word. */
static inline u64 rpal_word_caller(struct rpal_tcb *t)
{
	return rpal_word(t) & ~(u64)RPAL_ST_PENDING;
}

static inline u32 rpal_word_tid(u64 word)
{
	return word >> 32;
}

/* thread.c */
struct rpal_tcb *rpal_thread_current(void);
struct rpal_tcb *rpal_thread_get_current(void);
struct rpal_tcb *rpal_thread_get_of(struct rpal_space *space,
				    unsigned int index);
struct rpal_tcb *rpal_thread_find(u32 tid);
struct rpal_tcb *rpal_thread_at(unsigned int slot, unsigned int index);
void rpal_thread_put(struct rpal_tcb *t);
void rpal_thread_drop(struct rpal_tcb *t);
void rpal_thread_kill(struct rpal_tcb *t);
void rpal_thread_bury(struct rpal_tcb *t);
void rpal_thread_answer(struct rpal_tcb *caller, u64 nr, s64 status, s64 result);
void rpal_thread_end_claim(struct rpal_tcb *t);
void rpal_thread_wake(struct rpal_tcb *t);
void rpal_thread_get(struct rpal_tcb *t);
bool rpal_thread_linked(struct rpal_tcb *a, struct rpal_tcb *b);

/* context.c */
bool rpal_context_of_guest(void);
void rpal_context_from_block(struct rpal_context *ctx, struct rpal_tcb *t,
			     unsigned long ip, s64 ax, s64 dx);
void rpal_context_live(struct rpal_context *ctx, struct pt_regs *regs,
		       bool syscall, bool trapped);
void rpal_context_fpu_from_block(void *image, struct rpal_tcb *t);
void rpal_context_fpu_save(struct rpal_context *ctx);
void rpal_context_fpu_own(struct rpal_tcb *t);
void rpal_context_enter(const struct rpal_context *ctx);
void rpal_context_install(struct rpal_context *ctx);
void rpal_context_go_home(struct rpal_tcb *t, unsigned long ip, s64 ax,
			  s64 dx);

/* borrow.c */
enum rpal_reason {
	RPAL_WHY_SYSCALL,
	RPAL_WHY_SIGNAL,
	RPAL_WHY_KICK,
	RPAL_WHY_FAULT,
	RPAL_WHY_EXIT,
};

enum rpal_outcome {
	RPAL_OWN,		/* the task runs its own context */
	RPAL_RESTORED,		/* an own or borrowed context was restored */
	RPAL_HANDED,		/* the receiver has it; this task waits for the answer */
	RPAL_SENT,		/* the receiver has it; no answer is due */
};

bool rpal_borrowing(struct rpal_tcb *t, struct pt_regs *regs);
bool rpal_not_itself(struct rpal_tcb *t, struct pt_regs *regs);
enum rpal_outcome rpal_hand_over(struct pt_regs *regs, enum rpal_reason why,
				 struct kernel_siginfo *info);
bool rpal_in_call(struct rpal_tcb *t);
struct rpal_tcb *rpal_borrowed(struct rpal_tcb *t);
struct rpal_tcb *rpal_callee(struct rpal_tcb *t);
struct rpal_tcb *rpal_caller(struct rpal_tcb *t);

/* watch.c */
void rpal_watch_end(struct rpal_tcb *t);

/* account.c */
void rpal_account_call(struct rpal_tcb *t, struct rpal_tcb *callee);
void rpal_account_syscall(struct rpal_tcb *t, struct pt_regs *regs);

/* kick.c */
/* Can a task be running another thread's context? */
enum rpal_runs {
	RPAL_RUNS_NOTHING,	/* no, whatever words say */
	RPAL_RUNS_HARDLY,	/* it waits for a page of its own code */
	RPAL_RUNS_MAYBE,
};

enum rpal_runs rpal_runs(struct rpal_tcb *t);
bool rpal_kick_task(struct rpal_tcb *t, struct task_struct *task);
enum rpal_runs rpal_kick(struct rpal_tcb *t);
void rpal_kick_home(struct rpal_tcb *t);

/* deadline.c */
void rpal_deadline_init(struct rpal_tcb *t);
void rpal_deadline_end(struct rpal_tcb *t);
ktime_t rpal_deadline_of(struct rpal_tcb *t);

/* wait.c */
/* What to do about an answer that does not come before the caller's deadline. */
enum rpal_patience {
	RPAL_WAIT_ON,		/* wait all the same */
	RPAL_ASK_AGAIN,		/* come back without it: it is still due */
	RPAL_GIVE_UP,		/* end the call: what comes then is dropped */
};

int rpal_take_answer(struct rpal_tcb *t, enum rpal_patience patience,
		     s64 *status, s64 *result);
void rpal_wait_init(void);
void rpal_wait_freed(unsigned int slot);
void rpal_wait_all(unsigned int slot);

#endif /* RPAL_THREAD_H */
