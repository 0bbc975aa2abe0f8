// SPDX-License-Identifier: GPL-2.0-only
/*
 * RPAL: one process calls into another as if it were a function.
 *
 * Loading is all or nothing: everything that could be missing on a kernel is
 * looked for first, and each hook must be seen to fire.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/build_bug.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "rpal.h"

static_assert(sizeof(struct rpal_block) == RPAL_BLOCK_SIZE);

static int __init rpal_init(void)
{
	int err;

	err = rpal_context_module_init();
	if (err)
		return err;
	err = rpal_sym_init();
	if (err)
		return err;
	err = rpal_hook_init();
	if (err)
		return err;
	/* Who has switched it off does not want hooks; then they are tried later. */
	if (rpal_enable)
		err = rpal_hook_try();
	if (err)
		goto hook;
	err = rpal_thread_module_init();
	if (err)
		goto hook;
	err = rpal_device_init();
	if (err)
		goto thread;
	rpal_stat_init();
	rpal_place_init();
	pr_info("ready, protection keys: %s\n",
		rpal_pkeys_present() ? "yes" : "none on this CPU");
	return 0;
thread:
	rpal_thread_module_exit();
hook:
	rpal_hook_exit();
	return err;
}

static void __exit rpal_exit(void)
{
	rpal_place_exit();
	rpal_stat_exit();
	rpal_device_exit();
	rpal_hook_exit();
	rpal_space_module_exit();
	/* Notifiers and spaces are freed by callbacks of this module. */
	mmu_notifier_synchronize();
	rpal_thread_module_exit();
	rpal_channel_module_exit();
	/* Nobody may still be on the last instructions of a task work. */
	synchronize_rcu_tasks();
}

module_init(rpal_init);
module_exit(rpal_exit);

MODULE_DESCRIPTION("RPAL: cross-process calls without entering the kernel");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
