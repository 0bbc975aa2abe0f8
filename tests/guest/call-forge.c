// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Hostile user space. What the kernel follows to find out whose context a task
 * runs lies in memory that user space can write: here it holds lies.
 *
 * A forger is linked with a victim. It may crash itself; it may crash its
 * victim, or run anything there, for by linking with it the victim has given it
 * its memory, code and all. It must not get any further: the kernel log stays
 * clean, and a pair of services that has nothing to do with either goes on and
 * sees no error. Who is not even linked gains nothing at all.
 *
 * usage: call-forge [ROUNDS [SEED]]
 */
#include "call.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum {
	P_SUM,
	P_GETPID,
	P_NR,
};

struct shared {
	volatile int calls; /* of the pair that behaves well */
	volatile int wrong;
	volatile int stop;
	volatile int good_id;
	volatile u32 rounds;
	volatile u32 seed;
	volatile u32 ends; /* of forgers, by themselves */
};

static struct shared *shared;

/* ------------------------------------------------------- who behaves well */

PROC(p_sum)
{
	const unsigned char *p = arg;
	int64_t sum = 0;

	while (len--)
		sum = sum * 31 + *p++;
	return sum;
}

PROC(p_getpid)
{
	return syscall(SYS_getpid);
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = { p_sum, p_getpid };

	return call_server(procs, P_NR);
}

/* What it has to say when it crashes is of no interest. */
static void be_quiet(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	MUST(fd >= 0 && dup2(fd, 1) == 1);
}

static int victim_role(void)
{
	be_quiet();
	return server_role();
}

static int caller_role(void)
{
	unsigned char buf[24] = "what is to be added up";
	int64_t r, pid;
	struct call_peer p;
	u64 i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	call_init(1);
	call_peer_new(&p, "server", 2);
	shared->good_id = p.id;
	pid = p.child.pid;
	for (i = 0; !shared->stop; i++) {
		buf[i % 20] = i;
		if (rpal_call(p.id, P_SUM, buf, sizeof(buf), &r) ||
		    r != p_sum(buf, sizeof(buf), NULL, NULL))
			shared->wrong++;
		if (i % 4 == 0 && (rpal_call(p.id, P_GETPID, NULL, 0, &r) || r != pid))
			shared->wrong++;
		shared->calls++;
	}
	call_peer_end(&p);
	return shared->wrong != 0;
}

/* ------------------------------------------------------------------ forger */

#define RECEIVERS 4  /* of each */
#define ENOUGH	  20 /* rounds, to say that anything was tried */

static int dev;
static struct rpal_block *own, *own_area, *peer_area;
static u32 own_tid, peer_id;
static struct call_peer peer;
static u64 low_code; /* getpid, where no slot is */

static struct rpal_block *block_at(struct rpal_block *area, int i)
{
	return (void *)((char *)area + i * RPAL_BLOCK_SIZE);
}

static u64 random64(void)
{
	return (u64)test_random() << 32 | test_random();
}

/* A name of a thread: of own ones, the peer's, others, or of nobody. */
static u32 random_tid(void)
{
	switch (test_random() % 9) {
	case 0:
		return own_tid;
	case 7:
		return RPAL_TID_GUARD;
	case 1:
	case 2:
		return RPAL_TID(RPAL_TID_SERVICE(own_tid), test_random() % RECEIVERS);
	case 3:
	case 4:
		return RPAL_TID(peer_id, test_random() % RECEIVERS);
	case 5:
		return RPAL_TID(shared->good_id, test_random() % RECEIVERS);
	case 6:
		return RPAL_TID(test_random() % 260, test_random() % 1300);
	default:
		return test_random();
	}
}

/* Something an instruction pointer, a stack pointer or a base could be. */
static u64 random_address(void)
{
	static const u64 odd[] = {
		0,
		1,
		~0UL,
		0x7ffffffff000,
		0x800000000000,
		0x8000000000000000,
		0xffff800000000000,
		0xffff888000001000,
		0xffffffff81000000,
		0xffffffffff600000,
	};

	switch (test_random() % 4) {
	case 0:
		return odd[test_random() % ARRAY_SIZE(odd)];
	case 1:
		return (u64)own + (int)(test_random() % 8192) - 4096;
	case 2:
		return (u64)peer_area + test_random() % 8192;
	default:
		return random64();
	}
}

static struct rpal_block *random_block(void)
{
	switch (test_random() % 4) {
	case 0:
		return own;
	case 1:
		return block_at(own_area, test_random() % RECEIVERS);
	default:
		return block_at(peer_area, test_random() % RECEIVERS);
	}
}

static u64 random_word(void)
{
	static const unsigned char states[] = { 0, 1, 2, 2, 2, 3, 4, 5, 0x7f };
	u64 state = states[test_random() % ARRAY_SIZE(states)];

	if (test_random() % 4 == 0)
		state |= RPAL_ST_PENDING;
	switch (test_random() % 4) {
	case 0:
		return own->call_word;
	case 1: /* an old or a coming generation */
		return own->call_word + (((int)(test_random() % 5) - 2) << 8);
	case 2:
		return (u64)random_tid() << 32 | (test_random() & 0xffffff00) | state;
	default:
		return state;
	}
}

static void spoil_one(struct rpal_block *b)
{
	switch (test_random() % 13) {
	case 0:
	case 1:
		b->word = random_word();
		break;
	case 2:
	case 3:
		b->callee = random_tid();
		break;
	case 4:
		b->caller = random_address();
		break;
	case 5:
		b->caller_word = random_word();
		break;
	case 6:
		b->fsbase = random_address();
		break;
	case 7:
		b->sp = random_address();
		break;
	case 8:
		b->ip = random_address();
		break;
	case 9:
		b->pkru = test_random();
		b->mxcsr = test_random();
		b->fcw = test_random();
		break;
	case 10:
		b->tid = random_tid();
		break;
	case 11:
		b->news = test_random();
		b->flags = test_random();
		break;
	default:
		((volatile u64 *)b)[test_random() % (RPAL_BLOCK_SIZE / 8)] = random64();
	}
}

/* As if one thread had called the other: that is what the kernel looks for. */
static void claim(struct rpal_block *from, struct rpal_block *to)
{
	to->word = from->call_word | (test_random() % 4 ? 0 : RPAL_ST_PENDING);
	to->caller = (u64)from;
	to->caller_word = from->call_word;
	from->callee = to->tid;
}

/* A chain, longer than calls can be, or one that comes back to its beginning. */
static void claim_chain(void)
{
	struct rpal_block *at = own, *next;
	int n = 1 + test_random() % (RPAL_MAX_DEPTH + 4);

	while (n--) {
		next = random_block();
		claim(at, next);
		at = next;
	}
	if (test_random() % 2)
		claim(at, own);
}

static void forge(void)
{
	int n;

	switch (test_random() % 6) {
	case 0:
		claim(own, block_at(peer_area, test_random() % RECEIVERS));
		break;
	case 1:
		claim(own, own);
		break;
	case 2:
		claim_chain();
		break;
	case 3:
		claim(own, block_at(own_area, test_random() % RECEIVERS));
		break;
	case 4: /* across services */
		claim(random_block(), random_block());
		own->callee = random_tid();
		break;
	}
	if (test_random() % 4 == 0)
		random_block()->flags = test_random() % 2 ? RPAL_BLOCK_ASYNC : 0;
	/* The more is spoilt, the sooner the forger falls over itself. */
	if (test_random() % 3)
		return;
	for (n = test_random() % 3; n; n--)
		spoil_one(random_block());
}

static u64 raw_syscall(u64 nr, u64 a, u64 b, u64 c)
{
	u64 ret;

	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c)
		     : "rcx", "r11", "memory");
	return ret;
}

/* Nothing may look at thread-local storage in between. */
static void __attribute__((noinline, optimize("no-stack-protector"))) with_base(u64 base)
{
	u64 saved;

	asm volatile("rdfsbase %[saved]\n"
		     "wrfsbase %[base]\n"
		     "mov %[nr], %%eax\n"
		     "syscall\n"
		     "wrfsbase %[saved]\n"
		     : [saved] "=&r"(saved)
		     : [base] "r"(base), [nr] "i"(SYS_getpid)
		     : "rax", "rcx", "r11", "memory");
}

static bool canonical(u64 addr)
{
	return (int64_t)(addr << 16) >> 16 == (int64_t)addr;
}

/* Anything that enters the kernel with r10 and r11 as inside a trampoline. */
static void in_range(u64 callee_block)
{
	asm volatile("mov %[own], %%r10\n"
		     "mov %[peer], %%r11\n"
		     "xor %%eax, %%eax\n"
		     "1: ud2\n"
		     "2:\n" TEST_EXTABLE
		     :
		     : [own] "r"(own), [peer] "r"(callee_block)
		     : "rax", "r10", "r11", "memory");
}

static void random_ioctl(void)
{
	union {
		struct rpal_wait wait;
		struct rpal_reply reply;
		struct rpal_wake wake;
		struct rpal_await await;
		struct rpal_thread thread;
		struct rpal_watch watch;
		struct rpal_notify notify;
	} u = {};

	switch (test_random() % 7) {
	case 0:
		u.wait = (struct rpal_wait){ .size = sizeof(u.wait),
					     .flags = test_random() % 5,
					     .fd = (int)(test_random() % 8) - 1,
					     .timeout_ns = 1000000 };
		ioctl(dev, RPAL_IOC_WAIT, &u);
		break;
	case 1:
		u.reply = (struct rpal_reply){ .size = sizeof(u.reply) };
		ioctl(dev, RPAL_IOC_AWAIT_REPLY, &u);
		break;
	case 2:
		u.wake = (struct rpal_wake){ .size = sizeof(u.wake), .tid = random_tid() };
		ioctl(dev, RPAL_IOC_WAKE, &u);
		break;
	case 3:
		u.await = (struct rpal_await){ .size = sizeof(u.await),
					       .id = RPAL_TID_SERVICE(random_tid()),
					       .timeout_ns = 1000000 };
		ioctl(dev, RPAL_IOC_AWAIT, &u);
		break;
	case 4:
		ioctl(dev, RPAL_IOC_THREAD_EXIT, NULL);
		break;
	case 5:
		u.watch = (struct rpal_watch){ .size = sizeof(u.watch),
					       .fd = (int)(test_random() % 8) - 1 };
		ioctl(dev, RPAL_IOC_WATCH, &u);
		break;
	case 6:
		u.notify = (struct rpal_notify){ .size = sizeof(u.notify),
						 .id = RPAL_TID_SERVICE(random_tid()),
						 .number = test_random() % 4 };
		ioctl(dev, RPAL_IOC_NOTIFY, &u);
		break;
	}
}

static void *thread_ends(void *arg)
{
	int64_t r;

	rpal_call(peer.id, P_SUM, NULL, 0, &r);
	forge();
	return arg;
}

/* Enter the kernel in one way or another. */
static void provoke(void)
{
	pthread_t thread;
	u64 base, v;
	int64_t r;
	pid_t pid;

	switch (test_random() % 14) {
	case 0:
	case 1:
		raw_syscall(SYS_getpid, 0, 0, 0);
		break;
	case 2:
		base = random_address();
		if (canonical(base))
			with_base(base);
		break;
	case 3:
		/* Refused by the kernel, if it is out of the question. */
		if (random_address() >> 47)
			raw_syscall(SYS_arch_prctl, 0x1002, 0x8000000000000000, 0);
		break;
	case 4:
		raw_syscall(SYS_tgkill, getpid(), raw_syscall(SYS_gettid, 0, 0, 0), SIGUSR1);
		break;
	case 5:
		test_load((void *)random_address(), &v);
		break;
	case 6:
		in_range((u64)random_block());
		break;
	case 7:
		asm volatile("int3");
		break;
	case 8:
		random_ioctl();
		break;
	case 9:
		rpal_call_flags(peer.id, P_SUM, NULL, 0, &r, RPAL_CALL_NOWAIT);
		break;
	case 10:
		sched_yield();
		break;
	case 11:
		if (low_code)
			((void (*)(void))low_code)();
		break;
	case 12:
		if (test_random() % 8 == 0 && !pthread_create(&thread, NULL, thread_ends, NULL))
			pthread_join(thread, NULL);
		break;
	case 13:
		if (test_random() % 16)
			break;
		pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
		break;
	}
}

/* Code below all slots: a context there is nobody's. */
static void make_low_code(void)
{
	static const unsigned char code[] = { 0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3 };
	void *p = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED)
		return;
	memcpy(p, code, sizeof(code));
	low_code = (u64)p;
}

static void ignore_signal(int sig CALL_UNUSED)
{
}

/* Where the blocks are. */
static void find_blocks(void)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	struct rpal_peer p = { .size = sizeof(p), .id = peer.id };

	MUST(!ioctl(dev, RPAL_IOC_THREAD, &t));
	own = (void *)t.block;
	own_tid = t.tid;
	own_area = (void *)(t.block - RPAL_TID_INDEX(t.tid) * (u64)RPAL_BLOCK_SIZE);
	MUST(!ioctl(dev, RPAL_IOC_PEER, &p));
	peer_area = (void *)p.area;
	peer_id = p.id;
}

static int init_forger(void)
{
	int64_t r;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	signal(SIGUSR1, ignore_signal);
	signal(SIGTRAP, ignore_signal);
	be_quiet();
	dev = rpal_init(RECEIVERS, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(dev >= 0);
	call_receivers(RECEIVERS);
	snprintf(peer.path, sizeof(peer.path), "%s", test_arg);
	make_low_code();
	peer.id = rpal_connect(peer.path, 2000, NULL);
	if (peer.id < 0)
		return peer.id; /* the victim has died */
	rpal_call(peer.id, P_SUM, NULL, 0, &r);
	find_blocks();
	return 0;
}

static int forger_role(void)
{
	struct rpal_block copy;
	u32 seed;

	if (init_forger())
		return 0;
	seed = __atomic_add_fetch(&shared->seed, 1, __ATOMIC_RELAXED);
	test_seed(seed * 2654435761U + 1);
	copy = *own;
	/* Everything is open: keys are not what stops us. */
	pkru_write(0);
	for (;;) {
		forge();
		provoke();
		__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
		if (test_random() % 4)
			*own = copy;
		pkru_write(0);
	}
}

/* ---------------------------------------------------------------- stranger */

/* Linked with nobody, though it knows all names. */
static int stranger_role(void)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	struct rpal_wake wake = { .size = sizeof(wake) };
	struct rpal_await await = { .size = sizeof(await) };
	struct rpal_peer p = { .size = sizeof(p) };
	u64 there, v;
	int i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	signal(SIGUSR1, ignore_signal);
	test_begin("who is not linked gains nothing");
	dev = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(dev >= 0 && rpal_sender_init(NULL) == RPAL_SUCCESS);
	MUST(!ioctl(dev, RPAL_IOC_THREAD, &t));
	own = (void *)t.block;
	own_tid = t.tid;
	await.id = p.id = shared->good_id;
	CHECK(ioctl(dev, RPAL_IOC_PEER, &p) == -1 && errno == ENOENT, "errno %d", errno);
	CHECK(ioctl(dev, RPAL_IOC_AWAIT, &await) == -1 && errno == ESRCH, "errno %d", errno);
	pkru_write(0);
	there = (u64)shared->good_id << RPAL_SLOT_SHIFT;
	for (i = 0; i < 200; i++) {
		v = there + random64() % RPAL_SLOT_SIZE;
		if (!CHECK(test_load((void *)v, &v) == SIGSEGV, "read memory of a stranger") ||
		    !CHECK(test_store((void *)v, v) == SIGSEGV, "wrote memory of a stranger"))
			break;
		wake.tid = RPAL_TID(shared->good_id, i % RECEIVERS);
		CHECK(ioctl(dev, RPAL_IOC_WAKE, &wake) == -1 && errno == ESRCH, "errno %d", errno);
		/* As if it had called one of them: it has not, and is itself. */
		own->callee = wake.tid;
		CHECK(raw_syscall(SYS_getpid, 0, 0, 0) == (u64)getpid(), "another process");
		test_load((void *)16, &v);
		CHECK(test_fault.addr == 16, "address %lx", (unsigned long)test_fault.addr);
		raise(SIGUSR1);
		own->callee = 0;
	}
	test_end();
	return test_failures() != 0;
}

/* ------------------------------------------------------------------ driver */

static int shared_fd;
static struct test_child victim;
static char victim_arg[64];

static void start_victim(void)
{
	static int n;
	struct test_spawn s = { .role = "victim", .arg = victim_arg, .group = "call" };

	snprintf(victim_arg, sizeof(victim_arg), "%d @call-forge-%d-%d", RECEIVERS, getpid(), n++);
	MUST(!test_spawn(&victim, &s));
}

static bool victim_is_dead(void)
{
	siginfo_t si = {};

	return waitid(P_PID, victim.pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid;
}

/* One forger until it dies, does nothing any more, or has had its time. */
static void run_forger(u64 end)
{
	struct test_spawn s = { .role = "forger",
				.arg = strchr(victim_arg, ' ') + 1,
				.group = "call",
				.shared = shared_fd };
	struct test_child c;
	/* A start takes time; a round that has taken so long will not end. */
	u64 slow = test_patience() / 60, since = test_now_ns(), limit = slow * 5000000000ULL;
	u32 rounds = shared->rounds;
	siginfo_t si = {};

	MUST(!test_spawn(&c, &s));
	while (!(waitid(P_PID, c.pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid)) {
		if (shared->rounds != rounds) {
			rounds = shared->rounds;
			since = test_now_ns();
			limit = slow * 400000000ULL;
		} else if (test_now_ns() - since > limit) {
			break;
		}
		/* It may be of a kind that does no harm, not even to itself. */
		if (test_now_ns() > end)
			break;
		usleep(5000);
	}
	shared->ends += si.si_pid != 0;
	test_reap(&c);
}

static void forgers(u32 rounds, u32 seed)
{
	u64 slow = test_patience() / 60;
	u64 begin = test_now_ns();
	u64 end = begin + (rounds ? 3600 : 7 * slow) * 1000000000ULL;
	/* Some forgers stand still for seconds: long enough that others follow. */
	u64 latest = begin + test_patience() * 1000000000ULL;
	int n = 0;

	test_begin("forged words and blocks");
	shared->seed = seed;
	printf("seed %u\n", seed);
	start_victim();
	while (((!rounds || shared->rounds < rounds) && test_now_ns() < end) ||
	       (shared->rounds <= ENOUGH && test_now_ns() < latest)) {
		u32 before = shared->rounds;

		run_forger(test_now_ns() + 8 * slow * 1000000000ULL);
		n++;
		/* One that lives, but whose receivers never wait again, is of no use either. */
		if (victim_is_dead() || shared->rounds == before || n % 8 == 0) {
			test_reap(&victim);
			start_victim();
		}
		if (!CHECK(!shared->wrong, "%d errors in what has nothing to do with it, seed %u",
			   shared->wrong, shared->seed))
			break;
	}
	test_reap(&victim);
	printf("stress: call-forge: %u rounds, %d forgers (%u ended by themselves), seed %u\n",
	       shared->rounds, n, shared->ends, seed);
	CHECK(shared->rounds > ENOUGH, "only %u rounds", shared->rounds);
	test_end();
}

static void check_others(struct test_child *caller)
{
	int calls = shared->calls, status;

	test_begin("others have seen nothing of it");
	CHECK(call_wait_for(&shared->calls, calls + 100), "no calls any more");
	CHECK_IS(shared->wrong, 0);
	shared->stop = 1;
	status = test_wait(caller->pid);
	CHECK(!status, "%s", test_status(status));
	test_end();
}

static const struct test_role roles[] = { { "server", server_role },	 { "victim", victim_role },
					  { "caller", caller_role },	 { "forger", forger_role },
					  { "stranger", stranger_role }, {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "caller", .group = "good" };
	struct test_child caller, stranger;
	int status;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &shared_fd);
	s.shared = shared_fd;
	MUST(!test_spawn(&caller, &s));
	if (!call_wait_for(&shared->calls, 10))
		test_die(__FILE__, __LINE__, "no calls");
	s.role = "stranger";
	MUST(!test_spawn(&stranger, &s));
	status = test_wait(stranger.pid);
	CHECK(!status, "stranger: %s", test_status(status));
	forgers(argc > 1 ? atoi(argv[1]) : 0, argc > 2 ? strtoul(argv[2], NULL, 0) : test_random());
	check_others(&caller);
	return test_finish();
}
