// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory of peers that vanishes while it is touched: usage: stress-recovery N
 *
 * Four threads of one process read, write, copy and call, under recovery points
 * of all kinds, in each other and in signal handlers, until that were N. What they
 * touch belongs to services that unmap, protect and truncate it all the time, and
 * are killed or release the link at any moment; these call a procedure that touches
 * their memory, too. Each access must do what it should or say that it could not,
 * which it may only if there was reason to; and leave the thread as it was.
 */
#include "common-lazy.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define VICTIMS	  2
#define TOUCHERS  4
#define RECEIVERS 2
#define OFFSET	  (300 * GB) /* in the slot of each of them */
#define REGION	  (8 * PAGE)
#define MARK	  0x5eed5eed5eed5eedULL

/* What happens to memory. */
enum { STABLE, UNMAPPED, PROTECTED, TRUNCATED, REGIONS };

/* Procedures of the programs' own. */
enum { P_HELLO = DO_OWN, P_NOTHING, P_TOUCH };

/* How memory is touched. */
enum { BY_GUARD, BY_OPENING, BY_COPY, BY_NESTING, IN_HANDLER, IN_PROCEDURE, BY_CALL, WAYS };

/* Counts of the program's own. */
enum {
	GOOD,			 /* of each way: it was there */
	BAD = GOOD + WAYS,	 /* of each way: it was not */
	MISSED = BAD + WAYS,	 /* of each region: it was not there */
	BUSY = MISSED + REGIONS, /* calls of handlers that had interrupted one */
	KILLS,			 /* services that ended by a signal */
	RELEASES,		 /* and by releasing the link */
	CUT,			 /* second returns of rpal_copy_prepare() */
	USED,			 /* of each victim: latest generation that was touched */
	ENDED = USED + VICTIMS,	 /* latest one that may have ended */
	NR_COUNTS = ENDED + VICTIMS,
};

_Static_assert(NR_COUNTS <= LAZY_COUNTS, "counts");

static u64 region_at(int id, int region)
{
	return ((u64)id << RPAL_SLOT_SHIFT) + OFFSET + region * GB;
}

/* What is at an address; never 0. */
static u64 pattern(u64 addr)
{
	return addr * 0x9e3779b97f4a7c15ULL | 1;
}

static bool pattern_ok(u64 addr, u64 value)
{
	return value == pattern(addr) || (!value && (addr - OFFSET) >> 30 & 3);
}

/* ------------------------------------------------------------------- victims */

static int own_number, reader;
static long own_generation;
static uint64_t reader_key;
static int file;

static int64_t p_hello(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)len, (void)ctx;
	reader_key = *(uint64_t *)arg;
	__atomic_store_n(&reader, caller->service_id, __ATOMIC_RELEASE);
	return own_generation;
}

static int64_t p_nothing(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return MARK;
}

static void fill(u64 at)
{
	u64 addr;

	for (addr = at; addr < at + REGION; addr += 8)
		*(volatile u64 *)addr = pattern(addr);
}

static void map(int region)
{
	bool shared = region == TRUNCATED;
	u64 at = region_at(rpal_get_service_id(), region);
	void *p = mmap((void *)at, REGION, PROT_READ | PROT_WRITE,
		       MAP_FIXED_NOREPLACE | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS),
		       shared ? file : -1, 0);

	MUST((u64)p == at);
	fill(at);
}

static void nap(void)
{
	usleep(test_random() % 400);
}

static void spoil(int region)
{
	u64 at = region_at(rpal_get_service_id(), region);

	switch (region) {
	case UNMAPPED:
		MUST(!munmap((void *)at, REGION));
		nap();
		map(region);
		break;
	case PROTECTED:
		MUST(!mprotect((void *)at, REGION, test_random() % 2 ? PROT_NONE : PROT_READ));
		nap();
		MUST(!mprotect((void *)at, REGION, PROT_READ | PROT_WRITE));
		break;
	case TRUNCATED:
		MUST(!ftruncate(file, test_random() % 2 * PAGE));
		if (test_random() % 2)
			MUST(!madvise((void *)at, REGION, MADV_DONTNEED));
		nap();
		MUST(!ftruncate(file, REGION));
		fill(at);
		break;
	}
}

/* Calls a procedure that touches our memory, until there is nobody to call. */
static void *pester(void *unused)
{
	int err, id = rpal_get_service_id();
	int64_t r;
	u64 at;

	lazy_thread(false);
	do {
		at = region_at(id, test_random() % REGIONS) + test_random() % (REGION / 8) * 8;
		r = -1;
		err = lazy_call_checked(reader, P_TOUCH, (void *)at, 8, &r, 0);
		if (!err && r != GOOD && r != BAD)
			lazy_bad("touched in a procedure: %ld", (long)r);
		if (lazy_random() % 2)
			nap();
	} while (!err);
	/* The last one: when it was us who released it. */
	if (err != -EPIPE && err != -ECONNREFUSED && err != -ESRCH)
		lazy_bad("call of the reader: %d: %s", err, rpal_last_error());
	return unused;
}

static int victim_role(void)
{
	int i, fd, sock, left;
	char name[40];
	pthread_t t;

	MUST(sscanf(test_arg, "%d %ld", &own_number, &own_generation) == 2);
	lazy_init(2 + own_number, RECEIVERS);
	MUST(!rpal_export(P_HELLO, p_hello, NULL) && !rpal_export(P_NOTHING, p_nothing, NULL));
	file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	MUST(file >= 0 && !ftruncate(file, REGION));
	for (i = 0; i < REGIONS; i++)
		map(i);
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&t, lazy_receiver, NULL);
	lazy_name(name, sizeof(name), "v", own_number);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	while (rpal_accept(fd, -1, &sock) < 0)
		;
	while (!__atomic_load_n(&reader, __ATOMIC_ACQUIRE))
		usleep(300);
	lazy_start(&t, pester, NULL);
	left = test_random() % 3 ? INT_MAX : test_random() % 40;
	while (left--) {
		nap();
		spoil(1 + test_random() % (REGIONS - 1));
	}
	/* Or it ends so; to be killed later. */
	__atomic_store_n(&lazy->count[ENDED + own_number], own_generation, __ATOMIC_SEQ_CST);
	LAZY_ADD(lazy->count[RELEASES]);
	rpal_release_service(reader_key);
	for (;;)
		pause();
}

/* -------------------------------------------------------------------- reader */

/* Who is to be touched: generation, above the id. */
static u64 target[VICTIMS];

/* One word of somebody's memory. */
struct spot {
	int victim;
	int id;
	int region;
	long generation;
	u64 addr;
};

static __thread u64 mark; /* reached by the FS base */
static __thread bool ending;
static __thread stack_t alternate;
static __thread u32 handler_seed;

static bool pick(struct spot *s, u32 n)
{
	u64 t = __atomic_load_n(&target[n % VICTIMS], __ATOMIC_ACQUIRE);

	s->victim = n % VICTIMS;
	s->id = t & 0xffff;
	s->generation = t >> 16;
	s->region = n >> 4 & 3;
	s->addr = region_at(s->id, s->region) + (n >> 8) % (REGION / 8) * 8;
	return t;
}

static bool may_have_ended(const struct spot *s)
{
	return __atomic_load_n(&lazy->count[ENDED + s->victim], __ATOMIC_SEQ_CST) >= s->generation;
}

static void good(const struct spot *s, int way, u64 value)
{
	if (!pattern_ok(s->addr, value))
		lazy_bad("way %d, region %d: at %lx there is %lx", way, s->region, (long)s->addr,
			 (long)value);
	LAZY_ADD(lazy->count[GOOD + way]);
	if (lazy->count[USED + s->victim] < s->generation)
		lazy->count[USED + s->victim] = s->generation;
}

/* It could not be touched: was there a reason? */
static void missed(const struct spot *s, int way)
{
	if (s->region == STABLE && !may_have_ended(s))
		lazy_bad("way %d: service %d is alive, but its memory is not there: %s", way, s->id,
			 rpal_last_error());
	LAZY_ADD(lazy->count[BAD + way]);
	LAZY_ADD(lazy->count[MISSED + s->region]);
}

/* A call did not come about, or its link is not there. */
static void not_linked(const struct spot *s, int way, long err)
{
	bool known = !err || err == -EPIPE || err == -ESRCH || err == -ENOTCONN ||
		     err == -ECONNREFUSED;

	/* A handler in a thread that the library has given up. */
	if (ending && err == -ENXIO)
		return;
	if (!known || !may_have_ended(s))
		lazy_bad("way %d: service %d has %sended: %ld: %s", way, s->id,
			 may_have_ended(s) ? "" : "not ", err, rpal_last_error());
	LAZY_ADD(lazy->count[BAD + way]);
}

static bool call_nothing(const struct spot *s, unsigned int flags)
{
	int64_t r = 0;
	int err = rpal_call_flags(s->id, P_NOTHING, NULL, 0, &r, flags);

	if (!err) {
		if ((u64)r != MARK)
			lazy_bad("a call of nothing returns %lx", (long)r);
		LAZY_ADD(lazy->count[GOOD + BY_CALL]);
		return true;
	}
	if (err == -EAGAIN && flags & RPAL_CALL_NOWAIT)
		return false;
	not_linked(s, BY_CALL, err);
	return false;
}

static int touch(va_list args)
{
	volatile u64 *at = va_arg(args, u64 *);
	u64 *value = va_arg(args, u64 *);
	bool store = va_arg(args, int);

	if (store)
		*at = pattern((u64)at);
	*value = *at;
	return 4711;
}

/* Memory that is open, under a recovery point of its own. */
static bool touch_guarded(const struct spot *s, int way, bool store)
{
	u64 value = 0;
	int ret = 0;

	if (rpal_read_access_safety(touch, &ret, (u64 *)s->addr, &value, (int)store)) {
		missed(s, way);
		return false;
	}
	if (ret != 4711)
		lazy_bad("way %d: returned %d", way, ret);
	good(s, way, value);
	return true;
}

static void closed(void)
{
	if (rpal_copy_finish())
		lazy_bad("finish: %s", rpal_last_error());
}

static void by_guard(const struct spot *s, bool store)
{
	volatile bool cut = false;

	if (rpal_copy_prepare(s->id)) {
		if (cut)
			lazy_bad("a fault under a recovery point has led to another one");
		not_linked(s, BY_GUARD, 0);
		return;
	}
	cut = true;
	touch_guarded(s, BY_GUARD, store);
	closed();
}

/* What has begun before a second return; and is found as it was, though a fault came. */
enum { CLOSED, OPEN, BOTH_OPEN };

static void cut(const struct spot *s)
{
	if (!rpal_copy_finish())
		lazy_bad("something is open behind the second return");
	LAZY_ADD(lazy->count[CUT]);
	missed(s, BY_OPENING);
}

/* Just so, with calls and recovery points in between; comes back to the beginning. */
static void by_opening(const struct spot *s, const struct spot *other, u32 n)
{
	volatile int state = CLOSED;
	u64 value = 0;
	int i;

	if (rpal_copy_prepare(s->id)) {
		if (state == OPEN)
			cut(s);
		else
			not_linked(s, BY_OPENING, 0);
		return;
	}
	state = OPEN;
	if (n & 1) {
		/* From then on it is this one that returns. */
		if (!rpal_copy_prepare(other->id)) {
			state = BOTH_OPEN;
		} else if (state == BOTH_OPEN) {
			cut(s);
			return;
		}
	}
	for (i = 0; i < 8; i++) {
		if (n & 2)
			*(volatile u64 *)s->addr = pattern(s->addr);
		value = *(volatile u64 *)s->addr;
		if (i == 2)
			call_nothing(s, RPAL_CALL_NOWAIT);
		if (i == 4)
			touch_guarded(s, BY_GUARD, false);
	}
	closed();
	good(s, BY_OPENING, value);
}

static void by_copy(const struct spot *s, int way)
{
	struct rpal_buffer b = { .addr = (void *)s->addr, .len = 8 };
	u64 value = 0;
	int64_t n = rpal_copy_buffer(s->id, &value, &b, 0, 8);

	if (n == 8)
		good(s, way, value);
	else if (n == -EFAULT)
		missed(s, way);
	else
		not_linked(s, way, n);
}

/* A recovery point in a recovery point, twice, and a call. */
static int outer(va_list args)
{
	const struct spot *s = va_arg(args, const struct spot *);
	const struct spot *other = va_arg(args, const struct spot *);
	volatile int *at = va_arg(args, int *);
	u64 *value = va_arg(args, u64 *);

	*at = 1;
	by_copy(other, BY_COPY);
	call_nothing(other, 0);
	*at = 2;
	*value = *(volatile u64 *)s->addr;
	*at = 3;
	touch_guarded(s, BY_NESTING, false);
	by_copy(other, BY_COPY);
	*at = 4;
	*value = *(volatile u64 *)s->addr;
	*at = 5;
	return 4712;
}

static void by_nesting(const struct spot *s, const struct spot *other)
{
	volatile int at = 0;
	int ret = 0;
	u64 value = 0;

	if (rpal_copy_prepare(s->id)) {
		if (at)
			lazy_bad("a fault under two recovery points has led to a third one");
		not_linked(s, BY_NESTING, 0);
		return;
	}
	if (rpal_read_access_safety(outer, &ret, s, other, (int *)&at, &value)) {
		if (at != 2 && at != 4)
			lazy_bad("the outer recovery point at step %d", at);
		missed(s, BY_NESTING);
	} else {
		if (ret != 4712 || at != 5)
			lazy_bad("the outer one returned %d at step %d", ret, at);
		good(s, BY_NESTING, value);
	}
	closed();
}

static void by_call(const struct spot *s)
{
	/* Its procedures do not expect that what they are lent goes away. */
	int err = lazy_call(s->id, lazy_pick(LAZY_ALL_OPS), RPAL_CALL_GRANT_NONE, true);

	if (err)
		not_linked(s, BY_CALL, err);
	else
		LAZY_ADD(lazy->count[GOOD + BY_CALL]);
}

static void touch_once(const struct spot *s, const struct spot *other, u32 n)
{
	switch (n % 16) {
	case 0 ... 3:
		by_guard(s, n >> 8 & 1);
		break;
	case 4 ... 8:
		by_opening(s, other, n >> 8);
		break;
	case 9 ... 11:
		by_copy(s, BY_COPY);
		break;
	case 12 ... 14:
		by_nesting(s, other);
		break;
	case 15:
		by_call(s);
		break;
	}
}

/* What a signal handler does, whatever it has interrupted. */
static void on_touch(int sig)
{
	u32 pkru = pkru_read();
	int saved = errno;
	struct spot s;
	int64_t r;
	int err;

	(void)sig;
	if (mark == MARK && pick(&s, regs_next(&handler_seed))) {
		by_copy(&s, IN_HANDLER);
		err = rpal_call_flags(s.id, P_NOTHING, NULL, 0, &r, RPAL_CALL_NOWAIT);
		if (err == -EBUSY)
			LAZY_ADD(lazy->count[BUSY]);
		else if (err && err != -EAGAIN)
			not_linked(&s, BY_CALL, err);
		if (pkru_read() != pkru || mark != MARK)
			lazy_bad("in a handler: pkru %x, was %x, mark %lx", pkru_read(), pkru,
				 (long)mark);
	}
	errno = saved;
}

/* In a thread of ours, before it is one. */
static void begin(void)
{
	MUST(!sigaltstack(NULL, &alternate));
	handler_seed = lazy_random() | 1;
	__atomic_store_n(&mark, MARK, __ATOMIC_RELEASE);
}

/* lazy_still_me() has looked at registers and rights. */
static void still_me(void)
{
	stack_t now;
	sigset_t set;

	if (mark != MARK)
		lazy_bad("a thread-local variable is %lx", (long)mark);
	MUST(!sigaltstack(NULL, &now) && !pthread_sigmask(SIG_SETMASK, NULL, &set));
	if (now.ss_sp != alternate.ss_sp || now.ss_flags || now.ss_size != alternate.ss_size)
		lazy_bad("alternate stack %lx, flags %x", (long)now.ss_sp, now.ss_flags);
	if (sigismember(&set, SIGUSR1) || sigismember(&set, SIGALRM))
		lazy_bad("signals are blocked");
}

static void touch_checked(const struct spot *s, const struct spot *other, u32 n)
{
	struct regs_call c = { .fn = touch_once, .a = { (u64)s, (u64)other, n } };
	char text[200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(c.in); i++)
		c.in[i] = (u64)lazy_random() << 32 | lazy_random();
	regs_call(&c);
	if (!regs_call_same(&c, text, sizeof(text)))
		lazy_bad("registers after way %d of region %d: %s", n % 16, s->region, text);
	lazy_still_me("toucher", n % 16);
}

static timer_t new_timer(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	timer_t timer;

	ev._sigev_un._tid = syscall(SYS_gettid);
	MUST(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	return timer;
}

/* Once, in the middle of what comes now: a handler may take as long as that does. */
static void interrupt_soon(timer_t timer)
{
	struct itimerspec it = { .it_value.tv_nsec = 1000 + lazy_random() % 300000 };

	MUST(!timer_settime(timer, 0, &it, NULL));
}

static void *toucher(void *unused)
{
	struct spot s, other;
	timer_t timer;

	lazy_thread(false);
	begin();
	timer = new_timer();
	while (!lazy->stop) {
		if (!pick(&s, lazy_random()) || !pick(&other, lazy_random())) {
			usleep(1000);
			continue;
		}
		/* While a service is started anew there is little to see. */
		if (may_have_ended(&s) && lazy_random() % 8) {
			usleep(300);
			continue;
		}
		if (lazy_random() % 2)
			interrupt_soon(timer);
		touch_checked(&s, &other, lazy_random());
		if (LAZY_ADD(lazy->calls) >= lazy->wanted)
			lazy->stop = 1;
		if (lazy_random() % 16 == 0)
			still_me();
	}
	ending = true;
	return unused;
}

/* The memory of who calls, or it is gone. */
static int64_t p_touch(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	u64 value = 0;
	int ret = 0;
	bool ok;

	(void)len, (void)caller, (void)ctx;
	lazy_enter(P_TOUCH);
	ok = !rpal_read_access_safety(touch, &ret, (u64 *)arg, &value, 0);
	if (ok && !pattern_ok((u64)arg, value))
		lazy_bad("in a procedure: at %lx there is %lx", (long)arg, (long)value);
	LAZY_ADD(lazy->count[(ok ? GOOD : BAD) + IN_PROCEDURE]);
	lazy_leave(P_TOUCH);
	return ok ? GOOD : BAD;
}

static void *receiver(void *unused)
{
	/* Signals come only later. */
	begin();
	return lazy_receiver(unused);
}

/* Links with each that comes in a victim's place. */
static void *manager(void *arg)
{
	int number = (intptr_t)arg, id, sock;
	uint64_t key = 0;
	char name[40];
	int64_t r;

	rpal_get_service_key(&key);
	lazy_name(name, sizeof(name), "v", number);
	while (!lazy->stop) {
		id = rpal_connect(name, 200, &sock);
		if (id < 0)
			continue;
		if (!rpal_call(id, P_HELLO, &key, sizeof(key), &r))
			__atomic_store_n(&target[number], (u64)r << 16 | id, __ATOMIC_RELEASE);
		while (!lazy->stop && recv(sock, &r, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
			usleep(500);
		close(sock);
	}
	return NULL;
}

static int reader_role(void)
{
	struct sigaction sa = { .sa_handler = on_touch, .sa_flags = SA_RESTART };
	pthread_t t[TOUCHERS], other;
	int i;

	lazy_init(1, 1);
	sigfillset(&sa.sa_mask);
	sigdelset(&sa.sa_mask, SIGSEGV);
	sigdelset(&sa.sa_mask, SIGBUS);
	MUST(!sigaction(SIGUSR1, &sa, NULL) && !sigaction(SIGALRM, &sa, NULL));
	sa.sa_flags |= SA_ONSTACK;
	MUST(!sigaction(SIGUSR2, &sa, NULL));
	MUST(!rpal_export(P_TOUCH, p_touch, NULL));
	lazy_start(&other, receiver, NULL);
	for (i = 0; i < VICTIMS; i++)
		lazy_start(&other, manager, (void *)(intptr_t)i);
	for (i = 0; i < TOUCHERS; i++)
		lazy_start(&t[i], toucher, NULL);
	/* Not so often that nothing but handlers runs. */
	while (!lazy->stop) {
		usleep(500 + test_random() % 3000);
		lazy_shoot_once();
	}
	for (i = 0; i < TOUCHERS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "victim", victim_role },
					  { "reader", reader_role },
					  {} };

static struct test_spawn spawn = { .group = "stress" };

static struct life {
	struct test_child child;
	long generation;
	u64 end; /* ns; 0: nobody has touched it yet */
} lives[VICTIMS];

static void start(int i)
{
	char arg[40];

	snprintf(arg, sizeof(arg), "%d %ld", i, ++lives[i].generation);
	spawn.role = "victim";
	spawn.arg = arg;
	lives[i].end = 0;
	MUST(!test_spawn(&lives[i].child, &spawn));
}

static void look_after(void)
{
	int i, status;

	for (i = 0; i < VICTIMS; i++) {
		struct life *l = &lives[i];

		if (!l->end && (lazy->count[USED + i] >= l->generation ||
				lazy->count[ENDED + i] >= l->generation))
			l->end = test_now_ns() + test_random() % 400000000;
		if (!l->end || test_now_ns() < l->end)
			continue;
		if (waitpid(l->child.pid, &status, WNOHANG) == l->child.pid) {
			l->child.pid = 0;
			lazy_bad("victim %d has ended: %s", i, test_status(status));
		}
		if (lazy->count[ENDED + i] < l->generation)
			LAZY_ADD(lazy->count[KILLS]);
		__atomic_store_n(&lazy->count[ENDED + i], l->generation, __ATOMIC_SEQ_CST);
		test_reap(&l->child);
		close(l->child.sock);
		start(i);
	}
}

int main(int argc, char **argv)
{
	static const char *const ways[WAYS] = {
		[BY_GUARD] = "guard",	 [BY_OPENING] = "open",	   [BY_COPY] = "copy",
		[BY_NESTING] = "nested", [IN_HANDLER] = "handler", [IN_PROCEDURE] = "procedure",
		[BY_CALL] = "call",
	};
	static const char *const regions[REGIONS] = { "gone", "unmapped", "protected",
						      "truncated" };
	struct test_child child;
	char name[40];
	int i;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 2000, &spawn.shared);
	for (i = 0; i < VICTIMS; i++)
		start(i);
	spawn.role = "reader";
	spawn.arg = NULL;
	MUST(!test_spawn(&child, &spawn));
	lazy_watch(&child, 1, look_after);
	for (i = 0; i < VICTIMS; i++)
		if (!lazy_alive(&lives[i].child))
			lazy_bad("victim %d had ended", i);
	for (i = 0; i < WAYS; i++) {
		lazy_need(ways[i], lazy->count[GOOD + i], 2000);
		snprintf(name, sizeof(name), "%s_failed", ways[i]);
		lazy_need(name, lazy->count[BAD + i], 2000);
	}
	for (i = 0; i < REGIONS; i++)
		/* Few are in the memory that stays, just when its owner goes. */
		lazy_need(regions[i], lazy->count[MISSED + i], i == STABLE ? 20000 : 2000);
	lazy_need("kills", lazy->count[KILLS], 2000);
	lazy_need("releases", lazy->count[RELEASES], 20000);
	lazy_need("second_returns", lazy->count[CUT], 2000);
	lazy_need("busy", lazy->count[BUSY], LONG_MAX);
	return lazy_end("recovery");
}
