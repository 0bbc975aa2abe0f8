// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kicks: having a task hand over the context of another thread that it runs.
 *
 * Whose task that is, words say which user space can write. They lead only over links,
 * between threads of which one says that it calls and the kernel has the other in its
 * wait. And a task that stands still in a way in which it can run nobody's context is
 * not waited for: else who has written such a word could not be stopped, frozen or
 * traced as long as that task stands still.
 */
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/task_work.h>

#include "sym.h"
#include "thread.h"

static void kick_work(struct callback_head *work)
{
	struct rpal_tcb *t = container_of(work, struct rpal_tcb, kick);

	rpal_hand_over(current_pt_regs(), RPAL_WHY_KICK, NULL);
	WRITE_ONCE(t->kicks, t->kicks + 1);
	atomic_set_release(&t->kicked, 0);
	rpal_thread_wake(t);
	rpal_thread_put(t);
}

/* Whose task runs a thread's context: down the callers. With a reference. */
static struct rpal_tcb *runner_of(struct rpal_tcb *t)
{
	struct rpal_tcb *at = t, *runner = NULL;
	int depth;

	rcu_read_lock();
	for (depth = 0; at && depth <= RPAL_MAX_DEPTH; depth++) {
		if (rpal_word_state(rpal_word(at)) != RPAL_ST_CALL) {
			if (at != t && refcount_inc_not_zero(&at->ref))
				runner = at;
			break;
		}
		at = rpal_caller(at);
	}
	rcu_read_unlock();
	return runner;
}

struct look {
	struct rpal_tcb *t;
	enum rpal_runs runs;
};

/*
 * With the task pinned: if it is blocked it stays so, and its registers are valid. One that
 * exits has handed over what it had, and may have no stack any more, where these are.
 */
static int look_at(struct task_struct *task, void *arg)
{
	struct pt_regs *regs = task_pt_regs(task);
	struct look *look = arg;

	if (task->flags & PF_EXITING)
		look->runs = RPAL_RUNS_NOTHING;
	else if (task->on_rq)
		look->runs = RPAL_RUNS_MAYBE;
	else if ((long)regs->orig_ax >= 0)
		/* In a system call; those of borrowed code do not begin. */
		look->runs = RPAL_RUNS_NOTHING;
	else if (rpal_in_slot(look->t->space, regs->ip, 1))
		/* Waits for a page of its own code: of a trampoline at best. */
		look->runs = RPAL_RUNS_HARDLY;
	else
		look->runs = RPAL_RUNS_MAYBE;
	return 0;
}

/**
 * rpal_runs() - can a thread's task be running another thread's context
 * @t:		the thread; the caller has a reference
 *
 * Context: any but with the task's own locks.
 * Return: what can be seen of the task.
 */
enum rpal_runs rpal_runs(struct rpal_tcb *t)
{
	struct look look = { .t = t, .runs = RPAL_RUNS_NOTHING };

	if (READ_ONCE(t->as_itself))
		return RPAL_RUNS_NOTHING;
	if (t->task == current)
		return RPAL_RUNS_MAYBE;
	rpal_k_task_call_func(t->task, look_at, &look);
	return look.runs;
}

/**
 * rpal_kick_task() - have a task hand over what it has borrowed
 * @t:		thread on whose behalf, woken afterwards; the caller has a reference
 * @task:	the task
 *
 * Context: any.
 * Return: false if the task is exiting.
 */
bool rpal_kick_task(struct rpal_tcb *t, struct task_struct *task)
{
	if (atomic_cmpxchg(&t->kicked, 0, 1))
		return true;
	rpal_count(RPAL_STAT_KICKS);
	rpal_thread_get(t);
	init_task_work(&t->kick, kick_work);
	if (!task_work_add(task, &t->kick, TWA_RESUME))
		return true;
	atomic_set(&t->kicked, 0);
	rpal_thread_put(t);
	return false;
}

/**
 * rpal_kick() - have a thread's context handed over
 * @t:		the thread, whose word says that it is in a call; the caller has a
 *		reference
 *
 * Context: any but hard interrupts.
 * Return: what can be seen of the task that seems to run it, which is kicked unless it
 * runs nothing.
 */
enum rpal_runs rpal_kick(struct rpal_tcb *t)
{
	struct rpal_tcb *runner = runner_of(t);
	enum rpal_runs runs;

	if (!runner)
		return RPAL_RUNS_NOTHING;
	runs = rpal_runs(runner);
	if (runs != RPAL_RUNS_NOTHING && !rpal_kick_task(t, runner->task))
		runs = RPAL_RUNS_NOTHING;
	rpal_thread_put(runner);
	return runs;
}

/**
 * rpal_kick_home() - a thread is to have its own task again, and to look around
 * @t:		the thread: a caller, or whatever it is; the caller has a reference,
 *		or is its timer
 *
 * Context: any, also a hard interrupt.
 */
void rpal_kick_home(struct rpal_tcb *t)
{
	struct rpal_tcb *runner = runner_of(t);

	/* A caller that is itself called runs on somebody else's task. */
	rpal_kick_task(t, runner ? runner->task : t->task);
	if (runner)
		rpal_thread_put(runner);
	rpal_thread_wake(t);
	wake_up(&t->answer_wq);
}
