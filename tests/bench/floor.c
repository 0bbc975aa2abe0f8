// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a round trip cannot do without: to close and open memory, to claim the
 * receiver and to let it go, and to change the thread-local storage, each twice.
 * Where the CPU has no protection keys, WRPKRU is no part of it.
 */
#include <string.h>

#include "bench.h"
#include "timer.h"

#define BATCH	512
#define SAMPLES 2000

/* The base of the other side; nothing looks at what is there. */
static uint64_t other_tls[8] __attribute__((aligned(64)));
static uint64_t word __attribute__((aligned(64)));

/* clang-format off */
#define CLAIM(from, to)				\
	"mov	" from ", %%eax\n"		\
	"lock cmpxchg " to ", (%[word])\n"
#define RIGHTS					\
	"mov	%[pkru], %%eax\n"		\
	"xor	%%ecx, %%ecx\n"			\
	"xor	%%edx, %%edx\n"			\
	"wrpkru\n"

/* %r8, %r9: the two values of the word. Inputs of all of them. */
#define LOOP(body)							\
	static uint64_t loop_##body(void *arg, unsigned int batch)	\
	{								\
		uint64_t begin = timer_begin();				\
									\
		(void)arg;						\
		__asm__ volatile(					\
			"mov	$1, %%r8d\n"				\
			"mov	$2, %%r9d\n"				\
			"rdfsbase %%r10\n"				\
			"movq	$1, (%[word])\n"			\
			"1:\n"						\
			body_##body					\
			"dec	%[n]\n"					\
			"jnz	1b\n"					\
			"wrfsbase %%r10\n"				\
			: [n] "+r"(batch)				\
			: [word] "r"(&word), [other] "r"(other_tls),	\
			  [pkru] "r"(pkru)				\
			: "rax", "rcx", "rdx", "r8", "r9", "r10",	\
			  "cc", "memory");				\
		return timer_end() - begin;				\
	}

#define body_rtt_keys							\
	RIGHTS CLAIM("%%r8d", "%%r9") "wrfsbase %[other]\n"		\
	"wrfsbase %%r10\n" CLAIM("%%r9d", "%%r8") RIGHTS
#define body_rtt							\
	CLAIM("%%r8d", "%%r9") "wrfsbase %[other]\n"			\
	"wrfsbase %%r10\n" CLAIM("%%r9d", "%%r8")
#define body_wrpkru	RIGHTS
#define body_wrfsbase	"wrfsbase %[other]\n"
/* Claimed and let go: two of them. */
#define body_cmpxchg	CLAIM("%%r8d", "%%r9") CLAIM("%%r9d", "%%r8")
#define body_rdtsc	"rdtsc\n"

static uint32_t pkru;

LOOP(rtt_keys)
LOOP(rtt)
LOOP(wrpkru)
LOOP(wrfsbase)
LOOP(cmpxchg)
LOOP(rdtsc)
/* clang-format on */

static uint64_t loop_cmpxchg_alone(void *arg, unsigned int batch)
{
	return loop_cmpxchg(arg, batch / 2);
}

static void measure(const char *name, uint64_t (*once)(void *, unsigned int))
{
	const struct job job = {
		.name = name,
		.kind = KIND_FLOOR,
		.place = ONE_CPU,
		.batch = BATCH,
		.samples = SAMPLES,
		.once = once,
	};

	figures_measure(&job);
}

void floor_measure(void)
{
	bool keys = machine_has_pku();

	machine_pin(ONE_CPU, 0);
	if (keys)
		__asm__("rdpkru" : "=a"(pkru) : "c"(0) : "rdx");
	measure("floor round trip", keys ? loop_rtt_keys : loop_rtt);
	if (keys)
		measure("wrpkru", loop_wrpkru);
	measure("wrfsbase", loop_wrfsbase);
	measure("lock cmpxchg", loop_cmpxchg_alone);
	measure("rdtsc", loop_rdtsc);
}
