// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on a linked peer's memory, and that it is not pinned.
 *
 * The current mm has no mapping there, so both the user and the kernel path
 * end in bad_area_nosemaphore(), with interrupts on and no lock held. The
 * owner's mm is made to have the page, the copy of its top-level entry is
 * brought up to date, and the instruction is tried again.
 */
#include <linux/mm.h>
#include <linux/pkeys.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include <asm/pkru.h>
#include <asm/trap_pf.h>

#include "hook.h"
#include "sym.h"
#include "thread.h"

enum verdict {
	UNRESOLVED,		/* as if we were not here */
	RESOLVED,		/* try the instruction again */
	DENIED,			/* the key forbids it */
};

static unsigned int slot_of(unsigned long addr)
{
	return addr >> RPAL_SLOT_SHIFT;
}

static bool is_peer_locked(struct rpal_space *space, unsigned long addr)
{
	unsigned int slot = slot_of(addr);

	return slot < RPAL_NR_SLOTS && test_bit(slot, space->peers);
}

/* The mm that owns an address, with a reference, if it is a linked peer's. */
static struct mm_struct *peer_mm_get(struct rpal_space *space,
				     unsigned long addr)
{
	struct mm_struct *mm = NULL;

	spin_lock(&rpal_lock);
	if (is_peer_locked(space, addr)) {
		mm = rpal_slots[slot_of(addr)]->mm;
		if (!mmget_not_zero(mm))
			mm = NULL;
	}
	spin_unlock(&rpal_lock);
	return mm;
}

static void sync_from(struct rpal_space *space, struct mm_struct *owner,
		      unsigned long addr)
{
	spin_lock(&rpal_lock);
	if (is_peer_locked(space, addr) &&
	    rpal_slots[slot_of(addr)]->mm == owner)
		rpal_link_sync(space, rpal_slots[slot_of(addr)]);
	spin_unlock(&rpal_lock);
}

static bool vma_permits(struct vm_area_struct *vma, unsigned long error_code)
{
	/* Device memory may only be faulted in by its own process. */
	if (vma->vm_flags & (VM_PFNMAP | VM_IO))
		return false;
	/* Nor is one task's shadow stack ever another's. */
	if ((vma->vm_flags & VM_SHADOW_STACK) || (error_code & RPAL_PF_SHSTK))
		return false;
	if (error_code & X86_PF_WRITE)
		return vma->vm_flags & VM_WRITE;
	if (error_code & X86_PF_INSTR)
		return vma->vm_flags & VM_EXEC;
	return vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC);
}

static bool key_permits(struct vm_area_struct *vma, unsigned long error_code)
{
	if (error_code & X86_PF_PK)
		return false;
	if ((error_code & X86_PF_INSTR) || !rpal_pkeys_present())
		return true;
	return __pkru_allows_pkey(vma_pkey(vma), error_code & X86_PF_WRITE);
}

static unsigned int fault_flags(unsigned long error_code)
{
	unsigned int flags = FAULT_FLAG_REMOTE | FAULT_FLAG_ALLOW_RETRY |
			     FAULT_FLAG_KILLABLE;

	if (error_code & X86_PF_WRITE)
		flags |= FAULT_FLAG_WRITE;
	if (error_code & X86_PF_INSTR)
		flags |= FAULT_FLAG_INSTRUCTION;
	return flags;
}

/* A fatal signal sends a user's fault back to user mode, where it is taken. */
static enum verdict interrupted(struct pt_regs *regs)
{
	return user_mode(regs) ? RESOLVED : UNRESOLVED;
}

static enum verdict verdict_of(vm_fault_t fault, struct pt_regs *regs)
{
	if (!(fault & VM_FAULT_ERROR))
		return RESOLVED;
	/* Memory that is not there now is asked for again, as on own memory. */
	if ((fault & VM_FAULT_OOM) && user_mode(regs))
		return RESOLVED;
	return UNRESOLVED;
}

/*
 * Takes the owner's mmap_lock and gives it back. While a page is waited for the lock may
 * be given up, and the mapping be another when it is had again: nothing of what was found
 * out holds then.
 */
static enum verdict fault_in(struct mm_struct *mm, struct pt_regs *regs,
			     unsigned long error_code, unsigned long addr,
			     u32 *pkey)
{
	unsigned int flags = fault_flags(error_code);
	struct vm_area_struct *vma;
	vm_fault_t fault;

	for (;;) {
		if (fatal_signal_pending(current))
			return interrupted(regs);
		vma = rpal_k_lock_mm_and_find_vma(mm, addr, regs);
		if (!vma)
			return fatal_signal_pending(current) ? interrupted(regs) :
							       UNRESOLVED;
		if (!vma_permits(vma, error_code)) {
			mmap_read_unlock(mm);
			return UNRESOLVED;
		}
		if (!key_permits(vma, error_code)) {
			*pkey = vma_pkey(vma);
			mmap_read_unlock(mm);
			return DENIED;
		}
		fault = handle_mm_fault(vma, addr & PAGE_MASK, flags, NULL);
		if (fault & VM_FAULT_COMPLETED)
			return RESOLVED;
		if (!(fault & VM_FAULT_RETRY))
			break;
		flags |= FAULT_FLAG_TRIED;
	}
	mmap_read_unlock(mm);
	return verdict_of(fault, regs);
}

static enum verdict resolve(struct pt_regs *regs, unsigned long error_code,
			    unsigned long addr, u32 *pkey)
{
	struct rpal_space *space = rpal_space_current();
	enum verdict verdict;
	struct mm_struct *mm;

	mm = peer_mm_get(space, addr);
	if (!mm)
		return UNRESOLVED;
	verdict = fault_in(mm, regs, error_code, addr, pkey);
	if (verdict == RESOLVED) {
		sync_from(space, mm, addr);
		rpal_count_for(space, RPAL_SERVICE_FAULTS);
		rpal_count(user_mode(regs) ? RPAL_STAT_FAULTS :
			   RPAL_STAT_FAULTS_KERNEL);
	}
	/*
	 * The owner may have ended meanwhile, and this be its last reference. Its end waits
	 * for much, and a system call whose access this is may hold a lock that it needs.
	 */
	if (user_mode(regs))
		mmput(mm);
	else
		mmput_async(mm);
	return verdict;
}

/* The kernel asks whether it may write of a fault without saying where it was. */
static void note_address(unsigned long address)
{
	struct rpal_tcb *t;

	rcu_read_lock();
	t = rpal_thread_current();
	if (t)
		t->faulted = address;
	rcu_read_unlock();
}

/* In place of bad_area_nosemaphore(), for addresses in a slot not our own. */
static void bad_area(struct pt_regs *regs, unsigned long error_code,
		     unsigned long address)
{
	enum verdict verdict;
	u32 pkey = 0;

	/* Also in an NMI, which must leave a fault alone that is just being told of. */
	if (faulthandler_disabled() || irqs_disabled()) {
		rpal_k_bad_area_nosemaphore(regs, error_code, address);
		return;
	}
	verdict = resolve(regs, error_code, address, &pkey);
	if (verdict == RESOLVED)
		return;
	note_address(address);
	switch (verdict) {
	case DENIED:
		rpal_count(RPAL_STAT_FAULTS_DENIED);
		rpal_k___bad_area_nosemaphore(regs, error_code, address, pkey,
					      SEGV_PKUERR);
		break;
	default:
		rpal_count(RPAL_STAT_FAULTS_BAD);
		rpal_k_bad_area_nosemaphore(regs, error_code, address);
	}
	note_address(0);
}

/* bad_area_nosemaphore(regs, error_code, address) */
RPAL_CALLBACK(rpal_on_bad_area_nosemaphore)
{
	struct rpal_space *space = rpal_space_current();
	unsigned int slot;

	if (!space)
		return;
	rpal_hook_fired(hook);
	slot = slot_of(regs->dx);
	if (slot && slot < RPAL_NR_SLOTS && slot != space->slot)
		rpal_divert(regs, bad_area);
}

/* In place of pin_user_pages_fast(): as if nothing was there. */
static int pin_refused(unsigned long start, int nr_pages,
		       unsigned int gup_flags, struct page **pages)
{
	return -EFAULT;
}

/* In place of get_user_pages_fast_only(): none of them is there now. */
static int nothing_found(unsigned long start, int nr_pages,
			 unsigned int gup_flags, struct page **pages)
{
	return 0;
}

/* Is all of it in the own slot, or below the first? */
static bool is_own(struct rpal_space *space, unsigned long start,
		   unsigned long end)
{
	unsigned int first = slot_of(start), last = slot_of(end - 1);

	return (!first || first == space->slot) &&
	       (!last || last == space->slot) && last - first <= 1;
}

/* Does a call f(start, nr_pages, ...) of the current task look into another slot? */
static bool looks_at_peers(struct rpal_hook *hook, struct pt_regs *regs)
{
	struct rpal_space *space = rpal_space_current();
	int nr_pages = regs->si;

	if (!space || nr_pages <= 0)
		return false;
	rpal_hook_fired(hook);
	return !is_own(space, regs->di,
		       regs->di + ((u64)nr_pages << PAGE_SHIFT));
}

/*
 * pin_user_pages_fast(start, nr_pages, gup_flags, pages): goes by the page tables,
 * and so would find peers' pages. But that there are pins is noted in the mm of who
 * makes them: the owner's fork() would share such a page with the child, to be
 * written by who has the pin, and with DEBUG_VM the end of the pin be a BUG. Where
 * the kernel looks for a mapping it says EFAULT; so here.
 */
RPAL_CALLBACK(rpal_on_pin_user_pages_fast)
{
	if (looks_at_peers(hook, regs))
		rpal_divert(regs, pin_refused);
}

/*
 * get_user_pages_fast_only(start, nr_pages, gup_flags, pages): who calls it may keep
 * the page without a reference, and rely on the notifiers of the current task's mm to
 * hear when it goes, as virtual machines do. The owner's unmap tells the owner's
 * notifiers only. Without it such a caller looks for a mapping, and finds none.
 */
RPAL_CALLBACK(rpal_on_get_user_pages_fast_only)
{
	if (looks_at_peers(hook, regs))
		rpal_divert(regs, nothing_found);
}
