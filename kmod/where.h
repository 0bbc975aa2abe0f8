/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a mapping of a placed process goes: the decision alone. layout.c applies it,
 * and a test on the host asks it everything.
 */
#ifndef RPAL_WHERE_H
#define RPAL_WHERE_H

#include <linux/types.h>
#include <linux/rpal.h>

#define RPAL_GIB		0x40000000UL

/* In the slot, from its begin. */
#define RPAL_PROGRAM_START	(20 * RPAL_GIB)
#define RPAL_PROGRAM_SPAN	(128 * RPAL_GIB)

/* Mappings below the first slot can never be shared: they stay private. */
#define RPAL_LOW_END		RPAL_SLOT_SIZE

enum rpal_where {
	RPAL_KEEP,		/* where it was asked for, in the slot */
	RPAL_LOW,		/* where it was asked for, below the first slot */
	RPAL_SEARCH,		/* anywhere in the slot: the address was a hint */
	RPAL_SEARCH_LOW,	/* anywhere below 2 GiB: the same */
	RPAL_MOVE,		/* at rpal_program_place() */
	RPAL_REFUSE,
};

/**
 * struct rpal_mapping - a mapping that is asked for
 * @base:	first address of the slot
 * @addr:	where
 * @len:	length in bytes
 * @fixed:	there or nowhere (MAP_FIXED)
 * @low:	below 2 GiB (MAP_32BIT), which is not heeded if @fixed
 * @compat:	asked for by a 32-bit system call
 * @exec:	exec is loading the program
 * @program:	it is the first mapping that exec makes of the program's file: exec
 *		corrects all addresses of the program by what comes of this one
 */
struct rpal_mapping {
	unsigned long base;
	unsigned long addr;
	unsigned long len;
	bool fixed;
	bool low;
	bool compat;
	bool exec;
	bool program;
};

static inline bool rpal_range_in_slot(unsigned long base, unsigned long addr,
				      unsigned long len)
{
	return addr >= base && addr - base < RPAL_SLOT_SIZE &&
	       len <= RPAL_SLOT_SIZE - (addr - base);
}

/**
 * rpal_program_place() - where a program goes that wants to be at an address
 * @base:	first address of the slot
 * @addr:	the address, which keeps its randomness
 */
static inline unsigned long rpal_program_place(unsigned long base,
					       unsigned long addr)
{
	return base + RPAL_PROGRAM_START + addr % RPAL_PROGRAM_SPAN;
}

/**
 * rpal_where() - decide where a mapping goes
 * @m:		the mapping
 *
 * The kernel also asks for an address only to see whether it may be used, and then
 * maps where it wanted to, whatever the answer: brk(), mremap() and exec's loader, for
 * segments without bytes in the file, do so. So a fixed address is kept or refused.
 * The one exception is a program's first mapping, of which the answer is used.
 */
static inline enum rpal_where rpal_where(const struct rpal_mapping *m)
{
	if (m->len > RPAL_SLOT_SIZE || m->compat)
		return RPAL_REFUSE;
	/* Some searches, of huge pages for one, take a free hint as it is. */
	if (m->low && !m->fixed)
		return RPAL_SEARCH_LOW;
	/* Exec's own choice may be in the slot by chance, where the mappings go. */
	if (m->program && m->fixed)
		return rpal_range_in_slot(m->base,
					  rpal_program_place(m->base, m->addr),
					  m->len) ? RPAL_MOVE : RPAL_REFUSE;
	if (rpal_range_in_slot(m->base, m->addr, m->len))
		return RPAL_KEEP;
	if (!m->fixed)
		return RPAL_SEARCH;
	/* While exec runs, a low fixed address is of a program to be placed. */
	if (m->addr <= RPAL_LOW_END - m->len && !(m->exec && m->addr))
		return RPAL_LOW;
	return RPAL_REFUSE;
}

/**
 * rpal_may_grow() - decide whether a mapping that grows down may do so
 * @base:	first address of the slot
 * @end:	its end, which stays
 * @addr:	an address in its first page as it would be then
 *
 * The whole of it must be where a mapping may be. Where it is now says nothing: exec
 * moves the stack that it begins with into the slot, with all that it has grown to.
 */
static inline bool rpal_may_grow(unsigned long base, unsigned long end,
				 unsigned long addr)
{
	return end <= RPAL_LOW_END ||
	       (addr < end && rpal_range_in_slot(base, addr, end - addr));
}

#endif /* RPAL_WHERE_H */
