// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Threads, children, other programs, signals.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#define MAX_THREADS 6
#define STACK	    (256UL << 10)

/* ------------------------------------------------------------------ signals */

/* It only has to interrupt whatever sleeps; but what it does may be more. */
static void on_signal(int sig)
{
	struct rpal_self self = { .size = sizeof(self) };
	int e = errno;

	if (sig == SIGUSR2)
		ioctl(fuzz_service_fd, RPAL_IOC_SELF, &self);
	errno = e;
}

/* Nobody sleeps for ever who is interrupted for ever. */
void fuzz_tick(bool on)
{
	/* A fork that is interrupted begins anew, and takes long on a slow kernel. */
	int ms = test_patience() / 60 * 25;
	struct itimerval t = { { 0, on ? ms * 1000 : 0 }, { 0, on ? ms * 1000 : 0 } };

	setitimer(ITIMER_REAL, &t, NULL);
}

void fuzz_signals(void)
{
	static const int caught[] = { SIGALRM, SIGUSR1, SIGUSR2, SIGTRAP, SIGIO, SIGPIPE };
	struct sigaction sa = { .sa_handler = on_signal };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caught); i++)
		sigaction(caught[i], &sa, NULL);
	sa.sa_handler = SIG_IGN; /* children leave nothing behind */
	sigaction(SIGCHLD, &sa, NULL);
	fuzz_tick(true);
}

/*
 * As a debugger does. In a child, whose end is the end of it: somebody who was
 * killed meanwhile would be kept for his debugger.
 */
static void look_at(pid_t pid)
{
	if (fork())
		return;
	alarm(1);
	if (!ptrace(PTRACE_SEIZE, pid, 0, 0)) {
		ptrace(PTRACE_INTERRUPT, pid, 0, 0);
		waitpid(pid, NULL, __WALL);
		ptrace(PTRACE_PEEKDATA, pid, any_address(8), 0);
		ptrace(PTRACE_POKEDATA, pid, any_place()->area + below(512) * 8, random64());
	}
	_exit(0);
}

void op_signal(void)
{
	static const int sigs[] = { SIGUSR1, SIGUSR2, SIGALRM, SIGTRAP, SIGCHLD, SIGIO };
	pid_t pid = one_in(4) ? getpid() : any_place()->pid;

	if (pid <= 1)
		return;
	switch (below(16)) {
	case 0:
		if (pid == getpid())
			break;
		kill(pid, SIGSTOP);
		sched_yield();
		kill(pid, SIGCONT);
		break;
	case 1:
		look_at(pid);
		break;
	case 2:
		if (one_in(64))
			kill(pid, one_in(2) ? SIGKILL : SIGTERM);
		break;
	default:
		kill(pid, PICK(sigs));
	}
}

/* Its keys, and who may look at it. */
void op_rights(void)
{
	switch (below(8)) {
	case 0:
		pkru_write(test_random() & ~(3U << 2 * fuzz_self.pkey) & ~3U);
		break;
	case 1:
		prctl(PR_SET_DUMPABLE, !one_in(16));
		break;
	case 2:
		syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, any_address(8));
		break;
	case 3:
		/* If it is granted, it is the end. */
		if (one_in(8))
			prctl(PR_SET_SYSCALL_USER_DISPATCH, below(3), 0, below(2), 0);
		break;
	case 4:
		syscall(SYS_unshare, one_in(2) ? CLONE_FILES : CLONE_FS);
		break;
	default:
		pkru_write(0);
	}
}

/* ------------------------------------------------------------------ threads */

static volatile int threads;
static volatile u32 thread_number;

struct start {
	u32 number;
	u64 n;
};

static void *thread_main(void *arg)
{
	struct start *s = arg, start = *s;

	free(s);
	pkru_write(0);
	if (start.n % 3 == 0)
		fuzz_be_called(start.n);
	fuzz_run(start.number, start.n);
	__atomic_sub_fetch(&threads, 1, __ATOMIC_RELAXED);
	return NULL;
}

void op_thread(void)
{
	struct start *s;
	pthread_attr_t attr;
	pthread_t thread;

	if (__atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) > MAX_THREADS)
		goto no;
	s = malloc(sizeof(*s));
	s->number = ++thread_number;
	s->n = 1 + below(one_in(4) ? 256 : 24);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	if (!pthread_create(&thread, &attr, thread_main, s))
		return;
	free(s);
no:
	__atomic_sub_fetch(&threads, 1, __ATOMIC_RELAXED);
}

/* ----------------------------------------------------------------- children */

/* A program of ours that does a few things more. */
static void exec_visitor(bool as_worker)
{
	static char me[8];
	char *argv[] = { (char *)test_name, NULL };
	char arg[32], group[] = "GLIBC_TUNABLES=glibc.pthread.rseq=0";
	char *env[] = { as_worker ? "RPAL_TEST_ROLE=worker" : "RPAL_TEST_ROLE=visitor", arg, group,
			getenv("RPAL_KERNEL") ? getenv("RPAL_KERNEL") - strlen("RPAL_KERNEL=") :
						NULL,
			NULL };
	struct rpal_place p = { .size = sizeof(p) };

	snprintf(me, sizeof(me), "%u", fuzz_me);
	snprintf(arg, sizeof(arg), "RPAL_TEST_ARG=%s", me);
	if (!test_have_pkeys())
		p.flags = RPAL_PLACE_NO_PKEYS;
	if (one_in(2))
		strcpy((char *)p.group, FUZZ_GROUP);
	if (!one_in(4))
		ioctl(any_file(), RPAL_IOC_PLACE, &p);
	fuzz_count(&board->execs);
	execve("/proc/self/exe", argv, env);
}

static int child(void *arg)
{
	u32 n = (uintptr_t)arg;

	fuzz_tick(true);
	fuzz_run(0x10000 + n, below(8));
	if (n & 1)
		exec_visitor(false);
	_exit(0);
}

static struct fuzz_place own_place;

void op_fork(void)
{
	u32 n = below(0x10000);

	fuzz_count(&board->forks);
	if (fork() == 0) {
		/* What is mapped there from now on is none of the parent's affair. */
		own_place = *place;
		place = &own_place;
		fuzz_block = NULL;
		child((void *)(uintptr_t)n);
	}
}

/* In our memory, on a stack of its own; we wait. */
void op_vfork(void)
{
	struct rpal_block *block = fuzz_block;
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int flags = CLONE_VM | CLONE_VFORK | SIGCHLD | (one_in(4) ? CLONE_FILES : 0);
	u32 n = below(0x10000);

	if (stack == MAP_FAILED)
		return;
	fuzz_count(&board->forks);
	fuzz_block = NULL;
	clone(child, stack + STACK, flags, (void *)(uintptr_t)n);
	/* It has used our variables. */
	fuzz_block = block;
	munmap(stack, STACK);
}

void fuzz_exec_now(void)
{
	fuzz_tick(false);
	/* A child that became a worker would be one that nobody knows or ends. */
	exec_visitor(place->pid == getpid());
	fuzz_tick(true);
}

void op_exec(void)
{
	if (one_in(64))
		fuzz_exec_now();
}
