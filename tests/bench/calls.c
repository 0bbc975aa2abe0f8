// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Procedures that are called: nothing, an argument, a call in a call, payloads. */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared.h"

enum { CLIENT = 1, SERVER, SECOND };
enum { P_NULL = 1, P_SUM, P_NESTED, P_LOOK, P_COPY, P_LAZY, P_MOVE };

#define BATCH	32
#define SAMPLES 4000

const size_t payload_sizes[] = { 32, 256, 1024, 4096, 16384, 65536, 262144, MAX_PAYLOAD };
const unsigned int nr_payload_sizes = sizeof(payload_sizes) / sizeof(payload_sizes[0]);

unsigned int payload_samples(size_t size)
{
	return size < 4096 ? 400 : size < 65536 ? 200 : size < MAX_PAYLOAD ? 60 : 20;
}

/* ------------------------------------------------------------------ servers */

static int64_t nothing(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return 1;
}

static int64_t sum(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	const int64_t *words = arg;

	(void)caller, (void)ctx;
	return words[0] + words[len / 8 - 1];
}

static int64_t nested(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	int64_t result = 0;

	(void)arg, (void)len, (void)caller, (void)ctx;
	if (me->lib->call(peer_service(SECOND), P_NULL, NULL, 0, &result))
		return -1;
	return result;
}

/* Has its own copy of all, and then goes by that. */
static int64_t copy_it(void *arg, size_t len, const struct rpal_caller *caller, void *own)
{
	memcpy(own, arg, len);
	return sum(own, len, caller, NULL);
}

static int64_t lazy(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	syscall(SYS_getppid);
	return nothing(arg, len, caller, ctx);
}

/* A system call, so it is the server's own task that goes there. */
static int64_t move_to(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	machine_pin(*(const int64_t *)arg, 1);
	return nothing(NULL, len, caller, ctx);
}

static void server(void)
{
	const struct copy *lib = me->lib;

	/* Whoever finds the service finds its procedures. */
	MUST(!lib->export(P_NULL, nothing, NULL));
	MUST(!lib->export(P_SUM, sum, NULL));
	MUST(!lib->export(P_NESTED, nested, NULL));
	MUST(!lib->export(P_LOOK, sum, NULL));
	MUST(!lib->export(P_COPY, copy_it, peer_alloc(MAX_PAYLOAD, 4096)));
	MUST(!lib->export(P_LAZY, lazy, NULL));
	MUST(!lib->export(P_MOVE, move_to, NULL));
	peer_init(false);
	for (;;)
		lib->serve(-1, -1);
}

/* ------------------------------------------------------------------- client */

/**
 * struct call - what is called
 * @procedure:	which one
 * @arg:	for it; NULL: none
 * @len:	for it
 * @number:	of the call, so that answers differ
 */
struct call {
	uint32_t procedure;
	int64_t *arg;
	size_t len;
	int64_t number;
};

static uint64_t plain_calls(void *arg, unsigned int batch)
{
	const struct call *c = arg;
	const struct copy *lib = me->lib;
	int service = peer_service(SERVER);
	unsigned int i, failed = 0;
	int64_t result = 0;
	uint64_t begin = timer_begin();

	for (i = 0; i < batch; i++)
		failed |= lib->call(service, c->procedure, NULL, 0, &result);
	begin = timer_end() - begin;
	MUST(!failed && result == 1);
	return begin;
}

/* The first and the last word are other ones each time. */
static uint64_t calls_with_argument(void *arg, unsigned int batch)
{
	struct call *c = arg;
	const struct copy *lib = me->lib;
	int service = peer_service(SERVER);
	unsigned int i, failed = 0;
	int64_t result = 0;
	uint64_t begin = timer_begin();

	for (i = 0; i < batch; i++) {
		c->arg[0] = c->number++;
		c->arg[c->len / 8 - 1] = c->number;
		failed |= lib->call(service, c->procedure, c->arg, c->len, &result);
	}
	begin = timer_end() - begin;
	MUST(!failed && result == 2 * c->number - 1);
	return begin;
}

static void measure_at(enum pinning place, const char *name, struct call *c, unsigned int batch,
		       unsigned int samples)
{
	const struct job job = {
		.name = name,
		.kind = KIND_RPAL,
		.place = place,
		.size = c->len,
		.batch = batch,
		.samples = samples,
		.once = c->arg ? calls_with_argument : plain_calls,
		.arg = c,
	};

	figures_measure(&job);
}

static void measure(const char *name, struct call *c, unsigned int batch, unsigned int samples)
{
	measure_at(ONE_CPU, name, c, batch, samples);
}

/* The only calls for which it matters where the server's own task is. */
static void lazy_calls(void)
{
	int64_t place, result;

	for (place = 0; place < NR_PLACES; place++) {
		if (place == TWO_CPUS && !machine_has_two_cpus())
			continue;
		machine_pin(place, 0);
		MUST(!me->lib->call(peer_service(SERVER), P_MOVE, &place, sizeof(place), &result));
		measure_at(place, "lazy call", &(struct call){ P_LAZY, NULL, 0, 0 }, 1, SAMPLES);
	}
}

static void payloads(int64_t *buffer)
{
	struct call c = { .arg = buffer };
	unsigned int i;

	for (i = 0; i < nr_payload_sizes; i++) {
		c.len = payload_sizes[i];
		c.procedure = P_LOOK;
		measure("payload by pointer", &c, BATCH, SAMPLES / 10);
		c.procedure = P_COPY;
		measure("payload, one copy", &c, c.len < 4096 ? BATCH : 1, payload_samples(c.len));
	}
}

static void client(void)
{
	int64_t *buffer;

	peer_init(false);
	buffer = peer_alloc(MAX_PAYLOAD, 4096);
	memset(buffer, 1, MAX_PAYLOAD);
	measure("null call", &(struct call){ P_NULL, NULL, 0, 0 }, BATCH, SAMPLES);
	measure("null call, one by one", &(struct call){ P_NULL, NULL, 0, 0 }, 1, SAMPLES * 4);
	measure("call, 32 bytes", &(struct call){ P_SUM, buffer, SMALL, 0 }, BATCH, SAMPLES);
	measure("call in a call", &(struct call){ P_NESTED, NULL, 0, 0 }, BATCH, SAMPLES);
	payloads(buffer);
	if (peers_are_placed())
		lazy_calls();
}

static void timed_client(void)
{
	peer_init(false);
	measure("null call, accounted", &(struct call){ P_NULL, NULL, 0, 0 }, BATCH, SAMPLES);
}

static void plain_session(void)
{
	peers_run(3, (void (*const[])(void)){ client, server, server });
}

static void timed_session(void)
{
	shared->setup.stamps = true;
	peers_run(2, (void (*const[])(void)){ timed_client, server });
	shared->setup.stamps = false;
}

void calls_measure(void)
{
	machine_in_child(plain_session);
	machine_in_child(timed_session);
}
