/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a thread's own context is, as the kernel knows it. What user space says in the
 * thread's word is believed only as far as it agrees with this.
 *
 *	from		to		who			when
 *
 *	CLOSED		EMPTY		its task, wait.c	it goes to sleep in our wait
 *	EMPTY		CLOSED		its task, wait.c	the wait is over, nobody has come
 *	EMPTY		FILLED		its caller, borrow.c	its word is LAZY then
 *	FILLED		READY		its caller, borrow.c	all of the chain are filled
 *	READY		CLOSED		its task, wait.c	it has taken the context
 *
 * There are no others. A thread that dies stays where it is; its task goes on as far as
 * CLOSED.
 */
#ifndef RPAL_MAILBOX_H
#define RPAL_MAILBOX_H

#include <linux/bug.h>
#include <linux/lockdep.h>

#include "thread.h"

/**
 * rpal_mailbox() - where a thread's context is
 * @t:		the thread
 *
 * Context: any. Without the thread's lock the answer may be old by an instant, but for
 * what the current task alone changes. What came before a change is seen with it.
 */
static inline enum rpal_mailbox rpal_mailbox(const struct rpal_tcb *t)
{
	/* Pairs with rpal_mailbox_move(). */
	return smp_load_acquire(&t->mailbox);
}

/**
 * rpal_mailbox_move() - it is somewhere else from now on
 * @t:		the thread
 * @from:	where it was
 * @to:		where it is
 *
 * Context: the thread's lock held.
 */
static inline void rpal_mailbox_move(struct rpal_tcb *t, enum rpal_mailbox from,
				     enum rpal_mailbox to)
{
	lockdep_assert_held(&t->lock);
	/* User space changes words, not this. */
	if (WARN_ON_ONCE(t->mailbox != from))
		return;
	/* With what is in the mailbox; pairs with rpal_mailbox(). */
	smp_store_release(&t->mailbox, to);
}

#endif /* RPAL_MAILBOX_H */
