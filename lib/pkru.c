// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Protection keys: two bits of PKRU for each, no access and no writing. */
#include "internal.h"

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

uint32_t rpal_pkru_open(uint32_t pkru, uint32_t key)
{
	return rpal_pkru_with(pkru, key, 0);
}

uint32_t rpal_pkru_close(uint32_t pkru, unsigned int keys, uint32_t before)
{
	uint32_t mask = 0;
	unsigned int key;

	for (key = 1; key < 16; key++)
		if (keys & 1U << key)
			mask |= PKRU_BITS(PKRU_NO_ACCESS | PKRU_NO_WRITE, key);
	return (pkru & ~mask) | (before & mask);
}
