/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The trampolines: how a thread of one service comes to run, in user mode, the
 * context of a thread of another.
 *
 * Two sets are assembled from one source, for CPUs with and without protection
 * keys; rpal_init() chooses. Neither carries a CET note on purpose: a shadow
 * stack would have to be switched, too, and the module refuses threads that
 * have one.
 */
#include "asm-offsets.h"

	.text

#define PKEYS 1
#define F(name) rpal_pk_##name
#include "trampoline-body.h"
#undef PKEYS
#undef F

#define PKEYS 0
#define F(name) rpal_nopk_##name
#include "trampoline-body.h"

	.section .note.GNU-stack, "", @progbits
