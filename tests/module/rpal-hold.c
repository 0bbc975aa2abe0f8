// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a kernel function as a live patch does, with a hook that may divert its calls,
 * of which there can be but one; it diverts none. Or as a BPF program does, which
 * the function calls directly: of such there can be but one, too.
 *
 *	insmod rpal-hold.ko function=NAME [direct=1]
 */
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/ibt.h>

#include "compat/compat.h"

static char *function;
module_param(function, charp, 0400);
MODULE_PARM_DESC(function, "the kernel function to hold");

static bool direct;
module_param(direct, bool, 0400);
MODULE_PARM_DESC(direct, "as a BPF program does");

static void pass(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		 struct ftrace_regs *fregs)
{
}

static struct ftrace_ops hold_ops;

/* Changes nothing: not even a register. */
extern const char hold_entry[];
asm(".pushsection .text, \"ax\"\n"
    ".type hold_entry, @function\n"
    "hold_entry:\n" ASM_ENDBR ASM_RET ".size hold_entry, . - hold_entry\n"
    ".popsection\n");

/* As BPF does: whoever diverts calls is welcome. */
static int share(struct ftrace_ops *ops, enum ftrace_ops_cmd cmd)
{
	return 0;
}

static int hold_on(void)
{
	if (direct) {
		hold_ops.ops_func = share;
		return rpal_direct_on(&hold_ops, (unsigned long)hold_entry);
	}
	hold_ops.func = pass;
	hold_ops.flags |= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_RECURSION;
	return register_ftrace_function(&hold_ops);
}

static int __init hold_init(void)
{
	int err;

	if (!function)
		return -EINVAL;
	err = ftrace_set_filter(&hold_ops, function, strlen(function), 1);
	if (!err)
		err = hold_on();
	if (err)
		ftrace_free_filter(&hold_ops);
	return err;
}

static void __exit hold_exit(void)
{
	if (direct)
		rpal_direct_off(&hold_ops, (unsigned long)hold_entry);
	else
		unregister_ftrace_function(&hold_ops);
	ftrace_free_filter(&hold_ops);
}

module_init(hold_init);
module_exit(hold_exit);

MODULE_DESCRIPTION("For tests of rpal: hold a function as a live patch or BPF does");
MODULE_LICENSE("GPL");
