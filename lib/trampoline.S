/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The trampolines: how a thread of one service comes to run, in user mode, the
 * context of a thread of another.
 *
 * Four sets are assembled from one source, for CPUs with and without protection
 * keys, and for kernels that need calls to be timed and those that do not;
 * rpal_init() chooses. None carries a CET note on purpose: a shadow
 * stack would have to be switched, too, and the module refuses threads that
 * have one.
 */
#include "asm-offsets.h"

	.text

#define PKEYS 1
#define TIMED 0
#define F(name) rpal_pk_##name
#include "trampoline-body.h"
#undef PKEYS
#undef F

#define PKEYS 0
#define F(name) rpal_nopk_##name
#include "trampoline-body.h"
#undef TIMED
#undef F

#define TIMED 1
#define F(name) rpal_nopk_timed_##name
#include "trampoline-body.h"
#undef PKEYS
#undef F

#define PKEYS 1
#define F(name) rpal_pk_timed_##name
#include "trampoline-body.h"

	.section .note.GNU-stack, "", @progbits
