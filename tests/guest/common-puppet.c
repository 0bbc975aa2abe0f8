// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Puppets: children that do one small thing at a time for the driver.
 */
#include "common.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

void (*test_user_op)(const struct test_cmd *c, struct test_res *r);

struct hello {
	struct rpal_self self;
	u64 buf;
	int fd;
};

/* ------------------------------------------------------------ in the puppet */

static unsigned char puppet_buf[PUPPET_BUF] __attribute__((aligned(4096)));

static __attribute__((noinline)) int add_one(int x)
{
	return x + 1;
}

static u64 pattern(u64 seed, u64 off)
{
	return (seed + off) * 0x9e3779b97f4a7c15ULL | 1;
}

static long fill(u64 addr, u64 len, u64 step, u64 seed, struct test_res *r)
{
	u64 off;

	for (off = 0; off < len; off += step) {
		r->sig = test_store((void *)(addr + off), pattern(seed, off));
		if (r->sig)
			return -r->sig;
	}
	return 0;
}

static long verify(u64 addr, u64 len, u64 step, u64 seed, struct test_res *r)
{
	long bad = 0;
	u64 off, v;

	for (off = 0; off < len; off += step) {
		r->sig = test_load((void *)(addr + off), &v);
		if (r->sig)
			return -r->sig;
		if (v != pattern(seed, off)) {
			if (!bad)
				r->val = v;
			bad++;
		}
	}
	return bad;
}

static void take_fault(struct test_res *r)
{
	r->code = test_fault.code;
	r->addr = test_fault.addr;
	r->pkey = test_fault.pkey;
}

static void obey(const struct test_cmd *c, struct test_res *r, int fd)
{
	struct rpal_register reg;
	unsigned char b;
	int x = 0;

	switch (c->op) {
	case OP_EXIT:
		fflush(stdout);
		exit(c->a[0]);
	case OP_SYSCALL:
		r->ret = syscall(c->a[0], c->a[1], c->a[2], c->a[3], c->a[4], c->a[5], c->a[6]);
		if (r->ret == -1)
			r->ret = -errno;
		break;
	case OP_IOCTL:
		memcpy(r->buf, c->buf, sizeof(r->buf));
		r->ret = ioctl(c->a[0], c->a[1], c->a[2] ? (void *)c->a[3] : r->buf);
		if (r->ret == -1)
			r->ret = -errno;
		break;
	case OP_LOAD:
		r->sig = test_load((void *)c->a[0], &r->val);
		break;
	case OP_LOAD8:
		r->sig = test_load8((void *)c->a[0], &b);
		r->val = b;
		break;
	case OP_STORE:
		r->sig = test_store((void *)c->a[0], c->a[1]);
		break;
	case OP_STORE8:
		r->sig = test_store8((void *)c->a[0], c->a[1]);
		break;
	case OP_CALL:
		r->sig = test_call((void *)c->a[0], c->a[1], &x);
		r->ret = x;
		break;
	case OP_PKRU:
		if (c->a[0])
			pkru_write(c->a[1]);
		r->val = pkru_read();
		break;
	case OP_FILL:
		r->ret = fill(c->a[0], c->a[1], c->a[2], c->a[3], r);
		break;
	case OP_VERIFY:
		r->ret = verify(c->a[0], c->a[1], c->a[2], c->a[3], r);
		break;
	case OP_PUT:
		memcpy(puppet_buf + c->a[0], c->buf, c->a[1]);
		break;
	case OP_GET:
		memcpy(r->buf, puppet_buf + c->a[0], c->a[1]);
		break;
	case OP_REGISTER:
		r->ret = test_register(c->a[0] ? (int)c->a[0] : fd, &reg);
		memcpy(r->buf, &reg, sizeof(reg));
		break;
	case OP_OPEN:
		r->ret = test_open();
		break;
	case OP_CODE:
		r->val = (u64)add_one;
		break;
	case OP_PKEY_OF:
		r->ret = test_vma_pkey((void *)c->a[0]);
		break;
	case OP_EXEC:
		/* Only comes back if it fails. */
		setenv("RPAL_TEST_ROLE", (const char *)c->buf, 1);
		if (c->a[0]) {
			struct rpal_place place = { .size = sizeof(place) };

			if (!test_have_pkeys())
				place.flags |= RPAL_PLACE_NO_PKEYS;
			if (ioctl(test_open(), RPAL_IOC_PLACE, &place)) {
				r->ret = -errno;
				break;
			}
		}
		execl("/proc/self/exe", test_name, NULL);
		r->ret = -errno;
		break;
	default:
		if (test_user_op)
			test_user_op(c, r);
		else
			r->ret = -ENOSYS;
	}
	if (r->sig)
		take_fault(r);
}

int test_puppet_role(void)
{
	struct hello hello = { .buf = (u64)puppet_buf };
	static struct test_cmd c;
	static struct test_res r;

	hello.fd = test_open();
	MUST(hello.fd >= 0);
	MUST(!test_self(hello.fd, &hello.self));
	test_send(TEST_FD_DRIVER, &hello, sizeof(hello));
	for (;;) {
		/* No limit here: the driver may be busy with another one. */
		char *p = (char *)&c;
		size_t n = 0;

		while (n < sizeof(c)) {
			ssize_t got = read(TEST_FD_DRIVER, p + n, sizeof(c) - n);

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return 0;
			n += got;
		}
		memset(&r, 0, sizeof(r));
		obey(&c, &r, hello.fd);
		test_send(TEST_FD_DRIVER, &r, sizeof(r));
	}
}

/* ------------------------------------------------------------ in the driver */

int puppet_start(struct puppet *p, const struct test_spawn *s)
{
	struct hello hello;
	int e;

	memset(p, 0, sizeof(*p));
	e = test_spawn(&p->child, s);
	if (e)
		return e;
	if (!test_try_recv(p->child.sock, &hello, sizeof(hello))) {
		printf("%s: a puppet did not start\n", test_name);
		printf("%s: it: %s\n", test_name, test_status(test_wait(p->child.pid)));
		test_die(__FILE__, __LINE__, "puppet");
	}
	p->self = hello.self;
	p->buf = hello.buf;
	p->fd = hello.fd;
	return 0;
}

void puppet_new(struct puppet *p, const char *group)
{
	struct test_spawn s = { .group = group };

	errno = puppet_start(p, &s);
	MUST(!errno);
}

int puppet_end(struct puppet *p)
{
	struct test_cmd c = { .op = OP_EXIT };
	int status;

	puppet_send(p, &c);
	status = test_wait(p->child.pid);
	close(p->child.sock);
	p->child.pid = 0;
	p->child.sock = -1;
	return status;
}

void puppet_kill(struct puppet *p)
{
	test_reap(&p->child);
}

void puppet_send(struct puppet *p, const struct test_cmd *c)
{
	test_send(p->child.sock, c, sizeof(*c));
}

bool puppet_result(struct puppet *p, struct test_res *r)
{
	return test_try_recv(p->child.sock, r, sizeof(*r));
}

void puppet_do(struct puppet *p, const struct test_cmd *c, struct test_res *r)
{
	puppet_send(p, c);
	if (!puppet_result(p, r)) {
		printf("%s: a puppet died of op %lu(%lx, %lx, %lx)\n", test_name, c->op, c->a[0],
		       c->a[1], c->a[2]);
		printf("%s: it: %s\n", test_name, test_status(test_wait(p->child.pid)));
		test_die(__FILE__, __LINE__, "puppet");
	}
	if (r->sig) {
		test_fault.sig = r->sig;
		test_fault.code = r->code;
		test_fault.addr = r->addr;
		test_fault.pkey = r->pkey;
	}
}

long puppet_op(struct puppet *p, u64 op, u64 a, u64 b, u64 c, u64 d)
{
	struct test_cmd cmd = { .op = op, .a = { a, b, c, d } };
	struct test_res r;

	puppet_do(p, &cmd, &r);
	return r.ret;
}

long puppet_syscall(struct puppet *p, long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct test_cmd cmd = { .op = OP_SYSCALL, .a = { nr, a, b, c, d, e, f } };
	struct test_res r;

	puppet_do(p, &cmd, &r);
	return r.ret;
}

u64 puppet_mmap(struct puppet *p, u64 addr, u64 len, int prot, int flags)
{
	return puppet_sys(p, SYS_mmap, addr, len, prot, flags, -1, 0);
}

u64 puppet_alloc(struct puppet *p, u64 len, u64 value)
{
	u64 a = puppet_mmap(p, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	MUST(a < -4096UL);
	MUST(!puppet_store(p, a, value));
	return a;
}

long puppet_ioctl(struct puppet *p, int fd, unsigned long cmd, void *arg, size_t n)
{
	struct test_cmd c = { .op = OP_IOCTL, .a = { fd, cmd } };
	struct test_res r;

	MUST(n <= sizeof(c.buf));
	if (arg)
		memcpy(c.buf, arg, n);
	puppet_do(p, &c, &r);
	if (arg)
		memcpy(arg, r.buf, n);
	return r.ret;
}

static int access_op(struct puppet *p, int op, u64 addr, u64 *v)
{
	struct test_cmd c = { .op = op, .a = { addr, *v } };
	struct test_res r;

	puppet_do(p, &c, &r);
	*v = r.val;
	return r.sig;
}

int puppet_load(struct puppet *p, u64 addr, u64 *v)
{
	*v = 0;
	return access_op(p, OP_LOAD, addr, v);
}

int puppet_load8(struct puppet *p, u64 addr, unsigned char *v)
{
	u64 x = 0;
	int sig = access_op(p, OP_LOAD8, addr, &x);

	*v = x;
	return sig;
}

int puppet_store(struct puppet *p, u64 addr, u64 v)
{
	return access_op(p, OP_STORE, addr, &v);
}

int puppet_store8(struct puppet *p, u64 addr, unsigned char b)
{
	u64 v = b;

	return access_op(p, OP_STORE8, addr, &v);
}

int puppet_call(struct puppet *p, u64 addr, int arg, int *ret)
{
	struct test_cmd c = { .op = OP_CALL, .a = { addr, arg } };
	struct test_res r;

	puppet_do(p, &c, &r);
	*ret = r.ret;
	return r.sig;
}

int puppet_fill(struct puppet *p, u64 addr, u64 len, u64 step, u64 seed)
{
	struct test_cmd c = { .op = OP_FILL, .a = { addr, len, step, seed } };
	struct test_res r;

	puppet_do(p, &c, &r);
	return r.sig;
}

long puppet_verify(struct puppet *p, u64 addr, u64 len, u64 step, u64 seed)
{
	struct test_cmd c = { .op = OP_VERIFY, .a = { addr, len, step, seed } };
	struct test_res r;

	puppet_do(p, &c, &r);
	return r.ret;
}

u64 puppet_put(struct puppet *p, u64 off, const void *data, size_t n)
{
	struct test_cmd c = { .op = OP_PUT, .a = { off, n } };
	struct test_res r;

	MUST(n <= sizeof(c.buf));
	memcpy(c.buf, data, n);
	puppet_do(p, &c, &r);
	return p->buf + off;
}

void puppet_get(struct puppet *p, u64 off, void *data, size_t n)
{
	struct test_cmd c = { .op = OP_GET, .a = { off, n } };
	struct test_res r;

	MUST(n <= sizeof(r.buf));
	puppet_do(p, &c, &r);
	memcpy(data, r.buf, n);
}

u32 puppet_pkru(struct puppet *p)
{
	struct test_cmd c = { .op = OP_PKRU };
	struct test_res r;

	puppet_do(p, &c, &r);
	return r.val;
}

void puppet_set_pkru(struct puppet *p, u32 v)
{
	struct test_cmd c = { .op = OP_PKRU, .a = { 1, v } };
	struct test_res r;

	puppet_do(p, &c, &r);
}

void puppet_rights(struct puppet *p, struct puppet *peer, enum test_rights r)
{
	puppet_set_pkru(p, pkru_with(puppet_pkru(p), peer->self.pkey, r));
}

int puppet_register(struct puppet *p)
{
	struct test_cmd c = { .op = OP_REGISTER };
	struct rpal_register reg;
	struct test_res r;

	puppet_do(p, &c, &r);
	if (!r.ret) {
		memcpy(&reg, r.buf, sizeof(reg));
		p->key = reg.key;
	}
	return r.ret;
}

int puppet_unregister(struct puppet *p)
{
	return puppet_ioctl(p, p->fd, RPAL_IOC_UNREGISTER, NULL, 0);
}

static int request_op(struct puppet *p, unsigned long cmd, u64 key, u32 *state)
{
	struct rpal_request q = { .size = sizeof(q), .key = key };
	int ret = puppet_ioctl(p, p->fd, cmd, &q, sizeof(q));

	if (state)
		*state = q.state;
	return ret;
}

int puppet_request(struct puppet *p, u64 key, u32 *state)
{
	return request_op(p, RPAL_IOC_REQUEST, key, state);
}

int puppet_release(struct puppet *p, u64 key, u32 *state)
{
	return request_op(p, RPAL_IOC_RELEASE, key, state);
}

int puppet_peer(struct puppet *p, u64 key, u32 id, struct rpal_peer *out)
{
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->key = key;
	out->id = id;
	return puppet_ioctl(p, p->fd, RPAL_IOC_PEER, out, sizeof(*out));
}

u32 puppet_state(struct puppet *p, struct puppet *peer)
{
	struct rpal_peer out;
	int e = puppet_peer(p, peer->key, 0, &out);

	return e ? 0 : out.state;
}

void puppet_link(struct puppet *a, struct puppet *b)
{
	u32 state = 0;

	errno = a->key ? 0 : -puppet_register(a);
	MUST(!errno);
	errno = b->key ? 0 : -puppet_register(b);
	MUST(!errno);
	errno = -puppet_request(a, b->key, NULL);
	MUST(!errno);
	errno = -puppet_request(b, a->key, &state);
	MUST(!errno);
	CHECK(state & RPAL_LINK_LINKED, "state %x", state);
	puppet_rights(a, b, RIGHTS_WRITE);
	puppet_rights(b, a, RIGHTS_WRITE);
}
