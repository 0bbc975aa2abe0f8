/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernels. The core is written for one kernel; what is
 * called or spelled differently on another is hidden here.
 */
#ifndef RPAL_COMPAT_H
#define RPAL_COMPAT_H

#include <linux/ftrace.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <asm/prctl.h>

/* The registers of a function's caller, as ftrace hands them over. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define rpal_fregs(fregs)	(&arch_ftrace_regs(fregs)->regs)
#else
#define rpal_fregs(fregs)	(&(fregs)->regs)
#endif

/* A call from the entry of a function straight to one of ours, instead of to the tracer. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define RPAL_REGISTER_DIRECT			register_ftrace_direct
#define RPAL_UNREGISTER_DIRECT(ops, addr)	unregister_ftrace_direct(ops, addr, false)
#else
#define RPAL_REGISTER_DIRECT			register_ftrace_direct_multi
#define RPAL_UNREGISTER_DIRECT(ops, addr)	unregister_ftrace_direct_multi(ops, addr)
#endif

static inline int rpal_direct_on(struct ftrace_ops *ops, unsigned long addr)
{
	int err = RPAL_REGISTER_DIRECT(ops, addr);

	/* What was refused keeps these, and with them would never be taken again. */
	if (err) {
		ops->func = NULL;
		ops->trampoline = 0;
	}
	return err;
}

static inline int rpal_direct_off(struct ftrace_ops *ops, unsigned long addr)
{
	return RPAL_UNREGISTER_DIRECT(ops, addr);
}

/*
 * The notifier that follows a flush of a mm's TLB entries. Before 6.6 it does not follow
 * every flush, and some at a later time, when a page may be somebody else's already: then
 * the flush itself is hooked. The notifier is for batches of single pages, which are
 * flushed for all mms at once.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define RPAL_INVALIDATE_OP	arch_invalidate_secondary_tlbs
#else
#define RPAL_INVALIDATE_OP	invalidate_range
#define RPAL_HOOK_FLUSH		1
#endif

/* The one function through which every search for an address goes. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define RPAL_GET_UNMAPPED_AREA	"__get_unmapped_area"
#else
#define RPAL_GET_UNMAPPED_AREA	"get_unmapped_area"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* What an access to a shadow stack is known by. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define RPAL_PF_SHSTK	X86_PF_SHSTK
#else
#define RPAL_PF_SHSTK	0
#define VM_SHADOW_STACK	VM_NONE
#endif

/* Does the current task have a shadow stack, which a call cannot switch? */
static inline bool rpal_has_shadow_stack(void)
{
#ifdef CONFIG_X86_USER_SHADOW_STACK
	return current->thread.features & ARCH_SHSTK_SHSTK;
#else
	return false;
#endif
}

/*
 * Without paravirt page-table operations set_p4d() is inline and calls this
 * function, which is not exported: thunk.S provides it.
 */
#if !defined(CONFIG_PARAVIRT_XXL) && \
	(defined(CONFIG_PAGE_TABLE_ISOLATION) || \
	 defined(CONFIG_MITIGATION_PAGE_TABLE_ISOLATION))
#define RPAL_NEED_PTI_THUNK	1
#endif

#endif /* RPAL_COMPAT_H */
