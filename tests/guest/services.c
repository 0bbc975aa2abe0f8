// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The commands of /dev/rpal: what each gives, every error it can give, and that
 * a link exists exactly when both sides have asked for it.
 */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define RW     (PROT_READ | PROT_WRITE)
#define ANON   (MAP_PRIVATE | MAP_ANONYMOUS)
#define LINKED (RPAL_LINK_ASKED | RPAL_LINK_WANTED | RPAL_LINK_LINKED)

static int ret_errno(int r)
{
	return r < 0 ? -errno : r;
}

#define IOCTL(fd, cmd, arg) ret_errno(ioctl(fd, cmd, arg))

/* ------------------------------------------------- what holds for all of them */

static void conventions(void)
{
	/* Room for a structure and what a later kernel might add to it. */
	union {
		u32 size;
		unsigned char b[4096];
	} u;
	static const struct {
		const char *name;
		unsigned long cmd;
		u32 size;
	} cmds[] = {
		{ "query", RPAL_IOC_QUERY, sizeof(struct rpal_query) },
		{ "self", RPAL_IOC_SELF, sizeof(struct rpal_self) },
		{ "place", RPAL_IOC_PLACE, sizeof(struct rpal_place) },
		{ "register", RPAL_IOC_REGISTER, sizeof(struct rpal_register) },
		{ "request", RPAL_IOC_REQUEST, sizeof(struct rpal_request) },
		{ "release", RPAL_IOC_RELEASE, sizeof(struct rpal_request) },
		{ "peer", RPAL_IOC_PEER, sizeof(struct rpal_peer) },
	};
	void *nowhere = (void *)8, *ro;
	int fd = test_open(), r;
	size_t i;

	MUST(fd >= 0);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		const char *n = cmds[i].name;
		unsigned long cmd = cmds[i].cmd;
		u32 size = cmds[i].size;

		test_begin("%s: size, flags, pointers", n);
		r = IOCTL(fd, cmd, nowhere);
		CHECK(r == -EFAULT, "%s: bad pointer: %d", n, r);
		r = IOCTL(fd, cmd, NULL);
		CHECK(r == -EFAULT, "%s: no pointer: %d", n, r);

		memset(&u, 0, sizeof(u));
		u.size = size + 16;
		u.b[size + 3] = 1;
		r = IOCTL(fd, cmd, &u);
		CHECK(r == -E2BIG, "%s: larger, not zero: %d", n, r);

		memset(&u, 0, sizeof(u));
		u.size = 0;
		r = IOCTL(fd, cmd, &u);
		CHECK(r == -EINVAL, "%s: size 0: %d", n, r);
		u.size = 0xffffffff;
		r = IOCTL(fd, cmd, &u);
		CHECK(r == -E2BIG || r == -EFAULT, "%s: enormous: %d", n, r);

		memset(&u, 0, sizeof(u));
		u.size = size;
		memset(u.b + 4, 0x80, 4); /* flags */
		r = IOCTL(fd, cmd, &u);
		/* Or it says first that this process is no service. */
		CHECK(r == -EINVAL || (i > 3 && r == -ENXIO), "%s: flags: %d", n, r);
		test_end();
	}

	test_begin("larger and smaller structures");
	memset(&u, 0, sizeof(u));
	u.size = sizeof(struct rpal_query) + 64;
	r = IOCTL(fd, RPAL_IOC_QUERY, &u);
	CHECK(!r, "larger: %d", r);
	CHECK(((struct rpal_query *)&u)->slot_shift == RPAL_SLOT_SHIFT, "slot_shift %u",
	      ((struct rpal_query *)&u)->slot_shift);
	for (i = sizeof(struct rpal_query); i < sizeof(struct rpal_query) + 64; i++)
		CHECK(!u.b[i], "byte %zu", i);
	memset(&u, 0xee, sizeof(u));
	u.size = offsetof(struct rpal_query, max_services);
	memset(u.b + 4, 0, u.size - 4);
	r = IOCTL(fd, RPAL_IOC_QUERY, &u);
	CHECK(!r, "smaller: %d", r);
	for (i = offsetof(struct rpal_query, max_services); i < sizeof(u); i++)
		if (!CHECK(u.b[i] == 0xee, "byte %zu written behind the structure", i))
			break;
	/* Group begins behind it: none is given. */
	memset(&u, 0, sizeof(u));
	u.size = offsetof(struct rpal_place, group);
	r = IOCTL(fd, RPAL_IOC_PLACE, &u);
	CHECK(!r || (r == -EOPNOTSUPP && !test_have_pkeys()), "smaller place: %d", r);
	test_end();

	test_begin("structures that cannot be written");
	ro = mmap(NULL, PAGE, RW, ANON, -1, 0);
	*(u32 *)ro = sizeof(struct rpal_query);
	mprotect(ro, PAGE, PROT_READ);
	r = IOCTL(fd, RPAL_IOC_QUERY, ro);
	CHECK(r == -EFAULT, "query: %d", r);
	mprotect(ro, PAGE, RW);
	*(u32 *)ro = sizeof(struct rpal_self);
	mprotect(ro, PAGE, PROT_READ);
	r = IOCTL(fd, RPAL_IOC_SELF, ro);
	CHECK(r == -EFAULT, "self: %d", r);
	munmap(ro, PAGE);
	test_end();

	test_begin("unknown commands");
	CHECK_IS(IOCTL(fd, _IO(RPAL_IOC_MAGIC, 0x7f), &u), -ENOTTY);
	CHECK_IS(IOCTL(fd, _IO(RPAL_IOC_MAGIC, 0xff), NULL), -ENOTTY);
	CHECK_IS(IOCTL(fd, _IOWR('x', 0, struct rpal_query), &u), -ENOTTY);
	CHECK_IS(IOCTL(fd, 0, NULL), -ENOTTY);
	test_end();
	close(fd);
}

static void query(void)
{
	struct rpal_query q = { .size = sizeof(q) };
	int fd = test_open(), la57;

	test_begin("query");
	CHECK_IS(IOCTL(fd, RPAL_IOC_QUERY, &q), 0);
	CHECK_IS(q.abi_major, RPAL_ABI_MAJOR);
	CHECK(q.abi_minor >= RPAL_ABI_MINOR, "%u", q.abi_minor);
	CHECK_IS(q.max_services, RPAL_MAX_SLOT);
	CHECK_IS(q.slot_shift, RPAL_SLOT_SHIFT);
	CHECK_IS(q.max_receivers, RPAL_MAX_RECEIVERS);
	CHECK_IS(q.max_senders, RPAL_MAX_SENDERS);
	CHECK_IS(q.max_depth, RPAL_MAX_DEPTH);
	CHECK_IS(q.block_size, RPAL_BLOCK_SIZE);
	CHECK(q.max_links >= 15, "%u", q.max_links);
	CHECK_IS(!!(q.features & RPAL_FEATURE_PKEYS), test_have_pkeys());
	CHECK_IS(q.nr_keys, test_have_pkeys() ? 15 : 0);
	la57 = mmap((void *)(1UL << 50), PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0) !=
	       MAP_FAILED;
	CHECK_IS(!!(q.features & RPAL_FEATURE_LA57), la57);
	close(fd);
	test_end();
}

static void unplaced(void)
{
	struct rpal_self self;
	struct rpal_register reg;
	struct rpal_request req;
	struct rpal_peer peer;
	int fd = test_open();

	test_begin("commands in a process that is not placed");
	CHECK_IS(test_self(fd, &self), 0);
	CHECK(!self.state && !self.slot && !self.pkey && !self.id && !self.base && !self.end &&
		      !self.key,
	      "state %x slot %u", self.state, self.slot);
	CHECK_IS(test_register(fd, &reg), -ENXIO);
	CHECK_IS(test_request(fd, 12345, &req), -ENXIO);
	CHECK_IS(test_release(fd, 12345, &req), -ENXIO);
	CHECK_IS(test_peer(fd, 12345, 0, &peer), -ENXIO);
	CHECK_IS(IOCTL(fd, RPAL_IOC_UNREGISTER, NULL), -ENXIO);
	CHECK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0) == MAP_FAILED, "mmap");
	CHECK(read(fd, &self, sizeof(self)) < 0, "read");
	CHECK(write(fd, &self, sizeof(self)) < 0, "write");
	close(fd);
	test_end();
}

static void place_errors(void)
{
	struct rpal_place p = { .size = sizeof(p) };
	int fd = test_open();

	if (!test_have_pkeys())
		return;
	test_begin("place: arguments");
	CHECK_IS(IOCTL(fd, RPAL_IOC_PLACE, &p), 0);
	p.flags = 2;
	CHECK_IS(IOCTL(fd, RPAL_IOC_PLACE, &p), -EINVAL);
	p.flags = RPAL_PLACE_NO_PKEYS;
	CHECK_IS(IOCTL(fd, RPAL_IOC_PLACE, &p), 0);
	p.flags = 0;
	memset(p.group, 'x', sizeof(p.group));
	CHECK_IS(IOCTL(fd, RPAL_IOC_PLACE, &p), -EINVAL);
	p.group[RPAL_GROUP_LEN - 1] = 0;
	CHECK_IS(IOCTL(fd, RPAL_IOC_PLACE, &p), 0);
	close(fd);
	test_end();
}

/* ------------------------------------------------------------ registration */

/* In the puppet, which has addresses that are good: one field made bad. */
static long register_with(struct puppet *p, size_t field, u64 value, size_t size)
{
	struct rpal_register reg;
	struct test_cmd c = { .op = OP_REGISTER };
	struct test_res r;

	/* A good one first, to learn the addresses. */
	puppet_do(p, &c, &r);
	MUST(!r.ret);
	memcpy(&reg, r.buf, sizeof(reg));
	MUST(!puppet_unregister(p));
	reg.id = 0;
	reg.key = 0;
	reg.area_size = 0;
	memcpy((char *)&reg + field, &value, size);
	r.ret = puppet_ioctl(p, p->fd, RPAL_IOC_REGISTER, &reg, sizeof(reg));
	if (!r.ret)
		MUST(!puppet_unregister(p));
	return r.ret;
}

static void registration(void)
{
	struct rpal_register a, b;
	struct test_cmd c = { .op = OP_REGISTER };
	struct test_res r;
	struct rpal_self self;
	struct puppet p, q;
	size_t i;
	u64 ro, keys[8];
	int fd2;

	puppet_new(&p, NULL);
	test_begin("register");
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, 0);
	memcpy(&a, r.buf, sizeof(a));
	CHECK_IS(a.id, p.self.slot);
	CHECK(a.key, "key %llx", a.key);
	CHECK(a.area_size && !(a.area_size % PAGE), "area %llx", a.area_size);
	memset(&self, 0, sizeof(self));
	self.size = sizeof(self);
	CHECK_IS(puppet_ioctl(&p, p.fd, RPAL_IOC_SELF, &self, sizeof(self)), 0);
	CHECK(self.state == (RPAL_SELF_PLACED | RPAL_SELF_REGISTERED), "state %x", self.state);
	CHECK(self.id == a.id && self.key == a.key, "id %u key %llx", self.id, self.key);
	test_end();

	test_begin("register twice");
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, -EBUSY);
	c.op = OP_OPEN;
	puppet_do(&p, &c, &r);
	fd2 = r.ret;
	c.op = OP_REGISTER;
	c.a[0] = fd2;
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, -EBUSY);
	/* The other file of the same process is no service. */
	CHECK_IS(puppet_ioctl(&p, fd2, RPAL_IOC_UNREGISTER, NULL, 0), -ENXIO);
	puppet_sys(&p, SYS_close, fd2);
	c.a[0] = 0;
	test_end();

	test_begin("unregister, and again");
	CHECK_IS(puppet_unregister(&p), 0);
	CHECK_IS(puppet_unregister(&p), -ENXIO);
	CHECK_IS(puppet_ioctl(&p, p.fd, RPAL_IOC_SELF, &self, sizeof(self)), 0);
	CHECK(self.state == RPAL_SELF_PLACED && !self.id && !self.key, "state %x id %u", self.state,
	      self.id);
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, 0);
	memcpy(&b, r.buf, sizeof(b));
	CHECK(b.key && b.key != a.key, "key %llx twice", b.key);
	CHECK_IS(puppet_unregister(&p), 0);
	test_end();

	test_begin("keys are not to be guessed");
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		u64 bits = 0;
		size_t j;

		CHECK_IS(puppet_register(&p), 0);
		keys[i] = p.key;
		CHECK_IS(puppet_unregister(&p), 0);
		for (j = 0; j < i; j++) {
			bits = keys[i] ^ keys[j];
			/* 1 in 2^60 or so if they are random */
			CHECK(__builtin_popcountll(bits) > 8, "%lx and %lx", keys[i], keys[j]);
		}
	}
	test_end();

	test_begin("register: number of receivers");
	i = offsetof(struct rpal_register, nr_receivers);
	CHECK_IS(register_with(&p, i, 0, 4), -EINVAL);
	CHECK_IS(register_with(&p, i, RPAL_MAX_RECEIVERS + 1, 4), -EINVAL);
	CHECK_IS(register_with(&p, i, 0xffffffff, 4), -EINVAL);
	CHECK_IS(register_with(&p, i, RPAL_MAX_RECEIVERS, 4), 0);
	test_end();
	test_begin("register: flags");
	CHECK_IS(register_with(&p, offsetof(struct rpal_register, flags), 1, 4), -EINVAL);
	test_end();
	test_begin("register: ranges outside the slot");
	for (i = 0; i < sizeof(struct rpal_ranges); i += 8) {
		size_t f = offsetof(struct rpal_register, ranges) + i;

		CHECK_IS(register_with(&p, f, 0, 8), -EINVAL);
		CHECK_IS(register_with(&p, f, p.self.base - 1, 8), -EINVAL);
		/* The end of a range may be the end of the slot. */
		CHECK_IS(register_with(&p, f, p.self.end + 1, 8), -EINVAL);
		CHECK_IS(register_with(&p, f, ~0UL, 8), -EINVAL);
	}
	test_end();
	test_begin("register: ranges that end before they begin");
	for (i = 0; i < 8 * 8; i += 16) {
		size_t f = offsetof(struct rpal_register, ranges) + i;

		CHECK_IS(register_with(&p, f, p.self.end - 1, 8), -EINVAL);
	}
	test_end();

	test_begin("register: a structure that cannot be written");
	ro = puppet_alloc(&p, PAGE, 0);
	a.size = sizeof(a);
	a.id = 0;
	a.key = 0;
	a.area_size = 0;
	puppet_put(&p, 0, &a, sizeof(a));
	for (i = 0; i < sizeof(a); i += 8)
		puppet_store(&p, ro + i, *(u64 *)((char *)&a + i));
	puppet_sys(&p, SYS_mprotect, ro, PAGE, PROT_READ);
	memset(&c, 0, sizeof(c));
	c.op = OP_IOCTL;
	c.a[0] = p.fd;
	c.a[1] = RPAL_IOC_REGISTER;
	c.a[2] = 1;
	c.a[3] = ro;
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, -EFAULT);
	/* It has left nothing behind. */
	CHECK_IS(puppet_ioctl(&p, p.fd, RPAL_IOC_SELF, &self, sizeof(self)), 0);
	CHECK(!(self.state & RPAL_SELF_REGISTERED), "state %x", self.state);
	CHECK_IS(puppet_register(&p), 0);
	test_end();

	test_begin("an unregistered service is gone for others");
	puppet_new(&q, NULL);
	CHECK_IS(puppet_register(&q), 0);
	CHECK_IS(puppet_request(&q, p.key, NULL), 0);
	CHECK_IS(puppet_unregister(&p), 0);
	CHECK_IS(puppet_request(&q, p.key, NULL), -ENOENT);
	test_end();

	test_begin("a service ends with its file");
	CHECK_IS(puppet_register(&p), 0);
	CHECK_IS(puppet_request(&q, p.key, NULL), 0);
	puppet_sys(&p, SYS_close, p.fd);
	CHECK_IS(puppet_request(&q, p.key, NULL), -ENOENT);
	c.op = OP_OPEN;
	puppet_do(&p, &c, &r);
	p.fd = r.ret;
	CHECK_IS(puppet_ioctl(&p, p.fd, RPAL_IOC_SELF, &self, sizeof(self)), 0);
	CHECK(self.state == RPAL_SELF_PLACED, "state %x", self.state);
	memset(&c, 0, sizeof(c));
	c.op = OP_REGISTER;
	c.a[0] = p.fd;
	puppet_do(&p, &c, &r);
	CHECK_IS(r.ret, 0);
	memcpy(&a, r.buf, sizeof(a));
	p.key = a.key;
	CHECK_IS(puppet_request(&q, p.key, NULL), 0);
	test_end();

	test_begin("a service ends with its process");
	puppet_kill(&p);
	CHECK_IS(puppet_request(&q, p.key, NULL), -ENOENT);
	test_end();
	CHECK_IS(puppet_end(&q), 0);
}

/* ------------------------------------------------------------------ requests */

static void check_states(struct puppet *a, struct puppet *b, u32 at_a, u32 at_b)
{
	u32 s;

	s = puppet_state(a, b);
	CHECK(s == at_a, "first says %x, not %x", s, at_a);
	s = puppet_state(b, a);
	CHECK(s == at_b, "second says %x, not %x", s, at_b);
}

/* Memory is there exactly when the link is. Uses one word in each. */
static void check_memory(struct puppet *a, u64 in_a, struct puppet *b, u64 in_b, bool linked)
{
	int want = linked ? 0 : SIGSEGV, r;
	u64 v;

	r = puppet_load(a, in_b, &v);
	CHECK(r == want, "first reads second: signal %d", r);
	CHECK(r || v == 0xb, "%lx", v);
	CHECK(!r || test_fault.code == SEGV_MAPERR, "code %d", test_fault.code);
	r = puppet_load(b, in_a, &v);
	CHECK(r == want, "second reads first: signal %d", r);
	CHECK(r || v == 0xa, "%lx", v);
}

static void consent(void)
{
	struct puppet a, b;
	struct rpal_peer peer;
	u64 in_a, in_b, key;
	u32 state;
	int i;

	puppet_new(&a, "consent");
	puppet_new(&b, "consent");
	puppet_rights(&a, &b, RIGHTS_WRITE);
	puppet_rights(&b, &a, RIGHTS_WRITE);
	in_a = puppet_alloc(&a, PAGE, 0xa);
	in_b = puppet_alloc(&b, PAGE, 0xb);

	test_begin("request, release, peer: flags");
	CHECK_IS(puppet_register(&a), 0);
	for (i = 0; i < 3; i++) {
		static const unsigned long cmds[] = {
			RPAL_IOC_REQUEST,
			RPAL_IOC_RELEASE,
			RPAL_IOC_PEER,
		};
		u32 words[16] = { i < 2 ? sizeof(struct rpal_request) : sizeof(peer), 1 };

		CHECK_IS(puppet_ioctl(&a, a.fd, cmds[i], words, sizeof(words)), -EINVAL);
		words[1] = 0x80000000;
		CHECK_IS(puppet_ioctl(&a, a.fd, cmds[i], words, sizeof(words)), -EINVAL);
	}
	CHECK_IS(puppet_unregister(&a), 0);
	test_end();

	test_begin("request: errors");
	CHECK_IS(puppet_request(&a, 12345, NULL), -ENXIO);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_request(&a, 12345, NULL), -ENOENT);
	CHECK_IS(puppet_request(&a, 0, NULL), -ENOENT);
	CHECK_IS(puppet_request(&a, a.key, NULL), -EINVAL);
	CHECK_IS(puppet_release(&a, 12345, NULL), -ENOENT);
	CHECK_IS(puppet_release(&a, 0, NULL), -ENOENT);
	CHECK_IS(puppet_peer(&a, 12345, 0, &peer), -ENOENT);
	CHECK_IS(puppet_peer(&a, 0, 0, &peer), -ENOENT);
	CHECK_IS(puppet_peer(&a, 0, 255, &peer), -ENOENT);
	CHECK_IS(puppet_peer(&a, 0, 0xffffffff, &peer), -ENOENT);
	CHECK_IS(puppet_register(&b), 0);
	CHECK_IS(puppet_release(&a, b.key, NULL), -ENOENT);
	CHECK_IS(puppet_peer(&a, b.key, 0, &peer), -ENOENT);
	CHECK_IS(puppet_peer(&a, 0, b.self.slot, &peer), -ENOENT);
	check_memory(&a, in_a, &b, in_b, false);
	test_end();

	for (i = 0; i < 4; i++) {
		/* Who asks first, and who releases. */
		struct puppet *x = i & 1 ? &b : &a, *y = i & 1 ? &a : &b;
		struct puppet *z = i & 2 ? &b : &a;

		test_begin("request and release, order %d", i);
		CHECK_IS(puppet_request(x, y->key, &state), 0);
		CHECK_IS(state, RPAL_LINK_ASKED);
		check_states(x, y, RPAL_LINK_ASKED, RPAL_LINK_WANTED);
		check_memory(&a, in_a, &b, in_b, false);
		CHECK_IS(puppet_request(x, y->key, NULL), -EALREADY);
		CHECK_IS(puppet_request(y, x->key, &state), 0);
		CHECK_IS(state, LINKED);
		check_states(x, y, LINKED, LINKED);
		check_memory(&a, in_a, &b, in_b, true);
		CHECK_IS(puppet_request(x, y->key, NULL), -EALREADY);
		CHECK_IS(puppet_request(y, x->key, NULL), -EALREADY);
		CHECK_IS(puppet_release(z, z == &a ? b.key : a.key, &state), 0);
		CHECK_IS(state, 0);
		check_states(x, y, 0, 0);
		check_memory(&a, in_a, &b, in_b, false);
		CHECK_IS(puppet_release(z, z == &a ? b.key : a.key, NULL), -ENOENT);
		test_end();
	}

	test_begin("taking a request back");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	check_states(&a, &b, 0, 0);
	CHECK_IS(puppet_request(&b, a.key, &state), 0);
	CHECK_IS(state, RPAL_LINK_ASKED);
	check_memory(&a, in_a, &b, in_b, false);
	/* Also the other side's. */
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	check_states(&a, &b, 0, 0);
	test_end();

	test_begin("peer");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_peer(&a, b.key, 0, &peer), 0);
	CHECK(peer.id == b.self.slot && peer.pkey == b.self.pkey && peer.base == b.self.base &&
		      peer.nr_receivers == 1 && !peer.area,
	      "id %u pkey %u base %llx area %llx", peer.id, peer.pkey, peer.base, peer.area);
	/* An id can be guessed. */
	CHECK_IS(puppet_peer(&b, 0, a.self.slot, &peer), -ENOENT);
	CHECK_IS(puppet_peer(&a, 0, b.self.slot, &peer), -ENOENT);
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_peer(&b, 0, a.self.slot, &peer), 0);
	CHECK(peer.key == a.key && peer.state == LINKED, "key %llx state %x", peer.key, peer.state);
	test_end();

	test_begin("unregister ends the links, a new key is a new service");
	key = a.key;
	CHECK_IS(puppet_unregister(&a), 0);
	check_memory(&a, in_a, &b, in_b, false);
	CHECK_IS(puppet_peer(&b, key, 0, &peer), -ENOENT);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_request(&a, b.key, &state), 0);
	CHECK_IS(state, RPAL_LINK_ASKED);
	CHECK_IS(puppet_request(&b, key, NULL), -ENOENT);
	CHECK_IS(puppet_request(&b, a.key, &state), 0);
	CHECK_IS(state, LINKED);
	check_memory(&a, in_a, &b, in_b, true);
	test_end();

	test_begin("the death of one ends the link");
	puppet_kill(&a);
	CHECK_IS(puppet_peer(&b, a.key, 0, &peer), -ENOENT);
	CHECK(puppet_load(&b, in_a, &key) == SIGSEGV, "memory of the dead");
	test_end();
	CHECK_IS(puppet_end(&b), 0);
}

static int count_vmas(struct puppet *p)
{
	char path[64], line[512];
	FILE *f;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", p->child.pid);
	f = fopen(path, "r");
	MUST(f);
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

/* Nothing holds the place of a peer's memory: there is nothing to be torn down. */
static void no_mappings(void)
{
	struct puppet hub, p[8];
	int before, mine[8], i;
	u64 v;

	test_begin("a link is no mapping");
	puppet_new(&hub, "mappings");
	CHECK_IS(puppet_register(&hub), 0);
	for (i = 0; i < 8; i++) {
		puppet_new(&p[i], "mappings");
		CHECK_IS(puppet_register(&p[i]), 0);
		mine[i] = count_vmas(&p[i]);
	}
	before = count_vmas(&hub);
	CHECK(before > 4, "%d mappings", before);
	for (i = 0; i < 8; i++) {
		puppet_link(&hub, &p[i]);
		CHECK_IS(puppet_load(&hub, p[i].buf, &v), 0);
		CHECK_IS(puppet_load(&p[i], hub.buf, &v), 0);
		CHECK_IS(count_vmas(&p[i]), mine[i]);
		CHECK_IS(count_vmas(&hub), before);
	}
	/* The count is one that sees a mapping. */
	puppet_alloc(&hub, PAGE, 1);
	v = puppet_mmap(&hub, 0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	CHECK(count_vmas(&hub) > before, "%d mappings, as before", before);
	puppet_sys(&hub, SYS_munmap, v, PAGE);
	for (i = 0; i < 8; i++)
		puppet_kill(&p[i]);
	CHECK_IS(puppet_end(&hub), 0);
	test_end();
}

static void never_transitive(void)
{
	struct puppet a, b, c;
	u64 in_a, in_b, in_c, v;

	test_begin("a peer's peer is out of reach");
	puppet_new(&a, "chain");
	puppet_new(&b, "chain");
	puppet_new(&c, "chain");
	in_a = puppet_alloc(&a, PAGE, 0xa);
	in_b = puppet_alloc(&b, PAGE, 0xb);
	in_c = puppet_alloc(&c, PAGE, 0xc);
	puppet_link(&a, &b);
	puppet_link(&b, &c);
	puppet_rights(&a, &c, RIGHTS_WRITE);
	puppet_rights(&c, &a, RIGHTS_WRITE);
	CHECK(!puppet_load(&a, in_b, &v) && v == 0xb, "%lx", v);
	CHECK(!puppet_load(&b, in_c, &v) && v == 0xc, "%lx", v);
	CHECK(!puppet_load(&c, in_b, &v) && v == 0xb, "%lx", v);
	CHECK(puppet_load(&a, in_c, &v) == SIGSEGV, "%lx", v);
	CHECK(puppet_load(&c, in_a, &v) == SIGSEGV, "%lx", v);
	CHECK_IS(puppet_end(&b), 0);
	CHECK(puppet_load(&a, in_b, &v) == SIGSEGV, "%lx", v);
	CHECK_IS(puppet_end(&a), 0);
	CHECK_IS(puppet_end(&c), 0);
	test_end();
}

/* --------------------------------------------------------------- who may what */

static void key_clash(void)
{
	struct puppet p[17];
	size_t i, j, n;
	u32 state;

	test_begin("services with one key cannot be linked");
	if (!test_have_pkeys()) {
		test_skip_case("no protection keys");
		test_end();
		return;
	}
	for (n = 0; n < ARRAY_SIZE(p); n++)
		puppet_new(&p[n], NULL);
	for (i = 1; i < n; i++)
		for (j = 0; j < i; j++)
			if (p[i].self.pkey == p[j].self.pkey)
				goto found;
	CHECK(0, "17 services with 17 keys");
	goto out;
found:
	CHECK_IS(puppet_register(&p[i]), 0);
	CHECK_IS(puppet_register(&p[j]), 0);
	CHECK_IS(puppet_request(&p[i], p[j].key, NULL), -ENOTUNIQ);
	CHECK_IS(puppet_request(&p[j], p[i].key, NULL), -ENOTUNIQ);
	check_states(&p[i], &p[j], 0, 0);
	/* With any other they can be. */
	for (j = 0; j < n && p[i].self.pkey == p[j].self.pkey; j++)
		;
	if (!p[j].key)
		CHECK_IS(puppet_register(&p[j]), 0);
	CHECK_IS(puppet_request(&p[i], p[j].key, NULL), 0);
	CHECK_IS(puppet_request(&p[j], p[i].key, &state), 0);
	CHECK_IS(state, LINKED);
	/* The first fifteen had the least used key each: all different. */
	for (i = 1; i < 15; i++)
		for (j = 0; j < i; j++)
			CHECK(p[i].self.pkey != p[j].self.pkey, "%zu and %zu have key %u", i, j,
			      p[i].self.pkey);
out:
	for (i = 0; i < n; i++)
		CHECK_IS(puppet_end(&p[i]), 0);
	test_end();
}

static void start_as(struct puppet *p, uid_t uid)
{
	struct test_spawn s = { .group = "rights", .uid = uid };

	errno = puppet_start(p, &s);
	MUST(!errno);
	CHECK_IS(puppet_register(p), 0);
}

static void rights(void)
{
	struct puppet root, a, b, c;
	u32 state;

	start_as(&root, 0);
	start_as(&a, 1000);
	start_as(&b, 1000);
	start_as(&c, 1001);

	test_begin("another user's service is refused");
	CHECK_IS(puppet_request(&a, c.key, NULL), -EACCES);
	CHECK_IS(puppet_request(&c, a.key, NULL), -EACCES);
	CHECK_IS(puppet_request(&a, root.key, NULL), -EACCES);
	/* Root may ask, but that alone is no link. */
	CHECK_IS(puppet_request(&root, a.key, &state), 0);
	CHECK_IS(state, RPAL_LINK_ASKED);
	CHECK_IS(puppet_request(&a, root.key, NULL), -EACCES);
	CHECK_IS(puppet_state(&root, &a), RPAL_LINK_ASKED);
	check_states(&a, &c, 0, 0);
	test_end();

	test_begin("the same user's service is not");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_request(&b, a.key, &state), 0);
	CHECK_IS(state, LINKED);
	CHECK_IS(puppet_release(&b, a.key, NULL), 0);
	test_end();

	test_begin("a service that may not be dumped is refused");
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 0), 0);
	CHECK_IS(puppet_request(&a, b.key, NULL), -EACCES);
	CHECK_IS(puppet_request(&b, a.key, &state), 0);
	CHECK_IS(state, RPAL_LINK_ASKED);
	CHECK_IS(puppet_request(&a, b.key, NULL), -EACCES);
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 1), 0);
	CHECK_IS(puppet_request(&a, b.key, &state), 0);
	CHECK_IS(state, LINKED);
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	test_end();

	test_begin("rights that are gone when the other side asks");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 0), 0);
	/* What a was allowed to do it may no longer, so there is no link. */
	puppet_request(&b, a.key, &state);
	CHECK(!(puppet_state(&a, &b) & RPAL_LINK_LINKED), "%x", puppet_state(&a, &b));
	CHECK(!(puppet_state(&b, &a) & RPAL_LINK_LINKED), "%x", puppet_state(&b, &a));
	test_end();

	CHECK_IS(puppet_end(&root), 0);
	CHECK_IS(puppet_end(&a), 0);
	CHECK_IS(puppet_end(&b), 0);
	CHECK_IS(puppet_end(&c), 0);
}

/* ------------------------------------------------- files in the wrong hands */

enum { OP_IN_CHILD = OP_USER, OP_SEND_FD, OP_RECV_FD, OP_RACE };

static void race_op(const struct test_cmd *c, struct test_res *r);

static int run_in_child(int fd, unsigned long cmd, const void *arg, bool shares_memory)
{
	static unsigned char buf[512];
	int status;
	pid_t pid;

	memcpy(buf, arg, sizeof(buf));
	fflush(stdout);
	pid = shares_memory ? vfork() : fork();
	if (!pid) {
		int e = ioctl(fd, cmd, buf) ? errno : 0;

		_exit(e);
	}
	status = test_wait(pid);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -1000;
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	switch (c->op) {
	case OP_IN_CHILD:
		r->ret = run_in_child(c->a[0], c->a[1], c->buf, c->a[2]);
		break;
	case OP_SEND_FD:
		r->ret = test_pass_fd(TEST_FD_PEER, c->a[0]);
		break;
	case OP_RECV_FD:
		r->ret = test_pass_fd(TEST_FD_PEER, -1);
		break;
	case OP_RACE:
		race_op(c, r);
		break;
	}
}

static long in_child(struct puppet *p, unsigned long cmd, const void *arg, size_t n)
{
	struct test_cmd c = { .op = OP_IN_CHILD, .a = { p->fd, cmd } };
	struct test_res r;

	if (n)
		memcpy(c.buf, arg, n);
	puppet_do(p, &c, &r);
	return r.ret;
}

static long in_sharing_child(struct puppet *p, unsigned long cmd, const void *arg, size_t n)
{
	struct test_cmd c = { .op = OP_IN_CHILD, .a = { p->fd, cmd, true } };
	struct test_res r;

	memcpy(c.buf, arg, n);
	puppet_do(p, &c, &r);
	return r.ret;
}

static void other_process(void)
{
	struct test_spawn s = { .group = "hands" };
	struct rpal_request req = { .size = sizeof(req) };
	struct rpal_peer peer = { .size = sizeof(peer) };
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = 1 };
	struct rpal_thread thread = { .size = sizeof(thread), .flags = RPAL_THREAD_SENDER };
	struct puppet a, b;
	struct test_cmd c = {};
	struct test_res r;
	int sv[2], fd;

	test_socketpair(sv);
	s.peer = sv[0];
	MUST(!puppet_start(&a, &s));
	s.peer = sv[1];
	MUST(!puppet_start(&b, &s));
	close(sv[0]);
	close(sv[1]);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_register(&b), 0);
	req.key = b.key;
	peer.key = b.key;

	test_begin("a service's file in a forked child");
	CHECK_IS(in_child(&a, RPAL_IOC_REQUEST, &req, sizeof(req)), -EPERM);
	CHECK_IS(in_child(&a, RPAL_IOC_RELEASE, &req, sizeof(req)), -EPERM);
	CHECK_IS(in_child(&a, RPAL_IOC_PEER, &peer, sizeof(peer)), -EPERM);
	CHECK_IS(in_child(&a, RPAL_IOC_UNREGISTER, NULL, 0), -EPERM);
	test_ranges(&reg.ranges);
	CHECK(in_child(&a, RPAL_IOC_REGISTER, &reg, sizeof(reg)) < 0, "register");
	/* The child's copy was closed meanwhile, the service is still there. */
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_state(&b, &a), RPAL_LINK_ASKED);
	test_end();

	test_begin("a service's file in a child that shares its memory");
	CHECK_IS(in_sharing_child(&a, RPAL_IOC_REQUEST, &req, sizeof(req)), -EPERM);
	CHECK_IS(in_sharing_child(&a, RPAL_IOC_PEER, &peer, sizeof(peer)), -EPERM);
	CHECK_IS(in_sharing_child(&a, RPAL_IOC_THREAD, &thread, sizeof(thread)), -EPERM);
	CHECK_IS(in_sharing_child(&a, RPAL_IOC_UNREGISTER, &req, 0), -EPERM);
	CHECK_IS(puppet_state(&b, &a), RPAL_LINK_ASKED);
	test_end();

	test_begin("a service's file in another process");
	c.op = OP_SEND_FD;
	c.a[0] = a.fd;
	puppet_do(&a, &c, &r);
	CHECK_IS(r.ret, 0);
	c.op = OP_RECV_FD;
	puppet_do(&b, &c, &r);
	fd = r.ret;
	CHECK(fd > 0, "%d", fd);
	CHECK_IS(puppet_ioctl(&b, fd, RPAL_IOC_REQUEST, &req, sizeof(req)), -EPERM);
	CHECK_IS(puppet_ioctl(&b, fd, RPAL_IOC_RELEASE, &req, sizeof(req)), -EPERM);
	CHECK_IS(puppet_ioctl(&b, fd, RPAL_IOC_PEER, &peer, sizeof(peer)), -EPERM);
	CHECK_IS(puppet_ioctl(&b, fd, RPAL_IOC_UNREGISTER, NULL, 0), -EPERM);
	c.op = OP_REGISTER;
	c.a[0] = fd;
	puppet_do(&b, &c, &r);
	CHECK(r.ret == -EPERM || r.ret == -EBUSY, "%ld", (long)r.ret);
	/* The service ends with its process even if the file lives on. */
	puppet_kill(&a);
	CHECK_IS(puppet_release(&b, a.key, NULL), -ENOENT);
	CHECK(puppet_ioctl(&b, fd, RPAL_IOC_UNREGISTER, NULL, 0) < 0, "a dead one's");
	puppet_sys(&b, SYS_close, fd);
	CHECK_IS(puppet_end(&b), 0);
	test_end();
}

/* --------------------------------------------------------------- both at once */

struct race {
	u64 peer_key;
	u64 peer_word; /* address of a word in the peer */
	u32 seed;
	u32 mode;
};

enum { RACE_REQUEST, RACE_MIX, RACE_ASK_DROP };

/* In the puppet: some requests and releases at random moments. */
static void race_op(const struct test_cmd *c, struct test_res *r)
{
	struct rpal_request req;
	struct race race;
	int i, n, fd = c->a[0], e;
	volatile int spin;
	char byte;

	memcpy(&race, c->buf, sizeof(race));
	test_seed(race.seed);
	/* Both start as nearly together as can be. */
	if (write(TEST_FD_PEER, "x", 1) != 1 || read(TEST_FD_PEER, &byte, 1) != 1)
		r->ret = -EIO;
	n = race.mode == RACE_MIX ? 1 + test_random() % 6 : 1;
	for (i = 0; i < n; i++) {
		for (spin = test_random() % 2000; spin; spin--)
			;
		if (race.mode == RACE_REQUEST || (race.mode == RACE_MIX && test_random() % 3))
			e = test_request(fd, race.peer_key, &req);
		else
			e = test_release(fd, race.peer_key, &req);
		if (e && e != -EALREADY && e != -ENOENT)
			r->ret = e;
	}
}

static void race_round(struct puppet *a, struct puppet *b, u64 in_a, u64 in_b, int mode_a,
		       int mode_b, int round)
{
	struct test_cmd c = { .op = OP_RACE };
	struct race race = { .seed = round * 2 + 1, .mode = mode_a };
	struct test_res r;
	u32 at_a, at_b;
	bool linked;
	u64 v;

	race.peer_key = b->key;
	memcpy(c.buf, &race, sizeof(race));
	c.a[0] = a->fd;
	puppet_send(a, &c);
	race.peer_key = a->key;
	race.seed++;
	race.mode = mode_b;
	memcpy(c.buf, &race, sizeof(race));
	c.a[0] = b->fd;
	puppet_send(b, &c);
	MUST(puppet_result(a, &r));
	CHECK_IS(r.ret, 0);
	MUST(puppet_result(b, &r));
	CHECK_IS(r.ret, 0);

	at_a = puppet_state(a, b);
	at_b = puppet_state(b, a);
	linked = at_a & RPAL_LINK_LINKED;
	CHECK(!(at_a & RPAL_LINK_ASKED) == !(at_b & RPAL_LINK_WANTED), "round %d: %x, %x", round,
	      at_a, at_b);
	CHECK(!(at_a & RPAL_LINK_WANTED) == !(at_b & RPAL_LINK_ASKED), "round %d: %x, %x", round,
	      at_a, at_b);
	CHECK((at_a == LINKED) == linked && (at_b == LINKED) == linked, "round %d: %x, %x", round,
	      at_a, at_b);
	if (mode_a == RACE_REQUEST && mode_b == RACE_REQUEST)
		CHECK(linked, "round %d: %x, %x", round, at_a, at_b);
	CHECK(!puppet_load(a, in_b, &v) == linked, "round %d", round);
	CHECK(!puppet_load(b, in_a, &v) == linked, "round %d", round);
}

static void races(void)
{
	struct test_spawn s = { .group = "race" };
	struct puppet a, b;
	u64 in_a, in_b;
	int sv[2], i;

	test_socketpair(sv);
	s.peer = sv[0];
	MUST(!puppet_start(&a, &s));
	s.peer = sv[1];
	MUST(!puppet_start(&b, &s));
	close(sv[0]);
	close(sv[1]);
	puppet_rights(&a, &b, RIGHTS_WRITE);
	puppet_rights(&b, &a, RIGHTS_WRITE);
	in_a = puppet_alloc(&a, PAGE, 0xa);
	in_b = puppet_alloc(&b, PAGE, 0xb);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_register(&b), 0);

	test_begin("both ask at the same time: always linked");
	for (i = 0; i < 150; i++) {
		race_round(&a, &b, in_a, in_b, RACE_REQUEST, RACE_REQUEST, i);
		puppet_release(i & 1 ? &a : &b, i & 1 ? b.key : a.key, NULL);
	}
	test_end();
	test_begin("requests and releases at the same time: both sides agree");
	for (i = 0; i < 200; i++)
		race_round(&a, &b, in_a, in_b, RACE_MIX, RACE_MIX, i);
	test_end();
	test_begin("one asks while the other releases: both sides agree");
	for (i = 0; i < 100; i++) {
		puppet_release(&a, b.key, NULL);
		puppet_request(&b, a.key, NULL);
		race_round(&a, &b, in_a, in_b, RACE_REQUEST, RACE_ASK_DROP, i);
	}
	test_end();
	puppet_release(&a, b.key, NULL);
	test_begin("one unregisters and comes back while the other asks");
	for (i = 0; i < 100; i++) {
		struct rpal_request req = { .size = sizeof(req), .key = b.key };
		struct test_cmd c = { .op = OP_IOCTL };
		struct test_res r;
		struct rpal_peer peer;
		u64 v;

		puppet_request(&b, a.key, NULL);
		c.a[0] = a.fd;
		c.a[1] = RPAL_IOC_REQUEST;
		memcpy(c.buf, &req, sizeof(req));
		puppet_send(&a, &c);
		c.a[0] = b.fd;
		c.a[1] = RPAL_IOC_UNREGISTER;
		puppet_send(&b, &c);
		MUST(puppet_result(&a, &r));
		CHECK(!r.ret || r.ret == -ENOENT, "request: %ld", (long)r.ret);
		MUST(puppet_result(&b, &r));
		CHECK_IS(r.ret, 0);
		CHECK_IS(puppet_peer(&a, b.key, 0, &peer), -ENOENT);
		CHECK(puppet_load(&a, in_b, &v) == SIGSEGV, "round %d", i);
		CHECK(puppet_load(&b, in_a, &v) == SIGSEGV, "round %d", i);
		CHECK_IS(puppet_register(&b), 0);
		CHECK_IS(puppet_state(&a, &b), 0);
	}
	test_end();
	CHECK_IS(puppet_end(&a), 0);
	CHECK_IS(puppet_end(&b), 0);
}

/* Many threads do everything with one file; nothing must break. */
static volatile bool stop;
static u64 thread_peer;
static int thread_fd;

static void *any_command(void *seed)
{
	struct rpal_register reg;
	struct rpal_request req;
	struct rpal_self self;
	struct rpal_peer peer;

	test_seed((long)seed);
	while (!stop) {
		switch (test_random() % 6) {
		case 0:
			test_register(thread_fd, &reg);
			break;
		case 1:
			ioctl(thread_fd, RPAL_IOC_UNREGISTER);
			break;
		case 2:
			test_request(thread_fd, thread_peer, &req);
			break;
		case 3:
			test_release(thread_fd, thread_peer, &req);
			break;
		case 4:
			test_peer(thread_fd, thread_peer, 0, &peer);
			break;
		case 5:
			test_self(thread_fd, &self);
			break;
		}
	}
	return NULL;
}

static int threads_role(void)
{
	struct rpal_register reg;
	struct rpal_self self;
	pthread_t t[4];
	size_t i;
	u64 key;

	thread_fd = test_open();
	MUST(!test_self(thread_fd, &self));
	test_recv(TEST_FD_DRIVER, &thread_peer, sizeof(thread_peer));
	for (i = 0; i < ARRAY_SIZE(t); i++)
		MUST(!pthread_create(&t[i], NULL, any_command, (void *)(i + 1)));
	/* Somebody who also asks from the other side. */
	usleep(1500000);
	stop = true;
	for (i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	MUST(!test_self(thread_fd, &self));
	key = self.key;
	CHECK(!!key == !!(self.state & RPAL_SELF_REGISTERED), "state %x", self.state);
	if (key)
		CHECK_IS(IOCTL(thread_fd, RPAL_IOC_UNREGISTER, NULL), 0);
	CHECK_IS(test_register(thread_fd, &reg), 0);
	return 0;
}

static void thread_storm(void)
{
	struct test_spawn s = { .group = "threads", .role = "threads" };
	struct test_child c;
	struct puppet a;
	int status;

	test_begin("threads that do everything at once with one file");
	puppet_new(&a, "threads");
	CHECK_IS(puppet_register(&a), 0);
	MUST(!test_spawn(&c, &s));
	test_send_u64(c.sock, a.key);
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	close(c.sock);
	CHECK_IS(puppet_end(&a), 0);
	test_end();
}

/* ------------------------------------------------------- the thread area's mmap */

static void area(void)
{
	struct test_cmd c = { .op = OP_REGISTER };
	struct rpal_query query = { .size = sizeof(query) };
	struct rpal_register reg;
	struct test_res r;
	struct rpal_peer peer;
	struct puppet a, b;
	long m, fd;
	u64 size, v;

	puppet_new(&a, "area");
	puppet_new(&b, "area");
	fd = a.fd;
	test_begin("mmap of the thread area");
	m = puppet_sys(&a, SYS_mmap, 0, PAGE, RW, MAP_SHARED, fd, 0);
	CHECK(m < 0, "before registration: %lx", m);
	puppet_do(&a, &c, &r);
	CHECK_IS(r.ret, 0);
	memcpy(&reg, r.buf, sizeof(reg));
	a.key = reg.key;
	size = reg.area_size;
	m = puppet_sys(&a, SYS_mmap, 0, size, RW, MAP_PRIVATE, fd, 0);
	if (m == -ENODEV) {
		test_skip_case("not in this module yet");
		goto out;
	}
	CHECK(m < 0 && m >= -4095, "private: %lx", m);
	m = puppet_sys(&a, SYS_mmap, 0, size + PAGE, RW, MAP_SHARED, fd, 0);
	CHECK(m < 0 && m >= -4095, "too long: %lx", m);
	m = puppet_sys(&a, SYS_mmap, 0, size, RW, MAP_SHARED, fd, PAGE);
	CHECK(m < 0 && m >= -4095, "offset: %lx", m);
	m = puppet_sys(&a, SYS_mmap, 0, size, RW | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(m < 0 && m >= -4095, "executable: %lx", m);
	m = puppet_sys(&a, SYS_mmap, 0, size, RW, MAP_SHARED, fd, 0);
	CHECK(in_slot(&a.self, (void *)m, size), "%lx", m);
	CHECK(!puppet_load(&a, m, &v), "readable");
	CHECK_IS(puppet_sys(&a, SYS_mprotect, m, size, RW | PROT_EXEC), -EACCES);
	puppet_link(&a, &b);
	CHECK_IS(puppet_peer(&b, a.key, 0, &peer), 0);
	CHECK(peer.area == (u64)m, "%llx, not %lx", peer.area, m);
	CHECK(!puppet_load(&b, m, &v), "signal %d", test_fault.sig);
	test_end();

	test_begin("copies of the thread area's mapping");
	v = puppet_mmap(&a, 0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	CHECK_IS(puppet_sys(&a, SYS_mremap, m, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, v),
		 -EINVAL);
	CHECK_IS(puppet_peer(&b, a.key, 0, &peer), 0);
	CHECK(peer.area == (u64)m, "%llx, not %lx", peer.area, m);
	CHECK_IS(puppet_sys(&a, SYS_madvise, m, size, MADV_DOFORK), 0);
	CHECK_IS(in_child(&a, RPAL_IOC_QUERY, &query, sizeof(query)), 0);
	CHECK_IS(puppet_peer(&b, a.key, 0, &peer), 0);
	CHECK(peer.area == (u64)m, "%llx, not %lx", peer.area, m);
	CHECK(!puppet_load(&b, m, &v), "signal %d", test_fault.sig);
	CHECK_IS(puppet_sys(&a, SYS_munmap, m, size), 0);
	CHECK_IS(puppet_peer(&b, a.key, 0, &peer), 0);
	CHECK(!peer.area, "%llx", peer.area);
out:
	CHECK_IS(puppet_end(&a), 0);
	CHECK_IS(puppet_end(&b), 0);
	test_end();
}

static const struct test_role roles[] = { { "threads", threads_role }, {} };

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, roles);
	conventions();
	query();
	unplaced();
	place_errors();
	registration();
	consent();
	never_transitive();
	no_mappings();
	key_clash();
	rights();
	other_process();
	races();
	thread_storm();
	area();
	return test_finish();
}
