// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits per user: how much of what everybody shares, slots and kernel memory, one
 * user may have.
 *
 * A user is who had the real user id, as the initial user namespace sees it, when
 * the program was placed or the service registered; what a service has is its
 * user's, whatever its process becomes. CAP_SYS_RESOURCE in the initial namespace
 * exempts from all limits; what is beyond them is counted, too.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/slab.h>

#include "rpal.h"

/**
 * struct rpal_user - what one user has
 * @node:	in the list of users; under rpal_lock
 * @uid:	who it is
 * @refs:	whoever points here; under rpal_lock
 * @count:	how much there is; goes up under rpal_lock, down anywhere
 */
struct rpal_user {
	struct list_head node;
	kuid_t uid;
	unsigned int refs;
	atomic_t count[RPAL_NR_LIMITS];
};

static LIST_HEAD(users);	/* under rpal_lock */

/**
 * rpal_user_new() - memory for a user that is not known yet
 *
 * Context: may sleep.
 * Return: for rpal_user_get_locked() or kfree(); NULL without memory.
 */
struct rpal_user *rpal_user_new(void)
{
	struct rpal_user *user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);

	if (user)
		user->uid = current_uid();
	return user;
}

/**
 * rpal_user_get_locked() - the current task's user
 * @spare:	from rpal_user_new() in this task; becomes NULL if it was needed
 *
 * Context: rpal_lock held.
 * Return: the user, with a reference.
 */
struct rpal_user *rpal_user_get_locked(struct rpal_user **spare)
{
	struct rpal_user *user;

	lockdep_assert_held(&rpal_lock);
	list_for_each_entry(user, &users, node) {
		if (uid_eq(user->uid, (*spare)->uid))
			goto found;
	}
	user = *spare;
	*spare = NULL;
	list_add_tail(&user->node, &users);
found:
	user->refs++;
	return user;
}

/**
 * rpal_user_hold_locked() - one more reference
 * @user:	the user, of which there is one
 *
 * Context: rpal_lock held.
 * Return: the user.
 */
struct rpal_user *rpal_user_hold_locked(struct rpal_user *user)
{
	lockdep_assert_held(&rpal_lock);
	user->refs++;
	return user;
}

/**
 * rpal_user_put_locked() - give a reference back
 * @user:	the user
 *
 * Context: rpal_lock held.
 */
void rpal_user_put_locked(struct rpal_user *user)
{
	lockdep_assert_held(&rpal_lock);
	if (--user->refs)
		return;
	list_del(&user->node);
	kfree(user);
}

/**
 * rpal_charge_locked() - a user is to have one more of something
 * @user:	the user
 * @what:	of what
 * @exempt:	whatever the limit says
 *
 * Context: rpal_lock held: two cannot both get the last one.
 * Return: 0 or -EDQUOT.
 */
int rpal_charge_locked(struct rpal_user *user, enum rpal_limit what, bool exempt)
{
	unsigned int limit = READ_ONCE(rpal_user_limits[what]);

	lockdep_assert_held(&rpal_lock);
	if (limit && !exempt && atomic_read(&user->count[what]) >= limit)
		return -EDQUOT;
	atomic_inc(&user->count[what]);
	return 0;
}

/**
 * rpal_uncharge() - a user has one less of something
 * @user:	the user
 * @what:	of what
 *
 * Context: any.
 */
void rpal_uncharge(struct rpal_user *user, enum rpal_limit what)
{
	atomic_dec(&user->count[what]);
}

/**
 * rpal_limit_waived() - try once more, without limits
 * @err:	what the first try has come to
 * @exempt:	set to true if there are no limits for the current task
 *
 * Asks for the capability only when it is needed: that is noted in the task, and
 * a refusal in the audit log.
 *
 * Context: process context, under no lock.
 * Return: whether there is something to be tried again.
 */
bool rpal_limit_waived(int err, bool *exempt)
{
	if (err != -EDQUOT || *exempt)
		return false;
	*exempt = capable(CAP_SYS_RESOURCE);
	return *exempt;
}

/**
 * rpal_user_row() - what one of the users has
 * @nr:		which of them, from 0 on
 * @uid:	who it is
 * @count:	what it has
 *
 * Context: takes rpal_lock.
 * Return: whether there are so many.
 */
bool rpal_user_row(unsigned int nr, kuid_t *uid,
		   unsigned int count[RPAL_NR_LIMITS])
{
	struct rpal_user *user;
	unsigned int i;
	bool found = false;

	spin_lock(&rpal_lock);
	list_for_each_entry(user, &users, node) {
		found = !nr--;
		if (!found)
			continue;
		*uid = user->uid;
		for (i = 0; i < RPAL_NR_LIMITS; i++)
			count[i] = atomic_read(&user->count[i]);
		break;
	}
	spin_unlock(&rpal_lock);
	return found;
}
