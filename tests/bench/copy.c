// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The one symbol that is seen of a copy of the library. */
#include "peer.h"

const struct copy copy = {
	.init = rpal_init,
	.request = rpal_request_service,
	.thread_init = rpal_thread_init,
	.export = rpal_export,
	.serve = rpal_serve,
	.call = rpal_call,
	.epoll_ctl = rpal_epoll_ctl,
	.epoll_wait = rpal_epoll_wait,
	.fdmap = rpal_uds_fdmap_timeout,
	.write_ptrs = rpal_write_ptrs,
	.write_ptrs_ex = rpal_write_ptrs_ex,
	.read_ptrs = rpal_read_ptrs,
	.last_error = rpal_last_error,
};
