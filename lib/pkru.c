// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Protection keys: two bits of PKRU for each, no access and no writing. */
#include "internal.h"

#define NO_ACCESS	1U
#define NO_WRITE	2U
#define BITS(bits, key) ((uint32_t)(bits) << 2 * (key))
/* Everything closed but key 0, as at the start of each thread. */
#define ALL_CLOSED 0x55555554U

uint32_t rpal_pkru_read(void)
{
	uint32_t eax, edx;

	__asm__ volatile("rdpkru" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

void rpal_pkru_write(uint32_t pkru)
{
	/* What was stored while a key was open stays before its closing. */
	__asm__ volatile("wrpkru" : : "a"(pkru), "c"(0), "d"(0) : "memory");
}

static uint32_t with(uint32_t pkru, uint32_t key, uint32_t bits)
{
	return (pkru & ~BITS(NO_ACCESS | NO_WRITE, key)) | BITS(bits, key);
}

uint32_t rpal_pkru_for(uint32_t own, uint32_t callee, unsigned int flags)
{
	uint32_t pkru = with(ALL_CLOSED, callee, 0);

	if (flags & RPAL_CALL_GRANT_WRITE)
		return with(pkru, own, 0);
	if (flags & RPAL_CALL_GRANT_NONE)
		return pkru;
	return with(pkru, own, NO_WRITE);
}

uint32_t rpal_pkru_open(uint32_t pkru, uint32_t key)
{
	return with(pkru, key, 0);
}

uint32_t rpal_pkru_close(uint32_t pkru, unsigned int keys, uint32_t before)
{
	uint32_t mask = 0;
	unsigned int key;

	for (key = 1; key < 16; key++)
		if (keys & 1U << key)
			mask |= BITS(NO_ACCESS | NO_WRITE, key);
	return (pkru & ~mask) | (before & mask);
}
