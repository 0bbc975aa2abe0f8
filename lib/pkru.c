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

EXPORT status_t rpal_copy_prepare(int service_id)
{
	struct rpal_thr *thr;
	struct rpal_link link;
	uint32_t pkru;
	int ret;

	ret = rpal_link_get(service_id, &link);
	if (ret)
		return RPAL_FAILURE;
	ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);
	if (ret)
		return RPAL_FAILURE;
	if (!rpal_state.pkeys) {
		thr->opened |= 1;
		return RPAL_SUCCESS;
	}
	pkru = rpal_pkru_read();
	if (!thr->opened)
		thr->saved_pkru = pkru;
	thr->opened |= 1U << link.pkey;
	rpal_pkru_write(rpal_pkru_with(pkru, link.pkey, 0));
	return RPAL_SUCCESS;
}

EXPORT status_t rpal_copy_finish(void)
{
	struct rpal_thr *thr = rpal_thr_self();
	uint32_t pkru, mask = 0;
	unsigned int key;

	if (!thr || !thr->opened)
		return rpal_fail(RPAL_FAILURE, "rpal_copy_prepare() has opened "
					       "nothing in this thread");
	if (rpal_state.pkeys) {
		for (key = 1; key < 16; key++)
			if (thr->opened & 1U << key)
				mask |= PKRU_BITS(PKRU_NO_ACCESS | PKRU_NO_WRITE, key);
		/* Only these: a procedure may have more open by its caller's grant. */
		pkru = rpal_pkru_read();
		rpal_pkru_write((pkru & ~mask) | (thr->saved_pkru & mask));
	}
	thr->opened = 0;
	return RPAL_SUCCESS;
}
