// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What messages between event loops need from the kernel: news in a block, calls
 * without answer, recovery points; what a peer calls the other end of a socket,
 * files whose input is news, files that peers make readable.
 *
 * It speaks to the module and the trampolines themselves, and uses of the
 * library what links services and registers threads.
 *
 * usage: call-messages [FACTOR [CLIENT]]: so many times more rounds, of one client
 */
#include "call.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "../../lib/internal.h"

#define STATS "/sys/kernel/debug/rpal/stats"

#define CHECK_ERR(expr, want)                                                     \
	do {                                                                      \
		int err_ = (expr) < 0 ? errno : 0;                                \
		CHECK(err_ == (want), "%s: errno %d, not %d", #expr, err_, want); \
	} while (0)

/* The same, as a condition. */
#define IS(expr, want)                                                        \
	({                                                                    \
		long is_ = (expr), want_ = (want);                            \
		CHECK(is_ == want_, "%s is %ld, not %ld", #expr, is_, want_); \
	})

static int factor = 1;

/* Of the calling thread, registered if need be. */
static struct rpal_thr *myself(void)
{
	struct rpal_thr *thr;

	MUST(!rpal_thr_get(RPAL_THREAD_SENDER, &thr));
	return thr;
}

static struct rpal_block *block_of(const struct call_peer *p, int i)
{
	struct rpal_link link;

	MUST(!rpal_link_get(p->id, &link));
	return (void *)(uintptr_t)(link.area + (u64)i * RPAL_BLOCK_SIZE);
}

/* Rights with which memory of a peer is open, besides the own. */
static u32 pkru_open(int id)
{
	struct rpal_link link;

	MUST(!rpal_link_get(id, &link));
	return rpal_state.pkeys ? pkru_with(pkru_read(), link.pkey, RIGHTS_WRITE) : 0;
}

static bool wait_u64(const volatile u64 *p, u64 v)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (__atomic_load_n(p, __ATOMIC_ACQUIRE) < v) {
		if (test_now_ns() > end)
			return false;
		sched_yield();
	}
	return true;
}

/* ------------------------------------------------- a server that takes news */

enum { N_STATE, N_SPIN, N_LAZY };

/* What a receiver has seen; read and written by peers. */
static volatile struct news {
	u64 waits;
	u64 news;
	u64 bits;
	u64 odd;
	u64 tid;
	u64 hold; /* do not wait, yet */
} news[2];

struct spin {
	volatile int begun;
	volatile int go;
};

static int64_t news_proc(struct tramp_in *in)
{
	struct spin *s = (void *)(uintptr_t)in->arg;

	switch (TRAMP_PROC(in->what)) {
	case N_STATE:
		return (intptr_t)news;
	case N_SPIN:
		s->begun = 1;
		while (!s->go)
			test_pause();
		return 4711;
	case N_LAZY:
		syscall(SYS_getppid);
		s->begun = 1;
		while (!s->go)
			usleep(1000);
		return 4712;
	}
	return -1;
}

static void *news_thread(void *arg)
{
	volatile struct news *n = arg;
	struct tramp_in in = {
		.dev = rpal_state.fd,
		.flags = n == &news[0] ? RPAL_WAIT_NEWS : 0,
		.wait = { .size = sizeof(in.wait), .fd = -1, .timeout_ns = -1 },
	};
	struct rpal_thr *thr;
	int64_t r;

	MUST(!rpal_thr_get(RPAL_THREAD_RECEIVER, &thr));
	n->tid = thr->tid;
	for (;;) {
		while (n->hold)
			usleep(1000);
		n->waits++;
		r = rpal_state.tramp->wait(thr->block, &in);
		while (!r) {
			r = news_proc(&in);
			r = rpal_state.tramp->reply(thr->block, &in, 0, r);
		}
		if (r != RPAL_WAITED_NEWS) {
			n->odd = r;
			continue;
		}
		n->bits |= __atomic_exchange_n(&thr->block->news, 0, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&n->news, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int news_role(void)
{
	const char *path = strchr(test_arg, ' ') + 1;
	pthread_t thread;
	int i, fd, sock;

	call_init(2);
	for (i = 0; i < 2; i++) {
		MUST(!pthread_create(&thread, NULL, news_thread, (void *)&news[i]));
		MUST(wait_u64(&news[i].tid, 1));
	}
	fd = rpal_listen(path);
	for (;;)
		rpal_accept(fd, -1, &sock);
}

/* ----------------------------------------------------------- other servers */

enum {
	P_GETPID,
	P_TID,
	P_LAZY,	 /* struct spin: a system call, then wait to be told to go on */
	P_RELAY, /* struct relay */
	P_SYSCALL,
	P_CONNECT, /* with a server at a path */
	P_GUARD,   /* struct guarded */
	P_EXIT_THREAD,
	P_NOTIFY, /* struct rpal_notify */
	P_NR,
};

static struct tramp_ret raw_call(int id, int proc, void *arg, size_t len);

PROC(p_pid)
{
	return syscall(SYS_getpid);
}

PROC(p_tid)
{
	return call_tid;
}

PROC(p_lazy)
{
	struct spin *s = arg;

	syscall(SYS_getppid);
	s->begun = 1;
	while (!s->go)
		usleep(1000);
	s->begun = 2;
	return 77;
}

struct relay {
	int id; /* whom to call */
	bool async;
	struct spin spin; /* passed on */
	volatile int done;
};

/* The next one cannot read our caller's memory: it gets a copy that stays. */
PROC(p_relay)
{
	static struct spin copy;
	struct relay *relay = arg;
	struct rpal_thr *thr = rpal_thr_self();
	struct tramp_ret r;

	copy = relay->spin;
	thr->block->flags = relay->async ? RPAL_BLOCK_ASYNC : 0;
	r = raw_call(relay->id, P_LAZY, &copy, sizeof(copy));
	thr->block->flags = 0;
	if (r.status == RPAL_CALL_LAZY) {
		NEED(relay->async && !thr->block->callee && copy.begun < 2);
		/* As ourselves, for it comes to run on our own task. */
		NEED(syscall(SYS_gettid) == call_tid);
		copy.go = 1;
		while (copy.begun < 2)
			usleep(1000);
	} else {
		NEED(!relay->async && !r.status && r.result == 77);
	}
	relay->done = 1;
	return r.status ? r.status : r.result;
}

PROC(p_syscall)
{
	long *a = arg, r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);

	return r < 0 ? -errno : r;
}

PROC(p_connect)
{
	int sock;

	return rpal_connect(arg, test_patience() * 1000, &sock);
}

PROC(p_exit_thread)
{
	pthread_exit(NULL);
}

/* ---------------------------------------------------------- recovery points */

/* What a function does behind a recovery point. */
struct guarded {
	u64 addr;
	int id;	      /* whose memory that is */
	bool loop;    /* until it is gone */
	bool store;   /* and not only read */
	bool syscall; /* first */
	u64 value;
	volatile u64 touched;
};

/*
 * Touch memory with everything that a recovery is to restore being something
 * else.
 */
static int64_t touch(void *arg)
{
	struct guarded *g = arg;
	u32 mxcsr = 0x1f80 | 3 << 13;
	uint16_t fcw = 0x37f & ~0x300;
	u64 fs, addr = g->addr;

	if (g->syscall)
		syscall(SYS_getppid);
	asm volatile("rdfsbase %0" : "=r"(fs));
	do {
		asm volatile("ldmxcsr %[mxcsr]; fldcw %[fcw]\n"
			     "mov $0xdead, %%ebx; mov %%rbx, %%r12; mov %%rbx, %%r13\n"
			     "mov %%rbx, %%r14; mov %%rbx, %%r15; wrfsbase %%rbx\n"
			     "mov (%[addr]), %%rax\n"
			     "test %%ecx, %%ecx; jz 1f; mov %%rax, (%[addr])\n"
			     "1: wrfsbase %[fs]\n"
			     : "=&a"(g->value)
			     : [addr] "r"(addr), [fs] "r"(fs), [mxcsr] "m"(mxcsr), [fcw] "m"(fcw),
			       "c"((int)g->store)
			     : "rbx", "r12", "r13", "r14", "r15", "memory", "cc");
		g->touched++;
	} while (g->loop);
	return 5;
}

/*
 * void checked(struct checked *c): c->fn(c->a[0..3]) with known values in the
 * callee-saved registers, and a count of those that have changed.
 */
struct checked {
	void *fn;
	u64 a[4];
	int64_t ret;
	u64 bad;
};

void checked(struct checked *c);

/* clang-format off */
asm(
"	.text\n"
"checked:\n"
"	push	%rbx\n	push	%rbp\n	push	%r12\n"
"	push	%r13\n	push	%r14\n	push	%r15\n"
"	push	%rdi\n"
"	lea	1(%rdi), %rbx\n	lea	2(%rdi), %rbp\n	lea	3(%rdi), %r12\n"
"	lea	4(%rdi), %r13\n	lea	5(%rdi), %r14\n	lea	6(%rdi), %r15\n"
"	mov	%rdi, %rax\n"
"	mov	8(%rax), %rdi\n	mov	16(%rax), %rsi\n"
"	mov	24(%rax), %rdx\n	mov	32(%rax), %rcx\n"
"	call	*(%rax)\n"
"	pop	%rdi\n"
"	mov	%rax, 40(%rdi)\n"
"	sub	%rdi, %rbx\n	cmp	$1, %rbx\n	jne	1f\n"
"	sub	%rdi, %rbp\n	cmp	$2, %rbp\n	jne	1f\n"
"	sub	%rdi, %r12\n	cmp	$3, %r12\n	jne	1f\n"
"	sub	%rdi, %r13\n	cmp	$4, %r13\n	jne	1f\n"
"	sub	%rdi, %r14\n	cmp	$5, %r14\n	jne	1f\n"
"	sub	%rdi, %r15\n	cmp	$6, %r15\n	je	2f\n"
"1:	incq	48(%rdi)\n"
"2:	pop	%r15\n	pop	%r14\n	pop	%r13\n"
"	pop	%r12\n	pop	%rbp\n	pop	%rbx\n"
"	ret\n"
);
/* clang-format on */

static __thread int tls;

static void control(bool set, u32 *mxcsr, uint16_t *fcw)
{
	if (set)
		asm volatile("ldmxcsr %0; fldcw %1" : : "m"(*mxcsr), "m"(*fcw));
	else
		asm volatile("stmxcsr %0; fnstcw %1" : "=m"(*mxcsr), "=m"(*fcw));
}

/*
 * With a recovery point. What @fn returns, or -EFAULT; or the line where
 * something was found that is not as it was before.
 */
static int64_t guard_with(int64_t (*fn)(void *), void *arg, u32 pkru)
{
	struct rpal_thr *thr = myself();
	struct checked k = { .fn = rpal_state.tramp->guard,
			     .a = { (uintptr_t)thr->block, (uintptr_t)fn, (uintptr_t)arg, pkru } };
	u32 before = pkru_read(), mxcsr, mxcsr2;
	uint16_t fcw, fcw2;

	tls = 4711;
	control(false, &mxcsr, &fcw);
	checked(&k);
	control(false, &mxcsr2, &fcw2);
	control(true, &mxcsr, &fcw);
	NEED(tls == 4711);
	NEED(!k.bad);
	NEED(pkru_read() == before);
	NEED(!thr->block->callee);
	if (k.ret == -EFAULT)
		NEED(mxcsr == mxcsr2 && fcw == fcw2);
	return k.ret;
}

static int64_t guard(struct guarded *g)
{
	return guard_with(touch, g, pkru_open(g->id));
}

PROC(p_guard)
{
	struct guarded *g = arg, own = *g;
	int64_t r;

	/* Its caller's memory, or that of another one it is linked with. */
	if (g->id == rpal_get_service_id())
		own.id = caller->service_id;
	r = guard(&own);
	g->touched = own.touched;
	g->value = own.value;
	return r;
}

PROC(p_notify)
{
	struct rpal_notify notify = *(struct rpal_notify *)arg;

	return rpal_ioctl(RPAL_IOC_NOTIFY, &notify);
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_GETPID] = p_pid,	 [P_TID] = p_tid,
	[P_LAZY] = p_lazy,	 [P_RELAY] = p_relay,
	[P_SYSCALL] = p_syscall, [P_CONNECT] = p_connect,
	[P_GUARD] = p_guard,	 [P_EXIT_THREAD] = p_exit_thread,
	[P_NOTIFY] = p_notify,
};

static int server_role(void)
{
	return call_server(procs, P_NR);
}

/* --------------------------------------------------------- raw calls, as us */

static struct tramp_ret await_reply(void)
{
	struct rpal_reply reply = { .size = sizeof(reply) };

	MUST(!ioctl(rpal_state.fd, RPAL_IOC_AWAIT_REPLY, &reply));
	return (struct tramp_ret){ reply.status, reply.result };
}

/*
 * One call with everything granted, tried until it comes about: of one receiver,
 * or with -1 of any. RPAL_CALL_LAZY: no answer is due.
 */
static struct tramp_ret raw_call_of(int id, int index, int proc, void *arg, size_t len)
{
	struct rpal_thr *thr = myself();
	struct rpal_link link;
	struct tramp_ret r;
	unsigned int i, to;
	u64 what;

	MUST(!rpal_link_get(id, &link));
	what = TRAMP_WHAT(proc, RPAL_CALL_GRANT_WRITE, thr->depth + 1);
	for (i = 0;; i++) {
		to = index < 0 ? i % link.nr : (unsigned int)index;
		r = rpal_state.tramp->call(thr->block, (uintptr_t)arg, len, what,
					   link.area + (u64)to * RPAL_BLOCK_SIZE,
					   link.rights[GRANT_WRITE], RPAL_TID(id, to));
		if (r.status == RPAL_CALL_LAZY && thr->block->callee)
			return await_reply();
		if (r.status != -T_MISS && r.status != -EAGAIN)
			return r;
		sched_yield();
	}
}

static struct tramp_ret raw_call(int id, int proc, void *arg, size_t len)
{
	return raw_call_of(id, -1, proc, arg, len);
}

static long server_sys(struct call_peer *p, long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long args[] = { nr, a, b, c, d, e, f };

	return call_result(p, P_SYSCALL, args, sizeof(args), RPAL_CALL_GRANT_WRITE);
}

static u64 server_map(struct call_peer *p)
{
	return server_sys(p, SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
}

/* --------------------------------------------------------------------- news */

static volatile struct news *theirs; /* in the server's memory */

/* What a peer does that has something to say. Was there more to do? */
static bool tell(struct call_peer *p, int i)
{
	struct rpal_wake wake = { .size = sizeof(wake), .tid = RPAL_TID(p->id, i) };
	struct rpal_block *b = block_of(p, i);
	unsigned int state;

	__atomic_fetch_or(&b->news, RPAL_NEWS_MESSAGE, __ATOMIC_SEQ_CST);
	state = __atomic_load_n(&b->word, __ATOMIC_SEQ_CST) & RPAL_ST_MASK;
	if (state != RPAL_ST_WAIT && state != RPAL_ST_CALL)
		return false;
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_WAKE, &wake), 0);
	return true;
}

static void wait_for_state(struct call_peer *p, int i, u64 word)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (block_of(p, i)->word != word && test_now_ns() < end)
		sched_yield();
	CHECK(block_of(p, i)->word == word, "word %lx, not %lx",
	      (unsigned long)block_of(p, i)->word, (unsigned long)word);
}

/* A call of receiver 0 in a thread of its own. */
struct to_news {
	pthread_t thread;
	struct call_peer *peer;
	int proc;
	struct spin spin;
	struct tramp_ret r;
};

static void *to_news_thread(void *arg)
{
	struct to_news *c = arg;

	c->r = raw_call_of(c->peer->id, 0, c->proc, &c->spin, sizeof(c->spin));
	return NULL;
}

static void news_in_call(struct call_peer *p, int proc, u64 word)
{
	struct to_news c = { .peer = p, .proc = proc };
	u64 n = theirs[0].news;
	int i;

	MUST(!pthread_create(&c.thread, NULL, to_news_thread, &c));
	MUST(call_wait_for(&c.spin.begun, 1));
	if (word)
		wait_for_state(p, 0, word);
	for (i = 0; i < 3; i++) {
		CHECK(tell(p, 0) == !word, "word %lx", (unsigned long)block_of(p, 0)->word);
		usleep(1000);
	}
	CHECK(theirs[0].news == n, "in the middle of a call");
	c.spin.go = 1;
	pthread_join(c.thread, NULL);
	CHECK_IS(c.r.status, 0);
	CHECK_IS(c.r.result, proc == N_SPIN ? 4711 : 4712);
	CHECK(wait_u64(&theirs[0].news, n + 1), "not after a call, either");
	CHECK_IS(block_of(p, 0)->news, 0);
}

static void news_wait(void)
{
	struct rpal_wait wait = { .size = sizeof(wait), .flags = 4, .fd = -1 };
	struct call_peer p;
	u32 pkru = pkru_read();
	u64 n, told = 0;
	int i;

	test_begin("news end a wait");
	call_peer_new(&p, "news", 2);
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_WAIT, &wait), EINVAL);
	theirs = (void *)(intptr_t)raw_call(p.id, N_STATE, NULL, 0).result;
	pkru_write(pkru_open(p.id));
	wait_for_state(&p, 0, RPAL_ST_WAIT);
	/* There before the wait has begun: none to wake. */
	theirs[0].hold = 1;
	CHECK(tell(&p, 0), "it has waited");
	CHECK(wait_u64(&theirs[0].news, 1), "no end");
	CHECK_IS(theirs[0].bits, RPAL_NEWS_MESSAGE);
	CHECK(!tell(&p, 0), "word %lx", (unsigned long)block_of(&p, 0)->word);
	CHECK_IS(theirs[0].news, 1);
	theirs[0].hold = 0;
	CHECK(wait_u64(&theirs[0].news, 2), "no end");
	/* Exactly when it begins, or ends. */
	for (i = 0; i < 4000 * factor; i++) {
		n = theirs[0].news;
		told += tell(&p, 0);
		if (!CHECK(wait_u64(&theirs[0].news, n + 1), "round %d", i))
			break;
	}
	printf("  %d rounds, %d of them with a wake-up\n", i, (int)told);
	test_end();

	test_begin("a wait that was not asked to end with news");
	wait_for_state(&p, 1, RPAL_ST_WAIT);
	n = theirs[1].waits;
	for (i = 0; i < 20; i++) {
		tell(&p, 1);
		usleep(1000);
	}
	CHECK_IS(theirs[1].waits, n);
	CHECK_IS(theirs[1].news, 0);
	CHECK_IS(block_of(&p, 1)->word, RPAL_ST_WAIT);
	test_end();

	test_begin("a wake-up without news");
	n = theirs[0].waits;
	for (i = 0; i < 20; i++) {
		struct rpal_wake wake = { .size = sizeof(wake), .tid = RPAL_TID(p.id, 0) };

		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_WAKE, &wake), 0);
		usleep(1000);
	}
	CHECK_IS(theirs[0].waits, n);
	test_end();

	test_begin("news in a call wait for its end");
	for (i = 0; i < 20; i++) {
		news_in_call(&p, N_SPIN, 0);
		news_in_call(&p, N_LAZY, RPAL_ST_LAZY);
	}
	CHECK_IS(theirs[0].odd, 0);
	CHECK_IS(theirs[1].odd, 0);
	pkru_write(pkru);
	call_peer_end(&p);
	test_end();
}

/* ------------------------------------------------------ calls without answer */

static void async_calls(void)
{
	struct rpal_reply reply = { .size = sizeof(reply) };
	struct rpal_block *own = myself()->block;
	struct call_peer p;
	struct tramp_ret r;
	struct spin s;
	int i;

	test_begin("a call without answer goes on when it was handed over");
	call_peer_new(&p, "server", 1);
	for (i = 0; i < 200 * factor; i++) {
		s = (struct spin){};
		own->flags = RPAL_BLOCK_ASYNC;
		r = raw_call(p.id, P_LAZY, &s, sizeof(s));
		CHECK_IS(r.status, RPAL_CALL_LAZY);
		CHECK_IS(own->callee, 0);
		CHECK(s.begun < 2, "it has waited");
		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_AWAIT_REPLY, &reply), EINVAL);
		/* Nothing is taken for an answer to another call. */
		s.go = 1;
		own->flags = 0;
		CHECK_IS(call_result(&p, P_GETPID, NULL, 0, 0), p.child.pid);
		if (!CHECK(s.begun == 2, "round %d: it has not run to its end", i))
			break;
	}
	test_end();

	test_begin("a call without answer that needs no kernel has one");
	own->flags = RPAL_BLOCK_ASYNC;
	r = raw_call(p.id, P_TID, NULL, 0);
	CHECK_IS(r.status, 0);
	CHECK(r.result > 0, "%ld", r.result);
	own->flags = 0;
	test_end();

	test_begin("the receiver of a call without answer is killed");
	s = (struct spin){};
	own->flags = RPAL_BLOCK_ASYNC;
	r = raw_call(p.id, P_LAZY, &s, sizeof(s));
	own->flags = 0;
	CHECK_IS(r.status, RPAL_CALL_LAZY);
	CHECK(call_wait_for(&s.begun, 1), "it does not run");
	call_peer_end(&p);
	CHECK_IS(own->callee, 0);
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_AWAIT_REPLY, &reply), EINVAL);
	CHECK_IS(call_error(&p, P_GETPID, NULL, 0), -EPIPE);
	/* One thread only, in its procedure. */
	call_peer_new(&p, "server", 2);
	own->flags = RPAL_BLOCK_ASYNC;
	r = raw_call(p.id, P_EXIT_THREAD, NULL, 0);
	own->flags = 0;
	CHECK(r.status == RPAL_CALL_LAZY, "%ld", r.status);
	CHECK_IS(own->callee, 0);
	CHECK_IS(call_result(&p, P_GETPID, NULL, 0, 0), p.child.pid);
	call_peer_end(&p);
	test_end();
}

static void async_chains(void)
{
	struct rpal_block *own = myself()->block;
	struct call_peer b, c;
	struct relay relay;
	struct tramp_ret r;
	int id;

	test_begin("calls without answer in chains");
	call_peer_new(&b, "server", 1);
	call_peer_new(&c, "server", 1);
	id = call_result(&b, P_CONNECT, c.path, strlen(c.path) + 1, 0);
	CHECK_IS(id, c.id);
	/* The one in the middle goes on, its caller gets its answer. */
	relay = (struct relay){ .id = c.id, .async = true };
	CHECK_IS(call_result(&b, P_RELAY, &relay, sizeof(relay), RPAL_CALL_GRANT_WRITE),
		 RPAL_CALL_LAZY);
	CHECK_IS(relay.done, 1);
	/* The caller goes on, the one in the middle gets its answer. */
	relay = (struct relay){ .id = c.id, .spin.go = 1 };
	own->flags = RPAL_BLOCK_ASYNC;
	r = raw_call(b.id, P_RELAY, &relay, sizeof(relay));
	own->flags = 0;
	CHECK_IS(r.status, RPAL_CALL_LAZY);
	CHECK_IS(own->callee, 0);
	CHECK(call_wait_for(&relay.done, 1), "it does not end");
	/* Both. */
	relay = (struct relay){ .id = c.id, .async = true };
	own->flags = RPAL_BLOCK_ASYNC;
	r = raw_call(b.id, P_RELAY, &relay, sizeof(relay));
	own->flags = 0;
	CHECK_IS(r.status, RPAL_CALL_LAZY);
	CHECK(call_wait_for(&relay.done, 1), "it does not end");
	CHECK_IS(call_result(&b, P_GETPID, NULL, 0, 0), b.child.pid);
	CHECK_IS(call_result(&c, P_GETPID, NULL, 0, 0), c.child.pid);
	call_peer_end(&c);
	call_peer_end(&b);
	test_end();
}

static volatile bool flip;

static void *flip_thread(void *arg)
{
	struct rpal_block *b = arg;

	while (flip) {
		b->flags = ~0U;
		test_pause();
		b->flags = 0;
		if (test_random() % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* Whatever it says when: either there is an answer or there is none. */
static void async_flips(void)
{
	struct rpal_block *own = myself()->block;
	int i, sent = 0, answered = 0;
	struct call_peer p;
	struct tramp_ret r;
	pthread_t thread;

	test_begin("flags that change all the time");
	call_peer_new(&p, "server", 2);
	flip = true;
	MUST(!pthread_create(&thread, NULL, flip_thread, own));
	for (i = 0; i < 1000 * factor || ((!sent || !answered) && i < 100000); i++) {
		r = raw_call(p.id, P_GETPID, NULL, 0);
		if (r.status == RPAL_CALL_LAZY) {
			sent++;
			continue;
		}
		answered++;
		if (!CHECK(!r.status && r.result == p.child.pid && !own->callee, "%ld, %ld",
			   r.status, r.result))
			break;
	}
	flip = false;
	pthread_join(thread, NULL);
	own->flags = 0;
	printf("  %d answered, %d not\n", answered, sent);
	CHECK(sent && answered, "%d, %d", sent, answered);
	call_peer_end(&p);
	test_end();
}

/* ------------------------------------------------------- recovery points */

static int alarms, alarm_odd, alarm_peer, alarm_pid;

static void on_alarm(int sig)
{
	struct guarded g = {};
	int saved = errno;
	int64_t r;

	(void)sig;
	/* On a slow machine it may come before the recovery point is set. */
	if (!myself()->block->callee)
		return;
	/* Its own calls leave the interrupted one's recovery point alone. */
	if (rpal_call(alarm_peer, P_GETPID, NULL, 0, &r) || r != alarm_pid)
		alarm_odd++;
	if (rpal_state.tramp->guard(myself()->block, touch, &g, 0) != -EBUSY)
		alarm_odd++;
	alarms++;
	errno = saved;
}

/* Until there were some signals. */
static int64_t await_alarms(void *arg)
{
	struct guarded *g = arg;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (__atomic_load_n(&alarms, __ATOMIC_RELAXED) < 20 && test_now_ns() < end)
		g->touched += *(volatile u64 *)g->addr == 0;
	return 5;
}

/* What a handler sees of it: nothing was recovered. */
static int64_t fault_at_own(void *arg)
{
	u64 v;

	return test_load(arg, &v);
}

static int64_t peers_word(void *arg)
{
	return test_store(arg, 1);
}

static bool log_has(const char *what)
{
	static char log[1 << 20];
	int n = klogctl(3, log, sizeof(log) - 1);

	log[n < 0 ? 0 : n] = 0;
	return strstr(log, what);
}

static void guards(void)
{
	long before = test_file_value(STATS, "guards_recovered"), n = 0;
	struct itimerval it = { { 0, 3000 }, { 0, 3000 } }, off = {};
	struct call_peer p;
	struct guarded g;
	char line[64];
	void *own;
	int i;

	test_begin("a recovery point that is not needed");
	call_peer_new(&p, "server", 1);
	g = (struct guarded){ .id = p.id, .addr = server_map(&p) };
	for (i = 0; i < 200; i++) {
		g.store = i % 2;
		g.syscall = i % 3 == 0;
		if (!IS(guard(&g), 5))
			break;
	}
	CHECK_IS(g.touched, 200);
	test_end();

	test_begin("signal handlers meanwhile");
	alarm_peer = p.id;
	alarm_pid = p.child.pid;
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &it, NULL);
	CHECK_IS(guard_with(await_alarms, &g, pkru_open(p.id)), 5);
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_DFL);
	CHECK(alarms >= 20, "%d", alarms);
	CHECK_IS(alarm_odd, 0);
	test_end();

	test_begin("own faults are as ever");
	own = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(guard_with(fault_at_own, (void *)16, 0), SIGSEGV);
	CHECK_IS(test_fault.addr, 16);
	CHECK_IS(guard_with(peers_word, own, 0), SIGSEGV);
	CHECK_IS(test_fault.code, SEGV_ACCERR);
	MUST(!munmap(own, PAGE));
	CHECK_IS(guard_with(fault_at_own, own, 0), SIGSEGV);
	CHECK_IS(test_fault.addr, (u64)own);
	CHECK_IS(guard_with(fault_at_own, (void *)0x8000000000001000, 0), SIGSEGV);
	CHECK_IS(myself()->block->callee, 0);
	test_end();

	test_begin("a peer's memory that cannot be accessed");
	/* Nobody handles it: the kernel would say so. */
	signal(SIGSEGV, SIG_DFL);
	CHECK_IS(server_sys(&p, SYS_munmap, g.addr, PAGE, 0, 0, 0, 0), 0);
	for (i = 0; i < 300; i++, n++) {
		g.syscall = i % 3 == 0;
		g.store = i % 2;
		if (!IS(guard(&g), -EFAULT))
			break;
	}
	g.addr = server_map(&p);
	CHECK_IS(guard(&g), 5);
	CHECK_IS(server_sys(&p, SYS_mprotect, g.addr, PAGE, PROT_READ, 0, 0, 0), 0);
	CHECK_IS(guard_with(peers_word, (void *)g.addr, pkru_open(p.id)), -EFAULT);
	n++;
	if (test_have_pkeys()) {
		/* There, but closed. */
		CHECK_IS(guard_with(fault_at_own, (void *)g.addr, pkru_read()), -EFAULT);
		n++;
	}
	/* A slot that is nobody's. */
	own = (void *)((rpal_state.slot == 254 ? 253UL : 254UL) << RPAL_SLOT_SHIFT | 8);
	CHECK_IS(guard_with(fault_at_own, own, 0), -EFAULT);
	n++;
	snprintf(line, sizeof(line), "[%d]: segfault at", getpid());
	CHECK(!log_has(line), "the log has: %s", line);
	test_catch_faults();
	CHECK_IS(test_file_value(STATS, "guards_recovered"), before + n);
	CHECK_IS(call_result(&p, P_GETPID, NULL, 0, 0), p.child.pid);
	call_peer_end(&p);
	test_end();
}

/* Something is done to a peer in a thread of its own, some time from now. */
struct doing {
	pthread_t thread;
	struct call_peer *peer;
	u64 addr;
	unsigned int delay;
	int what;
};

enum { UNMAP, RELEASE, KILL, DOINGS };

static void *doing_thread(void *arg)
{
	struct doing *d = arg;
	struct rpal_request req = { .size = sizeof(req) };
	struct rpal_link link;

	usleep(d->delay);
	switch (d->what) {
	case UNMAP:
		CHECK_IS(server_sys(d->peer, SYS_munmap, d->addr, PAGE, 0, 0, 0, 0), 0);
		break;
	case RELEASE:
		MUST(!rpal_link_get(d->peer->id, &link));
		req.key = link.key;
		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_RELEASE, &req), 0);
		break;
	case KILL:
		kill(d->peer->child.pid, SIGKILL);
		break;
	}
	return NULL;
}

static void vanish(int what, int rounds)
{
	static const char *const names[DOINGS] = { "unmaps it", "is unlinked", "is killed" };
	struct call_peer p;
	struct doing d;
	u64 touched = 0;
	int i;

	test_begin("a peer %s at any moment, %d times", names[what], rounds);
	signal(SIGSEGV, SIG_DFL);
	for (i = 0; i < rounds; i++) {
		struct guarded g = { .loop = true, .store = i % 2 };
		int64_t r;

		if (!i || what != UNMAP)
			call_peer_new(&p, "server", 1);
		g.id = p.id;
		g.addr = server_map(&p);
		d = (struct doing){ .peer = &p, .addr = g.addr, .what = what };
		d.delay = test_random() % 3000;
		MUST(!pthread_create(&d.thread, NULL, doing_thread, &d));
		r = guard(&g);
		pthread_join(d.thread, NULL);
		touched += g.touched;
		if (what != UNMAP)
			call_peer_end(&p);
		if (!CHECK(r == -EFAULT, "round %d: %ld", i, r))
			break;
	}
	if (what == UNMAP)
		call_peer_end(&p);
	test_catch_faults();
	printf("  touched %lu times\n", (unsigned long)touched);
	test_end();
}

/* A recovery point of called code. */
static void nested_guards(void)
{
	void *mine = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct call_peer b, c;
	struct guarded g = {};
	long lazy;
	int i;

	test_begin("in a procedure: its caller's memory");
	call_peer_new(&b, "server", 1);
	g.id = b.id;
	g.addr = (uintptr_t)mine;
	*(u64 *)mine = 4711;
	CHECK_IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), 5);
	CHECK_IS(g.value, 4711);
	MUST(!munmap(mine, PAGE));
	lazy = test_file_value(STATS, "lazy_fault");
	for (i = 0; i < 300; i++) {
		g.store = i % 2;
		/* First on our own task, then on its own. */
		g.syscall = i % 3 == 0;
		if (!IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), -EFAULT))
			break;
	}
	CHECK_IS(test_file_value(STATS, "lazy_fault"), lazy);
	CHECK_IS(call_result(&b, P_GETPID, NULL, 0, 0), b.child.pid);
	test_end();

	test_begin("in a procedure: memory of somebody whom its caller does not know");
	call_peer_new(&c, "server", 1);
	CHECK_IS(call_result(&b, P_CONNECT, c.path, strlen(c.path) + 1, 0), c.id);
	g = (struct guarded){ .id = c.id, .addr = server_map(&c) };
	CHECK_IS(server_sys(&c, SYS_getpid, 0, 0, 0, 0, 0, 0), c.child.pid);
	for (i = 0; i < 50; i++) {
		g.syscall = i % 2;
		if (!IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), 5))
			break;
	}
	/* We do not know it any more. */
	{
		struct rpal_request req = { .size = sizeof(req) };
		struct rpal_link link;

		CHECK_IS(server_sys(&c, SYS_munmap, g.addr, PAGE, 0, 0, 0, 0), 0);
		CHECK_IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), -EFAULT);
		g.addr = server_map(&c);
		MUST(!rpal_link_get(c.id, &link));
		req.key = link.key;
		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_RELEASE, &req), 0);
	}
	g.syscall = false;
	lazy = test_file_value(STATS, "lazy_fault");
	CHECK_IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), 5);
	CHECK_IS(test_file_value(STATS, "lazy_fault"), lazy + 1);
	call_peer_end(&c);
	for (i = 0; i < 20; i++)
		CHECK_IS(call_result(&b, P_GUARD, &g, sizeof(g), RPAL_CALL_GRANT_WRITE), -EFAULT);
	CHECK_IS(call_result(&b, P_GETPID, NULL, 0, 0), b.child.pid);
	call_peer_end(&b);
	test_end();
}

/* ----------------------------------------------------------- peers' sockets */

/* The number, or a negative errno. */
static int peer_fd(int id, int fd)
{
	struct rpal_peer_fd p = { .size = sizeof(p), .id = id, .fd = fd, .peer_fd = -1 };

	return ioctl(rpal_state.fd, RPAL_IOC_PEER_FD, &p) ? -errno : p.peer_fd;
}

static struct sockaddr_un address;
static socklen_t address_len;

/* A listening socket in a server. */
static int server_listen(struct call_peer *p, int type)
{
	static int n;
	int fd = server_sys(p, SYS_socket, AF_UNIX, type, 0, 0, 0, 0);

	address.sun_family = AF_UNIX;
	address_len = offsetof(struct sockaddr_un, sun_path) + 1 +
		      snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1,
			       "call-messages-%d", n++);
	CHECK(fd >= 0, "%d", fd);
	CHECK_IS(server_sys(p, SYS_bind, fd, (u64)&address, address_len, 0, 0, 0), 0);
	CHECK_IS(server_sys(p, SYS_listen, fd, 5, 0, 0, 0, 0), 0);
	return fd;
}

static int connect_there(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	CHECK_ERR(connect(fd, (struct sockaddr *)&address, address_len), 0);
	return fd;
}

static long server_close(struct call_peer *p, int fd)
{
	return server_sys(p, SYS_close, fd, 0, 0, 0, 0, 0);
}

/* While the peer is accepting: it is either not yet, or there. */
static void accept_races(struct call_peer *p, int listening)
{
	long args[] = { SYS_accept, listening, 0, 0, 0, 0, 0 };
	struct call_thread c;
	int i, fd, r, again = 0;

	for (i = 0; i < 200 * factor; i++) {
		call_begin(&c, p, P_SYSCALL, args, sizeof(args));
		fd = connect_there(SOCK_STREAM);
		while ((r = peer_fd(p->id, fd)) == -EAGAIN)
			again++;
		CHECK_IS(call_join(&c), 0);
		if (!CHECK(r == c.result, "round %d: %d, not %ld", i, r, c.result))
			break;
		close(fd);
		CHECK_IS(server_close(p, c.result), 0);
	}
	printf("  %d rounds, %d times not yet\n", i, again);
}

static void peer_fd_refusals(struct call_peer *a)
{
	struct rpal_peer_fd bad = { .size = sizeof(bad), .id = a->id, .flags = 1 };
	struct rpal_peer_of of = { .size = sizeof(of), .flags = 1 };
	int fd, sv[2], pipes[2];

	CHECK_IS(peer_fd(a->id, 1000), -EBADF);
	CHECK_IS(peer_fd(a->id, -1), -EBADF);
	MUST(!pipe(pipes));
	CHECK_IS(peer_fd(a->id, pipes[0]), -ENOTSOCK);
	close(pipes[0]);
	close(pipes[1]);
	MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	CHECK_IS(peer_fd(a->id, sv[0]), -EPROTONOSUPPORT);
	close(sv[0]);
	close(sv[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd >= 0)
		CHECK_IS(peer_fd(a->id, fd), -EPROTONOSUPPORT);
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_IS(peer_fd(a->id, fd), -ENOTCONN);
	close(fd);
	MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_IS(peer_fd(a->id, sv[0]), -EREMOTE);
	CHECK_IS(peer_fd(rpal_state.id, sv[0]), -ESRCH);
	CHECK_IS(peer_fd(0, sv[0]), -ESRCH);
	CHECK_IS(peer_fd(255, sv[0]), -ESRCH);
	CHECK_IS(peer_fd(-1, sv[0]), -ESRCH);
	bad.fd = sv[0];
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_PEER_FD, &bad), EINVAL);
	bad.flags = 0;
	bad.reserved = 1;
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_PEER_FD, &bad), EINVAL);
	bad.reserved = 0;
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_PEER_OF, &of), EINVAL);
	of.flags = 0;
	fd = test_open();
	CHECK_ERR(ioctl(fd, RPAL_IOC_PEER_FD, &bad), ENXIO);
	CHECK_ERR(ioctl(fd, RPAL_IOC_PEER_OF, &of), ENXIO);
	close(fd);
	close(sv[0]);
	close(sv[1]);
}

static void peer_fds(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
	int i, listening, fd, there, twice;
	struct call_peer a, b;

	test_begin("what a peer calls the other end");
	call_peer_new(&a, "server", 2);
	call_peer_new(&b, "server", 1);
	for (i = 0; i < 2; i++) {
		listening = server_listen(&a, types[i]);
		fd = connect_there(types[i]);
		CHECK_IS(peer_fd(a.id, fd), -EAGAIN);
		there = server_sys(&a, SYS_accept, listening, 0, 0, 0, 0, 0);
		CHECK(there >= 0, "%d", there);
		CHECK_IS(peer_fd(a.id, fd), there);
		CHECK_IS(peer_fd(b.id, fd), -EREMOTE);
		twice = server_sys(&a, SYS_dup, there, 0, 0, 0, 0, 0);
		CHECK_IS(peer_fd(a.id, fd), -ENOTUNIQ);
		CHECK_IS(server_close(&a, there), 0);
		CHECK_IS(peer_fd(a.id, fd), twice);
		CHECK_IS(server_close(&a, twice), 0);
		CHECK_IS(peer_fd(a.id, fd), -EREMOTE);
		close(fd);
		/* Never to be accepted. */
		fd = connect_there(types[i]);
		CHECK_IS(peer_fd(a.id, fd), -EAGAIN);
		CHECK_IS(server_close(&a, listening), 0);
		CHECK_IS(peer_fd(a.id, fd), -EREMOTE);
		close(fd);
	}
	test_end();

	test_begin("while it accepts");
	listening = server_listen(&a, SOCK_STREAM);
	accept_races(&a, listening);
	test_end();

	test_begin("refusals: sockets of peers");
	peer_fd_refusals(&a);
	/* The peer ends. */
	fd = connect_there(SOCK_STREAM);
	CHECK(server_sys(&a, SYS_accept, listening, 0, 0, 0, 0, 0) >= 0, "accept");
	CHECK(peer_fd(a.id, fd) >= 0, "accepted, but %d", peer_fd(a.id, fd));
	call_peer_end(&a);
	CHECK_IS(peer_fd(a.id, fd), -ESRCH);
	close(fd);
	call_peer_end(&b);
	test_end();
}

/* -------------------------------------------------------------- watched files */

/* 0, or a negative errno. */
static int watch(int fd)
{
	struct rpal_watch w = { .size = sizeof(w), .fd = fd };

	return ioctl(rpal_state.fd, RPAL_IOC_WATCH, &w) ? -errno : 0;
}

/* News since it was asked last. */
static u32 news_now(void)
{
	return __atomic_exchange_n(&myself()->block->news, 0, __ATOMIC_SEQ_CST);
}

static void put(int fd)
{
	u64 one = 1;

	MUST(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void take(int fd)
{
	u64 v;

	MUST(read(fd, &v, sizeof(v)) > 0);
}

static void watch_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int i, pipes[2], ep = epoll_create1(EPOLL_CLOEXEC);

	test_begin("input is news");
	MUST(ep >= 0 && !pipe(pipes));
	MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &ev));
	news_now();
	CHECK_IS(watch(ep), 0);
	CHECK_IS(news_now(), 0);
	for (i = 0; i < 20; i++) {
		put(pipes[1]);
		CHECK_IS(news_now(), RPAL_NEWS_EVENT);
		CHECK_IS(news_now(), 0);
		/* Whether what was there is taken or not. */
		if (i % 3 == 0) {
			CHECK_IS(epoll_wait(ep, &ev, 1, 0), 1);
			take(pipes[0]);
		}
	}
	CHECK_IS(watch(-1), 0);
	put(pipes[1]);
	CHECK_IS(news_now(), 0);
	close(ep);
	close(pipes[0]);
	close(pipes[1]);
	test_end();
}

static void watches(void)
{
	int event = eventfd(0, EFD_CLOEXEC), next = eventfd(0, EFD_CLOEXEC), other, sv[2];
	char byte = 1;

	test_begin("one file after the other");
	MUST(event >= 0 && next >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	news_now();
	/* There already. */
	put(event);
	CHECK_IS(watch(event), 0);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	CHECK_IS(watch(next), 0);
	CHECK_IS(news_now(), 0);
	put(event);
	CHECK_IS(news_now(), 0);
	put(next);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	/* An error changes nothing. */
	CHECK_IS(watch(1000), -EBADF);
	put(next);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	/* Closed, but still open elsewhere. */
	other = dup(next);
	close(next);
	put(other);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	CHECK_IS(watch(-1), 0);
	CHECK_IS(watch(-1), 0);
	put(other);
	CHECK_IS(news_now(), 0);
	/* Room to write is none, the end is some. */
	CHECK_IS(watch(sv[0]), 0);
	MUST(write(sv[0], &byte, 1) == 1);
	MUST(read(sv[1], &byte, 1) == 1);
	CHECK_IS(news_now(), 0);
	close(sv[1]);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	/* What others say there stays. */
	__atomic_store_n(&myself()->block->news, 0xf0, __ATOMIC_SEQ_CST);
	CHECK_IS(watch(other), 0);
	CHECK_IS(news_now(), 0xf0 | RPAL_NEWS_EVENT);
	CHECK_IS(watch(-1), 0);
	close(sv[0]);
	close(other);
	close(event);
	test_end();
}

static void *unregistered(void *arg)
{
	CHECK_IS(watch(*(int *)arg), -ENXIO);
	CHECK_IS(watch(-1), -ENXIO);
	return NULL;
}

static void watch_refusals(void)
{
	struct rpal_watch bad = { .size = sizeof(bad), .fd = -1, .flags = 1 };
	int fd, both, pipes[2];
	pthread_t thread;
	char path[64];

	test_begin("refusals: watched files");
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_WATCH, &bad), EINVAL);
	bad.flags = 0;
	bad.reserved = 1;
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_WATCH, &bad), EINVAL);
	bad.reserved = 0;
	fd = test_open();
	CHECK_ERR(ioctl(fd, RPAL_IOC_WATCH, &bad), ENXIO);
	CHECK_IS(watch(fd), -EPERM);
	close(fd);
	CHECK_IS(watch(rpal_state.fd), -EPERM);
	CHECK_IS(watch(1000), -EBADF);
	CHECK_IS(watch(-2), -EBADF);
	fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	CHECK_IS(watch(fd), -EPERM);
	close(fd);
	/* One queue for each direction. */
	MUST(!pipe(pipes));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pipes[0]);
	both = open(path, O_RDWR | O_CLOEXEC);
	MUST(both >= 0);
	CHECK_IS(watch(both), -EOPNOTSUPP);
	news_now();
	put(pipes[1]);
	CHECK_IS(news_now(), 0);
	MUST(!pthread_create(&thread, NULL, unregistered, &pipes[0]));
	pthread_join(thread, NULL);
	close(both);
	close(pipes[0]);
	close(pipes[1]);
	test_end();
}

static volatile bool stop;
static volatile int parked;

static void *hammer_thread(void *arg)
{
	int fd = *(int *)arg;
	u64 v;

	while (!stop) {
		put(fd);
		if (test_random() % 16 == 0 && read(fd, &v, sizeof(v)) < 0)
			sched_yield();
	}
	return NULL;
}

static int empty_signalfd(void)
{
	sigset_t none;

	sigemptyset(&none);
	return signalfd(-1, &none, SFD_CLOEXEC);
}

/* A thread that ends with what it watches, in one way or other. */
static void *watcher_thread(void *arg)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	int i, fd = *(int *)arg;

	myself();
	for (i = test_random() % 3; i >= 0; i--)
		CHECK_IS(watch(fd), 0);
	switch (test_random() % 4) {
	case 0:
		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_THREAD_EXIT), 0);
		CHECK_IS(watch(fd), -ENXIO);
		CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_THREAD, &t), 0);
		break;
	case 1:
		fd = empty_signalfd();
		CHECK_IS(watch(fd), 0);
		close(fd);
		break;
	case 2:
		/* Without destructors. */
		syscall(SYS_exit, 0);
	}
	return NULL;
}

/* One whose service ends meanwhile. */
static void *parked_thread(void *arg)
{
	int n;

	myself();
	CHECK_IS(watch(*(int *)arg), 0);
	n = __atomic_add_fetch(&parked, 1, __ATOMIC_RELEASE);
	/* Some try again and again. */
	while (parked > 0)
		if (n % 2)
			watch(*(int *)arg);
		else
			usleep(1000);
	return NULL;
}

/*
 * A task of this mm that is going to leave it is another process: a thread of its,
 * with what it watches, would stay behind.
 */
static void watch_and_exec(void)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	struct rpal_watch w = { .size = sizeof(w), .fd = empty_signalfd() };
	char *argv[] = { "call-messages", NULL };
	int status;
	pid_t pid;

	MUST(w.fd >= 0 && !setenv("RPAL_TEST_ROLE", "nothing", 1));
	pid = vfork();
	if (!pid) {
		if (!ioctl(rpal_state.fd, RPAL_IOC_THREAD, &t) || errno != EPERM)
			_exit(70);
		if (!ioctl(rpal_state.fd, RPAL_IOC_WATCH, &w) || errno != EPERM)
			_exit(72);
		execv("/proc/self/exe", argv);
		_exit(71);
	}
	MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(!status, "%s", test_status(status));
	unsetenv("RPAL_TEST_ROLE");
	close(w.fd);
}

static void watch_lives(void)
{
	int i, j, fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_t hammer, t[4];

	test_begin("threads and services end while their files are busy");
	MUST(fd >= 0);
	MUST(!pthread_create(&hammer, NULL, hammer_thread, &fd));
	for (i = 0; i < 60 * factor; i++) {
		for (j = 0; j < 4; j++)
			MUST(!pthread_create(&t[j], NULL, watcher_thread, &fd));
		for (j = 0; j < 4; j++)
			pthread_join(t[j], NULL);
	}
	for (i = 0; i < 20 * factor; i++) {
		for (j = 0; j < 4; j++)
			MUST(!pthread_create(&t[j], NULL, parked_thread, &fd));
		MUST(call_wait_for(&parked, 4));
		if (i % 4 == 0)
			watch_and_exec();
		rpal_exit();
		call_init(4);
		parked = 0;
		for (j = 0; j < 4; j++)
			pthread_join(t[j], NULL);
	}
	stop = true;
	pthread_join(hammer, NULL);
	stop = false;
	close(fd);
	test_end();
}

static int nothing_role(void)
{
	return 0;
}

/* ------------------------------------------------------------------ channels */

/* 0, or a negative errno. */
static int channel_at(int fd, int service, u32 *number)
{
	struct rpal_channel c = { .size = sizeof(c), .service = service };

	if (ioctl(fd, RPAL_IOC_CHANNEL, &c))
		return -errno;
	*number = c.number;
	return 0;
}

static int channel_new(u32 *number)
{
	int fd = test_open();

	CHECK_IS(channel_at(fd, rpal_state.fd, number), 0);
	return fd;
}

static int notify(u32 id, u32 number)
{
	struct rpal_notify n = { .size = sizeof(n), .id = id, .number = number };

	return rpal_ioctl(RPAL_IOC_NOTIFY, &n);
}

static long notify_by(struct call_peer *p, u32 id, u32 number)
{
	struct rpal_notify n = { .size = sizeof(n), .id = id, .number = number };

	return call_result(p, P_NOTIFY, &n, sizeof(n), 0);
}

static int events_of(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	MUST(poll(&p, 1, 0) >= 0);
	return p.revents;
}

/* Notices, or a negative errno. */
static long notices(int fd)
{
	u64 v = 0;
	long r = read(fd, &v, sizeof(v));

	return r == sizeof(v) ? (long)v : -errno;
}

struct notifier {
	struct call_peer *peer;
	u32 number;
};

static void *notify_later(void *arg)
{
	struct notifier *n = arg;

	usleep(test_random() % 20000);
	CHECK_IS(notify_by(n->peer, rpal_state.id, n->number), 0);
	return NULL;
}

static void channel_in_epoll(struct call_peer *p, int fd, u32 number)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct notifier n = { p, number };
	int i, ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_t thread;

	MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	for (i = 0; i < 20; i++) {
		CHECK_IS(epoll_wait(ep, &ev, 1, 0), 0);
		MUST(!pthread_create(&thread, NULL, notify_later, &n));
		CHECK_IS(epoll_wait(ep, &ev, 1, test_patience() * 1000), 1);
		pthread_join(thread, NULL);
		CHECK_IS(notices(fd), 1);
	}
	close(ep);
}

/* A channel of a server; its number. */
static u32 server_channel(struct call_peer *p)
{
	static const char dev[] = TEST_DEV;
	struct rpal_channel c = { .size = sizeof(c) };
	int fd = server_sys(p, SYS_open, (u64)dev, O_RDWR, 0, 0, 0, 0);

	CHECK(fd >= 0, "%d", fd);
	/* One of its files owns the service. */
	for (c.service = 3; !c.number && c.service < 100; c.service++)
		server_sys(p, SYS_ioctl, fd, RPAL_IOC_CHANNEL, (u64)&c, 0, 0, 0);
	CHECK(c.number, "no channel");
	return c.number;
}

static void notify_refusals(struct call_peer *a, struct call_peer *b)
{
	struct rpal_notify bad = { .size = sizeof(bad), .flags = 1 };
	u32 number;
	int fd;

	CHECK_IS(notify_by(a, rpal_state.id, 0), -ESRCH);
	CHECK_IS(notify_by(a, rpal_state.id, 1024), -ESRCH);
	CHECK_IS(notify_by(a, rpal_state.id, 1025), -ESRCH);
	CHECK_IS(notify_by(a, rpal_state.id, -1), -ESRCH);
	CHECK_IS(notify_by(a, 0, 1), -ESRCH);
	CHECK_IS(notify_by(a, 255, 1), -ESRCH);
	CHECK_IS(notify_by(a, -1, 1), -ESRCH);
	CHECK_ERR(ioctl(rpal_state.fd, RPAL_IOC_NOTIFY, &bad), EINVAL);
	bad.flags = 0;
	fd = test_open();
	CHECK_ERR(ioctl(fd, RPAL_IOC_NOTIFY, &bad), ENXIO);
	close(fd);
	/* We are linked with b, a is not. */
	number = server_channel(b);
	CHECK_IS(notify(b->id, number), 0);
	CHECK_IS(notify_by(a, b->id, number), -ESRCH);
	call_peer_end(b);
	CHECK_IS(notify(b->id, number), -ESRCH);
}

static void channels(void)
{
	u32 number = 0, second = 0;
	struct call_peer a, b;
	u64 pair[2] = {};
	int i, fd, fd2;

	test_begin("a channel becomes readable");
	call_peer_new(&a, "server", 1);
	call_peer_new(&b, "server", 1);
	fd = channel_new(&number);
	fd2 = channel_new(&second);
	CHECK(number >= 1 && second >= 1 && number != second, "%u, %u", number, second);
	CHECK_IS(events_of(fd), 0);
	CHECK_IS(notices(fd), -EAGAIN);
	for (i = 0; i < 3; i++)
		CHECK_IS(notify_by(&a, rpal_state.id, number), 0);
	CHECK_IS(notify(rpal_state.id, number), 0);
	CHECK_IS(events_of(fd), POLLIN);
	CHECK_IS(events_of(fd2), 0);
	CHECK_ERR(read(fd, pair, 7), EINVAL);
	CHECK_ERR(syscall(SYS_read, fd, 16, 8), EFAULT);
	CHECK_IS(read(fd, pair, sizeof(pair)), 8);
	CHECK_IS(pair[0], 4);
	CHECK_IS(events_of(fd), 0);
	CHECK_IS(notices(fd), -EAGAIN);
	channel_in_epoll(&a, fd, number);
	news_now();
	CHECK_IS(watch(fd), 0);
	CHECK_IS(notify_by(&b, rpal_state.id, number), 0);
	CHECK_IS(news_now(), RPAL_NEWS_EVENT);
	CHECK_IS(watch(-1), 0);
	close(fd);
	CHECK_IS(notify_by(&a, rpal_state.id, number), -ESRCH);
	CHECK_IS(notify_by(&a, rpal_state.id, second), 0);
	close(fd2);
	test_end();

	test_begin("whom one may notify");
	notify_refusals(&a, &b);
	call_peer_end(&a);
	test_end();
}

static void channel_refusals(void)
{
	struct rpal_channel c = { .size = sizeof(c), .service = rpal_state.fd, .flags = 1 };
	struct rpal_channel *ro =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = test_open(), other = test_open(), copy = dup(rpal_state.fd), status;
	u32 number;
	pid_t pid;

	test_begin("refusals: channels");
	CHECK_IS(events_of(fd), POLLERR);
	CHECK_IS(notices(fd), -ENXIO);
	CHECK_IS(notices(rpal_state.fd), -EINVAL);
	CHECK_ERR(ioctl(fd, RPAL_IOC_CHANNEL, &c), EINVAL);
	CHECK_IS(channel_at(fd, 1000, &number), -EBADF);
	CHECK_IS(channel_at(fd, TEST_FD_DRIVER, &number), -EINVAL);
	CHECK_IS(channel_at(fd, other, &number), -ENXIO);
	CHECK_IS(channel_at(rpal_state.fd, rpal_state.fd, &number), -EBUSY);
	/* Whose number cannot be told is none. */
	*ro = c;
	ro->flags = 0;
	MUST(!mprotect(ro, PAGE, PROT_READ));
	CHECK_ERR(ioctl(fd, RPAL_IOC_CHANNEL, ro), EFAULT);
	CHECK_IS(events_of(fd), POLLERR);
	CHECK_IS(channel_at(fd, rpal_state.fd, &number), 0);
	CHECK_IS(channel_at(fd, rpal_state.fd, &number), -EBUSY);
	fflush(stdout);
	pid = fork();
	if (!pid) /* the library closes what it has; this is a copy */
		_exit(channel_at(other, copy, &number) == -EPERM ? 0 : 1);
	status = test_wait(pid);
	CHECK(!status, "a child: %s", test_status(status));
	MUST(!munmap(ro, PAGE));
	close(fd);
	close(other);
	close(copy);
	test_end();
}

static void channel_ends(void)
{
	struct rlimit lim = { 2048, 2048 };
	int fds[1024], i, extra;
	u32 number;

	test_begin("1024 channels");
	MUST(!setrlimit(RLIMIT_NOFILE, &lim));
	for (i = 0; i < 1024; i++) {
		fds[i] = channel_new(&number);
		if (!CHECK(number >= 1 && number <= 1024, "%u", number))
			break;
	}
	extra = test_open();
	CHECK_IS(channel_at(extra, rpal_state.fd, &number), -ENOSPC);
	close(fds[500]);
	CHECK_IS(channel_at(extra, rpal_state.fd, &number), 0);
	CHECK_IS(notify(rpal_state.id, number), 0);
	CHECK_IS(notices(extra), 1);
	fds[500] = extra;
	for (i = 10; i < 1024; i++)
		close(fds[i]);
	test_end();

	test_begin("channels end with the service");
	CHECK_IS(events_of(fds[0]), 0);
	rpal_exit();
	for (i = 0; i < 10; i++) {
		CHECK_IS(events_of(fds[i]), POLLERR);
		CHECK_IS(notices(fds[i]), -ENXIO);
	}
	call_init(4);
	for (i = 0; i < 10; i++) {
		CHECK_IS(events_of(fds[i]), POLLERR);
		CHECK_IS(channel_at(fds[i], rpal_state.fd, &number), 0);
		CHECK_IS(notify(rpal_state.id, number), 0);
		CHECK_IS(notices(fds[i]), 1);
		close(fds[i]);
	}
	test_end();
}

static void *notify_thread(void *arg)
{
	u32 number;

	/* Of a service that comes and goes: how it ends is not said. */
	while (!stop)
		for (number = 1; number < 5; number++)
			notify(rpal_state.id, number);
	return arg;
}

static void channel_lives(void)
{
	int i, j, fd[4], ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	pthread_t thread;
	u32 number;

	test_begin("channels come and go while they are notified");
	MUST(!pthread_create(&thread, NULL, notify_thread, NULL));
	for (i = 0; i < 500 * factor; i++) {
		for (j = 0; j < 4; j++) {
			fd[j] = channel_new(&number);
			MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, fd[j], &ev));
		}
		epoll_wait(ep, &ev, 1, 1);
		if (i % 50 == 0) {
			rpal_exit();
			call_init(4);
		}
		for (j = 0; j < 4; j++)
			close(fd[j]);
	}
	stop = true;
	pthread_join(thread, NULL);
	stop = false;
	close(ep);
	test_end();
}

/* ------------------------------------------------------------------- driver */

static void begin_client(void)
{
	factor = atoi(test_arg);
	call_init(4);
}

static int news_client_role(void)
{
	begin_client();
	news_wait();
	return 0;
}

static int async_role(void)
{
	begin_client();
	async_calls();
	async_chains();
	async_flips();
	return 0;
}

static int guard_role(void)
{
	begin_client();
	guards();
	nested_guards();
	return 0;
}

static int vanish_role(void)
{
	begin_client();
	vanish(UNMAP, 300 * factor);
	vanish(RELEASE, 20 * factor);
	vanish(KILL, 40 * factor);
	return 0;
}

static int files_role(void)
{
	begin_client();
	peer_fds();
	return 0;
}

static int watch_role(void)
{
	begin_client();
	watch_epoll();
	watches();
	watch_refusals();
	watch_lives();
	return 0;
}

static int channel_role(void)
{
	begin_client();
	channels();
	channel_refusals();
	channel_ends();
	channel_lives();
	return 0;
}

static const struct test_role roles[] = { { "news", news_role },
					  { "server", server_role },
					  { "nothing", nothing_role },
					  { "news-client", news_client_role },
					  { "async", async_role },
					  { "guard", guard_role },
					  { "vanish", vanish_role },
					  { "files", files_role },
					  { "watch", watch_role },
					  { "channel", channel_role },
					  {} };

static void run(const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .group = "call", .arg = arg };
	struct test_child c;
	int status;

	MUST(!test_spawn(&c, &s));
	if (atoi(arg) > 1)
		MUST(waitpid(c.pid, &status, 0) == c.pid);
	else
		status = test_wait(c.pid);
	CHECK(!status, "%s: %s", role, test_status(status));
	close(c.sock);
}

int main(int argc, char **argv)
{
	const char *arg = argc > 1 ? argv[1] : "1";
	size_t i;

	test_init(argc, argv, roles);
	/* All that are clients. */
	for (i = 3; roles[i].name; i++)
		if (argc < 3 || !strcmp(argv[2], roles[i].name))
			run(roles[i].name, arg);
	return test_finish();
}
