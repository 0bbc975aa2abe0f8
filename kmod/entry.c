// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hooks on the ways into the kernel, where a task must be what it seems.
 */
#include <linux/sched/signal.h>
#include <linux/prctl.h>
#include <linux/syscall_user_dispatch.h>
#include <uapi/linux/rseq.h>
#include <asm/pkru.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "hook.h"
#include "sym.h"
#include "thread.h"

/* ------------------------------------------------------------ system calls */

/*
 * In place of syscall_user_dispatch(), for a task that runs another thread's
 * context: the system call is made again by that thread's own task. This one
 * has, instead of it, the answer to its call, or goes on at once if it wants none.
 */
static bool dispatch_borrowed(struct pt_regs *regs)
{
	struct rpal_tcb *t = rpal_thread_get_current();
	enum rpal_outcome outcome;
	s64 status, result;

	if (!t)
		return false;
	outcome = rpal_hand_over(regs, RPAL_WHY_SYSCALL, NULL);
	if (outcome == RPAL_HANDED &&
	    !rpal_take_answer(t, RPAL_ASK_AGAIN, &status, &result)) {
		regs->ax = status;
		regs->dx = result;
	}
	rpal_thread_put(t);
	if (outcome == RPAL_OWN)
		return false;
	/* Skip tracing of the exit as well as the call. */
	current->syscall_dispatch.on_dispatch = true;
	return true;
}

/* Of 32-bit code. */
#define NR_IA32_PRCTL		172
#define NR_IA32_ARCH_PRCTL	384
#define NR_IA32_RSEQ		386

/* Of arch_prctl(); the headers of some kernels do not have them. */
#define REQ_XCOMP_PERM		0x1023
#define REQ_XCOMP_GUEST_PERM	0x1025
#define SHSTK_ENABLE		0x5001

/*
 * What check_task() refuses at registration must not come later: state that calls do not
 * carry along. Other threads can ask for AMX all the same, for the whole process, so that
 * contexts are copied without it does not rely on this.
 */
static bool wants_more_state(unsigned long option)
{
	return option == REQ_XCOMP_PERM || option == REQ_XCOMP_GUEST_PERM ||
	       option == SHSTK_ENABLE;
}

/*
 * A thread that turned syscall user dispatch on or off would lose the mark by
 * which its system calls come here. And the kernel would write an area for
 * restartable sequences whenever the task has been preempted, under the rights
 * of whatever code runs then.
 */
static bool must_not_make(struct pt_regs *regs)
{
	bool ia32 = in_ia32_syscall();
	int prctl = ia32 ? NR_IA32_PRCTL : __NR_prctl;
	int arch_prctl = ia32 ? NR_IA32_ARCH_PRCTL : __NR_arch_prctl;
	int rseq = ia32 ? NR_IA32_RSEQ : __NR_rseq;
	int nr = syscall_get_nr(current, regs);
	unsigned long args[6];

	/* The same call by another table. */
	if (!ia32)
		nr &= ~__X32_SYSCALL_BIT;
	if (nr != prctl && nr != arch_prctl && nr != rseq)
		return false;
	syscall_get_arguments(current, regs, args);
	if (nr == prctl)
		return (int)args[0] == PR_SET_SYSCALL_USER_DISPATCH;
	if (nr == arch_prctl)
		return wants_more_state(args[0]);
	return !rpal_debug_no_rseq && !(args[2] & RSEQ_FLAG_UNREGISTER);
}

/* In place of syscall_user_dispatch(): the system call is not made. */
static bool dispatch_refused(struct pt_regs *regs)
{
	regs->ax = -EBUSY;
	current->syscall_dispatch.on_dispatch = true;
	return true;
}

/* syscall_user_dispatch(regs): only tasks that we have marked come by here */
RPAL_CALLBACK(rpal_on_syscall_user_dispatch)
{
	struct rpal_tcb *t;

	if (rpal_debug_no_lazy)
		return;
	rcu_read_lock();
	t = rpal_thread_current();
	if (t)
		rpal_hook_fired(hook);
	if (t && rpal_borrowing(t, current_pt_regs()))
		rpal_divert(regs, dispatch_borrowed);
	else if (t && must_not_make(current_pt_regs()))
		rpal_divert(regs, dispatch_refused);
	else if (t)
		rpal_account_syscall(t, current_pt_regs());
	rcu_read_unlock();
}

/* ----------------------------------------------------------------- signals */

/* As long as it is so the task may be stopped, or frozen, and runs nobody else's context. */
static void set_as_itself(bool is)
{
	struct rpal_tcb *t;

	rcu_read_lock();
	t = rpal_thread_current();
	if (t)
		WRITE_ONCE(t->as_itself, is);
	rcu_read_unlock();
}

/*
 * In place of arch_do_signal_or_restart(), for a registered thread: as itself it looks at
 * its signals. One of them may end it there.
 */
static void do_signal_as_itself(struct pt_regs *regs)
{
	rpal_hand_over(regs, RPAL_WHY_SIGNAL, NULL);
	set_as_itself(true);
	rpal_k_arch_do_signal_or_restart(regs);
	set_as_itself(false);
}

/* arch_do_signal_or_restart(regs): before any signal is looked at */
RPAL_CALLBACK(rpal_on_arch_do_signal_or_restart)
{
	if (!rpal_maybe_ours())
		return;
	rpal_hook_fired(hook);
	rcu_read_lock();
	if (rpal_thread_current())
		rpal_divert(regs, do_signal_as_itself);
	rcu_read_unlock();
}

/* ------------------------------------------------------------------ faults */

/* In place of force_sig_info_to_task(), for a step that is not to be seen. */
static int step_passed_over(struct kernel_siginfo *info,
			    struct task_struct *task, int handler)
{
	return 0;
}

/*
 * In place of unhandled_signal(): the kernel asks before it writes of a fault
 * into its log. It is the receiver who makes it again that may be written of.
 */
static bool fault_of_another(struct task_struct *task, int sig)
{
	return false;
}

static bool not_itself(void)
{
	struct pt_regs *regs = current_pt_regs();
	struct rpal_tcb *t;
	bool is;

	if (!user_mode(regs))
		return false;
	rcu_read_lock();
	t = rpal_thread_current();
	is = t && rpal_not_itself(t, regs);
	rcu_read_unlock();
	return is;
}

/* unhandled_signal(task, sig) */
RPAL_CALLBACK(rpal_on_unhandled_signal)
{
	if (!rpal_maybe_ours() ||
	    (struct task_struct *)regs->di != current)
		return;
	rpal_hook_fired(hook);
	if (not_itself())
		rpal_divert(regs, fault_of_another);
}

/*
 * A step or a watchpoint that a debugger has set on this task. It looks at the
 * task's own code; for it a call is one step, as a system call is.
 */
static bool is_debuggers(const struct kernel_siginfo *info)
{
	if (info->si_signo != SIGTRAP)
		return false;
	return info->si_code == TRAP_HWBKPT ||
	       (info->si_code == TRAP_TRACE && test_thread_flag(TIF_FORCED_TF));
}

/* enum sig_handler of kernel/signal.c: the task may have a handler, and go on. */
#define HANDLER_CURRENT	0

/*
 * Is it of an instruction, which raises it again when the receiver makes it? Only that may
 * be put off. What ends a task for what it has done in the kernel, a system call that its
 * filter does not allow or an exec that has failed in the middle, is the task's own.
 */
static bool comes_again(const struct kernel_siginfo *info, int handler)
{
	/* In a system call: those of borrowed code never begin. */
	if (handler != HANDLER_CURRENT || (long)current_pt_regs()->orig_ax >= 0)
		return false;
	switch (info->si_signo) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
		return info->si_code > 0;
	default:
		return false;
	}
}

/*
 * Might rpal_hand_over() have something to do? That wants locks which a callback
 * cannot take on a kernel with PREEMPT_RT, so it is left to the replacement.
 */
static bool says_it_calls(void)
{
	struct rpal_tcb *t;
	bool says;

	if (!rpal_maybe_ours())
		return false;
	rcu_read_lock();
	t = rpal_thread_current();
	says = t && READ_ONCE(t->block->callee);
	rcu_read_unlock();
	return says;
}

/* In place of force_sig_info_to_task(), for the current task. */
static int force_as_itself(struct kernel_siginfo *info,
			   struct task_struct *task, int handler)
{
	if (rpal_hand_over(current_pt_regs(), RPAL_WHY_FAULT, info) != RPAL_OWN)
		return 0;
	return rpal_k_force_sig_info_to_task(info, task, handler);
}

/*
 * force_sig_info_to_task(info, task, handler): every fault that ends in a
 * signal. The receiver makes the fault again, on its own task; but not a
 * breakpoint, which the instruction pointer has passed.
 */
RPAL_CALLBACK(rpal_on_force_sig_info_to_task)
{
	struct kernel_siginfo *info = (struct kernel_siginfo *)regs->di;

	if (!rpal_maybe_ours() || (struct task_struct *)regs->si != current)
		return;
	rpal_hook_fired(hook);
	if (is_debuggers(info)) {
		if (not_itself())
			rpal_divert(regs, step_passed_over);
	} else if (comes_again(info, regs->dx) && says_it_calls()) {
		rpal_divert(regs, force_as_itself);
	}
}

/* ------------------------------------------------------------------- death */

/*
 * In place of do_exit(), for a registered thread. It does not come back from
 * there, so that is no reason for the module to stay.
 */
static void exit_of_thread(long code)
{
	struct rpal_tcb *t = rpal_thread_get_current();

	if (t) {
		rpal_hand_over(current_pt_regs(), RPAL_WHY_EXIT, NULL);
		rpal_thread_kill(t);
		rpal_thread_bury(t);
		rpal_thread_put(t);
	}
	rpal_k_do_exit(code);
}

/* do_exit(code) */
RPAL_CALLBACK(rpal_on_do_exit)
{
	if (!rpal_maybe_ours())
		return;
	rpal_hook_fired(hook);
	rcu_read_lock();
	if (rpal_thread_current())
		rpal_divert(regs, exit_of_thread);
	rcu_read_unlock();
}
