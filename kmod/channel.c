// SPDX-License-Identifier: GPL-2.0-only
/*
 * Channels: files that peers can make readable, for event loops that sleep in
 * epoll_wait() and have no thread in our wait.
 *
 * The table of a service's channels is allocated at the first use of its slot and
 * kept. Entries change under rpal_lock and are read under RCU: files are freed
 * after a grace period, and what is done to a file that is no channel any more
 * does nothing.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "rpal.h"

#define NR_CHANNELS	1024	/* of one service; their numbers begin with 1 */

static struct rpal_file __rcu **tables[RPAL_NR_SLOTS];

static struct rpal_file __rcu **table_of(unsigned int slot)
{
	/* Pairs with the cmpxchg() in make_table(). */
	return smp_load_acquire(&tables[slot]);
}

static int make_table(unsigned int slot)
{
	struct rpal_file __rcu **table;

	if (table_of(slot))
		return 0;
	table = kvcalloc(NR_CHANNELS, sizeof(*table), GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	if (cmpxchg(&tables[slot], NULL, table))
		kvfree(table);
	return 0;
}

/* ----------------------------------------------------------- begin and end */

/* Its number, or why not. */
static int begin_locked(struct rpal_file *file, struct rpal_space *space)
{
	struct rpal_file __rcu **table = table_of(space->slot);
	unsigned int i;

	if (file->space || file->channel)
		return -EBUSY;
	/* It may have ended meanwhile. */
	if (!space->key)
		return -ENXIO;
	for (i = 0; i < NR_CHANNELS; i++) {
		if (rcu_access_pointer(table[i]))
			continue;
		atomic64_set(&file->notices, 0);
		file->channel_of = space;
		WRITE_ONCE(file->channel, i + 1);
		space->nr_channels++;
		rcu_assign_pointer(table[i], file);
		return i + 1;
	}
	return -ENOSPC;
}

static int begin(struct rpal_file *file, struct file *service)
{
	struct rpal_file *owner = rpal_device_file(service);
	struct rpal_space *space;
	int ret;

	if (!owner)
		return -EINVAL;
	space = rpal_service_caller(owner);
	if (IS_ERR(space))
		return PTR_ERR(space);
	ret = make_table(space->slot);
	if (ret)
		return ret;
	spin_lock(&rpal_lock);
	ret = begin_locked(file, space);
	spin_unlock(&rpal_lock);
	return ret;
}

static void end_locked(struct rpal_file *file)
{
	if (!file->channel)
		return;
	RCU_INIT_POINTER(tables[file->channel_of->slot][file->channel - 1],
			 NULL);
	file->channel_of->nr_channels--;
	WRITE_ONCE(file->channel, 0);
}

/**
 * rpal_channel_begin() - RPAL_IOC_CHANNEL
 * @file:	the file that is to be a channel
 * @arg:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -EBADF, -EBUSY, -ENOSPC or -ENOMEM.
 */
int rpal_channel_begin(struct rpal_file *file, struct rpal_channel *arg)
{
	struct file *service;
	int ret;

	if (arg->flags)
		return -EINVAL;
	service = fget(arg->service);
	if (!service)
		return -EBADF;
	ret = begin(file, service);
	fput(service);
	if (ret < 0)
		return ret;
	arg->number = ret;
	return 0;
}

/**
 * rpal_channel_end() - a file is no channel any more
 * @file:	the file, channel or not
 *
 * Context: process context.
 */
void rpal_channel_end(struct rpal_file *file)
{
	spin_lock(&rpal_lock);
	end_locked(file);
	spin_unlock(&rpal_lock);
	wake_up_poll(&file->wq, EPOLLERR);
}

/* If it is the service's: its slot may be another one's by now. */
static void end_at(struct rpal_file __rcu **table, unsigned int i,
		   struct rpal_space *space)
{
	struct rpal_file *file;

	/* It may be closed as soon as the lock is free. */
	rcu_read_lock();
	spin_lock(&rpal_lock);
	file = rcu_dereference(table[i]);
	if (file && file->channel_of == space)
		end_locked(file);
	else
		file = NULL;
	spin_unlock(&rpal_lock);
	if (file)
		wake_up_poll(&file->wq, EPOLLERR);
	rcu_read_unlock();
}

/**
 * rpal_channel_service_gone() - a service ends: so do its channels
 * @space:	its space; no channel can begin any more
 *
 * Context: process context.
 */
void rpal_channel_service_gone(struct rpal_space *space)
{
	struct rpal_file __rcu **table = table_of(space->slot);
	unsigned int i;

	/* No more of them can begin. */
	for (i = 0; i < NR_CHANNELS && READ_ONCE(space->nr_channels); i++)
		end_at(table, i, space);
}

/* ------------------------------------------------------------------ notices */

/* RCU read side. */
static struct rpal_file *find(u32 id, u32 number)
{
	struct rpal_file __rcu **table;

	if (id >= RPAL_NR_SLOTS || !number || number > NR_CHANNELS)
		return NULL;
	table = table_of(array_index_nospec(id, RPAL_NR_SLOTS));
	return table ? rcu_dereference(table[array_index_nospec(number - 1, NR_CHANNELS)]) : NULL;
}

static bool may_notify(struct rpal_space *space, u32 id)
{
	return id == space->slot || test_bit(id, space->peers);
}

/**
 * rpal_channel_notify() - RPAL_IOC_NOTIFY
 * @file:	the caller's file
 * @arg:	arguments, already copied
 *
 * Context: process context.
 * Return: 0, -ENXIO, -EPERM, -EINVAL or -ESRCH.
 */
int rpal_channel_notify(struct rpal_file *file, const struct rpal_notify *arg)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_file *channel;
	int err = -ESRCH;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (arg->flags)
		return -EINVAL;
	rcu_read_lock();
	channel = find(arg->id, arg->number);
	/*
	 * Only then whether we may: a slot is not given to another service before
	 * the links of the last have ended.
	 */
	smp_rmb();
	if (channel && may_notify(space, arg->id)) {
		atomic64_inc(&channel->notices);
		wake_up_poll(&channel->wq, EPOLLIN | EPOLLRDNORM);
		err = 0;
	}
	rcu_read_unlock();
	return err;
}

/**
 * rpal_channel_poll() - poll() of a file
 * @file:	the file, channel or not
 * @filp:	the same, as the kernel knows it
 * @wait:	who polls
 *
 * Context: may sleep.
 * Return: EPOLLIN and EPOLLRDNORM after a notice; EPOLLERR if it is no channel.
 */
__poll_t rpal_channel_poll(struct rpal_file *file, struct file *filp,
			   struct poll_table_struct *wait)
{
	poll_wait(filp, &file->wq, wait);
	if (!READ_ONCE(file->channel))
		return EPOLLERR;
	return atomic64_read(&file->notices) ? EPOLLIN | EPOLLRDNORM : 0;
}

/**
 * rpal_channel_read() - read() of a file
 * @file:	the file, channel or not
 * @to:		where to
 * @len:	room there, in bytes
 *
 * Context: may sleep; never waits for a notice.
 * Return: 8; -EINVAL if it is no channel or @len is less, -EAGAIN without a
 * notice, -EFAULT.
 */
ssize_t rpal_channel_read(struct rpal_file *file, char __user *to, size_t len)
{
	u64 notices;

	if (!READ_ONCE(file->channel) || len < sizeof(notices))
		return -EINVAL;
	notices = atomic64_xchg(&file->notices, 0);
	if (!notices)
		return -EAGAIN;
	if (!copy_to_user(to, &notices, sizeof(notices)))
		return sizeof(notices);
	/* Nobody has been told. */
	atomic64_add(notices, &file->notices);
	return -EFAULT;
}

/**
 * rpal_channel_module_exit() - free the tables
 *
 * Context: module unload: no file is left.
 */
void rpal_channel_module_exit(void)
{
	unsigned int slot;

	for (slot = 0; slot < RPAL_NR_SLOTS; slot++)
		kvfree(tables[slot]);
}
