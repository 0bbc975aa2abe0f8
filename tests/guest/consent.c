// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Who may be linked with whom: users, capabilities, user namespaces, programs that
 * may not be looked into, Yama, seccomp; that keys cannot be guessed; and that a
 * service's file is worth nothing in the hands of another process.
 *
 * usage: consent [scope3]: the case of Yama's last mode, which cannot be left again
 */
#include "common.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LINKED	    (RPAL_LINK_ASKED | RPAL_LINK_WANTED | RPAL_LINK_LINKED)
#define LINK_ATTACH "/sys/module/rpal/parameters/link_attach"
#define YAMA	    "/proc/sys/kernel/yama/ptrace_scope"
#define SERVICES    "/sys/kernel/debug/rpal/services"
#define REFCOUNT    "/sys/module/rpal/refcnt"
#define SETUID_COPY "/tmp/consent-setuid"
#define SECRET_COPY "/tmp/consent-unreadable"
#define USER	    1000
#define OTHER	    1001

enum {
	OP_EVERY = OP_USER, /* all commands on a file: here, or in a child */
	OP_SEND_FD,
	OP_RECV_FD,
	OP_KEYS,
	OP_GUESS,
	OP_IDS,
	OP_CAPS,
	OP_FILTER,
	OP_RUN_SETUID,
};

/* -------------------------------------------------- every command on one file */

/* Who runs them, and what the file is. */
enum { HERE, IN_CHILD, IN_SHARING_CHILD };
enum hands { ANOTHERS, DEAD_OWNERS };

#define ANY 0x7fff

static const struct {
	const char *name;
	unsigned long cmd;
	u32 size;
	int anothers; /* on a file that is another process's service, -errno */
	int dead;     /* on one whose service has ended */
} commands[] = {
	{ "query", RPAL_IOC_QUERY, sizeof(struct rpal_query), 0, 0 },
	{ "place", RPAL_IOC_PLACE, sizeof(struct rpal_place), 0, 0 },
	{ "self", RPAL_IOC_SELF, sizeof(struct rpal_self), 0, 0 },
	/* For the caller itself, so it depends on who that is. */
	{ "register", RPAL_IOC_REGISTER, sizeof(struct rpal_register), ANY, ANY },
	{ "request", RPAL_IOC_REQUEST, sizeof(struct rpal_request), -EPERM, -ENXIO },
	{ "release", RPAL_IOC_RELEASE, sizeof(struct rpal_request), -EPERM, -ENXIO },
	{ "peer", RPAL_IOC_PEER, sizeof(struct rpal_peer), -EPERM, -ENXIO },
	{ "thread", RPAL_IOC_THREAD, sizeof(struct rpal_thread), -EPERM, -ENXIO },
	{ "thread-exit", RPAL_IOC_THREAD_EXIT, 0, -EPERM, -ENXIO },
	{ "wait", RPAL_IOC_WAIT, sizeof(struct rpal_wait), -EPERM, -ENXIO },
	{ "await-reply", RPAL_IOC_AWAIT_REPLY, sizeof(struct rpal_reply), -EPERM, -ENXIO },
	{ "wake", RPAL_IOC_WAKE, sizeof(struct rpal_wake), -EPERM, -ENXIO },
	{ "await", RPAL_IOC_AWAIT, sizeof(struct rpal_await), -EPERM, -ENXIO },
	{ "deadline", RPAL_IOC_DEADLINE, sizeof(struct rpal_deadline), -EPERM, -ENXIO },
	{ "peer-fd", RPAL_IOC_PEER_FD, sizeof(struct rpal_peer_fd), -EPERM, -ENXIO },
	{ "watch", RPAL_IOC_WATCH, sizeof(struct rpal_watch), -EPERM, -ENXIO },
	{ "channel", RPAL_IOC_CHANNEL, sizeof(struct rpal_channel), -EPERM, -ENXIO },
	{ "notify", RPAL_IOC_NOTIFY, sizeof(struct rpal_notify), -EPERM, -ENXIO },
	{ "peer-of", RPAL_IOC_PEER_OF, sizeof(struct rpal_peer_of), -EPERM, -ENXIO },
	/* Last, or there would be nothing left to ask. */
	{ "unregister", RPAL_IOC_UNREGISTER, 0, -EPERM, -ENXIO },
};

#define NR_COMMANDS ARRAY_SIZE(commands)

struct every {
	int32_t cmd[NR_COMMANDS];
	int32_t read;
	int32_t mmap;
	int32_t unknown; /* how many numbers that there are not are taken */
	struct rpal_self self;
};

static bool is_command(unsigned int nr)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++)
		if (_IOC_NR(commands[i].cmd) == nr)
			return true;
	return false;
}

static int unknown_taken(int fd)
{
	unsigned char buf[256] = { 64 };
	unsigned int nr, dir;
	int n = 0;

	for (nr = 0; nr < 256; nr++)
		for (dir = 0; dir < 4 && !is_command(nr); dir++)
			n += !ioctl(fd, _IOC(dir, RPAL_IOC_MAGIC, nr, 64), buf) || errno != ENOTTY;
	return n;
}

static int one_command(int fd, size_t i, void *arg)
{
	union {
		u32 size;
		struct rpal_place place;
		struct rpal_register reg;
		struct rpal_thread thread;
		struct rpal_wait wait;
		struct rpal_watch watch;
		struct rpal_channel channel;
		unsigned char b[512];
	} u = {};

	u.size = commands[i].size;
	switch (commands[i].cmd) {
	case RPAL_IOC_PLACE:
		u.place.flags = test_have_pkeys() ? 0 : RPAL_PLACE_NO_PKEYS;
		break;
	case RPAL_IOC_REGISTER:
		u.reg.nr_receivers = 1;
		test_ranges(&u.reg.ranges);
		break;
	case RPAL_IOC_THREAD:
		u.thread.flags = RPAL_THREAD_SENDER;
		break;
	case RPAL_IOC_WAIT:
	case RPAL_IOC_WATCH:
		u.wait.fd = -1;
		break;
	case RPAL_IOC_CHANNEL:
		u.channel.service = fd;
		break;
	}
	if (ioctl(fd, commands[i].cmd, &u))
		return -errno;
	memcpy(arg, &u, commands[i].size);
	return 0;
}

/* Not register: what that does to its caller is looked at by itself. */
static void every_command(int fd, struct every *e)
{
	unsigned char arg[512];
	size_t i;
	void *m;

	memset(e, 0, sizeof(*e));
	for (i = 0; i < NR_COMMANDS; i++) {
		if (commands[i].cmd == RPAL_IOC_REGISTER)
			continue;
		e->cmd[i] = one_command(fd, i, arg);
		if (commands[i].cmd == RPAL_IOC_SELF)
			memcpy(&e->self, arg, sizeof(e->self));
	}
	e->read = read(fd, arg, sizeof(arg)) < 0 ? -errno : 0;
	m = mmap(NULL, 257 * 1024, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	e->mmap = m == MAP_FAILED ? -errno : 0;
	e->unknown = unknown_taken(fd);
}

static void every_op(const struct test_cmd *c, struct test_res *r)
{
	struct every *e = (struct every *)r->buf;
	int fd = c->a[0], status, p[2];
	pid_t pid;

	_Static_assert(sizeof(*e) <= sizeof(r->buf), "results");
	if (c->a[1] == HERE) {
		every_command(fd, e);
		return;
	}
	MUST(!pipe(p));
	fflush(stdout);
	pid = c->a[1] == IN_CHILD ? fork() : vfork();
	if (!pid) {
		every_command(fd, e);
		_exit(write(p[1], e, sizeof(*e)) != sizeof(*e));
	}
	status = test_wait(pid);
	if (status || read(p[0], e, sizeof(*e)) != sizeof(*e))
		r->ret = -EIO;
	close(p[0]);
	close(p[1]);
}

static void check_every(const struct every *e, enum hands whose, u32 slot)
{
	int all = whose == ANOTHERS ? -EPERM : -ENXIO;
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++) {
		int want = whose == ANOTHERS ? commands[i].anothers : commands[i].dead;

		if (want != ANY)
			CHECK(e->cmd[i] == want, "%s: %d, not %d", commands[i].name, e->cmd[i],
			      want);
	}
	CHECK(e->read == all, "read: %d", e->read);
	CHECK(e->mmap == all, "mmap: %d", e->mmap);
	CHECK(!e->unknown, "%d unknown commands", e->unknown);
	/* Who asks is told of itself, whatever file it asks on. */
	CHECK(e->self.slot == slot, "told of slot %u, not %u", e->self.slot, slot);
}

/* --------------------------------------------------------------- in the puppet */

/* All keys of many registrations, and what there is to see of them. */
struct keys {
	u64 n;
	u64 same; /* keys that came twice */
	u32 set[64];
	u64 last; /* the one with which it goes on */
};

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int many_keys(int fd, u64 n, struct keys *k)
{
	u64 *all = calloc(n, sizeof(*all)), i;
	struct rpal_register reg;
	int bit;

	memset(k, 0, sizeof(*k));
	MUST(all);
	for (i = 0; i < n; i++) {
		int e = test_register(fd, &reg);

		if (e)
			return e;
		all[i] = reg.key;
		k->last = reg.key;
		for (bit = 0; bit < 64; bit++)
			k->set[bit] += reg.key >> bit & 1;
		if (i + 1 < n && ioctl(fd, RPAL_IOC_UNREGISTER))
			return -errno;
	}
	qsort(all, n, sizeof(*all), compare);
	for (i = 1; i < n; i++)
		k->same += all[i] == all[i - 1];
	free(all);
	k->n = n;
	return 0;
}

/* What was learnt from keys that are nobody's: nothing, so all must be -ENOENT. */
static long guess(int fd, u64 n, u64 near)
{
	struct rpal_request req;
	struct rpal_peer peer;
	long learnt = 0;
	u64 i, key;

	for (i = 0; i < n; i++) {
		/* First those that differ in one bit, and its neighbours. */
		key = i < 64 ? near ^ 1UL << i : i < 128 ? near + i - 95 : 0;
		if (i >= 128)
			key = (u64)test_random() << 32 | test_random();
		if (key == near)
			continue;
		learnt += test_request(fd, key, &req) != -ENOENT || req.id || req.state;
		learnt += test_release(fd, key, &req) != -ENOENT || req.id || req.state;
		learnt += test_peer(fd, key, 0, &peer) != -ENOENT || peer.id || peer.base;
	}
	return learnt;
}

static int set_caps(u64 caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ caps, caps, 0 },
		{ caps >> 32, caps >> 32, 0 },
	};

	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

/* Also makes it one that may be looked into, which a change of ids has undone. */
static int set_ids(uid_t uid, uid_t saved, gid_t gid, u64 caps)
{
	if (prctl(PR_SET_KEEPCAPS, 1) || setresgid(gid, gid, gid) || setresuid(uid, uid, saved))
		return -errno;
	return set_caps(caps) ?: prctl(PR_SET_DUMPABLE, 1) ? -errno : 0;
}

/* ioctl() with one command is refused, by a filter that nobody can take off. */
static int filter_ioctl(u32 cmd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, cmd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ECONNRESET),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) ? -errno : 0;
}

/* Becomes a set-user-id program that has the file of what it was. */
static int run_setuid(int fd)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	if (fcntl(fd, F_SETFD, 0))
		return -errno;
	setenv("RPAL_TEST_ROLE", "setuid", 1);
	setenv("RPAL_TEST_ARG", number, 1);
	execl(SETUID_COPY, SETUID_COPY, NULL);
	return -errno;
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	switch (c->op) {
	case OP_EVERY:
		every_op(c, r);
		break;
	case OP_SEND_FD:
		r->ret = test_pass_fd(TEST_FD_PEER, c->a[0]);
		break;
	case OP_RECV_FD:
		r->ret = test_pass_fd(TEST_FD_PEER, -1);
		break;
	case OP_KEYS:
		r->ret = many_keys(c->a[0], c->a[1], (struct keys *)r->buf);
		break;
	case OP_GUESS:
		r->ret = guess(c->a[0], c->a[1], c->a[2]);
		break;
	case OP_IDS:
		r->ret = set_ids(c->a[0], c->a[1], c->a[2], c->a[3]);
		break;
	case OP_CAPS:
		r->ret = set_caps(c->a[0]);
		break;
	case OP_FILTER:
		r->ret = filter_ioctl(c->a[0]);
		break;
	case OP_RUN_SETUID:
		r->ret = run_setuid(c->a[0]);
		break;
	}
}

/* What has become of a puppet in OP_RUN_SETUID: tells of the file, and stays. */
static int setuid_role(void)
{
	struct every e;

	every_command(atoi(test_arg), &e);
	test_send_u64(TEST_FD_DRIVER, geteuid());
	test_send(TEST_FD_DRIVER, &e, sizeof(e));
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

/* --------------------------------------------------------------- in the driver */

static void start(struct puppet *p, uid_t uid)
{
	struct test_spawn s = { .group = "consent", .uid = uid };

	errno = puppet_start(p, &s);
	MUST(!errno);
	CHECK_IS(puppet_register(p), 0);
}

static void end(struct puppet *p)
{
	CHECK_IS(puppet_end(p), 0);
}

/* Asks, and takes it back; 0 or why not. */
static int may(struct puppet *a, struct puppet *b)
{
	int e = puppet_request(a, b->key, NULL);

	if (!e)
		CHECK_IS(puppet_release(a, b->key, NULL), 0);
	return e;
}

/* Both ask; the link that comes of it, if it does, is ended again. */
static bool can_link(struct puppet *a, struct puppet *b)
{
	bool linked;

	puppet_request(a, b->key, NULL);
	puppet_request(b, a->key, NULL);
	linked = puppet_state(a, b) == LINKED;
	CHECK(linked == (puppet_state(b, a) == LINKED), "only one thinks so");
	puppet_release(a, b->key, NULL);
	return linked;
}

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* ------------------------------------------------------------------- users */

static void users(void)
{
	struct puppet root, a, b, c;
	struct rpal_request req = { .size = sizeof(req), .id = 77, .state = 77 };
	struct rpal_peer peer;

	start(&root, 0);
	start(&a, USER);
	start(&b, USER);
	start(&c, OTHER);

	test_begin("another user's service is refused, and nothing is told of it");
	req.key = c.key;
	CHECK_IS(puppet_ioctl(&a, a.fd, RPAL_IOC_REQUEST, &req, sizeof(req)), -EACCES);
	CHECK(req.id == 77 && req.state == 77, "id %u, state %u", req.id, req.state);
	CHECK_IS(puppet_request(&c, a.key, NULL), -EACCES);
	CHECK_IS(puppet_peer(&a, c.key, 0, &peer), -ENOENT);
	CHECK_IS(puppet_release(&a, c.key, NULL), -ENOENT);
	CHECK(!can_link(&a, &c), "linked");
	CHECK(!can_link(&a, &root), "linked with root");
	CHECK(can_link(&a, &b), "the same user");
	test_end();

	test_begin("who is asked for is not told where the other's memory is");
	CHECK_IS(puppet_request(&root, a.key, NULL), 0);
	CHECK(puppet_sys(&root, SYS_mmap, 0, 257 * 1024, PROT_READ | PROT_WRITE, MAP_SHARED,
			 root.fd, 0) > 0,
	      "mmap");
	CHECK_IS(puppet_peer(&a, root.key, 0, &peer), 0);
	CHECK(peer.state == RPAL_LINK_WANTED && !peer.area, "state %x area %llx", peer.state,
	      peer.area);
	CHECK_IS(puppet_release(&a, root.key, NULL), 0);
	test_end();

	test_begin("a group of its own, a saved user id");
	CHECK_IS(puppet_op(&root, OP_IDS, USER, USER, OTHER, 0), 0);
	CHECK_IS(may(&a, &root), -EACCES);
	end(&root);
	start(&root, 0);
	CHECK_IS(puppet_op(&root, OP_IDS, USER, 0, USER, 0), 0);
	CHECK_IS(may(&a, &root), -EACCES);
	end(&root);
	start(&root, 0);
	CHECK_IS(puppet_op(&root, OP_IDS, USER, USER, USER, 0), 0);
	CHECK_IS(may(&a, &root), 0);
	CHECK(can_link(&root, &a), "who has become that user altogether");
	test_end();

	test_begin("who has just changed its ids is not to be looked into");
	end(&root);
	start(&root, 0);
	CHECK_IS(puppet_sys(&root, SYS_setresgid, USER, USER, USER), 0);
	CHECK_IS(puppet_sys(&root, SYS_setresuid, USER, USER, USER), 0);
	CHECK_IS(may(&a, &root), -EACCES);
	test_end();
	end(&root);
	end(&a);
	end(&b);
	end(&c);
}

static void capabilities(void)
{
	u64 ptrace = 1UL << CAP_SYS_PTRACE;
	struct puppet a, b, user;

	start(&a, 0);
	start(&b, 0);
	start(&user, USER);
	CHECK_IS(puppet_op(&a, OP_IDS, USER, USER, USER, ptrace), 0);
	CHECK_IS(puppet_op(&b, OP_IDS, OTHER, OTHER, OTHER, ptrace), 0);

	test_begin("CAP_SYS_PTRACE stands for the same user");
	CHECK_IS(may(&user, &b), -EACCES);
	CHECK_IS(may(&b, &user), 0);
	CHECK(!can_link(&b, &user), "one-sided");
	CHECK(can_link(&a, &b), "both have it");
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 0), 0);
	CHECK(can_link(&a, &b), "also if one may not be dumped");
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 1), 0);
	test_end();

	test_begin("who can more is not for who can less, of one user");
	CHECK_IS(may(&user, &a), -EACCES);
	CHECK_IS(may(&a, &user), 0);
	CHECK(!can_link(&user, &a), "linked");
	test_end();

	test_begin("CAP_SYS_PTRACE given up");
	CHECK_IS(puppet_op(&a, OP_CAPS, 0, 0, 0, 0), 0);
	CHECK_IS(may(&a, &b), -EACCES);
	CHECK(!can_link(&a, &b), "linked");
	CHECK(can_link(&a, &user), "the same user");
	test_end();
	end(&a);
	end(&b);
	end(&user);
}

/* --------------------------------------------- rights that change in between */

static void changes(void)
{
	struct puppet a, b;

	start(&a, 0);
	start(&b, 0);
	test_begin("a request is void if its peer is another by then");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_sys(&b, SYS_setresgid, OTHER, OTHER, OTHER), 0);
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 1), 0);
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_state(&b, &a), RPAL_LINK_ASKED);
	CHECK_IS(puppet_state(&a, &b), RPAL_LINK_WANTED);
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_state(&a, &b), LINKED);
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	test_end();

	test_begin("a peer that has less power is still the one that was asked for");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_op(&b, OP_CAPS, 1UL << CAP_SYS_PTRACE, 0, 0, 0), 0);
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_state(&a, &b), LINKED);
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	test_end();

	test_begin("a request counts with the rights that its maker had");
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	CHECK_IS(puppet_op(&a, OP_IDS, USER, USER, USER, 0), 0);
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_state(&a, &b), LINKED);
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	CHECK(!can_link(&a, &b), "asked again");
	test_end();
	end(&a);
	end(&b);

	start(&a, USER);
	start(&b, USER);
	test_begin("a link that exists is not asked about again");
	puppet_link(&a, &b);
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_DUMPABLE, 0), 0);
	CHECK_IS(puppet_state(&a, &b), LINKED);
	CHECK_IS(puppet_release(&b, a.key, NULL), 0);
	CHECK(!can_link(&a, &b), "linked again");
	test_end();
	end(&a);
	end(&b);
}

/* ------------------------------------------------- programs with privileges */

static void copy_self(const char *to, int mode)
{
	MUST(!test_copy_file("/proc/self/exe", to, mode));
	/* The umask, and that writing takes bits away. */
	MUST(!chmod(to, mode));
}

static void programs(void)
{
	struct test_spawn s = { .group = "consent", .uid = USER, .path = SETUID_COPY };
	struct puppet a, b;
	struct every e;
	u64 euid, v;
	int err;

	copy_self(SETUID_COPY, 04755);
	copy_self(SECRET_COPY, 0711);
	start(&a, USER);

	test_begin("a set-user-id program is not placed");
	err = puppet_start(&b, &s);
	CHECK(err == EPERM, "errno %d", err);
	test_end();

	test_begin("a program that its user may not read is refused");
	s.path = SECRET_COPY;
	errno = puppet_start(&b, &s);
	MUST(!errno);
	CHECK_IS(puppet_register(&b), 0);
	CHECK_IS(may(&a, &b), -EACCES);
	CHECK_IS(may(&b, &a), 0);
	CHECK(!can_link(&a, &b), "linked");
	end(&b);
	test_end();

	test_begin("a service that becomes a set-user-id program is none any more");
	start(&b, USER);
	puppet_link(&a, &b);
	v = puppet_alloc(&b, 4096, 42);
	{
		struct test_cmd c = { .op = OP_RUN_SETUID, .a = { b.fd } };

		puppet_send(&b, &c);
	}
	euid = test_recv_u64(b.child.sock);
	CHECK(euid == 0, "not root but %lu", euid);
	test_recv(b.child.sock, &e, sizeof(e));
	check_every(&e, DEAD_OWNERS, 0);
	CHECK_IS(puppet_request(&a, b.key, NULL), -ENOENT);
	CHECK(puppet_load(&a, v, &v) == SIGSEGV, "its memory");
	test_send_u64(b.child.sock, 0);
	CHECK_IS(test_wait(b.child.pid), 0);
	close(b.child.sock);
	test_end();
	end(&a);
	unlink(SETUID_COPY);
	unlink(SECRET_COPY);
}

/* -------------------------------------------------------------- containers */

/*
 * User, mount and process namespaces of their own, with a first process that
 * starts puppets in there and hands their sockets out.
 */
struct container {
	pid_t pid;
	int sock;
};

static int container_init(int sock)
{
	struct test_spawn s = { .group = "consent" };
	struct puppet p;
	uid_t uid;

	while (read(sock, &uid, sizeof(uid)) == sizeof(uid)) {
		s.uid = uid;
		errno = puppet_start(&p, &s);
		MUST(!errno);
		test_send(sock, &p, sizeof(p));
		MUST(!test_pass_fd(sock, p.child.sock));
		close(p.child.sock);
	}
	while (wait(NULL) > 0)
		;
	return test_failures() != 0;
}

static void container_enter(int sock, uid_t as)
{
	struct stat st;
	int status;
	pid_t pid;

	if (as) {
		MUST(!stat(TEST_DEV, &st));
		MUST(!setgroups(1, &st.st_gid) && !setgid(as) && !setuid(as));
		MUST(!prctl(PR_SET_DUMPABLE, 1));
	}
	MUST(!unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID));
	test_send_u64(sock, 0);
	test_recv_u64(sock); /* the maps are written */
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		MUST(getpid() == 1);
		status = container_init(sock);
		fflush(stdout);
		_exit(status);
	}
	close(sock);
	status = test_wait(pid);
	_exit(status != 0);
}

static void write_map(pid_t pid, const char *name, const char *map)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	MUST(put(path, map));
}

/* @as: the user who makes it, and is root in it; 0: root, and all are as outside. */
static void container_new(struct container *c, uid_t as)
{
	char map[64] = "0 0 65536";
	int sv[2];

	test_socketpair(sv);
	fflush(stdout);
	c->pid = fork();
	MUST(c->pid >= 0);
	if (!c->pid) {
		close(sv[0]);
		container_enter(sv[1], as);
	}
	close(sv[1]);
	c->sock = sv[0];
	test_recv_u64(c->sock);
	if (as)
		snprintf(map, sizeof(map), "0 %u 1", as);
	write_map(c->pid, "uid_map", map);
	write_map(c->pid, "gid_map", map);
	test_send_u64(c->sock, 0);
}

static void container_start(struct container *c, struct puppet *p, uid_t uid)
{
	test_send(c->sock, &uid, sizeof(uid));
	test_recv(c->sock, p, sizeof(*p));
	p->child.sock = test_pass_fd(c->sock, -1);
	MUST(p->child.sock >= 0);
	CHECK_IS(puppet_register(p), 0);
}

/* Not our child: the container's first process waits for it. */
static void container_stop(struct puppet *p)
{
	struct test_cmd c = { .op = OP_EXIT };

	puppet_send(p, &c);
	close(p->child.sock);
}

static void container_end(struct container *c)
{
	close(c->sock);
	CHECK_IS(test_wait(c->pid), 0);
}

/* The debug kernel is built without. */
static bool have_user_namespaces(void)
{
	return !access("/proc/self/ns/user", F_OK);
}

static void containers(void)
{
	struct puppet out, out_root, in, in2, in_root;
	struct container c;

	if (!have_user_namespaces()) {
		test_begin("containers");
		test_skip_case("no user namespaces in this kernel");
		test_end();
		return;
	}
	start(&out, USER);
	start(&out_root, 0);

	test_begin("a container of root's: the same user ids, and not the same users");
	container_new(&c, 0);
	container_start(&c, &in, USER);
	container_start(&c, &in_root, 0);
	CHECK_IS(may(&out, &in), -EACCES);
	CHECK_IS(may(&in, &out), -EACCES);
	CHECK_IS(may(&in_root, &out), -EACCES);
	CHECK_IS(may(&in_root, &out_root), -EACCES);
	CHECK_IS(may(&out_root, &in), 0);
	CHECK_IS(may(&in, &out_root), -EACCES);
	CHECK(!can_link(&out, &in), "linked");
	CHECK(!can_link(&in_root, &out_root), "linked");
	test_end();

	test_begin("two in one container, as two outside");
	container_start(&c, &in2, USER);
	CHECK_IS(may(&in_root, &in), 0);
	CHECK_IS(may(&in, &in_root), -EACCES);
	CHECK(can_link(&in, &in2), "not linked");
	puppet_link(&in, &in2);
	container_stop(&in);
	container_stop(&in2);
	container_stop(&in_root);
	container_end(&c);
	test_end();

	test_begin("a container of a user's: its maker may look in, nobody may look out");
	container_new(&c, USER);
	container_start(&c, &in, 0);
	container_start(&c, &in2, 0);
	CHECK_IS(may(&out, &in), 0);
	CHECK_IS(may(&in, &out), -EACCES);
	CHECK(!can_link(&out, &in), "linked");
	CHECK(!can_link(&in, &out_root), "linked with root");
	CHECK(can_link(&in, &in2), "not linked");
	container_stop(&in);
	container_stop(&in2);
	container_end(&c);
	test_end();
	end(&out);
	end(&out_root);
}

/* -------------------------------------------------------------------- Yama */

static void yama(void)
{
	struct puppet a, b, root, root2;

	if (!put(YAMA, "1")) {
		test_begin("Yama");
		test_skip_case("no Yama in this kernel");
		test_end();
		return;
	}
	MUST(put(LINK_ATTACH, "1"));
	start(&a, USER);
	start(&b, USER);
	start(&root, 0);
	start(&root2, 0);
	CHECK_IS(puppet_op(&root2, OP_CAPS, 0, 0, 0, 0), 0);

	test_begin("link_attach, Yama 0: as without Yama");
	MUST(put(YAMA, "0"));
	CHECK(can_link(&a, &b), "not linked");
	CHECK(!can_link(&a, &root), "linked with root");
	test_end();

	test_begin("link_attach, Yama 1: who has named the other as its tracer");
	MUST(put(YAMA, "1"));
	CHECK_IS(may(&a, &b), -EACCES);
	CHECK_IS(may(&root, &a), 0);
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_PTRACER, a.child.pid), 0);
	CHECK_IS(may(&a, &b), 0);
	CHECK_IS(may(&b, &a), -EACCES);
	CHECK(!can_link(&a, &b), "one-sided");
	CHECK_IS(puppet_sys(&a, SYS_prctl, PR_SET_PTRACER, -1L), 0);
	CHECK(can_link(&a, &b), "not linked");
	CHECK_IS(puppet_sys(&b, SYS_prctl, PR_SET_PTRACER, 0), 0);
	CHECK(!can_link(&a, &b), "linked after that was taken back");
	test_end();

	test_begin("link_attach, Yama 2: only with CAP_SYS_PTRACE");
	MUST(put(YAMA, "2"));
	CHECK(!can_link(&a, &b), "linked");
	CHECK_IS(may(&root, &a), 0);
	CHECK_IS(may(&root, &root2), 0);
	CHECK_IS(may(&root2, &a), -EACCES);
	CHECK(!can_link(&root, &root2), "one-sided");
	test_end();

	test_begin("link_attach, the scope changes in between");
	MUST(put(YAMA, "0"));
	CHECK_IS(puppet_request(&a, b.key, NULL), 0);
	MUST(put(YAMA, "2"));
	CHECK_IS(puppet_request(&b, a.key, NULL), -EACCES);
	CHECK_IS(puppet_state(&a, &b), RPAL_LINK_ASKED);
	MUST(put(YAMA, "0"));
	CHECK_IS(puppet_request(&b, a.key, NULL), 0);
	CHECK_IS(puppet_state(&a, &b), LINKED);
	test_end();

	test_begin("without link_attach Yama is not asked");
	CHECK_IS(puppet_release(&a, b.key, NULL), 0);
	MUST(put(LINK_ATTACH, "0"));
	MUST(put(YAMA, "2"));
	CHECK(can_link(&a, &b), "not linked");
	test_end();
	MUST(put(YAMA, "0"));
	end(&a);
	end(&b);
	end(&root);
	end(&root2);
}

/* Nothing can be traced in this machine after that. */
static void yama_for_ever(void)
{
	struct puppet a, b;

	start(&a, 0);
	start(&b, 0);
	test_begin("link_attach, Yama 3: nobody, not even with CAP_SYS_PTRACE");
	MUST(put(LINK_ATTACH, "1"));
	if (!put(YAMA, "3")) {
		test_skip_case("no Yama in this kernel");
	} else {
		CHECK_IS(may(&a, &b), -EACCES);
		CHECK(!can_link(&a, &b), "linked");
		MUST(put(LINK_ATTACH, "0"));
		CHECK(can_link(&a, &b), "not linked without link_attach");
	}
	put(LINK_ATTACH, "0");
	test_end();
	end(&a);
	end(&b);
}

/* ----------------------------------------------------------------- seccomp */

static void seccomp(void)
{
	struct puppet a, b;
	u32 state = 0;

	start(&a, USER);
	start(&b, USER);
	test_begin("a seccomp filter is no obstacle to a link, unless it forbids asking");
	CHECK_IS(puppet_op(&a, OP_FILTER, RPAL_IOC_REGISTER, 0, 0, 0), 0);
	CHECK(can_link(&a, &b), "not linked");
	CHECK_IS(puppet_op(&a, OP_FILTER, RPAL_IOC_REQUEST, 0, 0, 0), 0);
	CHECK_IS(puppet_request(&a, b.key, NULL), -ECONNRESET);
	CHECK_IS(puppet_request(&b, a.key, &state), 0);
	CHECK_IS(state, RPAL_LINK_ASKED);
	test_end();
	end(&a);
	end(&b);
}

/* -------------------------------------------------------------------- keys */

#define MANY_KEYS    10000
#define MANY_GUESSES 20000

static void keys(void)
{
	struct test_cmd c = { .op = OP_KEYS };
	struct puppet a, b;
	struct test_res r;
	struct keys *k = (struct keys *)r.buf;
	u64 n = test_patience() > 100 ? MANY_KEYS / 5 : MANY_KEYS;
	long off, far;
	int bit;

	start(&a, USER);
	start(&b, USER);
	test_begin("10,000 keys: none comes twice, each bit is 0 as often as 1");
	CHECK_IS(puppet_unregister(&a), 0);
	c.a[0] = a.fd;
	c.a[1] = n;
	puppet_do(&a, &c, &r);
	CHECK_IS(r.ret, 0);
	CHECK(k->n == n && !k->same, "%lu of %lu came twice", k->same, k->n);
	/* 7 standard deviations, of which each is half the root of n. */
	for (far = 1; far * far < (long)n; far++)
		;
	for (bit = 0; bit < 64; bit++) {
		off = (long)k->set[bit] - (long)n / 2;
		CHECK(labs(off) < far * 7 / 2, "bit %d is set in %u of %lu", bit, k->set[bit], n);
	}
	a.key = k->last;
	test_end();

	test_begin("a wrong key is a wrong key: nothing is learnt from guesses");
	CHECK_IS(puppet_op(&b, OP_GUESS, b.fd, MANY_GUESSES, a.key, 0), 0);
	CHECK_IS(puppet_state(&b, &a), 0);
	/* Nor from one that was right once. */
	CHECK_IS(puppet_unregister(&a), 0);
	CHECK_IS(puppet_request(&b, a.key, NULL), -ENOENT);
	CHECK_IS(puppet_register(&a), 0);
	CHECK(a.key != k->last, "the same key");
	CHECK_IS(puppet_request(&b, k->last, NULL), -ENOENT);
	CHECK(can_link(&a, &b), "not linked");
	test_end();
	end(&a);
	end(&b);
}

/* --------------------------------------------------- files in other hands */

/* Is there a line of this slot in the list of services? */
static bool is_listed(u32 slot)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(SERVICES, "re");

	while (f && fgets(line, sizeof(line), f))
		found |= strtoul(line, NULL, 10) == slot && line[0] != 's';
	if (f)
		fclose(f);
	return found;
}

static void check_op_every(struct puppet *p, int fd, int how, enum hands whose, u32 slot)
{
	struct test_cmd c = { .op = OP_EVERY, .a = { fd, how } };
	struct test_res r;

	puppet_do(p, &c, &r);
	CHECK_IS(r.ret, 0);
	check_every((struct every *)r.buf, whose, slot);
}

static int register_on(struct puppet *p, int fd)
{
	struct test_cmd c = { .op = OP_REGISTER, .a = { fd } };
	struct test_res r;

	puppet_do(p, &c, &r);
	return r.ret;
}

/* There is something to be read, by whom it is for. */
static void make_notice(struct puppet *a)
{
	struct puppet c;

	start(&c, USER);
	puppet_link(a, &c);
	CHECK_IS(puppet_release(&c, a->key, NULL), 0);
	end(&c);
}

static void hands(void)
{
	struct test_spawn s = { .group = "consent", .uid = USER };
	struct pollfd pfd = { .events = POLLIN };
	struct puppet a, b, d;
	struct every e;
	int sv[2], fd, mine;

	test_socketpair(sv);
	s.peer = sv[0];
	MUST(!puppet_start(&a, &s));
	s.peer = sv[1];
	MUST(!puppet_start(&b, &s));
	CHECK_IS(puppet_register(&a), 0);
	start(&d, USER);
	/* To the other puppet, and to us. */
	CHECK_IS(puppet_op(&a, OP_SEND_FD, a.fd, 0, 0, 0), 0);
	fd = puppet_op(&b, OP_RECV_FD, 0, 0, 0, 0);
	CHECK_IS(puppet_op(&a, OP_SEND_FD, a.fd, 0, 0, 0), 0);
	mine = test_pass_fd(sv[1], -1);
	CHECK(fd > 0 && mine > 0, "%d, %d", fd, mine);
	close(sv[0]);
	close(sv[1]);
	make_notice(&a);

	test_begin("every command on another's service: placed, unplaced, child");
	check_op_every(&b, fd, HERE, ANOTHERS, b.self.slot);
	every_command(mine, &e);
	check_every(&e, ANOTHERS, 0);
	check_op_every(&a, a.fd, IN_CHILD, ANOTHERS, 0);
	check_op_every(&a, a.fd, IN_SHARING_CHILD, ANOTHERS, a.self.slot);
	CHECK_IS(register_on(&b, fd), -EBUSY);
	/* The notice is still there for its owner. */
	CHECK(puppet_sys(&a, SYS_read, a.fd, a.buf, 64) == sizeof(struct rpal_notice), "read");
	test_end();

	test_begin("who closes another's file ends nothing");
	CHECK_IS(puppet_sys(&b, SYS_close, fd), 0);
	CHECK(can_link(&a, &d), "ended");
	test_end();

	test_begin("a file that is kept keeps nothing of its service alive");
	make_notice(&a);
	pfd.fd = mine;
	CHECK(poll(&pfd, 1, 0) == 1 && pfd.revents == POLLIN, "%x", pfd.revents);
	CHECK(is_listed(a.self.slot), "not listed");
	end(&b);
	end(&a);
	CHECK_IS(puppet_request(&d, a.key, NULL), -ENOENT);
	CHECK(!is_listed(a.self.slot), "listed");
	CHECK(poll(&pfd, 1, 0) == 1 && pfd.revents == POLLERR, "%x", pfd.revents);
	every_command(mine, &e);
	check_every(&e, DEAD_OWNERS, 0);
	end(&d);
	/* No space, no hook; the module itself stays, as for any open file. */
	CHECK_IS(test_wait_users_gone(test_patience()), 0);
	CHECK_IS(test_file_number(REFCOUNT), 1);
	close(mine);
	CHECK_IS(test_file_number(REFCOUNT), 0);
	test_end();

	test_begin("a file whose service has ended can be another's");
	test_socketpair(sv);
	s.peer = sv[0];
	MUST(!puppet_start(&a, &s));
	s.peer = sv[1];
	MUST(!puppet_start(&b, &s));
	close(sv[0]);
	close(sv[1]);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_op(&a, OP_SEND_FD, a.fd, 0, 0, 0), 0);
	fd = puppet_op(&b, OP_RECV_FD, 0, 0, 0, 0);
	CHECK_IS(puppet_unregister(&a), 0);
	CHECK_IS(register_on(&b, fd), 0);
	check_op_every(&a, a.fd, HERE, ANOTHERS, a.self.slot);
	end(&a);
	CHECK_IS(puppet_ioctl(&b, fd, RPAL_IOC_UNREGISTER, NULL, 0), 0);
	end(&b);
	test_end();
}

static const struct test_role roles[] = { { "setuid", setuid_role }, {} };

int main(int argc, char **argv)
{
	test_user_op = user_op;
	test_init(argc, argv, roles);
	if (argc > 1 && !strcmp(argv[1], "scope3")) {
		yama_for_ever();
		return test_finish();
	}
	users();
	capabilities();
	changes();
	programs();
	containers();
	yama();
	seccomp();
	keys();
	hands();
	return test_finish();
}
