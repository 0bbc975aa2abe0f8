// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A missing hook never means a module that half works: it is found when the
 * module loads, when something is placed, and by who looks at rpal/health.
 *
 * usage: health [all]: leave out every single hook, not only some
 */
#include "common.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HEALTH	  "/sys/kernel/debug/rpal/health"
#define BREAK	  "/sys/module/rpal/parameters/debug_break_hook"
#define TRACER	  "/proc/sys/kernel/ftrace_enabled"
#define KPROBES	  "/sys/kernel/debug/kprobes/enabled"
#define HOLD	  "/vm/rpal-hold.ko"
#define DIRECT	  "/sys/module/rpal/parameters/direct_hooks"
#define TRACING	  "/sys/kernel/tracing/"
#define MAX_HOOKS 40

enum { OP_WORK = OP_USER };

/* -------------------------------------------------------------- what it says */

struct hook {
	char name[64];
	char kind[16];
	char called[16];
	char installed[8];
	unsigned long fired;
};

static struct hook hooks[MAX_HOOKS];
static int nr_hooks;
static char verdict[128];

static void read_health(void)
{
	char line[200];
	FILE *f = fopen(HEALTH, "re");

	MUST(f);
	nr_hooks = 0;
	verdict[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		struct hook *h = &hooks[nr_hooks];

		if (!strncmp(line, "hook kind ", 10))
			continue;
		if (!strncmp(line, "broken: ", 8) || !strncmp(line, "ok", 2)) {
			snprintf(verdict, sizeof(verdict), "%.*s", (int)strcspn(line, "\n"), line);
			continue;
		}
		MUST(nr_hooks < MAX_HOOKS &&
		     sscanf(line, "%63s %15s %15s %7s %lu", h->name, h->kind, h->called,
			    h->installed, &h->fired) == 5);
		nr_hooks++;
	}
	fclose(f);
	MUST(nr_hooks > 10);
}

static struct hook *find(const char *name)
{
	int i;

	for (i = 0; i < nr_hooks; i++)
		if (!strcmp(hooks[i].name, name))
			return &hooks[i];
	return NULL;
}

static int count(const char *installed)
{
	int i, n = 0;

	for (i = 0; i < nr_hooks; i++)
		n += !strcmp(hooks[i].installed, installed);
	return n;
}

static void check_verdict(const char *want, const char *when)
{
	struct rpal_query q = { .size = sizeof(q) };
	int fd = test_open();

	read_health();
	CHECK(!strcmp(verdict, want), "%s: '%s', not '%s'", when, verdict, want);
	MUST(!ioctl(fd, RPAL_IOC_QUERY, &q));
	close(fd);
	CHECK(!(q.features & RPAL_FEATURE_BROKEN) == !strncmp(want, "ok", 2), "%s: features %llx",
	      when, q.features);
}

/* 0, or the errno with which a program was not placed. */
static int try_place(void)
{
	struct test_spawn s = { .role = "report" };
	struct test_child c;
	int e = test_spawn(&c, &s);

	if (!e)
		test_reap(&c);
	return e;
}

static int open_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	MUST(fd >= 0 && lseek(fd, 0, SEEK_END) >= 0);
	return fd;
}

/* Does one line of the log since then hold both? Ends the reading. */
static bool log_says(int fd, const char *a, const char *b)
{
	char line[1024];
	bool found = false;
	ssize_t n;

	while ((n = read(fd, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		line[n] = 0;
		found |= strstr(line, a) && strstr(line, b);
	}
	close(fd);
	return found;
}

/* The hooks go some time after their last use; those of others stay. */
static void only_hooks_of_others(int others)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int n;

	while ((n = test_hooks()) != others && test_now_ns() < end)
		usleep(50000);
	CHECK(n == others, "%d hooks", n);
}

static void be_idle(void)
{
	only_hooks_of_others(0);
}

static void reload(const char *parameters)
{
	int e = test_module_unload_soon(test_patience());

	CHECK(!e, "unload: %s", strerror(-e));
	e = test_module_load(parameters);
	CHECK(!e, "load %s: %s", parameters, strerror(-e));
}

/* ------------------------------------------------------------------- firing */

static volatile int handled;

static void handler(int sig)
{
	handled += sig;
}

static bool fired(const char *name)
{
	struct hook *h;

	read_health();
	h = find(name);
	return h && h->fired;
}

/* A registered thread: its system calls, and user time that is charged to it. */
static void be_thread(int fd)
{
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = 1 };
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	char *rseq = (char *)__builtin_thread_pointer() + __rseq_offset;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	volatile int i;

	test_ranges(&reg.ranges);
	MUST(!ioctl(fd, RPAL_IOC_REGISTER, &reg));
	MUST(mmap(NULL, reg.area_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
	if (__rseq_size)
		MUST(!syscall(SYS_rseq, rseq, 32, 1 /* unregister */, RSEQ_SIG));
	MUST(!ioctl(fd, RPAL_IOC_THREAD, &t));
	do {
		for (i = 0; i < 3000000; i++)
			;
	} while (!fired("account_user_time") && test_now_ns() < end);
}

/* Something of everything for which there are hooks. */
static void work(int fd)
{
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 v;
	pid_t pid;

	MUST(page != MAP_FAILED && !mprotect(page, PAGE, PROT_READ | PROT_WRITE));
	MUST(test_load((void *)8, &v) == SIGSEGV);
	signal(SIGUSR1, handler);
	MUST(!raise(SIGUSR1) && handled);
	pid = fork();
	if (!pid)
		_exit(0);
	MUST(pid > 0 && waitpid(pid, NULL, 0) == pid);
	be_thread(fd);
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	if (c->op == OP_WORK)
		work((int)c->a[0]);
	r->ret = 0;
}

static unsigned long total(void)
{
	unsigned long sum = 0;
	int i;

	read_health();
	for (i = 0; i < nr_hooks; i++)
		sum += hooks[i].fired;
	return sum;
}

static void ordinary_work(void)
{
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 v;
	pid_t pid;

	MUST(page != MAP_FAILED && !mprotect(page, PAGE, PROT_READ | PROT_WRITE));
	munmap(page, PAGE);
	MUST(test_load((void *)8, &v) == SIGSEGV);
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	pid = fork();
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	MUST(waitpid(pid, NULL, 0) == pid);
}

static void firing(void)
{
	struct test_cmd c = { .op = OP_WORK };
	unsigned long before, after;
	struct test_res r;
	struct puppet a;
	int i;

	test_begin("an idle module is well, and has no hooks");
	be_idle();
	check_verdict("ok", "idle");
	CHECK(count("no") == nr_hooks, "%d of %d", count("no"), nr_hooks);
	test_end();

	test_begin("all hooks are there while somebody is placed");
	puppet_new(&a, NULL);
	check_verdict("ok", "placed");
	CHECK(count("yes") == nr_hooks, "%d of %d", count("yes"), nr_hooks);
	test_end();

	test_begin("ordinary processes are not counted");
	before = total();
	for (i = 0; i < 5; i++)
		ordinary_work();
	after = total();
	CHECK(before == after, "%lu, then %lu", before, after);
	test_end();

	test_begin("each hook fires for a placed process");
	c.a[0] = a.fd;
	puppet_do(&a, &c, &r);
	CHECK(!puppet_end(&a), "end");
	read_health();
	for (i = 0; i < nr_hooks; i++)
		/* For devices and virtual machines, which not all kernels have. */
		CHECK(hooks[i].fired || !strcmp(hooks[i].name, "pin_user_pages_fast") ||
			      !strcmp(hooks[i].name, "get_user_pages_fast_only"),
		      "%s has not fired", hooks[i].name);
	test_end();
}

/* -------------------------------------------------------------- the tracers */

static void tracers(void)
{
	struct puppet a;
	int log, e;

	test_begin("the function tracer is off");
	be_idle();
	MUST(test_write_file(TRACER, "0"));
	check_verdict("broken: kernel.ftrace_enabled is 0", "off");
	log = open_log();
	e = try_place();
	CHECK(e == EBUSY, "%s", strerror(e));
	CHECK(log_says(log, "rpal: cannot hook", "ftrace_enabled"), "the log does not say so");
	check_verdict("broken: kernel.ftrace_enabled is 0", "still off");
	MUST(test_write_file(TRACER, "1"));
	e = try_place();
	CHECK(!e, "on again: %s", strerror(e));
	check_verdict("ok", "on again");
	test_end();

	test_begin("it cannot be turned off while there are hooks");
	puppet_new(&a, NULL);
	CHECK(!test_write_file(TRACER, "0"), "turned off");
	check_verdict("ok", "after the attempt");
	CHECK(!puppet_end(&a), "end");
	test_end();

	test_begin("kprobes may be off");
	MUST(test_write_file(KPROBES, "0"));
	check_verdict("ok", "kprobes off");
	e = try_place();
	CHECK(!e, "%s", strerror(e));
	if (test_module_file())
		reload("");
	check_verdict("ok", "loaded with kprobes off");
	MUST(test_write_file(KPROBES, "1"));
	test_end();
}

/* ---------------------------------------------------------------- conflicts */

static void release_function(void)
{
	CHECK(!syscall(SYS_delete_module, "rpal_hold", 0), "%s", strerror(errno));
}

static bool hold(const char *name, const char *how)
{
	char parameter[200];
	int e;

	snprintf(parameter, sizeof(parameter), "function=%s %s", name, how);
	e = test_insmod(HOLD, parameter);
	return CHECK(!e, "hold %s: %s", name, strerror(-e));
}

static void held_before_use(const char *name)
{
	char want[100];
	int log, e;

	test_begin("another module holds %s", name);
	be_idle();
	if (!hold(name, "")) {
		test_end();
		return;
	}
	log = open_log();
	e = try_place();
	CHECK(e == EBUSY, "%s", strerror(e));
	CHECK(log_says(log, "rpal: cannot hook", name), "the log does not name it");
	/* And the same again: a refusal leaves nothing behind. */
	e = try_place();
	CHECK(e == EBUSY, "again: %s", strerror(e));
	snprintf(want, sizeof(want), "broken: %s", name);
	check_verdict(want, "held");
	CHECK(count("no") == nr_hooks, "%d of %d", count("no"), nr_hooks);
	/* The module does not load then, either. */
	e = test_module_unload_soon(test_patience());
	CHECK(!e, "unload: %s", strerror(-e));
	log = open_log();
	e = test_module_load("");
	CHECK(e == -EBUSY, "load: %s", strerror(-e));
	CHECK(log_says(log, "rpal: cannot hook", name), "the log does not name it");
	release_function();
	e = test_module_load("");
	CHECK(!e, "load: %s", strerror(-e));
	check_verdict("ok", "released");
	e = try_place();
	CHECK(!e, "released: %s", strerror(e));
	test_end();
}

/* Who wants it later has to wait: ours stays. */
static void held_by_us(const char *name)
{
	struct puppet a;
	char parameter[200];
	int e;

	test_begin("another module wants %s while it is hooked", name);
	puppet_new(&a, NULL);
	snprintf(parameter, sizeof(parameter), "function=%s", name);
	e = test_insmod(HOLD, parameter);
	CHECK(e == -EBUSY, "%s", strerror(-e));
	check_verdict("ok", "refused");
	CHECK(!puppet_end(&a), "end");
	test_end();
}

/* Where only arguments are changed there is room for both. */
static void shared(const char *name)
{
	struct puppet a;
	int e;

	test_begin("another module has %s, too", name);
	if (hold(name, "")) {
		reload("");
		check_verdict("ok", "loaded");
		puppet_new(&a, NULL);
		CHECK(!puppet_end(&a), "end");
		check_verdict("ok", "used");
		CHECK(find(name) && find(name)->fired, "has not fired");
		e = test_module_unload_soon(test_patience());
		CHECK(!e, "unload: %s", strerror(-e));
		release_function();
		e = test_module_load("");
		CHECK(!e, "load: %s", strerror(-e));
	}
	test_end();
}

static void check_called(const char *name, const char *how)
{
	read_health();
	CHECK(find(name) && !strcmp(find(name)->called, how), "%s: %s", name, find(name)->called);
}

/* There can be but one direct caller: with another one there the tracer calls us. */
static void held_directly(const char *name, bool fires)
{
	struct test_cmd c = { .op = OP_WORK };
	struct test_res r;
	struct puppet a;

	test_begin("another module is called by %s directly", name);
	/* The module was loaded anew since the beginning. */
	test_hooks_go_soon();
	be_idle();
	if (hold(name, "direct=1")) {
		puppet_new(&a, NULL);
		check_called(name, "traced");
		check_verdict("ok", "held");
		if (fires) {
			c.a[0] = a.fd;
			puppet_do(&a, &c, &r);
			CHECK(fired(name), "has not fired");
		}
		CHECK(!puppet_end(&a), "end");
		only_hooks_of_others(1);
		release_function();
	}
	puppet_new(&a, NULL);
	check_called(name, "directly");
	check_verdict("ok", "released");
	CHECK(!puppet_end(&a), "end");
	test_end();
}

/* Where that is not wanted they are free for others. */
static void not_called_directly(const char *name)
{
	struct test_cmd c = { .op = OP_WORK };
	struct test_res r;
	char parameter[200];
	struct puppet a;
	int i;

	test_begin("with direct_hooks=0 %s can call another module directly", name);
	be_idle();
	MUST(test_write_file(DIRECT, "0"));
	puppet_new(&a, NULL);
	check_verdict("ok", "traced");
	for (i = 0; i < nr_hooks; i++)
		check_called(hooks[i].name, "traced");
	if (hold(name, "direct=1")) {
		c.a[0] = a.fd;
		puppet_do(&a, &c, &r);
		CHECK(fired(name), "has not fired");
		check_verdict("ok", "held");
		CHECK(!puppet_end(&a), "end");
		only_hooks_of_others(1);
		release_function();
	}
	MUST(test_write_file(DIRECT, "1"));
	puppet_new(&a, NULL);
	snprintf(parameter, sizeof(parameter), "function=%s direct=1", name);
	i = test_insmod(HOLD, parameter);
	CHECK(i == -EBUSY, "with direct_hooks=1: %s", strerror(-i));
	CHECK(!puppet_end(&a), "end");
	test_end();
}

/* The tracers look at these functions; with "!" in front not any more. */
static void trace_hooked(const char *prefix)
{
	char text[80];
	int i;

	read_health();
	for (i = 0; i < nr_hooks; i++) {
		snprintf(text, sizeof(text), "%s%.70s", prefix, hooks[i].name);
		MUST(test_write_file(TRACING "set_ftrace_filter", text));
	}
}

/* Who looks at the same functions: then they call the tracer, which calls all. */
static void traced_by(const char *tracer)
{
	struct test_cmd c = { .op = OP_WORK };
	struct test_res r;
	struct puppet a;
	unsigned long before;

	test_begin("the tracer '%s' has all the functions, too", tracer);
	puppet_new(&a, NULL);
	trace_hooked("");
	if (!test_write_file(TRACING "current_tracer", tracer)) {
		test_skip_case("this kernel does not have it");
	} else {
		check_verdict("ok", "traced");
		before = total();
		c.a[0] = a.fd;
		puppet_do(&a, &c, &r);
		CHECK(total() > before + 20, "fired %lu times", total() - before);
		CHECK(fired("force_sig_info_to_task") && fired("arch_do_signal_or_restart"),
		      "signals");
		ordinary_work();
		MUST(test_write_file(TRACING "current_tracer", "nop"));
	}
	trace_hooked("!");
	CHECK(!puppet_end(&a), "end");
	check_verdict("ok", "not traced any more");
	test_end();
}

/* --------------------------------------------------------------- left out */

static void left_out_at_load(int step)
{
	static struct hook all[MAX_HOOKS];
	char parameter[200];
	int i, n, e, log;

	read_health();
	n = nr_hooks;
	memcpy(all, hooks, sizeof(all));
	e = test_module_unload_soon(test_patience());
	CHECK(!e, "unload: %s", strerror(-e));
	for (i = 0; i < n; i += step) {
		test_begin("without a hook on %s the module does not load", all[i].name);
		snprintf(parameter, sizeof(parameter), "debug_break_hook=%.63s", all[i].name);
		log = open_log();
		e = test_module_load(parameter);
		CHECK(e == -ENODEV, "%s", strerror(-e));
		/* Those that do not divert are there, but do nothing. */
		CHECK(log_says(log,
			       !strcmp(all[i].kind, "diverts") ? "rpal: there is no hook on" :
								 "rpal: the hook on",
			       all[i].name),
		      "the log does not name it");
		CHECK(!test_hooks(), "%d hooks are left", test_hooks());
		if (!e)
			test_module_unload_soon(test_patience());
		test_end();
	}
	e = test_module_load("");
	CHECK(!e, "load: %s", strerror(-e));
}

static void lost(const char *name)
{
	struct puppet a, b;
	char want[100];
	int e, log;

	test_begin("the hook on %s goes while somebody is placed", name);
	puppet_new(&a, NULL);
	check_verdict("ok", "before");
	MUST(test_write_file(BREAK, name));
	snprintf(want, sizeof(want), "broken: %s", name);
	check_verdict(want, "gone");
	CHECK(count("GONE") == 1 && !strcmp(find(name)->installed, "GONE"), "%d gone",
	      count("GONE"));
	log = open_log();
	e = try_place();
	CHECK(e == ENODEV, "%s", strerror(e));
	CHECK(log_says(log, "rpal: the hook on", name), "the log does not name it");
	CHECK(!puppet_end(&a), "end");
	/* Nor can it be installed again. */
	be_idle();
	e = try_place();
	CHECK(e == ENODEV, "%s", strerror(e));
	check_verdict(want, "nobody is placed");
	MUST(test_write_file(BREAK, "none"));
	e = try_place();
	CHECK(!e, "there again: %s", strerror(e));
	check_verdict("ok", "there again");
	test_end();

	test_begin("the hook on %s comes back", name);
	puppet_new(&a, NULL);
	MUST(test_write_file(BREAK, name));
	check_verdict(want, "gone");
	MUST(test_write_file(BREAK, "none"));
	check_verdict("ok", "there again");
	puppet_new(&b, NULL);
	CHECK(!puppet_end(&a), "end");
	CHECK(!puppet_end(&b), "end");
	test_end();
}

/* Who loads it switched off has no hooks, not for a moment; they are tried later. */
static void loaded_off(void)
{
	int e;

	test_begin("loaded when switched off");
	e = test_module_unload_soon(test_patience());
	CHECK(!e, "unload: %s", strerror(-e));
	MUST(test_write_file(TRACER, "0"));
	e = test_module_load("");
	CHECK(e == -EBUSY, "load with the tracer off: %s", strerror(-e));
	e = test_module_load("enable=0");
	CHECK(!e, "load: %s", strerror(-e));
	MUST(test_write_file(TRACER, "1"));
	check_verdict("ok, but not tried yet", "off");
	CHECK(count("no") == nr_hooks, "%d of %d", count("no"), nr_hooks);
	MUST(test_write_file("/sys/module/rpal/parameters/enable", "1"));
	e = try_place();
	CHECK(!e, "on: %s", strerror(e));
	check_verdict("ok", "on");
	test_end();
}

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, NULL);
	test_hooks_go_soon();
	if (test_hooks() < 0 || access(HEALTH, R_OK) || access(TRACER, W_OK)) {
		printf("skip %s: no debugfs, or no tracer to look at\n", test_name);
		return TEST_SKIP;
	}
	firing();
	tracers();
	traced_by("function");
	traced_by("function_graph");
	if (!test_module_file() || access(HOLD, R_OK)) {
		printf("skip %s: conflicts: no module files\n", test_name);
		return test_finish();
	}
	held_before_use("bad_area_nosemaphore");
	held_before_use("unhandled_signal");
	held_by_us("force_sig_info_to_task");
	shared("mmap_region");
	held_directly("mmap_region", true);
	held_directly("force_sig_info_to_task", true);
	not_called_directly("do_mprotect_pkey");
	loaded_off();
	/* Each load patches the kernel's text a lot, which emulators do not like. */
	left_out_at_load(argc > 1 && !strcmp(argv[1], "all") ? 1 : 4);
	lost("signal_setup_done");
	lost("account_user_time");
	return test_finish();
}
