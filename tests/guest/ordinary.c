// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Processes that are not placed do not notice the module: a program that looks
 * at its address space and runs into faults says the same, word for word,
 * without the module, with an idle module, and while services are alive.
 */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RW	  (PROT_READ | PROT_WRITE)
#define ANON	  (MAP_PRIVATE | MAP_ANONYMOUS)
#define TEXT_SIZE (256 * 1024UL)

/* ------------------------------------------------------- the role: what it says */

static char text[TEXT_SIZE];
static size_t text_len;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_len += vsnprintf(text + text_len, sizeof(text) - text_len, fmt, ap);
	va_end(ap);
	MUST(text_len < sizeof(text));
}

static int say_vma(const struct test_vma *v, void *unused)
{
	(void)unused;
	/* Some kernels put these anywhere, randomisation or not. */
	if (!strncmp(v->name, "[vvar", 5) || !strcmp(v->name, "[vdso]"))
		say("%lx bytes %s %s key %d\n", v->end - v->start, v->perms, v->name, v->pkey);
	else
		say("%lx-%lx %s %s key %d\n", v->start, v->end, v->perms, v->name, v->pkey);
	return 0;
}

static void say_maps(const char *when)
{
	say("maps %s:\n", when);
	test_for_each_vma(true, say_vma, NULL);
}

static u64 try_map(const char *what, u64 addr, u64 len, int prot, int flags)
{
	u64 a;

	errno = 0;
	a = (u64)mmap((void *)addr, len, prot, flags, -1, 0);
	say("%s: %lx %d\n", what, a, errno);
	return a;
}

static void say_fault(const char *what, int sig)
{
	if (sig)
		say("%s: signal %d code %d addr %lx key %u\n", what, sig, test_fault.code,
		    test_fault.addr, test_fault.pkey);
	else
		say("%s: no fault\n", what);
}

static void mappings(void)
{
	u64 a, b;
	int id;

	a = try_map("page", 0, PAGE, RW, ANON);
	try_map("2M", 0, 2 * MB, RW, ANON);
	try_map("600G", 0, 600 * GB, PROT_NONE, ANON | MAP_NORESERVE);
	try_map("low hint", 0x10000000, PAGE, RW, ANON);
	try_map("high hint", 0x600000000000, PAGE, RW, ANON);
	try_map("very high hint", 1UL << 50, PAGE, RW, ANON);
	try_map("fixed", 0x500000000000, 3 * PAGE, RW, ANON | MAP_FIXED);
	try_map("across slots", 0x308000000000 - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED);
	try_map("fixed low", 0x20000000, PAGE, RW, ANON | MAP_FIXED);
	try_map("fixed, too high", 1UL << 60, PAGE, RW, ANON | MAP_FIXED);
	try_map("32 bit", 0, PAGE, RW, ANON | MAP_32BIT);
	try_map("grows down", 0, PAGE, RW, ANON | MAP_GROWSDOWN);
	b = try_map("exec only", 0, PAGE, PROT_EXEC, ANON);
	say("mprotect exec only: %d\n", mprotect((void *)a, PAGE, PROT_EXEC));
	say_fault("read exec only", test_load((void *)a, &b));
	say("mprotect back: %d\n", mprotect((void *)a, PAGE, RW));
	b = (u64)mremap((void *)a, PAGE, 8 * PAGE, MREMAP_MAYMOVE);
	say("mremap: %lx\n", b);
	b = (u64)mremap((void *)b, 8 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x400000000000);
	say("mremap fixed: %lx\n", b);
	id = shmget(IPC_PRIVATE, MB, IPC_CREAT | 0600);
	say("shmat: %lx\n", (u64)shmat(id, NULL, 0));
	say("shmat fixed: %lx\n", (u64)shmat(id, (void *)0x410000000000, 0));
	shmctl(id, IPC_RMID, NULL);
	say("brk: %lx\n", (u64)sbrk(0));
	say("sbrk: %lx\n", (u64)sbrk(MB));
	say("brk far: %d\n", syscall(SYS_brk, 0x700000000000) == 0x700000000000);
}

static void protections(void)
{
	volatile char *p = mmap(NULL, 2 * PAGE, RW, ANON, -1, 0);
	int k = -1, r, i;
	u64 v;

	say("pkru %x\n", pkru_read());
	for (i = 0; i < 17; i++) {
		k = syscall(SYS_pkey_alloc, 0, 0);
		say("key %d errno %d\n", k, k < 0 ? errno : 0);
	}
	syscall(SYS_pkey_free, 5);
	k = syscall(SYS_pkey_alloc, 0, 0);
	errno = 0;
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, 5);
	say("key %d, pkey_mprotect %d errno %d\n", k, r, errno);
	errno = 0;
	r = syscall(SYS_pkey_mprotect, p, PAGE, RW, 77);
	say("pkey_mprotect %d errno %d\n", r, errno);
	if (k > 0) {
		pkru_write(pkru_with(pkru_read(), k, RIGHTS_NONE));
		say_fault("closed", test_load(p, &v));
		say("by the kernel: %ld\n", syscall(SYS_access, p, 0) == -1 ? (long)errno : 0);
		pkru_write(pkru_with(pkru_read(), k, RIGHTS_WRITE));
		say_fault("open", test_load(p, &v));
	}
	say_maps("with keys");
}

static void faults(void)
{
	u64 v, a = (u64)mmap(NULL, 2 * PAGE, PROT_READ, ANON, -1, 0), slot;
	int x, fd[2];

	say_fault("null", test_load((void *)8, &v));
	say_fault("not canonical", test_load((void *)(1UL << 62), &v));
	say_fault("kernel", test_load((void *)(~0UL << 20), &v));
	for (slot = 0; slot < 256; slot += 5)
		say_fault("a slot", test_load((void *)(slot * RPAL_SLOT_SIZE + 77 * GB), &v));
	say_fault("read only", test_store((void *)a, 1));
	say_fault("not executable", test_call((void *)a, 1, &x));
	mprotect((void *)a, PAGE, PROT_NONE);
	say_fault("none", test_load((void *)a, &v));
	MUST(!pipe(fd));
	for (slot = 0; slot < 256; slot += 15)
		say("write: %d\n",
		    write(fd[1], (void *)(slot * RPAL_SLOT_SIZE + 77 * GB), 8) < 0 ? errno : 0);
	close(fd[0]);
	close(fd[1]);
}

static volatile int handled;
static volatile u32 handler_pkru;

static void handler(int sig)
{
	volatile char room[1024];

	memset((char *)room, sig, sizeof(room));
	handler_pkru = pkru_read();
	handled++;
}

static void *thread(void *unused)
{
	(void)unused;
	raise(SIGUSR1);
	return (void *)(u64)pkru_read();
}

static void contexts(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	int status;
	pthread_t t;
	pid_t pid;
	void *v;

	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	say("handled %d pkru %x\n", handled, handler_pkru);
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	say("handled %d pkru %x\n", handled, handler_pkru);
	pthread_create(&t, NULL, thread, NULL);
	pthread_join(t, &v);
	say("thread: pkru %lx handled %d\n", (u64)v, handled);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		raise(SIGUSR1);
		_exit(handled);
	}
	waitpid(pid, &status, 0);
	say("child: %x\n", status);
	status = system("exit 3");
	say("system: %x\n", status);
	pid = vfork();
	if (!pid)
		_exit(4);
	waitpid(pid, &status, 0);
	say("vfork: %x\n", status);
}

static int look_role(void)
{
	say_maps("from the start");
	mappings();
	say_maps("after mmap");
	faults();
	protections();
	contexts();
	say_maps("in the end");
	test_send_u64(TEST_FD_DRIVER, text_len);
	test_send(TEST_FD_DRIVER, text, text_len);
	return 0;
}

/* --------------------------------------------------------------- the driver */

static char *look(unsigned long persona)
{
	struct test_spawn s = {
		.role = "look",
		.unplaced = true,
		.persona = ADDR_NO_RANDOMIZE | persona,
	};
	char *answer = NULL;
	struct test_child c;
	int status;
	u64 n;

	MUST(!test_spawn(&c, &s));
	if (CHECK(test_try_recv(c.sock, &n, sizeof(n)), "no answer")) {
		answer = malloc(n + 1);
		MUST(answer);
		CHECK(test_try_recv(c.sock, answer, n), "no answer");
		answer[n] = 0;
	}
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	close(c.sock);
	return answer;
}

/* Says which is the first line that differs. */
static void compare(const char *a, const char *b, const char *what)
{
	const char *la = a, *lb = b;
	size_t i;

	if (!CHECK(a && b, "%s: nothing to compare", what))
		return;
	CHECK(strlen(a) > 2000, "%s: only %zu bytes", what, strlen(a));
	if (!strcmp(a, b))
		return;
	for (i = 0; a[i] && a[i] == b[i]; i++) {
		if (a[i] == '\n') {
			la = a + i + 1;
			lb = b + i + 1;
		}
	}
	CHECK(false, "%s: was '%.*s', is '%.*s'", what, (int)strcspn(la, "\n"), la,
	      (int)strcspn(lb, "\n"), lb);
}

static void services(struct puppet *a, struct puppet *b)
{
	u64 addr, v;

	puppet_new(a, "ordinary");
	puppet_new(b, "ordinary");
	puppet_link(a, b);
	addr = puppet_alloc(a, PAGE, 1);
	CHECK(!puppet_load(b, addr, &v) && v == 1, "%lx", v);
	CHECK(test_hooks() != 0, "no hooks");
}

static const struct test_role roles[] = { { "look", look_role }, {} };

int main(int argc, char **argv)
{
	static const unsigned long personas[] = { 0, ADDR_COMPAT_LAYOUT };
	static const char *const names[] = { "usual layout", "legacy layout" };
	char *without[2], *idle[2], *busy[2], *after[2];
	struct puppet a, b;
	int i, e;

	test_init(argc, argv, roles);
	test_hooks_go_soon();
	if (test_module_file()) {
		e = test_module_unload_soon(10);
		if (!CHECK(!e, "unload: %s", strerror(-e)))
			return test_finish();
		for (i = 0; i < 2; i++)
			without[i] = look(personas[i]);
		e = test_module_load("");
		if (!CHECK(!e, "load: %s", strerror(-e)))
			return test_finish();
	} else {
		for (i = 0; i < 2; i++)
			without[i] = look(personas[i]);
	}
	for (i = 0; i < 2; i++)
		idle[i] = look(personas[i]);
	services(&a, &b);
	for (i = 0; i < 2; i++)
		busy[i] = look(personas[i]);
	CHECK(!puppet_end(&a), "end");
	CHECK(!puppet_end(&b), "end");
	test_wait_hooks_gone(10);
	for (i = 0; i < 2; i++)
		after[i] = look(personas[i]);
	for (i = 0; i < 2; i++) {
		test_begin("%s: an idle module", names[i]);
		compare(without[i], idle[i], "idle");
		test_end();
		test_begin("%s: while services are alive", names[i]);
		compare(without[i], busy[i], "services");
		test_end();
		test_begin("%s: after them", names[i]);
		compare(without[i], after[i], "after");
		test_end();
	}
	return test_finish();
}
