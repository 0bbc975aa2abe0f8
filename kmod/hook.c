// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which functions are hooked; installing the hooks at the first use, and removing them
 * after the last. That they fire is seen to in hook-try.c.
 *
 * Users are spaces and heirs. Every one of them also holds a reference on the
 * module, and every task that runs in a replacement function runs in the mm of
 * one of them, or changes its memory, which keeps it: so when the module is
 * unloaded no task is inside our code, and unregister_ftrace_function() has
 * waited for those that were about to be.
 *
 * Functions that many ordinary processes come by call thunk.S directly, not the tracer,
 * which would take some fifty instructions to ask us. There can be but one such caller
 * of a function: if a BPF program has it, the tracer calls us there, too.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/percpu.h>
#include <linux/workqueue.h>

#include "hook-table.h"
#include "rpal.h"
#include "sym.h"

#define ARGUMENTS(sym, fn, ...)						\
	{ .name = sym, .func = fn, ##__VA_ARGS__ }
#define DIVERT(sym, fn, ...)						\
	{ .name = sym, .func = fn, .diverts = true, ##__VA_ARGS__ }
#define ORIGINAL(thunk)	.original = &rpal_addr_##thunk
#define WARM(name)	.entry = rpal_enter_##name, .self = &rpal_hook_##name

struct rpal_hook rpal_hooks[] = {
	ARGUMENTS("setup_arg_pages", rpal_on_setup_arg_pages),
	ARGUMENTS(RPAL_GET_UNMAPPED_AREA, rpal_on_get_unmapped_area,
		  WARM(get_unmapped_area)),
	ARGUMENTS("vm_unmapped_area", rpal_on_vm_unmapped_area,
		  WARM(vm_unmapped_area)),
#ifdef CONFIG_SECURITY
	/* Else the kernel asks nobody about an address. */
	DIVERT("security_mmap_addr", rpal_on_security_mmap_addr,
	       WARM(security_mmap_addr)),
#endif
	ARGUMENTS("mmap_region", rpal_on_mmap_region, WARM(mmap_region)),
	DIVERT("expand_downwards", rpal_on_expand_downwards,
	       WARM(expand_downwards)),
	ARGUMENTS("do_mprotect_pkey", rpal_on_do_mprotect_pkey,
		  WARM(do_mprotect_pkey)),
	ARGUMENTS("finalize_exec", rpal_on_finalize_exec),
	ARGUMENTS("exit_mmap", rpal_on_exit_mmap),
	ARGUMENTS("signal_setup_done", rpal_on_signal_setup_done,
		  WARM(signal_setup_done)),
	DIVERT("bad_area_nosemaphore", rpal_on_bad_area_nosemaphore,
	       WARM(bad_area_nosemaphore), ORIGINAL(bad_area_nosemaphore)),
	DIVERT("pin_user_pages_fast", rpal_on_pin_user_pages_fast,
	       WARM(pin_user_pages_fast)),
	DIVERT("get_user_pages_fast_only", rpal_on_get_user_pages_fast_only,
	       WARM(get_user_pages_fast_only)),
#ifdef RPAL_HOOK_FLUSH
	DIVERT("flush_tlb_mm_range", rpal_on_flush_tlb_mm_range,
	       WARM(flush_tlb_mm_range), ORIGINAL(flush_tlb_mm_range)),
#endif
	DIVERT("wake_up_new_task", rpal_on_wake_up_new_task,
	       ORIGINAL(wake_up_new_task)),
	DIVERT("arch_do_signal_or_restart", rpal_on_arch_do_signal_or_restart,
	       WARM(arch_do_signal_or_restart),
	       ORIGINAL(arch_do_signal_or_restart)),
	DIVERT("do_exit", rpal_on_do_exit, ORIGINAL(do_exit)),
	DIVERT("syscall_user_dispatch", rpal_on_syscall_user_dispatch),
	DIVERT("account_user_time", rpal_on_account_user_time,
	       ORIGINAL(account_user_time)),
	DIVERT("force_sig_info_to_task", rpal_on_force_sig_info_to_task,
	       WARM(force_sig_info_to_task), ORIGINAL(force_sig_info_to_task)),
	DIVERT("unhandled_signal", rpal_on_unhandled_signal,
	       WARM(unhandled_signal)),
	{}
};

/* Installing, removing and trying, one at a time. */
DEFINE_MUTEX(rpal_hook_mutex);
bool rpal_hooks_installed;		/* under rpal_hook_mutex */
const char *rpal_hook_failed;		/* at the last attempt; under rpal_hook_mutex */

static atomic_t hook_users = ATOMIC_INIT(0);

/* ------------------------------------------------------------------- callbacks */

/**
 * rpal_hook_enter() - a function that is hooked has been called
 * @hook:	its hook
 * @regs:	as for callbacks
 *
 * Context: that of the function.
 */
void rpal_hook_enter(struct rpal_hook *hook, struct pt_regs *regs)
{
	if (unlikely(rpal_hook_is_trial(regs)))
		rpal_hook_tried(hook, regs);
	else if (likely(!rpal_hook_is_left_out(hook)))
		hook->func(hook, regs);
}

static void traced(unsigned long ip, unsigned long parent_ip,
		   struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	rpal_hook_enter(container_of(ops, struct rpal_hook, traced),
			rpal_fregs(fregs));
}

/**
 * rpal_hook_fired() - count a call for a task that may be ours
 * @hook:	the hook
 *
 * Context: a callback.
 */
void rpal_hook_fired(struct rpal_hook *hook)
{
	this_cpu_inc(*hook->fired);
}

/* ------------------------------------------------------------ one that is hooked */

/*
 * May somebody else divert calls of the function, such as a live patch? As with the
 * tracer's hooks: not if we do.
 */
static int share(struct ftrace_ops *ops, enum ftrace_ops_cmd cmd)
{
	struct rpal_hook *hook = container_of(ops, struct rpal_hook, direct);

	if (hook->diverts && cmd != FTRACE_OPS_CMD_DISABLE_SHARE_IPMODIFY_PEER)
		return -EBUSY;
	return 0;
}

static int direct_on(struct rpal_hook *hook)
{
	int err;

	if (!hook->entry || !READ_ONCE(rpal_direct_hooks))
		return -EBUSY;
	/* Before the tracer asks; it forgets flags, but not this. */
	hook->direct.ops_func = share;
	err = rpal_direct_on(&hook->direct, (unsigned long)hook->entry);
	if (!err)
		WRITE_ONCE(hook->how, RPAL_HOOK_DIRECT);
	return err;
}

static int traced_on(struct rpal_hook *hook)
{
	int err = register_ftrace_function(&hook->traced);

	if (!err)
		WRITE_ONCE(hook->how, RPAL_HOOK_TRACED);
	return err;
}

/**
 * rpal_hook_on() - hook a function
 * @hook:	its hook, which is off
 *
 * Context: rpal_hook_mutex held; may sleep.
 * Return: 0, or a negative errno of the tracer's.
 */
int rpal_hook_on(struct rpal_hook *hook)
{
	int err;

	/* A call that is to try it would reach the function if it diverts. */
	if (rpal_hook_is_left_out(hook) && hook->diverts)
		return 0;
	err = direct_on(hook);
	return err == -EBUSY ? traced_on(hook) : err;
}

/**
 * rpal_hook_off() - let go of a function
 * @hook:	its hook
 *
 * Context: rpal_hook_mutex held; may sleep.
 */
void rpal_hook_off(struct rpal_hook *hook)
{
	switch (hook->how) {
	case RPAL_HOOK_OFF:
		return;
	case RPAL_HOOK_TRACED:
		unregister_ftrace_function(&hook->traced);
		break;
	case RPAL_HOOK_DIRECT:
		rpal_direct_off(&hook->direct, (unsigned long)hook->entry);
		break;
	}
	WRITE_ONCE(hook->how, RPAL_HOOK_OFF);
}

/* ----------------------------------------------------------------- installing */

static void uninstall(void)
{
	struct rpal_hook *hook;

	rpal_hooks_installed = false;
	for (hook = rpal_hooks + ARRAY_SIZE(rpal_hooks) - 1; hook-- > rpal_hooks;)
		rpal_hook_off(hook);
}

static int register_all(void)
{
	const struct rpal_hook *missing;
	struct rpal_hook *hook;
	int err;

	for (hook = rpal_hooks; hook->name; hook++) {
		err = rpal_hook_on(hook);
		if (err) {
			/* If the tracer is off that is no fault of the hook. */
			if (READ_ONCE(*rpal_k_ftrace_enabled))
				rpal_hook_failed = hook->name;
			pr_err("cannot hook %s (%d)%s\n", hook->name, err,
			       err == -EBUSY ?
			       ": is it held by a live patch, or kernel.ftrace_enabled 0?" : "");
			return err;
		}
	}
	missing = rpal_hook_missing();
	if (missing) {
		rpal_hook_failed = missing->name;
		pr_err("there is no hook on %s, although the tracer took it\n",
		       missing->name);
		return -ENODEV;
	}
	return 0;
}

static void forget_counts(void)
{
	struct rpal_hook *hook;
	int cpu;

	for (hook = rpal_hooks; hook->name; hook++) {
		for_each_possible_cpu(cpu)
			per_cpu(*hook->fired, cpu) = 0;
	}
}

static int install(void)
{
	int err;

	rpal_hook_failed = NULL;
	forget_counts();
	err = register_all();
	if (!err)
		err = rpal_hook_try_once();
	if (err)
		uninstall();
	else
		rpal_hooks_installed = true;
	return err;
}

static void remove_work(struct work_struct *work)
{
	mutex_lock(&rpal_hook_mutex);
	if (rpal_hooks_installed && !atomic_read(&hook_users))
		uninstall();
	mutex_unlock(&rpal_hook_mutex);
}

static DECLARE_DELAYED_WORK(remove, remove_work);

static void schedule_removal(void)
{
	mod_delayed_work(system_long_wq, &remove,
			 msecs_to_jiffies(READ_ONCE(rpal_hook_linger_ms)));
}

/* With users there are hooks; but are all of them still there? */
static int check_again(void)
{
	const struct rpal_hook *missing = rpal_hook_missing();

	if (!missing)
		return 0;
	pr_err_ratelimited("the hook on %s has gone: nothing is placed until all who use it have ended\n",
			   missing->name);
	return -ENODEV;
}

/**
 * rpal_hook_get() - have the hooks installed
 *
 * Context: may sleep; takes rpal_hook_mutex and, inside ftrace, text_mutex.
 * Return: 0; -EBUSY (something else holds a function, or the tracer is off), -ENODEV
 * (a hook does not fire, or is gone), or with what else the tracer refused one.
 */
int rpal_hook_get(void)
{
	int err = 0;

	if (atomic_inc_not_zero(&hook_users)) {
		err = check_again();
		if (err)
			rpal_hook_put();
		return err;
	}
	mutex_lock(&rpal_hook_mutex);
	if (rpal_hooks_installed && !atomic_read(&hook_users) && rpal_hook_missing())
		uninstall();
	if (!rpal_hooks_installed)
		err = install();
	if (!err)
		atomic_inc(&hook_users);
	mutex_unlock(&rpal_hook_mutex);
	return err;
}

/**
 * rpal_hook_hold() - one user more, for one who is a user already
 *
 * Context: any.
 */
void rpal_hook_hold(void)
{
	atomic_inc(&hook_users);
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
	if (READ_ONCE(rpal_hooks_installed) && !atomic_read(&hook_users))
		schedule_removal();
}

static int set_filters(struct rpal_hook *hook)
{
	int err;

	if (!hook->site)
		return -EINVAL;
	err = ftrace_set_filter_ip(&hook->traced, hook->site, 0, 0);
	if (!err && hook->entry)
		err = ftrace_set_filter_ip(&hook->direct, hook->site, 0, 0);
	return err;
}

static int prepare(struct rpal_hook *hook)
{
	unsigned long addr = rpal_sym_find(hook->name);
	int err;

	if (!addr)
		return -ENOENT;
	hook->fired = alloc_percpu(unsigned long);
	if (!hook->fired)
		return -ENOMEM;
	hook->function = addr;
	hook->site = rpal_k_ftrace_location(addr);
	hook->traced.func = traced;
	hook->traced.flags = FTRACE_OPS_FL_PERMANENT;
	if (hook->diverts)
		hook->traced.flags |= FTRACE_OPS_FL_IPMODIFY;
	if (hook->original)
		*hook->original = hook->site + MCOUNT_INSN_SIZE;
	if (hook->self)
		*hook->self = hook;
	err = set_filters(hook);
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
	struct rpal_hook *hook;
	int err = 0;

	for (hook = rpal_hooks; hook->name; hook++)
		err = prepare(hook) ?: err;
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
	struct rpal_hook *hook;

	cancel_delayed_work_sync(&remove);
	mutex_lock(&rpal_hook_mutex);
	if (rpal_hooks_installed)
		uninstall();
	mutex_unlock(&rpal_hook_mutex);
	for (hook = rpal_hooks; hook->name; hook++) {
		ftrace_free_filter(&hook->traced);
		ftrace_free_filter(&hook->direct);
		free_percpu(hook->fired);
	}
	rpal_hook_try_exit();
}

/**
 * rpal_hook_try() - see that all hooks can be installed and fire
 *
 * They stay for a while, as after any use.
 *
 * Context: module load. May sleep.
 * Return: 0, or a negative errno after naming the hook.
 */
int rpal_hook_try(void)
{
	int err = rpal_hook_get();

	if (!err)
		rpal_hook_put();
	return err;
}
