// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where receivers wait to be called, and senders wait for an answer or for a
 * receiver.
 *
 * While a receiver sleeps here its user context may run on a caller's task, and
 * so on the very stack from which it came: the frame of its ioctl is stale.
 * Whichever way the wait ends, the task continues with a context from its block
 * or from its mailbox, never with the registers it came with.
 */
#include <linux/file.h>
#include <linux/hrtimer.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <asm/fsgsbase.h>

#include "mailbox.h"
#include "thread.h"

/*
 * A caller may be killed between giving a receiver back and waking it, and a
 * forged word may promise a wake-up that never comes: look again so often.
 */
#define RECHECK		(HZ / 10)

/*
 * How long a thread that must be interrupted waits for who its word says has its
 * context: until these come to PATIENCE. User space can make a word say anything, but
 * it must not keep a task from being stopped.
 */
#define PATIENCE	1000
#define COST_LOOK	10	/* nothing speaks for it, but somebody may just be late */
#define COST_IN_VAIN	100	/* who should have had it was asked, and did not */
#define COST_NOTHING	250	/* who should have it can have nothing */

/* Callers that wait for any receiver of a service, by slot. */
static wait_queue_head_t free_wq[RPAL_NR_SLOTS];

/**
 * rpal_wait_init() - prepare the wait queues
 *
 * Context: module load.
 */
void rpal_wait_init(void)
{
	unsigned int slot;

	for (slot = 0; slot < RPAL_NR_SLOTS; slot++)
		init_waitqueue_head(&free_wq[slot]);
}

/**
 * rpal_wait_freed() - a receiver has become free: let one caller try
 * @slot:	its service
 *
 * Context: any.
 */
void rpal_wait_freed(unsigned int slot)
{
	if (wq_has_sleeper(&free_wq[slot]))
		wake_up(&free_wq[slot]);
}

/**
 * rpal_wait_all() - something has changed for all callers that wait
 * @slot:	the service they wait for
 *
 * Context: any.
 */
void rpal_wait_all(unsigned int slot)
{
	wake_up_all(&free_wq[slot]);
}

/* --------------------------------------------------------- receiver's wait */

enum step {
	STEP_SLEEP,		/* until something wakes us */
	STEP_AGAIN,		/* look again at once */
	STEP_HOME,		/* the wait is over: back with a code */
	STEP_INSTALL,		/* the context was handed over */
};

/**
 * struct waiter - one wait
 * @t:		the current thread
 * @file:	pollable file or NULL
 * @poll:	its wait queues
 * @news:	news in the block end the wait, too
 * @expires:	when to give up, KTIME_MAX for never
 * @expired:	that was so, but a caller runs our context: it will wake us
 * @mode:	how to sleep
 * @recheck:	look again soon, whatever happens
 * @spent:	of PATIENCE
 * @kicks:	how many kicks had been done at the last look
 * @code:	for STEP_HOME
 */
struct waiter {
	struct rpal_tcb *t;
	struct file *file;
	struct poll_wqueues poll;
	bool news;
	ktime_t expires;
	bool expired;
	unsigned int mode;
	bool recheck;
	int spent;
	unsigned int kicks;
	int code;
};

/*
 * Nobody writes into a mailbox that is ready, so it is read without the lock. The lock, when
 * the wait ends: not while somebody charges its task with CPU time.
 */
static void install_work(struct callback_head *work)
{
	struct rpal_tcb *t = container_of(work, struct rpal_tcb, install);

	rpal_context_install(&t->mail);
	raw_spin_lock(&t->lock);
	rpal_mailbox_move(t, RPAL_MAIL_READY, RPAL_MAIL_CLOSED);
	raw_spin_unlock(&t->lock);
	rpal_thread_put(t);
}

/*
 * End the wait without a context from elsewhere: false if one is in the mailbox, which
 * user space's word does not change. Whoever has filled it hands it out soon.
 */
static bool leave_wait(struct rpal_tcb *t)
{
	bool left;

	raw_spin_lock(&t->lock);
	left = t->mailbox == RPAL_MAIL_EMPTY;
	if (left)
		rpal_mailbox_move(t, RPAL_MAIL_EMPTY, RPAL_MAIL_CLOSED);
	raw_spin_unlock(&t->lock);
	return left;
}

static void await_context(struct rpal_tcb *t)
{
	while (rpal_mailbox(t) != RPAL_MAIL_READY)
		schedule_timeout_uninterruptible(1);
}

static enum step go_home(struct waiter *w, int code)
{
	w->code = code;
	return STEP_HOME;
}

/* The word agrees with nothing that the kernel knows: no use to wait for what it promises. */
static enum step forged(struct waiter *w)
{
	rpal_count(RPAL_STAT_FORGED);
	WRITE_ONCE(w->t->block->word, RPAL_ST_RUNNING);
	return go_home(w, -EPROTO);
}

/* What has to come first has not come: wait for it a little longer, but not for ever. */
static enum step be_patient(struct waiter *w, int cost)
{
	switch (rpal_mailbox(w->t)) {
	case RPAL_MAIL_READY:
		return STEP_INSTALL;
	case RPAL_MAIL_FILLED:
		/*
		 * It will be handed out, however long that takes: who gave up would lose
		 * the context in it. That is the kernel's word, not user space's.
		 */
		break;
	default:
		w->spent += cost;
		if (w->spent > PATIENCE)
			return forged(w);
	}
	w->mode = TASK_KILLABLE;
	w->recheck = true;
	return STEP_SLEEP;
}

/* Have the context handed over: what it costs that it has not been by now. */
static int kick_cost(struct waiter *w)
{
	struct rpal_tcb *t = w->t;
	unsigned int kicks = READ_ONCE(t->kicks);
	bool in_vain = kicks != w->kicks;

	w->kicks = kicks;
	switch (rpal_kick(t)) {
	case RPAL_RUNS_NOTHING:
		return COST_NOTHING;
	case RPAL_RUNS_HARDLY:
		return COST_LOOK;
	default:
		/* It may wait for a page of ours. */
		return in_vain ? COST_IN_VAIN : 0;
	}
}

/* Something is due while a caller runs our context. */
static enum step interrupt_call(struct waiter *w, u64 word, bool signal)
{
	struct rpal_tcb *t = w->t;

	if (!(word & RPAL_ST_PENDING) &&
	    cmpxchg(&t->block->word, word, word | RPAL_ST_PENDING) != word)
		return STEP_AGAIN;
	w->recheck = true;
	/* An event can wait for the end of the call, a signal cannot. */
	return signal ? be_patient(w, kick_cost(w)) : STEP_SLEEP;
}

static enum step interrupted(struct waiter *w, bool signal, int code)
{
	struct rpal_tcb *t = w->t;
	u64 word = READ_ONCE(t->block->word);

	if (signal && fatal_signal_pending(current)) {
		rpal_thread_kill(t);
		return go_home(w, -EINTR);
	}
	switch (rpal_word_state(word)) {
	case RPAL_ST_WAIT:
		if (cmpxchg(&t->block->word, word, RPAL_ST_RUNNING) != word)
			return STEP_AGAIN;
		return go_home(w, code);
	case RPAL_ST_CALL:
		return interrupt_call(w, word, signal);
	case RPAL_ST_LAZY:
		return be_patient(w, COST_LOOK);
	default:
		return be_patient(w, PATIENCE + 1);
	}
}

/* Unregistered by another thread. A caller that runs us must come home first. */
static enum step buried(struct waiter *w)
{
	enum step step;

	if (rpal_word_state(rpal_word(w->t)) != RPAL_ST_CALL)
		return go_home(w, -ENXIO);
	step = be_patient(w, max(kick_cost(w), COST_LOOK));
	if (step == STEP_HOME)
		w->code = -ENXIO;
	return step == STEP_SLEEP && fatal_signal_pending(current) ?
	       go_home(w, -EINTR) : step;
}

/* In the call of nobody: who has called has died, or has never been. */
static bool is_orphan(struct rpal_tcb *t)
{
	bool orphan;

	rcu_read_lock();
	orphan = !rpal_caller(t);
	rcu_read_unlock();
	return orphan;
}

/* A peer, which may write anything there, has something for us to look at. */
static bool has_news(struct waiter *w)
{
	return w->news && READ_ONCE(w->t->block->news);
}

static enum step look(struct waiter *w, bool event)
{
	struct rpal_tcb *t = w->t;
	u64 word;

	w->mode = TASK_INTERRUPTIBLE;
	w->recheck = false;
	/* First of all: nap() must know, whatever else there is to do. */
	if (w->expires != KTIME_MAX && ktime_after(ktime_get(), w->expires))
		w->expired = true;
	if (rpal_mailbox(t) == RPAL_MAIL_READY)
		return STEP_INSTALL;
	if (READ_ONCE(t->dead))
		return buried(w);
	if (signal_pending(current))
		return interrupted(w, true, -EINTR);
	if (event)
		return interrupted(w, false, RPAL_WAITED_EVENT);
	if (has_news(w))
		return interrupted(w, false, RPAL_WAITED_NEWS);
	if (w->expired)
		return interrupted(w, false, RPAL_WAITED_TIMEOUT);
	word = READ_ONCE(t->block->word);
	if (word == (RPAL_ST_WAIT | RPAL_ST_PENDING)) {
		/* The reason is gone again. */
		cmpxchg(&t->block->word, word, RPAL_ST_WAIT);
		rpal_wait_freed(t->space->slot);
		return STEP_AGAIN;
	}
	if (rpal_word_state(word) == RPAL_ST_CALL && is_orphan(t))
		return be_patient(w, COST_LOOK);
	w->spent = 0;
	/* A caller that dies between release and wake leaves PENDING behind. */
	w->recheck = word & RPAL_ST_PENDING;
	return STEP_SLEEP;
}

static bool poll_now(struct waiter *w, bool first)
{
	__poll_t ready;

	if (!w->file)
		return false;
	ready = vfs_poll(w->file, first ? &w->poll.pt : NULL);
	w->poll.pt._qproc = NULL;
	return ready & (EPOLLIN | EPOLLERR | EPOLLHUP);
}

static void nap(struct waiter *w, bool event)
{
	struct rpal_tcb *t = w->t;
	/* A time that has passed would not let us sleep at all. */
	ktime_t until = w->expired ? KTIME_MAX : w->expires;

	if (w->recheck)
		until = min(until, ktime_add_ms(ktime_get(),
						jiffies_to_msecs(RECHECK)));
	set_current_state(w->mode);
	/* What was polled is not news while it is still pending. */
	if (rpal_mailbox(t) != RPAL_MAIL_READY && !READ_ONCE(t->woken) &&
	    !(w->file && w->poll.triggered && !event))
		schedule_hrtimeout(until == KTIME_MAX ? NULL : &until,
				   HRTIMER_MODE_ABS);
	__set_current_state(TASK_RUNNING);
	/*
	 * Then look again: who sets news before it wakes us must not have both
	 * overlooked.
	 */
	smp_store_mb(t->woken, false);
	if (w->file)
		smp_store_mb(w->poll.triggered, 0);	/* then poll again */
}

static enum step wait_for_it(struct waiter *w)
{
	bool event = poll_now(w, true);
	enum step step;

	for (;;) {
		step = look(w, event);
		if (step == STEP_SLEEP)
			nap(w, event);
		else if (step != STEP_AGAIN)
			return step;
		cond_resched();		/* the word may be made to change forever */
		event = poll_now(w, false);
	}
}

/* From here on callers may claim us. */
static void park(struct rpal_tcb *t, bool reply)
{
	s64 status = READ_ONCE(t->block->status);
	s64 result = READ_ONCE(t->block->result);
	struct rpal_tcb *caller = NULL;
	u64 nr = 0;

	raw_spin_lock(&t->lock);
	if (reply) {
		swap(caller, t->lazy_caller);
		nr = t->lazy_caller_nr;
	}
	rpal_mailbox_move(t, RPAL_MAIL_CLOSED, RPAL_MAIL_EMPTY);
	t->woken = false;
	if (!t->dead) {
		/*
		 * Callable. A peer sets news and then looks at the word, we set
		 * the word and then look for news: one of us sees the other.
		 */
		smp_store_mb(t->block->word, RPAL_ST_WAIT);
	}
	raw_spin_unlock(&t->lock);
	/* Parked before the caller wakes: it may call again at once. */
	if (caller) {
		rpal_thread_answer(caller, nr, status, result);
		rpal_thread_put(caller);
	}
	rpal_wait_freed(t->space->slot);
}

static int wait_in_call(struct waiter *w, bool reply)
{
	struct rpal_tcb *t = w->t;
	enum step step;

	rpal_count(RPAL_STAT_WAITS);
	w->kicks = READ_ONCE(t->kicks);
	if (w->file)
		poll_initwait(&w->poll);
	park(t, reply);
	step = wait_for_it(w);
	if (w->file)
		poll_freewait(&w->poll);
	if (step == STEP_HOME && !leave_wait(t)) {
		await_context(t);
		step = STEP_INSTALL;
	}
	if (step == STEP_INSTALL) {
		/*
		 * Not here: the way out of a system call overwrites ax; and
		 * before signals are looked at.
		 */
		rpal_thread_get(t);
		init_task_work(&t->install, install_work);
		task_work_add(current, &t->install, TWA_RESUME);
		return 0;
	}
	rpal_context_go_home(t, t->space->ranges.wait_ip, w->code, 0);
	return w->code;
}

static int check_wait(const struct rpal_wait *wait)
{
	u32 known = RPAL_WAIT_REPLY | RPAL_WAIT_NEWS;

	if ((wait->flags & ~known) || wait->reserved || wait->fd < -1 ||
	    wait->timeout_ns < -1)
		return -EINVAL;
	return 0;
}

static ktime_t expiry(s64 timeout_ns)
{
	return timeout_ns < 0 ? KTIME_MAX :
	       ktime_add_safe(ktime_get(), ns_to_ktime(timeout_ns));
}

static int wait_with(struct waiter *w, const struct rpal_wait *wait)
{
	struct rpal_tcb *t = w->t;
	bool reply = wait->flags & RPAL_WAIT_REPLY;
	int ret;

	if (!t->receiver)
		return -ENXIO;
	/* A call of its own is still open, or an answer is still due. */
	if (t->answer != RPAL_ANSWER_NONE || (!reply && t->lazy_caller))
		return -EINVAL;
	w->news = wait->flags & RPAL_WAIT_NEWS;
	w->expires = expiry(wait->timeout_ns);
	if (wait->fd >= 0) {
		w->file = fget(wait->fd);
		if (!w->file)
			return -EBADF;
	}
	ret = wait_in_call(w, reply);
	if (w->file)
		fput(w->file);
	return ret;
}

/**
 * rpal_wait_call() - RPAL_IOC_WAIT
 * @file:	the service's file
 * @wait:	arguments, already copied
 *
 * Context: sleeps. Changes the registers with which the task returns.
 * Return: as documented at struct rpal_wait.
 */
int rpal_wait_call(struct rpal_file *file, const struct rpal_wait *wait)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct waiter w = {};
	int ret;

	if (IS_ERR(space))
		return PTR_ERR(space);
	ret = check_wait(wait);
	if (ret)
		return ret;
	w.t = rpal_thread_get_current();
	if (!w.t)
		return -ENXIO;
	ret = wait_with(&w, wait);
	rpal_thread_put(w.t);
	return ret;
}

/* ----------------------------------------------------------- sender's waits */

static bool is_answered(struct rpal_tcb *t)
{
	/* Pairs with rpal_thread_answer(). */
	return smp_load_acquire(&t->answer) == RPAL_ANSWER_THERE;
}

/* 0, -EINTR, or -ETIMEDOUT after the deadline. */
static int sleep_for_answer(struct rpal_tcb *t, bool timed)
{
	ktime_t until = KTIME_MAX;
	DEFINE_WAIT(wait);
	int ret = 0;

	for (;;) {
		prepare_to_wait(&t->answer_wq, &wait, TASK_INTERRUPTIBLE);
		/* It may be changed meanwhile, and then somebody wakes us. */
		if (timed)
			until = rpal_deadline_of(t);
		if (is_answered(t))
			break;
		if (signal_pending(current))
			ret = -EINTR;
		else if (until != KTIME_MAX && ktime_after(ktime_get(), until))
			ret = -ETIMEDOUT;
		if (ret)
			break;
		schedule_hrtimeout(until == KTIME_MAX ? NULL : &until,
				   HRTIMER_MODE_ABS);
	}
	finish_wait(&t->answer_wq, &wait);
	return ret;
}

/**
 * rpal_take_answer() - wait for the answer to a call that was handed over
 * @t:		the current thread, with a reference
 * @patience:	what to do at the deadline
 * @status:	the answer
 * @result:	the answer
 *
 * Context: sleeps.
 * Return: 0, -EINTR or -ETIMEDOUT.
 */
int rpal_take_answer(struct rpal_tcb *t, enum rpal_patience patience,
		     s64 *status, s64 *result)
{
	int ret = sleep_for_answer(t, patience != RPAL_WAIT_ON);

	if (ret && (ret == -EINTR || patience != RPAL_GIVE_UP))
		return ret;
	raw_spin_lock(&t->lock);
	/* It may have come at the last moment. */
	if (t->answer == RPAL_ANSWER_THERE) {
		*status = t->status;
		*result = t->result;
		ret = 0;
	}
	WRITE_ONCE(t->answer, RPAL_ANSWER_NONE);
	raw_spin_unlock(&t->lock);
	WRITE_ONCE(t->block->callee, 0);
	return ret;
}

/**
 * rpal_wait_reply() - RPAL_IOC_AWAIT_REPLY
 * @file:	the service's file
 * @reply:	arguments, already copied, and results
 *
 * Context: sleeps.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -EINTR or -ETIMEDOUT.
 */
int rpal_wait_reply(struct rpal_file *file, struct rpal_reply *reply)
{
	struct rpal_space *space = rpal_service_caller(file);
	enum rpal_patience patience = RPAL_WAIT_ON;
	struct rpal_tcb *t;
	int err = -EINVAL;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (reply->flags & ~RPAL_REPLY_DEADLINE)
		return -EINVAL;
	if (reply->flags)
		patience = RPAL_GIVE_UP;
	t = rpal_thread_get_current();
	if (!t)
		return -ENXIO;
	if (t->answer != RPAL_ANSWER_NONE)
		err = rpal_take_answer(t, patience, &reply->status,
				       &reply->result);
	rpal_thread_put(t);
	return err;
}

/**
 * rpal_wait_wake() - RPAL_IOC_WAKE
 * @file:	the caller's file
 * @wake:	arguments, already copied
 *
 * Context: process context.
 * Return: 0, -ENXIO, -EPERM, -EINVAL or -ESRCH.
 */
int rpal_wait_wake(struct rpal_file *file, const struct rpal_wake *wake)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_tcb *t;
	int err = -ESRCH;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (wake->flags || wake->reserved)
		return -EINVAL;
	rcu_read_lock();
	t = rpal_thread_find(wake->tid);
	if (t && !READ_ONCE(t->dead) &&
	    (t->space == space || test_bit(t->space->slot, space->peers))) {
		rpal_thread_wake(t);
		err = 0;
	}
	rcu_read_unlock();
	return err;
}

enum supply {
	SUPPLY_NONE,		/* no receiver is left */
	SUPPLY_BUSY,		/* all are busy; they will tell */
	SUPPLY_FREE,
};

/*
 * One receiver, seen by a caller that is about to sleep. In a call it gets a
 * PENDING bit, so that the end of the call comes through the kernel.
 */
static enum supply look_at(struct rpal_tcb *t)
{
	u64 word = READ_ONCE(t->block->word);

	if (READ_ONCE(t->dead))
		return SUPPLY_NONE;
	if (word == RPAL_ST_WAIT)
		return SUPPLY_FREE;
	if (rpal_word_state(word) == RPAL_ST_CALL &&
	    !(word & RPAL_ST_PENDING) &&
	    cmpxchg(&t->block->word, word, word | RPAL_ST_PENDING) != word)
		return SUPPLY_FREE;	/* it has just changed: try */
	return SUPPLY_BUSY;
}

static enum supply look_for_receiver(unsigned int slot)
{
	enum supply supply = SUPPLY_NONE;
	unsigned int i;

	rcu_read_lock();
	for (i = 0; i < RPAL_MAX_RECEIVERS && supply != SUPPLY_FREE; i++) {
		struct rpal_tcb *t = rpal_thread_at(slot, i);

		if (t && t->receiver)
			supply = max(supply, look_at(t));
	}
	rcu_read_unlock();
	return supply;
}

/**
 * rpal_wait_free() - RPAL_IOC_AWAIT
 * @file:	the caller's file
 * @await:	arguments, already copied
 *
 * Context: sleeps.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -ESRCH, -EPIPE, -EINTR or -ETIMEDOUT.
 */
int rpal_wait_free(struct rpal_file *file, const struct rpal_await *await)
{
	struct rpal_space *space = rpal_service_caller(file);
	ktime_t until, end;
	DEFINE_WAIT(wait);
	unsigned int id;
	int ret;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (await->flags || await->reserved || await->timeout_ns < -1)
		return -EINVAL;
	if (await->id >= RPAL_NR_SLOTS)
		return -ESRCH;
	id = array_index_nospec(await->id, RPAL_NR_SLOTS);
	if (!test_bit(id, space->peers))
		return -ESRCH;
	end = expiry(await->timeout_ns);
	until = min(end, ktime_add_ms(ktime_get(), jiffies_to_msecs(RECHECK)));

	prepare_to_wait_exclusive(&free_wq[id], &wait,
				  TASK_INTERRUPTIBLE);
	switch (look_for_receiver(id)) {
	case SUPPLY_NONE:
		ret = -EPIPE;
		break;
	case SUPPLY_FREE:
		ret = 0;
		break;
	default:
		ret = signal_pending(current) ? -EINTR : 0;
		if (!ret && !schedule_hrtimeout(&until, HRTIMER_MODE_ABS) &&
		    until == end)
			ret = -ETIMEDOUT;
		if (!ret && signal_pending(current))
			ret = -EINTR;
	}
	finish_wait(&free_wq[id], &wait);
	/* A wake-up that we do not use must not be lost on the others. */
	if (ret)
		rpal_wait_freed(id);
	return ret;
}
