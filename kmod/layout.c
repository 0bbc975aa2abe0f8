// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeping everything that a placed program maps inside its slot and under its
 * key, by changing arguments of the kernel's own functions.
 *
 * The slot, from below: heap of a static-pie (1 to 17 GiB), program (20 to 148
 * GiB), mmap area growing down from below the stack's gap, stack (in the top 16
 * GiB), and 64 MiB that some kernels need above it for the vdso. With the usual
 * stack limit at least 330 GiB in one piece are left for mmap().
 */
#include <linux/compat.h>
#include <linux/elf.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pid.h>
#include <linux/pkeys.h>
#include <linux/sizes.h>
#include <asm/pkru.h>
#include <asm/syscall.h>

#include "hook.h"
#include "rpal.h"
#include "sym.h"
#include "where.h"

#define GIB			RPAL_GIB
#define HEAP_START		GIB
#define HEAP_SPAN		(16 * GIB)
#define STACK_TOP_GAP		SZ_64M
#define STACK_GAP_MIN		SZ_128M
#define STACK_GAP_MAX		(RPAL_SLOT_SIZE / 4)
#define STACK_RANDOM_BITS	22	/* pages: 16 GiB */
#define MMAP_RANDOM_BITS	22	/* pages: 16 GiB */

static struct rpal_space *laid_out_space(void)
{
	struct rpal_space *space = rpal_space_current();

	return space && space->laid_out ? space : NULL;
}

static unsigned long random_pages(u32 random, unsigned int bits)
{
	if (!(current->flags & PF_RANDOMIZE))
		return 0;
	return (unsigned long)(random & (BIT(bits) - 1)) << PAGE_SHIFT;
}

/*
 * All keys count as allocated. None is left for the program to choose, which
 * could be a peer's; and the own one may be used in mprotect().
 */
static void hold_all_keys(struct mm_struct *mm)
{
	WRITE_ONCE(mm->context.pkey_allocation_map, (u16)~0);
}

/* From here on everything carries the key, and the task may use it. */
static void take_key(struct rpal_space *space, struct mm_struct *mm)
{
	if (!space->pkey)
		return;
	mm->def_flags |= (unsigned long)space->pkey << VM_PKEY_SHIFT;
	hold_all_keys(mm);
	write_pkru(rpal_pkru_for(space->pkey));
}

/* setup_arg_pages(bprm, stack_top, executable_stack): the first thing placed */
RPAL_CALLBACK(rpal_on_setup_arg_pages)
{
	struct rpal_space *space = rpal_space_current();
	struct mm_struct *mm = current->mm;
	struct linux_binprm *bprm;
	unsigned long top, gap, random;

	if (!space || space->laid_out)
		return;
	rpal_hook_fired(hook);
	bprm = (struct linux_binprm *)regs->di;
	top = space->end - STACK_TOP_GAP -
	      random_pages(space->rnd_stack, STACK_RANDOM_BITS);
	regs->si = top;
	gap = clamp(bprm->rlim_stack.rlim_cur, (unsigned long)STACK_GAP_MIN,
		    (unsigned long)STACK_GAP_MAX);
	random = random_pages(space->rnd_mmap, MMAP_RANDOM_BITS);
	/* Below the lowest place where the stack's top can be. */
	mm->mmap_base = PAGE_ALIGN(space->end - STACK_TOP_GAP - 16 * GIB -
				   gap - random);
	mm->mmap_legacy_base = PAGE_ALIGN(space->base + RPAL_SLOT_SIZE / 3 +
					  random);
	take_key(space, mm);
	strscpy(space->comm, current->comm, sizeof(space->comm));
	space->tgid = get_pid(task_tgid(current));
	space->laid_out = true;
}

/* ---------------------------------------------------- adoption, see space.c */

static bool has_key(struct rpal_space *space, struct vm_area_struct *vma)
{
	return !space->pkey || vma_pkey(vma) == space->pkey;
}

/* The next mapping in the slot that does not carry the key; false: there is none. */
static bool find_keyless(struct rpal_space *space, unsigned long *start,
			 size_t *len, unsigned long *prot)
{
	VMA_ITERATOR(vmi, space->mm, *start);
	struct vm_area_struct *vma;
	bool found = false;

	mmap_read_lock(space->mm);
	for_each_vma(vmi, vma) {
		if (vma->vm_start >= space->end)
			break;
		if (has_key(space, vma) || vma->vm_start < *start)
			continue;
		*start = vma->vm_start;
		*len = vma->vm_end - vma->vm_start;
		*prot = vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC);
		found = true;
		break;
	}
	mmap_read_unlock(space->mm);
	return found;
}

/**
 * rpal_layout_keys() - give everything in a slot the key
 * @space:	with slot and key, on the current task's mm, in no table yet
 *
 * The process has no other threads, which could change what is looked at. Another
 * process that shares the mm may map something without.
 *
 * Context: may sleep; takes mmap_lock.
 * Return: 0, or what mprotect() says.
 */
int rpal_layout_keys(struct rpal_space *space)
{
	unsigned long start = space->base, prot;
	size_t len;
	int err = 0;

	BUILD_BUG_ON(VM_READ != PROT_READ || VM_WRITE != PROT_WRITE ||
		     VM_EXEC != PROT_EXEC);
	while (!err && find_keyless(space, &start, &len, &prot)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		hold_all_keys(space->mm);	/* or the key would be refused */
		err = rpal_k_do_mprotect_pkey(start, len, prot, space->pkey);
		start += len;
		cond_resched();
	}
	return err;
}

/**
 * rpal_layout_fits() - is everything as if it had been mapped in a placed process
 * @space:	with slot and key, on the current task's mm
 *
 * Context: mmap_lock held for writing.
 * Return: 0; -ERANGE if something is outside of the slot; -EAGAIN if something does
 * not carry the key.
 */
int rpal_layout_fits(struct rpal_space *space)
{
	VMA_ITERATOR(vmi, space->mm, 0);
	struct vm_area_struct *vma;

	space->private_low = false;
	for_each_vma(vmi, vma) {
		if (vma->vm_end <= RPAL_LOW_END) {
			space->private_low = true;
			continue;
		}
		if (!rpal_in_slot(space, vma->vm_start,
				  vma->vm_end - vma->vm_start))
			return -ERANGE;
		if (!has_key(space, vma))
			return -EAGAIN;
	}
	return rpal_link_none(space) ? 0 : -ERANGE;
}

/**
 * rpal_layout_begin() - from now on keep mappings in the slot and under the key
 * @space:	into which everything fits
 *
 * Context: mmap_lock held for writing since it was found to fit.
 */
void rpal_layout_begin(struct rpal_space *space)
{
	VMA_ITERATOR(vmi, space->mm, 0);
	struct mm_struct *mm = space->mm;
	struct vm_area_struct *vma;

	/* One that grows could grow out of the slot. */
	for_each_vma(vmi, vma) {
		if ((vma->vm_flags & VM_GROWSDOWN) &&
		    (mm->start_stack < vma->vm_start ||
		     mm->start_stack >= vma->vm_end))
			vm_flags_clear(vma, VM_GROWSDOWN);
	}
	take_key(space, mm);
	space->laid_out = true;
}

/*
 * Is exec about to map the program where it likes best? Only the stack is there then.
 */
static bool is_program(const struct file *file)
{
	return current->in_execve && file && current->mm->map_count == 1;
}

/*
 * Does a system call want it? Else it is a probe (uprobes) that has been met for the first
 * time, and the kernel maps a page for its instruction.
 */
static bool in_system_call(void)
{
	return syscall_get_nr(current, current_pt_regs()) != -1;
}

/* Outside of system calls their number is -1, and that has the bit of the x32 ABI. */
static bool is_compat(void)
{
	return in_compat_syscall() && in_system_call();
}

/* get_unmapped_area(file, addr, len, pgoff, flags, ...) */
RPAL_CALLBACK(rpal_on_get_unmapped_area)
{
	struct rpal_space *space = laid_out_space();
	struct rpal_mapping m;

	if (!space || rpal_debug_no_clamp)
		return;
	rpal_hook_fired(hook);
	m = (struct rpal_mapping) {
		.base = space->base,
		.addr = regs->si,
		.len = regs->dx,
		.fixed = regs->r8 & MAP_FIXED,
		.low = regs->r8 & MAP_32BIT,
		.compat = is_compat(),
		.exec = current->in_execve,
		.program = is_program((struct file *)regs->di),
	};
	switch (rpal_where(&m)) {
	case RPAL_KEEP:
		break;
	case RPAL_SEARCH_LOW:
		regs->si = 0;
		fallthrough;
	case RPAL_LOW:
		WRITE_ONCE(space->private_low, true);
		rpal_count(RPAL_STAT_PRIVATE_LOW);
		break;
	case RPAL_SEARCH:
		regs->si = 0;
		break;
	case RPAL_MOVE:
		regs->si = rpal_program_place(space->base, m.addr);
		break;
	case RPAL_REFUSE:
		regs->dx = ~0UL;		/* becomes -ENOMEM */
		break;
	}
}

/* In place of security_mmap_addr(). */
static int address_refused(unsigned long addr)
{
	return -ENOMEM;
}

/*
 * security_mmap_addr(addr): asked about what every search has come to. Files bring
 * searches of their own: whatever these think of, nothing is mapped out of the slot.
 */
RPAL_CALLBACK(rpal_on_security_mmap_addr)
{
	struct rpal_space *space = laid_out_space();
	unsigned int slot = regs->di >> RPAL_SLOT_SHIFT;

	if (!space || rpal_debug_no_clamp)
		return;
	rpal_hook_fired(hook);
	if (slot && slot != space->slot)
		rpal_divert(regs, address_refused);
}

/* In place of expand_downwards(). */
static int growth_refused(struct vm_area_struct *vma, unsigned long address)
{
	return -ENOMEM;
}

/*
 * Is the stack of a mm just being filled by exec? That is elsewhere, and nobody else can
 * reach it. They can a little before exec moves it into the slot, with all that it has
 * grown to: then it must not grow.
 */
static bool is_filled_by_exec(const struct mm_struct *mm)
{
	return current->in_execve && current->mm != mm;
}

/*
 * expand_downwards(vma, address): nothing else says where a stack may grow to, and a
 * piece of it that mremap() has moved to the begin of the slot grows, too. Whose it is
 * does not depend on the current task: a debugger lets stacks of others grow.
 */
RPAL_CALLBACK(rpal_on_expand_downwards)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)regs->di;
	struct rpal_space *space;
	bool leaves = false;

	rcu_read_lock();
	space = rpal_space_of(vma->vm_mm);
	if (space && !is_filled_by_exec(vma->vm_mm)) {
		rpal_hook_fired(hook);
		leaves = !rpal_may_grow(space->base, vma->vm_end, regs->si);
	}
	rcu_read_unlock();
	if (leaves && !rpal_debug_no_clamp)
		rpal_divert(regs, growth_refused);
}

/* vm_unmapped_area(info): every search, top-down or not, shmem, huge pages */
RPAL_CALLBACK(rpal_on_vm_unmapped_area)
{
	struct rpal_space *space = laid_out_space();
	struct vm_unmapped_area_info *info;

	if (!space || rpal_debug_no_clamp)
		return;
	rpal_hook_fired(hook);
	info = (struct vm_unmapped_area_info *)regs->di;
	/* MAP_32BIT. A probe's page is searched for as if the program were a 32-bit one. */
	if (info->high_limit <= RPAL_LOW_END && in_system_call())
		return;
	if (info->low_limit < space->base || info->low_limit >= space->end)
		info->low_limit = space->base + PAGE_SIZE;
	if (info->high_limit > space->end || info->high_limit <= space->base)
		info->high_limit = space->end;
}

/* mmap_region(file, addr, len, vm_flags, ...) */
RPAL_CALLBACK(rpal_on_mmap_region)
{
	struct rpal_space *space = laid_out_space();

	if (!space)
		return;
	rpal_hook_fired(hook);
	if (space->pkey && !rpal_debug_no_pkey) {
		regs->cx &= ~((unsigned long)ARCH_VM_PKEY_FLAGS);
		regs->cx |= (unsigned long)space->pkey << VM_PKEY_SHIFT;
	}
	/* One that grows could grow out of the slot. */
	regs->cx &= ~(unsigned long)VM_GROWSDOWN;
}

/* do_mprotect_pkey(start, len, prot, pkey): the own key, or none */
RPAL_CALLBACK(rpal_on_do_mprotect_pkey)
{
	struct rpal_space *space = laid_out_space();
	int pkey;

	if (!space || !space->pkey || rpal_debug_no_pkey)
		return;
	rpal_hook_fired(hook);
	hold_all_keys(current->mm);	/* the program may have freed some */
	pkey = (int)regs->cx;
	if (pkey == -1 || pkey == 0)
		regs->cx = space->pkey;
	else if (pkey != space->pkey)
		regs->cx = arch_max_pkey();	/* becomes -EINVAL */
}

/* finalize_exec(bprm): the heap of a static-pie is still elsewhere */
RPAL_CALLBACK(rpal_on_finalize_exec)
{
	struct rpal_space *space = laid_out_space();
	struct mm_struct *mm = current->mm;
	unsigned long random;

	if (!space)
		return;
	rpal_hook_fired(hook);
	if (rpal_in_slot(space, mm->brk, 1))
		return;
	random = current->flags & PF_RANDOMIZE ?
		 mm->brk % HEAP_SPAN & PAGE_MASK : 0;
	mm->start_brk = space->base + HEAP_START + random;
	mm->brk = mm->start_brk;
}
