// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Services that fork, start programs and execute others, at any moment: a child
 * has nothing of its parent's links, and neither parent nor peers are disturbed.
 */
#include "call.h"

#include <spawn.h>
#include <sys/ioctl.h>

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

enum { P_STATE, P_ADDR, P_FORK, P_SPAWN, P_EXEC, P_NR };

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

static const rpal_procedure_fn procs[P_NR] = {
	[P_STATE] = p_state, [P_ADDR] = p_addr, [P_FORK] = p_fork,
	[P_SPAWN] = p_spawn, [P_EXEC] = p_exec,
};

static int server_role(void)
{
	atexit(rpal_exit);
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;
static const void *there; /* the peer's memory */

static void check_parent(void)
{
	unsigned char byte = 0;

	CHECK(call_result(&a, P_STATE, NULL, 0, 0) > 0, "no more calls");
	CHECK_IS(rpal_copy_prepare(a.id), RPAL_SUCCESS);
	CHECK(!test_load8(there, &byte) && byte == CONTENT, "byte %x", byte);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
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
 * before its files: who is that quick may still reach its old socket.
 */
static void connect_again(struct call_peer *p)
{
	do
		p->id = rpal_connect(p->path, test_patience() * 1000, &p->sock);
	while (p->id == -ECONNABORTED);
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
	static const rpal_procedure_fn exec_procs[] = { [P_STATE] = p_give_key,
							[P_EXEC] = p_exec };

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

static int client_role(void)
{
	atexit(rpal_exit);
	call_init(4);
	call_peer_new(&a, "server", 4);
	there = (const void *)(uintptr_t)call_result(&a, P_ADDR, NULL, 0, 0);
	check_parent();
	from_threads();
	from_procedures();
	lives_on();
	while_calling();
	execs();
	check_parent();
	call_peer_end(&a);
	return 0;
}

/* ------------------------------------------------------------------- driver */

static const struct test_role roles[] = {
	{ "server", server_role }, { "exec", exec_role }, { "client", client_role }, {}
};

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
	unlink(MARKED);
	return test_finish();
}
