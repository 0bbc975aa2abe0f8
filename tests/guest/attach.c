// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The module parameter link_attach: linking needs the right to attach, which
 * Yama in its restricted mode gives only to parents.
 */
#include <fcntl.h>

#include "common.h"

#define PARAMETER "/sys/module/rpal/parameters/link_attach"
#define YAMA	  "/proc/sys/kernel/yama/ptrace_scope"

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void start_as(struct puppet *p, uid_t uid)
{
	struct test_spawn s = { .group = "attach", .uid = uid };

	errno = puppet_start(p, &s);
	MUST(!errno);
	CHECK(!puppet_register(p), "register");
}

static void end(struct puppet *a, struct puppet *b)
{
	CHECK(!puppet_end(a), "end");
	CHECK(!puppet_end(b), "end");
}

int main(int argc, char **argv)
{
	struct puppet a, b;
	u32 state = 0;

	test_init(argc, argv, NULL);
	if (!put(YAMA, "1")) {
		printf("skip %s: no Yama in this kernel\n", test_name);
		return TEST_SKIP;
	}

	start_as(&a, 1000);
	start_as(&b, 1000);
	test_begin("by default the right to read is enough");
	CHECK(puppet_request(&a, b.key, NULL) == 0, "a asks");
	CHECK(puppet_request(&b, a.key, &state) == 0, "b asks");
	CHECK(state & RPAL_LINK_LINKED, "%x", state);
	test_end();
	end(&a, &b);

	start_as(&a, 1000);
	start_as(&b, 1000);
	test_begin("with link_attach it is not");
	MUST(put(PARAMETER, "1"));
	CHECK(puppet_request(&a, b.key, NULL) == -EACCES, "a asks");
	CHECK(puppet_request(&b, a.key, NULL) == -EACCES, "b asks");
	test_end();

	test_begin("unless Yama lets everybody attach");
	MUST(put(YAMA, "0"));
	CHECK(puppet_request(&a, b.key, NULL) == 0, "a asks");
	CHECK(puppet_request(&b, a.key, &state) == 0, "b asks");
	CHECK(state & RPAL_LINK_LINKED, "%x", state);
	test_end();
	MUST(put(PARAMETER, "0"));
	end(&a, &b);
	return test_finish();
}
