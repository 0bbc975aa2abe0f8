// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a kernel function as a live patch does: with a hook that may divert its
 * calls, of which there can be but one. It diverts none.
 *
 *	insmod rpal-hold.ko function=NAME
 */
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/string.h>

static char *function;
module_param(function, charp, 0400);
MODULE_PARM_DESC(function, "the kernel function to hold");

static void pass(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		 struct ftrace_regs *fregs)
{
}

static struct ftrace_ops hold_ops = {
	.func = pass,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_RECURSION,
};

static int __init hold_init(void)
{
	int err;

	if (!function)
		return -EINVAL;
	err = ftrace_set_filter(&hold_ops, function, strlen(function), 1);
	if (!err)
		err = register_ftrace_function(&hold_ops);
	if (err)
		ftrace_free_filter(&hold_ops);
	return err;
}

static void __exit hold_exit(void)
{
	unregister_ftrace_function(&hold_ops);
	ftrace_free_filter(&hold_ops);
}

module_init(hold_init);
module_exit(hold_exit);

MODULE_DESCRIPTION("For tests of rpal: hold a function as a live patch does");
MODULE_LICENSE("GPL");
