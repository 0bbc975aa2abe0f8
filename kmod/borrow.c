// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lazy switch: whose context does a task run, and handing it over.
 *
 * A thread that calls has its callee's name in its block, and the callee has
 * the caller's word in its own. A chain of such pairs, begun at the current
 * task's thread, leads to the thread whose code the task really runs. User
 * space can write all of these words. But a link counts only if the kernel
 * itself has put the callee to sleep in our wait (so its context is free to
 * run elsewhere) and has linked the two services (so the caller could have
 * read, written and run anything there anyway): forging selects nothing that
 * was not granted.
 *
 * Contexts are never written into another task. They are put into mailboxes,
 * from which each receiver's task takes its own.
 */
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <asm/fpu/api.h>
#include <asm/ptrace.h>

#include "mailbox.h"
#include "thread.h"
#include "trace.h"

/* Threads from the current one (0) to the one whose code runs (top). */
struct chain {
	struct rpal_tcb *thread[RPAL_MAX_DEPTH + 1];
	int top;
};

/* When a chain is handed over: who gets its context, whose call is answered. */
struct delivery {
	bool begun;
	bool filled[RPAL_MAX_DEPTH + 1];
	bool async[RPAL_MAX_DEPTH + 1];
};

static bool ip_within(unsigned long ip, u64 start, u64 end)
{
	return ip - start < end - start;
}

static bool is_lent(struct rpal_tcb *caller, struct rpal_tcb *callee)
{
	bool lent;

	/* The dead have no task that could sleep. Pairs with rpal_thread_kill(). */
	if (smp_load_acquire(&callee->dead))
		lent = callee->died_waiting;
	else
		/* With something in its mailbox it has a context of its own to go on with. */
		lent = rpal_mailbox(callee) == RPAL_MAIL_EMPTY;
	/* Links of the dead are gone; whose call is left of them has been looked at. */
	return lent && (READ_ONCE(caller->dead) || READ_ONCE(callee->kept_for) == caller ||
			rpal_thread_linked(caller, callee));
}

/* RCU read side. */
static struct rpal_tcb *callee_of(struct rpal_tcb *t)
{
	u32 tid = READ_ONCE(t->block->callee);
	struct rpal_tcb *callee;

	if (!tid)
		return NULL;
	callee = rpal_thread_find(tid);
	/* A dead one's service may have gone, and another be in its slot. */
	if (!callee || rpal_word_caller(callee) != t->call_word)
		callee = rcu_dereference(t->remains);
	if (!callee || callee == t || callee->tid != tid ||
	    rpal_word_caller(callee) != t->call_word)
		return NULL;
	return is_lent(t, callee) ? callee : NULL;
}

/**
 * rpal_caller() - in whose call is a thread
 * @t:		the thread
 *
 * Its word is user space's to write, so it names somebody only if that one says the
 * same, and if the kernel knows that the thread's context may be with it.
 *
 * Context: RCU read side.
 * Return: the caller, NULL if there is none.
 */
struct rpal_tcb *rpal_caller(struct rpal_tcb *t)
{
	u64 word = rpal_word_caller(t);
	struct rpal_tcb *caller;

	if (rpal_word_state(word) != RPAL_ST_CALL)
		return NULL;
	caller = rpal_thread_find(rpal_word_tid(word));
	if (!caller || caller == t || caller->call_word != word)
		return NULL;
	/* Also of a dead one: its own word would lead on, to who is linked with that. */
	if (READ_ONCE(caller->block->callee) != t->tid)
		return NULL;
	return is_lent(caller, t) ? caller : NULL;
}

static bool is_in(const struct chain *chain, const struct rpal_tcb *t)
{
	int i;

	for (i = 0; i <= chain->top; i++) {
		if (chain->thread[i] == t)
			return true;
	}
	return false;
}

static void walk(struct rpal_tcb *t, struct chain *chain)
{
	chain->top = 0;
	chain->thread[0] = t;
	while (chain->top < RPAL_MAX_DEPTH) {
		t = callee_of(t);
		if (!t || is_in(chain, t))
			break;
		chain->thread[++chain->top] = t;
	}
}

/* In a call as far as its block says, and its own code is not what runs. */
static bool is_lost(struct rpal_tcb *t, struct pt_regs *regs)
{
	u32 tid = READ_ONCE(t->block->callee);

	return tid && tid != RPAL_TID_GUARD && t->answer == RPAL_ANSWER_NONE &&
	       !rpal_in_slot(t->space, regs->ip, 1);
}

/*
 * Has a thread whose own code runs set a recovery point for a fault there? For
 * memory of other services, whether they still exist or not; not for pointers to
 * nowhere. A signal handler may have set it while a call of the thread goes on at
 * the receiver's task.
 */
static bool is_guarded(struct rpal_tcb *t, struct pt_regs *regs,
		       unsigned long addr)
{
	unsigned long slot = addr >> RPAL_SLOT_SHIFT;

	return READ_ONCE(t->block->callee) == RPAL_TID_GUARD &&
	       slot && slot < RPAL_NR_SLOTS && slot != t->space->slot &&
	       rpal_in_slot(t->space, regs->ip, 1);
}

/**
 * rpal_borrowing() - does the current task run another thread's context
 * @t:		the current task's thread
 * @regs:	its user registers
 *
 * Context: RCU read side, on the task itself.
 */
bool rpal_borrowing(struct rpal_tcb *t, struct pt_regs *regs)
{
	return rpal_mailbox(t) == RPAL_MAIL_CLOSED &&
	       (callee_of(t) || is_lost(t, regs));
}

/* Before its claim, or after it: its own code, but its memory may be closed. */
static bool in_own_trampoline(struct rpal_tcb *t, struct pt_regs *regs)
{
	const struct rpal_ranges *r = &t->space->ranges;

	return regs->r10 == t->ublock &&
	       (ip_within(regs->ip, r->open_start, r->open_end) ||
		ip_within(regs->ip, r->home_start, r->home_end));
}

/**
 * rpal_not_itself() - would rpal_hand_over() do something
 * @t:		the current task's thread
 * @regs:	its user registers
 *
 * Context: RCU read side, on the task itself.
 */
bool rpal_not_itself(struct rpal_tcb *t, struct pt_regs *regs)
{
	if (rpal_mailbox(t) != RPAL_MAIL_CLOSED || !READ_ONCE(t->block->callee))
		return false;
	if (is_guarded(t, regs, t->faulted))
		return true;
	return t->answer == RPAL_ANSWER_NONE &&
	       (callee_of(t) || in_own_trampoline(t, regs) || is_lost(t, regs));
}

/**
 * rpal_in_call() - does a thread's task run another thread's context
 * @t:		any thread
 *
 * Context: any; the answer may be old by an instant.
 */
bool rpal_in_call(struct rpal_tcb *t)
{
	bool in_call;

	rcu_read_lock();
	in_call = rpal_mailbox(t) == RPAL_MAIL_CLOSED && callee_of(t);
	rcu_read_unlock();
	return in_call;
}

/**
 * rpal_callee() - whom does a thread call, with its own task or its caller's
 * @t:		the thread
 *
 * Context: RCU read side.
 * Return: the thread called, NULL if there is none.
 */
struct rpal_tcb *rpal_callee(struct rpal_tcb *t)
{
	return callee_of(t);
}

/**
 * rpal_borrowed() - whose context does the current task run
 * @t:		the current task's thread
 *
 * Context: RCU read side, on the task itself, also in an interrupt.
 * Return: the thread, NULL if it runs its own.
 */
struct rpal_tcb *rpal_borrowed(struct rpal_tcb *t)
{
	struct chain chain;

	if (rpal_mailbox(t) != RPAL_MAIL_CLOSED)
		return NULL;
	walk(t, &chain);
	return chain.top ? chain.thread[chain.top] : NULL;
}

/* --------------------------------------------------- inside a trampoline */

/*
 * What to do with a call that was caught between two sides: the thread that
 * is to continue with the call's status and result, NULL if none was caught.
 */
struct ending {
	struct rpal_tcb *home;
	s64 status;
	s64 result;
	bool unopened;		/* it had not claimed its receiver */
};

/* How a call was ended; see also trace.h. */
enum rpal_ending {
	RPAL_END_ABORTED,
	RPAL_END_COMPLETED,
	RPAL_END_UNOPENED,
	RPAL_END_FINISHED,
	RPAL_END_LOST,
	RPAL_END_DEAD_RECEIVER,
	RPAL_END_GUARDED,
};

static void end_with(struct ending *ending, struct rpal_tcb *home,
		     enum rpal_ending how, s64 status, s64 result)
{
	static const enum rpal_stat stats[] = {
		[RPAL_END_ABORTED]		= RPAL_STAT_ABORTED,
		[RPAL_END_COMPLETED]		= RPAL_STAT_COMPLETED,
		[RPAL_END_UNOPENED]		= RPAL_STAT_UNOPENED,
		[RPAL_END_FINISHED]		= RPAL_STAT_FINISHED,
		[RPAL_END_LOST]			= RPAL_STAT_LOST,
		[RPAL_END_DEAD_RECEIVER]	= RPAL_STAT_DEAD_RECEIVER,
		[RPAL_END_GUARDED]		= RPAL_STAT_GUARDED,
	};

	ending->home = home;
	ending->status = status;
	ending->result = result;
	rpal_count(stats[how]);
	rpal_count_for(home->space, RPAL_SERVICE_RESTARTS);
	trace_rpal_restart(how, task_pid_nr(home->task), status,
			   current_pt_regs()->ip);
}

/* A claim stands: before the receiver has begun, or after it has finished. */
static void end_claimed(struct chain *chain, struct pt_regs *regs,
			struct ending *ending)
{
	struct rpal_tcb *caller = chain->thread[chain->top - 1];
	struct rpal_tcb *callee = chain->thread[chain->top];
	const struct rpal_ranges *out = &caller->space->ranges;
	const struct rpal_ranges *back = &callee->space->ranges;

	if (regs->r10 != caller->ublock || regs->r11 != callee->ublock)
		return;
	if (ip_within(regs->ip, out->enter_start, out->enter_end))
		end_with(ending, caller, RPAL_END_ABORTED, -EAGAIN, 0);
	else if (ip_within(regs->ip, back->leave_start, back->leave_end) ||
		 ip_within(regs->ip, out->home_start, out->home_end))
		end_with(ending, caller, RPAL_END_COMPLETED, regs->r8,
			 regs->r9);
	else
		return;
	rpal_thread_end_claim(callee);
	chain->top--;
}

/* No claim stands: own memory may be closed all the same. */
static void end_unclaimed(struct chain *chain, struct pt_regs *regs,
			  enum rpal_reason why, struct ending *ending)
{
	struct rpal_tcb *t = chain->thread[chain->top];
	const struct rpal_ranges *ranges = &t->space->ranges;
	u32 tid = READ_ONCE(t->block->callee);
	struct rpal_tcb *callee;

	if (!tid || t->answer != RPAL_ANSWER_NONE)
		return;
	if (regs->r10 == t->ublock &&
	    ip_within(regs->ip, ranges->open_start, ranges->open_end)) {
		/*
		 * A fault: the receiver is gone. But deeper in a chain it may
		 * only be this task that lacks the link.
		 */
		bool gone = why == RPAL_WHY_FAULT && !chain->top;

		end_with(ending, t, RPAL_END_UNOPENED,
			 gone ? -EPIPE : -EAGAIN, 0);
		ending->unopened = true;
	} else if (regs->r10 == t->ublock &&
		   ip_within(regs->ip, ranges->home_start, ranges->home_end)) {
		end_with(ending, t, RPAL_END_FINISHED, regs->r8, regs->r9);
		callee = rpal_thread_find(tid);
		if (callee && !rpal_thread_linked(t, callee))
			callee = NULL;
		if (callee)
			rpal_account_call(t, callee);
		if (callee && (rpal_word(callee) & RPAL_ST_PENDING))
			rpal_thread_wake(callee);
	} else if (is_lost(t, regs)) {
		end_with(ending, t, RPAL_END_LOST, -EPIPE, 0);
	}
}

/* Does a signal tell of an address that could not be accessed? */
static bool is_access(const struct kernel_siginfo *info)
{
	return info && (info->si_signo == SIGSEGV || info->si_signo == SIGBUS) &&
	       info->si_code > 0 && info->si_code < SI_KERNEL;
}

/*
 * Is the fault of the thread on top one on its own task, too? The current one
 * need not be linked with everybody with whom that one is.
 */
static bool is_final(const struct chain *chain, unsigned long addr)
{
	const struct rpal_space *self = chain->thread[0]->space;
	const struct rpal_space *space = chain->thread[chain->top]->space;
	unsigned long slot = addr >> RPAL_SLOT_SHIFT;

	return self->slot == slot || test_bit(slot, self->peers) ||
	       !test_bit(slot, space->peers);
}

/* A fault for which there is a recovery point. */
static void end_guarded(struct chain *chain, struct pt_regs *regs,
			const struct kernel_siginfo *info,
			struct ending *ending)
{
	struct rpal_tcb *t = chain->thread[chain->top];
	unsigned long addr;

	if (rpal_debug_no_guard || !is_access(info))
		return;
	addr = (unsigned long)info->si_addr;
	if (is_guarded(t, regs, addr) && is_final(chain, addr))
		end_with(ending, t, RPAL_END_GUARDED, -EFAULT, 0);
}

/* Receivers on top that have died: their callers go on without them. */
static void end_dead(struct chain *chain, struct ending *ending)
{
	while (chain->top && READ_ONCE(chain->thread[chain->top]->dead)) {
		rpal_thread_end_claim(chain->thread[chain->top]);
		chain->top--;
		end_with(ending, chain->thread[chain->top],
			 RPAL_END_DEAD_RECEIVER, -EPIPE, 0);
	}
}

/* -------------------------------------------------------------- hand over */

/*
 * Now it is this thread that waits for an answer, or that has ended its call.
 * With its lock held.
 */
static void begin_lazy_locked(struct rpal_tcb *t, bool async)
{
	if (async) {
		WRITE_ONCE(t->block->callee, 0);
		return;
	}
	WRITE_ONCE(t->answer, RPAL_ANSWER_DUE);
	t->lazy_nr++;
}

static void begin_lazy(struct rpal_tcb *t, bool async)
{
	raw_spin_lock(&t->lock);
	begin_lazy_locked(t, async);
	raw_spin_unlock(&t->lock);
}

/*
 * Fill one thread's mailbox. The top one gets the live context; one in the
 * middle its own, waiting for the answer to its call. False: it takes none.
 */
static bool fill_mail(struct chain *chain, int i, const struct delivery *d,
		      const struct rpal_context *live)
{
	bool unanswered = d->async[i - 1];
	struct rpal_tcb *caller = chain->thread[i - 1];
	struct rpal_tcb *t = chain->thread[i];
	struct rpal_context *mail = &t->mail;

	raw_spin_lock(&t->lock);
	if (t->dead) {
		WRITE_ONCE(t->block->word, RPAL_ST_DEAD);
		raw_spin_unlock(&t->lock);
		rpal_thread_drop(t);
		rpal_thread_wake(t);
		return false;
	}
	if (t->mailbox != RPAL_MAIL_EMPTY || t->lazy_caller) {
		/*
		 * Forged: two tasks claim to run it at a time, or it has gone its own way
		 * since its word was read.
		 */
		raw_spin_unlock(&t->lock);
		rpal_count(RPAL_STAT_FORGED);
		return false;
	}
	rpal_mailbox_move(t, RPAL_MAIL_EMPTY, RPAL_MAIL_FILLED);
	rpal_context_fpu_save(mail);
	if (i < chain->top) {
		rpal_context_from_block(mail, t, t->space->ranges.lazy_ip,
					RPAL_CALL_LAZY, 0);
		rpal_context_fpu_from_block(mail->fpu, t);
		begin_lazy_locked(t, d->async[i]);
	} else {
		mail->regs = live->regs;
		mail->fsbase = live->fsbase;
		mail->pkru = live->pkru;
		mail->trapped = live->trapped;
		mail->trap_nr = live->trap_nr;
		mail->error_code = live->error_code;
	}
	/* A dead caller's last reference may just have gone. */
	if (!unanswered && !READ_ONCE(caller->dead) &&
	    refcount_inc_not_zero(&caller->ref)) {
		t->lazy_caller = caller;
		/* Its call has just become lazy, by our hands. */
		t->lazy_caller_nr = READ_ONCE(caller->lazy_nr);
	}
	WRITE_ONCE(t->block->word, RPAL_ST_LAZY);
	raw_spin_unlock(&t->lock);
	rpal_count_for(caller->space, RPAL_SERVICE_LAZY_CALLS);
	rpal_count_for(t->space, RPAL_SERVICE_LAZY_CALLED);
	return true;
}

/*
 * Bottom up, for who waits must be ready before who answers runs; and all are
 * filled before any may run, for one that ran while a word above it still says
 * CALL would look like a borrower. With the FPU image in memory.
 */
static void fill_all(struct chain *chain, struct delivery *d,
		     const struct rpal_context *live)
{
	int i;

	d->begun = true;
	/* Once: user space may change its mind, but then it is too late. */
	for (i = 0; i < chain->top; i++)
		d->async[i] = READ_ONCE(chain->thread[i]->block->flags) &
			      RPAL_BLOCK_ASYNC;
	begin_lazy(chain->thread[0], d->async[0]);
	for (i = 1; i <= chain->top; i++)
		d->filled[i] = fill_mail(chain, i, d, live);
}

/* Callees that have taken no context: whose call was just begun is told. */
static void refuse(struct chain *chain, const struct delivery *d)
{
	int i;

	for (i = 1; i <= chain->top; i++) {
		struct rpal_tcb *caller = chain->thread[i - 1];

		if (!d->filled[i] && !d->async[i - 1] &&
		    (i == 1 || d->filled[i - 1]))
			rpal_thread_answer(caller, caller->lazy_nr, -EPIPE, 0);
	}
}

/*
 * Let them run. Signals and wait queues have locks that sleep on a kernel with
 * PREEMPT_RT, so preemption must be on.
 */
static enum rpal_outcome hand_out(struct chain *chain, const struct delivery *d,
				  struct kernel_siginfo *trap)
{
	struct rpal_tcb *top = chain->thread[chain->top];
	int i;

	refuse(chain, d);
	/* Before it may run: the signal is to find it behind the trap. */
	if (trap && d->filled[chain->top])
		send_sig_info(trap->si_signo, trap, top->task);
	for (i = 1; i <= chain->top; i++) {
		struct rpal_tcb *t = chain->thread[i];

		if (d->filled[i]) {
			raw_spin_lock(&t->lock);
			rpal_mailbox_move(t, RPAL_MAIL_FILLED, RPAL_MAIL_READY);
			raw_spin_unlock(&t->lock);
		}
		rpal_thread_wake(t);
	}
	return d->async[0] ? RPAL_SENT : RPAL_HANDED;
}

/*
 * A restored context that is itself borrowed is handed over as well, unless
 * it can simply run on here: after a fault that is over, or a system call that
 * is not made any more.
 */
static bool must_hand(struct chain *chain, enum rpal_reason why,
		      const struct ending *ending)
{
	if (!chain->top)
		return false;
	if (!ending->home || ending->unopened)
		return why != RPAL_WHY_SYSCALL || !ending->home;
	return why != RPAL_WHY_FAULT && why != RPAL_WHY_SYSCALL;
}

static void count_reason(enum rpal_reason why)
{
	static const enum rpal_stat stats[] = {
		[RPAL_WHY_SYSCALL]	= RPAL_STAT_LAZY_SYSCALL,
		[RPAL_WHY_SIGNAL]	= RPAL_STAT_LAZY_SIGNAL,
		[RPAL_WHY_KICK]		= RPAL_STAT_LAZY_KICK,
		[RPAL_WHY_FAULT]	= RPAL_STAT_LAZY_FAULT,
		[RPAL_WHY_EXIT]		= RPAL_STAT_LAZY_EXIT,
	};

	rpal_count(stats[why]);
}

/* All calls of the chain have lasted until now; some may end here. */
static void account_calls(struct chain *chain)
{
	int i;

	for (i = 0; i < chain->top; i++) {
		struct rpal_tcb *t = chain->thread[i];

		raw_spin_lock(&t->lock);
		rpal_account_call(t, chain->thread[i + 1]);
		raw_spin_unlock(&t->lock);
	}
}

/*
 * A trap that will not come again when the receiver goes on: its signal goes along. A bus
 * lock is told of behind the instruction; by its signal it cannot be told from a misaligned
 * access, which does come again, to the same end.
 */
static bool has_done_its_work(const struct kernel_siginfo *info)
{
	return info->si_signo == SIGTRAP ||
	       (info->si_signo == SIGBUS && info->si_code == BUS_ADRALN);
}

static enum rpal_outcome hand_over(struct rpal_tcb *self, struct pt_regs *regs,
				   enum rpal_reason why,
				   struct kernel_siginfo *info)
{
	bool trap = info && has_done_its_work(info);
	enum rpal_outcome outcome = RPAL_RESTORED;
	struct ending ending = {};
	struct rpal_context live;
	struct delivery d = {};
	struct chain chain;

	walk(self, &chain);
	if (!chain.top && !READ_ONCE(self->block->callee))
		return RPAL_OWN;
	account_calls(&chain);
	if (chain.top && !rpal_debug_no_restart)
		end_claimed(&chain, regs, &ending);
	if (!ending.home && !rpal_debug_no_restart)
		end_unclaimed(&chain, regs, why, &ending);
	if (!ending.home && !rpal_debug_no_restart)
		end_guarded(&chain, regs, info, &ending);
	end_dead(&chain, &ending);
	if (!ending.home && !chain.top)
		return RPAL_OWN;

	if (ending.home) {
		rpal_context_from_block(&live, ending.home,
					ending.home->space->ranges.lazy_ip,
					ending.status, ending.result);
		WRITE_ONCE(ending.home->block->callee, 0);
	} else {
		rpal_context_live(&live, regs, why == RPAL_WHY_SYSCALL, trap);
	}

	kernel_fpu_begin();
	if (ending.home)
		rpal_context_fpu_own(ending.home);
	if (must_hand(&chain, why, &ending)) {
		trace_rpal_lazy_switch(why, task_pid_nr(current),
				       task_pid_nr(chain.thread[chain.top]->task),
				       chain.top, live.regs.ip);
		if (why == RPAL_WHY_EXIT)
			trace_rpal_recovery(task_pid_nr(current),
					    task_pid_nr(chain.thread[chain.top]->task),
					    live.regs.ip);
		fill_all(&chain, &d, &live);
		rpal_context_from_block(&live, self, self->space->ranges.lazy_ip,
					RPAL_CALL_LAZY, 0);
		rpal_context_fpu_own(self);
		count_reason(why);
	}
	kernel_fpu_end();
	if (d.begun)
		outcome = hand_out(&chain, &d,
				   trap && !ending.home ? info : NULL);
	rpal_context_enter(&live);
	return outcome;
}

/**
 * rpal_hand_over() - the current task must be itself again
 * @regs:	its user registers
 * @why:	what it entered the kernel for
 * @info:	for a fault: the signal that the kernel is about to force, which
 *		a receiver gets if the fault does not come again; else NULL
 *
 * If the task runs the context of a receiver, that receiver's task gets it and
 * the current one gets its own back. A call that was caught inside a
 * trampoline is taken back or finished first. A fault on another service's
 * memory leads to the recovery point, if one was set.
 *
 * Context: the task itself, on its way into or out of the kernel, preemptible;
 * sleeps only for locks, with PREEMPT_RT.
 * Return: what became of it.
 */
enum rpal_outcome rpal_hand_over(struct pt_regs *regs, enum rpal_reason why,
				 struct kernel_siginfo *info)
{
	enum rpal_outcome outcome = RPAL_OWN;
	struct rpal_tcb *self;

	if (!user_mode(regs) || rpal_context_of_guest())
		return RPAL_OWN;
	rcu_read_lock();
	self = rpal_thread_current();
	/*
	 * In our wait, the own context is lent: what is above is not here. Nor is
	 * it when the wait has ended because of a SIGKILL: then whoever has
	 * borrowed the context goes on with what it called.
	 */
	if (self && rpal_mailbox(self) == RPAL_MAIL_CLOSED && !READ_ONCE(self->dead))
		outcome = hand_over(self, regs, why, info);
	rcu_read_unlock();
	return outcome;
}
