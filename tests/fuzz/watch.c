// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What debuggers, profilers, sandboxes, containers and virtual machines do to a
 * process, at any moment; and words in shared pages that are nearly right.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

/* ------------------------------------------------------------------- others */

/* Any thread of any worker: there are some that call and some that are called. */
static pid_t any_task(void)
{
	pid_t pid = any_place()->pid, tid = pid;
	struct dirent *d;
	char path[48];
	DIR *tasks;
	u32 n = 1;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = pid > 1 ? opendir(path) : NULL;
	while (tasks && (d = readdir(tasks)))
		if (atoi(d->d_name) && one_in(n++))
			tid = atoi(d->d_name);
	if (tasks)
		closedir(tasks);
	return tid;
}

/* ----------------------------------------------------------------- profiler */

extern const char __ehdr_start[];

/*
 * In this program, where the kernel is left or where procedures come by. The file's
 * first bytes are mapped in front of its code.
 */
static void set_probe(struct perf_event_attr *a)
{
	long type = test_file_number("/sys/bus/event_source/devices/uprobe/type");
	u64 at = one_in(2) ? (u64)fuzz_back : (u64)test_random;

	if (type < 0)
		return;
	a->type = type;
	a->uprobe_path = (u64) "/proc/self/exe";
	a->probe_offset = at - (u64)__ehdr_start;
	a->sample_period = 1;
	a->freq = 0;
}

static const u64 kinds[] = { PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_PAGE_FAULTS,
			     PERF_COUNT_SW_CONTEXT_SWITCHES, PERF_COUNT_SW_CPU_MIGRATIONS };

/*
 * One of each kind, for good: with the first and the last one the kernel patches its
 * code, and QEMU may go on with the old one.
 */
void fuzz_hold_events(void)
{
	struct perf_event_attr a = { .size = sizeof(a), .type = PERF_TYPE_SOFTWARE };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		a.config = kinds[i];
		/* Without it there are no profilers here. */
		if (syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC) < 0)
			return;
	}
}

/* Samples with the user's stack and chain of calls, which are read wherever they are. */
void op_perf(void)
{
	struct perf_event_attr a = {
		.size = sizeof(a),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_freq = 4000,
		.freq = 1,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_CALLCHAIN |
			       PERF_SAMPLE_STACK_USER | PERF_SAMPLE_REGS_USER | PERF_SAMPLE_ADDR,
		.sample_stack_user = 4096,
		.sample_regs_user = 0x1ff,
		.inherit = one_in(2),
	};
	pid_t tid;
	void *p;
	int fd;

	/* The kernel patches its code for them: not where QEMU may not notice. */
	if (!board->probes)
		return;
	tid = one_in(4) ? 0 : any_task();
	if (one_in(4))
		a.config = PICK(kinds);
	if (one_in(4))
		set_probe(&a);
	fd = syscall(SYS_perf_event_open, &a, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return;
	fuzz_moved(a.type == PERF_TYPE_SOFTWARE ? MOVE_PERF : MOVE_PROBE);
	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	usleep(below(3000));
	if (p != MAP_FAILED)
		munmap(p, 3 * PAGE);
	close(fd);
}

/* ----------------------------------------------------------------- debugger */

static void one_step(pid_t tid)
{
	static const int steps[] = { PTRACE_SINGLESTEP, PTRACE_SYSCALL, PTRACE_SYSEMU,
				     PTRACE_SYSEMU_SINGLESTEP, PTRACE_CONT };
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, tid, 0, &regs))
		return;
	fuzz_moved(MOVE_TRACE);
	switch (below(8)) {
	case 0:
		regs.rax = random64();
		break;
	case 1:
		regs.orig_rax = one_in(2) ? ~0UL : SYS_ioctl;
		break;
	case 2:
		regs.r10 = any_place()->area + below(8) * RPAL_BLOCK_SIZE;
		break;
	case 3:
		/* With DF set each memset() goes the wrong way, and few live through that. */
		regs.eflags ^= one_in(8) ? 0x400 : 0x100;
		break;
	case 4:
		if (one_in(8))
			regs.rip = (u64)fuzz_back;
		break;
	case 5:
		if (one_in(8))
			regs.rsp = any_address(8);
		break;
	}
	ptrace(PTRACE_SETREGS, tid, 0, &regs);
	ptrace(PICK(steps), tid, 0, 0);
	waitpid(tid, NULL, __WALL);
}

/* In a child: its end lets go of whom it has stopped. */
void op_trace(void)
{
	pid_t tid;
	u32 n = 1 + below(8);

	fuzz_count(&board->forks);
	if (fork())
		return;
	alarm(1);
	tid = any_task();
	if (tid > 1 && !ptrace(PTRACE_SEIZE, tid, 0, 0)) {
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
		if (waitpid(tid, NULL, __WALL) == tid)
			while (n--)
				one_step(tid);
		ptrace(PTRACE_DETACH, tid, 0, 0);
	}
	_exit(0);
}

/* ------------------------------------------------------------------ sandbox */

/* From now on this thread is punished for one system call. */
static bool sandbox(void)
{
	static const u32 actions[] = { SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD,
				       SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO | 38 };
	static const u32 calls[] = { SYS_getppid, SYS_getpid, SYS_ioctl, SYS_futex, SYS_munmap };
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PICK(calls), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, PICK(actions)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(f), f };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void *in_sandbox(void *n)
{
	pkru_write(0);
	if ((uintptr_t)n & 1)
		fuzz_be_called(2);
	if (sandbox()) {
		fuzz_moved(MOVE_SECCOMP);
		syscall(SYS_getppid);
		fuzz_be_called(1);
		fuzz_run(0x30000 + (uintptr_t)n, 8);
	}
	return NULL;
}

void op_seccomp(void)
{
	u32 n = below(0x10000);
	pthread_attr_t attr;
	pthread_t thread;

	/* Mostly it is the end of the process. */
	if (!one_in(8))
		return;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	pthread_create(&thread, &attr, in_sandbox, (void *)(uintptr_t)n);
}

/* ---------------------------------------------------------------- container */

static bool put(const char *dir, const char *file, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return test_write_file(path, text);
}

/* One worker stands still and goes on, with all of its threads, wherever they are. */
void op_freeze(void)
{
	struct fuzz_place *p = any_place();
	char dir[48], pid[16];

	/* Who freezes itself would not come to the end of it. */
	if (p == place || p->pid <= 1)
		return;
	snprintf(dir, sizeof(dir), "/sys/fs/cgroup/fuzz-%u", (u32)(p - board->place));
	snprintf(pid, sizeof(pid), "%d", p->pid);
	mkdir(dir, 0755);
	if (!put(dir, "cgroup.procs", pid))
		return;
	if (put(dir, "cgroup.freeze", "1"))
		fuzz_moved(MOVE_FREEZE);
	usleep(below(2000));
	put(dir, "cgroup.freeze", "0");
}

/* Another user, who has got the files and the sockets. */
void op_other_user(void)
{
	u32 n = 1 + below(8);

	fuzz_count(&board->forks);
	if (fork())
		return;
	if (setresgid(4242, 4242, 4242) || setresuid(4242, 4242, 4242))
		_exit(1);
	fuzz_block = NULL;
	while (n--) {
		op_pass();
		op_ioctl();
	}
	_exit(0);
}

/* ---------------------------------------------------------- virtual machine */

/* Its memory is a peer's, which may go at any time. */
void op_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, cpu;
	struct kvm_userspace_memory_region m = { .memory_size = PAGE };
	struct kvm_sregs sregs;

	if (kvm < 0)
		return;
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	m.userspace_addr = any_address(8) & -PAGE;
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &m);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (cpu >= 0 && !ioctl(cpu, KVM_GET_SREGS, &sregs)) {
		sregs.cs.base = sregs.cs.selector = 0;
		ioctl(cpu, KVM_SET_SREGS, &sregs);
		ioctl(cpu, KVM_RUN, 0);
		fuzz_moved(MOVE_KVM);
	}
	close(cpu);
	close(vm);
	close(kvm);
}

/* --------------------------------------------------- children in our memory */

/* With system calls alone: the parent's thread has the same variables. */
static int outlive(void *stack)
{
	struct rpal_self self = { .size = sizeof(self) };
	u32 i;

	(void)stack;
	for (i = 0; i < 20; i++) {
		syscall(SYS_ioctl, FUZZ_FD, RPAL_IOC_SELF, &self);
		syscall(SYS_madvise, place->arena, MB, MADV_DONTNEED);
		syscall(SYS_nanosleep, &(struct timespec){ 0, 1000000 }, NULL);
	}
	syscall(SYS_exit, 0);
	return 0;
}

/* It goes on while we execute another program, or end. */
void op_outlive(void)
{
	char *stack;

	if (!one_in(16))
		return;
	stack = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		return;
	fuzz_count(&board->forks);
	if (clone(outlive, stack + (64 << 10), CLONE_VM | SIGCHLD, NULL) < 0)
		munmap(stack, 64 << 10);
	else
		fuzz_moved(MOVE_OUTLIVE);
	if (one_in(2))
		fuzz_exec_now();
}

/* ------------------------------------------------------- nearly right words */

/* What another block has there, a little changed. */
static u64 nearly(u64 v)
{
	switch (below(8)) {
	case 0:
		return v + 0x100; /* the next generation */
	case 1:
		return v - 0x100;
	case 2:
		return (v & ~0xffULL) | below(6);
	case 3:
		return v ^ RPAL_ST_PENDING;
	case 4:
		return (v & 0xffffffff) | (u64)any_tid() << 32;
	case 5:
		return (v & ~0xffffffffULL) | any_tid();
	case 6:
		return test_now_ns() + below(2000000) - 1000000;
	default:
		return v;
	}
}

/* Not the contexts: who goes home with a wrong one does not get far. */
static const unsigned char words[] = { 0, 1, 2, 3, 4, 7, 19, 20, 21, 24, 25, 30, 31 };

/* Everything in all blocks of one service, all the time, for a while. */
void op_scribble(void)
{
	u64 *to, *from, v, to_area = any_place()->area, from_area = any_place()->area;
	u32 n = 16 << below(6), word;

	/* It is the end of most who call. */
	if (!to_area || !from_area || !one_in(4))
		return;
	fuzz_moved(MOVE_SCRIBBLE);
	while (n--) {
		word = PICK(words);
		from = (u64 *)(from_area + below(12) * RPAL_BLOCK_SIZE) + word;
		to = (u64 *)(to_area + below(12) * RPAL_BLOCK_SIZE) + word;
		if (!test_load(from, &v))
			test_store(to, nearly(v));
	}
}
