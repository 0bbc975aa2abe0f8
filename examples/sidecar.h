/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the application and its sidecar agree on. */
#ifndef EXAMPLES_SIDECAR_H
#define EXAMPLES_SIDECAR_H

/* Where the sidecar finds the application. */
#define APP_SOCKET "/tmp/rpal-sidecar.sock"

/*
 * Requests that are on their way at a time. A queue has room for 8 buffers: 4
 * requests, and the 4 answers that come back as released. So no queue is ever
 * full, and who sends need not wait for EPOLLRPALOUT.
 */
#define WINDOW 4

#define TEXT_SIZE 2048

#endif /* EXAMPLES_SIDECAR_H */
