// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The trampolines on this machine's own CPU, without the module and without
 * protection keys: threads of one process call each other, and a stand-in for
 * the kernel puts a receiver to sleep.
 */
#include <check.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <x86intrin.h>
#include <unistd.h>

#include "../../lib/internal.h"

#define NR	 8
#define SERVICE	 7
#define FD_EINTR 1000 /* the wait ends at once, with -EINTR */
#define FD_CALL	 1001 /* thread 0 is called at once, as by somebody else's task */

static struct rpal_block blocks[NR] __attribute__((aligned(RPAL_BLOCK_SIZE)));
static const struct tramp *tr;
static bool inside;  /* calls are run by the trampoline that waits */
static int returned; /* receivers whose wait came back */

/* For the assembly below. */
struct rpal_block *test_block_of[NR];
volatile uint32_t test_woken;
volatile uint32_t test_ioctl_flags;

/* clang-format off */
/*
 * Instead of lib/ioctl.S. The file descriptor is the thread's number. WAIT:
 * the block can be called, and this task sleeps for good. It must not use the
 * stack once the block can be called: others use it then.
 */
__asm__(
"	.text\n"
"	.globl	rpal_tr_ioctl\n"
"rpal_tr_ioctl:\n"
"	cmp	$0x4018bf22, %esi\n"	/* RPAL_IOC_WAIT */
"	jne	2f\n"
"	mov	4(%rdx), %eax\n"
"	mov	%eax, test_ioctl_flags(%rip)\n"
"	cmp	$1000, %edi\n"
"	je	3f\n"
"	cmp	$1001, %edi\n"
"	je	4f\n"
"	lea	test_block_of(%rip), %rax\n"
"	movslq	%edi, %rdi\n"
"	mov	(%rax, %rdi, 8), %rax\n"
"	movq	$1, (%rax)\n"
"1:	mov	$34, %eax\n"		/* pause */
"	syscall\n"
"	jmp	1b\n"
"2:	mov	8(%rdx), %eax\n"	/* struct rpal_wake.tid */
"	mov	%eax, test_woken(%rip)\n"
"	xor	%eax, %eax\n"
"	ret\n"
"3:	mov	$-4, %rax\n"
"	ret\n"
"4:	mov	test_block_of(%rip), %rax\n"
"	mov	72(%rax), %rsp\n"
"	mov	80(%rax), %rbx\n"
"	mov	$71, %edi\n"
"	mov	$72, %esi\n"
"	mov	$73, %edx\n"
"	mov	$74, %r8d\n"
"	mov	$75, %r9d\n"
"	jmp	*64(%rax)\n"
/*
 * void checked(struct checked *c): call c->fn with known values in the
 * callee-saved registers, and count those that are different afterwards.
 */
"	.globl	checked\n"
"checked:\n"
"	push	%rbx\n	push	%rbp\n	push	%r12\n"
"	push	%r13\n	push	%r14\n	push	%r15\n"
"	push	%rdi\n"
"	lea	1(%rdi), %rbx\n"
"	lea	2(%rdi), %rbp\n"
"	lea	3(%rdi), %r12\n"
"	lea	4(%rdi), %r13\n"
"	lea	5(%rdi), %r14\n"
"	lea	6(%rdi), %r15\n"
"	mov	%rdi, %rax\n"
"	mov	8(%rax), %rdi\n"
"	mov	16(%rax), %rsi\n"
"	mov	24(%rax), %rdx\n"
"	mov	32(%rax), %rcx\n"
"	mov	40(%rax), %r8\n"
"	mov	48(%rax), %r9\n"
"	push	%rdi\n"
"	push	56(%rax)\n"
"	call	*(%rax)\n"
"	add	$16, %rsp\n"
"	pop	%rdi\n"
"	mov	%rax, 64(%rdi)\n"
"	mov	%rdx, 72(%rdi)\n"
"	sub	%rdi, %rbx\n	cmp	$1, %rbx\n	jne	1f\n"
"	sub	%rdi, %rbp\n	cmp	$2, %rbp\n	jne	1f\n"
"	sub	%rdi, %r12\n	cmp	$3, %r12\n	jne	1f\n"
"	sub	%rdi, %r13\n	cmp	$4, %r13\n	jne	1f\n"
"	sub	%rdi, %r14\n	cmp	$5, %r14\n	jne	1f\n"
"	sub	%rdi, %r15\n	cmp	$6, %r15\n	je	2f\n"
"1:	incq	80(%rdi)\n"
"2:	pop	%r15\n	pop	%r14\n	pop	%r13\n"
"	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
"	ret\n"
/*
 * void go_lazy(struct rpal_block *caller, uint64_t ip, int64_t status,
 * int64_t result): what the kernel does when it ends a call for the caller.
 */
"	.globl	go_lazy\n"
"go_lazy:\n"
"	mov	128(%rdi), %rax\n"
"	wrfsbase %rax\n"
"	ldmxcsr	140(%rdi)\n"
"	fldcw	144(%rdi)\n"
"	mov	%rdx, %rax\n"
"	mov	%rcx, %rdx\n"
"	mov	72(%rdi), %rsp\n"
"	mov	80(%rdi), %rbx\n"
"	mov	88(%rdi), %rbp\n"
"	mov	96(%rdi), %r12\n"
"	mov	104(%rdi), %r13\n"
"	mov	112(%rdi), %r14\n"
"	mov	120(%rdi), %r15\n"
"	movl	$0, 32(%rdi)\n"
"	jmp	*%rsi\n"
);
/* clang-format on */

struct checked {
	void *fn;
	uint64_t a[7];
	int64_t rax;
	int64_t rdx;
	uint64_t bad;
};

void checked(struct checked *c);
void go_lazy(struct rpal_block *caller, uint64_t ip, int64_t status, int64_t result);

/* --- receivers */

enum { ECHO = 1, NEST, PEND, LAZY, TRACE, MODE };

static __thread int number = -1;
static volatile uint64_t receiver_bad;
static volatile uint64_t seen_arg, seen_len, seen_caller;
static void *frames[32];
static int nr_frames;
static volatile int mode[NR]; /* what set_control() was last given by a receiver */

static void set_control(int n)
{
	uint32_t mxcsr = 0x1f80 | (n & 3) << 13;
	uint16_t fcw = 0x37f | (n & 3) << 10;

	__asm__ volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(fcw));
}

static bool control_is(int n)
{
	uint32_t mxcsr;
	uint16_t fcw;

	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	return mxcsr == (0x1f80U | (n & 3) << 13) && fcw == (0x37f | (n & 3) << 10);
}

static struct tramp_ret do_call(int from, int to, uint32_t proc, uint64_t arg)
{
	struct checked k = {
		.fn = tr->call,
		.a = { (uintptr_t)&blocks[from], arg, arg + 1, TRAMP_WHAT(proc, 3, 5),
		       (uintptr_t)&blocks[to], 0, RPAL_TID(SERVICE, to) },
	};

	checked(&k);
	ck_assert_uint_eq(k.bad, 0);
	return (struct tramp_ret){ k.rax, k.rdx };
}

static __attribute__((noinline)) int64_t run(int n, const struct tramp_in *in)
{
	struct tramp_ret r;

	if (number != n || !control_is(mode[n]) || TRAMP_FLAGS(in->what) != 3 ||
	    TRAMP_DEPTH(in->what) != 5)
		receiver_bad++;
	switch (TRAMP_PROC(in->what)) {
	case ECHO:
		seen_arg = in->arg;
		seen_len = in->len;
		seen_caller = in->caller;
		return in->arg * 3;
	case NEST:
		r = do_call(n, n + 1, ECHO, in->arg + 1);
		if (number != n || !control_is(mode[n]) || r.status != -ECHO)
			receiver_bad++;
		return r.result + 1;
	case PEND:
		__atomic_fetch_or(&blocks[n].word, RPAL_ST_PENDING, __ATOMIC_SEQ_CST);
		return 1;
	case LAZY:
		blocks[n].word = RPAL_ST_LAZY;
		go_lazy((struct rpal_block *)(uintptr_t)blocks[n].caller, tr->ranges.lazy_ip, -77,
			in->arg);
		break;
	case TRACE:
		nr_frames = backtrace(frames, 32);
		return nr_frames;
	case MODE:
		mode[n] = in->arg;
		set_control(in->arg);
		break;
	}
	return 0;
}

static struct tramp_ret run_inside(uint64_t arg, uint64_t len, uint64_t what, uint64_t caller,
				   struct tramp_in *in)
{
	in->arg = arg;
	in->len = len;
	in->what = what;
	in->caller = caller;
	return (struct tramp_ret){
		.result = run(number, in),
		.status = -(int64_t)TRAMP_PROC(what),
	};
}

/* Not inlined, so that its frame can be found by the test of backtraces. */
static __attribute__((noinline)) void serve(int n)
{
	struct tramp_in in = { .dev = n, .run = run_inside, .block = &blocks[n] };
	struct checked k = { .fn = tr->wait };
	int64_t result;

	if (inside) {
		tr->serve(&blocks[n], &in);
		__atomic_fetch_add(&returned, 1, __ATOMIC_SEQ_CST);
		return;
	}
	k.a[0] = (uintptr_t)&blocks[n];
	k.a[1] = (uintptr_t)&in;
	checked(&k);
	while (!k.rax) {
		result = run(n, &in);
		if (k.bad)
			receiver_bad++;
		k.fn = tr->reply;
		k.a[2] = -(int64_t)TRAMP_PROC(in.what);
		k.a[3] = result;
		checked(&k);
	}
	__atomic_fetch_add(&returned, 1, __ATOMIC_SEQ_CST);
}

static void *receiver(void *arg)
{
	number = (intptr_t)arg;
	mode[number] = number;
	set_control(number);
	serve(number);
	return NULL;
}

static void start(int n)
{
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, receiver, (void *)(intptr_t)n), 0);
	while (__atomic_load_n(&blocks[n].word, __ATOMIC_ACQUIRE) != RPAL_ST_WAIT)
		sched_yield();
	/* Let it come to rest in its system call. */
	usleep(1000);
}

static void setup_with(const struct tramp *set)
{
	int i;

	tr = set;

	for (i = 0; i < NR; i++) {
		test_block_of[i] = &blocks[i];
		blocks[i].tid = RPAL_TID(SERVICE, i);
		blocks[i].call_word = RPAL_ST_CALL | (uint64_t)RPAL_TID(SERVICE, i) << 32 |
				      0x123400;
	}
	number = 0;
	set_control(0);
}

static void setup(void)
{
	setup_with(&rpal_tramp_nopk);
}

static void setup_inside(void)
{
	setup_with(&rpal_tramp_nopk);
	inside = true;
}

static void setup_timed(void)
{
	setup_with(&rpal_tramp_nopk_timed);
}

static void check_home(void)
{
	ck_assert_int_eq(number, 0);
	ck_assert(control_is(0));
	ck_assert_uint_eq(blocks[0].callee, 0);
	ck_assert_uint_eq(receiver_bad, 0);
}

/* --- tests */

START_TEST(call_and_return)
{
	struct tramp_ret r;
	int i;

	start(1);
	for (i = 0; i < 10000; i++) {
		r = do_call(0, 1, ECHO, i);
		ck_assert_int_eq(r.status, -ECHO);
		ck_assert_int_eq(r.result, i * 3);
		ck_assert_uint_eq(seen_arg, i);
		ck_assert_uint_eq(seen_len, i + 1);
		ck_assert_uint_eq(seen_caller, blocks[0].call_word);
		ck_assert_uint_eq(blocks[1].word, RPAL_ST_WAIT);
		check_home();
	}
	ck_assert_uint_eq(blocks[1].caller, (uintptr_t)&blocks[0]);
	ck_assert_uint_eq(blocks[1].caller_word, blocks[0].call_word);
}
END_TEST

/* Only where the kernel wants it: how long calls have taken, by callee. */
START_TEST(stamps)
{
	uint64_t begin, sum;
	int i;

	start(1);
	begin = __rdtsc();
	for (i = 0; i < 1000; i++)
		do_call(0, 1, ECHO, i);
	sum = blocks[0].away_ticks[1];
	if (tr == &rpal_tramp_nopk) {
		ck_assert_uint_eq(blocks[0].stamp, 0);
		ck_assert_uint_eq(sum, 0);
		return;
	}
	ck_assert_uint_gt(blocks[0].stamp, begin);
	ck_assert_uint_gt(sum, 0);
	ck_assert_uint_lt(sum, __rdtsc() - begin);
	ck_assert_uint_eq(blocks[0].away_tid[1], blocks[1].tid);
	ck_assert_uint_eq(blocks[0].away_ticks[0], 0);
}
END_TEST

START_TEST(nested)
{
	struct tramp_ret r;
	int i;

	start(1);
	start(2);
	for (i = 0; i < 1000; i++) {
		r = do_call(0, 1, NEST, i);
		ck_assert_int_eq(r.status, -NEST);
		ck_assert_int_eq(r.result, (i + 1) * 3 + 1);
		check_home();
	}
	ck_assert_uint_eq(blocks[1].callee, 0);
	ck_assert_uint_eq(blocks[2].caller, (uintptr_t)&blocks[1]);
}
END_TEST

/* How a procedure has set its thread's arithmetic stays, and is nobody else's. */
START_TEST(control_words)
{
	int i;

	start(1);
	start(2);
	for (i = 0; i < 100; i++) {
		do_call(0, 1, MODE, i % 4);
		check_home();
		do_call(0, 1, ECHO, i);
		do_call(0, 1, NEST, i);
		do_call(0, 1, ECHO, i);
		check_home();
	}
}
END_TEST

static void *other_sender(void *arg)
{
	int n = (intptr_t)arg, i, done = 0;
	struct tramp_ret r;

	number = n;
	set_control(n);
	for (i = 0; done < 20000; i++) {
		r = do_call(n, 1 + i % 2, ECHO, i);
		if (r.status == -T_MISS)
			continue;
		ck_assert_int_eq(r.status, -ECHO);
		ck_assert_int_eq(r.result, i * 3L);
		ck_assert_int_eq(number, n);
		ck_assert(control_is(n));
		done++;
	}
	return NULL;
}

START_TEST(many_senders)
{
	pthread_t t[4];
	int i;

	start(1);
	start(2);
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, other_sender, (void *)(intptr_t)(3 + i));
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(receiver_bad, 0);
}
END_TEST

START_TEST(cannot_claim)
{
	static const uint64_t words[] = {
		RPAL_ST_RUNNING,
		RPAL_ST_LAZY,
		RPAL_ST_DEAD,
		RPAL_ST_WAIT | RPAL_ST_PENDING,
		RPAL_ST_CALL | 5ULL << 32,
	};
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		blocks[1].word = words[i];
		ck_assert_int_eq(do_call(0, 1, ECHO, 1).status, -T_MISS);
		ck_assert_uint_eq(blocks[1].word, words[i]);
		check_home();
	}
	/* Another thread's block than meant. */
	blocks[1].word = RPAL_ST_WAIT;
	blocks[1].tid++;
	ck_assert_int_eq(do_call(0, 1, ECHO, 1).status, -T_MISS);
	ck_assert_uint_eq(blocks[1].word, RPAL_ST_WAIT);
	check_home();
}
END_TEST

START_TEST(busy_in_call)
{
	struct rpal_block before;

	blocks[1].word = RPAL_ST_WAIT;
	blocks[0].callee = RPAL_TID(3, 3);
	before = blocks[0];
	ck_assert_int_eq(do_call(0, 1, ECHO, 1).status, -EBUSY);
	/* The context of the interrupted call must not be touched. */
	ck_assert_mem_eq(&before, &blocks[0], sizeof(before));
	ck_assert_uint_eq(blocks[1].word, RPAL_ST_WAIT);
}
END_TEST

static int64_t do_scan(uint32_t nr, uint32_t first)
{
	struct tramp_scan s = {
		.block = (uintptr_t)&blocks[1],
		.tid = RPAL_TID(SERVICE, 1),
		.nr = nr,
		.start = first,
	};
	struct checked k = {
		.fn = tr->scan,
		.a = { (uintptr_t)&blocks[0], (uintptr_t)&s },
	};

	checked(&k);
	ck_assert_uint_eq(k.bad, 0);
	check_home();
	return k.rax;
}

START_TEST(scan)
{
	int i;

	for (i = 1; i < NR; i++)
		blocks[i].word = RPAL_ST_DEAD;
	ck_assert_int_eq(do_scan(5, 3), -T_ABSENT);
	blocks[2].tid = 0;
	blocks[2].word = RPAL_ST_WAIT;
	ck_assert_int_eq(do_scan(5, 3), -T_ABSENT);
	blocks[4].word = RPAL_ST_CALL | 1ULL << 32;
	ck_assert_int_eq(do_scan(5, 3), -T_NONE);
	blocks[5].word = RPAL_ST_WAIT | RPAL_ST_PENDING;
	ck_assert_int_eq(do_scan(5, 3), -T_NONE);
	blocks[6].word = RPAL_ST_WAIT; /* not one of the five */
	ck_assert_int_eq(do_scan(5, 3), -T_NONE);
	blocks[1].word = RPAL_ST_WAIT;
	ck_assert_int_eq(do_scan(5, 3), 0);
	ck_assert_int_eq(do_scan(5, 0), 0);
	blocks[5].word = RPAL_ST_WAIT;
	ck_assert_int_eq(do_scan(5, 3), 4);
	ck_assert_int_eq(do_scan(5, 4), 4);
	ck_assert_int_eq(do_scan(1, 0), 0);
	blocks[0].callee = 1;
	blocks[0].callee = 0;
}
END_TEST

START_TEST(pending)
{
	struct tramp_ret r;

	start(1);
	test_woken = 0;
	r = do_call(0, 1, PEND, 1);
	ck_assert_int_eq(r.status, -PEND);
	ck_assert_int_eq(r.result, 1);
	ck_assert_uint_eq(blocks[1].word, RPAL_ST_WAIT | RPAL_ST_PENDING);
	ck_assert_uint_eq(test_woken, RPAL_TID(SERVICE, 1));
	check_home();
}
END_TEST

START_TEST(ended_by_kernel)
{
	struct tramp_ret r;

	start(1);
	r = do_call(0, 1, LAZY, 4711);
	ck_assert_int_eq(r.status, -77);
	ck_assert_int_eq(r.result, 4711);
	check_home();
}
END_TEST

START_TEST(wait_ends)
{
	struct tramp_in in = { .dev = FD_EINTR };
	struct checked k = {
		.fn = tr->wait,
		.a = { (uintptr_t)&blocks[0], (uintptr_t)&in },
	};

	test_ioctl_flags = 99;
	checked(&k);
	ck_assert_int_eq(k.rax, -EINTR);
	ck_assert_uint_eq(k.bad, 0);
	ck_assert_uint_eq(test_ioctl_flags, 0);
	in.flags = RPAL_WAIT_NEWS;
	checked(&k);
	ck_assert_uint_eq(test_ioctl_flags, RPAL_WAIT_NEWS);
}
END_TEST

START_TEST(reply_by_kernel)
{
	struct tramp_in in = { .dev = FD_EINTR };
	struct checked k = {
		.fn = tr->reply,
		.a = { (uintptr_t)&blocks[0], (uintptr_t)&in, -5, 6 },
	};

	/* The word is not what the caller has set: the call was handed over. */
	blocks[0].word = RPAL_ST_LAZY;
	blocks[0].caller = (uintptr_t)&blocks[1];
	blocks[0].caller_word = blocks[1].call_word;
	checked(&k);
	ck_assert_int_eq(k.rax, -EINTR);
	ck_assert_uint_eq(k.bad, 0);
	ck_assert_uint_eq(test_ioctl_flags, RPAL_WAIT_REPLY);
	ck_assert_int_eq(blocks[0].status, -5);
	ck_assert_int_eq(blocks[0].result, 6);
	in.flags = RPAL_WAIT_NEWS;
	checked(&k);
	ck_assert_uint_eq(test_ioctl_flags, RPAL_WAIT_REPLY | RPAL_WAIT_NEWS);
}
END_TEST

static const struct tramp_in *seen_in;
static bool spoil; /* the context in the block */

static struct tramp_ret run_once(uint64_t arg, uint64_t len, uint64_t what, uint64_t caller,
				 struct tramp_in *in)
{
	seen_in = in;
	ck_assert_uint_eq(arg, 71);
	ck_assert_uint_eq(len, 72);
	ck_assert_uint_eq(in->ret_pkru, 73);
	ck_assert_uint_eq(what, 74);
	ck_assert_uint_eq(caller, 75);
	ck_assert_uint_eq((uintptr_t)__builtin_frame_address(0) % 16, 0);
	ck_assert_uint_eq(test_ioctl_flags, RPAL_WAIT_NEWS);
	in->dev = FD_EINTR;
	/* As a call of the procedure would. */
	if (spoil)
		blocks[0].ip = blocks[0].sp = blocks[0].bp = 0;
	return (struct tramp_ret){ .status = -5, .result = 6 };
}

/* Called, run, handed over, and then the wait ends. */
START_TEST(serve_ends)
{
	struct tramp_in in = {
		.dev = FD_CALL,
		.flags = RPAL_WAIT_NEWS,
		.run = run_once,
		.block = &blocks[0],
	};
	struct checked k = {
		.fn = tr->serve,
		.a = { (uintptr_t)&blocks[0], (uintptr_t)&in },
	};

	spoil = _i;
	blocks[0].word = RPAL_ST_LAZY;
	blocks[0].caller = (uintptr_t)&blocks[1];
	blocks[0].caller_word = blocks[1].call_word;
	checked(&k);
	ck_assert_ptr_eq(seen_in, &in);
	ck_assert_int_eq(k.rax, -EINTR);
	ck_assert_uint_eq(k.bad, 0);
	ck_assert_uint_eq(test_ioctl_flags, RPAL_WAIT_REPLY | RPAL_WAIT_NEWS);
	ck_assert_uint_eq(in.wait.flags, RPAL_WAIT_REPLY | RPAL_WAIT_NEWS);
	ck_assert_int_eq(blocks[0].status, -5);
	ck_assert_int_eq(blocks[0].result, 6);
	/* A context to go on with: that of serve itself, below its one push. */
	ck_assert(blocks[0].ip && blocks[0].ip != tr->ranges.wait_ip);
	ck_assert_uint_eq(blocks[0].sp % 16, 0);
	ck_assert_uint_eq(blocks[0].bx, (uintptr_t)&in);
	ck_assert_uint_eq(blocks[0].bp, (uintptr_t)&k + 2);
}
END_TEST

/* --- recovery points */

static void *guarded_stack;

static int64_t guarded(void *arg)
{
	struct checked k = { .fn = tr->guard,
			     .a = { (uintptr_t)&blocks[0], (uintptr_t)guarded, (uintptr_t)arg } };
	struct rpal_block before = blocks[0];

	guarded_stack = __builtin_frame_address(0);
	ck_assert_uint_eq((uintptr_t)guarded_stack % 16, 0);
	ck_assert_uint_eq(blocks[0].callee, RPAL_TID_GUARD);
	/* Neither calls nor another one. */
	ck_assert_int_eq(do_call(0, 1, ECHO, 1).status, -EBUSY);
	checked(&k);
	ck_assert_int_eq(k.rax, -EBUSY);
	ck_assert_mem_eq(&before, &blocks[0], sizeof(before));
	if (arg == &rpal_tr_resume) {
		/* As if rpal_copy_prepare() had been called there, and other calls since. */
		rpal_tr_resume = *(uint64_t *)blocks[0].sp;
		*(uint64_t *)blocks[0].sp = 0;
	}
	if (arg == &guarded_stack || arg == &rpal_tr_resume)
		go_lazy(&blocks[0], tr->ranges.lazy_ip, -EFAULT, 0);
	nr_frames = backtrace(frames, 32);
	set_control(3);
	return (intptr_t)arg;
}

static int64_t do_guard(void *arg)
{
	struct checked k = { .fn = tr->guard,
			     .a = { (uintptr_t)&blocks[0], (uintptr_t)guarded, (uintptr_t)arg } };

	checked(&k);
	ck_assert_uint_eq(k.bad, 0);
	ck_assert_uint_eq(blocks[0].callee, 0);
	return k.rax;
}

/* Without assembly in between that the unwinder does not know. */
static __attribute__((noinline)) int64_t guard_plainly(intptr_t arg)
{
	int64_t r = tr->guard(&blocks[0], guarded, (void *)arg, 0);

	set_control(0);
	return r;
}

static bool in_frames(const void *fn);

START_TEST(guard)
{
	void *warm[4];
	int i;

	backtrace(warm, 4);
	start(1);
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(do_guard((void *)0x123456789a), 0x123456789a);
		/* A function like any other: what it has set stays. */
		ck_assert(control_is(3));
		set_control(0);
		/* Recovered: as it was before. */
		ck_assert_int_eq(do_guard(&guarded_stack), -EFAULT);
		check_home();
		ck_assert_int_eq(do_call(0, 1, ECHO, i).status, -ECHO);
		/* Recovered by a second return. */
		ck_assert_int_eq((int)do_guard(&rpal_tr_resume), RPAL_FAILURE);
		check_home();
		rpal_tr_resume = 0;
	}
	nr_frames = 0;
	ck_assert_int_eq(guard_plainly(7), 7);
	ck_assert(in_frames(guard_plainly));
	ck_assert_uint_eq(blocks[0].stamp != 0, tr == &rpal_tramp_nopk_timed);
}
END_TEST

/* ... that a call follows on */

struct posted {
	struct tramp_post call;
	int64_t ret;
	bool fault;
};

static int64_t posted(void *arg)
{
	const struct posted *p = arg;

	ck_assert_uint_eq((uintptr_t)__builtin_frame_address(0) % 16, 0);
	ck_assert_uint_eq(blocks[0].callee, RPAL_TID_GUARD);
	ck_assert_int_eq(do_call(0, 1, ECHO, 1).status, -EBUSY);
	if (p->fault)
		go_lazy(&blocks[0], tr->ranges.lazy_ip, -EFAULT, 0);
	return p->ret;
}

static int64_t do_post(uint32_t proc, int64_t ret, bool fault)
{
	struct posted p = {
		.call = { .block = (uintptr_t)&blocks[1],
			  .what = TRAMP_WHAT(proc, 3, 5),
			  .tid = RPAL_TID(SERVICE, 1) },
		.ret = ret,
		.fault = fault,
	};
	struct checked k = { .fn = tr->post,
			     .a = { (uintptr_t)&blocks[0], (uintptr_t)posted, (uintptr_t)&p } };

	checked(&k);
	ck_assert_uint_eq(k.bad, 0);
	check_home();
	return k.rax;
}

START_TEST(post)
{
	int i;

	start(1);
	start(2);
	for (i = 0; i < 1000; i++) {
		seen_arg = seen_len = 1;
		ck_assert_int_eq(do_post(ECHO, 0, false), 0);
		ck_assert_int_eq(do_post(ECHO, -71, false), -71);
		ck_assert_int_eq(do_post(ECHO, 1, true), -EFAULT);
		ck_assert_uint_eq(seen_arg, 1);
		ck_assert_int_eq(do_post(ECHO, 1, false), -ECHO);
		ck_assert_uint_eq(seen_arg, 0);
		ck_assert_uint_eq(seen_len, 0);
		ck_assert_uint_eq(seen_caller, blocks[0].call_word);
		ck_assert_int_eq(do_post(NEST, 1, false), -NEST);
		ck_assert_int_eq(do_call(0, 1, ECHO, i).status, -ECHO);
		ck_assert_uint_eq(blocks[1].word, RPAL_ST_WAIT);
	}
	ck_assert_uint_eq(blocks[0].stamp != 0, tr == &rpal_tramp_nopk_timed);
	test_woken = 0;
	ck_assert_int_eq(do_post(PEND, 1, false), -PEND);
	ck_assert_uint_eq(test_woken, RPAL_TID(SERVICE, 1));
	blocks[1].word = RPAL_ST_WAIT;
	ck_assert_int_eq(do_post(LAZY, 1, false), -77);
	/* Who was meant cannot be had, or is another one by now. */
	blocks[1].word = RPAL_ST_RUNNING;
	ck_assert_int_eq(do_post(ECHO, 1, false), -T_MISS);
	ck_assert_uint_eq(blocks[1].word, RPAL_ST_RUNNING);
	blocks[1].word = RPAL_ST_WAIT;
	blocks[1].tid++;
	ck_assert_int_eq(do_post(ECHO, 1, false), -T_MISS);
}
END_TEST

static bool in_frames(const void *fn)
{
	int i;

	for (i = 0; i < nr_frames; i++)
		if ((const char *)frames[i] >= (const char *)fn &&
		    (const char *)frames[i] < (const char *)fn + 400)
			return true;
	return false;
}

/* In a procedure one sees who serves, not who calls. */
START_TEST(unwinding)
{
	void *warm[4];

	backtrace(warm, 4); /* loads the unwinder */
	start(1);
	ck_assert_int_gt(do_call(0, 1, TRACE, 0).result, 3);
	ck_assert(in_frames(receiver));
	ck_assert(in_frames(serve));
	ck_assert(!in_frames(do_call));
}
END_TEST

/* The kernel's view: ranges in order, without holes where none may be. */
START_TEST(ranges)
{
	static const struct tramp *const sets[] = { &rpal_tramp_pk, &rpal_tramp_pk_timed,
						    &rpal_tramp_nopk, &rpal_tramp_nopk_timed };
	const struct rpal_ranges *r = &sets[_i]->ranges;

	ck_assert_uint_lt(r->open_start, r->enter_start);
	ck_assert_uint_lt(r->enter_start, r->enter_end);
	ck_assert_uint_lt(r->enter_end, r->open_end);
	ck_assert_uint_lt(r->leave_start, r->leave_end);
	ck_assert_uint_lt(r->home_start, r->home_end);
	ck_assert(r->lazy_ip && r->wait_ip);
	/* Right behind the claim: f0 4d 0f b1 0b, lock cmpxchg %r9, (%r11) */
	ck_assert_mem_eq((void *)(r->enter_start - 5), "\xf0\x4d\x0f\xb1\x0b", 5);
	/* The range of the return begins with the look at the word itself. */
	ck_assert_mem_eq((void *)r->leave_start, "\x49\x33\x0b", 3);
	if (_i < 2) {
		ck_assert_mem_eq((void *)r->open_start, "\x0f\x01\xef", 3);
		ck_assert_mem_eq((void *)(r->open_end - 3), "\x0f\x01\xef", 3);
		ck_assert_mem_eq((void *)(r->home_end - 3), "\x0f\x01\xef", 3);
	}
}
END_TEST

/* Instructions of a round trip that cost most. */
static int count(const char *from, const char *to, const char *code, size_t len)
{
	int n = 0;

	for (; from + len <= to; from++)
		n += !memcmp(from, code, len);
	return n;
}

START_TEST(cost)
{
	const struct rpal_ranges *r = &rpal_tramp_pk.ranges;
	const char *enter = (char *)r->open_start, *enter_end = (char *)r->enter_end;
	const char *leave = (char *)rpal_tramp_pk.reply, *leave_end = (char *)r->leave_end;
	const char *home = (char *)r->home_start, *home_end = (char *)r->lazy_ip;

#define COUNT(code)                                        \
	(count(enter, enter_end, code, sizeof(code) - 1) + \
	 count(leave, leave_end, code, sizeof(code) - 1) + \
	 count(home, home_end, code, sizeof(code) - 1))
	/* One WRPKRU more in the reply is only for calls that grant nothing. */
	ck_assert_int_eq(COUNT("\x0f\x01\xef"), 3);
	ck_assert_int_eq(COUNT("\xf0"), 2);
	ck_assert_int_eq(COUNT("\xf3\x48\x0f\xae\xd0"), 2);
}
END_TEST

static void add(Suite *s, const char *name, void (*fixture)(void))
{
	TCase *tc = tcase_create(name);

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, fixture, NULL);
	tcase_add_test(tc, call_and_return);
	tcase_add_test(tc, stamps);
	tcase_add_test(tc, nested);
	tcase_add_test(tc, control_words);
	tcase_add_test(tc, many_senders);
	tcase_add_test(tc, cannot_claim);
	tcase_add_test(tc, busy_in_call);
	tcase_add_test(tc, scan);
	tcase_add_test(tc, pending);
	tcase_add_test(tc, ended_by_kernel);
	tcase_add_test(tc, wait_ends);
	tcase_add_test(tc, reply_by_kernel);
	tcase_add_loop_test(tc, serve_ends, 0, 2);
	tcase_add_test(tc, guard);
	tcase_add_test(tc, post);
	tcase_add_test(tc, unwinding);
	tcase_add_loop_test(tc, ranges, 0, 4);
	tcase_add_test(tc, cost);
}

int main(void)
{
	Suite *s = suite_create("trampoline");
	SRunner *sr;
	int failed;

	if (!(getauxval(AT_HWCAP2) & 2)) {
		puts("skipped: no FSGSBASE here");
		return 77;
	}
	add(s, "trampoline", setup);
	add(s, "timed", setup_timed);
	add(s, "inside", setup_inside);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
