// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notices of links that have ended, for the service at the other end: its file
 * becomes readable, and each can be read once. The memory for a notice is there
 * before there is a link, so none can get lost but by not being read.
 */
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "rpal.h"

/**
 * struct rpal_notice_node - a notice, or the memory for one
 * @node:	in the list
 * @notice:	what is read
 */
struct rpal_notice_node {
	struct list_head node;
	struct rpal_notice notice;
};

/**
 * rpal_notice_alloc() - memory for the notice that a link will need at its end
 *
 * Context: may sleep.
 * Return: to be passed to rpal_notice_add() or kfree(); NULL without memory.
 */
struct rpal_notice_node *rpal_notice_alloc(void)
{
	return kzalloc(sizeof(struct rpal_notice_node), GFP_KERNEL_ACCOUNT);
}

static void add_locked(struct rpal_file *file, struct rpal_notice_node *node,
		       bool first)
{
	if (first)
		list_add(&node->node, &file->gone);
	else
		list_add_tail(&node->node, &file->gone);
	file->nr_gone++;
}

/* The one that has waited longest, NULL if there is none. */
static struct rpal_notice_node *first_locked(struct rpal_file *file)
{
	struct rpal_notice_node *node;

	lockdep_assert_held(&rpal_lock);
	node = list_first_entry_or_null(&file->gone, struct rpal_notice_node,
					node);
	if (node) {
		list_del(&node->node);
		file->nr_gone--;
	}
	return node;
}

/*
 * The end of a link gives back what was charged for it, so that notices which nobody
 * reads would pile up without a limit. Their memory comes with the request: none is lost
 * to who reads them.
 */
static void make_room_locked(struct rpal_file *file)
{
	if (file->nr_gone >= RPAL_MAX_NOTICES)
		kfree(first_locked(file));
}

/**
 * rpal_notice_add() - a link has ended
 * @file:	owns the service at one end
 * @node:	memory, from rpal_notice_alloc()
 * @key:	of the service at the other end
 * @id:		its id
 * @reason:	RPAL_GONE_*
 *
 * Nobody is woken: see rpal_notice_wake(). If RPAL_MAX_NOTICES are not read yet, the
 * oldest goes.
 *
 * Context: rpal_lock held.
 */
void rpal_notice_add(struct rpal_file *file, struct rpal_notice_node *node,
		     u64 key, u32 id, u32 reason)
{
	lockdep_assert_held(&rpal_lock);
	make_room_locked(file);
	node->notice.key = key;
	node->notice.id = id;
	node->notice.reason = reason;
	add_locked(file, node, false);
}

/**
 * rpal_notice_wake() - there are new ones
 * @slot:	of the service that has got them
 *
 * Context: any, without rpal_lock: that is below all that a wake-up takes.
 */
void rpal_notice_wake(unsigned int slot)
{
	struct rpal_file *file = NULL;

	/* Files are freed after a grace period. */
	rcu_read_lock();
	spin_lock(&rpal_lock);
	if (rpal_slots[slot])
		file = rpal_slots[slot]->file;
	spin_unlock(&rpal_lock);
	if (file)
		wake_up_interruptible_poll(&file->wq, EPOLLIN | EPOLLRDNORM);
	rcu_read_unlock();
}

/**
 * rpal_notice_pending() - is there one to be read
 * @file:	a file that is or was a service's
 *
 * Context: any, without rpal_lock.
 */
bool rpal_notice_pending(struct rpal_file *file)
{
	bool pending;

	spin_lock(&rpal_lock);
	pending = !list_empty(&file->gone);
	spin_unlock(&rpal_lock);
	return pending;
}

/* The file may have become another service's since @space was looked at. */
static struct rpal_notice_node *take(struct rpal_file *file,
				     struct rpal_space *space)
{
	struct rpal_notice_node *node = NULL;

	spin_lock(&rpal_lock);
	if (file->space == space)
		node = first_locked(file);
	spin_unlock(&rpal_lock);
	return node;
}

static void give_back(struct rpal_file *file, struct rpal_space *space,
		      struct rpal_notice_node *node)
{
	spin_lock(&rpal_lock);
	/* Others may have come meanwhile: this one is the oldest. */
	if (file->space == space && file->nr_gone < RPAL_MAX_NOTICES) {
		add_locked(file, node, true);
		node = NULL;
	}
	spin_unlock(&rpal_lock);
	kfree(node);
}

/* Until there is one, or the service has ended. */
static int wait_for_one(struct rpal_file *file, struct rpal_space *space)
{
	return wait_event_interruptible(file->wq, rpal_notice_pending(file) ||
					READ_ONCE(file->space) != space) ?
	       -EINTR : 0;
}

/**
 * rpal_notice_read() - read() of a service's file
 * @file:	the file
 * @to:		user memory
 * @size:	its size in bytes
 * @nonblock:	do not wait for one
 *
 * Context: may sleep.
 * Return: bytes, whole notices; -ENXIO (no service), -EPERM (another process's),
 * -EINVAL (no room for one), -EAGAIN, -EINTR, -EFAULT (the notice can be read
 * again).
 */
ssize_t rpal_notice_read(struct rpal_file *file, char __user *to, size_t size,
			 bool nonblock)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_notice_node *node;
	ssize_t done = 0;
	int err = 0;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (size < sizeof(node->notice))
		return -EINVAL;
	while (!err && size - done >= sizeof(node->notice)) {
		node = take(file, space);
		if (!node && done)
			break;
		if (!node) {
			if (READ_ONCE(file->space) != space)
				return -ENXIO;
			err = nonblock ? -EAGAIN : wait_for_one(file, space);
			continue;
		}
		if (copy_to_user(to + done, &node->notice,
				 sizeof(node->notice))) {
			give_back(file, space, node);
			err = -EFAULT;
			continue;
		}
		kfree(node);
		done += sizeof(node->notice);
	}
	return done ?: err;
}

/**
 * rpal_notice_forget() - the service ends, and with it what it has not read
 * @file:	the file that owned it
 *
 * Context: rpal_lock held; no notice is added any more.
 */
void rpal_notice_forget(struct rpal_file *file)
{
	struct rpal_notice_node *node;

	while ((node = first_locked(file)))
		kfree(node);
}
