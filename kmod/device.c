// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/rpal: files and the dispatch of commands.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pkeys.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "rpal.h"

/* Every argument is copied in once, and out only when the command succeeded. */
union argument {
	u32 size;
	struct rpal_query query;
	struct rpal_place place;
	struct rpal_self self;
	struct rpal_register reg;
	struct rpal_request request;
	struct rpal_peer peer;
	struct rpal_thread thread;
	struct rpal_wait wait;
	struct rpal_reply reply;
	struct rpal_wake wake;
	struct rpal_await await;
	struct rpal_deadline deadline;
	struct rpal_peer_fd peer_fd;
	struct rpal_peer_of peer_of;
	struct rpal_watch watch;
	struct rpal_channel channel;
	struct rpal_notify notify;
};

static int do_query(struct rpal_file *file, union argument *arg)
{
	struct rpal_query *query = &arg->query;
	u32 flags = query->flags;

	if (flags)
		return -EINVAL;
	memset(query, 0, sizeof(*query));
	query->abi_major = RPAL_ABI_MAJOR;
	query->abi_minor = RPAL_ABI_MINOR;
	if (rpal_pkeys_present())
		query->features |= RPAL_FEATURE_PKEYS;
	if (pgtable_l5_enabled())
		query->features |= RPAL_FEATURE_LA57;
	if (boot_cpu_has(X86_FEATURE_PTI))
		query->features |= RPAL_FEATURE_PTI;
	if (READ_ONCE(rpal_allow_no_pkeys))
		query->features |= RPAL_FEATURE_NO_PKEYS_OK;
	query->features |= RPAL_FEATURE_LAZY;
	if (!READ_ONCE(rpal_enable))
		query->features |= RPAL_FEATURE_OFF;
	if (!rpal_hook_healthy())
		query->features |= RPAL_FEATURE_BROKEN;
	if (rpal_account_wants_stamps())
		query->features |= RPAL_FEATURE_STAMPS;
	query->max_services = RPAL_MAX_SLOT;
	query->max_links = RPAL_MAX_SLOT - 1;
	query->max_receivers = RPAL_MAX_RECEIVERS;
	query->max_senders = RPAL_MAX_SENDERS;
	query->max_depth = RPAL_MAX_DEPTH;
	query->slot_shift = RPAL_SLOT_SHIFT;
	query->nr_keys = rpal_pkeys_present() ? arch_max_pkey() - 1 : 0;
	query->block_size = RPAL_BLOCK_SIZE;
	return 0;
}

static int do_place(struct rpal_file *file, union argument *arg)
{
	return rpal_place_ask(file, &arg->place);
}

static int do_self(struct rpal_file *file, union argument *arg)
{
	u32 flags = arg->self.flags;

	if (flags)
		return -EINVAL;
	memset(&arg->self, 0, sizeof(arg->self));
	rpal_service_self(&arg->self);
	return 0;
}

static int do_register(struct rpal_file *file, union argument *arg)
{
	return rpal_service_register(file, &arg->reg);
}

/* Nobody would know the key. */
static void undo_register(struct rpal_file *file, union argument *arg)
{
	rpal_service_file_gone(file);
}

static int do_request(struct rpal_file *file, union argument *arg)
{
	return rpal_service_request(file, &arg->request);
}

static void undo_request(struct rpal_file *file, union argument *arg)
{
	rpal_service_release(file, &arg->request);
}

static int do_release(struct rpal_file *file, union argument *arg)
{
	return rpal_service_release(file, &arg->request);
}

static int do_peer(struct rpal_file *file, union argument *arg)
{
	return rpal_service_peer(file, &arg->peer);
}

static int do_thread(struct rpal_file *file, union argument *arg)
{
	return rpal_thread_register(file, &arg->thread);
}

static int do_wait(struct rpal_file *file, union argument *arg)
{
	return rpal_wait_call(file, &arg->wait);
}

static int do_await_reply(struct rpal_file *file, union argument *arg)
{
	return rpal_wait_reply(file, &arg->reply);
}

static int do_wake(struct rpal_file *file, union argument *arg)
{
	return rpal_wait_wake(file, &arg->wake);
}

static int do_await(struct rpal_file *file, union argument *arg)
{
	return rpal_wait_free(file, &arg->await);
}

static int do_deadline(struct rpal_file *file, union argument *arg)
{
	return rpal_deadline(file, &arg->deadline);
}

static int do_peer_fd(struct rpal_file *file, union argument *arg)
{
	return rpal_peer_fd(file, &arg->peer_fd);
}

static int do_peer_of(struct rpal_file *file, union argument *arg)
{
	return rpal_peer_of(file, &arg->peer_of);
}

static int do_watch(struct rpal_file *file, union argument *arg)
{
	return rpal_watch(file, &arg->watch);
}

static int do_channel(struct rpal_file *file, union argument *arg)
{
	return rpal_channel_begin(file, &arg->channel);
}

static void undo_channel(struct rpal_file *file, union argument *arg)
{
	rpal_channel_end(file);
}

static int do_notify(struct rpal_file *file, union argument *arg)
{
	return rpal_channel_notify(file, &arg->notify);
}

/* undo: for what must not stand if its result cannot be told. */
struct command {
	unsigned int cmd;
	int (*run)(struct rpal_file *file, union argument *arg);
	void (*undo)(struct rpal_file *file, union argument *arg);
};

static const struct command commands[] = {
	{ RPAL_IOC_QUERY, do_query },
	{ RPAL_IOC_PLACE, do_place },
	{ RPAL_IOC_SELF, do_self },
	{ RPAL_IOC_REGISTER, do_register, undo_register },
	{ RPAL_IOC_REQUEST, do_request, undo_request },
	{ RPAL_IOC_RELEASE, do_release },
	{ RPAL_IOC_PEER, do_peer },
	{ RPAL_IOC_THREAD, do_thread },
	{ RPAL_IOC_WAIT, do_wait },
	{ RPAL_IOC_AWAIT_REPLY, do_await_reply },
	{ RPAL_IOC_WAKE, do_wake },
	{ RPAL_IOC_AWAIT, do_await },
	{ RPAL_IOC_DEADLINE, do_deadline },
	{ RPAL_IOC_PEER_FD, do_peer_fd },
	{ RPAL_IOC_PEER_OF, do_peer_of },
	{ RPAL_IOC_WATCH, do_watch },
	{ RPAL_IOC_CHANNEL, do_channel, undo_channel },
	{ RPAL_IOC_NOTIFY, do_notify },
};

/* By number and direction: the size in the command may have grown. */
static const struct command *find_command(unsigned int cmd)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (((commands[i].cmd ^ cmd) & ~IOCSIZE_MASK) == 0)
			return &commands[i];
	}
	return NULL;
}

/*
 * The size a caller states must cover the size and flags fields. The second
 * read of it, inside the structure, is not used.
 */
static int copy_in(union argument *arg, unsigned int known, u32 __user *from,
		   u32 *size)
{
	if (get_user(*size, from))
		return -EFAULT;
	if (*size < 2 * sizeof(u32))
		return -EINVAL;
	if (*size > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(arg, known, from, *size);
}

static long rpal_ioctl(struct file *filp, unsigned int cmd, unsigned long uarg)
{
	const struct command *command = find_command(cmd);
	struct rpal_file *file = filp->private_data;
	void __user *user = (void __user *)uarg;
	union argument arg;
	unsigned int known;
	u32 size;
	int err;

	if (cmd == RPAL_IOC_UNREGISTER)
		return rpal_service_unregister(file);
	if (cmd == RPAL_IOC_ADOPT)
		return rpal_space_adopt();
	if (cmd == RPAL_IOC_THREAD_EXIT)
		return rpal_thread_exit(file);
	if (!command)
		return -ENOTTY;
	known = _IOC_SIZE(command->cmd);
	err = copy_in(&arg, known, user, &size);
	if (err)
		return err;
	err = command->run(file, &arg);
	if (err || !(_IOC_DIR(cmd) & _IOC_READ))
		return err;
	arg.size = size;
	if (!copy_to_user(user, &arg, min(size, known)))
		return 0;
	if (command->undo)
		command->undo(file, &arg);
	return -EFAULT;
}

static int rpal_mmap(struct file *filp, struct vm_area_struct *vma)
{
	return rpal_area_mmap(filp->private_data, vma);
}

static __poll_t rpal_poll(struct file *filp, poll_table *wait)
{
	struct rpal_file *file = filp->private_data;

	if (READ_ONCE(file->channel))
		return rpal_channel_poll(file, filp, wait);
	poll_wait(filp, &file->wq, wait);
	if (rpal_notice_pending(file))
		return EPOLLIN | EPOLLRDNORM;
	return READ_ONCE(file->space) ? 0 : EPOLLERR;
}

static ssize_t rpal_read(struct file *filp, char __user *to, size_t len,
			 loff_t *pos)
{
	struct rpal_file *file = filp->private_data;

	if (READ_ONCE(file->channel))
		return rpal_channel_read(file, to, len);
	return rpal_notice_read(file, to, len, filp->f_flags & O_NONBLOCK);
}

static int rpal_open(struct inode *inode, struct file *filp)
{
	struct rpal_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	init_waitqueue_head(&file->wq);
	INIT_LIST_HEAD(&file->gone);
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

static int rpal_release(struct inode *inode, struct file *filp)
{
	struct rpal_file *file = filp->private_data;

	rpal_place_forget(file);
	rpal_service_file_gone(file);
	rpal_channel_end(file);
	kfree_rcu(file, rcu);
	return 0;
}

static const struct file_operations rpal_fops = {
	.owner = THIS_MODULE,
	.open = rpal_open,
	.release = rpal_release,
	.unlocked_ioctl = rpal_ioctl,
	.mmap = rpal_mmap,
	.poll = rpal_poll,
	.read = rpal_read,
};

/**
 * rpal_device_file() - what is behind an open file
 * @filp:	any file
 *
 * Context: any; the result is good as long as the file is open.
 * Return: our side of it, NULL if it is none of /dev/rpal.
 */
struct rpal_file *rpal_device_file(struct file *filp)
{
	return filp->f_op == &rpal_fops ? filp->private_data : NULL;
}

#define NAME	"rpal"

/**
 * rpal_device_may_open() - may the current task use the device
 *
 * The task's own way to it is gone, to the end: besides the mode of the node there are
 * access lists, mounts, device cgroups and security modules, and all have a say.
 *
 * Context: may sleep, on whatever a path can lead to.
 * Return: whether it can open the device for reading and writing.
 */
bool rpal_device_may_open(void)
{
	struct file *filp = filp_open("/dev/" NAME, O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	bool ours;

	if (IS_ERR(filp))
		return false;
	/* Who has a /dev of its own can have any file there. */
	ours = rpal_device_file(filp);
	filp_close(filp, NULL);
	return ours;
}

static struct miscdevice rpal_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = NAME,
	.mode = 0660,
	.fops = &rpal_fops,
};

/**
 * rpal_device_init() - make /dev/rpal
 *
 * Context: module load.
 * Return: 0 or a negative errno.
 */
int rpal_device_init(void)
{
	return misc_register(&rpal_misc);
}

/**
 * rpal_device_exit() - remove /dev/rpal
 *
 * Context: module unload.
 */
void rpal_device_exit(void)
{
	misc_deregister(&rpal_misc);
}
