// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU time of called code, charged to the receiver whose code it is.
 *
 * The scheduler sees one task run, the caller's. Where the kernel accounts user
 * time to it while it runs another thread's context, the same time is taken
 * from it and given to that thread's task: user time, and the exact run time to
 * which the kernel scales user and system time. What is taken is given, so no
 * time is made or lost. CPU bandwidth, cgroups and the CPU's own figures are the
 * caller's: its task is what the scheduler has run.
 *
 * The kernel samples with the tick, and a whole tick may be charged for a part
 * of it. So that no thread sees its own CPU clock go back, nothing is taken from
 * before the last time it has read that clock.
 */
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/wait.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "hook.h"
#include "sym.h"
#include "thread.h"

/* With the task pinned, so that the scheduler does not write these meanwhile. */
static int add_runtime(struct task_struct *task, void *arg)
{
	s64 ns = *(s64 *)arg;

	task->se.sum_exec_runtime += ns;
	/* The difference is how long it has had the CPU, which has not changed. */
	task->se.prev_sum_exec_runtime += ns;
	return 0;
}

static void add_time(struct task_struct *task, s64 ns)
{
	rpal_k_task_call_func(task, add_runtime, &ns);
	task->utime += ns;
	account_group_user_time(task, ns);
	account_group_exec_runtime(task, ns);
}

/*
 * From the current task to a thread's that it runs the code of. That thread's
 * task sleeps in our wait, so nobody else adds to its user time; and while it is
 * not dead its times have not yet been added up for the last time.
 */
static void move_time(struct rpal_tcb *to, s64 ns)
{
	/* In an interrupt: it may be our own task that holds it. */
	if (!raw_spin_trylock(&to->lock))
		return;
	if (!to->dead) {
		add_time(current, -ns);
		add_time(to->task, ns);
		rpal_count_many(RPAL_STAT_MOVED_NS, ns);
	}
	raw_spin_unlock(&to->lock);
}

/* How much can be taken without turning back a clock that it has read. */
static u64 movable(struct rpal_tcb *t, u64 cputime)
{
	u64 runtime = rpal_k_task_sched_runtime(current);

	if (READ_ONCE(t->clock_read)) {
		t->clock_read = false;
		t->clock_floor = runtime;
	}
	return min(cputime, runtime - min(runtime, t->clock_floor));
}

/* In place of account_user_time(), for the current task. */
static void account_user_time_of_called(struct task_struct *task, u64 cputime)
{
	struct rpal_tcb *t, *callee;
	u64 ns;

	rpal_k_account_user_time(task, cputime);
	rcu_read_lock();
	t = rpal_thread_current();
	callee = t ? rpal_borrowed(t) : NULL;
	if (callee) {
		ns = movable(t, cputime);
		if (ns)
			move_time(callee, ns);
	}
	rcu_read_unlock();
}

/* account_user_time(task, cputime), with interrupts off */
RPAL_CALLBACK(rpal_on_account_user_time)
{
	struct rpal_tcb *t;

	if (!rpal_maybe_ours() || !READ_ONCE(rpal_account) ||
	    (struct task_struct *)rpal_fregs(fregs)->di != current)
		return;
	rcu_read_lock();
	t = rpal_thread_current();
	if (t && READ_ONCE(t->block->callee))
		rpal_divert(fregs, parent_ip, account_user_time_of_called);
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
