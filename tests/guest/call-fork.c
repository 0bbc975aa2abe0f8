// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Services that fork, start programs and execute others, at any moment: a child
 * has nothing of its parent's links, and neither parent nor peers are disturbed.
 */
#include "call.h"

#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MARKED	"/tmp/call-fork-marked"
#define CONTENT 0x5a

enum { HOW_ORDINARY, HOW_LAUNCHED, HOW_MARKED, HOW_NR };

static const char *const how_names[HOW_NR] = { "an ordinary program", "a program under rpal run",
					       "a marked program" };

/* ------------------------------------------------------- in a forked child */

static void says_forked(int line)
{
	CHECK(strstr(rpal_last_error(), "forked"), "line %d: '%s'", line, rpal_last_error());
}

/* Each that a child may come to call, with links of its parent's. */
static void refuses_all(int peer)
{
	int64_t word = 0;
	uint64_t key;
	struct rpal_gone gone;

	CHECK_IS(rpal_call(peer, 0, NULL, 0, &word), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_call_timeout(peer, 0, NULL, 0, &word, 0, 1000), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_thread_number(), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_thread_init(), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_sender_init(NULL), RPAL_FAILURE);
	says_forked(__LINE__);
	CHECK_IS(rpal_serve(-1, 10), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_get_service_id(), -1);
	says_forked(__LINE__);
	CHECK_IS(rpal_get_service_key(&key), RPAL_FAILURE);
	says_forked(__LINE__);
	CHECK_IS(rpal_request_service(1), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_connect("@nobody", 0, NULL), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_read_gone(&gone, 1), -ENXIO);
	says_forked(__LINE__);
	CHECK_IS(rpal_copy_prepare(peer), RPAL_FAILURE);
	CHECK_IS(rpal_release_service(1), RPAL_FAILURE);
	CHECK_IS(rpal_write_ptrs(peer, 1, &word, 1), -RPAL_INVAL_SERVICE);
	CHECK_IS(rpal_call_cancel(1), -ENXIO);
	says_forked(__LINE__);
	rpal_thread_exit();
	rpal_sender_exit();
	rpal_exit();
}

/*
 * What a child is: like a process that was not placed, without its parent's links.
 * Ends with exit(), with the handlers that the parent had registered.
 */
static void __attribute__((noreturn)) child_is_alone(int peer, const void *there)
{
	int before = test_failures();
	unsigned char byte;

	CHECK_IS(test_load8(there, &byte), SIGSEGV);
	refuses_all(peer);
	CHECK_IS(test_load8(there, &byte), SIGSEGV);
	exit(test_failures() != before);
}

static bool ended_well(pid_t pid)
{
	int status = test_wait(pid);

	return CHECK(!status, "child: %s", test_status(status));
}

/* ------------------------------------------------------------------- server */

enum { P_STATE, P_ADDR, P_FORK, P_SPAWN, P_EXEC, P_RETURN, P_NR };

static unsigned char server_buf[PAGE];
static int calls_served;

PROC(p_state)
{
	return __atomic_add_fetch(&calls_served, 1, __ATOMIC_RELAXED);
}

PROC(p_addr)
{
	memset(server_buf, CONTENT, sizeof(server_buf));
	return (int64_t)(uintptr_t)server_buf;
}

struct fork_arg {
	bool lazy;    /* has entered the kernel before */
	int nr;	      /* children, one after the other */
	char byte[8]; /* to be seen by the procedure, not by its child */
};

PROC(p_fork)
{
	const struct fork_arg *f = arg;
	int i, failures = test_failures();
	unsigned char byte;
	pid_t pid;

	fflush(stdout);
	for (i = 0; i < f->nr; i++) {
		if (f->lazy)
			syscall(SYS_getppid);
		pid = fork();
		NEED(pid >= 0);
		if (!pid)
			child_is_alone(caller->service_id, f->byte);
		NEED(ended_well(pid));
		NEED(!test_load8(f->byte, &byte) && byte == CONTENT);
	}
	NEED(test_failures() == failures);
	return 0;
}

/* All that the C library has to start a program with. */
static int64_t start_programs(void)
{
	char *argv[] = { "sh", "-c", "exit 45", NULL }, line[16] = "";
	int status = -1;
	pid_t pid;
	FILE *f;

	pid = vfork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "exit 44", NULL);
		_exit(1);
	}
	NEED(pid > 0 && waitpid(pid, &status, 0) == pid);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 44);
	NEED(!posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
	NEED(waitpid(pid, &status, 0) == pid);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 45);
	status = system("exit 46");
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 46);
	f = popen("echo hello", "r");
	NEED(f && fgets(line, sizeof(line), f));
	NEED(!strcmp(line, "hello\n"));
	NEED(!pclose(f));
	return 0;
}

PROC(p_spawn)
{
	return start_programs();
}

static void exec_again(int how)
{
	struct rpal_place place = { .size = sizeof(place) };

	strcpy((char *)place.group, "call");
	if (!test_have_pkeys())
		place.flags = RPAL_PLACE_NO_PKEYS;
	switch (how) {
	case HOW_ORDINARY:
		execl("/bin/true", "true", NULL);
		break;
	case HOW_LAUNCHED:
		MUST(!ioctl(test_open(), RPAL_IOC_PLACE, &place));
		execl("/proc/self/exe", test_name, NULL);
		break;
	case HOW_MARKED:
		execl(MARKED, test_name, NULL);
		break;
	}
	test_die(__FILE__, __LINE__, "exec");
}

static void *exec_thread(void *arg)
{
	exec_again((int)(intptr_t)arg);
	return NULL;
}

struct exec_arg {
	int how;
	bool inside; /* the procedure itself, else a thread beside it */
};

PROC(p_exec)
{
	const struct exec_arg *e = arg;
	pthread_t thread;

	if (e->inside)
		exec_again(e->how);
	MUST(!pthread_create(&thread, NULL, exec_thread, (void *)(intptr_t)e->how));
	for (;;)
		pause();
}

static pid_t server_pid;

/* The child does not end in the procedure, but returns from it. */
PROC(p_return)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	NEED(pid >= 0);
	if (!pid)
		return 5;
	NEED(waitpid(pid, &status, 0) == pid);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 33);
	return 4;
}

/* Where that child comes out. */
static void *return_thread(void *arg)
{
	struct epoll_event ev;
	int r, ep = epoll_create1(EPOLL_CLOEXEC);

	if (arg)
		MUST(!rpal_thread_init());
	do {
		r = arg ? rpal_epoll_wait(ep, &ev, 1, -1) : rpal_serve(-1, -1);
		if (arg && r < 0)
			r = -errno;
	} while (r == -EINTR);
	if (getpid() != server_pid)
		_exit(r == -ENXIO && strstr(rpal_last_error(), "forked") ? 33 : 34);
	return NULL;
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_STATE] = p_state, [P_ADDR] = p_addr, [P_FORK] = p_fork,
	[P_SPAWN] = p_spawn, [P_EXEC] = p_exec, [P_RETURN] = p_return,
};

/* Like call_server(), with one receiver that serves, or one that waits for events. */
static int return_role(void)
{
	pthread_t thread;
	const char *path = strchr(test_arg, ' ') + 1;
	int i, fd, id;

	server_pid = getpid();
	for (i = 0; i < P_NR; i++)
		MUST(!rpal_export(i, procs[i], NULL));
	call_init(1);
	MUST(!pthread_create(&thread, NULL, return_thread,
			     (void *)(uintptr_t)(test_arg[0] == '2')));
	fd = rpal_listen(path);
	for (;;) {
		id = rpal_accept(fd, -1, &i);
		CHECK(id > 0 || id == -ECONNABORTED, "accept: %d: %s", id, rpal_last_error());
	}
}

static int server_role(void)
{
	atexit(rpal_exit);
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;
static const void *there; /* the peer's memory */

/* With its memory open a peer's byte can be read. */
static void check_open(int id, const void *p)
{
	unsigned char byte = 0;

	if (rpal_copy_prepare(id)) {
		CHECK(false, "%s", rpal_last_error());
		return;
	}
	CHECK(!test_load8(p, &byte) && byte == CONTENT, "byte %x", byte);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
}

static void check_parent(void)
{
	CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "no more calls");
	check_open(a.id, there);
}

static void fork_alone(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		child_is_alone(a.id, there);
	ended_well(pid);
	check_parent();
}

static void *fork_thread(void *arg)
{
	if (arg)
		CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "no call");
	fork_alone();
	return NULL;
}

static void from_threads(void)
{
	pthread_t thread;

	test_begin("fork by the first thread");
	fork_alone();
	test_end();
	test_begin("fork with a peer's memory open");
	CHECK_IS(rpal_copy_prepare(a.id), RPAL_SUCCESS);
	fork_alone();
	CHECK_IS(rpal_copy_finish(), RPAL_FAILURE); /* check_parent() has closed it */
	test_end();
	test_begin("fork by a sender that is in no call");
	MUST(!pthread_create(&thread, NULL, fork_thread, &a));
	pthread_join(thread, NULL);
	test_end();
	test_begin("fork by a thread that is not registered");
	MUST(!pthread_create(&thread, NULL, fork_thread, NULL));
	pthread_join(thread, NULL);
	test_end();
}

static void from_procedures(void)
{
	struct fork_arg f = { .nr = 3 };
	int i;

	memset(f.byte, CONTENT, sizeof(f.byte));
	for (i = 0; i < 2; i++) {
		test_begin("fork by called code%s", i ? " behind the lazy switch" : "");
		f.lazy = i;
		CHECK_IS(call_result(&a, P_FORK, &f, sizeof(f), 0), 0);
		check_parent();
		test_end();
	}
}

static void return_from_procedure(void)
{
	struct call_peer p;
	int how;

	for (how = 1; how <= 2; how++) {
		test_begin("a forked child returns from the procedure%s",
			   how == 2 ? " to rpal_epoll_wait()" : "");
		call_peer_new(&p, "return", how);
		CHECK_IS(call_result(&p, P_RETURN, NULL, 0, 0), 4);
		CHECK_IS(call_result(&p, P_RETURN, NULL, 0, 0), 4);
		call_peer_end(&p);
		test_end();
	}
}

/* The child lives on, and dies or becomes something else, while the parent calls. */
static void lives_on(void)
{
	int status, i;
	pid_t pid;

	test_begin("a child that is killed");
	pid = fork();
	if (!pid)
		for (;;)
			pause();
	for (i = 0; i < 100; i++)
		CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "call %d", i);
	kill(pid, SIGKILL);
	status = test_wait(pid);
	CHECK(WIFSIGNALED(status), "%s", test_status(status));
	check_parent();
	test_end();
	test_begin("a child that executes a program");
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "exit 7", NULL);
		_exit(1);
	}
	status = test_wait(pid);
	CHECK(status == 7 << 8, "%s", test_status(status));
	check_parent();
	test_end();
}

/* --------------------------------------------- while other threads are calling */

static bool stop;
static int calls_made;

static void *calls_thread(void *arg)
{
	int64_t r;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		int err = rpal_call(a.id, P_STATE, NULL, 0, &r);

		if (!CHECK(!err && r > 0, "%d: %s", err, rpal_last_error()))
			break;
		__atomic_add_fetch(&calls_made, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void while_calling(void)
{
	pthread_t thread[2];
	int i, seen;
	pid_t pid;

	test_begin("children and programs while other threads call");
	stop = false;
	for (i = 0; i < 2; i++)
		MUST(!pthread_create(&thread[i], NULL, calls_thread, NULL));
	for (i = 0; i < 10; i++) {
		seen = __atomic_load_n(&calls_made, __ATOMIC_ACQUIRE);
		fflush(stdout);
		pid = fork();
		if (!pid)
			child_is_alone(a.id, there);
		ended_well(pid);
		CHECK_IS(start_programs(), 0);
		CHECK(call_wait_for(&calls_made, seen + 1), "calls stand still at %d", seen);
	}
	CHECK_IS(call_result(&a, P_SPAWN, NULL, 0, 0), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	check_parent();
	test_end();
}

/* --------------------------------------------------------------------- exec */

/* Others may have gone before. */
static void told_gone(struct call_peer *p, u64 key)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	struct rpal_gone gone = {};

	while (gone.key != key && test_now_ns() < end)
		if (rpal_read_gone(&gone, 1) != 1)
			usleep(1000);
	CHECK(gone.key == key && gone.service_id == p->id && gone.reason == RPAL_GONE_ENDED,
	      "key %llx id %d reason %d", (unsigned long long)gone.key, gone.service_id,
	      gone.reason);
}

PROC(p_give_key)
{
	uint64_t key = 0;

	rpal_get_service_key(&key);
	return key;
}

/*
 * A process that executes another program loses its memory, and with it its links,
 * before its files: who is that quick still reaches its old socket, and must be
 * led to the new one.
 */
static void connect_again(struct call_peer *p)
{
	p->id = rpal_connect(p->path, test_patience() * 1000, &p->sock);
	CHECK(p->id > 0, "connect to %s: %d: %s", p->path, p->id, rpal_last_error());
}

static void exec_one(int how, bool inside)
{
	struct exec_arg e = { .how = how, .inside = inside };
	struct call_peer p;
	int status;
	u64 key;

	test_begin("%s executes %s during a call", inside ? "a procedure" : "another thread",
		   how_names[how]);
	call_peer_new(&p, "exec", 1);
	key = call_result(&p, P_STATE, NULL, 0, 0);
	CHECK_IS(call_error(&p, P_EXEC, &e, sizeof(e)), -EPIPE);
	told_gone(&p, key);
	CHECK_IS(call_error(&p, P_STATE, NULL, 0), -EPIPE);
	close(p.sock);
	if (how == HOW_ORDINARY) {
		status = test_wait(p.child.pid);
		CHECK(!status, "%s", test_status(status));
		p.child.pid = 0;
		p.sock = -1;
	} else {
		connect_again(&p);
		CHECK(call_result(&p, P_STATE, NULL, 0, 0) != (int64_t)key, "the same key");
	}
	call_peer_end(&p);
	test_end();
}

/* Tells its key, for who is going to hear of its end. */
static int exec_role(void)
{
	static const rpal_procedure_fn exec_procs[] = { [P_STATE] = p_give_key, [P_EXEC] = p_exec };

	return call_server(exec_procs, P_EXEC + 1);
}

static void execs(void)
{
	int how;

	for (how = 0; how < HOW_NR; how++) {
		if (how == HOW_MARKED && !test_have_pkeys())
			continue;
		exec_one(how, true);
		exec_one(how, false);
	}
}

/* ----------------------------------------------------------------- adoption */

static int adopt(void)
{
	int fd = test_open(), err = ioctl(fd, RPAL_IOC_ADOPT) ? -errno : 0;

	close(fd);
	return err;
}

/* Where the parent lived, and what its key was. */
static struct rpal_self home;
static void *mapped_meanwhile;

enum { P_HOME = P_NR, P_MAPPED };

/* This process is placed where its parent was, and all of it is as if it had been. */
static bool is_at_home(void)
{
	struct rpal_self s;
	int fd = test_open();
	bool ok = CHECK(!test_self(fd, &s), "self");

	close(fd);
	ok &= CHECK(s.state & RPAL_SELF_PLACED && !(s.state & RPAL_SELF_HEIR), "state %x", s.state);
	ok &= CHECK(s.slot == home.slot && s.pkey == home.pkey && s.base == home.base,
		    "slot %u, not %u; key %u, not %u", s.slot, home.slot, s.pkey, home.pkey);
	ok &= CHECK(!home.key || s.key != home.key, "the same service key");
	return ok & CHECK(!test_bad_vmas(&s, true), "mappings");
}

/* Somewhere in another slot, and not below all of them. */
static void *abroad(void)
{
	return (void *)(home.slot == 1 ? home.end : home.base ^ RPAL_SLOT_SIZE);
}

static void look_home(void)
{
	int fd = test_open();

	MUST(!test_self(fd, &home) && home.state & RPAL_SELF_PLACED);
	close(fd);
}

/* Memory of all kinds that the parent had not. */
static void map_meanwhile(void)
{
	static char *break_end;

	mapped_meanwhile =
		mmap(NULL, 4 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(mapped_meanwhile != MAP_FAILED);
	memset(mapped_meanwhile, CONTENT, 4 * MB);
	break_end = sbrk(MB);
	MUST(break_end != (void *)-1);
	memset(break_end, 1, MB);
	MUST(!mprotect((char *)mapped_meanwhile + MB, PAGE, PROT_NONE));
	MUST(!mprotect((char *)mapped_meanwhile + 2 * MB, PAGE, PROT_READ | PROT_EXEC));
}

PROC(p_home)
{
	void *p = mmap(NULL, MB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(p != MAP_FAILED);
	NEED(is_at_home());
	/* Nowhere else any more. */
	NEED(mmap(abroad(), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     MAP_FAILED);
	return getpid();
}

PROC(p_mapped)
{
	return (int64_t)(uintptr_t)mapped_meanwhile;
}

/* "1 PATH": a daemon and then a service; "2 PATH": a service, a daemon, a service. */
static int daemon_role(void)
{
	static rpal_procedure_fn daemon_procs[P_MAPPED + 1];

	memcpy(daemon_procs, procs, sizeof(procs));
	daemon_procs[P_HOME] = p_home;
	daemon_procs[P_MAPPED] = p_mapped;
	look_home();
	if (test_arg[0] == '2') {
		call_init(3);
		call_receivers(1);
		look_home();
		MUST(home.key);
	}
	MUST(!daemon(1, 1));
	map_meanwhile();
	if (test_arg[0] == '2')
		CHECK(rpal_serve(-1, 0) == -ENXIO && strstr(rpal_last_error(), "rpal_init()"), "%s",
		      rpal_last_error());
	return call_server(daemon_procs, P_MAPPED + 1);
}

static void daemons(void)
{
	struct call_peer p;
	unsigned char byte = 0;
	volatile unsigned char *m;
	int when, status;
	pid_t pid;

	for (when = 1; when <= 2; when++) {
		test_begin("daemon() %s rpal_init()", when == 1 ? "before" : "after");
		call_peer_new(&p, "daemon", when);
		status = test_wait(p.child.pid);
		CHECK(!status, "parent: %s", test_status(status));
		p.child.pid = 0;
		pid = call_result(&p, P_HOME, NULL, 0, 0);
		CHECK(pid > 0 && !kill(pid, 0), "pid %d", pid);
		CHECK(call_result(&p, P_STATE, NULL, 0, 0) > 0, "no more calls");
		CHECK_IS(call_result(&p, P_SPAWN, NULL, 0, 0), 0);
		m = (void *)(uintptr_t)call_result(&p, P_MAPPED, NULL, 0, 0);
		if (test_have_pkeys())
			CHECK_IS(test_load8(m, &byte), SIGSEGV);
		check_open(p.id, (const void *)m);
		CHECK(pid <= 0 || !kill(pid, SIGKILL), "kill");
		while (call_error(&p, P_STATE, NULL, 0) != -EPIPE)
			usleep(1000);
		call_peer_end(&p);
		check_parent();
		test_end();
	}
}

/* ------------------------------------------------ what an orphan can, and cannot */

/* The parent's memory may be looked at by somebody when it has ended. */
static int adopt_patiently(void)
{
	int i, err = 0;

	for (i = 0; i < test_patience() * 100; i++) {
		err = adopt();
		if (err != -EBUSY)
			break;
		usleep(10000);
	}
	return err;
}

static void takes_over(void)
{
	map_meanwhile();
	CHECK_IS(adopt_patiently(), 0);
	is_at_home();
	CHECK_IS(adopt(), -EALREADY);
}

static void maps_outside(void)
{
	void *p;
	rpal_error_code_t code = 0;

	p = mmap(abroad(), PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	MUST(p == abroad());
	memset(p, 1, PAGE);
	CHECK_IS(adopt_patiently(), -ERANGE);
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	CHECK(strstr(rpal_last_error(), "outside"), "%s", rpal_last_error());
	MUST(!munmap(p, PAGE));
	takes_over();
}

/* A mapping of the parent's that grows is its stack alone: it must not leave the slot. */
static void maps_growing(void)
{
	char *p = mmap((void *)(home.base + RPAL_SLOT_SIZE / 2), 2 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);

	MUST(p != MAP_FAILED);
	p[0] = 1;
	CHECK_IS(test_store8(p - PAGE, 1), 0);
	takes_over();
	CHECK_IS(test_store8(p - 2 * PAGE, 1), SIGSEGV);
	CHECK_IS(test_store8(p, 1), 0);
}

static int adopt_in_vfork(void)
{
	int status = -1;
	pid_t pid = vfork();

	if (!pid)
		_exit(-adopt());
	CHECK_IS(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : 0;
}

static void has_vfork_child(void)
{
	CHECK_IS(adopt_in_vfork(), -EPERM);
	takes_over();
	CHECK_IS(adopt_in_vfork(), -EALREADY);
}

static bool enough;

static void *maps_thread(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE)) {
		char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		MUST(p != MAP_FAILED);
		p[0] = 1;
		MUST(!mprotect(p + PAGE, PAGE, PROT_READ));
		MUST(!munmap(p, 8 * PAGE));
	}
	return NULL;
}

static void *signals_thread(void *arg)
{
	signal(SIGUSR1, arg);
	while (!__atomic_load_n(&enough, __ATOMIC_ACQUIRE))
		raise(SIGUSR1);
	return NULL;
}

static void on_signal(int sig)
{
	volatile char room[256];

	memset((char *)room, sig, sizeof(room));
}

static void has_threads(void)
{
	pthread_t thread[3];
	rpal_error_code_t code = 0;
	int i;

	MUST(!pthread_create(&thread[0], NULL, signals_thread, on_signal));
	for (i = 1; i < 3; i++)
		MUST(!pthread_create(&thread[i], NULL, maps_thread, NULL));
	CHECK_IS(adopt_patiently(), -EUSERS);
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	CHECK(strstr(rpal_last_error(), "threads"), "%s", rpal_last_error());
	__atomic_store_n(&enough, true, __ATOMIC_RELEASE);
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	/* One that was joined may be there for an instant. */
	map_meanwhile();
	while (adopt() == -EUSERS)
		usleep(10000);
	is_at_home();
	CHECK_IS(adopt(), -EALREADY);
}

static void is_grandchild(void)
{
	pid_t parent = getpid(), pid = fork();

	MUST(pid >= 0);
	if (pid)
		_exit(0);
	while (getppid() == parent)
		usleep(1000);
	takes_over();
}

/* Two that want it. Who gets it keeps it until the driver says so. */
static void has_brother(void)
{
	int i, err;

	MUST(fork() >= 0);
	err = adopt_patiently();
	test_send_u64(TEST_FD_DRIVER, -err);
	if (!err) {
		is_at_home();
		test_recv_u64(TEST_FD_DRIVER);
		_exit(0);
	}
	for (i = 0; err && i < test_patience() * 100; i++) {
		usleep(10000);
		err = adopt();
	}
	CHECK_IS(err, 0);
	is_at_home();
}

/* All keys of the group are in use, so its own is somebody's. */
static void has_rival(void)
{
	rpal_error_code_t code = 0;

	test_send_u64(TEST_FD_DRIVER, 0);
	test_recv_u64(TEST_FD_DRIVER);
	CHECK_IS(adopt_patiently(), -ENOTUNIQ);
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	CHECK(strstr(rpal_last_error(), "protection key"), "%s", rpal_last_error());
	test_send_u64(TEST_FD_DRIVER, 0);
	test_recv_u64(TEST_FD_DRIVER);
	takes_over();
}

#define SWITCH "/sys/module/rpal/parameters/enable"

static void is_switched_off(void)
{
	rpal_error_code_t code = 0;

	MUST(test_write_file(SWITCH, "0"));
	CHECK_IS(adopt_patiently(), -ESHUTDOWN);
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	MUST(test_write_file(SWITCH, "1"));
	takes_over();
}

#define USER_PLACED "/sys/module/rpal/parameters/user_placed"

/* Its user has as many placed programs as may be, and no capability to have more. */
static void has_no_room(void)
{
	long limit = test_file_number(USER_PLACED);
	char text[32];
	int fd, err;

	test_send_u64(TEST_FD_DRIVER, 0);
	test_recv_u64(TEST_FD_DRIVER);
	MUST(test_write_file(USER_PLACED, "1"));
	fd = test_open();
	MUST(!seteuid(1000));
	while ((err = ioctl(fd, RPAL_IOC_ADOPT) ? -errno : 0) == -EBUSY)
		usleep(10000);
	CHECK_IS(err, -EDQUOT);
	MUST(!seteuid(0) && !prctl(PR_SET_DUMPABLE, 1));
	close(fd);
	snprintf(text, sizeof(text), "%ld", limit);
	MUST(test_write_file(USER_PLACED, text));
	test_send_u64(TEST_FD_DRIVER, 0);
	takes_over();
}

static void has_parent(void)
{
	rpal_error_code_t code = 0;

	CHECK_IS(adopt(), -EBUSY);
	CHECK_IS(rpal_is_enabled(), 0);
	CHECK_IS(rpal_init(1, 0, &code), -1);
	CHECK_IS(code, RPAL_ERR_RPAL_DISABLED);
	CHECK(strstr(rpal_last_error(), "has ended"), "%s", rpal_last_error());
}

/* What the driver does meanwhile. */

static void drive_brothers(struct test_child *c)
{
	u64 first = test_recv_u64(c->sock), second = test_recv_u64(c->sock);

	CHECK((first == EADDRINUSE && !second) || (!first && second == EADDRINUSE), "%d and %d",
	      (int)first, (int)second);
	test_send_u64(c->sock, 0);
}

static void drive_rival(struct test_child *c)
{
	struct test_spawn s = { .role = "sleep", .group = "call" };
	struct test_child rival[15];
	size_t i;

	test_recv_u64(c->sock);
	for (i = 0; i < ARRAY_SIZE(rival); i++)
		MUST(!test_spawn(&rival[i], &s));
	test_send_u64(c->sock, 0);
	test_recv_u64(c->sock);
	for (i = 0; i < ARRAY_SIZE(rival); i++)
		test_reap(&rival[i]);
	test_send_u64(c->sock, 0);
}

static void drive_no_room(struct test_child *c)
{
	struct test_spawn s = { .role = "sleep" };
	struct test_child other;

	test_recv_u64(c->sock);
	MUST(!test_spawn(&other, &s));
	test_send_u64(c->sock, 0);
	test_recv_u64(c->sock);
	test_reap(&other);
}

static const struct orphan {
	const char *name;
	void (*run)(void);
	void (*drive)(struct test_child *c);
	bool keys;
} orphans[] = {
	{ "takes the slot over", takes_over, NULL, false },
	{ "has mapped memory outside of the slot", maps_outside, NULL, false },
	{ "has a mapping that grows", maps_growing, NULL, false },
	{ "has a child of vfork()", has_vfork_child, NULL, false },
	{ "has threads that map memory", has_threads, NULL, false },
	{ "is a grandchild", is_grandchild, NULL, false },
	{ "has a brother", has_brother, drive_brothers, false },
	{ "has a rival with its key", has_rival, drive_rival, true },
	{ "has a user with no room", has_no_room, drive_no_room, false },
	{ "comes when RPAL is switched off", is_switched_off, NULL, false },
};

static int orphan_role(void)
{
	pid_t parent = getpid(), pid;
	int status;

	look_home();
	CHECK_IS(adopt(), -EALREADY);
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		has_parent();
		_exit(test_failures() != 0);
	}
	status = test_wait(pid);
	CHECK(!status, "child: %s", test_status(status));
	pid = fork();
	MUST(pid >= 0);
	if (pid)
		_exit(test_failures() != 0);
	while (getppid() == parent)
		usleep(1000);
	orphans[atoi(test_arg)].run();
	test_send_u64(TEST_FD_DRIVER, 1000 + test_failures());
	return 0;
}

static void orphans_do(const struct orphan *o)
{
	struct test_spawn s = { .role = "orphan", .group = "call" };
	struct test_child c;
	char arg[8];
	int status;

	test_begin("a child whose parent has ended %s", o->name);
	if (o->keys && !test_have_pkeys()) {
		test_skip_case("no protection keys");
		test_end();
		return;
	}
	snprintf(arg, sizeof(arg), "%d", (int)(o - orphans));
	s.arg = arg;
	MUST(!test_spawn(&c, &s));
	status = test_wait(c.pid);
	CHECK(!status, "parent: %s", test_status(status));
	if (o->drive)
		o->drive(&c);
	CHECK_IS(test_recv_u64(c.sock), 1000);
	close(c.sock);
	test_end();
}

static int unplaced_role(void)
{
	CHECK_IS(adopt(), -ENXIO);
	return 0;
}

static void adoptions(void)
{
	struct test_spawn s = { .role = "unplaced", .unplaced = true };
	struct test_child c;
	size_t i;
	int status;

	for (i = 0; i < ARRAY_SIZE(orphans); i++)
		orphans_do(&orphans[i]);
	test_begin("nothing to take over");
	MUST(!test_spawn(&c, &s));
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	close(c.sock);
	test_end();
}

static int client_role(void)
{
	atexit(rpal_exit);
	call_init(4);
	call_peer_new(&a, "server", 4);
	there = (const void *)(uintptr_t)call_result(&a, P_ADDR, NULL, 0, 0);
	check_parent();
	from_threads();
	from_procedures();
	return_from_procedure();
	lives_on();
	while_calling();
	execs();
	daemons();
	check_parent();
	call_peer_end(&a);
	return 0;
}

/* ------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "server", server_role },	 { "exec", exec_role },
					  { "return", return_role },	 { "client", client_role },
					  { "daemon", daemon_role },	 { "orphan", orphan_role },
					  { "unplaced", unplaced_role }, {} };

static void make_marked(void)
{
	int fd;

	MUST(!test_copy_file("/proc/self/exe", MARKED, 0755));
	fd = open(MARKED, O_RDWR | O_CLOEXEC);
	MUST(fd >= 0 && pwrite(fd, "RPAL", 4, 12) == 4);
	close(fd);
}

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	make_marked();
	call_run_client("client");
	adoptions();
	unlink(MARKED);
	return test_finish();
}
