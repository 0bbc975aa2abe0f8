// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Buffers handed to a peer and given back: messages of four words. The peer
 * reads them where they are.
 */
#include <string.h>

#include "internal.h"

enum { KIND, ADDR, LEN, COOKIE, NR };

#define KIND_LENT     0x746e656c6c617072LL
#define KIND_RELEASED 0x656572666c617072LL

EXPORT int rpal_send_buffer(int service_id, uint64_t rpalfd, const void *addr, size_t len,
			    uint64_t cookie)
{
	int64_t words[NR] = { KIND_LENT, (intptr_t)addr, len, cookie };
	int ret = rpal_write_ptrs(service_id, rpalfd, words, NR);

	return ret < 0 ? ret : 0;
}

EXPORT int rpal_release_buffer(int service_id, uint64_t rpalfd, const struct rpal_buffer *buffer)
{
	int64_t words[NR] = { KIND_RELEASED };
	int ret;

	if (!buffer)
		return rpal_fail(-RPAL_INVALID_ARG, "a buffer is needed");
	words[ADDR] = (intptr_t)buffer->addr;
	words[LEN] = buffer->len;
	words[COOKIE] = buffer->cookie;
	ret = rpal_write_ptrs(service_id, rpalfd, words, NR);
	return ret < 0 ? ret : 0;
}

EXPORT int rpal_recv_buffer(int fd, struct rpal_buffer *buffer)
{
	int64_t words[NR];
	int n;

	if (!buffer)
		return rpal_fail(-1, "a place for the buffer is needed");
	n = rpal_read_ptrs(fd, words, NR);
	if (n <= 0)
		return n;
	if (n != NR || (words[KIND] != KIND_LENT && words[KIND] != KIND_RELEASED))
		return rpal_failf(-1,
				  "the queue of descriptor %d carries something else than buffers",
				  fd);
	buffer->addr = (void *)(intptr_t)words[ADDR];
	buffer->len = words[LEN];
	buffer->cookie = words[COOKIE];
	buffer->released = words[KIND] == KIND_RELEASED;
	return 1;
}

struct copy {
	void *to;
	const void *from;
	size_t len;
};

static int64_t do_copy(void *arg)
{
	struct copy *c = arg;

	memcpy(c->to, c->from, c->len);
	return 0;
}

EXPORT int64_t rpal_copy_buffer(int service_id, void *to, const struct rpal_buffer *buffer,
				size_t offset, size_t len)
{
	uint64_t first = (uint64_t)service_id << RPAL_SLOT_SHIFT;
	struct rpal_link link;
	struct rpal_thr *thr;
	uint64_t from;
	struct copy c;
	int64_t ret;

	if (!buffer || (!to && len))
		return rpal_fail(-EINVAL, "a buffer is needed, and a place for what is in it");
	from = (uintptr_t)buffer->addr + offset;
	ret = rpal_link_get(service_id, &link);
	if (!ret)
		ret = rpal_thr_get(RPAL_THREAD_SENDER, &thr);
	if (ret)
		return ret;
	if (offset >= buffer->len)
		return 0;
	if (len > buffer->len - offset)
		len = buffer->len - offset;
	/* What the peer says is not to make us copy our own memory. */
	if (from < first || from - first >= RPAL_SLOT_SIZE || len > RPAL_SLOT_SIZE - (from - first))
		return rpal_failf(-EINVAL, "the buffer does not lie in the memory of service %d",
				  service_id);
	c = (struct copy){ to, (const void *)(uintptr_t)from, len };
	ret = rpal_guard(thr, &link, do_copy, &c);
	if (ret)
		return rpal_failf(ret, "service %d has ended or unmapped the buffer", service_id);
	return len;
}
