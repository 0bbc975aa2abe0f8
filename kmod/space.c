// SPDX-License-Identifier: GPL-2.0-only
/*
 * Placed address spaces: their slots, and their life.
 *
 * A space is made at exec, before the point of no return, and hangs on the mm
 * by an mmu notifier. When the mm goes, the notifier's release callback ends
 * the service and takes the space out of every table; the struct stays until
 * the last file and thread have let go of it.
 *
 * A child that was forked from a placed process has a copy of its memory, at the same
 * addresses: when the parent has gone it can become a space itself (daemon() does
 * that to a service), if it still looks like one.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hashtable.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "rpal.h"

DEFINE_SPINLOCK(rpal_lock);
struct rpal_space *rpal_slots[RPAL_NR_SLOTS];	/* under rpal_lock */
static u64 last_number;				/* under rpal_lock */

/* Spaces by mm: written under rpal_lock, read under RCU. */
static DEFINE_HASHTABLE(spaces, 8);

/**
 * rpal_space_of() - the space of a mm
 * @mm:		any mm that cannot go away meanwhile
 *
 * Context: RCU read side or rpal_lock; the result is good as long as that is
 * held, or as the mm has users.
 * Return: the space, or NULL.
 */
struct rpal_space *rpal_space_of(struct mm_struct *mm)
{
	struct rpal_space *space;

	hash_for_each_possible_rcu(spaces, space, node, (unsigned long)mm,
				   lockdep_is_held(&rpal_lock)) {
		if (space->mm == mm)
			return space;
	}
	return NULL;
}

/**
 * rpal_space_get() - take a reference
 * @space:	a space that is kept alive by something else meanwhile
 *
 * Context: any.
 */
void rpal_space_get(struct rpal_space *space)
{
	kref_get(&space->ref);
}

static void space_free(struct kref *ref)
{
	struct rpal_space *space = container_of(ref, struct rpal_space, ref);

	rpal_thread_table_free(space);
	rpal_area_free(space);
	put_pid(space->tgid);
	mmdrop(space->mm);
	kfree_rcu(space, rcu);
	rpal_hook_put();
	module_put(THIS_MODULE);
}

/**
 * rpal_space_put() - give a reference back
 * @space:	the space
 *
 * Context: any but hard interrupts; not under rpal_lock.
 */
void rpal_space_put(struct rpal_space *space)
{
	kref_put(&space->ref, space_free);
}

static void space_unhash_locked(struct rpal_space *space)
{
	if (rpal_slots[space->slot] == space)
		rpal_slots[space->slot] = NULL;
	hash_del_rcu(&space->node);
	rpal_uncharge(space->placed_by, RPAL_LIMIT_PLACED);
	rpal_user_put_locked(space->placed_by);
	space->placed_by = NULL;
}

/*
 * The notifiers of mms that have gone. One that is given back begins a grace period,
 * for which the exiting task would have to wait when it ends all notifiers of its mm:
 * some 15 ms, instead of the one of its own that nobody slows down.
 */
#define PUT_DELAY	msecs_to_jiffies(100)

static LLIST_HEAD(released);

static void put_released(struct work_struct *work)
{
	struct rpal_space *space, *next;

	llist_for_each_entry_safe(space, next, llist_del_all(&released),
				  released)
		mmu_notifier_put(&space->mn);
}

static DECLARE_DELAYED_WORK(put_work, put_released);

/**
 * rpal_space_module_exit() - nobody is left in this file
 *
 * Context: module unload; no space is left. May sleep.
 */
void rpal_space_module_exit(void)
{
	flush_delayed_work(&put_work);
}

/* The mm's last user is gone; its page tables are still there. May sleep. */
static void space_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct rpal_space *space = container_of(mn, struct rpal_space, mn);

	spin_lock(&rpal_lock);
	space->dead = true;
	spin_unlock(&rpal_lock);
	/* Only services have links. */
	rpal_service_mm_gone(space);
	rpal_thread_space_gone(space);
	spin_lock(&rpal_lock);
	space_unhash_locked(space);
	spin_unlock(&rpal_lock);
	if (llist_add(&space->released, &released))
		queue_delayed_work(system_unbound_wq, &put_work, PUT_DELAY);
}

static void space_invalidate(struct mmu_notifier *mn, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	rpal_link_invalidate(container_of(mn, struct rpal_space, mn), start, end);
}

/* The space was put in the table just before, under this mm. */
static struct mmu_notifier *space_alloc_notifier(struct mm_struct *mm)
{
	struct rpal_space *space;

	rcu_read_lock();
	space = rpal_space_of(mm);
	rpal_space_get(space);
	rcu_read_unlock();
	return &space->mn;
}

static void space_free_notifier(struct mmu_notifier *mn)
{
	rpal_space_put(container_of(mn, struct rpal_space, mn));
}

static const struct mmu_notifier_ops space_ops = {
	.release = space_release,
	.RPAL_INVALIDATE_OP = space_invalidate,
	.alloc_notifier = space_alloc_notifier,
	.free_notifier = space_free_notifier,
};

/*
 * A free slot, begun at random so that addresses stay hard to guess; one that a
 * forked child may want to take over only if there is no other.
 */
static int choose_slot(u32 random)
{
	DECLARE_BITMAP(wanted, RPAL_NR_SLOTS) = {};
	unsigned int i, slot;
	int second = -ENOSPC;

	rpal_heirs_slots(wanted);
	for (i = 0; i < RPAL_MAX_SLOT; i++) {
		slot = 1 + (random % RPAL_MAX_SLOT + i) % RPAL_MAX_SLOT;
		if (rpal_slots[slot])
			continue;
		if (!test_bit(slot, wanted))
			return slot;
		if (second < 0)
			second = slot;
	}
	return second;
}

static void set_slot(struct rpal_space *space, unsigned int slot,
		     unsigned int pkey)
{
	space->slot = slot;
	space->pkey = pkey;
	space->base = (unsigned long)slot << RPAL_SLOT_SHIFT;
	space->end = space->base + RPAL_SLOT_SIZE;
}

static int charge_locked(struct rpal_space *space, struct rpal_user **spare,
			 bool exempt)
{
	struct rpal_user *user = rpal_user_get_locked(spare);
	int err = rpal_charge_locked(user, RPAL_LIMIT_PLACED, exempt);

	if (err)
		rpal_user_put_locked(user);
	else
		space->placed_by = user;
	return err;
}

static int settle_locked(struct rpal_space *space, u32 random,
			 struct rpal_user **spare, bool exempt)
{
	int slot = choose_slot(random);
	int pkey = 0;
	int err;

	if (slot < 0)
		return slot;
	if (rpal_pkeys_present()) {
		pkey = rpal_pkey_choose(space->group);
		if (pkey < 0)
			return pkey;
	}
	err = charge_locked(space, spare, exempt);
	if (err)
		return err;
	set_slot(space, slot, pkey);
	space->number = ++last_number;
	rpal_slots[slot] = space;
	hash_add_rcu(spaces, &space->node, (unsigned long)space->mm);
	return 0;
}

static struct rpal_space *space_new(struct mm_struct *mm, const char *group)
{
	struct rpal_space *space = kzalloc(sizeof(*space), GFP_KERNEL_ACCOUNT);

	if (!space)
		return NULL;
	space->pages = kcalloc(RPAL_AREA_PAGES, sizeof(*space->pages),
			       GFP_KERNEL_ACCOUNT);
	if (!space->pages) {
		kfree(space);
		return NULL;
	}
	kref_init(&space->ref);
	mmgrab(mm);
	space->mm = mm;
	space->rnd_stack = get_random_u32();
	space->rnd_mmap = get_random_u32();
	strscpy(space->group, group, sizeof(space->group));
	__module_get(THIS_MODULE);
	return space;
}

/* A slot, a key, and a place in the tables. */
static int settle(struct rpal_space *space)
{
	struct rpal_user *spare = rpal_user_new();
	u32 random = get_random_u32();
	bool exempt = false;
	int err;

	if (!spare)
		return -ENOMEM;
	do {
		spin_lock(&rpal_lock);
		err = settle_locked(space, random, &spare, exempt);
		spin_unlock(&rpal_lock);
	} while (rpal_limit_waived(err, &exempt));
	kfree(spare);
	return err;
}

/**
 * rpal_space_create() - give a new mm a slot and a key
 * @mm:		mm of a program that is about to run, not used by any task yet
 * @group:	group name, empty if none
 *
 * Context: execve(), before the point of no return. May sleep.
 * Return: 0; -ENOSPC, -ENOTUNIQ, -EDQUOT, -ENOMEM, -ERESTARTNOINTR (a signal
 * came), or what the tracer says when hooks cannot be installed.
 */
int rpal_space_create(struct mm_struct *mm, const char *group)
{
	struct rpal_space *space;
	struct mmu_notifier *mn;
	int err = rpal_hook_get();

	if (err)
		return err;
	space = space_new(mm, group);
	if (!space) {
		rpal_hook_put();
		return -ENOMEM;
	}
	get_task_comm(space->comm, current);
	err = settle(space);
	if (err)
		goto put;

	mn = mmu_notifier_get(&space_ops, mm);
	if (IS_ERR(mn)) {
		err = PTR_ERR(mn);
		/* Taking all of a mm's locks gives way to any signal. */
		if (err == -EINTR)
			err = -ERESTARTNOINTR;
		spin_lock(&rpal_lock);
		space_unhash_locked(space);
		spin_unlock(&rpal_lock);
	}
put:
	rpal_space_put(space);
	return err;
}

/* ----------------------------------------------------------------- adoption */

/* Under rpal_lock: may it take the slot? */
static int slot_free_locked(const struct rpal_heritage *of)
{
	struct rpal_space *owner = rpal_slots[of->slot];

	if (owner)
		return owner->number == of->origin ? -EBUSY : -EADDRINUSE;
	return rpal_pkey_taken(of->group, of->pkey) ? -ENOTUNIQ : 0;
}

static int slot_free(const struct rpal_heritage *of)
{
	int err;

	spin_lock(&rpal_lock);
	err = slot_free_locked(of);
	spin_unlock(&rpal_lock);
	return err;
}

/* Nobody else can have it from now on. */
static int take_slot(struct rpal_space *space, const struct rpal_heritage *of)
{
	struct rpal_user *spare = rpal_user_new();
	bool exempt = false;
	int err;

	if (!spare)
		return -ENOMEM;
	do {
		spin_lock(&rpal_lock);
		err = slot_free_locked(of);
		if (!err)
			err = charge_locked(space, &spare, exempt);
		if (!err) {
			space->number = ++last_number;
			rpal_slots[space->slot] = space;
		}
		spin_unlock(&rpal_lock);
	} while (rpal_limit_waived(err, &exempt));
	kfree(spare);
	return err;
}

/* Under mmap_lock, for writing: all of it or nothing. */
static int adopt_locked(struct rpal_space *space, const struct rpal_heritage *of)
{
	int err = rpal_layout_fits(space);

	if (!err)
		err = take_slot(space, of);
	if (err)
		return err;
	space->mn.ops = &space_ops;
	rpal_space_get(space);			/* the notifier's */
	err = __mmu_notifier_register(&space->mn, space->mm);
	spin_lock(&rpal_lock);
	if (err)
		space_unhash_locked(space);
	spin_unlock(&rpal_lock);
	if (err) {
		rpal_space_put(space);
		/* Taking all of a mm's locks gives way to any signal. */
		return err == -EINTR ? -ERESTARTNOINTR : err;
	}
	rpal_layout_begin(space);
	/* Known to hooks and commands when it is whole. */
	spin_lock(&rpal_lock);
	hash_add_rcu(spaces, &space->node, (unsigned long)space->mm);
	spin_unlock(&rpal_lock);
	return 0;
}

/* How often somebody who shares the mm may map something that has not the key. */
#define MAX_TRIES	100

static int adopt(struct rpal_space *space, const struct rpal_heritage *of)
{
	int tries = MAX_TRIES;
	int err;

	do {
		err = rpal_layout_keys(space);
		if (err)
			return err;
		if (mmap_write_lock_killable(space->mm))
			return -EINTR;
		err = adopt_locked(space, of);
		mmap_write_unlock(space->mm);
	} while (err == -EAGAIN && --tries);
	return err;
}

/**
 * rpal_space_adopt() - RPAL_IOC_ADOPT
 *
 * The space is made as exec makes one, but for a mm that is in use: what was mapped
 * since the fork must fit, and nothing is mapped between the look at that and the
 * moment from which the layout is kept. Page tables of the mm may be changed by other
 * threads as ever: they are nobody else's before there is a link, and by then the
 * notifier is there.
 *
 * Context: may sleep.
 * Return: 0 or an error as described with RPAL_IOC_ADOPT.
 */
int rpal_space_adopt(void)
{
	struct rpal_heritage of;
	struct rpal_space *space;
	int err;

	if (rpal_space_current())
		return -EALREADY;
	if (!rpal_heritage(&of))
		return -ENXIO;
	if (of.tgid != task_tgid(current))
		return -EPERM;
	/* They could change what is given the key between the look at it and that. */
	if (!thread_group_empty(current))
		return -EUSERS;
	if (!READ_ONCE(rpal_enable))
		return -ESHUTDOWN;
	err = slot_free(&of);
	if (err)
		return err;
	err = rpal_hook_get();			/* the heir has them already */
	if (err)
		return err;
	space = space_new(current->mm, of.group);
	if (!space) {
		rpal_hook_put();
		return -ENOMEM;
	}
	set_slot(space, of.slot, of.pkey);
	get_task_comm(space->comm, current);
	space->tgid = get_pid(of.tgid);
	err = adopt(space, &of);
	if (!err)
		rpal_count(RPAL_STAT_ADOPTED);
	rpal_space_put(space);
	return err;
}
