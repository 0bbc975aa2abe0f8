// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Signals to either side of a call: each process's handlers run on its own
 * task and stack, and both go on with the call.
 */
#include "call.h"

#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/time.h>

enum {
	P_TID,
	P_HOLD,	 /* on the caller's task, until the caller's word is set */
	P_SLEEP, /* the same, asleep on its own task */
	P_READ,
	P_WRITE,
	P_SEEN,
	P_ACTION,
	P_SIGNALFD,
	P_TIMER,
	P_RAISE,
	P_NR,
};

/* ----------------------------------------------------------------- handlers */

/* What a handler has seen; in each process one for itself. */
struct seen {
	volatile int count;
	volatile int wrong; /* not on own stack, not with own memory */
	volatile pid_t tid;
	volatile int value;
	volatile int code;
};

static struct seen seen;
static __thread char *stack_low, *stack_high;
static __thread int tls_word;
static char *alt_low, *alt_high;
static u64 own_word = 0x0123456789abcdef;

#define TLS_WORD 0x7157

static void note_stack(void)
{
	pthread_attr_t attr;
	void *stack;
	size_t size;

	MUST(!pthread_getattr_np(pthread_self(), &attr));
	MUST(!pthread_attr_getstack(&attr, &stack, &size));
	stack_low = stack;
	stack_high = stack_low + size;
	tls_word = TLS_WORD;
}

static void on_signal(int sig CALL_UNUSED, siginfo_t *si, void *context CALL_UNUSED)
{
	char *here = (char *)&here;
	bool on_stack = here > stack_low && here < stack_high;
	int saved = errno;

	if (alt_low)
		on_stack = here > alt_low && here < alt_high;
	if (!on_stack || tls_word != TLS_WORD || own_word != 0x0123456789abcdef)
		seen.wrong++;
	seen.tid = syscall(SYS_gettid);
	seen.value = si->si_value.sival_int;
	seen.code = si->si_code;
	errno = saved;
	__atomic_add_fetch(&seen.count, 1, __ATOMIC_RELEASE);
}

static void catch (int sig, int flags)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };

	MUST(!sigaction(sig, &sa, NULL));
}

static void use_alt_stack(bool on)
{
	static char *mem;
	stack_t ss = { .ss_size = 64 * 1024, .ss_flags = on ? 0 : SS_DISABLE };

	if (!mem)
		mem = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	MUST(mem != MAP_FAILED);
	ss.ss_sp = mem;
	MUST(!sigaltstack(&ss, NULL));
	alt_low = on ? mem : NULL;
	alt_high = mem + ss.ss_size;
}

/* ------------------------------------------------------------------- server */

static int pipe_fd[2];

struct hold {
	volatile int began;
	volatile int end;
	pid_t tid; /* of the receiver */
};

PROC(p_tid)
{
	return call_tid;
}

PROC(p_hold)
{
	struct hold *h = arg;

	h->tid = call_tid;
	__atomic_store_n(&h->began, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&h->end, __ATOMIC_ACQUIRE))
		test_pause();
	NEED(tls_word == TLS_WORD);
	return 0;
}

PROC(p_sleep)
{
	struct hold *h = arg;

	h->tid = call_tid;
	__atomic_store_n(&h->began, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&h->end, __ATOMIC_ACQUIRE))
		usleep(2000);
	return 0;
}

static int64_t wait_for_mine(const sigset_t *set, int fd)
{
	struct signalfd_siginfo info;
	siginfo_t si;

	NEED(sigwaitinfo(set, &si) == SIGRTMIN + 1 && si.si_value.sival_int == 77);
	NEED(!sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ 78 }));
	NEED(read(fd, &info, sizeof(info)) == sizeof(info));
	NEED(info.ssi_signo == (u32)SIGRTMIN + 1 && info.ssi_int == 78);
	NEED(info.ssi_pid == (u32)getpid());
	return 0;
}

PROC(p_signalfd)
{
	int64_t ret;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	NEED(fd >= 0);
	NEED(!sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ 77 }));
	ret = wait_for_mine(&set, fd);
	close(fd);
	return ret;
}

PROC(p_read)
{
	char byte;
	ssize_t n;

	((struct hold *)arg)->tid = call_tid;
	__atomic_store_n(&((struct hold *)arg)->began, 1, __ATOMIC_RELEASE);
	n = read(pipe_fd[0], &byte, 1);
	return n < 0 ? -errno : byte;
}

PROC(p_write)
{
	return write(pipe_fd[1], "w", 1);
}

PROC(p_seen)
{
	struct seen *s = arg;

	*s = seen;
	return 0;
}

struct action {
	int sig;
	int flags;
	bool alt;
};

/* Handlers are for the process, the stack is for this thread. */
PROC(p_action)
{
	struct action *a = arg;

	catch (a->sig, a->flags);
	use_alt_stack(a->alt);
	memset(&seen, 0, sizeof(seen));
	return 0;
}

/* A signal of one's own comes before the next instruction. */
PROC(p_raise)
{
	int n = seen.count;

	NEED(!raise(SIGUSR2));
	NEED(seen.count == n + 1 && !seen.wrong && seen.tid == call_tid);
	return 0;
}

/* In called code, the caller's CPU time passes or the receiver's. */
PROC(p_timer)
{
	struct itimerval it = { { 0, 10000 }, { 0, 10000 } }, off = {};
	int which = *(int *)arg, before = seen.count;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	NEED(!setitimer(which, &it, NULL));
	while (seen.count < before + 3 && test_now_ns() < end)
		test_pause();
	NEED(!setitimer(which, &off, NULL));
	NEED(seen.count >= before + 3 && !seen.wrong);
	return 0;
}

static void receiver_begins(void)
{
	sigset_t set;

	note_stack();
	/* For the process: the thread that accepts is to leave it to us. */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_TID] = p_tid,	   [P_HOLD] = p_hold,	[P_SLEEP] = p_sleep,
		[P_READ] = p_read,	   [P_WRITE] = p_write, [P_SEEN] = p_seen,
		[P_ACTION] = p_action,	   [P_RAISE] = p_raise, [P_TIMER] = p_timer,
		[P_SIGNALFD] = p_signalfd,
	};
	sigset_t set;

	MUST(!pipe(pipe_fd));
	note_stack();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	catch (SIGUSR1, 0);
	catch (SIGUSR2, 0);
	call_receiver_begins = receiver_begins;
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;

static struct seen its_seen(void)
{
	struct seen s = {};

	CHECK_IS(call_result(&a, P_SEEN, &s, sizeof(s), RPAL_CALL_GRANT_WRITE), 0);
	return s;
}

static void its_action(int sig, int flags, bool alt)
{
	struct action act = { sig, flags, alt };

	CHECK_IS(call_result(&a, P_ACTION, &act, sizeof(act), 0), 0);
}

/* A thread that is in a call, or to be called: signals go to it. */
struct holder {
	pthread_t thread;
	struct hold hold;
	int proc;
	volatile pid_t tid;
	int64_t result;
	int wrong;
};

static void *holder_thread(void *arg)
{
	struct holder *h = arg;

	note_stack();
	__atomic_store_n(&h->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	h->result = call_result(&a, h->proc, &h->hold, sizeof(h->hold), RPAL_CALL_GRANT_WRITE);
	if (tls_word != TLS_WORD)
		h->wrong++;
	return NULL;
}

static void hold_begin(struct holder *h, int proc)
{
	memset(h, 0, sizeof(*h));
	h->proc = proc;
	MUST(!pthread_create(&h->thread, NULL, holder_thread, h));
	CHECK(call_wait_for(&h->hold.began, 1), "the call does not begin");
}

static void hold_end(struct holder *h, int64_t result)
{
	__atomic_store_n(&h->hold.end, 1, __ATOMIC_RELEASE);
	pthread_join(h->thread, NULL);
	CHECK(h->result == result && !h->wrong, "result %ld", (long)h->result);
}

static void to_sender(int proc, const char *what)
{
	struct holder h;
	int i;

	test_begin("signals to the caller %s", what);
	memset(&seen, 0, sizeof(seen));
	hold_begin(&h, proc);
	for (i = 1; i <= 20; i++) {
		MUST(!syscall(SYS_tgkill, getpid(), h.tid, SIGUSR1));
		if (!CHECK(call_wait_for(&seen.count, i), "no handler, %d", i))
			break;
		CHECK(seen.tid == h.tid && !seen.wrong, "tid %d, wrong %d", seen.tid, seen.wrong);
	}
	hold_end(&h, 0);
	test_end();
}

static void first_signal_each_time(void)
{
	struct holder h;
	int i;

	test_begin("the first signal of each call, to the caller");
	memset(&seen, 0, sizeof(seen));
	for (i = 1; i <= 30; i++) {
		hold_begin(&h, P_HOLD);
		MUST(!syscall(SYS_tgkill, getpid(), h.tid, SIGUSR1));
		if (!CHECK(call_wait_for(&seen.count, i), "no handler, %d", i))
			break;
		CHECK(seen.tid == h.tid && !seen.wrong, "tid %d, wrong %d", seen.tid, seen.wrong);
		hold_end(&h, 0);
	}
	test_end();
}

/* Of its process, one that no other thread takes. */
static void to_receiver(int proc, const char *what)
{
	struct holder h;
	struct seen s;
	u64 end;
	int i;

	test_begin("signals to the receiver %s", what);
	its_action(SIGUSR1, 0, false);
	for (i = 1; i <= 20; i++) {
		hold_begin(&h, proc);
		MUST(!syscall(SYS_tgkill, a.child.pid, h.hold.tid, SIGUSR1));
		end = test_now_ns() + test_patience() * 1000000000ULL;
		do
			s = its_seen();
		while (s.count < i && test_now_ns() < end && !usleep(1000));
		if (!CHECK(s.count == i, "%d handlers, not %d", s.count, i))
			break;
		CHECK(s.tid == h.hold.tid && !s.wrong, "tid %d, wrong %d", s.tid, s.wrong);
		hold_end(&h, 0);
	}
	test_end();
}

static void raised(void)
{
	int i;

	test_begin("called code signals itself");
	its_action(SIGUSR2, 0, false);
	for (i = 0; i < 30; i++)
		CHECK_IS(call_result(&a, P_RAISE, NULL, 0, 0), 0);
	test_end();
}

static void alternate_stacks(void)
{
	struct holder h;
	struct seen s;
	int i;

	test_begin("alternate stacks on either side");
	memset(&seen, 0, sizeof(seen));
	/* Of this thread, which calls here itself. */
	use_alt_stack(true);
	for (i = 0; i < 20; i++) {
		struct itimerval it = { {}, { 0, 3000 } };

		catch (SIGALRM, SA_ONSTACK);
		MUST(!setitimer(ITIMER_REAL, &it, NULL));
		while (seen.count <= i)
			CHECK(call_result(&a, P_TID, NULL, 0, 0) > 0, "no answer");
	}
	CHECK(!seen.wrong, "%d handlers elsewhere", seen.wrong);
	use_alt_stack(false);
	signal(SIGALRM, SIG_DFL);
	/* One receiver is left to choose from: the other one is held. */
	hold_begin(&h, P_SLEEP);
	its_action(SIGUSR2, SA_ONSTACK, true);
	for (i = 0; i < 20; i++)
		CHECK_IS(call_result(&a, P_RAISE, NULL, 0, 0), 0);
	s = its_seen();
	CHECK(s.count == 20 && !s.wrong, "%d handlers, %d elsewhere", s.count, s.wrong);
	its_action(SIGUSR2, 0, false);
	hold_end(&h, 0);
	test_end();
}

static char state_of(pid_t pid)
{
	char path[64], text[512] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return '?';
	close(fd);
	return strrchr(text, ')') ? strrchr(text, ')')[2] : '?';
}

static bool wait_state(pid_t pid, char want, bool is)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while ((state_of(pid) == want) != is) {
		if (test_now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* In a system call of that number; asleep is also who only waits to be called. */
static bool wait_syscall(pid_t pid, pid_t tid, int nr)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	char path[64], text[256];
	int n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	do {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		close(fd);
		text[n < 0 ? 0 : n] = 0;
		if (n > 0 && text[0] >= '0' && text[0] <= '9' && atoi(text) == nr)
			return true;
		usleep(1000);
	} while (test_now_ns() < end);
	return false;
}

/* Stopped, the receiver's process runs nothing: not on our task, either. */
static void stop_receiver(int proc, const char *what)
{
	struct holder h;
	int i;

	test_begin("the receiver's process is stopped and goes on, %s", what);
	for (i = 0; i < 5; i++) {
		hold_begin(&h, proc);
		MUST(!kill(a.child.pid, SIGSTOP));
		CHECK(wait_state(a.child.pid, 'T', true), "state %c", state_of(a.child.pid));
		CHECK(wait_state(h.hold.tid, 'T', true), "thread: %c", state_of(h.hold.tid));
		__atomic_store_n(&h.hold.end, 1, __ATOMIC_RELEASE);
		usleep(20000);
		CHECK(pthread_tryjoin_np(h.thread, NULL) == EBUSY, "the call has ended");
		MUST(!kill(a.child.pid, SIGCONT));
		hold_end(&h, 0);
	}
	test_end();
}

/* The caller's process is a child's here: the driver of it must not stop. */
static int stopped_role(void)
{
	struct holder h;
	int i;

	snprintf(a.path, sizeof(a.path), "%s", test_arg);
	call_init(1);
	call_connect(&a);
	for (i = 0; i < 5; i++) {
		hold_begin(&h, i % 2 ? P_SLEEP : P_HOLD);
		test_send_u64(TEST_FD_DRIVER, h.tid);
		test_recv_u64(TEST_FD_DRIVER);
		hold_end(&h, 0);
	}
	return test_failures() != 0;
}

static void stop_sender(void)
{
	struct test_spawn s = { .role = "stopped", .arg = a.path, .group = "call" };
	struct test_child c;
	int i, status;
	pid_t tid;

	test_begin("the caller's process is stopped and goes on");
	MUST(!test_spawn(&c, &s));
	for (i = 0; i < 5; i++) {
		tid = test_recv_u64(c.sock);
		MUST(!kill(c.pid, SIGSTOP));
		CHECK(wait_state(c.pid, 'T', true), "state %c", state_of(c.pid));
		CHECK(wait_state(tid, 'T', true), "thread: %c", state_of(tid));
		/* Its receiver has not stopped, nor has another one. */
		CHECK(call_result(&a, P_TID, NULL, 0, 0) > 0, "no answer");
		MUST(!kill(c.pid, SIGCONT));
		CHECK(wait_state(c.pid, 'T', false), "it does not go on");
		test_send_u64(c.sock, 0);
	}
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	close(c.sock);
	test_end();
}

static void timers(void)
{
	static const int which[] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
	static const int sigs[] = { SIGALRM, SIGVTALRM, SIGPROF };
	static const char *const names[] = { "REAL", "VIRTUAL", "PROF" };
	struct itimerval off = {};
	u64 end;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(which); i++) {
		struct itimerval it = { { 0, 5000 }, { 0, 5000 } };

		test_begin("ITIMER_%s of the caller", names[i]);
		memset(&seen, 0, sizeof(seen));
		catch (sigs[i], SA_RESTART);
		MUST(!setitimer(which[i], &it, NULL));
		end = test_now_ns() + test_patience() * 1000000000ULL;
		while (seen.count < 20 && test_now_ns() < end)
			if (call_result(&a, P_TID, NULL, 0, 0) <= 0)
				break;
		MUST(!setitimer(which[i], &off, NULL));
		CHECK(seen.count >= 20, "%d signals", seen.count);
		CHECK(!seen.wrong, "%d handlers elsewhere", seen.wrong);
		signal(sigs[i], SIG_IGN);
		test_end();
	}
	for (i = 0; i < ARRAY_SIZE(which); i++) {
		int w = which[i];

		test_begin("ITIMER_%s of called code", names[i]);
		its_action(sigs[i], SA_RESTART, false);
		CHECK_IS(call_result(&a, P_TIMER, &w, sizeof(w), 0), 0);
		test_end();
	}
}

static void restart(bool restarts)
{
	struct holder h;
	struct seen s;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	test_begin("a read of called code, interrupted%s", restarts ? ", SA_RESTART" : "");
	its_action(SIGUSR1, restarts ? SA_RESTART : 0, false);
	hold_begin(&h, P_READ);
	CHECK(wait_syscall(a.child.pid, h.hold.tid, SYS_read), "it does not read");
	MUST(!syscall(SYS_tgkill, a.child.pid, h.hold.tid, SIGUSR1));
	do
		s = its_seen();
	while (s.count < 1 && test_now_ns() < end && !usleep(1000));
	CHECK(s.count == 1 && s.tid == h.hold.tid && !s.wrong, "%d handlers", s.count);
	if (restarts)
		CHECK_IS(call_result(&a, P_WRITE, NULL, 0, 0), 1);
	hold_end(&h, restarts ? 'w' : -EINTR);
	test_end();
}

/* The caller's signals are not the callee's: its read sees nothing of them. */
static void not_interrupted(void)
{
	struct holder h;
	int i;

	test_begin("a read of called code, signals to the caller");
	memset(&seen, 0, sizeof(seen));
	catch (SIGUSR1, 0);
	hold_begin(&h, P_READ);
	for (i = 1; i <= 5; i++) {
		MUST(!syscall(SYS_tgkill, getpid(), h.tid, SIGUSR1));
		CHECK(call_wait_for(&seen.count, i), "no handler, %d", i);
	}
	CHECK_IS(call_result(&a, P_WRITE, NULL, 0, 0), 1);
	hold_end(&h, 'w');
	test_end();
}

static void payloads(void)
{
	struct holder h;
	struct seen s;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	siginfo_t si = { .si_code = SI_QUEUE, .si_signo = SIGUSR1, .si_value = { 4711 } };

	test_begin("what sigqueue() sends along");
	memset(&seen, 0, sizeof(seen));
	si.si_pid = getpid();
	hold_begin(&h, P_HOLD);
	MUST(!syscall(SYS_rt_tgsigqueueinfo, getpid(), h.tid, SIGUSR1, &si));
	CHECK(call_wait_for(&seen.count, 1), "no handler");
	CHECK(seen.value == 4711 && seen.code == SI_QUEUE, "%d, %d", seen.value, seen.code);
	its_action(SIGUSR1, 0, false);
	si.si_value.sival_int = 4712;
	MUST(!syscall(SYS_rt_tgsigqueueinfo, a.child.pid, h.hold.tid, SIGUSR1, &si));
	do
		s = its_seen();
	while (s.count < 1 && test_now_ns() < end && !usleep(1000));
	CHECK(s.value == 4712 && s.code == SI_QUEUE, "%d, %d", s.value, s.code);
	hold_end(&h, 0);
	test_end();
}

static void descriptors(void)
{
	struct signalfd_siginfo info;
	struct holder h;
	sigset_t set, old;
	siginfo_t si;
	int fd, i;

	test_begin("signalfd and sigwaitinfo on either side");
	for (i = 0; i < 10; i++)
		CHECK_IS(call_result(&a, P_SIGNALFD, NULL, 0, 0), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	MUST(fd >= 0);
	/* Blocked in the caller: it stays in the call. */
	hold_begin(&h, P_HOLD);
	MUST(!sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ 5 }));
	CHECK(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_int == 5, "signalfd");
	MUST(!sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ 6 }));
	CHECK(sigwaitinfo(&set, &si) == SIGRTMIN + 2 && si.si_value.sival_int == 6, "sigwait");
	hold_end(&h, 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(fd);
	test_end();
}

static int client_role(void)
{
	note_stack();
	catch (SIGUSR1, 0);
	call_init(1);
	call_peer_new(&a, "server", 3);
	to_sender(P_HOLD, "whose task runs the procedure");
	to_sender(P_SLEEP, "while the procedure sleeps");
	first_signal_each_time();
	to_receiver(P_HOLD, "whose procedure the caller runs");
	to_receiver(P_SLEEP, "asleep in its procedure");
	raised();
	alternate_stacks();
	stop_receiver(P_HOLD, "on the caller's task");
	stop_receiver(P_SLEEP, "on its own");
	stop_sender();
	timers();
	restart(false);
	restart(true);
	not_interrupted();
	payloads();
	descriptors();
	call_peer_end(&a);
	return 0;
}

static const struct test_role roles[] = {
	{ "server", server_role }, { "client", client_role }, { "stopped", stopped_role }, {}
};

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
