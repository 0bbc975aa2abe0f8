// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The module's hooks are there exactly while somebody needs them, and so is
 * the module.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SECONDS (test_patience() / 6) /* the hooks are removed some time after the last use */

enum { OP_FORK = OP_USER, OP_FORK_AND_EXIT };

static volatile int handled;

static void handler(int sig)
{
	volatile char room[1024];

	memset((char *)room, sig, sizeof(room));
	handled++;
}

/* A child that stays, and signals itself for as long as it lives. */
static void user_op(const struct test_cmd *c, struct test_res *r)
{
	pid_t pid;

	if (c->op != OP_FORK)
		return;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		int fd;

		for (fd = 3; fd < 20; fd++)
			close(fd);
		signal(SIGUSR1, handler);
		for (;;) {
			raise(SIGUSR1);
			usleep(10000);
		}
	}
	r->ret = pid;
}

static void check_gone(const char *when)
{
	int n = test_wait_hooks_gone(SECONDS);

	CHECK(n == 0, "%s: %d hooks", when, n);
}

static void check_there(const char *when)
{
	int n = test_hooks();

	CHECK(n > 5, "%s: %d hooks", when, n);
}

static bool busy(int e)
{
	return e == -EAGAIN || e == -EBUSY;
}

static void presence(void)
{
	struct test_cmd c = { .op = OP_FORK };
	struct test_spawn fixed = {};
	struct test_child child;
	struct test_res r;
	struct puppet a, b;
	char path[300], self[256];
	pid_t heir;
	ssize_t n;
	int e;

	test_begin("an idle module has no hooks");
	check_gone("before");
	test_end();

	test_begin("hooks are there while somebody is placed");
	puppet_new(&a, NULL);
	check_there("one");
	puppet_new(&b, NULL);
	CHECK(!puppet_end(&a), "end");
	usleep(2500000);
	check_there("the other");
	CHECK(!puppet_end(&b), "end");
	check_gone("none");
	test_end();

	test_begin("hooks stay for the children of placed processes");
	puppet_new(&a, NULL);
	puppet_do(&a, &c, &r);
	heir = r.ret;
	CHECK(heir > 0, "%d", heir);
	CHECK(!puppet_end(&a), "end");
	usleep(3500000);
	CHECK(!kill(heir, 0), "the child has died");
	check_there("a child");
	CHECK(!kill(heir, SIGKILL), "the child has died");
	check_gone("no child");
	test_end();

	test_begin("a refused exec leaves no hooks");
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	MUST(n > 0);
	self[n] = 0;
	snprintf(path, sizeof(path), "%.*s/tiny-fixed", (int)(strrchr(self, '/') - self), self);
	fixed.path = path;
	e = test_spawn(&child, &fixed);
	CHECK(e == ELIBBAD, "%s", strerror(e));
	check_gone("after");
	test_end();

	test_begin("hooks that are about to go are used again");
	for (e = 0; e < 4; e++) {
		puppet_new(&a, NULL);
		check_there("again");
		CHECK(!puppet_end(&a), "end");
		/* The removal comes after two seconds or so. */
		usleep(1850000 + e * 100000);
	}
	check_gone("in the end");
	test_end();
}

static void tracing(void)
{
	struct puppet a;
	static const char knob[] = "/proc/sys/kernel/ftrace_enabled";

	test_begin("the function tracer cannot be turned off below a service");
	if (access(knob, W_OK)) {
		test_skip_case("no such knob");
		test_end();
		return;
	}
	puppet_new(&a, NULL);
	CHECK(!test_write_file(knob, "0"), "turned off");
	check_there("after the attempt");
	CHECK(!puppet_end(&a), "end");
	check_gone("after");
	test_end();
}

static void unloading(void)
{
	struct test_cmd c = { .op = OP_FORK };
	struct test_res r;
	struct puppet a, b;
	pid_t heir;
	int fd, e, i;
	u64 v, addr;

	if (!test_module_file()) {
		printf("skip %s: unloading: no module file\n", test_name);
		return;
	}
	test_begin("a module in use does not unload");
	puppet_new(&a, NULL);
	CHECK(busy(test_module_unload()), "while somebody is placed");
	CHECK(!puppet_register(&a), "register");
	CHECK(busy(test_module_unload()), "while a service lives");
	/* Without its file it is still placed. */
	puppet_sys(&a, SYS_close, a.fd);
	CHECK(busy(test_module_unload()), "while somebody is placed, no file");
	puppet_do(&a, &c, &r);
	heir = r.ret;
	CHECK(!puppet_end(&a), "end");
	usleep(3000000);
	CHECK(busy(test_module_unload()), "while a child has the key");
	CHECK(!kill(heir, SIGKILL), "the child has died");
	fd = test_open();
	usleep(500000);
	CHECK(busy(test_module_unload()), "while a file is open");
	close(fd);
	test_end();

	test_begin("afterwards it does, and comes back");
	e = test_module_unload_soon(SECONDS);
	CHECK(!e, "unload: %s", strerror(-e));
	CHECK(access(TEST_DEV, F_OK), "the device is still there");
	CHECK(test_hooks() == 0, "%d hooks", test_hooks());
	e = test_module_load("");
	CHECK(!e, "load: %s", strerror(-e));
	test_end();

	test_begin("many times, right after the last use");
	for (i = 0; i < 4; i++) {
		puppet_new(&a, "unload");
		puppet_new(&b, "unload");
		puppet_link(&a, &b);
		addr = puppet_alloc(&a, PAGE, i);
		CHECK(!puppet_load(&b, addr, &v) && v == (u64)i, "%lx", v);
		if (i & 1) {
			puppet_kill(&a);
			puppet_kill(&b);
		} else {
			CHECK(!puppet_end(&a), "end");
			CHECK(!puppet_end(&b), "end");
		}
		e = test_module_unload_soon(SECONDS);
		CHECK(!e, "unload: %s", strerror(-e));
		CHECK(test_hooks() == 0, "%d hooks", test_hooks());
		e = test_module_load("");
		if (!CHECK(!e, "load: %s", strerror(-e)))
			break;
	}
	test_end();
}

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, NULL);
	test_hooks_go_soon();
	if (test_hooks() < 0) {
		printf("skip %s: cannot see which functions are hooked\n", test_name);
		return TEST_SKIP;
	}
	presence();
	tracing();
	unloading();
	return test_finish();
}
