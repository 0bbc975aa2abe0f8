// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protection keys: which service gets which, and keeping the own key open.
 *
 * The kernel starts every program and every signal handler with all keys but
 * key 0 closed, while all memory of a placed process carries another: so the
 * own key is opened wherever that happens. A forked child is no service, but
 * its memory still carries the key: it is remembered as an heir, and as one that
 * may take over the slot (see rpal_space_adopt()).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pkeys.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/pkru.h>

#include "hook.h"
#include "rpal.h"
#include "sym.h"

#define NR_PKEYS	16

/**
 * rpal_pkeys_present() - does this machine have protection keys
 *
 * Context: any.
 */
bool rpal_pkeys_present(void)
{
	return cpu_feature_enabled(X86_FEATURE_OSPKE);
}

/**
 * rpal_pkru_for() - access rights of code that owns one key
 * @pkey:	its key, 0 if none
 *
 * Context: any.
 * Return: a PKRU value: the system's initial one with @pkey open.
 */
u32 rpal_pkru_for(unsigned int pkey)
{
	return READ_ONCE(*rpal_k_init_pkru_value) & ~(3u << (2 * pkey));
}

/**
 * rpal_pkey_choose() - a key for a new service
 * @group:	its group, empty if none
 *
 * The least used one; within a group, one that no member has.
 *
 * Context: rpal_lock held.
 * Return: the key, or -ENOTUNIQ.
 */
int rpal_pkey_choose(const char *group)
{
	unsigned int used[NR_PKEYS] = {};
	unsigned long taken = BIT(0);
	unsigned int slot, pkey;
	int best = -ENOTUNIQ;

	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		struct rpal_space *space = rpal_slots[slot];

		if (!space)
			continue;
		used[space->pkey]++;
		if (group[0] && !strcmp(space->group, group))
			taken |= BIT(space->pkey);
	}
	for (pkey = 1; pkey < NR_PKEYS; pkey++) {
		if (test_bit(pkey, &taken))
			continue;
		if (best < 0 || used[pkey] < used[best])
			best = pkey;
	}
	return best;
}

/**
 * rpal_pkey_taken() - has a member of a group a key
 * @group:	the group, empty if none
 * @pkey:	the key
 *
 * Context: rpal_lock held.
 */
bool rpal_pkey_taken(const char *group, unsigned int pkey)
{
	unsigned int slot;

	for (slot = 1; group[0] && pkey && slot < RPAL_NR_SLOTS; slot++) {
		struct rpal_space *space = rpal_slots[slot];

		if (space && space->pkey == pkey && !strcmp(space->group, group))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ heirs */

struct heir {
	struct hlist_node node;
	struct rcu_head rcu;
	struct mm_struct *mm;
	struct rpal_heritage of;
};

static DEFINE_RAW_SPINLOCK(heir_lock);
static DEFINE_HASHTABLE(heirs, 8);	/* written under heir_lock, read by RCU */
/** rpal_nr_heirs - how many forked children there are; thunk.S looks, too */
atomic_t rpal_nr_heirs = ATOMIC_INIT(0);

/* RCU read side. */
static struct heir *heir_of(struct mm_struct *mm)
{
	struct heir *heir;

	if (!mm || !atomic_read(&rpal_nr_heirs))
		return NULL;
	hash_for_each_possible_rcu(heirs, heir, node, (unsigned long)mm) {
		if (heir->mm == mm)
			return heir;
	}
	return NULL;
}

/* The key under which a mm's memory was made, 0 if none. */
static unsigned int pkey_of_current(void)
{
	struct rpal_space *space = rpal_space_current();
	struct heir *heir;
	unsigned int pkey;

	if (space)
		return space->laid_out ? space->pkey : 0;
	rcu_read_lock();
	heir = heir_of(current->mm);
	pkey = heir ? heir->of.pkey : 0;
	rcu_read_unlock();
	return pkey;
}

/**
 * rpal_heritage() - what the current process has of a placed one
 * @heritage:	what is copied there; tgid is good as long as the process
 *
 * Context: task context.
 * Return: true if it was forked from a placed one, or from a child of it.
 */
bool rpal_heritage(struct rpal_heritage *heritage)
{
	struct heir *heir;

	rcu_read_lock();
	heir = heir_of(current->mm);
	if (heir)
		*heritage = heir->of;
	rcu_read_unlock();
	return heir;
}

/* What a child of the current process is going to have. */
static bool heritage_of_child(struct rpal_heritage *heritage)
{
	struct rpal_space *space = rpal_space_current();

	if (!space)
		return rpal_heritage(heritage);
	if (!space->laid_out)
		return false;
	heritage->origin = space->number;
	heritage->slot = space->slot;
	heritage->pkey = space->pkey;
	memcpy(heritage->group, space->group, sizeof(heritage->group));
	return true;
}

/**
 * rpal_heirs_slots() - slots that heirs might want
 * @slots:	bitmap in which their bits are set
 *
 * Context: any.
 */
void rpal_heirs_slots(unsigned long *slots)
{
	struct heir *heir;
	unsigned int bucket;

	if (!rpal_heirs())
		return;
	rcu_read_lock();
	hash_for_each_rcu(heirs, bucket, heir, node)
		__set_bit(heir->of.slot, slots);
	rcu_read_unlock();
}

/**
 * rpal_is_heir() - was a mm forked from a placed one
 * @mm:		the mm
 *
 * Context: any.
 */
bool rpal_is_heir(struct mm_struct *mm)
{
	bool is;

	rcu_read_lock();
	is = heir_of(mm);
	rcu_read_unlock();
	return is;
}

/**
 * rpal_heirs() - how many heirs are alive
 *
 * Context: any.
 */
int rpal_heirs(void)
{
	return atomic_read(&rpal_nr_heirs);
}

static int heir_add(struct task_struct *child, const struct rpal_heritage *of)
{
	struct heir *heir = kmalloc(sizeof(*heir), GFP_KERNEL_ACCOUNT);

	if (!heir)
		return -ENOMEM;
	rpal_hook_hold();			/* its parent has them already */
	__module_get(THIS_MODULE);
	heir->mm = child->mm;
	heir->of = *of;
	heir->of.tgid = get_pid(task_tgid(child));
	raw_spin_lock(&heir_lock);
	hash_add_rcu(heirs, &heir->node, (unsigned long)heir->mm);
	atomic_inc(&rpal_nr_heirs);
	raw_spin_unlock(&heir_lock);
	rpal_count(RPAL_STAT_HEIRS);
	return 0;
}

/* In place of wake_up_new_task(), for a child with a copy of placed memory. */
static void wake_up_heir(struct task_struct *child)
{
	struct rpal_heritage of;

	/* It is too late for the fork to fail. */
	if (!rpal_debug_no_heir && heritage_of_child(&of) &&
	    heir_add(child, &of))
		pr_warn_ratelimited("a child of %s cannot have signal handlers\n",
				    current->comm);
	rpal_k_wake_up_new_task(child);
}

/* wake_up_new_task(child): the child does not run yet */
RPAL_CALLBACK(rpal_on_wake_up_new_task)
{
	struct task_struct *child = (struct task_struct *)regs->di;
	struct rpal_heritage of;

	if (!child->mm || (!rpal_maybe_ours() && !rpal_heirs()))
		return;
	if (!heritage_of_child(&of))
		return;
	rpal_hook_fired(hook);
	/* A peer's memory that its maker had open is not open to the child. */
	if (of.pkey)
		child->thread.pkru = rpal_pkru_for(of.pkey);
	if (child->mm != current->mm)
		rpal_divert(regs, wake_up_heir);
}

/* Not from within a callback: what frees may take locks that sleep. */
static void heir_free(struct rcu_head *rcu)
{
	struct heir *heir = container_of(rcu, struct heir, rcu);

	put_pid(heir->of.tgid);
	kfree(heir);
}

/* exit_mmap(mm): the last user is gone */
RPAL_CALLBACK(rpal_on_exit_mmap)
{
	struct mm_struct *mm = (struct mm_struct *)regs->di;
	struct heir *heir;

	if (!rpal_heirs())
		return;
	rcu_read_lock();
	heir = heir_of(mm);
	rcu_read_unlock();
	/* Only this call removes it, and a mm is torn down once. */
	if (!heir)
		return;
	rpal_hook_fired(hook);
	raw_spin_lock(&heir_lock);
	hash_del_rcu(&heir->node);
	atomic_dec(&rpal_nr_heirs);
	raw_spin_unlock(&heir_lock);
	call_rcu(&heir->rcu, heir_free);
	rpal_hook_put();
	module_put(THIS_MODULE);
}

/* signal_setup_done(failed, ksig, stepping): the handler is next to run */
RPAL_CALLBACK(rpal_on_signal_setup_done)
{
	unsigned int pkey;

	if (regs->di || rpal_debug_no_pkey_signal)
		return;
	if (!rpal_maybe_ours() && !rpal_heirs())
		return;
	pkey = pkey_of_current();
	if (!pkey)
		return;
	rpal_hook_fired(hook);
	write_pkru(rpal_pkru_for(pkey));
}
