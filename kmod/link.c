// SPDX-License-Identifier: GPL-2.0-only
/*
 * Links: one service's top-level page-table entry copied into another's table.
 *
 * The owner's entry is the truth. Peers' copies are made equal to it when the
 * link is made, when a fault finds them different, and before each flush; and
 * they are cleared when the link or the owner ends. All under rpal_lock.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <asm/pgalloc.h>

#include "rpal.h"
#include "sym.h"
#include "trace.h"

/*
 * Flushing a peer makes the kernel call that peer's notifier, which is ours
 * again: this tells it apart from a change of the peer's own memory. Written
 * under rpal_lock, compared only with the reader itself.
 */
static struct task_struct *flusher;

static void flush(struct rpal_space *space, unsigned long start,
		  unsigned long end)
{
	lockdep_assert_held(&rpal_lock);
	if (rpal_debug_no_flush)
		return;
	WRITE_ONCE(flusher, current);
	/* Only freed_tables reaches CPUs that keep the mm lazily. */
	rpal_k_flush_tlb_mm_range(space->mm, start, end, PAGE_SHIFT, true);
	WRITE_ONCE(flusher, NULL);
	rpal_count(RPAL_STAT_FLUSHES);
}

/* The entry that covers @addr, NULL if the table above it is missing. */
static p4d_t *entry_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);

	if (pgtable_l5_enabled() && pgd_none(*pgd))
		return NULL;
	return p4d_offset(pgd, addr);
}

/* What @peer's table should say about @owner's slot. */
static p4d_t entry_wanted(struct rpal_space *owner)
{
	p4d_t *entry = owner->dead ? NULL : entry_of(owner->mm, owner->base);

	if (!entry)
		return __p4d(0);
	/* Page-table isolation poisons the kernel's copy: not for peers. */
	return __p4d(p4d_val(READ_ONCE(*entry)) & ~_PAGE_NX);
}

static void entry_clear(struct rpal_space *peer, struct rpal_space *owner)
{
	p4d_t *entry = entry_of(peer->mm, owner->base);

	if (rpal_debug_no_clear && (owner->dead || peer->dead))
		return;
	if (entry && !p4d_none(*entry))
		set_p4d(entry, __p4d(0));
	flush(peer, owner->base, owner->end);
}

/**
 * rpal_link_sync() - make a peer's copy equal to the owner's entry
 * @peer:	whose table is written
 * @owner:	whose memory it is
 *
 * Context: rpal_lock held.
 * Return: true if the copy was different.
 */
bool rpal_link_sync(struct rpal_space *peer, struct rpal_space *owner)
{
	p4d_t *entry = entry_of(peer->mm, owner->base);
	p4d_t wanted = entry_wanted(owner);

	if (!entry || (p4d_val(*entry) & ~_PAGE_NX) == p4d_val(wanted))
		return false;
	if (!p4d_none(*entry) && !p4d_none(wanted) &&
	    p4d_pfn(*entry) != p4d_pfn(wanted)) {
		/* Another table: nothing of the old one may stay cached. */
		set_p4d(entry, __p4d(0));
		flush(peer, owner->base, owner->end);
	}
	set_p4d(entry, wanted);
	rpal_count(RPAL_STAT_SYNCS);
	return true;
}

/**
 * rpal_link_none() - are there no page tables where those of peers would be
 * @space:	without links; its mm's mmap_lock is held for writing
 *
 * Context: process context.
 */
bool rpal_link_none(struct rpal_space *space)
{
	unsigned int slot;
	p4d_t *entry;

	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		if (slot == space->slot)
			continue;
		entry = entry_of(space->mm, (unsigned long)slot << RPAL_SLOT_SHIFT);
		if (entry && !p4d_none(READ_ONCE(*entry)))
			return false;
	}
	return true;
}

/**
 * rpal_link() - let two spaces reach each other's memory
 * @a:		one
 * @b:		the other
 *
 * Context: rpal_lock held.
 */
void rpal_link(struct rpal_space *a, struct rpal_space *b)
{
	__set_bit(b->slot, a->peers);
	__set_bit(a->slot, b->peers);
	set_bit(b->slot, a->known);
	set_bit(a->slot, b->known);
	rpal_link_sync(a, b);
	rpal_link_sync(b, a);
	rpal_count(RPAL_STAT_LINKS);
	trace_rpal_link(a->slot, b->slot);
}

/**
 * rpal_unlink() - end a link
 * @a:		one
 * @b:		the other
 *
 * When it returns no CPU can reach one's memory through the other's tables. If
 * one's mm is being torn down its tables are freed next: the peer's copy must be
 * gone, and so must the copy of the peer's entry, which is not its to free.
 *
 * Context: rpal_lock held.
 */
void rpal_unlink(struct rpal_space *a, struct rpal_space *b)
{
	if (!test_bit(b->slot, a->peers))
		return;
	__clear_bit(b->slot, a->peers);
	__clear_bit(a->slot, b->peers);
	entry_clear(a, b);
	entry_clear(b, a);
	rpal_count(RPAL_STAT_UNLINKS);
	trace_rpal_unlink(a->slot, b->slot);
}

/**
 * rpal_link_invalidate() - a space's translations change: flush them in peers
 * @space:	whose memory changes
 * @start:	first address
 * @end:	address after the last
 *
 * Context: mmu notifier: must not sleep; mmap_lock, rmap and page-table locks
 * may be held.
 */
void rpal_link_invalidate(struct rpal_space *space, unsigned long start,
			  unsigned long end)
{
	unsigned int slot;

	if (READ_ONCE(flusher) == current)
		return;
	start = max(start, space->base);
	end = min(end, space->end);
	/* Asking for peers without the lock would race with a new link. */
	spin_lock(&rpal_lock);
	for_each_set_bit(slot, space->peers, RPAL_NR_SLOTS) {
		struct rpal_space *peer = rpal_slots[slot];

		/* The owner may just have freed the table itself. */
		rpal_link_sync(peer, space);
		flush(peer, start, end);
	}
	spin_unlock(&rpal_lock);
}
