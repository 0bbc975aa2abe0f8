// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What words in blocks can not do to others, nor to the kernel: words that are nearly
 * right, of threads that are linked and wait, and of threads that die.
 *
 * usage: call-hostile [SECONDS of the last case]
 */
#include "call.h"

#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define STATS	 "/sys/kernel/debug/rpal/stats"
#define SERVICES "/sys/kernel/debug/rpal/services"
#define GROUP	 "/sys/fs/cgroup/call-hostile"

enum {
	P_SUM,
	P_GETPID,
	P_NR,
};

/* What the peer of a waiting thread does, whose call it is said to be in. */
enum pretender {
	PAUSED,	 /* sleeps */
	RUNNING, /* never enters the kernel by itself */
	BUSY,	 /* makes system calls */
	STUCK,	 /* waits in the kernel for a page, whatever signal comes */
	NR_PRETENDERS,
};

struct shared {
	volatile u32 tid; /* of the pretender */
	volatile int go;
	volatile int ready;
	volatile int wrong;
	volatile long calls;
	volatile int stop;
	volatile int id;
};

static struct shared *shared;
static int shared_fd;
static int dev;

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

static const rpal_procedure_fn procs[P_NR] = { p_sum, p_getpid };

static int server_role(void)
{
	return call_server(procs, P_NR);
}

static bool soon(bool (*is)(void *), void *arg)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (!is(arg)) {
		if (test_now_ns() > end)
			return false;
		usleep(2000);
	}
	return true;
}

static void start(struct test_child *c, const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .arg = arg, .group = "call", .shared = shared_fd };

	MUST(!test_spawn(c, &s));
}

/* The current thread's block; it is registered by then. */
static struct rpal_block *own_block(u32 *tid)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };

	MUST(rpal_sender_init(NULL) == RPAL_SUCCESS);
	MUST(!ioctl(dev, RPAL_IOC_THREAD, &t));
	*tid = t.tid;
	return (void *)t.block;
}

static struct rpal_block *block_in(u64 area, u32 tid)
{
	return (void *)(area + RPAL_TID_INDEX(tid) * (u64)RPAL_BLOCK_SIZE);
}

static int init(int receivers)
{
	int fd = rpal_init(receivers, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);

	MUST(fd >= 0);
	return fd;
}

/* ------------------------------------- a thread that waits must stay stoppable */

/* Memory that is not there: whoever touches it waits. */
static void *absent_page(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(fd >= 0 && p != MAP_FAILED && !ioctl(fd, UFFDIO_API, &api));
	reg.range.start = (u64)p;
	reg.range.len = PAGE;
	MUST(!ioctl(fd, UFFDIO_REGISTER, &reg));
	*uffd = fd;
	return p;
}

static void *pretender(void *arg)
{
	enum pretender what = (intptr_t)arg;
	char c;
	struct iovec to = { &c, 1 }, from = { NULL, 1 };
	u32 tid;
	int fd;

	own_block(&tid);
	if (what == STUCK)
		from.iov_base = absent_page(&fd);
	shared->tid = tid;
	__atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		if (what == PAUSED)
			pause();
		else if (what == BUSY)
			syscall(SYS_getppid);
		else if (what == STUCK)
			process_vm_readv(getpid(), &to, 1, &from, 1, 0);
	}
	return NULL;
}

static int pretender_role(void)
{
	pthread_t t;
	int fd, sock;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	dev = init(1);
	MUST(!pthread_create(&t, NULL, pretender, (void *)(intptr_t)atoi(test_arg)));
	fd = rpal_listen(strchr(test_arg, ' ') + 1);
	MUST(fd >= 0);
	for (;;)
		rpal_accept(fd, -1, &sock);
	return 0;
}

static volatile pid_t receiver_tid;

static void note_receiver(void)
{
	receiver_tid = call_tid;
}

/* Its receiver waits, and then seems to be called by one of the peer's threads. */
static int waiter_role(void)
{
	struct rpal_peer p = { .size = sizeof(p) };
	struct rpal_block *mine, *theirs;
	u32 tid;
	int id;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	dev = init(1);
	call_receiver_begins = note_receiver;
	call_receivers(1);
	id = rpal_connect(strchr(test_arg, ' ') + 1, test_patience() * 1000, NULL);
	MUST(id > 0);
	mine = own_block(&tid);
	/* Index 0 is the receiver's. */
	mine = (void *)((char *)mine - RPAL_TID_INDEX(tid) * RPAL_BLOCK_SIZE);
	p.id = id;
	MUST(!ioctl(dev, RPAL_IOC_PEER, &p));
	while (!shared->ready || mine->word != RPAL_ST_WAIT)
		usleep(1000);
	theirs = block_in(p.area, shared->tid);
	pkru_write(0);
	theirs->callee = mine->tid;
	mine->caller = (u64)theirs;
	mine->word = theirs->call_word;
	test_send_u64(TEST_FD_DRIVER, receiver_tid);
	for (;;)
		pause();
	return 0;
}

static bool is_stopped(void *arg)
{
	int status;

	return waitpid(*(pid_t *)arg, &status, WUNTRACED | WNOHANG | __WALL) == *(pid_t *)arg &&
	       WIFSTOPPED(status);
}

static bool is_frozen(void *arg CALL_UNUSED)
{
	return test_file_value(GROUP "/cgroup.events", "frozen") == 1;
}

/* By SIGSTOP, by a debugger, by the group's freezer; the peer, too, before it or not. */
enum way { STOP, TRACE, FREEZE, PEER_STOPS, PEER_FREEZES, NR_WAYS };

static const char *const way_names[] = { "stopped", "traced", "frozen", "stopped after its peer",
					 "frozen with its peer" };

static void freeze(pid_t pid, pid_t other)
{
	char text[16];

	mkdir(GROUP, 0755);
	snprintf(text, sizeof(text), "%d", pid);
	MUST(test_write_file(GROUP "/cgroup.procs", text));
	snprintf(text, sizeof(text), "%d", other);
	MUST(!other || test_write_file(GROUP "/cgroup.procs", text));
	MUST(test_write_file(GROUP "/cgroup.freeze", "1"));
}

static void thaw(void)
{
	test_write_file(GROUP "/cgroup.freeze", "0");
}

static bool stands_still(enum way way, pid_t pid, pid_t receiver, pid_t peer)
{
	bool is;

	switch (way) {
	case PEER_STOPS:
		kill(peer, SIGSTOP);
		usleep(100000);
		/* fallthrough */
	case STOP:
		kill(pid, SIGSTOP);
		return soon(is_stopped, &pid);
	case TRACE:
		MUST(!ptrace(PTRACE_SEIZE, receiver, NULL, NULL));
		MUST(!ptrace(PTRACE_INTERRUPT, receiver, NULL, NULL));
		is = soon(is_stopped, &receiver);
		/* Or the process would not be reaped before it. */
		ptrace(PTRACE_DETACH, receiver, NULL, NULL);
		return is;
	default:
		freeze(pid, way == PEER_FREEZES ? peer : 0);
		is = soon(is_frozen, NULL);
		thaw();
		return is;
	}
}

static void stoppable(const char *name, enum pretender what, enum way way)
{
	struct test_child peer, waiter;
	static int n;
	pid_t receiver;
	char arg[80];

	test_begin("a word that names a caller that %s: %s", name, way_names[way]);
	memset(shared, 0, sizeof(*shared));
	snprintf(arg, sizeof(arg), "%d @call-hostile-%d-%d", what, getpid(), n++);
	start(&peer, "pretender", arg);
	start(&waiter, "waiter", arg);
	receiver = test_recv_u64(waiter.sock);
	usleep(20000);
	CHECK(stands_still(way, waiter.pid, receiver, peer.pid), "it is not %s", way_names[way]);
	test_reap(&waiter);
	test_reap(&peer);
	rmdir(GROUP);
	test_end();
}

/* --------------------------------------------------------- remains of threads */

#define MANY (RPAL_MAX_SENDERS + 80)

struct mourner {
	struct rpal_block *main;
	bool told; /* the living one says so, too */
};

static void *dies_in_call(void *arg)
{
	struct mourner *m = arg;
	struct rpal_block *b;
	u32 tid;

	b = own_block(&tid);
	if (m->told)
		m->main->callee = tid;
	b->word = m->main->call_word;
	return NULL;
}

static int remains_role(void)
{
	struct mourner m = {};
	pthread_t t;
	u32 tid;
	int i;

	dev = init(1);
	m.main = own_block(&tid);
	for (m.told = false;; m.told = true) {
		test_begin("threads that die say that a living one calls them%s",
			   m.told ? ", which says so, too" : "");
		for (i = 0; i < MANY; i++) {
			MUST(!pthread_create(&t, NULL, dies_in_call, &m));
			pthread_join(t, NULL);
			/* A system call of ours would look for it. */
			m.main->callee = 0;
		}
		test_end();
		if (m.told)
			return test_failures() != 0;
	}
}

/* --------------------------------------------------- strangers, and deadlines */

static int victim_role(void)
{
	unsigned char buf[24] = "what is to be added up";
	struct call_peer p;
	int64_t r;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	call_init(1);
	call_peer_new(&p, "server", 2);
	MUST(!rpal_call(p.id, P_SUM, buf, sizeof(buf), &r));
	shared->id = p.id;
	while (!shared->stop) {
		buf[shared->calls % 20]++;
		if (rpal_call(p.id, P_SUM, buf, sizeof(buf), &r) ||
		    r != p_sum(buf, sizeof(buf), NULL, NULL))
			shared->wrong++;
		shared->calls++;
	}
	call_peer_end(&p);
	return shared->wrong != 0;
}

/* Linked with nobody: says that threads of others call it, and wants to be called home. */
static int stranger_role(void)
{
	struct rpal_deadline arg = { .size = sizeof(arg) };
	u64 end = test_now_ns() + 2000000000ULL;
	struct rpal_block *b;
	u32 i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	dev = init(1);
	b = own_block(&arg.tid);
	b->deadline = 1;
	for (i = 0; test_now_ns() < end; i++) {
		u64 generation = i % 64;

		b->word = (u64)RPAL_TID(shared->id, i / 64 % 3) << 32 | generation << 8 |
			  RPAL_ST_CALL;
		ioctl(dev, RPAL_IOC_DEADLINE, &arg);
	}
	b->word = RPAL_ST_RUNNING;
	b->deadline = 0;
	return 0;
}

static int deadlines_role(void)
{
	u64 end = test_now_ns() + 2000000000ULL;
	struct rpal_deadline arg = { .size = sizeof(arg) };
	struct rpal_block *b;

	dev = init(1);
	b = own_block(&arg.tid);
	b->deadline = 1;
	ioctl(dev, RPAL_IOC_DEADLINE, &arg);
	while (test_now_ns() < end)
		usleep(10000);
	b->deadline = 0;
	return 0;
}

static void run_role(const char *role)
{
	struct test_child c;
	int status;

	start(&c, role, NULL);
	status = test_wait(c.pid);
	c.pid = 0;
	CHECK(!status, "%s: %s", role, test_status(status));
}

static void strangers(struct shared *victim)
{
	long kicks, lazy;

	test_begin("who is linked with nobody interrupts nobody");
	lazy = test_file_value(STATS, "lazy_kick");
	run_role("stranger");
	CHECK_IS(test_file_value(STATS, "lazy_kick"), lazy);
	CHECK_IS(victim->wrong, 0);
	test_end();

	test_begin("a deadline that has passed, of a thread in no call");
	kicks = test_file_value(STATS, "kicks");
	run_role("deadlines");
	kicks = test_file_value(STATS, "kicks") - kicks;
	/* That it was asked for counts. */
	CHECK(kicks >= 1 && kicks <= 3, "%ld kicks in two seconds", kicks);
	test_end();
}

/* ----------------------------------------------------- an old mm that lives on */

static char stack[16384] __attribute__((aligned(16)));

static int stays(void *arg CALL_UNUSED)
{
	/* As long as it takes the other to be executed, and to call. */
	while (!shared->go)
		usleep(1000);
	return 0;
}

/* By another program in its place: with the old one's memory still there, and without. */
static int executed(void)
{
	struct call_peer p;
	int i;

	call_init(1);
	call_peer_new(&p, "server", 2);
	for (i = 0; i < 100; i++)
		CHECK_IS(call_result(&p, P_GETPID, NULL, 0, 0), p.child.pid);
	shared->go = 1;
	MUST(wait(NULL) > 0);
	/* It is gone a moment later. */
	for (i = 0; i < 100; i++) {
		CHECK_IS(call_result(&p, P_GETPID, NULL, 0, 0), p.child.pid);
		usleep(5000);
	}
	call_peer_end(&p);
	return test_failures() != 0;
}

/* Registered, it executes itself while somebody else keeps its memory alive. */
static int executes_role(void)
{
	struct rpal_place place = { .size = sizeof(place), .group = "call" };
	u32 tid;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	if (shared->ready)
		return executed();
	dev = init(1);
	own_block(&tid);
	shared->ready = 1;
	MUST(clone(stays, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL) > 0);
	MUST(!ioctl(test_open(), RPAL_IOC_PLACE, &place));
	execl("/proc/self/exe", test_name, NULL);
	return 1;
}

static void old_memory(void)
{
	test_begin("a thread of a program that was executed, and one of before it");
	memset(shared, 0, sizeof(*shared));
	run_role("executes");
	test_end();
}

/* ----------------------------------------- the end of a service in a long fault */

static int fault_fd;
static void *slow_page;

/* Gives the page when somebody has waited for it for long. */
static void *gives_page(void *arg CALL_UNUSED)
{
	struct uffdio_zeropage zero = { .range = { (u64)slow_page, PAGE } };
	struct uffd_msg msg;

	MUST(read(fault_fd, &msg, sizeof(msg)) == sizeof(msg));
	shared->ready = 1;
	/* Longer than anybody is waited for without a reason. */
	usleep(1500000);
	MUST(!ioctl(fault_fd, UFFDIO_ZEROPAGE, &zero));
	return NULL;
}

PROC(p_touch)
{
	return *(volatile unsigned char *)slow_page + 7;
}

static int slow_role(void)
{
	static const rpal_procedure_fn slow[] = { p_touch };
	pthread_t t;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	slow_page = absent_page(&fault_fd);
	MUST(!pthread_create(&t, NULL, gives_page, NULL));
	return call_server(slow, 1);
}

static void *calls_slow(void *arg)
{
	struct call_peer *p = arg;
	int64_t r;

	rpal_call(p->id, 0, NULL, 0, &r);
	return NULL;
}

static int ends_role(void)
{
	struct call_peer p = {};
	pthread_t t;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	dev = init(1);
	snprintf(p.path, sizeof(p.path), "%s", test_arg);
	call_connect(&p);
	MUST(!pthread_create(&t, NULL, calls_slow, &p));
	while (!shared->ready)
		usleep(1000);
	/* The library would give the memory back that the call still needs. */
	MUST(!ioctl(dev, RPAL_IOC_UNREGISTER, NULL));
	/* Whatever it was told: it must be itself, and can end. */
	MUST(!pthread_join(t, NULL));
	return 0;
}

static void ends_in_fault(void)
{
	struct test_child slow, ends;
	char arg[80], path[64];
	int status;

	test_begin("a service ends while its thread waits for a page in a call");
	memset(shared, 0, sizeof(*shared));
	snprintf(path, sizeof(path), "@call-hostile-%d-slow", getpid());
	snprintf(arg, sizeof(arg), "2 %s", path);
	start(&slow, "slow", arg);
	start(&ends, "ends", path);
	status = test_wait(ends.pid);
	ends.pid = 0;
	CHECK(!status, "%s", test_status(status));
	test_reap(&slow);
	test_end();
}

/* ----------------------------------------------- words change while others call */

#define CALLERS 3

static struct rpal_block *areas[2];

static struct rpal_block *random_block(void)
{
	return (void *)((char *)areas[test_random() % 2] +
			test_random() % (test_random() % 2 ? 3 : 8) * RPAL_BLOCK_SIZE);
}

static u64 nearly_right(void)
{
	static const u64 states[] = { RPAL_ST_RUNNING, RPAL_ST_WAIT, RPAL_ST_LAZY, RPAL_ST_DEAD,
				      RPAL_ST_WAIT | RPAL_ST_PENDING };

	if (test_random() % 2)
		return states[test_random() % ARRAY_SIZE(states)];
	return random_block()->call_word | (test_random() % 4 ? 0 : RPAL_ST_PENDING);
}

/* From one microsecond to ten milliseconds, as often of each size. */
static void pause_somehow(void)
{
	u64 end = test_now_ns() + (1000UL << test_random() % 14);

	if (end - test_now_ns() > 100000)
		usleep((end - test_now_ns()) / 1000);
	while (test_now_ns() < end)
		;
}

static void *scribbles(void *arg CALL_UNUSED)
{
	pkru_write(0);
	for (;;) {
		struct rpal_block *b = random_block();

		switch (test_random() % 8) {
		case 0:
			b->callee = random_block()->tid;
			break;
		case 1:
			b->flags = test_random() % 2 ? RPAL_BLOCK_ASYNC : 0;
			break;
		case 2:
			b->deadline = test_now_ns() + test_random() % 2000000;
			break;
		case 3:
			/* All of a call at once. */
			b->word = random_block()->call_word;
			random_block()->callee = b->tid;
			break;
		default:
			b->word = nearly_right();
		}
		shared->calls++;
		pause_somehow();
	}
	return NULL;
}

static void *calls_on(void *arg)
{
	struct call_peer *p = arg;
	int64_t r;

	for (;;)
		rpal_call_timeout(p->id, test_random() % P_NR, NULL, 0, &r, 0, 100);
	return NULL;
}

/* What it has to say when it crashes is of no interest. */
static void be_quiet(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	MUST(fd >= 0 && dup2(fd, 1) == 1);
}

static int scribbled_role(void)
{
	be_quiet();
	return server_role();
}

static int scribbler_role(void)
{
	struct rpal_peer peer = { .size = sizeof(peer) };
	struct call_peer p = {};
	struct rpal_block *b;
	pthread_t t;
	u32 tid;
	int i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	be_quiet();
	dev = init(2);
	call_receivers(2);
	snprintf(p.path, sizeof(p.path), "%s", test_arg);
	call_connect(&p);
	b = own_block(&tid);
	areas[0] = (void *)((char *)b - RPAL_TID_INDEX(tid) * RPAL_BLOCK_SIZE);
	peer.id = p.id;
	MUST(!ioctl(dev, RPAL_IOC_PEER, &peer));
	areas[1] = (void *)peer.area;
	for (i = 0; i < CALLERS; i++)
		MUST(!pthread_create(&t, NULL, calls_on, &p));
	usleep(20000);
	scribbles(NULL);
	return 0;
}

/* One pair after the other, until they die of it or stand still. */
static void scribble(const char *seconds)
{
	u64 end = test_now_ns() + (seconds ? atoi(seconds) : 8) * 1000000000ULL;
	long forged = test_file_value(STATS, "words_forged");
	struct test_child server, scribbler;
	char arg[80], path[64];
	long words = 0;
	int n;

	test_begin("words that are nearly right, while others call");
	for (n = 0; test_now_ns() < end || (!words && n < 20); n++) {
		bool begun = false;
		siginfo_t si = {};
		u64 until = test_now_ns() + test_patience() * 1000000000ULL;

		shared->calls = 0;
		snprintf(path, sizeof(path), "@call-hostile-%d-s%d", getpid(), n);
		snprintf(arg, sizeof(arg), "3 %s", path);
		start(&server, "scribbled", arg);
		start(&scribbler, "scribbler", path);
		while (test_now_ns() < until && !si.si_pid) {
			usleep(10000);
			/* Two seconds from its first word on. */
			if (shared->calls && !begun)
				until = test_now_ns() + 2000000000ULL;
			begun |= shared->calls > 0;
			waitid(P_PID, scribbler.pid, &si, WEXITED | WNOHANG | WNOWAIT);
		}
		test_reap(&scribbler);
		test_reap(&server);
		words += shared->calls;
	}
	forged = test_file_value(STATS, "words_forged") - forged;
	printf("# %d pairs, %ld words, %ld of them seen to be forged\n", n, words, forged);
	CHECK(words > 0, "nothing was tried");
	test_end();
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "server", server_role },
					  { "pretender", pretender_role },
					  { "waiter", waiter_role },
					  { "remains", remains_role },
					  { "victim", victim_role },
					  { "stranger", stranger_role },
					  { "deadlines", deadlines_role },
					  { "executes", executes_role },
					  { "slow", slow_role },
					  { "ends", ends_role },
					  { "scribbler", scribbler_role },
					  { "scribbled", scribbled_role },
					  {} };

int main(int argc, char **argv)
{
	static const char *const names[] = { "sleeps", "runs", "makes system calls",
					     "waits for a page" };
	struct test_child victim;
	struct shared *of_victim;
	enum pretender what;
	int fd, status;
	enum way way;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &shared_fd);
	/* By SIGSTOP all; in other ways what is different there. */
	for (way = 0; way < NR_WAYS; way++)
		for (what = 0; what < NR_PRETENDERS; what++)
			if (way == STOP || what == PAUSED || (way >= PEER_STOPS && what == RUNNING))
				stoppable(names[what], what, way);
	run_role("remains");
	old_memory();
	ends_in_fault();

	/* From here on there are some who have nothing to do with it. */
	fd = shared_fd;
	of_victim = test_shared_new(sizeof(*shared), &shared_fd);
	start(&victim, "victim", NULL);
	while (of_victim->calls < 10)
		usleep(1000);
	strangers(of_victim);
	shared_fd = fd;
	scribble(argc > 1 ? argv[1] : NULL);
	test_begin("who has nothing to do with all that has seen nothing of it");
	of_victim->stop = 1;
	status = test_wait(victim.pid);
	victim.pid = 0;
	CHECK(!status, "%s", test_status(status));
	CHECK_IS(of_victim->wrong, 0);
	test_end();
	return test_finish();
}
