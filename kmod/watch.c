// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file, typically an epoll instance, whose input is noted in the block of a
 * thread: an event loop that is busy finds out by one load whether it should ask
 * the kernel.
 *
 * Who owns a watcher is who has taken it out of its thread with xchg(). It goes
 * when another replaces it, and when the thread is buried: which happens to every
 * registered thread, before the hash's reference on it is given back. So while a
 * watcher is in a wait queue its thread exists, with the page of its block. The
 * index may have been given to another thread by then, if a caller has dropped
 * the dead one from the table: that one gets a piece of news too much.
 *
 * A watcher has a reference on its file, and the wait queue lives as long as that,
 * but for those that say otherwise with POLLFREE. No file needs a thread to
 * end, so there is no cycle; but a file that owns a service would not end it any
 * more when it is closed, and is refused.
 */
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>

#include "thread.h"

#define INPUT	(EPOLLIN | EPOLLERR | EPOLLHUP)

/**
 * struct rpal_watcher - a file is watched for a thread
 * @t:		the thread
 * @file:	the file; holds a reference
 * @head:	the file's wait queue, NULL when that has gone
 * @wait:	our entry in it
 * @table:	for getting there
 * @many:	the file has more than one
 */
struct rpal_watcher {
	struct rpal_tcb *t;
	struct file *file;
	wait_queue_head_t *head;
	wait_queue_entry_t wait;
	poll_table table;
	bool many;
};

/* User space changes the word, too. */
static void set_news(struct rpal_tcb *t)
{
	atomic_or(RPAL_NEWS_EVENT, (atomic_t *)&t->block->news);
}

/* With the lock of the wait queue, interrupts off. */
static int on_wake(wait_queue_entry_t *wait, unsigned int mode, int sync,
		   void *key)
{
	struct rpal_watcher *w = container_of(wait, struct rpal_watcher, wait);
	__poll_t events = key_to_poll(key);

	if (events & POLLFREE) {
		list_del_init(&wait->entry);
		/* Last, for now it may be freed; pairs with end(). */
		smp_store_release(&w->head, NULL);
	} else if (!events || (events & INPUT)) {
		set_news(w->t);
	}
	return 1;
}

static void on_queue(struct file *file, wait_queue_head_t *head,
		     poll_table *table)
{
	struct rpal_watcher *w = container_of(table, struct rpal_watcher, table);

	if (w->head) {
		w->many = true;
		return;
	}
	w->head = head;
	add_wait_queue(head, &w->wait);
}

static void end(struct rpal_watcher *w)
{
	wait_queue_head_t *head;

	if (!w)
		return;
	/* A wait queue that goes with POLLFREE is freed after a grace period. */
	rcu_read_lock();
	/* Pairs with on_wake(): it is done with us. */
	head = smp_load_acquire(&w->head);
	if (head)
		remove_wait_queue(head, &w->wait);
	rcu_read_unlock();
	fput(w->file);
	kfree(w);
}

static struct rpal_watcher *begin(struct rpal_tcb *t, struct file *file)
{
	struct rpal_watcher *w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);
	__poll_t ready;

	if (!w)
		return ERR_PTR(-ENOMEM);
	w->t = t;
	w->file = get_file(file);
	init_waitqueue_func_entry(&w->wait, on_wake);
	init_poll_funcptr(&w->table, on_queue);
	w->table._key = INPUT;
	ready = vfs_poll(file, &w->table);
	if (w->many) {
		end(w);
		return ERR_PTR(-EOPNOTSUPP);
	}
	if (ready & INPUT)
		set_news(t);
	return w;
}

static bool may_watch(struct file *file)
{
	struct rpal_file *ours = rpal_device_file(file);

	return file_can_poll(file) && (!ours || READ_ONCE(ours->channel));
}

static struct rpal_watcher *begin_with(struct rpal_tcb *t, int fd)
{
	struct rpal_watcher *w = ERR_PTR(-EPERM);
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (may_watch(file))
		w = begin(t, file);
	fput(file);
	return w;
}

/**
 * rpal_watch_end() - a thread's file is not watched any more
 * @t:		the thread
 *
 * Context: task context, under no lock; does not sleep.
 */
void rpal_watch_end(struct rpal_tcb *t)
{
	end(xchg(&t->watcher, NULL));
}

/* The current thread's file from now on; NULL: none. */
static int replace(struct rpal_tcb *t, struct rpal_watcher *w)
{
	end(xchg(&t->watcher, w));
	/*
	 * Another thread may have ended the service and looked here before: it
	 * has said so first, and xchg() orders both.
	 */
	if (!READ_ONCE(t->dead))
		return 0;
	rpal_watch_end(t);
	return -ENXIO;
}

/**
 * rpal_watch() - RPAL_IOC_WATCH
 * @file:	the service's file
 * @arg:	arguments, already copied
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -EBADF, -EOPNOTSUPP or -ENOMEM.
 */
int rpal_watch(struct rpal_file *file, const struct rpal_watch *arg)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_watcher *w = NULL;
	struct rpal_tcb *t;
	int err;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (arg->flags || arg->reserved)
		return -EINVAL;
	t = rpal_thread_get_current();
	if (!t)
		return -ENXIO;
	if (arg->fd != -1)
		w = begin_with(t, arg->fd);
	err = IS_ERR(w) ? PTR_ERR(w) : replace(t, w);
	rpal_thread_put(t);
	return err;
}
