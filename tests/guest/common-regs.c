// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Loading and comparing all registers, see common-regs.h.
 *
 * The extended state travels as an xsave image, so that whatever the CPU has is
 * looked at: ymm under TCG, also zmm and the mask registers on real ones.
 */
#include "common-regs.h"

#include <cpuid.h>

/* x87, SSE, AVX and the three of AVX-512; not PKRU, which is no program's. */
#define COMPONENTS 0xe7

enum { X_FCW = 0, X_FSW = 2, X_FTW = 4, X_MXCSR = 24, X_ST = 32, X_XMM = 160, X_HEADER = 512 };
#define X_END 576

_Static_assert(offsetof(struct regs, out) == 128 && offsetof(struct regs, sp_in) == 256 &&
		       offsetof(struct regs, action) == 272 && offsetof(struct regs, mask) == 280 &&
		       offsetof(struct regs, xin) == 288 && offsetof(struct regs, xout) == 296,
	       "as written in regs_probe");

/* clang-format off */
asm(
"	.text\n"
"	.globl	regs_probe\n"
"	.type	regs_probe, @function\n"
"regs_probe:\n"
"	push	%rbx\n	push	%rbp\n	push	%r12\n"
"	push	%r13\n	push	%r14\n	push	%r15\n"
"	sub	$8, %rsp\n	stmxcsr	(%rsp)\n	fnstcw	4(%rsp)\n"
"	push	%rdi\n"
"	mov	280(%rdi), %eax\n	xor	%edx, %edx\n"
"	mov	288(%rdi), %rcx\n	xrstor64 (%rcx)\n"
"	push	272(%rdi)\n"
"	mov	%rsp, 256(%rdi)\n"
"	mov	(%rdi), %rax\n	mov	8(%rdi), %rbx\n	mov	16(%rdi), %rcx\n"
"	mov	24(%rdi), %rdx\n	mov	32(%rdi), %rsi\n	mov	48(%rdi), %rbp\n"
"	mov	56(%rdi), %r8\n	mov	64(%rdi), %r9\n	mov	72(%rdi), %r10\n"
"	mov	80(%rdi), %r11\n	mov	88(%rdi), %r12\n	mov	96(%rdi), %r13\n"
"	mov	104(%rdi), %r14\n	mov	112(%rdi), %r15\n"
"	push	120(%rdi)\n"
"	mov	40(%rdi), %rdi\n"
"	popfq\n"
"	call	*(%rsp)\n"
"	pushfq\n"
"	push	%rdi\n"
"	mov	24(%rsp), %rdi\n"
"	mov	%rax, 128(%rdi)\n	mov	%rbx, 136(%rdi)\n	mov	%rcx, 144(%rdi)\n"
"	mov	%rdx, 152(%rdi)\n	mov	%rsi, 160(%rdi)\n	mov	%rbp, 176(%rdi)\n"
"	mov	%r8, 184(%rdi)\n	mov	%r9, 192(%rdi)\n	mov	%r10, 200(%rdi)\n"
"	mov	%r11, 208(%rdi)\n	mov	%r12, 216(%rdi)\n	mov	%r13, 224(%rdi)\n"
"	mov	%r14, 232(%rdi)\n	mov	%r15, 240(%rdi)\n"
"	pop	168(%rdi)\n"
"	pop	248(%rdi)\n"
"	mov	%rsp, 264(%rdi)\n"
"	cld\n"
"	mov	280(%rdi), %eax\n	xor	%edx, %edx\n"
"	mov	296(%rdi), %rcx\n	xsave64	(%rcx)\n"
"	add	$16, %rsp\n"
"	fninit\n	fldcw	4(%rsp)\n	ldmxcsr	(%rsp)\n"
"	add	$8, %rsp\n"
"	pop	%r15\n	pop	%r14\n	pop	%r13\n"
"	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
"	ret\n"
"	.size	regs_probe, . - regs_probe\n"

"	.globl	regs_nothing\nregs_nothing:\n	ret\n"
"	.globl	regs_syscall\nregs_syscall:\n	syscall\n	ret\n"
"	.globl	regs_spin\nregs_spin:\n1:	loop	1b\n	ret\n"
"	.globl	regs_store\nregs_store:\n	mov	%rax, (%rdx)\n	ret\n"
"	.globl	regs_ud2\nregs_ud2:\n	ud2\n	ret\n"
"	.globl	regs_int3\nregs_int3:\n	int3\n	ret\n"

"	.globl	regs_call\n"
"	.type	regs_call, @function\n"
"regs_call:\n"
"	push	%rbx\n	push	%rbp\n	push	%r12\n"
"	push	%r13\n	push	%r14\n	push	%r15\n"
"	push	%rdi\n"
"	mov	%rsp, 160(%rdi)\n"
"	mov	64(%rdi), %rbx\n	mov	72(%rdi), %rbp\n	mov	80(%rdi), %r12\n"
"	mov	88(%rdi), %r13\n	mov	96(%rdi), %r14\n	mov	104(%rdi), %r15\n"
"	mov	%rdi, %rax\n"
"	mov	8(%rax), %rdi\n	mov	16(%rax), %rsi\n	mov	24(%rax), %rdx\n"
"	mov	32(%rax), %rcx\n	mov	40(%rax), %r8\n	mov	48(%rax), %r9\n"
"	call	*(%rax)\n"
"	mov	(%rsp), %rdi\n"
"	mov	%rax, 56(%rdi)\n"
"	mov	%rbx, 112(%rdi)\n	mov	%rbp, 120(%rdi)\n	mov	%r12, 128(%rdi)\n"
"	mov	%r13, 136(%rdi)\n	mov	%r14, 144(%rdi)\n	mov	%r15, 152(%rdi)\n"
"	mov	%rsp, 168(%rdi)\n"
"	pushfq\n	pop	176(%rdi)\n"
"	cld\n"
"	pop	%rdi\n"
"	pop	%r15\n	pop	%r14\n	pop	%r13\n"
"	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
"	ret\n"
"	.size	regs_call, . - regs_call\n"
);
/* clang-format on */

_Static_assert(offsetof(struct regs_call, in) == 64 && offsetof(struct regs_call, out) == 112 &&
		       offsetof(struct regs_call, sp_in) == 160 &&
		       offsetof(struct regs_call, flags) == 176,
	       "as written in regs_call");

/* ---------------------------------------------------------- extended state */

static u64 components(void)
{
	u32 a, d;

	asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a & COMPONENTS;
}

static u32 image_size(void)
{
	u32 a, b, c, d;

	__cpuid_count(0xd, 0, a, b, c, d);
	return b;
}

static void component(int i, u32 *offset, u32 *size)
{
	u32 c, d;

	__cpuid_count(0xd, i, *size, *offset, c, d);
}

struct regs *regs_new(void)
{
	struct regs *r = calloc(1, sizeof(*r));
	size_t size = (image_size() + 127) & ~63UL;

	MUST(r);
	r->xin = aligned_alloc(64, size);
	r->xout = aligned_alloc(64, size);
	MUST(r->xin && r->xout);
	memset(r->xin, 0, size);
	memset(r->xout, 0, size);
	r->mask = components();
	return r;
}

static void fill(unsigned char *p, size_t size, u32 *seed)
{
	u32 v;

	for (; size >= 4; p += 4, size -= 4) {
		v = regs_next(seed);
		memcpy(p, &v, 4);
	}
}

static void put16(unsigned char *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* All exceptions masked, the rest at random. */
static void random_image(struct regs *r, u32 *seed)
{
	u32 mxcsr, offset, size, v = regs_next(seed);
	int i;

	put16(r->xin + X_FCW, 0x7f | (v & 3) << 10 | ((v >> 2 & 1) + 2) << 8);
	/* The top of the stack, condition codes and flags of what was masked. */
	put16(r->xin + X_FSW, (v >> 4 & 0x7f00) | (v >> 24 & 0x3f));
	r->xin[X_FTW] = v >> 16;
	mxcsr = 0x1f80 | (regs_next(seed) & 0xe03f);
	memcpy(r->xin + X_MXCSR, &mxcsr, sizeof(mxcsr));
	for (i = 0; i < 8; i++)
		fill(r->xin + X_ST + 16 * i, 8, seed);
	for (i = 0; i < 8; i++)
		put16(r->xin + X_ST + 16 * i + 8, regs_next(seed));
	fill(r->xin + X_XMM, 256, seed);
	for (i = 2; i < 8; i++) {
		if (!(r->mask & 1UL << i))
			continue;
		component(i, &offset, &size);
		fill(r->xin + offset, size, seed);
	}
	memset(r->xin + X_HEADER, 0, 64);
	memcpy(r->xin + X_HEADER, &r->mask, sizeof(r->mask));
}

void regs_random(struct regs *r, u32 *seed)
{
	int i;

	for (i = 0; i < NR_REGS; i++)
		r->in[i] = (u64)regs_next(seed) << 32 | regs_next(seed);
	r->in[R_FLAGS] = (r->in[R_FLAGS] & REGS_FLAGS) | 0x202;
	r->action = regs_nothing;
	random_image(r, seed);
	/* Nothing of what is found shall be left from the last time. */
	memset(r->out, 0x5a, sizeof(r->out));
	memset(r->xout, 0x5a, X_HEADER);
	memset(r->xout + X_HEADER, 0, 64);
}

/* ----------------------------------------------------------------- compare */

static bool differ(const struct regs *r, u32 at, u32 size, const char *what, int i, char *text,
		   size_t n)
{
	u32 k;

	if (!memcmp(r->xin + at, r->xout + at, size))
		return false;
	k = snprintf(text, n, "%s%d is ", what, i);
	for (i = size - 1; i >= 0 && k < n; i--)
		k += snprintf(text + k, n - k, "%02x", r->xout[at + i]);
	if (k < n)
		k += snprintf(text + k, n - k, ", was ");
	for (i = size - 1; i >= 0 && k < n; i--)
		k += snprintf(text + k, n - k, "%02x", r->xin[at + i]);
	return true;
}

static bool same_image(const struct regs *r, char *text, size_t n)
{
	u32 offset, size;
	int i;

	if (differ(r, X_FCW, 2, "fcw", 0, text, n) || differ(r, X_FSW, 2, "fsw", 0, text, n) ||
	    differ(r, X_FTW, 1, "ftw", 0, text, n) || differ(r, X_MXCSR, 4, "mxcsr", 0, text, n))
		return false;
	for (i = 0; i < 8; i++)
		if (differ(r, X_ST + 16 * i, 10, "st", i, text, n))
			return false;
	for (i = 0; i < 16; i++)
		if (differ(r, X_XMM + 16 * i, 16, "xmm", i, text, n))
			return false;
	for (i = 2; i < 8; i++) {
		if (!(r->mask & 1UL << i))
			continue;
		component(i, &offset, &size);
		if (differ(r, offset, size, "component", i, text, n))
			return false;
	}
	return true;
}

static const char *const names[NR_REGS] = {
	"ax", "bx",  "cx",  "dx",  "si",  "di",	 "bp",	"r8",
	"r9", "r10", "r11", "r12", "r13", "r14", "r15", "flags",
};

bool regs_same(const struct regs *r, u32 skip, char *text, size_t size)
{
	u64 out;
	int i;

	for (i = 0; i < NR_REGS; i++) {
		out = i == R_FLAGS ? (r->out[i] & REGS_FLAGS) | 0x202 : r->out[i];
		if (skip & REGS_BIT(i) || out == r->in[i])
			continue;
		snprintf(text, size, "%s is %lx, was %lx", names[i], (long)r->out[i],
			 (long)r->in[i]);
		return false;
	}
	if (r->sp_in != r->sp_out) {
		snprintf(text, size, "sp is %lx, was %lx", (long)r->sp_out, (long)r->sp_in);
		return false;
	}
	return same_image(r, text, size);
}

bool regs_call_same(const struct regs_call *c, char *text, size_t size)
{
	static const int which[6] = { R_BX, R_BP, R_12, R_13, R_14, R_15 };
	struct {
		uint16_t w[14];
	} env;
	int i;

	for (i = 0; i < 6; i++) {
		if (c->in[i] == c->out[i])
			continue;
		snprintf(text, size, "%s is %lx, was %lx", names[which[i]], (long)c->out[i],
			 (long)c->in[i]);
		return false;
	}
	if (c->sp_in != c->sp_out || c->flags & 0x400) {
		snprintf(text, size, "sp is %lx, was %lx, flags %lx", (long)c->sp_out,
			 (long)c->sp_in, (long)c->flags);
		return false;
	}
	asm volatile("fnstenv %0; fldenv %0" : "+m"(env));
	if (env.w[4] != 0xffff) {
		snprintf(text, size, "x87 tags are %x", env.w[4]);
		return false;
	}
	return true;
}
