// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module parameters.
 */
#include <linux/moduleparam.h>
#include <linux/string.h>

#include "rpal.h"

bool rpal_enable = true;
module_param_named(enable, rpal_enable, bool, 0644);
MODULE_PARM_DESC(enable,
		 "let programs be placed and become services; those that are go on (default: yes)");

bool rpal_allow_no_pkeys;
module_param_named(allow_no_pkeys, rpal_allow_no_pkeys, bool, 0644);
MODULE_PARM_DESC(allow_no_pkeys,
		 "let programs waive protection keys where the CPU has none (default: no)");

bool rpal_marker = true;
module_param_named(marker, rpal_marker, bool, 0644);
MODULE_PARM_DESC(marker,
		 "place programs whose ELF header carries the RPAL mark (default: yes)");

bool rpal_link_attach;
module_param_named(link_attach, rpal_link_attach, bool, 0644);
MODULE_PARM_DESC(link_attach,
		 "linking needs the right to ptrace-attach, not only to read (default: no)");

int rpal_account = -1;
module_param_named(account, rpal_account, int, 0644);
MODULE_PARM_DESC(account,
		 "charge CPU time of called code to the process called: 0 no, 1 by ticks, 2 by time stamps, for programs that start after; -1 (default) 2 if there are nohz_full CPUs, else 1");

bool rpal_direct_hooks = true;
module_param_named(direct_hooks, rpal_direct_hooks, bool, 0644);
MODULE_PARM_DESC(direct_hooks,
		 "warm functions call the module directly; with no they call the tracer, and BPF programs can be attached to them (default: yes; from the next time that hooks are installed)");

/* Long enough that a restarted program finds them still there. */
unsigned int rpal_hook_linger_ms = 2000;

static int set_linger(const char *value, const struct kernel_param *param)
{
	int err = param_set_uint(value, param);

	if (!err)
		rpal_hook_reschedule();
	return err;
}

static const struct kernel_param_ops linger_ops = {
	.set = set_linger,
	.get = param_get_uint,
};

module_param_cb(hook_linger_ms, &linger_ops, &rpal_hook_linger_ms, 0644);
MODULE_PARM_DESC(hook_linger_ms,
		 "how long hooks stay after the last placed program, in ms (default: 2000)");

/*
 * Two thirds of the slots, and as much else as these can make use of: about 64 MB
 * of kernel memory for threads, and 1 MB for links.
 */
unsigned int rpal_user_limits[RPAL_NR_LIMITS] = {
	[RPAL_LIMIT_PLACED]	= 170,
	[RPAL_LIMIT_SERVICES]	= 170,
	[RPAL_LIMIT_THREADS]	= 16384,
	[RPAL_LIMIT_LINKS]	= 16384,
};

#define RPAL_LIMIT_PARAM(name, which, what, value)			\
	module_param_named(user_##name, rpal_user_limits[which], uint, 0644); \
	MODULE_PARM_DESC(user_##name, "how many " what			\
			 " one user can have without CAP_SYS_RESOURCE, 0: no limit (default: " \
			 #value ")")

RPAL_LIMIT_PARAM(placed, RPAL_LIMIT_PLACED, "placed programs", 170);
RPAL_LIMIT_PARAM(services, RPAL_LIMIT_SERVICES, "services", 170);
RPAL_LIMIT_PARAM(threads, RPAL_LIMIT_THREADS, "registered threads", 16384);
RPAL_LIMIT_PARAM(links, RPAL_LIMIT_LINKS,
		 "requests for links of its services, answered or not,", 16384);

/*
 * The rest exists for tests: each takes one protection away, which makes the
 * machine unsafe. Setting one taints the kernel.
 */
static int leave_out(const char *value, const struct kernel_param *param)
{
	char name[64];

	if (strscpy(name, value, sizeof(name)) < 0)
		return -EINVAL;
	rpal_hook_leave_out(strim(name));
	return 0;
}

static const struct kernel_param_ops leave_out_ops = { .set = leave_out };

module_param_cb_unsafe(debug_break_hook, &leave_out_ops, NULL, 0200);
MODULE_PARM_DESC(debug_break_hook,
		 "UNSAFE, for tests: the hook on this function is left out");

#define RPAL_DEBUG_PARAM(name, what)					\
	bool rpal_debug_##name;						\
	module_param_named_unsafe(debug_##name, rpal_debug_##name,	\
				  bool, 0400);				\
	MODULE_PARM_DESC(debug_##name, "UNSAFE, for tests: " what)

RPAL_DEBUG_PARAM(no_flush, "do not flush peers' TLBs");
RPAL_DEBUG_PARAM(no_clear, "leave peers' page-table entries at exit");
RPAL_DEBUG_PARAM(no_pkey, "do not force the key on new mappings");
RPAL_DEBUG_PARAM(no_pkey_signal, "do not open the own key in signal handlers");
RPAL_DEBUG_PARAM(no_heir, "forget the key of forked children");
RPAL_DEBUG_PARAM(no_rights, "link without checking rights");
RPAL_DEBUG_PARAM(no_lazy, "let called code make system calls as its caller");
RPAL_DEBUG_PARAM(no_restart, "do not mend calls caught inside a trampoline");
RPAL_DEBUG_PARAM(no_rseq, "let registered threads take rseq");
RPAL_DEBUG_PARAM(no_guard, "do not go back to recovery points");
RPAL_DEBUG_PARAM(no_clamp, "do not keep mappings inside the slot");
