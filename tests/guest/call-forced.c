// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Signals that the kernel forces on a thread which says in its block that it calls, and does
 * not: it meets them as any other thread. And what a registered thread may not ask for later,
 * since calls do not carry it along.
 */
#include "common.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

/* A number that no system call has. */
#define NR_NONE 1000

/* What the roles end with. */
#define WENT_ON	 40 /* at lazy_ip */
#define RETURNED 41 /* from the system call */

/*
 * forced_stub: the system call of eax, with the block in r10, as in a trampoline before its
 * claim. forced_lazy: where the module sends a thread whose call it has ended; it has no
 * stack to rely on.
 */
__asm__(".pushsection .text\n"
	".globl forced_stub, forced_stub_end, forced_lazy\n"
	"forced_stub:\n"
	"	syscall\n"
	"	nop\n"
	"forced_stub_end:\n"
	"	mov	$41, %edi\n"
	"	jmp	1f\n"
	"forced_lazy:\n"
	"	mov	$40, %edi\n"
	"1:	mov	$231, %eax\n" /* exit_group */
	"	syscall\n"
	"	ud2\n"
	".popsection\n");
extern const char forced_stub[], forced_stub_end[], forced_lazy[];

static u32 own_tid;

/* A thread of a service whose trampoline is the stub. */
static struct rpal_block *register_thread(void)
{
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = 1 };
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	char *rseq = (char *)__builtin_thread_pointer() + __rseq_offset;
	int fd = test_open();

	MUST(fd >= 0);
	test_ranges(&reg.ranges);
	reg.ranges.open_start = (u64)forced_stub;
	reg.ranges.open_end = (u64)forced_stub_end;
	reg.ranges.lazy_ip = (u64)forced_lazy;
	MUST(!ioctl(fd, RPAL_IOC_REGISTER, &reg));
	MUST(mmap(NULL, reg.area_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
	if (__rseq_size)
		MUST(!syscall(SYS_rseq, rseq, 32, 1 /* unregister */, RSEQ_SIG));
	MUST(!ioctl(fd, RPAL_IOC_THREAD, &t));
	own_tid = t.tid;
	return (struct rpal_block *)t.block;
}

static void forbid(u32 action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NR_NONE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(filter), .filter = filter };

	MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
}

/* It says that it is about to call a thread that there is not. */
static void call_nobody(struct rpal_block *block, long nr)
{
	block->callee = RPAL_TID(RPAL_TID_SERVICE(own_tid), 0xfff);
	__asm__ volatile("mov %0, %%r10\n"
			 "jmp forced_stub\n"
			 :
			 : "r"(block), "a"(nr), "D"(0L), "S"(0L), "d"(0L)
			 : "r10", "rcx", "r11", "memory");
	__builtin_unreachable();
}

static int filter_role(void)
{
	struct rpal_block *block = register_thread();

	forbid(!strcmp(test_arg, "trap")   ? SECCOMP_RET_TRAP :
	       !strcmp(test_arg, "thread") ? SECCOMP_RET_KILL_THREAD :
					     SECCOMP_RET_KILL_PROCESS);
	call_nobody(block, NR_NONE);
	return 0;
}

/* Where it may: nothing is forced, so the system call comes back. */
static int plain_role(void)
{
	call_nobody(register_thread(), NR_NONE);
	return 0;
}

static long arch_prctl(long option, void *arg)
{
	return syscall(SYS_arch_prctl, option, arg) ? errno : 0;
}

static int state_role(void)
{
	u64 mask = 0;

	register_thread();
	CHECK(arch_prctl(0x1023 /* ARCH_REQ_XCOMP_PERM */, (void *)18) == EBUSY, "AMX: %s",
	      strerror(errno));
	CHECK(arch_prctl(0x1025 /* ARCH_REQ_XCOMP_GUEST_PERM */, (void *)18) == EBUSY,
	      "AMX of a guest: %s", strerror(errno));
	CHECK(arch_prctl(0x5001 /* ARCH_SHSTK_ENABLE */, (void *)1) == EBUSY, "shadow stack: %s",
	      strerror(errno));
	CHECK(!arch_prctl(0x1021 /* ARCH_GET_XCOMP_SUPP */, &mask), "asking what there is: %s",
	      strerror(errno));
	return test_finish();
}

static int run(const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .arg = arg };
	struct test_child c;
	int e = test_spawn(&c, &s), status;

	MUST(!e);
	status = test_wait(c.pid);
	close(c.sock);
	return status;
}

static void killed(const char *arg, const char *what)
{
	int status;

	test_begin("a filter that %s a thread that says it calls", what);
	status = run("filter", arg);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s", test_status(status));
	test_end();
}

static const struct test_role roles[] = {
	{ "filter", filter_role }, { "plain", plain_role }, { "state", state_role }, {}
};

int main(int argc, char **argv)
{
	int status;

	test_init(argc, argv, roles);
	killed("process", "kills the process of");
	killed("trap", "sends SIGSYS to");

	test_begin("without a filter the system call is the thread's own");
	status = run("plain", "");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == RETURNED, "%s", test_status(status));
	test_end();

	test_begin("a registered thread does not get state that calls cannot carry");
	status = run("state", "");
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "%s", test_status(status));
	test_end();
	return test_finish();
}
