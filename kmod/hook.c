// SPDX-License-Identifier: GPL-2.0-only
/*
 * Installing the hooks at the first use, and removing them after the last.
 *
 * Users are spaces and heirs. Every one of them also holds a reference on the
 * module, and every task that runs in a replacement function runs in the mm of
 * one of them, or changes its memory, which keeps it: so when the module is
 * unloaded no task is inside our code, and unregister_ftrace_function() has
 * waited for those that were about to be.
 *
 * A hook that does not fire would leave the module half working, so each is tried:
 * the function is called, and the call must come to the callback. Hooks that divert
 * send such a call away from the function themselves. For the others a second hook
 * does that, which is there only when they are tried: at load, or if the module was
 * switched off then, before the first use. What is looked at later is whether
 * the tracer still has the hook, and whether the function still calls the tracer.
 *
 * Functions that many ordinary processes come by call thunk.S directly, not the tracer,
 * which would take some fifty instructions to ask us. There can be but one such caller
 * of a function: if a BPF program has it, the tracer calls us there, too.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/text-patching.h>

#include "hook.h"
#include "rpal.h"
#include "sym.h"

/* What rpal_probe_skip() returns in the place of a function; in thunk.S, too. */
#define SKIPPED		0x7270616c736b6970UL

/**
 * struct rpal_hook - a function that is hooked
 * @name:	its name
 * @func:	our callback
 * @diverts:	whether that may send calls elsewhere, else it changes arguments
 * @original:	then, where the thunk to the function goes, or NULL if there is none
 * @entry:	what it calls directly, in thunk.S, or NULL
 * @self:	where that finds this
 * @deaf:	for tests: the callback is not called
 * @tried:	the callback has seen a call of ours
 * @function:	address of the function
 * @site:	address of the instruction in it that calls the tracer
 * @fired:	calls for tasks that may be ours, since it was installed
 * @traced:	what the tracer knows of it if that calls us
 * @direct:	what it knows if the function calls @entry
 * @on:		the one of them that is registered, or NULL; under hook_mutex
 */
struct rpal_hook {
	const char *name;
	void (*func)(struct rpal_hook *hook, struct pt_regs *regs);
	bool diverts;
	unsigned long *original;
	const char *entry;
	struct rpal_hook **self;
	bool deaf;
	bool tried;
	unsigned long function;
	unsigned long site;
	unsigned long __percpu *fired;
	struct ftrace_ops traced;
	struct ftrace_ops direct;
	struct ftrace_ops *on;
};

#define ARGUMENTS(sym, fn, ...)						\
	{ .name = sym, .func = fn, ##__VA_ARGS__ }
#define DIVERT(sym, fn, ...)						\
	{ .name = sym, .func = fn, .diverts = true, ##__VA_ARGS__ }
#define ORIGINAL(thunk)	.original = &rpal_addr_##thunk
#define WARM(name)	.entry = rpal_enter_##name, .self = &rpal_hook_##name

static struct rpal_hook hooks[] = {
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
};

static DEFINE_MUTEX(hook_mutex);
static atomic_t hook_users = ATOMIC_INIT(0);
static bool installed;			/* under hook_mutex */
static bool tried;			/* all of them once; under hook_mutex */
static const char *failed;		/* at the last attempt; under hook_mutex */

/* For tests: one that is not there, or does nothing. Under hook_mutex. */
static struct rpal_hook *left_out;

/**
 * rpal_trying - the task that is just trying the hooks, NULL at most times
 *
 * Under hook_mutex. While there is one, no entry returns at once.
 */
struct task_struct *rpal_trying;

/* ------------------------------------------------------------------- callbacks */

/* Made by rpal_probe(): nothing else calls any of them with no arguments at all. */
static bool is_trial(const struct pt_regs *regs)
{
	return READ_ONCE(rpal_trying) == current &&
	       !(regs->di | regs->si | regs->dx | regs->cx | regs->r8 | regs->r9);
}

/* Another hook sends away the calls of one that may only change arguments. */
static void note_trial(struct rpal_hook *hook, struct pt_regs *regs)
{
	if (!hook->deaf)
		WRITE_ONCE(hook->tried, true);
	if (hook->diverts || hook->on == &hook->direct)
		regs->ip = (unsigned long)rpal_probe_skip;
}

/**
 * rpal_hook_enter() - a function that is hooked has been called
 * @hook:	its hook
 * @regs:	as for callbacks
 *
 * Context: that of the function.
 */
void rpal_hook_enter(struct rpal_hook *hook, struct pt_regs *regs)
{
	if (unlikely(is_trial(regs)))
		note_trial(hook, regs);
	else if (likely(!hook->deaf))
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
		hook->on = &hook->direct;
	return err;
}

static int hook_on(struct rpal_hook *hook)
{
	int err;

	/* A call that is to try it would reach the function if it diverts. */
	if (hook == left_out && hook->diverts)
		return 0;
	hook->deaf = hook == left_out;
	err = direct_on(hook);
	if (err != -EBUSY)
		return err;
	err = register_ftrace_function(&hook->traced);
	if (!err)
		hook->on = &hook->traced;
	return err;
}

static void hook_off(struct rpal_hook *hook)
{
	if (hook->on == &hook->direct)
		rpal_direct_off(&hook->direct, (unsigned long)hook->entry);
	else if (hook->on)
		unregister_ftrace_function(&hook->traced);
	hook->on = NULL;
}

static void uninstall(void)
{
	int i;

	installed = false;
	for (i = ARRAY_SIZE(hooks) - 1; i >= 0; i--)
		hook_off(&hooks[i]);
}

/* ------------------------------------------------------------ are they there */

/*
 * Does the tracer have the hook, and does the function call the tracer? While the
 * tracer changes that call there is a breakpoint in its place.
 */
static bool in_place(const struct rpal_hook *hook)
{
	struct ftrace_ops *on = READ_ONCE(hook->on);
	u8 opcode = 0;

	if (!on || !(READ_ONCE(on->flags) & FTRACE_OPS_FL_ENABLED))
		return false;
	copy_from_kernel_nofault(&opcode, (void *)hook->site, sizeof(opcode));
	return opcode == CALL_INSN_OPCODE || opcode == INT3_INSN_OPCODE;
}

static const struct rpal_hook *find_missing(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (!in_place(&hooks[i]))
			return &hooks[i];
	}
	return NULL;
}

static bool fires(struct rpal_hook *hook)
{
	/* A function that is not hooked would do what it is there for. */
	if (!in_place(hook))
		return false;
	WRITE_ONCE(hook->tried, false);
	return rpal_probe(hook->function) == SKIPPED && READ_ONCE(hook->tried);
}

/* Of those that divert, or of the others, one that does not fire. */
static const struct rpal_hook *find_silent(bool diverts)
{
	const struct rpal_hook *silent = NULL;
	unsigned int i;

	WRITE_ONCE(rpal_trying, current);
	for (i = 0; i < ARRAY_SIZE(hooks) && !silent; i++) {
		if (hooks[i].diverts == diverts && !fires(&hooks[i]))
			silent = &hooks[i];
	}
	WRITE_ONCE(rpal_trying, NULL);
	return silent;
}

/* Calls of ours, sent away from functions whose hooks must not do that. */
static void skip(unsigned long ip, unsigned long parent_ip,
		 struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct pt_regs *regs = rpal_fregs(fregs);

	if (is_trial(regs))
		regs->ip = (unsigned long)rpal_probe_skip;
}

static struct ftrace_ops skip_ops = {
	.func = skip,
	.flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY,
};

static int skip_on(void)
{
	bool first = true;
	unsigned int i;
	int err = 0;

	for (i = 0; i < ARRAY_SIZE(hooks) && !err; i++) {
		if (hooks[i].on != &hooks[i].traced || hooks[i].diverts)
			continue;
		err = ftrace_set_filter_ip(&skip_ops, hooks[i].site, 0, first);
		first = false;
	}
	/* Some are always traced: without a filter it would have all functions. */
	if (!err && first)
		err = -ENOENT;
	return err ?: register_ftrace_function(&skip_ops);
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

static int try_all(void)
{
	const struct rpal_hook *silent = find_silent(true);

	if (!silent)
		silent = try_arguments();
	if (IS_ERR(silent))
		return PTR_ERR(silent);
	if (silent) {
		failed = silent->name;
		pr_err("the hook on %s does not fire\n", failed);
		return -ENODEV;
	}
	tried = true;
	return 0;
}

/* ----------------------------------------------------------------- installing */

static int register_all(void)
{
	const struct rpal_hook *missing;
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		err = hook_on(&hooks[i]);
		if (err) {
			/* If the tracer is off that is no fault of the hook. */
			if (READ_ONCE(*rpal_k_ftrace_enabled))
				failed = hooks[i].name;
			pr_err("cannot hook %s (%d)%s\n", hooks[i].name, err,
			       err == -EBUSY ?
			       ": is it held by a live patch, or kernel.ftrace_enabled 0?" : "");
			return err;
		}
	}
	missing = find_missing();
	if (missing) {
		failed = missing->name;
		pr_err("there is no hook on %s, although the tracer took it\n",
		       failed);
		return -ENODEV;
	}
	return 0;
}

static void forget_counts(void)
{
	unsigned int i;
	int cpu;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		for_each_possible_cpu(cpu)
			per_cpu(*hooks[i].fired, cpu) = 0;
	}
}

static int install(void)
{
	int err;

	failed = NULL;
	forget_counts();
	err = register_all();
	if (!err && !tried)
		err = try_all();
	if (err)
		uninstall();
	else
		installed = true;
	return err;
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

/* With users there are hooks; but are all of them still there? */
static int check_again(void)
{
	const struct rpal_hook *missing = find_missing();

	if (!missing)
		return 0;
	pr_err_ratelimited("the hook on %s has gone: nothing is placed until all who use it have ended\n",
			   missing->name);
	return -ENODEV;
}

/**
 * rpal_hook_get() - have the hooks installed
 *
 * Context: may sleep; takes hook_mutex and, inside ftrace, text_mutex.
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
	mutex_lock(&hook_mutex);
	if (installed && !atomic_read(&hook_users) && find_missing())
		uninstall();
	if (!installed)
		err = install();
	if (!err)
		atomic_inc(&hook_users);
	mutex_unlock(&hook_mutex);
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
	if (READ_ONCE(installed) && !atomic_read(&hook_users))
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
	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		ftrace_free_filter(&hooks[i].traced);
		ftrace_free_filter(&hooks[i].direct);
		free_percpu(hooks[i].fired);
	}
	ftrace_free_filter(&skip_ops);
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

/* -------------------------------------------------------------------- health */

/* What is wrong, NULL if nothing is. Under hook_mutex. */
static const char *find_fault(bool may_call)
{
	const struct rpal_hook *hook;

	if (!installed)
		return READ_ONCE(*rpal_k_ftrace_enabled) ? failed :
		       "kernel.ftrace_enabled is 0";
	hook = find_missing();
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
	if (!mutex_trylock(&hook_mutex))
		return true;
	healthy = !find_fault(false);
	mutex_unlock(&hook_mutex);
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
	if (!installed)
		return "no";
	return in_place(hook) ? "yes" : "GONE";
}

/**
 * rpal_hook_show() - write what is known of all hooks
 * @seq:	where to
 *
 * Context: process context; takes hook_mutex.
 */
void rpal_hook_show(struct seq_file *seq)
{
	const char *fault;
	unsigned int i;

	mutex_lock(&hook_mutex);
	seq_puts(seq, "hook kind called installed fired\n");
	for (i = 0; i < ARRAY_SIZE(hooks); i++)
		seq_printf(seq, "%s %s %s %s %lu\n", hooks[i].name,
			   hooks[i].diverts ? "diverts" : "arguments",
			   hooks[i].on == &hooks[i].direct ? "directly" : "traced",
			   state_of(&hooks[i]), times_fired(&hooks[i]));
	fault = find_fault(true);
	if (fault)
		seq_printf(seq, "broken: %s\n", fault);
	else
		seq_puts(seq, tried || installed ? "ok\n" :
						   "ok, but not tried yet\n");
	mutex_unlock(&hook_mutex);
}

/**
 * rpal_hook_leave_out() - for tests: do without a hook, but behave as if it were there
 * @name:	of the function; if it is none that is hooked, all hooks are there again
 *
 * One that changes arguments is installed the next time, but does nothing; any other
 * is not installed. They are tried again then. What is installed is taken away now.
 *
 * Context: process context; takes hook_mutex.
 */
void rpal_hook_leave_out(const char *name)
{
	struct rpal_hook *was, *hook = NULL;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (!strcmp(hooks[i].name, name))
			hook = &hooks[i];
	}
	mutex_lock(&hook_mutex);
	was = left_out;
	left_out = hook;
	tried = false;
	if (installed && was && !was->on)
		hook_on(was);
	if (installed && hook)
		hook_off(hook);
	mutex_unlock(&hook_mutex);
}
