/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * An event loop of io_uring that is called by RPAL messages, too. Needs liburing;
 * the library itself does not.
 */
#ifndef _RPAL_IO_URING_H
#define _RPAL_IO_URING_H

#include <errno.h>
#include <liburing.h>

#include <rpal/rpal.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * rpal_io_uring_wait_cqe - io_uring_wait_cqe(), for messages as well
 * @ring:	the ring; what was prepared is submitted first
 * @epfd:	epoll instance whose RPAL events are wanted
 * @cqe:	where to store a completion; NULL is stored if there is none
 * @timeout_ms:	milliseconds, -1: no limit
 *
 * For a receiver thread. Completions come first.
 *
 * Return: 0: @cqe is one; 1: rpal_epoll_wait_user(@epfd) has events; -ETIME;
 * -EINVAL: the ring was made with IORING_SETUP_DEFER_TASKRUN, whose completions
 * only come to who waits in io_uring_enter(); or a negative errno as of
 * rpal_wait() and io_uring_submit().
 */
static inline int rpal_io_uring_wait_cqe(struct io_uring *ring, int epfd, struct io_uring_cqe **cqe,
					 int timeout_ms)
{
	int ret;

	*cqe = NULL;
	if (ring->flags & IORING_SETUP_DEFER_TASKRUN)
		return -EINVAL;
	if (io_uring_sq_ready(ring)) {
		ret = io_uring_submit(ring);
		if (ret < 0)
			return ret;
	}
	for (;;) {
		if (!io_uring_peek_cqe(ring, cqe))
			return 0;
		ret = rpal_wait(epfd, ring->ring_fd, timeout_ms);
		/* The ring's own work interrupts, too, and often there is something then. */
		if (ret < 0)
			return io_uring_peek_cqe(ring, cqe) ? ret : 0;
		if (!ret)
			return -ETIME;
		if (!io_uring_peek_cqe(ring, cqe))
			return 0;
		if (ret & RPAL_WAIT_MESSAGES)
			return 1;
	}
}

#ifdef __cplusplus
}
#endif

#endif /* _RPAL_IO_URING_H */
