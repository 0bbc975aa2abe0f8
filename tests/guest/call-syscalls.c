// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * System calls of called code: they are the receiver's, whatever they are, also
 * those that make and replace processes; and what happens to a call when the
 * caller's process is forked or replaced meanwhile.
 */
#include "call.h"

#include <linux/futex.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	P_IDENTITY,
	P_OPEN,
	P_WRITE,
	P_READ,
	P_CLOSE,
	P_ERRNO,
	P_INT80,
	P_PIPE_READ,
	P_PIPE_WRITE,
	P_SLEEP,
	P_FUTEX_WAIT,
	P_FUTEX_WAKE,
	P_MUTEX,
	P_COUNT,
	P_COND,
	P_FORK,
	P_THREAD,
	P_VFORK,
	P_SPAWN,
	P_MEMORY,
	P_HOLD,
	P_HOLDING,
	P_LET_GO,
	P_RAW_EXIT,
	P_EXIT,
	P_EXEC,
	P_EXEC_FAILS,
	P_NR,
};

#define GROUP 1234 /* of receivers, and of nobody else */

/* ------------------------------------------------------------------- server */

static pid_t server_pid;
static int pipe_fd[2];
static int futex_word;
static volatile int holding, let_go;

static pthread_mutex_t mutex[3];
static int counter[3];
static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int cond_turn;

/* Credentials are a thread's, for the kernel. */
static void receiver_begins(void)
{
	MUST(!syscall(SYS_setresgid, GROUP, GROUP, GROUP));
}

PROC(p_identity)
{
	pid_t *caller_tid = arg;
	char cwd[256], name[32];
	mode_t mask;

	NEED(syscall(SYS_getpid) == server_pid);
	NEED(syscall(SYS_gettid) == call_tid);
	NEED(call_tid != *caller_tid);
	NEED(getgid() == GROUP && getegid() == GROUP && getuid() == 0);
	NEED(getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, "/tmp"));
	mask = umask(027);
	NEED(mask == 027);
	NEED(!prctl(PR_GET_NAME, name) && !strcmp(name, "callee"));
	NEED(!kill(getpid(), 0) && !syscall(SYS_tgkill, server_pid, call_tid, 0));
	return 0;
}

PROC(p_open)
{
	return open(arg, O_RDWR | O_CREAT | O_TRUNC, 0666) ?: -errno;
}

/* The caller's memory, seen by the kernel: with the rights of the call. */
struct file_io {
	int fd;
	char data[32];
};

PROC(p_write)
{
	struct file_io *io = arg;

	return pwrite(io->fd, io->data, sizeof(io->data), 0) < 0 ? -errno : 0;
}

PROC(p_read)
{
	struct file_io *io = arg;

	return pread(io->fd, io->data, sizeof(io->data), 0) < 0 ? -errno : 0;
}

PROC(p_close)
{
	return close(*(int *)arg) ? -errno : 0;
}

PROC(p_errno)
{
	errno = 4711;
	NEED(close(-1) == -1 && errno == EBADF);
	NEED(syscall(100000) == -1 && errno == ENOSYS);
	NEED(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
	return 0;
}

/*
 * getpid() the old way. 0 or the signal that it gave; *@bad counts registers
 * that it must keep and has not.
 */
static int int80(int *ret, int *bad)
{
	u64 r8 = 0x8888888888888888, r9 = 0x9999999999999999, r10 = 0x1010101010101010;
	register u64 a8 asm("r8") = r8;
	register u64 a9 asm("r9") = r9;
	register u64 a10 asm("r10") = r10;
	u64 b = 0x1bbbbbbb, c = 0x1ccccccc, d = 0x1ddddddd;
	int sig = 0;

	asm volatile("mov $20, %%eax\n"
		     "1: int $0x80\n"
		     "mov %%eax, %[ret]\n"
		     "xor %%eax, %%eax\n"
		     "2:\n" TEST_EXTABLE
		     : "=&a"(sig), [ret] "=m"(*ret), "+b"(b), "+c"(c), "+d"(d), "+r"(a8), "+r"(a9),
		       "+r"(a10)
		     :
		     : "memory");
	*bad = (b != 0x1bbbbbbb) + (c != 0x1ccccccc) + (d != 0x1ddddddd) + (a8 != r8) + (a9 != r9) +
	       (a10 != r10);
	return sig;
}

PROC(p_int80)
{
	int pid = 0, bad = 0;

	NEED(!int80(&pid, &bad));
	NEED(pid == server_pid);
	NEED(!bad);
	return 0;
}

PROC(p_pipe_read)
{
	return read(pipe_fd[0], arg, len);
}

PROC(p_pipe_write)
{
	return write(pipe_fd[1], arg, len);
}

PROC(p_sleep)
{
	struct timespec ts = { 0, 20000000 };
	u64 start = test_now_ns();

	NEED(!nanosleep(&ts, NULL));
	NEED(test_now_ns() - start >= 20000000);
	return 0;
}

PROC(p_futex_wait)
{
	int mine = 0;

	NEED(syscall(SYS_futex, &mine, FUTEX_WAIT_PRIVATE, 1, NULL) == -1 && errno == EAGAIN);
	while (!__atomic_load_n(&futex_word, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL);
	return 0;
}

PROC(p_futex_wake)
{
	__atomic_store_n(&futex_word, 1, __ATOMIC_RELEASE);
	NEED(syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1) >= 0);
	return 0;
}

/* Ordinary ones, and two whose owner the kernel must agree to. */
static void make_mutexes(void)
{
	pthread_mutexattr_t a;

	MUST(!pthread_mutexattr_init(&a));
	MUST(!pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK));
	MUST(!pthread_mutex_init(&mutex[0], &a));
	MUST(!pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
	MUST(!pthread_mutex_init(&mutex[1], &a));
	MUST(!pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_NONE));
	MUST(!pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST));
	MUST(!pthread_mutex_init(&mutex[2], &a));
}

/* Slow enough that somebody else wants it meanwhile. */
static int64_t count_locked(int kind)
{
	volatile int i;
	int c;

	NEED(!pthread_mutex_lock(&mutex[kind]));
	NEED(pthread_mutex_trylock(&mutex[kind]) != 0);
	c = counter[kind];
	for (i = 0; i < 2000; i++)
		;
	counter[kind] = c + 1;
	NEED(!pthread_mutex_unlock(&mutex[kind]));
	return 0;
}

PROC(p_mutex)
{
	return count_locked(*(int *)arg);
}

PROC(p_count)
{
	return counter[*(int *)arg];
}

/* Two of these let each other go on, in turn. */
PROC(p_cond)
{
	int me = *(int *)arg, i;

	for (i = 0; i < 20; i++) {
		NEED(!pthread_mutex_lock(&cond_mutex));
		while (cond_turn % 2 != me)
			NEED(!pthread_cond_wait(&cond, &cond_mutex));
		cond_turn++;
		NEED(!pthread_cond_broadcast(&cond));
		NEED(!pthread_mutex_unlock(&cond_mutex));
	}
	return 0;
}

static int64_t exit_status(pid_t pid)
{
	int status = 0;

	NEED(pid > 0);
	NEED(waitpid(pid, &status, 0) == pid);
	NEED(WIFEXITED(status));
	return WEXITSTATUS(status);
}

PROC(p_fork)
{
	static volatile int private;
	pid_t pid;

	private = 1;
	pid = fork();
	if (!pid) {
		private = 2;
		_exit(getppid() == server_pid && getgid() == GROUP ? 42 : 43);
	}
	NEED(exit_status(pid) == 42);
	NEED(private == 1);
	return 0;
}

static void *thread_of_callee(void *arg)
{
	*(pid_t *)arg = syscall(SYS_gettid);
	return (void *)(uintptr_t)getpid();
}

PROC(p_thread)
{
	pthread_t thread;
	pid_t tid = 0;
	void *ret;

	NEED(!pthread_create(&thread, NULL, thread_of_callee, &tid));
	NEED(!pthread_join(thread, &ret));
	NEED((uintptr_t)ret == (uintptr_t)server_pid);
	NEED(tid && tid != call_tid && tid != server_pid);
	return 0;
}

PROC(p_vfork)
{
	pid_t pid;

	pid = vfork();
	if (!pid)
		_exit(44);
	return exit_status(pid);
}

PROC(p_spawn)
{
	char *argv[] = { "sh", "-c", "exit 45", NULL };
	pid_t pid = 0;

	NEED(!posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
	return exit_status(pid);
}

PROC(p_memory)
{
	volatile char *p, *q;
	void *heap;

	p = mmap(NULL, 4 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(p != MAP_FAILED);
	/* In the receiver's slot, not in the caller's. */
	NEED((u64)p >> RPAL_SLOT_SHIFT == (u64)&holding >> RPAL_SLOT_SHIFT);
	NEED((u64)p >> RPAL_SLOT_SHIFT != (u64)arg >> RPAL_SLOT_SHIFT);
	p[0] = 1;
	p[4 * MB - 1] = 2;
	q = mremap((void *)p, 4 * MB, 16 * MB, MREMAP_MAYMOVE);
	NEED(q != MAP_FAILED && q[0] == 1 && q[4 * MB - 1] == 2 && !q[16 * MB - 1]);
	NEED(!mprotect((void *)q, PAGE, PROT_READ));
	NEED(test_store8(q, 3) == SIGSEGV && test_fault.code == SEGV_ACCERR);
	NEED(!munmap((void *)q, 16 * MB));
	NEED(test_store8(q, 3) == SIGSEGV && test_fault.code == SEGV_MAPERR);
	heap = malloc(3 * MB);
	NEED(heap);
	memset(heap, 1, 3 * MB);
	free(heap);
	return 0;
}

/* Stays on the caller's task until it is let go. */
PROC(p_hold)
{
	__atomic_add_fetch(&holding, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		test_pause();
	__atomic_sub_fetch(&holding, 1, __ATOMIC_RELEASE);
	return 4712;
}

PROC(p_holding)
{
	return holding;
}

PROC(p_let_go)
{
	__atomic_store_n(&let_go, *(int *)arg, __ATOMIC_RELEASE);
	return 0;
}

PROC(p_raw_exit)
{
	syscall(SYS_exit, 0);
	return -1;
}

static void at_exit(void)
{
	_exit(6);
}

PROC(p_exit)
{
	atexit(at_exit);
	exit(5);
}

PROC(p_exec)
{
	char *argv[] = { (char *)test_name, NULL };

	setenv("RPAL_TEST_ROLE", "reborn", 1);
	execv("/proc/self/exe", argv);
	return -errno;
}

PROC(p_exec_fails)
{
	char *argv[] = { "none", NULL };

	NEED(execv("/none", argv) == -1 && errno == ENOENT);
	return 0;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_IDENTITY] = p_identity,
		[P_OPEN] = p_open,
		[P_WRITE] = p_write,
		[P_READ] = p_read,
		[P_CLOSE] = p_close,
		[P_ERRNO] = p_errno,
		[P_INT80] = p_int80,
		[P_PIPE_READ] = p_pipe_read,
		[P_PIPE_WRITE] = p_pipe_write,
		[P_SLEEP] = p_sleep,
		[P_FUTEX_WAIT] = p_futex_wait,
		[P_FUTEX_WAKE] = p_futex_wake,
		[P_MUTEX] = p_mutex,
		[P_COUNT] = p_count,
		[P_COND] = p_cond,
		[P_FORK] = p_fork,
		[P_THREAD] = p_thread,
		[P_VFORK] = p_vfork,
		[P_SPAWN] = p_spawn,
		[P_MEMORY] = p_memory,
		[P_HOLD] = p_hold,
		[P_HOLDING] = p_holding,
		[P_LET_GO] = p_let_go,
		[P_RAW_EXIT] = p_raw_exit,
		[P_EXIT] = p_exit,
		[P_EXEC] = p_exec,
		[P_EXEC_FAILS] = p_exec_fails,
	};

	server_pid = getpid();
	make_mutexes();
	MUST(!pipe(pipe_fd));
	MUST(!chdir("/tmp"));
	umask(027);
	/* Threads have the name of who made them. */
	prctl(PR_SET_NAME, "callee");
	call_receiver_begins = receiver_begins;
	return call_server(procs, P_NR);
}

/* What a process has become after an exec: tells so, and ends. */
static int reborn_role(void)
{
	test_send_u64(TEST_FD_DRIVER, getpid());
	return 21;
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;

static void identity(void)
{
	pid_t tid = syscall(SYS_gettid);
	int i;

	test_begin("process, thread, credentials, directory are the receiver's");
	for (i = 0; i < 50; i++)
		CHECK_IS(call_result(&a, P_IDENTITY, &tid, sizeof(tid), 0), 0);
	CHECK_IS(getgid(), 0);
	CHECK_IS(syscall(SYS_gettid), tid);
	CHECK_IS(umask(022), 022);
	test_end();
}

static void files(void)
{
	char name[] = "call-syscalls-file";
	struct file_io io = { .data = "what the caller has to say" };
	struct stat st;
	int i, fd[20];

	test_begin("files are the receiver's, buffers may be the caller's");
	/* Numbers that are not in use here. */
	for (i = 0; i < 20; i++)
		MUST((fd[i] = dup(0)) >= 0);
	io.fd = call_result(&a, P_OPEN, name, sizeof(name), 0);
	CHECK(io.fd > 2, "fd %d", io.fd);
	CHECK_IS(call_result(&a, P_WRITE, &io, sizeof(io), 0), 0);
	memset(io.data, 0, sizeof(io.data));
	CHECK_IS(call_result(&a, P_READ, &io, sizeof(io), RPAL_CALL_GRANT_WRITE), 0);
	CHECK(!strcmp(io.data, "what the caller has to say"), "read %.32s", io.data);
	if (test_have_pkeys())
		CHECK_IS(call_result(&a, P_READ, &io, sizeof(io), 0), -EFAULT);
	CHECK_IS(call_result(&a, P_CLOSE, &io.fd, sizeof(io.fd), 0), 0);
	CHECK_IS(call_result(&a, P_WRITE, &io, sizeof(io), 0), -EBADF);
	CHECK_IS(stat("/tmp/call-syscalls-file", &st), 0);
	CHECK_IS(st.st_gid, GROUP);
	CHECK_IS(st.st_mode & 0777, 0640);
	unlink("/tmp/call-syscalls-file");
	for (i = 0; i < 20; i++)
		close(fd[i]);
	test_end();
}

static void errors(void)
{
	test_begin("errno is the receiver's");
	errno = 99;
	CHECK_IS(call_result(&a, P_ERRNO, NULL, 0, 0), 0);
	CHECK_IS(errno, 99);
	CHECK_IS(call_result(&a, P_EXEC_FAILS, NULL, 0, 0), 0);
	test_end();
}

static void old_gate(void)
{
	int pid = 0, bad = 0, i;

	test_begin("int $0x80");
	if (int80(&pid, &bad)) {
		test_skip_case("no 32-bit system calls on this kernel");
	} else {
		for (i = 0; i < 100; i++)
			CHECK_IS(call_result(&a, P_INT80, NULL, 0, 0), 0);
		CHECK_IS(int80(&pid, &bad), 0);
		CHECK_IS(pid, getpid());
	}
	test_end();
}

static void blocking(void)
{
	struct call_thread c;
	char in[16] = "", out[16] = "through a pipe";

	test_begin("calls that sleep: pipe, nanosleep, futex");
	call_begin(&c, &a, P_PIPE_READ, in, sizeof(in));
	usleep(50000);
	CHECK(!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE), "nothing was written");
	CHECK_IS(call_result(&a, P_PIPE_WRITE, out, sizeof(out), 0), sizeof(out));
	CHECK_IS(call_join(&c), 0);
	CHECK_IS(c.result, sizeof(in));
	CHECK(!strcmp(in, out), "read %.16s", in);
	CHECK_IS(call_result(&a, P_SLEEP, NULL, 0, 0), 0);
	call_begin(&c, &a, P_FUTEX_WAIT, NULL, 0);
	usleep(50000);
	CHECK(!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE), "nobody has woken it");
	CHECK_IS(call_result(&a, P_FUTEX_WAKE, NULL, 0, 0), 0);
	CHECK_IS(call_join(&c), 0);
	CHECK_IS(c.result, 0);
	test_end();
}

#define COUNTS 150

static void *count_thread(void *arg)
{
	int i;

	for (i = 0; i < COUNTS; i++)
		CHECK_IS(call_result(&a, P_MUTEX, arg, sizeof(int), 0), 0);
	return NULL;
}

static void contention(void)
{
	static const char *const names[] = { "ordinary", "with inheritance", "robust" };
	struct call_thread c[2];
	int kind, turn[2] = { 0, 1 };
	pthread_t t[3];
	size_t i;

	test_begin("mutexes and condition variables between receivers");
	for (kind = 0; kind < 3; kind++) {
		for (i = 0; i < ARRAY_SIZE(t); i++)
			MUST(!pthread_create(&t[i], NULL, count_thread, &kind));
		for (i = 0; i < ARRAY_SIZE(t); i++)
			pthread_join(t[i], NULL);
		i = call_result(&a, P_COUNT, &kind, sizeof(kind), 0);
		CHECK(i == COUNTS * ARRAY_SIZE(t), "%s: %zu", names[kind], i);
	}
	for (i = 0; i < 2; i++)
		call_begin(&c[i], &a, P_COND, &turn[i], sizeof(int));
	for (i = 0; i < 2; i++) {
		CHECK_IS(call_join(&c[i]), 0);
		CHECK_IS(c[i].result, 0);
	}
	test_end();
}

static void processes(void)
{
	int i;

	test_begin("fork, threads, vfork, posix_spawn, memory in called code");
	for (i = 0; i < 5; i++) {
		CHECK_IS(call_result(&a, P_FORK, NULL, 0, 0), 0);
		CHECK_IS(call_result(&a, P_THREAD, NULL, 0, 0), 0);
		CHECK_IS(call_result(&a, P_VFORK, NULL, 0, 0), 44);
		CHECK_IS(call_result(&a, P_SPAWN, NULL, 0, 0), 45);
		CHECK_IS(call_result(&a, P_MEMORY, &i, sizeof(i), 0), 0);
	}
	/* None of these children was ours. */
	CHECK(waitpid(-1, NULL, WNOHANG) == 0, "errno %d", errno);
	test_end();
}

static bool wait_holding(int want)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (call_result(&a, P_HOLDING, NULL, 0, 0) != want) {
		if (test_now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

static void set_let_go(int v)
{
	CHECK_IS(call_result(&a, P_LET_GO, &v, sizeof(v), 0), 0);
}

static void forked_meanwhile(void)
{
	struct call_thread c;
	int i, status;
	pid_t pid;

	test_begin("the caller's process forks while it is in a call");
	for (i = 0; i < 5; i++) {
		call_begin(&c, &a, P_HOLD, NULL, 0);
		CHECK(wait_holding(1), "the call does not begin");
		pid = fork();
		if (!pid)
			_exit(11);
		status = test_wait(pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 11, "%s", test_status(status));
		CHECK(!__atomic_load_n(&c.done, __ATOMIC_ACQUIRE), "the call has ended");
		set_let_go(1);
		CHECK_IS(call_join(&c), 0);
		CHECK_IS(c.result, 4712);
		set_let_go(0);
	}
	test_end();
}

/* Calls, and is something else before the call is over. */
static int fickle_role(void)
{
	struct call_peer p = {};
	struct call_thread c;
	char *argv[] = { (char *)test_name, NULL };

	snprintf(p.path, sizeof(p.path), "%s", test_arg);
	call_init(1);
	call_connect(&p);
	call_begin(&c, &p, P_HOLD, NULL, 0);
	test_recv_u64(TEST_FD_DRIVER);
	setenv("RPAL_TEST_ROLE", "reborn", 1);
	execv("/proc/self/exe", argv);
	return 1;
}

static void exec_meanwhile(void)
{
	struct test_spawn s = { .role = "fickle", .arg = a.path, .group = "call" };
	struct test_child child;
	int i, status;

	test_begin("the caller's process executes another program while in a call");
	for (i = 0; i < 3; i++) {
		MUST(!test_spawn(&child, &s));
		CHECK(wait_holding(1), "the call does not begin");
		test_send_u64(child.sock, 0);
		CHECK(test_recv_u64(child.sock) == (u64)child.pid, "another process");
		status = test_wait(child.pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 21, "%s", test_status(status));
		/* The receiver goes on where it was, without a caller. */
		CHECK_IS(call_result(&a, P_HOLDING, NULL, 0, 0), 1);
		set_let_go(1);
		CHECK(wait_holding(0), "the receiver has not finished");
		set_let_go(0);
		close(child.sock);
	}
	test_end();
}

static void ends(void)
{
	struct call_peer p;
	int status;

	test_begin("called code ends its thread or its process");
	call_peer_new(&p, "server", 2);
	CHECK_IS(call_error(&p, P_RAW_EXIT, NULL, 0), -EPIPE);
	CHECK_IS(call_result(&p, P_ERRNO, NULL, 0, 0), 0);
	CHECK_IS(call_error(&p, P_EXIT, NULL, 0), -EPIPE);
	status = test_wait(p.child.pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6, "%s", test_status(status));
	p.child.pid = 0;
	CHECK_IS(call_error(&p, P_ERRNO, NULL, 0), -EPIPE);
	call_peer_end(&p);
	test_end();
}

static void replaced(void)
{
	struct call_peer p;
	int i, status;

	test_begin("called code executes another program");
	for (i = 0; i < 3; i++) {
		call_peer_new(&p, "server", 3);
		CHECK_IS(call_result(&p, P_ERRNO, NULL, 0, 0), 0);
		CHECK_IS(call_error(&p, P_EXEC, NULL, 0), -EPIPE);
		CHECK(test_recv_u64(p.child.sock) == (u64)p.child.pid, "another process");
		status = test_wait(p.child.pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 21, "%s", test_status(status));
		p.child.pid = 0;
		CHECK_IS(call_error(&p, P_ERRNO, NULL, 0), -EPIPE);
		call_peer_end(&p);
	}
	test_end();
}

static int client_role(void)
{
	umask(022);
	call_init(1);
	call_peer_new(&a, "server", 3);
	identity();
	files();
	errors();
	old_gate();
	blocking();
	contention();
	processes();
	forked_meanwhile();
	exec_meanwhile();
	ends();
	replaced();
	call_peer_end(&a);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  { "reborn", reborn_role },
					  { "fickle", fickle_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
