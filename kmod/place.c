// SPDX-License-Identifier: GPL-2.0-only
/*
 * Placement: which exec is to end in a slot, and which cannot.
 *
 * The module is a binary format, asked before all others: it prepares the new
 * mm of a program that is to be placed, or refuses, and then says -ENOEXEC so
 * that the kernel's ELF loader goes on. For any other program it compares four
 * bytes and sees that nothing was asked for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/binfmts.h>
#include <linux/elf.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/string.h>
#include <linux/xattr.h>

#include "rpal.h"

/* Bytes 12 to 15 of e_ident, otherwise unused. */
#define MARK_OFFSET	12
#define MARK		"RPAL"
#define MARK_SIZE	4

/*
 * Placements that were asked for, by the task that they are for: at most one for each
 * that is alive, so what an exec looks at does not grow with what others have asked for.
 */
static DEFINE_SPINLOCK(pending_lock);
static DEFINE_HASHTABLE(pendings, 10);		/* under pending_lock */
static atomic_t nr_pending = ATOMIC_INIT(0);	/* changed under pending_lock */

static bool is_elf(const struct linux_binprm *bprm)
{
	return !memcmp(bprm->buf, ELFMAG, SELFMAG);
}

static bool is_script(const struct linux_binprm *bprm)
{
	return bprm->buf[0] == '#' && bprm->buf[1] == '!';
}

static bool is_marked(const struct linux_binprm *bprm)
{
	return READ_ONCE(rpal_marker) && is_elf(bprm) &&
	       !memcmp(bprm->buf + MARK_OFFSET, MARK, MARK_SIZE);
}

/*
 * Anybody can write a mark into a file: it counts for who could ask for a placement, too.
 * Else, and when all is switched off, a marked program is one like any other.
 */
static bool is_placed_by_mark(const struct linux_binprm *bprm)
{
	return is_marked(bprm) && READ_ONCE(rpal_enable) &&
	       rpal_device_may_open();
}

static bool can_be_placed(const struct linux_binprm *bprm)
{
	const struct elf64_hdr *elf = (const struct elf64_hdr *)bprm->buf;

	return is_elf(bprm) && elf->e_ident[EI_CLASS] == ELFCLASS64 &&
	       elf->e_machine == EM_X86_64 && elf->e_type == ET_DYN;
}

static bool gains_privilege(const struct linux_binprm *bprm)
{
	struct dentry *dentry = bprm->file->f_path.dentry;
	struct inode *inode = file_inode(bprm->file);
	umode_t mode = READ_ONCE(inode->i_mode);

	if (mode & S_ISUID)
		return true;
	if ((mode & S_ISGID) && (mode & 0010))
		return true;
	return __vfs_getxattr(dentry, inode, XATTR_NAME_CAPS, NULL, 0) > 0;
}

static void pending_remove_locked(struct rpal_pending *pending)
{
	hash_del(&pending->node);
	put_pid(pending->pid);
	pending->pid = NULL;
	atomic_dec(&nr_pending);
}

/* The current task's pending placement; under pending_lock. */
static struct rpal_pending *pending_find_locked(void)
{
	struct pid *self = task_pid(current);
	struct rpal_pending *pending;

	hash_for_each_possible(pendings, pending, node, (unsigned long)self) {
		if (pending->pid == self)
			return pending;
	}
	return NULL;
}

/* A task that has ended needs none, though the file may stay open elsewhere. */
static void pending_add_locked(struct rpal_pending *pending)
{
	struct pid *self = task_pid(current);
	struct rpal_pending *other;
	struct hlist_node *next;

	hash_for_each_possible_safe(pendings, other, next, node,
				    (unsigned long)self) {
		if (other->pid == self || !pid_has_task(other->pid, PIDTYPE_PID))
			pending_remove_locked(other);
	}
	pending->pid = get_pid(self);
	hash_add(pendings, &pending->node, (unsigned long)self);
	atomic_inc(&nr_pending);
}

static bool pending_read(u32 *flags, char *group)
{
	struct rpal_pending *pending;

	/* Who asks is the task itself, so it sees what it has added. */
	if (!atomic_read(&nr_pending))
		return false;
	spin_lock(&pending_lock);
	pending = pending_find_locked();
	if (pending) {
		*flags = pending->flags;
		memcpy(group, pending->group, sizeof(pending->group));
	}
	spin_unlock(&pending_lock);
	return pending;
}

static void pending_consume(void)
{
	struct rpal_pending *pending;

	spin_lock(&pending_lock);
	pending = pending_find_locked();
	if (pending)
		pending_remove_locked(pending);
	spin_unlock(&pending_lock);
}

/**
 * rpal_place_forget() - drop the placement that was asked on a file
 * @file:	the file
 *
 * Context: process context.
 */
void rpal_place_forget(struct rpal_file *file)
{
	spin_lock(&pending_lock);
	if (file->pending.pid)
		pending_remove_locked(&file->pending);
	spin_unlock(&pending_lock);
}

static bool keys_allow(u32 flags)
{
	return rpal_pkeys_present() ||
	       ((flags & RPAL_PLACE_NO_PKEYS) && READ_ONCE(rpal_allow_no_pkeys));
}

/**
 * rpal_place_ask() - RPAL_IOC_PLACE
 * @file:	the file it was asked on
 * @place:	what is asked, already copied
 *
 * It takes the place of what the task has asked for before, on whatever file.
 *
 * Context: process context.
 * Return: 0, -EINVAL, -EOPNOTSUPP or -ESHUTDOWN.
 */
int rpal_place_ask(struct rpal_file *file, const struct rpal_place *place)
{
	struct rpal_pending *pending = &file->pending;

	if (place->flags & ~RPAL_PLACE_NO_PKEYS)
		return -EINVAL;
	if (strnlen(place->group, RPAL_GROUP_LEN) == RPAL_GROUP_LEN)
		return -EINVAL;
	if (!keys_allow(place->flags))
		return -EOPNOTSUPP;
	if (!READ_ONCE(rpal_enable))
		return -ESHUTDOWN;
	spin_lock(&pending_lock);
	if (pending->pid)
		pending_remove_locked(pending);
	pending->flags = place->flags;
	strscpy(pending->group, place->group, RPAL_GROUP_LEN);
	pending_add_locked(pending);
	spin_unlock(&pending_lock);
	return 0;
}

static int place(struct linux_binprm *bprm, u32 flags, const char *group)
{
	if (!READ_ONCE(rpal_enable))
		return -ESHUTDOWN;
	if (!can_be_placed(bprm))
		return -ELIBBAD;
	if (gains_privilege(bprm))
		return -EPERM;
	if (!keys_allow(flags))
		return -EOPNOTSUPP;
	return rpal_space_create(bprm->mm, group);
}

/*
 * -ENOEXEC lets the real loader go on, placed or not. For what is refused
 * another error is a must: after -ENOEXEC some callers run the file by a shell.
 */
static int place_binary(struct linux_binprm *bprm)
{
	char group[RPAL_GROUP_LEN] = "";
	u32 flags = 0;
	bool pending = pending_read(&flags, group);
	int err;

	if (!pending && !is_placed_by_mark(bprm))
		return -ENOEXEC;
	if (is_script(bprm))
		return -ENOEXEC;	/* asked again about its interpreter */
	/* The kernel tries all formats twice for a file that none of them takes. */
	rcu_read_lock();
	err = rpal_space_of(bprm->mm) ? -EEXIST : 0;
	rcu_read_unlock();
	if (err)
		return -ENOEXEC;

	err = place(bprm, flags, group);
	if (err == -ERESTARTNOINTR)
		return err;		/* execve() is coming back */
	if (pending)
		pending_consume();
	rpal_count(err ? RPAL_STAT_REFUSED : RPAL_STAT_PLACED);
	return err ?: -ENOEXEC;
}

static struct linux_binfmt rpal_format = {
	.module = THIS_MODULE,
	.load_binary = place_binary,
};

/**
 * rpal_place_init() - begin to look at what is executed
 *
 * Context: module load, when everything else is ready.
 * Return: 0.
 */
int rpal_place_init(void)
{
	insert_binfmt(&rpal_format);
	return 0;
}

/**
 * rpal_place_exit() - stop looking
 *
 * Context: module unload.
 */
void rpal_place_exit(void)
{
	unregister_binfmt(&rpal_format);
}
