// SPDX-License-Identifier: GPL-2.0-only
/*
 * A live patch of a function that the module has to divert. What takes its place goes
 * on behind the place where the function calls its tracer, so it changes nothing.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <asm/ftrace.h>
#include <asm/ibt.h>

#define FUNCTION "bad_area_nosemaphore"

typedef void bad_area_fn(struct pt_regs *regs, unsigned long error_code, unsigned long address);

static bad_area_fn *behind;

static void patched(struct pt_regs *regs, unsigned long error_code, unsigned long address)
{
	behind(regs, error_code, address);
}

static struct klp_func functions[] = { { .old_name = FUNCTION, .new_func = patched }, {} };

static struct klp_object objects[] = { { .funcs = functions }, /* no name: vmlinux */
				       {} };

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

/* A kprobe that is not armed finds a function's address. */
static int find_behind(void)
{
	struct kprobe probe = { .symbol_name = FUNCTION, .flags = KPROBE_FLAG_DISABLED };
	unsigned long site;
	int err = register_kprobe(&probe);

	if (err)
		return err;
	site = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	/* Of kernels with IBT it begins with ENDBR, and the probe may be behind that. */
	if (is_endbr(*(u32 *)site))
		site += ENDBR_INSN_SIZE;
	behind = (bad_area_fn *)(site + MCOUNT_INSN_SIZE);
	return 0;
}

static int __init patch_init(void)
{
	int err = find_behind();

	return err ?: klp_enable_patch(&patch);
}

/* There is no way here before the patch is switched off, and nobody is in it. */
static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);

MODULE_DESCRIPTION("For tests of rpal: a live patch");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
