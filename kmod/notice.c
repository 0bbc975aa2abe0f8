// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notices of links that have ended, for the service at the other end: its file
 * becomes readable, and each can be read once.
 *
 * The memory for a notice is there before there is a link, so none can get
 * lost. Whoever waits for them waits at something that lives as long as the
 * file, which may outlive the service.
 */
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "rpal.h"

/**
 * struct rpal_notices - of one file
 * @ref:	references: the file, the service that is registered on it
 * @wq:		who waits for them
 * @list:	those that were not read yet; under rpal_lock
 */
struct rpal_notices {
	refcount_t ref;
	wait_queue_head_t wq;
	struct list_head list;
};

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
 * rpal_notices_new() - for a file
 *
 * Context: may sleep.
 * Return: with one reference, or NULL without memory.
 */
struct rpal_notices *rpal_notices_new(void)
{
	struct rpal_notices *n = kzalloc(sizeof(*n), GFP_KERNEL_ACCOUNT);

	if (!n)
		return NULL;
	refcount_set(&n->ref, 1);
	init_waitqueue_head(&n->wq);
	INIT_LIST_HEAD(&n->list);
	return n;
}

/**
 * rpal_notices_get() - take a reference
 * @n:		of which the caller has one, or is kept from going by rpal_lock
 *
 * Context: any.
 * Return: @n.
 */
struct rpal_notices *rpal_notices_get(struct rpal_notices *n)
{
	refcount_inc(&n->ref);
	return n;
}

/**
 * rpal_notices_put() - give a reference back
 * @n:		notices, or NULL
 *
 * Context: any, without rpal_lock.
 */
void rpal_notices_put(struct rpal_notices *n)
{
	struct rpal_notice_node *at, *next;

	if (!n || !refcount_dec_and_test(&n->ref))
		return;
	list_for_each_entry_safe(at, next, &n->list, node)
		kfree(at);
	kfree(n);
}

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

/**
 * rpal_notice_add() - a link has ended
 * @n:		notices of the service at one end
 * @node:	memory, from rpal_notice_alloc()
 * @key:	of the service at the other end
 * @id:		its id
 * @reason:	RPAL_GONE_*
 *
 * Nobody is woken: see rpal_notices_wake().
 *
 * Context: rpal_lock held.
 */
void rpal_notice_add(struct rpal_notices *n, struct rpal_notice_node *node,
		     u64 key, u32 id, u32 reason)
{
	lockdep_assert_held(&rpal_lock);
	node->notice.key = key;
	node->notice.id = id;
	node->notice.reason = reason;
	list_add_tail(&node->node, &n->list);
}

/**
 * rpal_notices_wake() - there are new ones
 * @n:		notices
 *
 * Context: any, without rpal_lock.
 */
void rpal_notices_wake(struct rpal_notices *n)
{
	wake_up_interruptible_poll(&n->wq, EPOLLIN | EPOLLRDNORM);
}

static bool is_empty(struct rpal_notices *n)
{
	bool empty;

	spin_lock(&rpal_lock);
	empty = list_empty(&n->list);
	spin_unlock(&rpal_lock);
	return empty;
}

/**
 * rpal_notices_poll() - poll() of a service's file
 * @n:		its notices
 * @filp:	the file
 * @wait:	of the caller
 *
 * Context: process context.
 * Return: EPOLL* bits.
 */
__poll_t rpal_notices_poll(struct rpal_notices *n, struct file *filp,
			   poll_table *wait)
{
	poll_wait(filp, &n->wq, wait);
	return is_empty(n) ? 0 : EPOLLIN | EPOLLRDNORM;
}

static struct rpal_notice_node *take(struct rpal_notices *n)
{
	struct rpal_notice_node *node;

	spin_lock(&rpal_lock);
	node = list_first_entry_or_null(&n->list, struct rpal_notice_node, node);
	if (node)
		list_del(&node->node);
	spin_unlock(&rpal_lock);
	return node;
}

static void give_back(struct rpal_notices *n, struct rpal_notice_node *node)
{
	spin_lock(&rpal_lock);
	list_add(&node->node, &n->list);
	spin_unlock(&rpal_lock);
}

/**
 * rpal_notices_read() - read() of a service's file
 * @n:		its notices
 * @to:		user memory
 * @size:	its size in bytes
 * @nonblock:	do not wait for one
 *
 * Context: may sleep.
 * Return: bytes, whole notices; -EINVAL (no room for one), -EAGAIN, -EINTR,
 * -EFAULT (the notice can be read again).
 */
ssize_t rpal_notices_read(struct rpal_notices *n, char __user *to, size_t size,
			  bool nonblock)
{
	struct rpal_notice_node *node;
	ssize_t done = 0;

	if (size < sizeof(node->notice))
		return -EINVAL;
	while (size - done >= sizeof(node->notice)) {
		node = take(n);
		if (!node) {
			if (done || nonblock)
				break;
			if (wait_event_interruptible(n->wq, !is_empty(n)))
				return -EINTR;
			continue;
		}
		if (copy_to_user(to + done, &node->notice,
				 sizeof(node->notice))) {
			give_back(n, node);
			return done ?: -EFAULT;
		}
		kfree(node);
		done += sizeof(node->notice);
	}
	return done ?: -EAGAIN;
}
