// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Whatever one process does in the middle of calls, be it to end threads, to end
 * itself, to be frozen or to be killed, the other lives and learns of it.
 *
 * usage: call-life [LIVES]: how many threads come and go
 */
#include "call.h"

#include <elf.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ------------------------------------------------------------------- server */

enum {
	P_ADDR, /* of its state, for who looks from outside */
	P_STATE,
	P_LOOP,	 /* until it is let go */
	P_SLEEP, /* the same, asleep */
	P_END,	 /* in one of the ways below */
	P_CHURN, /* receivers come and go from now on, or do not any more */
	P_TOUCH, /* all of the memory that it gets first */
	P_BACK,	 /* calls its caller */
	P_NR,
};

enum {
	END_EXIT,
	END__EXIT,
	END_EXEC,
	END_PTHREAD_EXIT,
	END_CANCEL_SELF,
	END_ABORT,
	END_SEGV,
	END_NR,
};

static const char *const end_names[END_NR] = {
	[END_EXIT] = "exit()",
	[END__EXIT] = "_exit()",
	[END_EXEC] = "exec",
	[END_PTHREAD_EXIT] = "pthread_exit()",
	[END_CANCEL_SELF] = "pthread_cancel() of itself",
	[END_ABORT] = "abort()",
	[END_SEGV] = "a fault",
};

/* What the procedures of a process do; peers read and write it from outside. */
static struct state {
	int held; /* how many are in P_LOOP or P_SLEEP */
	int let_go;
	int served;
	int back;  /* what calling back has given */
	int lives; /* of receivers */
	pid_t tid; /* of the receiver that was held last */
	pthread_t thread;
} state;

PROC(p_addr)
{
	return (int64_t)(uintptr_t)&state;
}

PROC(p_state)
{
	return __atomic_add_fetch(&state.served, 1, __ATOMIC_RELAXED);
}

static int64_t hold(bool asleep)
{
	int was = __atomic_load_n(&state.let_go, __ATOMIC_ACQUIRE);

	state.tid = call_tid;
	state.thread = pthread_self();
	__atomic_add_fetch(&state.held, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&state.let_go, __ATOMIC_ACQUIRE) == was) {
		if (asleep)
			usleep(1000);
		else
			test_pause();
	}
	__atomic_sub_fetch(&state.held, 1, __ATOMIC_RELEASE);
	return 4711;
}

PROC(p_loop)
{
	return hold(false);
}

PROC(p_sleep)
{
	return hold(true);
}

static void end_by(int how)
{
	switch (how) {
	case END_EXIT:
		exit(0);
	case END__EXIT:
		_exit(0);
	case END_EXEC:
		execl("/bin/true", "true", NULL);
		break;
	case END_PTHREAD_EXIT:
		pthread_exit(NULL);
	case END_CANCEL_SELF:
		pthread_cancel(pthread_self());
		pthread_testcancel();
		break;
	case END_ABORT:
		abort();
	case END_SEGV:
		signal(SIGSEGV, SIG_DFL);
		asm volatile("movb $1, 16" : : : "memory");
	}
}

struct end_arg {
	int how;
	bool lazy;  /* behind a system call */
	bool other; /* by another thread, while this one sleeps */
};

static void *end_thread(void *arg)
{
	end_by((int)(intptr_t)arg);
	return NULL;
}

PROC(p_end)
{
	const struct end_arg *e = arg;
	pthread_t thread;
	int how = e->how;

	if (e->lazy)
		syscall(SYS_getppid);
	if (!e->other)
		end_by(how);
	MUST(!pthread_create(&thread, NULL, end_thread, (void *)(intptr_t)how));
	for (;;)
		pause();
	return 0;
}

/* Receivers that serve for some instants each. */
static bool churning;

static void *short_receiver(void *arg CALL_UNUSED)
{
	int r;

	call_tid = syscall(SYS_gettid);
	r = rpal_serve(-1, test_random() % 4);
	CHECK(r == RPAL_SERVE_TIMEOUT || r == -EINTR, "serve: %d: %s", r, rpal_last_error());
	if (test_random() % 2)
		rpal_thread_exit();
	__atomic_add_fetch(&state.lives, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void *churn_thread(void *arg CALL_UNUSED)
{
	pthread_t thread;

	while (__atomic_load_n(&churning, __ATOMIC_ACQUIRE)) {
		MUST(!pthread_create(&thread, NULL, short_receiver, NULL));
		pthread_join(thread, NULL);
	}
	return NULL;
}

PROC(p_churn)
{
	static pthread_t thread[2];
	bool on = len;
	size_t i;

	__atomic_store_n(&churning, on, __ATOMIC_RELEASE);
	for (i = 0; i < ARRAY_SIZE(thread); i++) {
		if (on)
			NEED(!pthread_create(&thread[i], NULL, churn_thread, NULL));
		else
			NEED(!pthread_join(thread[i], NULL));
	}
	NEED(!test_failures());
	return state.lives;
}

struct touch_arg {
	bool map;  /* get it, else write to it */
	bool lazy; /* on the receiver's own task */
	size_t len;
};

PROC(p_touch)
{
	static volatile char *p;
	struct touch_arg t = *(struct touch_arg *)arg;
	size_t i;

	if (t.map) {
		p = mmap(NULL, t.len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		NEED(p != MAP_FAILED);
		return 0;
	}
	if (t.lazy)
		syscall(SYS_getppid);
	for (i = 0; i < t.len; i += PAGE)
		p[i] = 1;
	return 0;
}

PROC(p_back)
{
	int err;

	__atomic_add_fetch(&state.held, 1, __ATOMIC_RELEASE);
	err = rpal_call(caller->service_id, P_SLEEP, NULL, 0, NULL);
	/* Its caller, who may have ended, does not hear of it: others may ask. */
	state.back = err;
	__atomic_sub_fetch(&state.held, 1, __ATOMIC_RELEASE);
	return err;
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_ADDR] = p_addr, [P_STATE] = p_state, [P_LOOP] = p_loop,   [P_SLEEP] = p_sleep,
	[P_END] = p_end,   [P_CHURN] = p_churn, [P_TOUCH] = p_touch, [P_BACK] = p_back,
};

static int server_role(void)
{
	struct rlimit inf = { RLIM_INFINITY, RLIM_INFINITY };

	MUST(!setrlimit(RLIMIT_CORE, &inf));
	test_seed(getpid());
	return call_server(procs, P_NR);
}

/* The same with room for receivers that come later: half of them go at once. */
static void leave_room(void)
{
	static int begun;

	if (__atomic_add_fetch(&begun, 1, __ATOMIC_RELAXED) % 2)
		pthread_exit(NULL);
}

static int roomy_role(void)
{
	call_receiver_begins = leave_room;
	return server_role();
}

/* ------------------------------------------------- another process that calls */

struct order {
	char path[64];
	int proc;
	int die; /* by end_by() in another thread during the call, if not negative */
};

/* Connects, calls, tells the driver how that went, and waits for the next order. */
static int caller_role(void)
{
	struct rlimit inf = { RLIM_INFINITY, RLIM_INFINITY };
	struct call_peer p = {};
	struct order o;
	pthread_t thread;

	MUST(!setrlimit(RLIMIT_CORE, &inf));
	MUST(!rpal_export(P_LOOP, p_loop, NULL));
	MUST(!rpal_export(P_SLEEP, p_sleep, NULL));
	MUST(!rpal_export(P_ADDR, p_addr, NULL));
	call_init(2);
	call_receivers(2);
	for (;;) {
		test_recv(TEST_FD_DRIVER, &o, sizeof(o));
		strcpy(p.path, o.path);
		if (p.id <= 0)
			call_connect(&p);
		test_send_u64(TEST_FD_DRIVER, rpal_get_service_id());
		if (o.die >= 0) {
			/* Until the client says that the call is where it is to be. */
			MUST(!pthread_create(&thread, NULL, call_thread_run,
					     &(struct call_thread){ .peer = &p, .proc = o.proc }));
			test_recv_u64(TEST_FD_DRIVER);
			end_by(o.die);
		}
		test_send_u64(TEST_FD_DRIVER, rpal_call(p.id, o.proc, NULL, 0, NULL));
	}
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;
static struct state *a_state; /* in its memory */

/* A word of a peer's state; 0 if the peer has gone. */
static int peek(struct call_peer *p, int *where)
{
	int v = 0;

	if (rpal_copy_prepare(p->id))
		return 0;
	v = __atomic_load_n(where, __ATOMIC_ACQUIRE);
	rpal_copy_finish();
	return v;
}

static bool wait_held(struct call_peer *p, struct state *s, int n)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (peek(p, &s->held) != n) {
		if (!CHECK(test_now_ns() < end, "%d procedures run, not %d", peek(p, &s->held), n))
			return false;
		usleep(1000);
	}
	return true;
}

static void let_go(struct call_peer *p, struct state *s)
{
	if (!CHECK(!rpal_copy_prepare(p->id), "%s", rpal_last_error()))
		return;
	__atomic_add_fetch(&s->let_go, 1, __ATOMIC_RELEASE);
	rpal_copy_finish();
}

static struct state *state_of(struct call_peer *p)
{
	return (struct state *)(uintptr_t)call_result(p, P_ADDR, NULL, 0, 0);
}

static void check_a(void)
{
	CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "no more calls");
}

/* ------------------------------------------------------------------ threads */

static int lives_left;

static void *short_sender(void *arg CALL_UNUSED)
{
	int i, n = test_random() % 4;

	for (i = 0; i < n; i++)
		CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "no result");
	if (test_random() % 2)
		rpal_sender_exit();
	if (test_random() % 2)
		pthread_exit(NULL);
	return NULL;
}

static void *sender_lives(void *arg CALL_UNUSED)
{
	pthread_t thread;

	while (__atomic_sub_fetch(&lives_left, 1, __ATOMIC_RELAXED) >= 0) {
		MUST(!pthread_create(&thread, NULL, short_sender, NULL));
		pthread_join(thread, NULL);
	}
	return NULL;
}

static void threads_come_and_go(int lives)
{
	pthread_t thread[4];
	int64_t receivers;
	size_t i;

	test_begin("%d senders come and go while receivers do", lives);
	lives_left = lives;
	call_result(&a, P_CHURN, "on", 2, 0);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		MUST(!pthread_create(&thread[i], NULL, sender_lives, NULL));
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	receivers = call_result(&a, P_CHURN, NULL, 0, 0);
	CHECK(receivers > 0, "%ld receivers", (long)receivers);
	check_a();
	test_end();
}

/* One receiver less; the process lives, and others of its receivers serve. */
static void receiver_ends(int how, bool lazy)
{
	struct end_arg e = { .how = how, .lazy = lazy };
	struct call_peer p;

	test_begin("%s in a procedure%s", end_names[how], lazy ? " behind the lazy switch" : "");
	call_peer_new(&p, "server", 2);
	CHECK_IS(call_error(&p, P_END, &e, sizeof(e)), -EPIPE);
	CHECK(call_result(&p, P_STATE, NULL, 0, 0) == 1, "the other receiver");
	CHECK_IS(call_error(&p, P_END, &e, sizeof(e)), -EPIPE);
	/* There is none left. */
	CHECK_IS(call_error(&p, P_STATE, NULL, 0), -ECONNREFUSED);
	call_peer_end(&p);
	check_a();
	test_end();
}

/* A thread is cancelled while it calls; the call need not end for that. */
static void *cancelled_sender(void *arg)
{
	struct call_thread *c = arg;
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	return call_thread_run(c);
}

static void sender_cancelled(int proc, bool async)
{
	struct call_thread c = { .peer = &a, .proc = proc };
	void *ret = NULL;

	test_begin("a sender is cancelled%s in a procedure that %s", async ? " at once" : "",
		   proc == P_LOOP ? "loops" : "sleeps");
	MUST(!pthread_create(&c.thread, NULL, async ? cancelled_sender : call_thread_run, &c));
	wait_held(&a, a_state, 1);
	pthread_cancel(c.thread);
	if (async) {
		/* It goes, and its call is finished without it. */
		pthread_join(c.thread, &ret);
		CHECK(ret == PTHREAD_CANCELED, "%p", ret);
		CHECK(!c.done, "it has come back");
		let_go(&a, a_state);
	} else {
		usleep(20000);
		CHECK_IS(peek(&a, &a_state->held), 1);
		let_go(&a, a_state);
		CHECK_IS(call_join(&c), 0);
		CHECK_IS(c.result, 4711);
	}
	wait_held(&a, a_state, 0);
	check_a();
	test_end();
}

/* --------------------------------------------------------------- whole ends */

static void process_ends(int how, bool lazy, bool other)
{
	struct end_arg e = { .how = how, .lazy = lazy, .other = other };
	struct call_thread c[2];
	struct call_peer p;
	struct state *s;
	int i, status;

	test_begin("%s %s%s, with other calls in flight", end_names[how],
		   other ? "by another thread" : "in a procedure",
		   lazy ? " behind the lazy switch" : "");
	call_peer_new(&p, "server", 4);
	s = state_of(&p);
	call_begin(&c[0], &p, P_LOOP, NULL, 0);
	call_begin(&c[1], &p, P_SLEEP, NULL, 0);
	wait_held(&p, s, 2);
	CHECK_IS(call_error(&p, P_END, &e, sizeof(e)), -EPIPE);
	for (i = 0; i < 2; i++)
		CHECK_IS(call_join(&c[i]), -EPIPE);
	status = test_wait(p.child.pid);
	if (how == END_ABORT || how == END_SEGV)
		CHECK(WIFSIGNALED(status), "%s", test_status(status));
	else
		CHECK(!status, "%s", test_status(status));
	p.child.pid = 0;
	call_peer_end(&p);
	check_a();
	test_end();
}

static void order(struct call_peer *p, int proc, int die)
{
	struct order o = { .proc = proc, .die = die };

	strcpy(o.path, a.path);
	test_send(p->child.sock, &o, sizeof(o));
	p->id = test_recv_u64(p->child.sock);
	CHECK(p->id > 0, "service %d", p->id);
}

static void caller_new(struct call_peer *p)
{
	struct test_spawn s = { .role = "caller", .group = "call" };
	int err = test_spawn(&p->child, &s);

	p->sock = -1;
	if (!CHECK(!err, "caller: %d", err))
		_exit(1);
}

/* The caller's end is none for the called: its procedure is finished. */
static void caller_ends(int proc, int how)
{
	struct call_peer p;
	int status;

	test_begin("the caller of a procedure that %s ends by %s",
		   proc == P_LOOP ? "loops" : "sleeps", end_names[how]);
	caller_new(&p);
	order(&p, proc, how);
	wait_held(&a, a_state, 1);
	test_send_u64(p.child.sock, 0);
	status = test_wait(p.child.pid);
	CHECK(how >= END_ABORT ? WIFSIGNALED(status) : !status, "%s", test_status(status));
	CHECK_IS(peek(&a, &a_state->held), 1);
	let_go(&a, a_state);
	wait_held(&a, a_state, 0);
	check_a();
	p.child.pid = 0;
	test_reap(&p.child);
	test_end();
}

/* The called has called back: both directions end at once. */
static void caller_ends_called(int how)
{
	struct call_peer p;
	int status;

	test_begin("who calls and is called back ends by %s", end_names[how]);
	caller_new(&p);
	order(&p, P_BACK, how);
	wait_held(&a, a_state, 1);
	/* Where it then is cannot be seen from here. */
	usleep(50000);
	test_send_u64(p.child.sock, 0);
	status = test_wait(p.child.pid);
	CHECK(how >= END_ABORT ? WIFSIGNALED(status) : !status, "%s", test_status(status));
	wait_held(&a, a_state, 0);
	CHECK_IS(peek(&a, &a_state->back), -EPIPE);
	check_a();
	p.child.pid = 0;
	test_reap(&p.child);
	test_end();
}

/* ------------------------------------------------------- to and fro, and again */

static long services_rows(void)
{
	FILE *f = fopen("/sys/kernel/debug/rpal/services", "re");
	char line[256];
	long n = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

#define STATS "/sys/kernel/debug/rpal/stats"

/* Links that there are now. */
static long links_now(void)
{
	return test_file_value(STATS, "links") - test_file_value(STATS, "unlinks");
}

static int count_vma(const struct test_vma *v CALL_UNUSED, void *arg)
{
	++*(int *)arg;
	return 0;
}

static int open_files(void)
{
	int n = 0, fd;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void again_and_again(int times)
{
	int i, files = 0, vmas = 0, now = 0, sock;
	u64 key, last = 0;
	long rows = 0, links = 0, users = 0;

	test_begin("rpal_exit() and rpal_init() %d times", times);
	for (i = 0; i < times; i++) {
		rpal_exit();
		close(a.sock);
		call_init(1 + i % 4);
		CHECK_IS(rpal_get_service_key(&key), RPAL_SUCCESS);
		CHECK(key && key != last, "the same key");
		last = key;
		a.id = rpal_connect(a.path, test_patience() * 1000, &sock);
		a.sock = sock;
		if (!CHECK(a.id > 0, "connect: %d: %s", a.id, rpal_last_error()))
			break;
		check_a();
		if (i == times / 2) {
			files = open_files();
			rows = services_rows();
			links = links_now();
			users = test_file_value(STATS, "hook_users");
			test_for_each_vma(false, count_vma, &vmas);
		}
	}
	CHECK_IS(open_files(), files);
	CHECK_IS(services_rows(), rows);
	CHECK_IS(links_now(), links);
	CHECK_IS(test_file_value(STATS, "hook_users"), users);
	test_for_each_vma(false, count_vma, &now);
	/* The heap of the C library may be in one piece more or less. */
	CHECK(now <= vmas + 4, "%d mappings, %d before", now, vmas);
	test_end();
}

/* --------------------------------------------------------------------- cores */

/* All that is in the core of a process is its own. */
static void check_core(pid_t pid, u64 base)
{
	char path[64];
	int fd, i, loads = 0;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	snprintf(path, sizeof(path), "/tmp/core.%d", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!CHECK(fd >= 0, "no core at %s", path))
		return;
	MUST(pread(fd, &eh, sizeof(eh), 0) == sizeof(eh));
	for (i = 0; i < eh.e_phnum; i++) {
		MUST(pread(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph)) == sizeof(ph));
		if (ph.p_type != PT_LOAD || ph.p_vaddr >> 63)
			continue; /* vsyscall */
		loads++;
		CHECK(ph.p_vaddr >= base && ph.p_vaddr + ph.p_memsz <= base + RPAL_SLOT_SIZE,
		      "%llx, %llx bytes in the core", (unsigned long long)ph.p_vaddr,
		      (unsigned long long)ph.p_memsz);
	}
	CHECK(loads > 5, "%d segments", loads);
	close(fd);
	unlink(path);
}

/* The called process dies in a procedure, on its own task or on the caller's. */
static void core_of_called(int how, bool lazy, bool other)
{
	struct end_arg e = { .how = how, .lazy = lazy, .other = other };
	struct call_peer p;
	int status;
	u64 base;

	test_begin("the core of a called process that dies by %s%s%s", end_names[how],
		   lazy ? " behind the lazy switch" : "", other ? " of another thread" : "");
	call_peer_new(&p, "server", 2);
	base = (u64)state_of(&p) & ~(RPAL_SLOT_SIZE - 1);
	CHECK_IS(call_error(&p, P_END, &e, sizeof(e)), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WCOREDUMP(status), "%s", test_status(status));
	check_core(p.child.pid, base);
	p.child.pid = 0;
	call_peer_end(&p);
	check_a();
	test_end();
}

static void core_of_caller(int proc, int how)
{
	struct call_peer p;
	int status;

	test_begin("the core of a caller that dies by %s, of a procedure that %s", end_names[how],
		   proc == P_LOOP ? "loops" : "sleeps");
	caller_new(&p);
	order(&p, proc, how);
	wait_held(&a, a_state, 1);
	test_send_u64(p.child.sock, 0);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WCOREDUMP(status), "%s", test_status(status));
	check_core(p.child.pid, (u64)p.id << RPAL_SLOT_SHIFT);
	let_go(&a, a_state);
	wait_held(&a, a_state, 0);
	p.child.pid = 0;
	test_reap(&p.child);
	check_a();
	test_end();
}

/* ------------------------------------------------------------------ cgroups */

#define CGROUP "/sys/fs/cgroup"

static char group_path[64];

static bool group_write(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group_path, file);
	return test_write_file(path, text);
}

static long group_value(const char *file, const char *word)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group_path, file);
	return test_file_value(path, word);
}

/* A group with one process in it; false if there are no such groups here. */
static bool group_new(pid_t pid, const char *needs)
{
	static int n;
	char text[16], path[160];

	snprintf(group_path, sizeof(group_path), CGROUP "/life-%d-%d", getpid(), n++);
	test_write_file(CGROUP "/cgroup.subtree_control", "+memory");
	if (mkdir(group_path, 0755))
		return false;
	snprintf(path, sizeof(path), "%s/%s", group_path, needs);
	snprintf(text, sizeof(text), "%d", pid);
	if (access(path, F_OK) || !group_write("cgroup.procs", text)) {
		rmdir(group_path);
		return false;
	}
	return true;
}

/* When the last process in it has gone. */
static void group_end(void)
{
	int i;

	for (i = 0; i < test_patience() * 100 && rmdir(group_path); i++)
		usleep(10000);
	CHECK(access(group_path, F_OK), "%s cannot be removed", group_path);
}

static void freeze(bool on)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	CHECK(group_write("cgroup.freeze", on ? "1" : "0"), "errno %d", errno);
	while (group_value("cgroup.events", "frozen") != on) {
		if (!CHECK(test_now_ns() < end, "not %s", on ? "frozen" : "thawed"))
			break;
		usleep(1000);
	}
}

static void stop(struct call_peer *p, bool on)
{
	siginfo_t info;

	kill(p->child.pid, on ? SIGSTOP : SIGCONT);
	CHECK_IS(waitid(P_PID, p->child.pid, &info, on ? WSTOPPED : WCONTINUED), 0);
}

static int timed(struct call_peer *p, int proc, int64_t *result)
{
	return rpal_call_timeout(p->id, proc, NULL, 0, result, 0, 300);
}

/* The receiver's process stands still: how does it go for the caller? */
static void receiver_stands(bool by_group)
{
	struct call_thread c[2];
	struct call_peer p;
	struct state *s;
	int64_t r = 0;
	int i;

	test_begin("%s receivers of calls", by_group ? "frozen" : "stopped");
	call_peer_new(&p, "server", 4);
	s = state_of(&p);
	if (by_group && !group_new(p.child.pid, "cgroup.freeze")) {
		test_skip_case("no groups that can be frozen");
		goto out;
	}
	call_begin(&c[0], &p, P_LOOP, NULL, 0);
	call_begin(&c[1], &p, P_SLEEP, NULL, 0);
	wait_held(&p, s, 2);
	by_group ? freeze(true) : stop(&p, true);
	/* One that begins now: whether it ends in time does not matter here. */
	i = timed(&p, P_SLEEP, &r);
	CHECK(i == -ETIMEDOUT, "%d: %s", i, rpal_last_error());
	/* What was begun before has not ended, nor does it. */
	let_go(&p, s);
	usleep(100000);
	CHECK(!__atomic_load_n(&c[0].done, __ATOMIC_ACQUIRE), "the loop has ended");
	CHECK(!__atomic_load_n(&c[1].done, __ATOMIC_ACQUIRE), "the sleep has ended");
	by_group ? freeze(false) : stop(&p, false);
	for (i = 0; i < 2; i++) {
		CHECK_IS(call_join(&c[i]), 0);
		CHECK_IS(c[i].result, 4711);
	}
	/* The one that was given up, if it has begun. */
	let_go(&p, s);
	for (i = 0; i < 8; i++)
		CHECK(call_result(&p, P_STATE, NULL, 0, 0) > 0, "call %d", i);
	if (by_group)
		CHECK_IS(kill(p.child.pid, SIGKILL), 0);
out:
	call_peer_end(&p);
	if (by_group && group_path[0])
		group_end();
	check_a();
	test_end();
}

/* The caller's process stands still: what it has called goes on, and is answered. */
static void caller_stands(int proc, bool by_group)
{
	struct call_peer p;

	test_begin("%s caller of a procedure that %s", by_group ? "frozen" : "stopped",
		   proc == P_LOOP ? "loops" : "sleeps");
	caller_new(&p);
	order(&p, proc, -1);
	wait_held(&a, a_state, 1);
	if (by_group && !group_new(p.child.pid, "cgroup.freeze")) {
		test_skip_case("no groups that can be frozen");
		let_go(&a, a_state);
		by_group = false;
	} else {
		by_group ? freeze(true) : stop(&p, true);
		let_go(&a, a_state);
		wait_held(&a, a_state, 0);
		check_a();
		by_group ? freeze(false) : stop(&p, false);
	}
	CHECK_IS(test_recv_u64(p.child.sock), 0);
	test_reap(&p.child);
	if (by_group)
		group_end();
	check_a();
	test_end();
}

static void killed_by_group(int proc)
{
	struct call_thread c;
	struct call_peer p;
	int status;

	test_begin("cgroup.kill of the called, which %s", proc == P_LOOP ? "loops" : "sleeps");
	call_peer_new(&p, "server", 2);
	if (!group_new(p.child.pid, "cgroup.kill")) {
		test_skip_case("no groups that can be killed");
		call_peer_end(&p);
		test_end();
		return;
	}
	call_begin(&c, &p, proc, NULL, 0);
	wait_held(&p, state_of(&p), 1);
	CHECK(group_write("cgroup.kill", "1"), "errno %d", errno);
	CHECK_IS(call_join(&c), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", test_status(status));
	p.child.pid = 0;
	call_peer_end(&p);
	group_end();

	caller_new(&p);
	order(&p, proc, -1);
	wait_held(&a, a_state, 1);
	CHECK(group_new(p.child.pid, "cgroup.kill") && group_write("cgroup.kill", "1"), "errno %d",
	      errno);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", test_status(status));
	let_go(&a, a_state);
	wait_held(&a, a_state, 0);
	p.child.pid = 0;
	test_reap(&p.child);
	group_end();
	check_a();
	test_end();
}

/* Memory of the called is used up, by its own task or by the caller's. */
static void out_of_memory(bool lazy)
{
	struct touch_arg t = { .map = true, .len = 128 * MB };
	struct call_peer p;
	int status;

	test_begin("out of memory in a procedure%s", lazy ? " on its own task" : "");
	call_peer_new(&p, "server", 2);
	if (!group_new(p.child.pid, "memory.max")) {
		test_skip_case("no groups with limited memory");
		call_peer_end(&p);
		test_end();
		return;
	}
	CHECK(group_write("memory.max", "33554432"), "errno %d", errno);
	group_write("memory.swap.max", "0");
	CHECK_IS(call_error(&p, P_TOUCH, &t, sizeof(t)), 0);
	t.map = false;
	t.lazy = lazy;
	CHECK_IS(call_error(&p, P_TOUCH, &t, sizeof(t)), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", test_status(status));
	CHECK(group_value("memory.events", "oom_kill") > 0, "nobody was killed");
	p.child.pid = 0;
	call_peer_end(&p);
	group_end();
	check_a();
	test_end();
}

/* ------------------------------------------------------------- ending threads */

static pthread_key_t late;
static int late_err[4];

/* As a signal handler may, which has interrupted anything: also free(). */
static void call_late(void *arg)
{
	struct rpal_buffer b = { .addr = arg, .len = 1 };
	int64_t r;
	char c;

	late_err[0] = rpal_call(a.id, P_STATE, NULL, 0, &r);
	late_err[1] = rpal_copy_buffer(a.id, &c, &b, 0, 1);
	late_err[2] = rpal_thread_init();
	late_err[3] = strstr(rpal_last_error(), "is ending") ? 1 : 0;
}

static void *call_and_end(void *unused)
{
	CHECK_IS(call_error(&a, P_STATE, NULL, 0), 0);
	MUST(!pthread_setspecific(late, a_state));
	return unused;
}

/* The library's own destructor has run: its key was there first. */
static void calls_while_it_ends(void)
{
	pthread_t t;

	test_begin("calls of a thread that is ending");
	MUST(!pthread_key_create(&late, call_late));
	MUST(!pthread_create(&t, NULL, call_and_end, NULL));
	MUST(!pthread_join(t, NULL));
	pthread_key_delete(late);
	CHECK_IS(late_err[0], -ENXIO);
	CHECK_IS(late_err[1], -ENXIO);
	CHECK_IS(late_err[2], -ENXIO);
	CHECK_IS(late_err[3], 1);
	check_a();
	test_end();
}

/* ----------------------------------------------------------------- sections */

/* Each is a client of its own, with a server: what one leaves behind is no other's. */
static void begin(const char *server, int receivers)
{
	call_init(4);
	call_peer_new(&a, server, receivers);
	a_state = state_of(&a);
}

static int end(void)
{
	check_a();
	call_peer_end(&a);
	return 0;
}

static int threads_role(void)
{
	int how, lazy;

	begin("roomy", 8);
	calls_while_it_ends();
	threads_come_and_go(atoi(test_arg));
	for (how = END_PTHREAD_EXIT; how <= END_CANCEL_SELF; how++)
		for (lazy = 0; lazy < 2; lazy++)
			receiver_ends(how, lazy);
	sender_cancelled(P_LOOP, false);
	sender_cancelled(P_SLEEP, false);
	sender_cancelled(P_LOOP, true);
	sender_cancelled(P_SLEEP, true);
	return end();
}

static int ends_role(void)
{
	int how, lazy;

	begin("server", 4);
	for (how = END_EXIT; how <= END_EXEC; how++) {
		for (lazy = 0; lazy < 2; lazy++)
			process_ends(how, lazy, false);
		process_ends(how, false, true);
		caller_ends(P_LOOP, how);
		caller_ends(P_SLEEP, how);
		caller_ends_called(how);
	}
	caller_ends_called(END_SEGV);
	return end();
}

static int cores_role(void)
{
	int how, i;

	begin("server", 4);
	for (how = END_ABORT; how <= END_SEGV; how++) {
		for (i = 0; i < 3; i++)
			core_of_called(how, i == 1, i == 2);
		core_of_caller(P_LOOP, how);
		core_of_caller(P_SLEEP, how);
	}
	return end();
}

static int still_role(void)
{
	int i;

	begin("server", 4);
	for (i = 0; i < 2; i++) {
		receiver_stands(i);
		caller_stands(P_LOOP, i);
		caller_stands(P_SLEEP, i);
	}
	killed_by_group(P_LOOP);
	killed_by_group(P_SLEEP);
	out_of_memory(false);
	out_of_memory(true);
	return end();
}

static int again_role(void)
{
	begin("server", 4);
	again_and_again(200);
	return end();
}

/* ------------------------------------------------------------------- driver */

static const struct test_role roles[] = {
	{ "server", server_role },   { "roomy", roomy_role }, { "caller", caller_role },
	{ "threads", threads_role }, { "ends", ends_role },   { "cores", cores_role },
	{ "still", still_role },     { "again", again_role }, {}
};

static void section(const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .arg = arg, .group = "call" };
	struct test_child c;
	int status, err = test_spawn(&c, &s);

	MUST(!err);
	status = test_wait(c.pid);
	CHECK(!status, "%s: %s", role, test_status(status));
	close(c.sock);
}

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	MUST(test_write_file("/proc/sys/kernel/core_pattern", "/tmp/core.%p"));
	section("threads", argc > 1 ? argv[1] : "300");
	section("ends", "");
	section("cores", "");
	section("still", "");
	section("again", "");
	return test_finish();
}
