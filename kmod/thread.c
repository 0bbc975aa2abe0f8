// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered threads: their table, their blocks, their registration and death.
 *
 * A thread's block lies in a page that the module has allocated and that the
 * process maps: the kernel uses its own mapping, which no munmap() takes away.
 *
 * A receiver that dies while its context runs on a caller's task stays in the
 * table as a tombstone, its word untouched, until that caller has come home or
 * died: without it a chain of calls through it could not be followed. It is kept only
 * if it has died in our wait, for a living caller that it is linked with and that says
 * the same; one for each caller; its user pays for it; and the table is its own
 * space's, so that the next one in the slot has all places.
 */
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/nospec.h>
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

/**
 * struct rpal_table - a space's threads, by index
 * @rcu:	for freeing
 * @at:		the threads; under thread_lock, read under RCU
 */
struct rpal_table {
	struct rcu_head rcu;
	struct rpal_tcb __rcu *at[RPAL_NR_INDEX];
};

/* The table of the space that is in a slot: under thread_lock, read under RCU. */
static struct rpal_table __rcu *tables[RPAL_NR_SLOTS];
/* As many as there may be of one user, four in a bucket. */
static DEFINE_HASHTABLE(by_task, 12);	/* under thread_lock, read by RCU */
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
	struct rpal_table *table;

	if (slot >= RPAL_NR_SLOTS || index >= RPAL_NR_INDEX)
		return NULL;
	/* User space's numbers, which must not be used beyond these even for a guess. */
	slot = array_index_nospec(slot, RPAL_NR_SLOTS);
	index = array_index_nospec(index, RPAL_NR_INDEX);
	table = rcu_dereference(tables[slot]);
	return table ? rcu_dereference(table->at[index]) : NULL;
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
	if (!refcount_dec_and_test(&t->ref))
		return;
	if (t->user)
		rpal_uncharge(t->user, RPAL_LIMIT_THREADS);
	queue_rcu_work(thread_wq, &t->free);
}

static struct rpal_tcb __rcu **entry_of(struct rpal_tcb *t)
{
	return &t->space->table->at[RPAL_TID_INDEX(t->tid)];
}

/* Of a tombstone: nobody is to follow it any more. */
static void part_locked(struct rpal_tcb *t)
{
	if (t->kept_for)
		RCU_INIT_POINTER(t->kept_for->remains, NULL);
	WRITE_ONCE(t->kept_for, NULL);
}

/* The table's reference is the caller's then. */
static bool drop_locked(struct rpal_tcb *t)
{
	if (rcu_access_pointer(*entry_of(t)) != t)
		return false;
	RCU_INIT_POINTER(*entry_of(t), NULL);
	clear_bit(RPAL_TID_INDEX(t->tid), t->space->threads);
	part_locked(t);
	return true;
}

static void drop_to_locked(struct rpal_tcb *t, struct list_head *dropped)
{
	if (drop_locked(t))
		list_add(&t->grave, dropped);
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
	if (caller->answer != RPAL_ANSWER_NONE && caller->lazy_nr == nr) {
		caller->status = status;
		caller->result = result;
		/* With the answer; pairs with is_answered(). */
		smp_store_release(&caller->answer, RPAL_ANSWER_THERE);
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

/*
 * The word of a dead thread says so, unless it says that a caller has its context.
 * Return: what it says then, 0 if it is closed.
 */
static u64 close_word(struct rpal_tcb *t)
{
	int tries;

	for (tries = 0; tries < MAX_TRIES; tries++) {
		u64 word = rpal_word(t);

		if (rpal_word_state(word) == RPAL_ST_CALL)
			return word & ~(u64)RPAL_ST_PENDING;
		if (cmpxchg(&t->block->word, word, RPAL_ST_DEAD) == word)
			return 0;
	}
	/* Somebody plays with it. */
	WRITE_ONCE(t->block->word, RPAL_ST_DEAD);
	return 0;
}

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
	u64 nr;

	raw_spin_lock(&t->lock);
	if (t->dead) {
		raw_spin_unlock(&t->lock);
		return;
	}
	t->died_waiting = t->mailbox == RPAL_MAIL_EMPTY;
	/* Pairs with is_lent(). */
	smp_store_release(&t->dead, true);
	caller = t->lazy_caller;
	nr = t->lazy_caller_nr;
	t->lazy_caller = NULL;
	close_word(t);
	raw_spin_unlock(&t->lock);
	if (caller) {
		rpal_thread_answer(caller, nr, -EPIPE, 0);
		rpal_thread_put(caller);
	}
	rpal_wait_all(t->space->slot);
}

/* Under thread_lock, so that it cannot be buried: the caller whose word a dead one has. */
static struct rpal_tcb *living_caller_locked(struct rpal_tcb *t, u64 word)
{
	struct rpal_tcb *caller;

	caller = rpal_thread_find(rpal_word_tid(word));
	if (!caller || caller == t || READ_ONCE(caller->dead) || caller->call_word != word ||
	    READ_ONCE(caller->block->callee) != t->tid)
		return NULL;
	if (t->kept_for != caller && !rpal_thread_linked(caller, t))
		return NULL;
	return caller;
}

/*
 * Keep a dead thread that is still in the table for its caller, or drop it. A caller that
 * has come home since it died has written WAIT, which could be claimed again when nobody
 * knows the thread any more: from now on it cannot.
 */
static void keep_or_drop_locked(struct rpal_tcb *t, struct list_head *dropped)
{
	struct rpal_tcb *caller = NULL, *old;
	u64 word;

	if (rcu_access_pointer(*entry_of(t)) != t)
		return;
	word = close_word(t);
	rcu_read_lock();
	if (word && t->died_waiting)
		caller = living_caller_locked(t, word);
	if (!caller) {
		WRITE_ONCE(t->block->word, RPAL_ST_DEAD);
		drop_to_locked(t, dropped);
	} else if (t->kept_for != caller) {
		part_locked(t);
		/* It is in one call at a time. */
		old = rcu_dereference_protected(caller->remains,
						lockdep_is_held(&thread_lock));
		if (old)
			drop_to_locked(old, dropped);
		WRITE_ONCE(t->kept_for, caller);
		rcu_assign_pointer(caller->remains, t);
	}
	rcu_read_unlock();
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

/* Another mm's, if the task has executed a program while somebody else uses the old one. */
static bool is_registered_locked(struct task_struct *task)
{
	struct rpal_tcb *t;

	hash_for_each_possible(by_task, t, node, (unsigned long)task) {
		if (t->task == task)
			return true;
	}
	return false;
}

/* Who waits for the end of this one's call waits for nobody. */
static void wake_callee(struct rpal_tcb *t)
{
	struct rpal_tcb *callee;

	rcu_read_lock();
	callee = rpal_thread_find(READ_ONCE(t->block->callee));
	if (callee && rpal_word_caller(callee) == t->call_word && rpal_thread_linked(t, callee))
		rpal_thread_wake(callee);
	rcu_read_unlock();
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
	struct rpal_tcb *remains;
	LIST_HEAD(dropped);

	/* While the hash has its reference. */
	rpal_watch_end(t);
	rpal_deadline_end(t);
	raw_spin_lock(&thread_lock);
	if (hlist_unhashed(&t->node)) {
		raw_spin_unlock(&thread_lock);
		return;
	}
	hash_del_rcu(&t->node);
	/* Who finds the task unregistered finds it without the mark. */
	if (!is_registered_locked(t->task))
		clear_task_syscall_work(t->task, SYSCALL_USER_DISPATCH);
	/* What waited for this thread to come home: it never will. */
	remains = rcu_dereference_protected(t->remains, lockdep_is_held(&thread_lock));
	if (remains)
		drop_to_locked(remains, &dropped);
	keep_or_drop_locked(t, &dropped);
	raw_spin_unlock(&thread_lock);

	put_dropped(&dropped);
	wake_callee(t);
	rpal_thread_put(t);	/* the hash's */
}

/*
 * Is it in a call, on either side? Then have the contexts put where they belong. Return:
 * whether some task may have to do something for that; @asked: it has been asked before.
 */
static enum rpal_runs call_home(struct rpal_tcb *t, bool *asked)
{
	enum rpal_runs runs = RPAL_RUNS_NOTHING;

	if (READ_ONCE(t->dead) || t->task == current)
		return runs;
	*asked = atomic_read(&t->kicked);
	if (rpal_in_call(t)) {
		runs = rpal_runs(t);
		if (runs != RPAL_RUNS_NOTHING)
			rpal_kick_task(t, t->task);
	} else if (rpal_word_state(rpal_word(t)) == RPAL_ST_CALL) {
		runs = rpal_kick(t);
	}
	return runs;
}

/* How often those are asked whose words only say that they are in a call. */
#define MAX_ROUNDS	100

/*
 * No call can begin any more, but some may run: each context goes to its own
 * task, where it finds out. A task that was asked and has not looked yet waits for a
 * page, in the middle of a peer's code: it must not lose its registration before. Who does
 * look, and does not come, is in no call.
 */
static void call_all_home(struct rpal_space *space)
{
	int rounds = MAX_ROUNDS;
	bool busy, must_wait;

	do {
		unsigned int i;

		busy = false;
		must_wait = false;
		for_each_set_bit(i, space->threads, RPAL_NR_INDEX) {
			struct rpal_tcb *t = rpal_thread_get_of(space, i);
			enum rpal_runs runs;
			bool asked = false;

			if (!t)
				continue;
			runs = call_home(t, &asked);
			busy |= runs != RPAL_RUNS_NOTHING;
			must_wait |= runs == RPAL_RUNS_MAYBE && asked;
			rpal_thread_put(t);
		}
		/* Who exits is to be gone soon, and so are its threads. */
		if (!must_wait || (current->flags & PF_EXITING))
			rounds--;
		if (busy)
			schedule_timeout_killable(1);
	} while (busy && rounds && !fatal_signal_pending(current));
}

/*
 * Tombstones of a service that has no links any more. A caller that came home
 * before they went has given its receiver back in user mode, where it cannot
 * know that it was dead: nobody else will take that one away.
 */
static void drop_unclaimed(struct rpal_space *space)
{
	LIST_HEAD(dropped);
	unsigned int i;

	raw_spin_lock(&thread_lock);
	for_each_set_bit(i, space->threads, RPAL_NR_INDEX) {
		struct rpal_tcb *t;

		t = rcu_dereference_protected(space->table->at[i],
					      lockdep_is_held(&thread_lock));
		/* Those that are not buried are another service's already. */
		if (t && hlist_unhashed(&t->node))
			keep_or_drop_locked(t, &dropped);
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

static int table_for(struct rpal_space *space)
{
	struct rpal_table *table;

	/* Pairs with the cmpxchg() below. */
	if (smp_load_acquire(&space->table))
		return 0;
	table = kvzalloc(sizeof(*table), GFP_KERNEL_ACCOUNT);
	if (!table)
		return -ENOMEM;
	if (cmpxchg(&space->table, NULL, table))
		kvfree(table);
	return 0;
}

/**
 * rpal_thread_space_gone() - nobody's name leads to a space's threads any more
 * @space:	the space, which gives up its slot
 *
 * Callers still follow what is kept for them.
 *
 * Context: task context; takes thread_lock.
 */
void rpal_thread_space_gone(struct rpal_space *space)
{
	raw_spin_lock(&thread_lock);
	if (space->table && rcu_access_pointer(tables[space->slot]) == space->table)
		RCU_INIT_POINTER(tables[space->slot], NULL);
	raw_spin_unlock(&thread_lock);
}

/**
 * rpal_thread_table_free() - a space has gone
 * @space:	the space, of which no thread is left
 *
 * Context: any.
 */
void rpal_thread_table_free(struct rpal_space *space)
{
	if (space->table)
		kvfree_rcu(space->table, rcu);
}

static int free_index_locked(struct rpal_tcb *t)
{
	unsigned int first = t->receiver ? 0 : t->space->nr_receivers;
	unsigned int end = first + (t->receiver ? t->space->nr_receivers :
				    RPAL_MAX_SENDERS);
	unsigned int i;

	for (i = first; i < end; i++) {
		if (!rcu_access_pointer(t->space->table->at[i]))
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
	rcu_assign_pointer(t->space->table->at[index], t);
	rcu_assign_pointer(tables[t->space->slot], t->space->table);
	set_bit(index, t->space->threads);
	hash_add_rcu(by_task, &t->node, (unsigned long)current);
	/* From now on every system call of the task comes by our hook. */
	set_task_syscall_work(current, SYSCALL_USER_DISPATCH);
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

/* For the mark that it is to get: all system calls, from everywhere. */
static void prepare_mark(void)
{
	current->syscall_dispatch.selector = NULL;
	current->syscall_dispatch.offset = 0;
	current->syscall_dispatch.len = ~0UL;
	current->syscall_dispatch.on_dispatch = false;
}

static int register_again(struct rpal_tcb *t, struct rpal_thread *reg)
{
	int err = 0;

	if ((reg->flags & RPAL_THREAD_RECEIVER) && !t->receiver)
		err = -EBUSY;
	if (!err) {
		reg->tid = t->tid;
		reg->block = t->ublock;
	}
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
	err = check_task() ?: table_for(space);
	if (err)
		return err;
	t = thread_new(space, reg->flags & RPAL_THREAD_RECEIVER);
	if (!t)
		return -ENOMEM;
	/* Once others can find it they may end it, and give its references back. */
	rpal_thread_get(t);
	err = charge(t);
	if (!err) {
		prepare_mark();
		err = enrol(t);
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
	if (t->answer != RPAL_ANSWER_NONE || READ_ONCE(t->block->callee)) {
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
 * rpal_thread_module_exit() - wait for threads that are being freed
 *
 * Context: module unload: no thread is left, but one may be about to be freed.
 */
void rpal_thread_module_exit(void)
{
	rcu_barrier();
	destroy_workqueue(thread_wq);
}
