// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A CPU without protection keys: placing is refused unless both the program and
 * the administrator waive them, and every answer then says that there are none.
 */
#include "common.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#define PARAMETER "/sys/module/rpal/parameters/allow_no_pkeys"

static int place(u32 flags)
{
	struct rpal_place p = { .size = sizeof(p), .flags = flags };
	int fd = test_open(), r = ioctl(fd, RPAL_IOC_PLACE, &p) ? -errno : 0;

	close(fd);
	return r;
}

static u64 features(void)
{
	struct rpal_query q = { .size = sizeof(q) };
	int fd = test_open();

	CHECK(!ioctl(fd, RPAL_IOC_QUERY, &q), "errno %d", errno);
	CHECK(!q.nr_keys, "%u keys", q.nr_keys);
	close(fd);
	return q.features;
}

int main(int argc, char **argv)
{
	struct test_spawn s = {};
	struct test_child c;
	struct puppet a, b;
	u64 addr, v;
	int e;

	test_init(argc, argv, NULL);
	if (test_have_pkeys()) {
		printf("skip %s: this CPU has protection keys\n", test_name);
		return TEST_SKIP;
	}
	test_begin("refused by default");
	MUST(test_write_file(PARAMETER, "0"));
	e = place(0);
	CHECK(e == -EOPNOTSUPP, "%d", e);
	e = place(RPAL_PLACE_NO_PKEYS);
	CHECK(e == -EOPNOTSUPP, "%d", e);
	CHECK(!(features() & (RPAL_FEATURE_PKEYS | RPAL_FEATURE_NO_PKEYS_OK)), "%lx", features());
	e = test_spawn(&c, &s);
	CHECK(e == EOPNOTSUPP, "%d", e);
	test_end();

	test_begin("allowed by the administrator, to those who ask");
	MUST(test_write_file(PARAMETER, "1"));
	e = place(0);
	CHECK(e == -EOPNOTSUPP, "%d", e);
	e = place(RPAL_PLACE_NO_PKEYS);
	CHECK(!e, "%d", e);
	CHECK(!(features() & RPAL_FEATURE_PKEYS), "%lx", features());
	CHECK(features() & RPAL_FEATURE_NO_PKEYS_OK, "%lx", features());
	test_end();

	test_begin("sharing without keys");
	puppet_new(&a, NULL);
	puppet_new(&b, NULL);
	CHECK(!a.self.pkey && !b.self.pkey, "%u %u", a.self.pkey, b.self.pkey);
	puppet_link(&a, &b);
	addr = puppet_alloc(&b, PAGE, 5);
	CHECK(!puppet_load(&a, addr, &v) && v == 5, "%lx", v);
	CHECK(!puppet_store(&a, addr, 6), "signal %d", test_fault.sig);
	CHECK(!puppet_end(&a), "end");
	CHECK(!puppet_end(&b), "end");
	test_end();
	/* Left allowed: what else runs on this machine asks for it. */
	return test_finish();
}
