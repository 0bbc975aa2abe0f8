/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the two programs of the demonstration agree on. */
#ifndef _EXAMPLES_DEMO_H
#define _EXAMPLES_DEMO_H

#include <stdint.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define DEMO_SOCKET    "@rpal-demo"
#define DEMO_PROCEDURE 1
#define DEMO_LEN       32

/* The stamps and what is checked fill the 32 bytes that go each way. */
struct demo_message {
	uint64_t sent;	   /* time stamp counter of the client */
	uint64_t received; /* the same at the server's; in the reply */
	uint64_t number;
	uint64_t check;
};

_Static_assert(sizeof(struct demo_message) == DEMO_LEN, "length of a message");

/* For a call: both messages lie in the client's memory. */
struct demo_call {
	struct demo_message request;
	struct demo_message reply;
};

static inline uint64_t demo_check(uint64_t number, uint64_t salt)
{
	return (number + salt) * 0x9e3779b97f4a7c15ULL;
}

enum { DEMO_REQUEST = 1, DEMO_REPLY = 2 };

/* What the server does with a message, however it came. */
static inline void demo_answer(const struct demo_message *request, struct demo_message *reply,
			       uint64_t received)
{
	int ok = request->check == demo_check(request->number, DEMO_REQUEST);

	reply->sent = request->sent;
	reply->received = received;
	reply->number = request->number;
	reply->check = ok ? demo_check(request->number, DEMO_REPLY) : 0;
}

#endif /* _EXAMPLES_DEMO_H */
