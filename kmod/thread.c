// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered threads: their table, their blocks, their registration and death.
 *
 * A thread's block lies in a page that the module has allocated and that the
 * process maps: the kernel uses its own mapping, which no munmap() takes away.
 *
 * A receiver that dies while its context runs on a caller's task stays in the
 * table as a tombstone, its word untouched, until that caller has come home or
 * died: without it a chain of calls through it could not be followed.
 */
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/syscall_user_dispatch.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xstate.h>

#include "compat/compat.h"
#include "thread.h"

/* How often a word may change under our hands. */
#define MAX_TRIES	100

/* Innermost but for rpal_lock. */
static DEFINE_RAW_SPINLOCK(thread_lock);

/* One table per slot, allocated at its first use and kept: read under RCU. */
static struct rpal_tcb __rcu **tables[RPAL_NR_SLOTS];
static DEFINE_HASHTABLE(by_task, 8);	/* under thread_lock, read by RCU */
static LIST_HEAD(tombstones);		/* under thread_lock */
static u32 generation;			/* under thread_lock */
static struct workqueue_struct *thread_wq;

/**
 * rpal_thread_at() - a thread by service and index
 * @slot:	the service's slot
 * @index:	index of its block
 *
 * Context: RCU read side.
 * Return: the thread, dead or alive, or NULL.
 */
struct rpal_tcb *rpal_thread_at(unsigned int slot, unsigned int index)
{
	struct rpal_tcb __rcu **table;

	if (slot >= RPAL_NR_SLOTS || index >= RPAL_NR_INDEX)
		return NULL;
	/* Pairs with the cmpxchg() in table_for(). */
	table = smp_load_acquire(&tables[slot]);
	return table ? rcu_dereference(table[index]) : NULL;
}

/**
 * rpal_thread_find() - a thread by name
 * @tid:	its tid, from anywhere
 *
 * Context: RCU read side.
 * Return: the thread, dead or alive, or NULL.
 */
struct rpal_tcb *rpal_thread_find(u32 tid)
{
	return rpal_thread_at(RPAL_TID_SERVICE(tid), RPAL_TID_INDEX(tid));
}

/**
 * rpal_thread_current() - the current task's registration
 *
 * Context: RCU read side: another thread may end the service.
 * Return: the thread, or NULL.
 */
struct rpal_tcb *rpal_thread_current(void)
{
	struct rpal_tcb *t;

	if (!rpal_maybe_ours())
		return NULL;
	hash_for_each_possible_rcu(by_task, t, node, (unsigned long)current) {
		if (t->task == current && t->space->mm == current->mm)
			return t;
	}
	return NULL;
}

/* Who was found under RCU may have no references any more: then it stays so. */
static struct rpal_tcb *hold(struct rpal_tcb *t)
{
	return t && refcount_inc_not_zero(&t->ref) ? t : NULL;
}

/**
 * rpal_thread_get_current() - as rpal_thread_current(), with a reference
 *
 * Context: task context.
 * Return: the thread, or NULL.
 */
struct rpal_tcb *rpal_thread_get_current(void)
{
	struct rpal_tcb *t;

	rcu_read_lock();
	t = hold(rpal_thread_current());
	rcu_read_unlock();
	return t;
}

/**
 * rpal_thread_get_of() - one of a service's threads, with a reference
 * @space:	the service's space
 * @index:	the thread's index
 *
 * Context: any.
 * Return: the thread, dead or alive, or NULL.
 */
struct rpal_tcb *rpal_thread_get_of(struct rpal_space *space,
				    unsigned int index)
{
	struct rpal_tcb *t;

	rcu_read_lock();
	t = rpal_thread_at(space->slot, index);
	t = t && t->space == space ? hold(t) : NULL;
	rcu_read_unlock();
	return t;
}

/**
 * rpal_thread_linked() - may one thread's task run the other's context
 * @a:		caller
 * @b:		receiver
 *
 * A link that has ended since is as good: the call was begun through it.
 *
 * Context: any; takes no lock, the answer may be old by an instant.
 */
bool rpal_thread_linked(struct rpal_tcb *a, struct rpal_tcb *b)
{
	return a->space == b->space ||
	       test_bit(b->space->slot, a->space->known);
}

/* In a worker: the last reference on a mm must not go in a softirq. */
static void thread_free(struct work_struct *work)
{
	struct rpal_tcb *t = container_of(to_rcu_work(work), struct rpal_tcb,
					  free);

	if (t->user) {
		spin_lock(&rpal_lock);
		rpal_user_put_locked(t->user);
		spin_unlock(&rpal_lock);
	}
	put_task_struct(t->task);
	kvfree(t->mail.fpu);
	rpal_space_put(t->space);
	kfree(t);
}

/**
 * rpal_thread_get() - take a reference
 * @t:		the thread, of which the caller has one or is the task
 *
 * Context: any.
 */
void rpal_thread_get(struct rpal_tcb *t)
{
	refcount_inc(&t->ref);
}

/**
 * rpal_thread_put() - give a reference back
 * @t:		the thread
 *
 * Context: any.
 */
void rpal_thread_put(struct rpal_tcb *t)
{
	if (refcount_dec_and_test(&t->ref))
		queue_rcu_work(thread_wq, &t->free);
}

static struct rpal_tcb __rcu **entry_of(struct rpal_tcb *t)
{
	return &tables[t->space->slot][RPAL_TID_INDEX(t->tid)];
}

static bool drop_locked(struct rpal_tcb *t)
{
	if (rcu_access_pointer(*entry_of(t)) != t)
		return false;
	RCU_INIT_POINTER(*entry_of(t), NULL);
	clear_bit(RPAL_TID_INDEX(t->tid), t->space->threads);
	list_del_init(&t->grave);
	return true;
}

/**
 * rpal_thread_drop() - take a thread out of the table, tombstone or not
 * @t:		the thread
 *
 * Context: any; takes thread_lock.
 */
void rpal_thread_drop(struct rpal_tcb *t)
{
	bool dropped;

	raw_spin_lock(&thread_lock);
	dropped = drop_locked(t);
	raw_spin_unlock(&thread_lock);
	if (dropped)
		rpal_thread_put(t);
}

/**
 * rpal_thread_wake() - have a thread's task look around
 * @t:		the thread
 *
 * Context: any.
 */
void rpal_thread_wake(struct rpal_tcb *t)
{
	WRITE_ONCE(t->woken, true);
	smp_mb(); /* pairs with set_current_state() in the wait */
	wake_up_process(t->task);
}

/**
 * rpal_thread_answer() - answer a caller whose call was handed over
 * @caller:	the caller, dead or alive
 * @nr:		which of its calls
 * @status:	0 or a negative errno
 * @result:	the procedure's result
 *
 * Context: any.
 */
void rpal_thread_answer(struct rpal_tcb *caller, u64 nr, s64 status, s64 result)
{
	raw_spin_lock(&caller->lock);
	/* Else it has given up that call, and may have begun another. */
	if (caller->lazy && caller->lazy_nr == nr) {
		caller->status = status;
		caller->result = result;
		/* With the answer; pairs with is_answered(). */
		smp_store_release(&caller->answered, true);
	}
	raw_spin_unlock(&caller->lock);
	wake_up(&caller->answer_wq);
}

/**
 * rpal_thread_end_claim() - a caller's claim on a thread ends in the kernel
 * @t:		the thread whose word names a caller
 *
 * Context: the task that physically runs the chain of calls.
 */
void rpal_thread_end_claim(struct rpal_tcb *t)
{
	u64 word = rpal_word(t);

	if (READ_ONCE(t->dead)) {
		WRITE_ONCE(t->block->word, RPAL_ST_DEAD);
		rpal_thread_drop(t);
		rpal_thread_wake(t);
		return;
	}
	if (!(word & RPAL_ST_PENDING) &&
	    cmpxchg(&t->block->word, word, RPAL_ST_WAIT) == word)
		return;
	/* All that the call did comes before. */
	smp_store_release(&t->block->word, RPAL_ST_WAIT | RPAL_ST_PENDING);
	rpal_thread_wake(t);
}

/* ------------------------------------------------------------------ death */

/**
 * rpal_thread_kill() - a thread will not be called again
 * @t:		the thread
 *
 * Answers whom it owes an answer. If its context is being run by a caller its
 * word is left to that caller.
 *
 * Context: any.
 */
void rpal_thread_kill(struct rpal_tcb *t)
{
	struct rpal_tcb *caller;
	u64 word, seen, nr;

	raw_spin_lock(&t->lock);
	if (t->dead) {
		raw_spin_unlock(&t->lock);
		return;
	}
	WRITE_ONCE(t->dead, true);
	caller = t->lazy_caller;
	nr = t->lazy_caller_nr;
	t->lazy_caller = NULL;
	word = READ_ONCE(t->block->word);
	while (rpal_word_state(word) != RPAL_ST_CALL) {
		seen = cmpxchg(&t->block->word, word, RPAL_ST_DEAD);
		if (seen == word)
			break;
		word = seen;
	}
	raw_spin_unlock(&t->lock);
	if (caller) {
		rpal_thread_answer(caller, nr, -EPIPE, 0);
		rpal_thread_put(caller);
	}
	rpal_wait_all(t->space->slot);
}

/* By whom is noted where user space cannot change it. */
static bool claimed_by_living(struct rpal_tcb *t, u64 word)
{
	struct rpal_tcb *caller;
	bool alive;

	rcu_read_lock();
	caller = rpal_thread_find(rpal_word_tid(word));
	alive = caller && !READ_ONCE(caller->dead) && caller->call_word == word;
	rcu_read_unlock();
	t->claim = word;
	return alive;
}

/*
 * Under thread_lock: is the dead thread still claimed by a living one? Not if it
 * was dropped already, whatever its word may say since. A caller that has come
 * home since it died has written WAIT, which could be claimed again when nobody
 * knows the thread any more: from now on it cannot.
 */
static bool claimed_locked(struct rpal_tcb *t)
{
	int tries;

	if (rcu_access_pointer(*entry_of(t)) != t)
		return false;
	for (tries = 0; tries < MAX_TRIES; tries++) {
		u64 word = rpal_word(t);

		if (rpal_word_state(word) == RPAL_ST_CALL)
			return claimed_by_living(t, word & ~(u64)RPAL_ST_PENDING);
		if (cmpxchg(&t->block->word, word, RPAL_ST_DEAD) == word)
			return false;
	}
	/* Somebody plays with it. */
	WRITE_ONCE(t->block->word, RPAL_ST_DEAD);
	return false;
}

/* Tombstones that waited for this thread to come home: it never will. */
static void drop_tombstones_locked(struct rpal_tcb *t,
				   struct list_head *dropped)
{
	struct rpal_tcb *dead, *next;

	list_for_each_entry_safe(dead, next, &tombstones, grave) {
		if (dead->claim != t->call_word)
			continue;
		if (drop_locked(dead))
			list_add(&dead->grave, dropped);
	}
}

/* The table's references, without the lock. */
static void put_dropped(struct list_head *dropped)
{
	struct rpal_tcb *dead, *next;

	list_for_each_entry_safe(dead, next, dropped, grave) {
		list_del_init(&dead->grave);
		rpal_thread_wake(dead);
		rpal_thread_put(dead);
	}
}

/**
 * rpal_thread_bury() - forget a thread that was killed
 * @t:		the thread, dead; the caller has a reference
 *
 * Context: task context, under no lock, preemptible; does not sleep but for locks,
 * with PREEMPT_RT.
 */
void rpal_thread_bury(struct rpal_tcb *t)
{
	LIST_HEAD(dropped);
	bool gone = false;

	/* While the hash has its reference. */
	rpal_watch_end(t);
	rpal_deadline_end(t);
	raw_spin_lock(&thread_lock);
	if (hlist_unhashed(&t->node)) {
		raw_spin_unlock(&thread_lock);
		return;
	}
	/* Who finds the task unregistered finds it without the mark. */
	clear_task_syscall_work(t->task, SYSCALL_USER_DISPATCH);
	hash_del_rcu(&t->node);
	drop_tombstones_locked(t, &dropped);
	if (claimed_locked(t))
		list_add(&t->grave, &tombstones);
	else
		gone = drop_locked(t);
	raw_spin_unlock(&thread_lock);

	rpal_uncharge(t->user, RPAL_LIMIT_THREADS);
	put_dropped(&dropped);
	rpal_thread_put(t);	/* the hash's */
	if (gone)
		rpal_thread_put(t);
}

/* Is it in a call, on either side? Then have the contexts put where they belong. */
static bool call_home(struct rpal_tcb *t)
{
	if (READ_ONCE(t->dead) || t->task == current)
		return false;
	if (rpal_in_call(t)) {
		rpal_kick_task(t, t->task);
		return true;
	}
	return rpal_word_state(rpal_word(t)) == RPAL_ST_CALL && rpal_kick(t);
}

/*
 * No call can begin any more, but some may run: each context goes to its own
 * task, where it finds out. Who does not come in time is in no call, only its
 * words say so.
 */
static void call_all_home(struct rpal_space *space)
{
	int rounds = 100;
	bool busy;

	do {
		unsigned int i;

		busy = false;
		for_each_set_bit(i, space->threads, RPAL_NR_INDEX) {
			struct rpal_tcb *t = rpal_thread_get_of(space, i);

			if (!t)
				continue;
			busy |= call_home(t);
			rpal_thread_put(t);
		}
		if (busy)
			schedule_timeout_uninterruptible(1);
	} while (busy && --rounds);
}

/*
 * Tombstones of a service that has no links any more. A caller that came home
 * before they went has given its receiver back in user mode, where it cannot
 * know that it was dead: nobody else will take that one away.
 */
static void drop_unclaimed(struct rpal_space *space)
{
	struct rpal_tcb *dead, *next;
	LIST_HEAD(dropped);

	raw_spin_lock(&thread_lock);
	list_for_each_entry_safe(dead, next, &tombstones, grave) {
		if (dead->space != space || claimed_locked(dead))
			continue;
		if (drop_locked(dead))
			list_add(&dead->grave, &dropped);
	}
	raw_spin_unlock(&thread_lock);
	put_dropped(&dropped);
}

/**
 * rpal_thread_service_gone() - a service ends: so do its threads
 * @space:	its space, without links
 * @alive:	its tasks may be running
 *
 * Context: may sleep.
 */
void rpal_thread_service_gone(struct rpal_space *space, bool alive)
{
	unsigned int i;

	/* Who is not seen here sees that the service has ended: see enrolled(). */
	smp_mb();
	if (bitmap_empty(space->threads, RPAL_NR_INDEX))
		return;
	if (alive)
		call_all_home(space);
	for_each_set_bit(i, space->threads, RPAL_NR_INDEX) {
		struct rpal_tcb *t = rpal_thread_get_of(space, i);

		if (!t)
			continue;
		rpal_thread_kill(t);
		rpal_thread_bury(t);
		rpal_thread_wake(t);
		rpal_thread_put(t);
	}
	drop_unclaimed(space);
}

/* ----------------------------------------------------------- registration */

/* What a call cannot carry from one task to another. */
static int check_task(void)
{
	if (current->group_leader->thread.fpu.perm.__state_perm &
	    XFEATURE_MASK_USER_DYNAMIC)
		return -EOPNOTSUPP;
	if (rpal_has_shadow_stack())
		return -EOPNOTSUPP;
	if (test_task_syscall_work(current, SYSCALL_USER_DISPATCH))
		return -EOPNOTSUPP;
#ifdef CONFIG_RSEQ
	if (current->rseq)
		return -EBUSY;
#endif
	return 0;
}

static struct rpal_tcb *thread_new(struct rpal_space *space, bool receiver)
{
	struct rpal_tcb *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);

	if (!t)
		return NULL;
	t->mail.fpu_size = current->thread.fpu.fpstate->size;
	t->mail.fpu = kvzalloc(t->mail.fpu_size, GFP_KERNEL_ACCOUNT);
	if (!t->mail.fpu) {
		kfree(t);
		return NULL;
	}
	INIT_RCU_WORK(&t->free, thread_free);
	refcount_set(&t->ref, 1);
	INIT_HLIST_NODE(&t->node);
	INIT_LIST_HEAD(&t->grave);
	raw_spin_lock_init(&t->lock);
	init_waitqueue_head(&t->answer_wq);
	rpal_deadline_init(t);
	rpal_space_get(space);
	t->space = space;
	t->task = get_task_struct(current);
	t->sampled_run = current->se.sum_exec_runtime;
	t->sampled_system = current->stime;
	t->receiver = receiver;
	return t;
}

static int charge_locked(struct rpal_tcb *t, bool exempt)
{
	struct rpal_user *user = t->space->user;
	int err;

	/* It may have ended meanwhile. */
	if (!user)
		return -ENXIO;
	err = rpal_charge_locked(user, RPAL_LIMIT_THREADS, exempt);
	if (!err)
		t->user = rpal_user_hold_locked(user);
	return err;
}

static int charge(struct rpal_tcb *t)
{
	bool exempt = false;
	int err;

	do {
		spin_lock(&rpal_lock);
		err = charge_locked(t, exempt);
		spin_unlock(&rpal_lock);
	} while (rpal_limit_waived(err, &exempt));
	return err;
}

static int table_for(unsigned int slot)
{
	struct rpal_tcb __rcu **table;

	/* Pairs with the cmpxchg() below. */
	if (smp_load_acquire(&tables[slot]))
		return 0;
	table = kvcalloc(RPAL_NR_INDEX, sizeof(*table), GFP_KERNEL);
	if (!table)
		return -ENOMEM;
	if (cmpxchg(&tables[slot], NULL, table))
		kvfree(table);
	return 0;
}

static int free_index_locked(struct rpal_tcb *t)
{
	unsigned int first = t->receiver ? 0 : t->space->nr_receivers;
	unsigned int end = first + (t->receiver ? t->space->nr_receivers :
				    RPAL_MAX_SENDERS);
	unsigned int i;

	for (i = first; i < end; i++) {
		if (!rcu_access_pointer(tables[t->space->slot][i]))
			return i;
	}
	return -ENOSPC;
}

/* Under thread_lock: the block and the name, then the table. */
static void publish_locked(struct rpal_tcb *t, unsigned int index, void *page)
{
	unsigned int offset = index * RPAL_BLOCK_SIZE;

	generation = (generation + 1) & 0xffffff;
	t->tid = RPAL_TID(t->space->slot, index);
	t->call_word = (u64)t->tid << 32 | generation << 8 | RPAL_ST_CALL;
	t->ublock = t->space->area + offset;
	t->block = page + offset_in_page(offset);
	memset(t->block, 0, sizeof(*t->block));
	t->block->call_word = t->call_word;
	/* Last: now peers take the block for a thread's. */
	smp_store_release(&t->block->tid, t->tid);
	/*
	 * The hash has a reference of its own: a caller may drop a dead thread
	 * from the table before its task comes to bury it.
	 */
	rpal_thread_get(t);
	rcu_assign_pointer(tables[t->space->slot][index], t);
	set_bit(index, t->space->threads);
	hash_add_rcu(by_task, &t->node, (unsigned long)current);
}

/* Finds an index and a block for a thread, and makes it known. */
static int enrol(struct rpal_tcb *t)
{
	int wanted = -1, index;
	void *page = NULL;

	/* The page must be there before the lock; the index may be lost. */
	for (;;) {
		raw_spin_lock(&thread_lock);
		index = free_index_locked(t);
		if (index >= 0 && index == wanted)
			publish_locked(t, index, page);
		raw_spin_unlock(&thread_lock);
		if (index < 0)
			return index;
		if (index == wanted)
			return 0;
		wanted = index;
		page = rpal_area_page(t->space,
				      index * RPAL_BLOCK_SIZE >> PAGE_SHIFT);
		if (!page)
			return -ENOMEM;
	}
}

/*
 * The service may have ended before the thread could be found. Who ends it says so
 * first and then looks for its threads; we do it the other way round.
 */
static int enrolled(struct rpal_tcb *t)
{
	/* Pairs with rpal_thread_service_gone(). */
	smp_mb();
	if (READ_ONCE(t->space->key))
		return 0;
	rpal_thread_kill(t);
	rpal_thread_bury(t);
	return -ENXIO;
}

/* From now on every system call of the task comes by our hook. */
static void watch_syscalls(void)
{
	current->syscall_dispatch.selector = NULL;
	current->syscall_dispatch.offset = 0;
	current->syscall_dispatch.len = ~0UL;
	current->syscall_dispatch.on_dispatch = false;
	set_task_syscall_work(current, SYSCALL_USER_DISPATCH);
}

static int register_again(struct rpal_tcb *t, struct rpal_thread *reg)
{
	int err = 0;

	if ((reg->flags & RPAL_THREAD_RECEIVER) && !t->receiver)
		err = -EBUSY;
	reg->tid = t->tid;
	reg->block = t->ublock;
	rpal_thread_put(t);
	return err;
}

/**
 * rpal_thread_register() - RPAL_IOC_THREAD
 * @file:	the service's file
 * @reg:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -EINVAL, -ENXIO, -EPERM, -EBUSY, -ENOSPC, -EDQUOT, -EOPNOTSUPP,
 * -ENOMEM.
 */
int rpal_thread_register(struct rpal_file *file, struct rpal_thread *reg)
{
	struct rpal_space *space = rpal_service_caller(file);
	u32 roles = RPAL_THREAD_SENDER | RPAL_THREAD_RECEIVER;
	struct rpal_tcb *t;
	int err;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (!reg->flags || (reg->flags & ~roles) || reg->reserved)
		return -EINVAL;
	if (!space->area)
		return -ENXIO;
	t = rpal_thread_get_current();
	if (t)
		return register_again(t, reg);
	err = check_task() ?: table_for(space->slot);
	if (err)
		return err;
	t = thread_new(space, reg->flags & RPAL_THREAD_RECEIVER);
	if (!t)
		return -ENOMEM;
	/* Once others can find it they may end it, and give its references back. */
	rpal_thread_get(t);
	err = charge(t);
	if (!err) {
		watch_syscalls();
		err = enrol(t);
		if (err) {
			clear_task_syscall_work(current, SYSCALL_USER_DISPATCH);
			rpal_uncharge(t->user, RPAL_LIMIT_THREADS);
		}
	}
	if (err)
		rpal_thread_put(t);
	else
		err = enrolled(t);
	reg->tid = t->tid;
	reg->block = t->ublock;
	rpal_thread_put(t);
	return err;
}

/**
 * rpal_thread_exit() - RPAL_IOC_THREAD_EXIT
 * @file:	the service's file
 *
 * Context: process context.
 * Return: 0, -ENXIO, -EPERM or -EBUSY.
 */
int rpal_thread_exit(struct rpal_file *file)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_tcb *t;

	if (IS_ERR(space))
		return PTR_ERR(space);
	t = rpal_thread_get_current();
	if (!t)
		return -ENXIO;
	if (t->lazy || READ_ONCE(t->block->callee)) {
		rpal_thread_put(t);
		return -EBUSY;
	}
	rpal_thread_kill(t);
	rpal_thread_bury(t);
	rpal_thread_put(t);
	return 0;
}

/**
 * rpal_thread_module_init() - prepare for threads
 *
 * Context: module load.
 * Return: 0 or -ENOMEM.
 */
int rpal_thread_module_init(void)
{
	rpal_wait_init();
	thread_wq = alloc_workqueue("rpal", WQ_UNBOUND, 0);
	return thread_wq ? 0 : -ENOMEM;
}

/**
 * rpal_thread_module_exit() - free the tables
 *
 * Context: module unload: no thread is left, but one may be about to be freed.
 */
void rpal_thread_module_exit(void)
{
	unsigned int slot;

	rcu_barrier();
	destroy_workqueue(thread_wq);
	for (slot = 0; slot < RPAL_NR_SLOTS; slot++)
		kvfree(tables[slot]);
}
