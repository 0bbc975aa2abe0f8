// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU time of called code, charged to the receiver whose code it is.
 *
 * The scheduler sees one task run, the caller's. Where the kernel accounts user
 * time to it, what other threads' contexts have used of that is taken from it
 * and given to their tasks: user time, and the exact run time to which the
 * kernel scales user and system time. What is taken is given, so no time is made
 * or lost. CPU bandwidth, cgroups and the CPU's own figures are the caller's:
 * its task is what the scheduler has run.
 *
 * There are two ways to know how much that is. With ticks, the time of a tick
 * goes to whose code it has interrupted. With time stamps, which are there for
 * CPUs without ticks, callers say how long their calls have taken; that is
 * user space's word, and counts only as far as the kernel has seen the caller
 * run itself.
 *
 * What a tick charges may have been used before a thread last read its own CPU
 * clock. So that no such clock goes back, nothing is taken from before.
 */
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/tick.h>
#include <linux/wait.h>
#include <asm/syscall.h>
#include <asm/tsc.h>
#include <asm/unistd.h>

#include "hook.h"
#include "mailbox.h"
#include "sym.h"
#include "thread.h"

/* A longer call than this, in seconds, is none. */
#define LONGEST		1000

/**
 * rpal_account_wants_stamps() - are callers to say how long calls take
 *
 * Context: any.
 */
bool rpal_account_wants_stamps(void)
{
	int account = READ_ONCE(rpal_account);

	if (!tsc_khz || check_tsc_unstable())
		return false;
	return account < 0 ? tick_nohz_full_enabled() : account == 2;
}

/* --------------------------------------------------------- moving time */

/* With the task pinned, so that the scheduler does not write these meanwhile. */
static int add_runtime(struct task_struct *task, void *arg)
{
	s64 ns = *(s64 *)arg;

	task->se.sum_exec_runtime += ns;
	/* The difference is how long it has had the CPU, which has not changed. */
	task->se.prev_sum_exec_runtime += ns;
	return 0;
}

/**
 * struct share - CPU time, as the kernel counts it
 * @run:	exact time on a CPU, in ns
 * @user:	user time, in ns: samples; what is shown is @run in this proportion
 */
struct share {
	s64 run;
	s64 user;
};

/*
 * To how many threads time is given at once: in a tick, with interrupts off. What is
 * left then is given at the next one.
 */
#define MAX_MOVES	16

static void add_time(struct task_struct *task, s64 run, s64 user)
{
	rpal_k_task_call_func(task, add_runtime, &run);
	task->utime += user;
#ifdef CONFIG_TASK_XACCT
	/* What is not there any more has been counted, and what is there now will not be. */
	task->acct_timexpd += user;
#endif
	account_group_user_time(task, user);
	account_group_exec_runtime(task, run);
}

static void settle(struct rpal_tcb *t, struct share *budget, int depth, int *moves);

/*
 * From one task to a thread's whose code it has run. That thread's task must be
 * in our wait, where no user time is added to it by anybody else, and may not
 * leave before the lock is free; and it must not be dead, for then its times have
 * been added up for the last time.
 */
static bool move_time(struct task_struct *from, struct rpal_tcb *to,
		      struct share *what, int depth, int *moves)
{
	struct share given = *what;
	bool moved = false;

	if (!*moves)
		return false;
	--*moves;
	/* In an interrupt: it may be our own task that holds it. */
	if (!raw_spin_trylock(&to->lock))
		return false;
	if (!to->dead && to->mailbox != RPAL_MAIL_CLOSED && to->task != from) {
		add_time(from, -given.run, -given.user);
		add_time(to->task, given.run, given.user);
		to->sampled_run += given.run;
		rpal_count_many(RPAL_STAT_MOVED_NS, given.run);
		/* Of that, it may have used some for calls of its own. */
		if (depth < RPAL_MAX_DEPTH)
			settle(to, &given, depth + 1, moves);
		moved = true;
	}
	raw_spin_unlock(&to->lock);
	return moved;
}

/*
 * What the current task has used in user mode since it was here last: of the
 * time that it has run, the part that the samples say. But no clock that it has
 * read is turned back.
 */
static struct share used(struct rpal_tcb *t, u64 cputime)
{
	u64 run = rpal_k_task_sched_runtime(current);
	u64 system = current->stime;
	u64 since = run - min(run, t->sampled_run);
	struct share share;

	share.run = mul_u64_u64_div_u64(since, cputime,
					cputime + system -
					min(system, t->sampled_system));
	t->sampled_run = run;
	t->sampled_system = system;
	if (READ_ONCE(t->clock_read)) {
		t->clock_read = false;
		t->clock_floor = run;
	}
	share.run = min_t(u64, share.run, run - min(run, t->clock_floor));
	share.user = min_t(u64, share.run, cputime);
	return share;
}

/* -------------------------------------------------------------- stamps */

static u64 ns_of(u64 ticks)
{
	/* Clocks that disagree, or somebody who lies. */
	if (ticks > (u64)tsc_khz * 1000 * LONGEST)
		return 0;
	return div_u64(ticks * 1000000, tsc_khz);
}

/* What has ended, as far as we did not know of it. */
static u64 ended(struct rpal_tcb *t, unsigned int i)
{
	u64 ticks = READ_ONCE(t->block->away_ticks[i]);
	u64 ns = ns_of(ticks - t->away_seen[i]);

	t->away_seen[i] = ticks;
	return ns;
}

/**
 * rpal_account_call() - a call has lasted until now
 * @t:		the caller, not in user mode on any CPU: the current thread, or
 *		one that is in our wait, with its lock held
 * @callee:	whom it calls
 *
 * If it goes on, what comes is taken for another one.
 *
 * Context: any.
 */
void rpal_account_call(struct rpal_tcb *t, struct rpal_tcb *callee)
{
	u64 begin = READ_ONCE(t->block->stamp);
	unsigned int i = callee->tid % RPAL_AWAY;
	u64 now;

	if (!begin || !tsc_khz || !READ_ONCE(rpal_account))
		return;
	now = rdtsc_ordered();
	WRITE_ONCE(t->block->stamp, now);
	WRITE_ONCE(t->block->away_tid[i], callee->tid);
	t->away_ns[i] += ns_of(now - begin);
}

/* What a thread has used goes to whom it has called, but no more than @budget. */
static void settle(struct rpal_tcb *t, struct share *budget, int depth, int *moves)
{
	struct rpal_tcb *to = rpal_callee(t);
	unsigned int i;

	if (to)
		rpal_account_call(t, to);
	for (i = 0; i < RPAL_AWAY; i++) {
		u64 owed = t->away_ns[i] + ended(t, i);
		struct share what;

		what.run = min_t(u64, budget->run, owed);
		what.user = min(what.run, budget->user);
		to = rpal_thread_find(READ_ONCE(t->block->away_tid[i]));
		if (what.run && to && to != t && rpal_thread_linked(t, to) &&
		    move_time(t->task, to, &what, depth, moves)) {
			t->sampled_run -= what.run;
			budget->run -= what.run;
			budget->user -= what.user;
			owed -= what.run;
		}
		/* The kernel has not yet seen it all; or it is a lie. */
		t->away_ns[i] = min_t(u64, owed, NSEC_PER_SEC);
	}
}

/* Without stamps: whose code was hit has used it all. */
static void charge_top(struct rpal_tcb *t, struct share *share)
{
	struct rpal_tcb *callee = rpal_borrowed(t);
	int moves = 1;

	if (callee && move_time(t->task, callee, share, RPAL_MAX_DEPTH, &moves))
		t->sampled_run -= share->run;
}

/* Nothing is charged; nor is it later, when that is turned on. */
static void forget(struct rpal_tcb *t)
{
	unsigned int i;

	for (i = 0; i < RPAL_AWAY; i++) {
		ended(t, i);
		t->away_ns[i] = 0;
	}
}

/* --------------------------------------------------------------- hooks */

/* In place of account_user_time(), for the current task. */
static void account_user_time_of_called(struct task_struct *task, u64 cputime)
{
	int moves = MAX_MOVES;
	struct rpal_tcb *t;
	struct share share;

	rpal_k_account_user_time(task, cputime);
	rcu_read_lock();
	t = rpal_thread_current();
	if (t && cputime && rpal_mailbox(t) == RPAL_MAIL_CLOSED) {
		share = used(t, cputime);
		if (!READ_ONCE(rpal_account))
			forget(t);
		else if (READ_ONCE(t->block->stamp))
			settle(t, &share, 0, &moves);
		else if (share.run)
			charge_top(t, &share);
	}
	rcu_read_unlock();
}

/* account_user_time(task, cputime), with interrupts off */
RPAL_CALLBACK(rpal_on_account_user_time)
{
	if (!rpal_maybe_ours() ||
	    (struct task_struct *)regs->di != current)
		return;
	rcu_read_lock();
	if (rpal_thread_current()) {
		rpal_hook_fired(hook);
		rpal_divert(regs, account_user_time_of_called);
	}
	rcu_read_unlock();
}

/**
 * rpal_account_syscall() - a thread makes a system call as itself
 * @t:		the current thread
 * @regs:	its registers
 *
 * Context: the task itself.
 */
void rpal_account_syscall(struct rpal_tcb *t, struct pt_regs *regs)
{
	if (in_ia32_syscall()) {
		WRITE_ONCE(t->clock_read, true);
		return;
	}
	switch (syscall_get_nr(current, regs)) {
	case __NR_clock_gettime:
	case __NR_getrusage:
	case __NR_times:
		WRITE_ONCE(t->clock_read, true);
	}
}
