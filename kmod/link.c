// SPDX-License-Identifier: GPL-2.0-only
/*
 * Links: one service's top-level page-table entry copied into another's table.
 *
 * The owner's entry is the truth. Peers' copies are made equal to it when the
 * link is made, when a fault finds them different, and before each flush; and
 * they are cleared when the link or the owner ends. All under rpal_lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/pgtable.h>
#include <asm/pgalloc.h>

#include "hook.h"
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

/*
 * The entry that covers @addr, NULL if the table above it is missing. With five levels
 * that table is the mm's own, and goes when its last mapping does: see
 * rpal_link_invalidate().
 */
static p4d_t *entry_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	pgd_t table;

	if (!pgtable_l5_enabled())
		return (p4d_t *)pgd;
	table = READ_ONCE(*pgd);
	if (pgd_none(table))
		return NULL;
	return (p4d_t *)pgd_page_vaddr(table) + p4d_index(addr);
}

/* Page-table isolation poisons the kernel's copy of an entry: not for peers. */
static p4dval_t value_of(p4d_t *entry)
{
	return p4d_val(READ_ONCE(*entry)) & ~_PAGE_NX;
}

/* What @peer's table should say about @owner's slot. */
static p4dval_t value_wanted(struct rpal_space *owner)
{
	p4d_t *entry = owner->dead ? NULL : entry_of(owner->mm, owner->base);

	return entry ? value_of(entry) : 0;
}

/*
 * Three steps, of which none does what another is for: is the entry ours, set it, clear
 * it. Who takes a table out of reach flushes.
 */
static bool copy_is_ours(struct rpal_space *peer, struct rpal_space *owner,
			 p4d_t *entry)
{
	p4dval_t value = value_of(entry);

	/* The table above it may have gone, and all copies with it. */
	return !value || value == peer->copies[owner->slot];
}

static void copy_set(struct rpal_space *peer, struct rpal_space *owner,
		     p4d_t *entry, p4dval_t value)
{
	peer->copies[owner->slot] = value;
	set_p4d(entry, __p4d(value));
}

static void copy_clear(struct rpal_space *peer, struct rpal_space *owner)
{
	p4d_t *entry = entry_of(peer->mm, owner->base);

	if (rpal_debug_no_clear && (owner->dead || peer->dead))
		return;
	if (entry && copy_is_ours(peer, owner, entry)) {
		peer->copies[owner->slot] = 0;
		if (value_of(entry))
			set_p4d(entry, __p4d(0));
	}
	flush(peer, owner->base, owner->end);
}

/*
 * A mapping of @peer's lies where @owner's memory would be: its tables are not ours to
 * overwrite. The layout hooks let none come about; should they be wrong, the link ends.
 */
static void end_foreign(struct rpal_space *peer, struct rpal_space *owner)
{
	pr_err_ratelimited("process %s has page tables of its own in slot %u, of its peer %s: their link ends\n",
			   peer->comm, owner->slot, owner->comm);
	rpal_unlink(peer, owner);
}

/**
 * rpal_link_sync() - make a peer's copy equal to the owner's entry
 * @peer:	whose table is written
 * @owner:	whose memory it is
 *
 * Context: rpal_lock held; the two are linked.
 */
void rpal_link_sync(struct rpal_space *peer, struct rpal_space *owner)
{
	p4d_t *entry = entry_of(peer->mm, owner->base);
	p4dval_t wanted = value_wanted(owner);

	if (!entry || value_of(entry) == wanted)
		return;
	if (!copy_is_ours(peer, owner, entry)) {
		end_foreign(peer, owner);
		return;
	}
	/* Another table: nothing of the old one may stay cached. */
	if (value_of(entry) && wanted)
		copy_clear(peer, owner);
	copy_set(peer, owner, entry, wanted);
	rpal_count(RPAL_STAT_SYNCS);
}

static bool has_tables_at(struct rpal_space *space, unsigned long addr)
{
	p4d_t *entry = entry_of(space->mm, addr);

	return entry && value_of(entry);
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

	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		if (slot != space->slot &&
		    has_tables_at(space, (unsigned long)slot << RPAL_SLOT_SHIFT))
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
 * Return: 0, or -ERANGE if one of them has memory where the other's would be.
 */
int rpal_link(struct rpal_space *a, struct rpal_space *b)
{
	if (has_tables_at(a, b->base) || has_tables_at(b, a->base))
		return -ERANGE;
	__set_bit(b->slot, a->peers);
	__set_bit(a->slot, b->peers);
	set_bit(b->slot, a->known);
	set_bit(a->slot, b->known);
	rpal_link_sync(a, b);
	rpal_link_sync(b, a);
	rpal_count(RPAL_STAT_LINKS);
	trace_rpal_link(a->slot, b->slot);
	return 0;
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
	copy_clear(a, b);
	copy_clear(b, a);
	rpal_count(RPAL_STAT_UNLINKS);
	trace_rpal_unlink(a->slot, b->slot);
}

/**
 * rpal_link_invalidate() - a space's translations change: flush them in peers
 * @space:	whose memory changes
 * @start:	first address
 * @end:	address after the last; if it is not behind @start, all of it
 *
 * With five levels the entries for all slots are in a table of the mm's own. When it is
 * freed, by an unmap that may be anywhere, a peer may just be writing its entry: it has
 * done so when the lock was had once, and finds no table any more.
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
	if (end <= start) {
		/* Two unmaps at a time: the kernel has flushed everything. */
		start = space->base;
		end = space->end;
	}
	start = max(start, space->base);
	end = min(end, space->end);
	if (start >= end && !pgtable_l5_enabled())
		return;
	/* Asking for peers without the lock would race with a new link. */
	spin_lock(&rpal_lock);
	if (start < end) {
		for_each_set_bit(slot, space->peers, RPAL_NR_SLOTS) {
			struct rpal_space *peer = rpal_slots[slot];

			/* The owner may just have freed the table itself. */
			rpal_link_sync(peer, space);
			flush(peer, start, end);
		}
	}
	spin_unlock(&rpal_lock);
}

/* In place of flush_tlb_mm_range(), with the same locks held. */
static void flush_all(struct mm_struct *mm, unsigned long start, unsigned long end,
		      unsigned int stride_shift, bool freed_tables)
{
	struct rpal_space *space;

	rpal_k_flush_tlb_mm_range(mm, start, end, stride_shift, freed_tables);
	/* Who looks for all mappings of a page may come when the mm is just ending. */
	rcu_read_lock();
	space = rpal_space_of(mm);
	if (space)
		rpal_link_invalidate(space, start, end);
	rcu_read_unlock();
}

/*
 * flush_tlb_mm_range(mm, start, end, stride_shift, freed_tables): peers are flushed where
 * the owner is, so under the same page-table locks. mremap() and splits of huge pages
 * rely on that, and an unmap that meets another one. What is flushed when peers are
 * comes by the thunk, so not to here.
 */
RPAL_CALLBACK(rpal_on_flush_tlb_mm_range)
{
	struct mm_struct *mm = (struct mm_struct *)regs->di;
	bool ours;

	if (!READ_ONCE(mm->notifier_subscriptions))
		return;
	rcu_read_lock();
	ours = rpal_space_of(mm);
	rcu_read_unlock();
	if (!ours)
		return;
	rpal_hook_fired(hook);
	rpal_divert(regs, flush_all);
}
