// SPDX-License-Identifier: GPL-2.0-only
/*
 * Are the hooks there, and do they fire?
 *
 * A hook that does not fire would leave the module half working, so each is tried:
 * the function is called, and the call must come to the callback. Hooks that divert
 * send such a call away from the function themselves. For the others a second hook
 * does that, which is there only when they are tried: at load, or if the module was
 * switched off then, before the first use. What is looked at later is whether
 * the tracer still has the hook, and whether the function still calls the tracer.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <asm/text-patching.h>

#include "hook-table.h"
#include "rpal.h"
#include "sym.h"

/* What rpal_probe_skip() returns in the place of a function; in thunk.S, too. */
#define SKIPPED		0x7270616c736b6970UL

static bool all_fired;			/* once; under rpal_hook_mutex */

/**
 * rpal_left_out - for tests: a hook that is not there, or does nothing; NULL: none
 *
 * Changed under rpal_hook_mutex.
 */
struct rpal_hook *rpal_left_out;

/**
 * rpal_trying - the task that is just trying the hooks, NULL at most times
 *
 * Under rpal_hook_mutex. While there is one, no entry returns at once.
 */
struct task_struct *rpal_trying;

/**
 * rpal_hook_tried() - a call that tries a hook has come
 * @hook:	the hook
 * @regs:	as for callbacks
 *
 * It does not go on to the function. Where the tracer calls us and our hook may only
 * change arguments, the one for trials sends it away.
 *
 * Context: that of the function.
 */
void rpal_hook_tried(struct rpal_hook *hook, struct pt_regs *regs)
{
	if (!rpal_hook_is_left_out(hook))
		WRITE_ONCE(hook->seen, true);
	if (hook->diverts || hook->how == RPAL_HOOK_DIRECT)
		regs->ip = (unsigned long)rpal_probe_skip;
}

/* ------------------------------------------------------------ are they there */

static const struct ftrace_ops *registered(const struct rpal_hook *hook)
{
	switch (READ_ONCE(hook->how)) {
	case RPAL_HOOK_TRACED:
		return &hook->traced;
	case RPAL_HOOK_DIRECT:
		return &hook->direct;
	case RPAL_HOOK_OFF:
		break;
	}
	return NULL;
}

/*
 * Does the tracer have the hook, and does the function call the tracer? While the
 * tracer changes that call there is a breakpoint in its place.
 */
static bool in_place(const struct rpal_hook *hook)
{
	const struct ftrace_ops *ops = registered(hook);
	u8 opcode = 0;

	if (!ops || !(READ_ONCE(ops->flags) & FTRACE_OPS_FL_ENABLED))
		return false;
	copy_from_kernel_nofault(&opcode, (void *)hook->site, sizeof(opcode));
	return opcode == CALL_INSN_OPCODE || opcode == INT3_INSN_OPCODE;
}

/**
 * rpal_hook_missing() - look whether all hooks are where they were installed
 *
 * Context: the hooks are installed, and kept by a user or rpal_hook_mutex.
 * Return: one that is not; NULL if they are.
 */
const struct rpal_hook *rpal_hook_missing(void)
{
	struct rpal_hook *hook;

	for (hook = rpal_hooks; hook->name; hook++) {
		if (!in_place(hook))
			return hook;
	}
	return NULL;
}

/* ------------------------------------------------------------- do they fire */

static bool fires(struct rpal_hook *hook)
{
	/* A function that is not hooked would do what it is there for. */
	if (!in_place(hook))
		return false;
	WRITE_ONCE(hook->seen, false);
	return rpal_probe(hook->function) == SKIPPED && READ_ONCE(hook->seen);
}

/* Of those that divert, or of the others, one that does not fire. */
static const struct rpal_hook *find_silent(bool diverts)
{
	const struct rpal_hook *silent = NULL;
	struct rpal_hook *hook;

	WRITE_ONCE(rpal_trying, current);
	for (hook = rpal_hooks; hook->name; hook++) {
		if (hook->diverts == diverts && !fires(hook)) {
			silent = hook;
			break;
		}
	}
	WRITE_ONCE(rpal_trying, NULL);
	return silent;
}

/* Calls of ours, sent away from functions whose hooks must not do that. */
static void skip(unsigned long ip, unsigned long parent_ip,
		 struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = rpal_fregs(fregs);

	if (rpal_hook_is_trial(regs))
		regs->ip = (unsigned long)rpal_probe_skip;
}

static struct ftrace_ops skip_ops = {
	.func = skip,
	.flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY,
};

static int skip_on(void)
{
	struct rpal_hook *hook;
	bool first = true;
	int err = 0;

	for (hook = rpal_hooks; hook->name; hook++) {
		if (hook->how != RPAL_HOOK_TRACED || hook->diverts)
			continue;
		err = ftrace_set_filter_ip(&skip_ops, hook->site, 0, first);
		if (err)
			return err;
		first = false;
	}
	/* Some are always traced: without a filter it would have all functions. */
	if (first)
		return -ENOENT;
	return register_ftrace_function(&skip_ops);
}

/*
 * A live patch of a function whose arguments we change does no harm, but then the
 * call cannot be sent away.
 */
static const struct rpal_hook *try_arguments(void)
{
	const struct rpal_hook *silent;
	int err = skip_on();

	if (err == -EBUSY) {
		pr_info("a function is held by a live patch or another module: not all hooks are tried\n");
		return NULL;
	}
	if (err)
		return ERR_PTR(err);
	silent = find_silent(false);
	err = unregister_ftrace_function(&skip_ops);
	return err ? ERR_PTR(err) : silent;
}

/**
 * rpal_hook_try_once() - see that all hooks fire, if that has not been seen yet
 *
 * Context: rpal_hook_mutex held, all hooks registered; may sleep.
 * Return: 0, -ENODEV after naming one that does not, or what the tracer says.
 */
int rpal_hook_try_once(void)
{
	const struct rpal_hook *silent;

	if (all_fired)
		return 0;
	silent = find_silent(true);
	if (!silent)
		silent = try_arguments();
	if (IS_ERR(silent))
		return PTR_ERR(silent);
	if (silent) {
		rpal_hook_failed = silent->name;
		pr_err("the hook on %s does not fire\n", silent->name);
		return -ENODEV;
	}
	all_fired = true;
	return 0;
}

/**
 * rpal_hook_try_exit() - free what trying has needed
 *
 * Context: module unload or failed load, when the hooks are gone.
 */
void rpal_hook_try_exit(void)
{
	ftrace_free_filter(&skip_ops);
}

/* -------------------------------------------------------------------- health */

/* What is wrong, NULL if nothing is. Under rpal_hook_mutex. */
static const char *find_fault(bool may_call)
{
	const struct rpal_hook *hook;

	if (!rpal_hooks_installed)
		return READ_ONCE(*rpal_k_ftrace_enabled) ? rpal_hook_failed :
		       "kernel.ftrace_enabled is 0";
	hook = rpal_hook_missing();
	if (!hook && may_call)
		hook = find_silent(true);
	return hook ? hook->name : NULL;
}

/**
 * rpal_hook_healthy() - is there nothing that keeps the hooks from working
 *
 * Context: process context.
 * Return: what is known without installing any.
 */
bool rpal_hook_healthy(void)
{
	bool healthy;

	/* They are just being installed or removed, which says what it finds. */
	if (!mutex_trylock(&rpal_hook_mutex))
		return true;
	healthy = !find_fault(false);
	mutex_unlock(&rpal_hook_mutex);
	return healthy;
}

static unsigned long times_fired(const struct rpal_hook *hook)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(*hook->fired, cpu));
	return sum;
}

static const char *state_of(const struct rpal_hook *hook)
{
	if (!rpal_hooks_installed)
		return "no";
	return in_place(hook) ? "yes" : "GONE";
}

/**
 * rpal_hook_show() - write what is known of all hooks
 * @seq:	where to
 *
 * Context: process context; takes rpal_hook_mutex.
 */
void rpal_hook_show(struct seq_file *seq)
{
	struct rpal_hook *hook;
	const char *fault;

	mutex_lock(&rpal_hook_mutex);
	seq_puts(seq, "hook kind called installed fired\n");
	for (hook = rpal_hooks; hook->name; hook++)
		seq_printf(seq, "%s %s %s %s %lu\n", hook->name,
			   hook->diverts ? "diverts" : "arguments",
			   hook->how == RPAL_HOOK_DIRECT ? "directly" : "traced",
			   state_of(hook), times_fired(hook));
	fault = find_fault(true);
	if (fault)
		seq_printf(seq, "broken: %s\n", fault);
	else
		seq_puts(seq, all_fired || rpal_hooks_installed ?
			      "ok\n" : "ok, but not tried yet\n");
	mutex_unlock(&rpal_hook_mutex);
}

/**
 * rpal_hook_leave_out() - for tests: do without a hook, but behave as if it were there
 * @name:	of the function; if it is none that is hooked, all hooks are there again
 *
 * One that changes arguments is installed the next time, but does nothing; any other
 * is not installed. They are tried again then. What is installed is taken away now.
 *
 * Context: process context; takes rpal_hook_mutex.
 */
void rpal_hook_leave_out(const char *name)
{
	struct rpal_hook *was, *out = NULL, *hook;

	for (hook = rpal_hooks; hook->name; hook++) {
		if (!strcmp(hook->name, name))
			out = hook;
	}
	mutex_lock(&rpal_hook_mutex);
	was = rpal_left_out;
	WRITE_ONCE(rpal_left_out, out);
	all_fired = false;
	if (rpal_hooks_installed && was && was->how == RPAL_HOOK_OFF)
		rpal_hook_on(was);
	if (rpal_hooks_installed && out)
		rpal_hook_off(out);
	mutex_unlock(&rpal_hook_mutex);
}
