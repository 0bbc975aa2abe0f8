// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deadlines of calls.
 *
 * A caller writes into its block until when it is prepared to wait. A timer looks
 * there: if that time has come, whoever runs the call hands it over, and the
 * caller, which waits for the answer then, gives up. A caller whose calls all end
 * in time asks for the timer once in a while, not once for each.
 *
 * The block can be written by peers, so a deadline is no more than a wish: it ends
 * the caller's own calls early, or late.
 */
#include <linux/hrtimer.h>
#include <linux/time_namespace.h>

#include "thread.h"

/*
 * A deadline that is moved on and on must not make a storm of interrupts, least of all one
 * of a thread that makes no calls: for that one the step doubles each time, up to 16 of
 * these. A deadline can be found late by so much, once.
 */
#define MIN_STEP_NS	NSEC_PER_MSEC
#define MAX_STEPS	4U
/*
 * Who was not in the call yet when its time came must be called back later. Who is in none
 * again and again has just not taken its deadline back, and who does not come home waits
 * for something else: up to 128 times as late.
 */
#define AGAIN_NS	(10 * NSEC_PER_MSEC)
#define MAX_AGAIN	7U

/**
 * rpal_deadline_of() - until when a thread's call may last
 * @t:		the thread
 *
 * Context: any.
 * Return: by the kernel's clock; KTIME_MAX: for ever.
 */
ktime_t rpal_deadline_of(struct rpal_tcb *t)
{
	s64 ns = READ_ONCE(t->block->deadline);

	if (ns <= 0 || (t->clock_offset < 0 && ns > KTIME_MAX + t->clock_offset))
		return KTIME_MAX;
	return max_t(s64, ns - t->clock_offset, 0);
}

/* In a call of its own, on whatever task, or waiting for the answer to one. */
static bool is_calling(struct rpal_tcb *t)
{
	bool calling;

	rcu_read_lock();
	calling = rpal_callee(t) || READ_ONCE(t->answer) == RPAL_ANSWER_DUE;
	rcu_read_unlock();
	return calling;
}

/*
 * Look at the deadline: true if it has passed and somebody has asked, or is in a call. As
 * long as there is one, go on.
 */
static bool look_locked(struct rpal_tcb *t, bool asked)
{
	ktime_t until, next, now = ktime_get();
	bool calling, over;

	/*
	 * The caller sets the deadline and then looks at the timer's time, we do
	 * it the other way round: one of us sees the other.
	 */
	smp_store_mb(t->block->timer, 0);
	until = rpal_deadline_of(t);
	if (until == KTIME_MAX || t->timer_dead)
		return false;
	calling = is_calling(t);
	over = !ktime_after(until, now);
	if (asked)
		t->timer_in_vain = 0;
	if (!over)
		next = max(until, ktime_add_ns(now, MIN_STEP_NS <<
					       min(t->timer_in_vain, MAX_STEPS)));
	else
		next = ktime_add_ns(now, AGAIN_NS << min(t->timer_in_vain, MAX_AGAIN));
	t->timer_in_vain = calling && !over ? 0 : t->timer_in_vain + 1;
	WRITE_ONCE(t->block->timer, next + t->clock_offset);
	hrtimer_start(&t->timer, next, HRTIMER_MODE_ABS);
	return over && (calling || asked);
}

static void look(struct rpal_tcb *t, bool asked)
{
	unsigned long flags;
	bool over;

	raw_spin_lock_irqsave(&t->timer_lock, flags);
	over = look_locked(t, asked);
	raw_spin_unlock_irqrestore(&t->timer_lock, flags);
	if (over)
		rpal_kick_home(t);
}

static enum hrtimer_restart on_timer(struct hrtimer *timer)
{
	look(container_of(timer, struct rpal_tcb, timer), false);
	return HRTIMER_NORESTART;
}

/**
 * rpal_deadline_init() - prepare a new thread
 * @t:		the thread, the current task's
 *
 * Context: task context.
 */
void rpal_deadline_init(struct rpal_tcb *t)
{
	struct timespec64 offset = {};

	timens_add_monotonic(&offset);
	t->clock_offset = timespec64_to_ns(&offset);
	raw_spin_lock_init(&t->timer_lock);
	hrtimer_init(&t->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	t->timer.function = on_timer;
}

/**
 * rpal_deadline_end() - a thread has no deadlines any more
 * @t:		the thread; the caller has a reference
 *
 * Context: task context, under no lock.
 */
void rpal_deadline_end(struct rpal_tcb *t)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&t->timer_lock, flags);
	t->timer_dead = true;
	raw_spin_unlock_irqrestore(&t->timer_lock, flags);
	hrtimer_cancel(&t->timer);
}

/**
 * rpal_deadline() - RPAL_IOC_DEADLINE
 * @file:	the service's file
 * @arg:	arguments, already copied
 *
 * Context: task context.
 * Return: 0, -ENXIO, -EPERM, -EINVAL or -ESRCH.
 */
int rpal_deadline(struct rpal_file *file, const struct rpal_deadline *arg)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_tcb *t;
	int err = -ESRCH;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (arg->flags || arg->reserved)
		return -EINVAL;
	if (RPAL_TID_SERVICE(arg->tid) != space->slot)
		return -ESRCH;
	/* It may be ending, and a kick outlives us: not without a reference. */
	t = rpal_thread_get_of(space, RPAL_TID_INDEX(arg->tid));
	if (!t)
		return -ESRCH;
	if (!READ_ONCE(t->dead)) {
		look(t, true);
		err = 0;
	}
	rpal_thread_put(t);
	return err;
}
