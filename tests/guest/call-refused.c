// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Threads that cannot call or be called: each is refused with an error of its
 * own, and with a sentence that says what to do.
 */
#include "call.h"

#include <linux/prctl.h>
#include <sys/ioctl.h>
#include <sys/rseq.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF	     0
#define PR_SYS_DISPATCH_ON	     1
#endif

#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_REQ_XCOMP_PERM 0x1023
#define ARCH_SHSTK_STATUS   0x5005
#define XFEATURE_TILEDATA   18
#define RSEQ_UNREGISTER	    1

PROC(p_nothing)
{
	return 17;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[] = { p_nothing };

	return call_server(procs, 1);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;
static int dev;

/* What the kernel says; librpal does things before it asks. */
static int raw_register(unsigned int flags)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = flags };

	return ioctl(dev, RPAL_IOC_THREAD, &t) ? -errno : 0;
}

static bool sentence_has(const char *word)
{
	return CHECK(strcasestr(rpal_last_error(), word), "no \"%s\" in \"%s\"", word,
		     rpal_last_error());
}

/* Every way of librpal to make a thread one that calls or is called. */
static void refused(int err, const char *word, const char *what_to_do)
{
	rpal_error_code_t code = 0;
	int64_t r;

	CHECK_IS(rpal_sender_init(&code), RPAL_FAILURE);
	CHECK_IS(code, RPAL_ERR_SENDER_INIT);
	sentence_has(word);
	CHECK_IS(rpal_thread_init(), err);
	sentence_has(word);
	CHECK_IS(rpal_serve(-1, 0), err);
	sentence_has(word);
	CHECK_IS(rpal_call(a.id, 0, NULL, 0, &r), err);
	sentence_has(word);
	sentence_has(what_to_do);
	CHECK(rpal_strerror(err)[0], "no sentence for %d", err);
}

static void works(void)
{
	int64_t r = 0;

	CHECK_IS(rpal_call(a.id, 0, NULL, 0, &r), 0);
	CHECK_IS(r, 17);
	CHECK_IS(rpal_sender_exit(), RPAL_SUCCESS);
}

static void *dispatch_thread(void *arg)
{
	static char selector; /* SYSCALL_DISPATCH_FILTER_ALLOW */

	test_begin("a user of syscall user dispatch");
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector)) {
		test_skip_case("no syscall user dispatch on this kernel");
	} else {
		refused(-EOPNOTSUPP, "dispatch", "turn it off");
		/* It is still the thread's own. */
		CHECK(getppid() > 0, "getppid: %d", errno);
		CHECK_IS(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0), 0);
		works();
	}
	test_end();
	return arg;
}

static long prctl_by_int80(long option, long mode)
{
	long ret = 172; /* prctl() of 32-bit code */

	asm volatile("int $0x80"
		     : "+a"(ret)
		     : "b"(option), "c"(mode), "d"(0), "S"(0), "D"(0)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

/* It would lose what makes its calls safe, and others' calls to it. */
static void *dispatch_later_thread(void *arg)
{
	static char selector;

	test_begin("a registered thread cannot begin to use syscall user dispatch");
	CHECK_IS(rpal_sender_init(NULL), RPAL_SUCCESS);
	CHECK_IS(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0), -1);
	CHECK_IS(errno, EBUSY);
	CHECK_IS(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector), -1);
	CHECK_IS(errno, EBUSY);
	CHECK_IS(prctl_by_int80(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF), -EBUSY);
	/* Other things can be had. */
	CHECK(prctl(PR_GET_DUMPABLE) >= 0, "prctl: %d", errno);
	works();
	CHECK_IS(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0), 0);
	test_end();
	return arg;
}

static int rseq(void *area, int flags)
{
	return syscall(SYS_rseq, area, 32, flags, RSEQ_SIG) ? -errno : 0;
}

static void *rseq_thread(void *arg)
{
	static struct rseq other __attribute__((aligned(32)));
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	test_begin("a thread that keeps its rseq");
	if (!__rseq_size) {
		test_skip_case("no rseq here");
		test_end();
		return arg;
	}
	/* Without librpal, which takes that of the C library away. */
	CHECK_IS(raw_register(RPAL_THREAD_SENDER), -EBUSY);
	CHECK_IS(raw_register(RPAL_THREAD_RECEIVER | RPAL_THREAD_SENDER), -EBUSY);
	/* Another library's, of which librpal knows nothing. */
	CHECK_IS(rseq(area, RSEQ_UNREGISTER), 0);
	CHECK_IS(rseq(&other, 0), 0);
	refused(-EBUSY, "rseq", "turned off");
	CHECK_IS(rseq(&other, RSEQ_UNREGISTER), 0);
	CHECK_IS(rseq(area, 0), 0);
	works();
	/* And it is given back. */
	CHECK_IS(rseq(area, 0), -EBUSY);
	test_end();
	return arg;
}

/* ioctl() the old way; 0 or the signal that it gave. */
static int old_ioctl(int fd, unsigned int cmd, int *ret)
{
	int sig;

	asm volatile("mov $54, %%eax\n"
		     "1: int $0x80\n"
		     "mov %%eax, %[ret]\n"
		     "xor %%eax, %%eax\n"
		     "2:\n" TEST_EXTABLE
		     : "=&a"(sig), [ret] "=m"(*ret)
		     : "b"(fd), "c"(cmd), "d"(0)
		     : "memory");
	return sig;
}

static void compat(void)
{
	static const unsigned int cmds[] = { RPAL_IOC_QUERY,  RPAL_IOC_PLACE,
					     RPAL_IOC_SELF,   RPAL_IOC_REGISTER,
					     RPAL_IOC_THREAD, RPAL_IOC_THREAD_EXIT,
					     RPAL_IOC_WAIT,   RPAL_IOC_UNREGISTER };
	int ret = 0;
	size_t i;

	test_begin("commands of 32-bit system calls");
	if (old_ioctl(-1, 0, &ret)) {
		test_skip_case("no 32-bit system calls on this kernel");
		test_end();
		return;
	}
	CHECK_IS(ret, -EBADF);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		CHECK_IS(old_ioctl(dev, cmds[i], &ret), 0);
		CHECK_IS(ret, -ENOTTY);
	}
	works();
	test_end();
}

/* These stay with the process, so it is a child's. */
static int amx_role(void)
{
	u64 supported = 0;

	test_begin("permission for AMX");
	if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) ||
	    !(supported >> XFEATURE_TILEDATA & 1)) {
		test_skip_case("no AMX on this CPU");
	} else {
		call_init(1);
		snprintf(a.path, sizeof(a.path), "%s", test_arg);
		call_connect(&a);
		MUST(!syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA));
		refused(-EOPNOTSUPP, "AMX", "turn it off");
	}
	test_end();
	return test_failures() != 0;
}

/* The C library of a program turns them on, if anybody does. */
static void shadow_stack(void)
{
	u64 features = 0;

	test_begin("user shadow stacks");
	if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features) || !features)
		test_skip_case("no user shadow stacks on this CPU or in this C library");
	else
		refused(-EOPNOTSUPP, "shadow stack", "turn it off");
	test_end();
}

static void run_thread(void *(*fn)(void *))
{
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, fn, NULL));
	pthread_join(thread, NULL);
}

static int client_role(void)
{
	struct test_spawn s = { .role = "amx", .arg = a.path, .group = "call" };
	struct test_child c;
	int status;

	dev = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(dev >= 0);
	call_peer_new(&a, "server", 1);
	run_thread(dispatch_thread);
	run_thread(dispatch_later_thread);
	run_thread(rseq_thread);
	compat();
	shadow_stack();
	MUST(!test_spawn(&c, &s));
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	close(c.sock);
	call_peer_end(&a);
	return 0;
}

static const struct test_role roles[] = {
	{ "server", server_role }, { "client", client_role }, { "amx", amx_role }, {}
};

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
