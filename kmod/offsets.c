// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where fields are, for assembler: Kbuild makes offsets.h of it.
 */
#include <linux/kbuild.h>
#include <linux/mm_types.h>
#include <linux/sched.h>

static void __used offsets(void)
{
	OFFSET(RPAL_TASK_MM, task_struct, mm);
	OFFSET(RPAL_VMA_MM, vm_area_struct, vm_mm);
	OFFSET(RPAL_MM_SUBSCRIPTIONS, mm_struct, notifier_subscriptions);
}
