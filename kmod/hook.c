// SPDX-License-Identifier: GPL-2.0-only
/*
 * Installing the hooks at the first use, and removing them after the last.
 *
 * Users are spaces and heirs. Every one of them also holds a reference on the
 * module, and every task that runs in a replacement function runs in the mm of
 * one of them: so when the module is unloaded no task is inside our code, and
 * unregister_ftrace_function() has waited for those that were about to be.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "hook.h"
#include "rpal.h"
#include "sym.h"

#define ENDBR_SIZE	4

struct rpal_hook {
	const char *name;
	ftrace_func_t func;
	bool diverts;
	bool on;
	struct ftrace_ops ops;
};

#define ARGUMENTS(sym, fn)	{ .name = sym, .func = fn }
#define DIVERT(sym, fn)		{ .name = sym, .func = fn, .diverts = true }

static struct rpal_hook hooks[] = {
	ARGUMENTS("setup_arg_pages", rpal_on_setup_arg_pages),
	ARGUMENTS(RPAL_GET_UNMAPPED_AREA, rpal_on_get_unmapped_area),
	ARGUMENTS("vm_unmapped_area", rpal_on_vm_unmapped_area),
	ARGUMENTS("mmap_region", rpal_on_mmap_region),
	ARGUMENTS("do_mprotect_pkey", rpal_on_do_mprotect_pkey),
	ARGUMENTS("finalize_exec", rpal_on_finalize_exec),
	ARGUMENTS("exit_mmap", rpal_on_exit_mmap),
	ARGUMENTS("signal_setup_done", rpal_on_signal_setup_done),
	DIVERT("bad_area_nosemaphore", rpal_on_bad_area_nosemaphore),
	DIVERT("pin_user_pages_fast", rpal_on_pin_user_pages_fast),
	DIVERT("wake_up_new_task", rpal_on_wake_up_new_task),
	DIVERT("arch_do_signal_or_restart", rpal_on_arch_do_signal_or_restart),
	DIVERT("do_exit", rpal_on_do_exit),
	DIVERT("syscall_user_dispatch", rpal_on_syscall_user_dispatch),
	DIVERT("account_user_time", rpal_on_account_user_time),
	DIVERT("force_sig_info_to_task", rpal_on_force_sig_info_to_task),
	DIVERT("unhandled_signal", rpal_on_unhandled_signal),
};

static DEFINE_MUTEX(hook_mutex);
static atomic_t hook_users = ATOMIC_INIT(0);
static bool installed;			/* under hook_mutex */

static void uninstall(void)
{
	int i;

	for (i = ARRAY_SIZE(hooks) - 1; i >= 0; i--) {
		if (!hooks[i].on)
			continue;
		unregister_ftrace_function(&hooks[i].ops);
		hooks[i].on = false;
	}
	installed = false;
}

static int install(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		err = register_ftrace_function(&hooks[i].ops);
		if (err) {
			pr_err("cannot hook %s (%d)%s\n", hooks[i].name, err,
			       err == -EBUSY ?
			       ": a live patch holds it, or kernel.ftrace_enabled is 0" : "");
			uninstall();
			return err;
		}
		hooks[i].on = true;
	}
	installed = true;
	return 0;
}

static void remove_work(struct work_struct *work)
{
	mutex_lock(&hook_mutex);
	if (installed && !atomic_read(&hook_users))
		uninstall();
	mutex_unlock(&hook_mutex);
}

static DECLARE_DELAYED_WORK(remove, remove_work);

static void schedule_removal(void)
{
	mod_delayed_work(system_long_wq, &remove,
			 msecs_to_jiffies(READ_ONCE(rpal_hook_linger_ms)));
}

/**
 * rpal_hook_get() - have the hooks installed
 *
 * Context: may sleep; takes hook_mutex and, inside ftrace, text_mutex.
 * Return: 0, or the negative errno with which the tracer refused a hook.
 */
int rpal_hook_get(void)
{
	int err = 0;

	if (atomic_inc_not_zero(&hook_users))
		return 0;
	mutex_lock(&hook_mutex);
	if (!installed)
		err = install();
	if (!err)
		atomic_inc(&hook_users);
	mutex_unlock(&hook_mutex);
	return err;
}

/**
 * rpal_hook_put() - one user less; the hooks go some time after the last
 *
 * Context: any.
 */
void rpal_hook_put(void)
{
	if (atomic_dec_and_test(&hook_users))
		schedule_removal();
}

/**
 * rpal_hook_users() - how many need the hooks
 *
 * Context: any.
 * Return: placed address spaces and forked children that are alive.
 */
int rpal_hook_users(void)
{
	return atomic_read(&hook_users);
}

/**
 * rpal_hook_reschedule() - the time that hooks are to stay has changed
 *
 * Context: process context.
 */
void rpal_hook_reschedule(void)
{
	/* Also before the module has begun: there is nothing to remove. */
	if (READ_ONCE(installed) && !atomic_read(&hook_users))
		schedule_removal();
}

static int prepare(struct rpal_hook *hook)
{
	unsigned long addr = rpal_sym_find(hook->name);
	int err;

	if (!addr)
		return -ENOENT;
	hook->ops.func = hook->func;
	hook->ops.flags = FTRACE_OPS_FL_PERMANENT;
	if (hook->diverts)
		hook->ops.flags |= FTRACE_OPS_FL_IPMODIFY;
	err = ftrace_set_filter_ip(&hook->ops, addr, 0, 0);
	if (err == -EINVAL)
		err = ftrace_set_filter_ip(&hook->ops, addr + ENDBR_SIZE, 0, 0);
	if (err)
		pr_err("%s cannot be traced on this kernel (%d)\n", hook->name,
		       err);
	return err;
}

/**
 * rpal_hook_init() - find every function that is going to be hooked
 *
 * Installs nothing.
 *
 * Context: module load, after rpal_sym_init().
 * Return: 0, or a negative errno after naming all that is missing.
 */
int rpal_hook_init(void)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		err = prepare(&hooks[i]) ?: err;
	if (err)
		rpal_hook_exit();
	return err;
}

/**
 * rpal_hook_exit() - remove the hooks now
 *
 * Context: module unload (no user is left) or failed load. May sleep.
 */
void rpal_hook_exit(void)
{
	unsigned int i;

	cancel_delayed_work_sync(&remove);
	mutex_lock(&hook_mutex);
	if (installed)
		uninstall();
	mutex_unlock(&hook_mutex);
	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		ftrace_free_filter(&hooks[i].ops);
}
