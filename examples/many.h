/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the server with many connections and its client agree on. */
#ifndef EXAMPLES_MANY_H
#define EXAMPLES_MANY_H

#define MANY_SOCKET "/tmp/rpal-many.sock"

/* A question, and its answer, are messages of this form. */
enum { CONNECTION, NUMBER, PRODUCT, POLLER, WORDS };

#endif /* EXAMPLES_MANY_H */
