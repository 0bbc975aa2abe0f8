/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The current task, for assembler.
 */
#ifndef RPAL_COMPAT_CURRENT_H
#define RPAL_COMPAT_CURRENT_H

#include <linux/version.h>
#include <asm/asm-offsets.h>
#include <asm/percpu.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define RPAL_CURRENT	PER_CPU_VAR(pcpu_hot + X86_current_task)
#else
#define RPAL_CURRENT	PER_CPU_VAR(current_task)
#endif

#endif /* RPAL_COMPAT_CURRENT_H */
