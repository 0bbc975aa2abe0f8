// SPDX-License-Identifier: GPL-2.0-only
/*
 * The thread area: pages of the module that hold the blocks of a service's
 * threads, mapped once by the service's process.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "rpal.h"

/**
 * rpal_area_page() - a page of a service's thread area
 * @space:	its space
 * @index:	which page
 *
 * Context: may sleep.
 * Return: the kernel's address of the page, or NULL without memory.
 */
void *rpal_area_page(struct rpal_space *space, unsigned int index)
{
	struct page *page = READ_ONCE(space->pages[index]);
	struct page *other;

	if (!page) {
		page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!page)
			return NULL;
		other = cmpxchg(&space->pages[index], NULL, page);
		if (other) {
			__free_page(page);
			page = other;
		}
	}
	return page_address(page);
}

/**
 * rpal_area_free() - give the pages back
 * @space:	their space, on its way out
 *
 * Pages that are still mapped somewhere stay until they are not.
 *
 * Context: any.
 */
void rpal_area_free(struct rpal_space *space)
{
	unsigned int i;

	for (i = 0; space->pages && i < RPAL_AREA_PAGES; i++) {
		if (space->pages[i])
			put_page(space->pages[i]);
	}
	kfree(space->pages);
}

static vm_fault_t area_fault(struct vm_fault *vmf)
{
	struct rpal_space *space = vmf->vma->vm_private_data;

	if (vmf->pgoff >= RPAL_AREA_PAGES)
		return VM_FAULT_SIGBUS;
	if (!rpal_area_page(space, vmf->pgoff))
		return VM_FAULT_OOM;
	vmf->page = space->pages[vmf->pgoff];
	get_page(vmf->page);
	return 0;
}

/*
 * A copy: one that mremap() makes before it is refused, or a child's, whose parent
 * has said MADV_DOFORK.
 */
static void area_open(struct vm_area_struct *vma)
{
	rpal_space_get(vma->vm_private_data);
}

static void area_close(struct vm_area_struct *vma)
{
	struct rpal_space *space = vma->vm_private_data;

	/* Not if it is a copy. */
	if (vma->vm_mm == space->mm && vma->vm_start == space->area)
		WRITE_ONCE(space->area, 0);
	rpal_space_put(space);
}

/* One mapping, whole, at one address: blocks are known by their address. */
static int area_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	return -EINVAL;
}

static int area_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static const struct vm_operations_struct area_ops = {
	.open = area_open,
	.fault = area_fault,
	.close = area_close,
	.may_split = area_may_split,
	.mremap = area_mremap,
};

/**
 * rpal_area_mmap() - mmap() of a registered file
 * @file:	the file
 * @vma:	the mapping
 *
 * Context: mmap_lock held for writing; may sleep.
 * Return: 0; -ENXIO, -EPERM as for every command; -EINVAL if it is not the
 * whole area, shared and not executable; -EBUSY if it is mapped already.
 */
int rpal_area_mmap(struct rpal_file *file, struct vm_area_struct *vma)
{
	struct rpal_space *space = rpal_service_caller(file);
	unsigned long size = vma->vm_end - vma->vm_start;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (vma->vm_pgoff || size != rpal_area_size(space->nr_receivers) ||
	    !(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC) ||
	    !rpal_in_slot(space, vma->vm_start, size))
		return -EINVAL;
	if (space->area)
		return -EBUSY;
	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	/* Nor later, by mprotect(). */
	vm_flags_clear(vma, VM_MAYEXEC);
	rpal_space_get(space);
	vma->vm_private_data = space;
	vma->vm_ops = &area_ops;
	WRITE_ONCE(space->area, vma->vm_start);
	return 0;
}
