// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A program that was linked with rpal-placed: placed however it is started,
 * before its first constructor, with nothing about it changed. Built as a
 * dynamic program and as a static one.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <rpal/rpal.h>

#define GUARD "RPAL_PLACED_EXEC"

static int constructed_placed = -1;

static bool placed(void)
{
	struct rpal_self self;
	int fd = test_open();
	bool yes;

	if (fd < 0)
		return false;
	yes = !test_self(fd, &self) && self.state & RPAL_SELF_PLACED;
	close(fd);
	return yes;
}

__attribute__((constructor)) static void construct(void)
{
	constructed_placed = placed();
}

static int child(int argc, char **argv)
{
	char comm[16] = "";
	int n = 0, fd;

	if (!strcmp(argv[1], "unplaced")) {
		CHECK(!placed() && !rpal_is_enabled(), "placed");
		CHECK(!getenv(GUARD), "%s is still there", GUARD);
		return test_failures() != 0;
	}
	CHECK(placed(), "not placed");
	CHECK(constructed_placed == 1, "a constructor has run before: %d", constructed_placed);
	CHECK(!getenv(GUARD), "%s is still there", GUARD);
	CHECK(getenv("KEEP_ME") && !strcmp(getenv("KEEP_ME"), "a=b"), "environment");
	CHECK(argc == 4 && !strcmp(argv[0], "own-name") && !strcmp(argv[2], "") &&
		      !strcmp(argv[3], "two words"),
	      "arguments: %d", argc);
	prctl(PR_GET_NAME, comm);
	CHECK(strstr(argv[1], "exe") || strcmp(comm, "exe"), "name %s", comm);
	/* No file of the way here is left open: 0, 1, 2 only. */
	for (fd = 3; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	CHECK(!n, "%d files are open", n);
	CHECK(rpal_is_enabled(), "%s", rpal_last_error());
	CHECK(rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) >= 0, "%s",
	      rpal_last_error());
	return test_failures() != 0;
}

static int run(const char *path, const char *how, bool guard)
{
	char *argv[] = { "own-name", (char *)how, "", "two words", NULL };
	char *envp[] = { "KEEP_ME=a=b", "LD_LIBRARY_PATH=/usr/local/lib", guard ? GUARD "=1" : NULL,
			 NULL };
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		execve(path, argv, envp);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	return status;
}

int main(int argc, char **argv)
{
	char path[4096];
	ssize_t n;
	int status;

	test_name = argc && strstr(argv[0], "static") ? "static-placed" : "placed-link";
	if (argc > 1)
		return child(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (access(TEST_DEV, R_OK | W_OK)) {
		printf("skip %s: no %s\n", test_name, TEST_DEV);
		return TEST_SKIP;
	}
	if (!test_have_pkeys()) {
		printf("skip %s: the link-time way wants protection keys\n", test_name);
		return TEST_SKIP;
	}
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	MUST(n > 0);
	path[n] = '\0';

	test_begin("linked with rpal-placed: placed at its start");
	CHECK(placed(), "the driver itself");
	status = run(path, "path", false);
	CHECK(!status, "%s", test_status(status));
	test_end();

	test_begin("started by /proc/self/exe");
	status = run("/proc/self/exe", "exe", false);
	CHECK(!status, "%s", test_status(status));
	test_end();

	test_begin("the guard ends a loop, and the program goes on unplaced");
	status = run(path, "unplaced", true);
	CHECK(!status, "%s", test_status(status));
	test_end();
	return test_finish();
}
