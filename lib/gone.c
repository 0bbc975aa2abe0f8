// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Peers whose links have ended: what the management file descriptor tells. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* How many rpal_clean_service_start() collects at a time; others come next. */
#define BATCH 64

/**
 * struct batch - behind the pointer of rpal_clean_service_start()
 * @nr:		how many
 * @next:	to be shown next
 * @gone:	who
 */
struct batch {
	int nr;
	int next;
	struct rpal_gone gone[BATCH];
};

/* The ioctl's reasons are the library's. */
_Static_assert(RPAL_GONE_ENDED == 1 && RPAL_GONE_RELEASED == 2, "reasons");

EXPORT int rpal_read_gone(struct rpal_gone *gone, int max)
{
	struct rpal_notice notice;
	int n = 0;
	ssize_t r;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	if (max < 0 || (max && !gone))
		return rpal_fail(-EINVAL, "a place for who has gone is needed");
	while (n < max) {
		do
			r = read(rpal_state.fd, &notice, sizeof(notice));
		while (r < 0 && errno == EINTR);
		if (r != sizeof(notice))
			break;
		/* So that the next call to it fails without asking the kernel. */
		rpal_link_check(notice.id, notice.key);
		gone[n++] = (struct rpal_gone){
			.key = notice.key,
			.service_id = notice.id,
			.reason = notice.reason,
		};
	}
	return n;
}

EXPORT status_t rpal_clean_service_start(int64_t *ptr)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!ptr || !batch) {
		free(batch);
		return rpal_fail(RPAL_FAILURE, "out of memory, or no place for the pointer");
	}
	batch->nr = rpal_read_gone(batch->gone, BATCH);
	if (batch->nr <= 0) {
		free(batch);
		return rpal_fail(RPAL_FAILURE, "no peer has gone");
	}
	*ptr = (intptr_t)batch;
	return RPAL_SUCCESS;
}

EXPORT int rpal_clean_service_next(int64_t *ptr, struct rpal_gone *gone)
{
	struct batch *batch = ptr ? (struct batch *)(intptr_t)*ptr : NULL;

	if (!batch || !gone)
		return rpal_fail(0,
				 "rpal_clean_service_start() comes first, and a place is needed");
	if (batch->next == batch->nr)
		return 0;
	*gone = batch->gone[batch->next++];
	return 1;
}

/*
 * Also what a request to it has left behind; that there may be none is fine. Who
 * has released the link may be linked anew already: that stays.
 */
EXPORT void rpal_clean_service_end(int64_t *ptr)
{
	struct batch *batch = ptr ? (struct batch *)(intptr_t)*ptr : NULL;
	int i;

	if (!batch)
		return;
	for (i = 0; i < batch->nr; i++)
		if (rpal_link_state(batch->gone[i].key) < 0)
			rpal_release_service(batch->gone[i].key);
	free(batch);
	*ptr = 0;
}
