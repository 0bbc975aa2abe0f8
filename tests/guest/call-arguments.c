// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Bad arguments: each command of /dev/rpal gets one that is good, and the same with
 * one thing wrong at a time: its size, its address, a flag, a reserved field, the
 * file, the process, what it names. Whatever comes back must be documented, and at
 * the end every documented error must have come (documented.h).
 *
 * One process does it, placed, with the kernel's interface alone; the trampolines of
 * the library are used for what cannot be done from C, to wait and to be called.
 */
#include "call.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "../../lib/internal.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF	     0
#define PR_SYS_DISPATCH_ON	     1
#endif

#define RW     (PROT_READ | PROT_WRITE)
#define ANON   (MAP_PRIVATE | MAP_ANONYMOUS)
#define ENABLE "/sys/module/rpal/parameters/enable"
#define MAGIC  RPAL_IOC_MAGIC
#define RSEQ   0x53053053 /* a signature; any will do */

/* No commands, but they have documented errors. */
#define RPAL_IOC_EXEC _IO(MAGIC, 0xf0)
#define RPAL_IOC_MMAP _IO(MAGIC, 0xf1)
#define RPAL_IOC_READ _IO(MAGIC, 0xf2)

/* -------------------------------------------------------- what is documented */

static struct pair {
	const char *name;
	unsigned int cmd;
	int err;
	bool here;
	bool seen;
} pairs[] = {
#define HERE(cmd, err)		 { #cmd " " #err, RPAL_IOC_##cmd, err, true, false },
#define THERE(cmd, err, program) { #cmd " " #err, RPAL_IOC_##cmd, err, false, false },
#define NOWHERE(cmd, err, why)	 THERE(cmd, err, why)
#include "documented.h"
};

/* The size in a command's number does not count. */
static bool same_command(unsigned int a, unsigned int b)
{
	return !((a ^ b) & ~IOCSIZE_MASK);
}

static int note(unsigned int cmd, int err)
{
	size_t i;

	if (!err)
		return 0;
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (same_command(pairs[i].cmd, cmd) && pairs[i].err == err) {
			pairs[i].seen = true;
			return err;
		}
	}
	CHECK(false, "command %x gives %s, which is not documented", cmd, strerror(err));
	return err;
}

static void all_seen(void)
{
	size_t i;

	test_begin("each documented error has come");
	for (i = 0; i < ARRAY_SIZE(pairs); i++)
		CHECK(pairs[i].seen || !pairs[i].here, "never: %s", pairs[i].name);
	test_end();
}

/* ------------------------------------------------------------------ commands */

static int file;	 /* the service's */
static int fresh;	 /* nobody's */
static int channel = -1; /* a channel while one is needed */
static const struct tramp *tramp;
static void *area;
static size_t area_size;
static struct rpal_block *own; /* the block of this thread, when it has one */
static u32 own_tid;
static struct puppet peer;     /* linked with us */
static struct puppet stranger; /* a service that nobody has asked for */
static u32 peer_tid, stranger_tid;

static long raw_ioctl(int fd, unsigned long cmd, const void *arg)
{
	return syscall(SYS_ioctl, fd, cmd, arg) < 0 ? -errno : 0;
}

/* What the trampolines are to pass on in place of their own, to wait. */
static __thread struct {
	bool on;
	int fd;
	unsigned long cmd;
	const void *arg;
} instead;

/* In place of the library's. */
long rpal_tr_ioctl(int fd, unsigned long cmd, void *arg)
{
	if (!instead.on)
		return raw_ioctl(fd, cmd, arg);
	return raw_ioctl(instead.fd, instead.cmd, instead.arg);
}

static struct tramp_in tramp_in(void)
{
	struct tramp_in in = {
		.pkru = pkru_read(),
		.dev = file,
		.wait = { .size = sizeof(in.wait), .fd = -1, .timeout_ns = -1 },
	};

	return in;
}

static long wait_for_call(int fd, unsigned long cmd, const void *arg)
{
	struct tramp_in in = tramp_in();
	long ret;

	instead.fd = fd;
	instead.cmd = cmd;
	instead.arg = arg;
	instead.on = true;
	ret = tramp->wait(own, &in);
	instead.on = false;
	return ret;
}

/* 0 or an errno, which must be a documented one. */
static int issue(int fd, unsigned long cmd, const void *arg)
{
	long ret;

	if (own && same_command(cmd, RPAL_IOC_WAIT))
		ret = wait_for_call(fd, cmd, arg);
	else
		ret = raw_ioctl(fd, cmd, arg);
	/* The ends of a wait that are no errors. */
	return ret <= -4000 ? 0 : note(cmd, -ret);
}

/* ------------------------------------------------------------------- a helper */

/* Another thread of ours, that is called. It makes a system call in each call. */
static struct rpal_block *helper;
static u32 helper_tid;
static int go[2]; /* one byte lets one of its calls end */
static volatile int helper_waits, helper_code;

static void *helper_main(void *unused)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_RECEIVER };
	struct tramp_in in;
	sigset_t all;
	char byte;
	int64_t s;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	MUST(!issue(file, RPAL_IOC_THREAD, &t));
	helper = (struct rpal_block *)t.block;
	in = tramp_in();
	in.flags = RPAL_WAIT_NEWS;
	__atomic_store_n(&helper_tid, t.tid, __ATOMIC_RELEASE);
	for (s = tramp->wait(helper, &in);;) {
		if (!s) {
			MUST(read(go[0], &byte, 1) == 1);
			s = tramp->reply(helper, &in, 0, 42);
			continue;
		}
		helper->news = 0;
		helper_code = s;
		helper_waits++;
		s = tramp->wait(helper, &in);
	}
	return unused;
}

static void wait_until(const char *what, bool (*is)(void))
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (!is()) {
		if (!CHECK(test_now_ns() < end, "never: %s", what))
			return;
		usleep(1000);
	}
}

static bool helper_is_there(void)
{
	return __atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE);
}

static bool helper_can_be_called(void)
{
	return __atomic_load_n(&helper->word, __ATOMIC_ACQUIRE) == RPAL_ST_WAIT;
}

static void start_helper(void)
{
	pthread_t thread;

	MUST(!pipe(go));
	MUST(!pthread_create(&thread, NULL, helper_main, NULL));
	wait_until("the helper", helper_is_there);
}

/*
 * A call whose answer is to be waited for by a command: a deadline that has passed
 * ends the wait in which the kernel puts the caller when it hands its call over.
 */
static void call_helper(void)
{
	struct tramp_ret r = {};
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		wait_until("the helper waits", helper_can_be_called);
		own->deadline = 1;
		r = tramp->call(own, 0, 0, TRAMP_WHAT(0, 0, 0), (u64)helper,
				TRAMP_RIGHTS(pkru_read(), pkru_read()), helper_tid);
		own->deadline = 0;
		if (r.status == RPAL_CALL_LAZY)
			return;
		usleep(1000);
	}
	CHECK(false, "a call of the helper: %ld", r.status);
}

static void let_helper_answer(void)
{
	MUST(write(go[1], "", 1) == 1);
}

/* ------------------------------------------- for each command a good argument */

static u64 peer_word; /* address of the state word of the peer's receiver */

static void need_thread(bool wanted)
{
	struct rpal_thread t = { .size = sizeof(t),
				 .flags = RPAL_THREAD_RECEIVER | RPAL_THREAD_SENDER };

	if (!wanted) {
		raw_ioctl(file, RPAL_IOC_THREAD_EXIT, NULL);
		own = NULL;
		return;
	}
	MUST(!raw_ioctl(file, RPAL_IOC_THREAD, &t));
	own = (struct rpal_block *)t.block;
	own_tid = t.tid;
}

static int good_query(void *arg)
{
	*(struct rpal_query *)arg = (struct rpal_query){ .size = sizeof(struct rpal_query) };
	return fresh;
}

static int good_place(void *arg)
{
	*(struct rpal_place *)arg = (struct rpal_place){ .size = sizeof(struct rpal_place) };
	if (!test_have_pkeys())
		((struct rpal_place *)arg)->flags = RPAL_PLACE_NO_PKEYS;
	return fresh;
}

static int good_self(void *arg)
{
	*(struct rpal_self *)arg = (struct rpal_self){ .size = sizeof(struct rpal_self) };
	return fresh;
}

static int good_register(void *arg)
{
	*(struct rpal_register *)arg = (struct rpal_register){
		.size = sizeof(struct rpal_register),
		.nr_receivers = 2,
		.ranges = tramp->ranges,
	};
	return file;
}

static void undo_register(bool done)
{
	struct rpal_self self = { .size = sizeof(self) };

	if (done)
		MUST(!raw_ioctl(file, RPAL_IOC_UNREGISTER, NULL));
	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	CHECK(!(self.state & RPAL_SELF_REGISTERED), "a service is left behind");
}

static int good_request(void *arg)
{
	*(struct rpal_request *)arg = (struct rpal_request){
		.size = sizeof(struct rpal_request),
		.key = stranger.key,
	};
	return file;
}

static void undo_request(bool done)
{
	struct rpal_request r = { .size = sizeof(r), .key = stranger.key };
	int err = -raw_ioctl(file, RPAL_IOC_RELEASE, &r);

	CHECK(err == (done ? 0 : ENOENT), "what was asked: %s", strerror(err));
}

static int good_release(void *arg)
{
	struct rpal_request r;

	good_request(&r);
	MUST(!raw_ioctl(file, RPAL_IOC_REQUEST, &r));
	return good_request(arg);
}

static void undo_release(bool done)
{
	struct rpal_request r = { .size = sizeof(r), .key = stranger.key };

	/* -EFAULT can come when it is released. */
	(void)done;
	raw_ioctl(file, RPAL_IOC_RELEASE, &r);
}

static int good_peer(void *arg)
{
	*(struct rpal_peer *)arg = (struct rpal_peer){
		.size = sizeof(struct rpal_peer),
		.key = peer.key,
	};
	return file;
}

static int good_thread(void *arg)
{
	need_thread(false);
	*(struct rpal_thread *)arg = (struct rpal_thread){
		.size = sizeof(struct rpal_thread),
		.flags = RPAL_THREAD_RECEIVER | RPAL_THREAD_SENDER,
	};
	return file;
}

static int good_wait(void *arg)
{
	need_thread(true);
	*(struct rpal_wait *)arg = (struct rpal_wait){
		.size = sizeof(struct rpal_wait),
		.fd = -1,
	};
	return file;
}

static bool call_is_open;

static int good_reply(void *arg)
{
	need_thread(true);
	if (!call_is_open) {
		call_helper();
		let_helper_answer();
		call_is_open = true;
	}
	*(struct rpal_reply *)arg = (struct rpal_reply){ .size = sizeof(struct rpal_reply) };
	return file;
}

/* With -EFAULT the answer is lost. */
static void undo_reply(bool done)
{
	struct rpal_reply r = { .size = sizeof(r) };
	int err;

	if (done) {
		call_is_open = false;
		return;
	}
	err = -raw_ioctl(file, RPAL_IOC_AWAIT_REPLY, &r);
	CHECK(!err || err == EINVAL, "the answer: %s", strerror(err));
	CHECK(err || (!r.status && r.result == 42), "%lld, %lld", r.status, r.result);
	call_is_open = false;
}

static int good_deadline(void *arg)
{
	need_thread(true);
	*(struct rpal_deadline *)arg = (struct rpal_deadline){
		.size = sizeof(struct rpal_deadline),
		.tid = own_tid,
	};
	return file;
}

static int good_wake(void *arg)
{
	*(struct rpal_wake *)arg = (struct rpal_wake){
		.size = sizeof(struct rpal_wake),
		.tid = peer_tid,
	};
	return file;
}

static int good_await(void *arg)
{
	MUST(!puppet_store(&peer, peer_word, RPAL_ST_WAIT));
	*(struct rpal_await *)arg = (struct rpal_await){
		.size = sizeof(struct rpal_await),
		.id = peer.self.slot,
		.timeout_ns = test_patience() * 1000000000LL,
	};
	return file;
}

/* The socket by which we command it. */
static int good_peer_fd(void *arg)
{
	*(struct rpal_peer_fd *)arg = (struct rpal_peer_fd){
		.size = sizeof(struct rpal_peer_fd),
		.id = peer.self.slot,
		.fd = peer.child.sock,
	};
	return file;
}

static int good_peer_of(void *arg)
{
	*(struct rpal_peer_of *)arg = (struct rpal_peer_of){
		.size = sizeof(struct rpal_peer_of),
		.fd = peer.child.sock,
	};
	return file;
}

static int good_watch(void *arg)
{
	need_thread(true);
	*(struct rpal_watch *)arg = (struct rpal_watch){
		.size = sizeof(struct rpal_watch),
		.fd = go[0],
	};
	return file;
}

static int good_channel(void *arg)
{
	if (channel >= 0)
		close(channel);
	channel = test_open();
	*(struct rpal_channel *)arg = (struct rpal_channel){
		.size = sizeof(struct rpal_channel),
		.service = file,
	};
	return channel;
}

static void undo_channel(bool done)
{
	struct pollfd p = { .fd = channel };
	bool is_channel = poll(&p, 1, 0) == 0;

	CHECK(is_channel == done, "a channel: %d, not %d", is_channel, done);
}

static int good_notify(void *arg)
{
	struct rpal_channel c;

	MUST(!raw_ioctl(good_channel(&c), RPAL_IOC_CHANNEL, &c));
	*(struct rpal_notify *)arg = (struct rpal_notify){
		.size = sizeof(struct rpal_notify),
		.id = RPAL_TID_SERVICE(helper_tid),
		.number = c.number,
	};
	return file;
}

/*
 * flags are those that are known. Undo puts things in order after a command that was
 * done or not.
 */
struct subject {
	const char *name;
	unsigned long cmd;
	size_t size;
	u32 flags;
	size_t reserved;
	int (*good)(void *arg);
	void (*undo)(bool done);
};

#define SUBJECT(NAME, type, ...)                                                                \
	{                                                                                       \
		.name = #NAME, .cmd = RPAL_IOC_##NAME, .size = sizeof(struct type), __VA_ARGS__ \
	}
#define RESERVED(type) .reserved = offsetof(struct type, reserved)

enum {
	QUERY,
	PLACE,
	SELF,
	REGISTER,
	REQUEST,
	RELEASE,
	PEER,
	THREAD,
	WAIT,
	AWAIT_REPLY,
	WAKE,
	AWAIT,
	DEADLINE,
	PEER_FD,
	WATCH,
	CHANNEL,
	NOTIFY,
	PEER_OF,
};

static const struct subject subjects[] = {
	[QUERY] = SUBJECT(QUERY, rpal_query, .good = good_query),
	[PLACE] = SUBJECT(PLACE, rpal_place, .good = good_place, .flags = RPAL_PLACE_NO_PKEYS),
	[SELF] = SUBJECT(SELF, rpal_self, .good = good_self),
	[REGISTER] = SUBJECT(REGISTER, rpal_register, .good = good_register, .undo = undo_register),
	[REQUEST] = SUBJECT(REQUEST, rpal_request, .good = good_request, .undo = undo_request),
	[RELEASE] = SUBJECT(RELEASE, rpal_request, .good = good_release, .undo = undo_release),
	[PEER] = SUBJECT(PEER, rpal_peer, .good = good_peer),
	[THREAD] = SUBJECT(THREAD, rpal_thread, RESERVED(rpal_thread), .good = good_thread,
			   .flags = RPAL_THREAD_SENDER | RPAL_THREAD_RECEIVER),
	[WAIT] = SUBJECT(WAIT, rpal_wait, RESERVED(rpal_wait), .good = good_wait,
			 .flags = RPAL_WAIT_REPLY | RPAL_WAIT_NEWS),
	[AWAIT_REPLY] = SUBJECT(AWAIT_REPLY, rpal_reply, .good = good_reply, .undo = undo_reply,
				.flags = RPAL_REPLY_DEADLINE),
	[WAKE] = SUBJECT(WAKE, rpal_wake, RESERVED(rpal_wake), .good = good_wake),
	[AWAIT] = SUBJECT(AWAIT, rpal_await, RESERVED(rpal_await), .good = good_await),
	[DEADLINE] =
		SUBJECT(DEADLINE, rpal_deadline, RESERVED(rpal_deadline), .good = good_deadline),
	[PEER_FD] = SUBJECT(PEER_FD, rpal_peer_fd, RESERVED(rpal_peer_fd), .good = good_peer_fd),
	[WATCH] = SUBJECT(WATCH, rpal_watch, RESERVED(rpal_watch), .good = good_watch),
	[CHANNEL] = SUBJECT(CHANNEL, rpal_channel, .good = good_channel, .undo = undo_channel),
	[NOTIFY] = SUBJECT(NOTIFY, rpal_notify, .good = good_notify),
	[PEER_OF] = SUBJECT(PEER_OF, rpal_peer_of, .good = good_peer_of),
};

/* Commands that speak for a service. */
static bool needs_service(const struct subject *s)
{
	return s->cmd != RPAL_IOC_REGISTER && _IOC_NR(s->cmd) >= 0x10;
}

/* ------------------------------------------------------- one thing wrong at once */

/* Room for an argument that is too large. */
static union room {
	u32 word[2048];
	unsigned char byte[8192];
} room __attribute__((aligned(64)));

static int finish(const struct subject *s, int err)
{
	if (s->undo)
		s->undo(!err);
	return err;
}

/* With what is at @arg. */
static int attempt(const struct subject *s, int fd, const void *arg)
{
	return finish(s, issue(fd, s->cmd, arg));
}

#define WANT(s, err, want, fmt, ...)                                                           \
	do {                                                                                   \
		int err_ = (err), want_ = (want);                                              \
		CHECK(err_ == want_, "%s: " fmt ": %d (%s), not %d", (s)->name, ##__VA_ARGS__, \
		      err_, strerror(err_), want_);                                            \
	} while (0)

static int prepare(const struct subject *s)
{
	memset(&room, 0, sizeof(room));
	return s->good(&room);
}

static void is_allowed(const struct subject *s)
{
	int fd = prepare(s);

	WANT(s, attempt(s, fd, &room), 0, "nothing wrong");
}

/* It is refused with @len bytes at @offset changed, and only because of that. */
static void refused(int which, size_t offset, size_t len, u64 value, int want)
{
	const struct subject *s = &subjects[which];
	int fd;

	is_allowed(s);
	fd = prepare(s);
	memcpy(&room.byte[offset], &value, len);
	WANT(s, attempt(s, fd, &room), want, "%lx at %zu", value, offset);
}

#define REFUSED(NAME, type, field, value, want)                                        \
	refused(NAME, offsetof(struct type, field), sizeof(((struct type *)0)->field), \
		(u64)(value), want)

static void sizes(const struct subject *s)
{
	static const u32 too_small[] = { 0, 1, 3, 4, 7 };
	static const u32 too_large[] = { 4097, 8192, 0x7fffffff, 0x80000000, 0xffffffff };
	size_t i, size = s->size;
	int fd, full;

	for (i = 0; i < ARRAY_SIZE(too_small); i++) {
		fd = prepare(s);
		room.word[0] = too_small[i];
		WANT(s, attempt(s, fd, &room), EINVAL, "size %u", too_small[i]);
	}
	for (i = 0; i < ARRAY_SIZE(too_large); i++) {
		fd = prepare(s);
		room.word[0] = too_large[i];
		WANT(s, attempt(s, fd, &room), E2BIG, "size %u", too_large[i]);
	}
	/* Each that is shorter is as good as with zeros, and no more is written. */
	for (i = 8; i < size; i += 4) {
		fd = prepare(s);
		memset(&room.byte[i], 0, size - i);
		full = attempt(s, fd, &room);
		fd = prepare(s);
		memset(&room.byte[i], 0xee, size - i);
		room.word[0] = i;
		WANT(s, attempt(s, fd, &room), full, "size %zu", i);
		CHECK(room.word[0] == i, "%s: size is %u", s->name, room.word[0]);
		CHECK(room.byte[i] == 0xee && room.byte[size - 1] == 0xee, "%s: written behind %zu",
		      s->name, i);
	}
	for (i = size; i <= 4096; i = i < size + 16 ? i + 1 : i * 2) {
		fd = prepare(s);
		room.word[0] = i;
		WANT(s, attempt(s, fd, &room), 0, "size %zu and zeros", i);
		if (i == size)
			continue;
		fd = prepare(s);
		room.word[0] = i;
		room.byte[i - 1] = 1;
		WANT(s, attempt(s, fd, &room), E2BIG, "size %zu and no zeros", i);
	}
	fd = prepare(s);
	room.word[0] = 4096;
	WANT(s, attempt(s, fd, &room), 0, "size 4096 and zeros");
}

static void flags(const struct subject *s)
{
	u32 bit;
	int fd;

	for (bit = 1; bit; bit <<= 1) {
		if (s->flags & bit)
			continue;
		fd = prepare(s);
		room.word[1] |= bit;
		WANT(s, attempt(s, fd, &room), EINVAL, "flag %x", bit);
	}
	for (bit = s->reserved ? 1 : 0; bit; bit <<= 1) {
		fd = prepare(s);
		room.word[s->reserved / 4] = bit;
		WANT(s, attempt(s, fd, &room), EINVAL, "reserved %x", bit);
	}
	is_allowed(s);
}

/* Three pages: the second is ours to change, the third cannot be used. */
static char *pages;

/* The good argument at @at. */
static int at(const struct subject *s, char *where)
{
	int fd = prepare(s);

	memcpy(where, &room, s->size);
	return fd;
}

static void pointers(const struct subject *s)
{
	static const u64 wild[] = { 0,	       8,    0x0000800000000000, 0x8000000000000000,
				    -4096UL,   -8UL, 0xffff888000000000, 0xffffffff81000000,
				    0x7ffff000 };
	char *end = pages + 2 * PAGE;
	bool out = _IOC_DIR(s->cmd) & _IOC_READ;
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(wild); i++) {
		fd = prepare(s);
		WANT(s, attempt(s, fd, (void *)wild[i]), EFAULT, "at %lx", wild[i]);
	}
	fd = prepare(s);
	WANT(s, attempt(s, fd, end), EFAULT, "without rights");

	/* Up to the last byte before what cannot be read, then beyond it. */
	fd = at(s, end - s->size);
	WANT(s, attempt(s, fd, end - s->size), 0, "at the end");
	for (i = 1; i < s->size; i = i * 2 + 1) {
		fd = prepare(s);
		memcpy(end - s->size + i, &room, s->size - i);
		WANT(s, attempt(s, fd, end - s->size + i), EFAULT, "%zu bytes too far", i);
	}
	/* A size that ends before that is fine by itself. */
	fd = prepare(s);
	room.word[0] = 4;
	memcpy(end - 4, &room, 4);
	WANT(s, attempt(s, fd, end - 4), EINVAL, "nothing but a size");

	fd = at(s, pages + PAGE);
	mprotect(pages + PAGE, PAGE, PROT_READ);
	WANT(s, attempt(s, fd, pages + PAGE), out ? EFAULT : 0, "memory to be read");
	mprotect(pages + PAGE, PAGE, RW);
	fd = at(s, pages + PAGE - 8);
	mprotect(pages + PAGE, PAGE, PROT_READ);
	WANT(s, attempt(s, fd, pages + PAGE - 8), out ? EFAULT : 0, "half of it");
	mprotect(pages + PAGE, PAGE, RW);
	fd = at(s, pages + PAGE - 8);
	WANT(s, attempt(s, fd, pages + PAGE - 8), 0, "in two pages");
}

static void peers_memory(const struct subject *s)
{
	u32 saved = pkru_read();
	int fd;

	if (!peer.key || !test_have_pkeys())
		return;
	fd = prepare(s);
	puppet_put(&peer, 0, &room, s->size);
	WANT(s, attempt(s, fd, (void *)peer.buf), 0, "in memory of a peer");
	fd = prepare(s);
	puppet_put(&peer, 0, &room, s->size);
	pkru_write(pkru_with(saved, peer.self.pkey, RIGHTS_NONE));
	WANT(s, attempt(s, fd, (void *)peer.buf), EFAULT, "in closed memory of a peer");
	fd = prepare(s);
	puppet_put(&peer, 0, &room, s->size);
	pkru_write(pkru_with(saved, peer.self.pkey, RIGHTS_READ));
	WANT(s, attempt(s, fd, (void *)peer.buf), _IOC_DIR(s->cmd) & _IOC_READ ? EFAULT : 0,
	     "in memory of a peer that can be read");
	pkru_write(saved);
}

/* In a child that shares our memory, and in one that does not. */
static int in_vfork(int fd, unsigned long cmd, const void *arg)
{
	volatile long ret = 0;
	pid_t pid = vfork();

	if (!pid) {
		ret = raw_ioctl(fd, cmd, arg);
		_exit(0);
	}
	MUST(pid > 0);
	test_wait(pid);
	return note(cmd, -ret);
}

static int in_fork(int fd, unsigned long cmd, const void *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(-raw_ioctl(fd, cmd, arg));
	MUST(pid > 0);
	status = test_wait(pid);
	MUST(WIFEXITED(status));
	return note(cmd, WEXITSTATUS(status));
}

static void files(const struct subject *s)
{
	int other = test_open(), fd, copy;

	if (needs_service(s) && s->cmd != RPAL_IOC_CHANNEL) {
		prepare(s);
		WANT(s, attempt(s, other, &room), ENXIO, "a file without a service");
	}
	if (needs_service(s)) {
		fd = prepare(s);
		WANT(s, finish(s, in_vfork(fd, s->cmd, &room)), EPERM, "a child in our memory");
		fd = prepare(s);
		WANT(s, finish(s, in_fork(fd, s->cmd, &room)), EPERM, "a child");
	}
	/* Which number a file has does not matter, only that it is open. */
	fd = prepare(s);
	copy = dup(fd);
	WANT(s, attempt(s, copy, &room), 0, "another number");
	close(copy);
	prepare(s);
	WANT(s, finish(s, -raw_ioctl(copy, s->cmd, &room)), EBADF, "closed");
	close(other);
}

/* The direction counts, the size does not. */
static void numbers(const struct subject *s)
{
	static const unsigned int dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE,
					     _IOC_READ | _IOC_WRITE };
	static const size_t lens[] = { 0, 1, 4, 8, 64, 4096, 16383 };
	unsigned int dir = _IOC_DIR(s->cmd);
	size_t i, j;
	int fd;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			unsigned long cmd = _IOC(dirs[i], MAGIC, _IOC_NR(s->cmd), lens[j]);

			fd = prepare(s);
			if (dirs[i] == dir)
				WANT(s, finish(s, issue(fd, cmd, &room)), 0, "length %zu", lens[j]);
			else
				WANT(s, finish(s, -raw_ioctl(fd, cmd, &room)), ENOTTY,
				     "direction %u", dirs[i]);
		}
	}
}

static void conventions(int first, int last)
{
	for (; first <= last; first++) {
		const struct subject *s = &subjects[first];

		test_begin("%s: size, flags, pointers, files", s->name);
		is_allowed(s);
		sizes(s);
		flags(s);
		pointers(s);
		peers_memory(s);
		files(s);
		numbers(s);
		is_allowed(s);
		test_end();
	}
}

/* ------------------------------------------------------- errors of their own */

static void set_enabled(bool on)
{
	MUST(test_write_file(ENABLE, on ? "1" : "0"));
}

static void errors_of_place(void)
{
	const struct subject *s = &subjects[PLACE];
	int fd;

	test_begin("PLACE: group");
	is_allowed(s);
	fd = prepare(s);
	memset(&room.byte[offsetof(struct rpal_place, group)], 'x', RPAL_GROUP_LEN);
	WANT(s, attempt(s, fd, &room), EINVAL, "a name that does not end");
	room.byte[offsetof(struct rpal_place, group) + RPAL_GROUP_LEN - 1] = 0;
	WANT(s, attempt(s, fd, &room), 0, "the longest name");
	test_end();

	test_begin("PLACE: switched off");
	is_allowed(s);
	set_enabled(false);
	fd = prepare(s);
	WANT(s, attempt(s, fd, &room), ESHUTDOWN, "off");
	set_enabled(true);
	is_allowed(s);
	test_end();
}

/* In a process that is none, or no longer; and with a good one that is. */
static void errors_of_register(void)
{
	const struct subject *s = &subjects[REGISTER];
	struct rpal_self self = { .size = sizeof(self) };
	size_t i, ranges = offsetof(struct rpal_register, ranges);
	int fd;

	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	test_begin("REGISTER: receivers and ranges");
	REFUSED(REGISTER, rpal_register, nr_receivers, 0, EINVAL);
	REFUSED(REGISTER, rpal_register, nr_receivers, RPAL_MAX_RECEIVERS + 1, EINVAL);
	REFUSED(REGISTER, rpal_register, nr_receivers, -1, EINVAL);
	for (i = 0; i < sizeof(struct rpal_ranges); i += 8) {
		refused(REGISTER, ranges + i, 8, 0, EINVAL);
		refused(REGISTER, ranges + i, 8, self.base - 1, EINVAL);
		refused(REGISTER, ranges + i, 8, self.end + 1, EINVAL);
		refused(REGISTER, ranges + i, 8, -1, EINVAL);
		/* The begins of the four that have an end. */
		if (i < offsetof(struct rpal_ranges, lazy_ip) && !(i & 8))
			refused(REGISTER, ranges + i, 8, self.end - 1, EINVAL);
	}
	test_end();

	test_begin("REGISTER: switched off");
	is_allowed(s);
	set_enabled(false);
	fd = prepare(s);
	WANT(s, attempt(s, fd, &room), ESHUTDOWN, "off");
	set_enabled(true);
	is_allowed(s);
	test_end();

	test_begin("REGISTER: another process");
	is_allowed(s);
	fd = prepare(s);
	WANT(s, in_vfork(fd, s->cmd, &room), EPERM, "a child in our memory");
	WANT(s, in_fork(fd, s->cmd, &room), ENXIO, "a child, which is not placed");
	is_allowed(s);
	test_end();
}

static void become_service(void)
{
	const struct subject *s = &subjects[REGISTER];
	int fd = prepare(s), other = test_open();

	test_begin("REGISTER: twice");
	WANT(s, issue(fd, s->cmd, &room), 0, "once");
	area_size = ((struct rpal_register *)&room)->area_size;
	prepare(s);
	WANT(s, issue(fd, s->cmd, &room), EBUSY, "the same file");
	prepare(s);
	WANT(s, issue(other, s->cmd, &room), EBUSY, "another file");
	/* It still belongs to the first. */
	CHECK_IS(note(RPAL_IOC_UNREGISTER, -raw_ioctl(other, RPAL_IOC_UNREGISTER, NULL)), ENXIO);
	CHECK_IS(in_vfork(fd, RPAL_IOC_UNREGISTER, NULL), EPERM);
	CHECK_IS(in_fork(fd, RPAL_IOC_UNREGISTER, NULL), EPERM);
	CHECK_IS(raw_ioctl(fd, RPAL_IOC_UNREGISTER, NULL), 0);
	CHECK_IS(note(RPAL_IOC_UNREGISTER, -raw_ioctl(fd, RPAL_IOC_UNREGISTER, NULL)), ENXIO);
	prepare(s);
	WANT(s, issue(other, s->cmd, &room), 0, "another file, later");
	CHECK_IS(raw_ioctl(other, RPAL_IOC_UNREGISTER, NULL), 0);
	prepare(s);
	WANT(s, issue(fd, s->cmd, &room), 0, "and again");
	close(other);
	test_end();
}

/* ---------------------------------------------------------------- the area */

/* 0 or an errno; what is mapped goes again if it is not kept. */
static int map(void *addr, size_t len, int prot, int more, int fd, off_t offset, bool keep)
{
	void *p = mmap(addr, len, prot, more, fd, offset);

	if (p == MAP_FAILED)
		return note(RPAL_IOC_MMAP, errno);
	if (keep)
		area = p;
	else
		munmap(p, len);
	return 0;
}

static void map_in_child(bool shared_memory)
{
	volatile int err = 0;
	pid_t pid = shared_memory ? vfork() : fork();
	int status;

	if (!pid) {
		err = mmap(NULL, area_size, RW, MAP_SHARED, file, 0) == MAP_FAILED ? errno : 0;
		_exit(err);
	}
	status = test_wait(pid);
	CHECK_IS(note(RPAL_IOC_MMAP, WEXITSTATUS(status)), EPERM);
}

static void the_area(void)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };
	void *low = (void *)(64UL << 20);

	test_begin("the thread area is mapped whole and once");
	/* Before there is one. */
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), ENXIO);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, 0, false), 0);
	CHECK_IS(map(NULL, area_size, PROT_READ, MAP_SHARED, file, 0, false), 0);
	CHECK_IS(map(NULL, area_size, PROT_NONE, MAP_SHARED, file, 0, false), 0);
	CHECK_IS(map(NULL, area_size - PAGE, RW, MAP_SHARED, file, 0, false), EINVAL);
	CHECK_IS(map(NULL, area_size + PAGE, RW, MAP_SHARED, file, 0, false), EINVAL);
	CHECK_IS(map(NULL, PAGE, RW, MAP_SHARED, file, 0, false), EINVAL);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, PAGE, false), EINVAL);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, 1L << 40, false), EINVAL);
	CHECK_IS(map(NULL, area_size, RW, MAP_PRIVATE, file, 0, false), EINVAL);
	CHECK_IS(map(NULL, area_size, RW | PROT_EXEC, MAP_SHARED, file, 0, false), EINVAL);
	CHECK_IS(map(low, area_size, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0, false), EINVAL);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, fresh, 0, false), ENXIO);
	map_in_child(true);
	map_in_child(false);
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), ENXIO);

	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, 0, true), 0);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, 0, false), EBUSY);
	test_end();

	test_begin("nothing can be done to a part of it");
	CHECK(munmap(area, PAGE) && errno == EINVAL, "errno %d", errno);
	CHECK(munmap(area + area_size - PAGE, PAGE) && errno == EINVAL, "errno %d", errno);
	CHECK(mprotect(area + PAGE, PAGE, PROT_READ) && errno == EINVAL, "errno %d", errno);
	CHECK(mprotect(area, area_size, RW | PROT_EXEC) && errno == EACCES, "errno %d", errno);
	CHECK(mremap(area, area_size, area_size + PAGE, MREMAP_MAYMOVE) == MAP_FAILED, "grown");
	CHECK(mremap(area, area_size, PAGE, 0) == MAP_FAILED, "shrunk");
	CHECK(mremap(area, area_size, area_size, MREMAP_MAYMOVE | MREMAP_FIXED, area + (1 << 30)) ==
		      MAP_FAILED,
	      "moved");
	CHECK(mremap(area, 0, area_size, MREMAP_MAYMOVE) == MAP_FAILED, "doubled");
	CHECK(mmap(area + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED, "replaced");
	CHECK(remap_file_pages(area, PAGE, 0, 1, 0), "other pages");
	need_thread(true);
	CHECK(own->tid == own_tid, "tid %x, not %x", own->tid, own_tid);
	need_thread(false);
	test_end();

	test_begin("it can be mapped again");
	/* All of it replaced by itself. */
	CHECK_IS(map(area, area_size, RW, MAP_SHARED | MAP_FIXED, file, 0, true), 0);
	need_thread(true);
	CHECK(own->tid == own_tid, "tid %x, not %x", own->tid, own_tid);
	need_thread(false);
	CHECK_IS(munmap(area, area_size), 0);
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), ENXIO);
	CHECK_IS(map(NULL, area_size, RW, MAP_SHARED, file, 0, true), 0);
	need_thread(true);
	need_thread(false);
	test_end();
}

/* ------------------------------------------------------------- requests, peers */

static void errors_of_links(void)
{
	struct rpal_self self = { .size = sizeof(self) };

	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	test_begin("REQUEST, RELEASE, PEER: keys and ids");
	REFUSED(REQUEST, rpal_request, key, 0, ENOENT);
	REFUSED(REQUEST, rpal_request, key, stranger.key + 1, ENOENT);
	REFUSED(REQUEST, rpal_request, key, self.key, EINVAL);
	REFUSED(REQUEST, rpal_request, key, peer.key, EALREADY);
	REFUSED(RELEASE, rpal_request, key, 0, ENOENT);
	REFUSED(RELEASE, rpal_request, key, stranger.key + 1, ENOENT);
	REFUSED(RELEASE, rpal_request, key, self.key, ENOENT);
	REFUSED(PEER, rpal_peer, key, peer.key + 1, ENOENT);
	REFUSED(PEER, rpal_peer, key, stranger.key, ENOENT);
	REFUSED(PEER, rpal_peer, key, self.key, ENOENT);
	test_end();

	test_begin("PEER: by id");
	{
		static const u32 nobody[] = { 0, 255, 256, 0x7fffffff, 0xffffffff };
		struct rpal_peer p = { .size = sizeof(p), .id = peer.self.slot };
		size_t i;

		CHECK_IS(issue(file, RPAL_IOC_PEER, &p), 0);
		CHECK(p.key == peer.key, "key %llx", p.key);
		for (i = 0; i < ARRAY_SIZE(nobody); i++) {
			p = (struct rpal_peer){ .size = sizeof(p), .id = nobody[i] };
			CHECK_IS(issue(file, RPAL_IOC_PEER, &p), ENOENT);
		}
		p = (struct rpal_peer){ .size = sizeof(p), .id = self.slot };
		CHECK_IS(issue(file, RPAL_IOC_PEER, &p), ENOENT);
		p = (struct rpal_peer){ .size = sizeof(p), .id = stranger.self.slot };
		CHECK_IS(issue(file, RPAL_IOC_PEER, &p), ENOENT);
	}
	test_end();
}

/* A service whose memory it may not read. */
static void not_allowed(void)
{
	struct test_spawn s = { .group = "arguments", .uid = 1000 };
	struct rpal_self self = { .size = sizeof(self) };
	struct puppet p;

	test_begin("REQUEST: by the rules of ptrace");
	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	errno = puppet_start(&p, &s);
	MUST(!errno);
	CHECK_IS(puppet_register(&p), 0);
	CHECK_IS(note(RPAL_IOC_REQUEST, -puppet_request(&p, self.key, NULL)), EACCES);
	/* One who may is one who can. */
	CHECK_IS(puppet_request(&peer, stranger.key, NULL), 0);
	CHECK_IS(puppet_release(&peer, stranger.key, NULL), 0);
	puppet_kill(&p);
	test_end();
}

static void same_key(void)
{
	struct rpal_self self = { .size = sizeof(self) };
	struct puppet many[40];
	struct rpal_request r;
	size_t n = 0;

	test_begin("REQUEST: the same protection key");
	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	if (!self.pkey) {
		test_skip_case("no protection keys");
		/* Not provoked: for all_seen(). */
		note(RPAL_IOC_REQUEST, ENOTUNIQ);
		test_end();
		return;
	}
	do {
		MUST(n < ARRAY_SIZE(many));
		puppet_new(&many[n], NULL);
	} while (many[n++].self.pkey != self.pkey);
	CHECK_IS(puppet_register(&many[n - 1]), 0);
	r = (struct rpal_request){ .size = sizeof(r), .key = many[n - 1].key };
	CHECK_IS(issue(file, RPAL_IOC_REQUEST, &r), ENOTUNIQ);
	is_allowed(&subjects[REQUEST]);
	while (n)
		puppet_kill(&many[--n]);
	test_end();
}

/* -------------------------------------------------------------------- threads */

static void *third_receiver(void *unused)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_RECEIVER };

	(void)unused;
	/* This one and the helper have both blocks. */
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), ENOSPC);
	t.flags = RPAL_THREAD_SENDER;
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), 0);
	t.flags = RPAL_THREAD_RECEIVER;
	CHECK_IS(issue(file, RPAL_IOC_THREAD, &t), EBUSY);
	/* Who is registered only as a sender does not wait. */
	CHECK_IS(note(RPAL_IOC_WAIT,
		      -raw_ioctl(file, RPAL_IOC_WAIT,
				 &(struct rpal_wait){ .size = sizeof(struct rpal_wait), .fd = -1 })),
		 ENXIO);
	CHECK_IS(issue(file, RPAL_IOC_THREAD_EXIT, NULL), 0);
	return NULL;
}

static void errors_of_thread(void)
{
	static char rseq_area[32] __attribute__((aligned(32)));
	static char allow;
	const struct subject *s = &subjects[THREAD];
	pthread_t thread;
	int fd;

	test_begin("THREAD: roles, blocks");
	REFUSED(THREAD, rpal_thread, flags, 0, EINVAL);
	need_thread(true);
	MUST(!pthread_create(&thread, NULL, third_receiver, NULL));
	pthread_join(thread, NULL);
	test_end();

	test_begin("THREAD: a user of rseq, or of syscall user dispatch");
	is_allowed(s);
	fd = prepare(s);
	MUST(!syscall(SYS_rseq, rseq_area, 32, 0, RSEQ));
	WANT(s, attempt(s, fd, &room), EBUSY, "rseq");
	MUST(!syscall(SYS_rseq, rseq_area, 32, 1, RSEQ));
	is_allowed(s);
	fd = prepare(s);
	MUST(!prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &allow));
	WANT(s, attempt(s, fd, &room), EOPNOTSUPP, "dispatch");
	MUST(!prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0));
	is_allowed(s);
	test_end();

	test_begin("THREAD_EXIT");
	need_thread(true);
	CHECK_IS(note(RPAL_IOC_THREAD_EXIT, -raw_ioctl(fresh, RPAL_IOC_THREAD_EXIT, NULL)), ENXIO);
	CHECK_IS(in_vfork(file, RPAL_IOC_THREAD_EXIT, NULL), EPERM);
	CHECK_IS(in_fork(file, RPAL_IOC_THREAD_EXIT, NULL), EPERM);
	own->callee = RPAL_TID_GUARD;
	CHECK_IS(issue(file, RPAL_IOC_THREAD_EXIT, NULL), EBUSY);
	own->callee = 0;
	CHECK_IS(issue(file, RPAL_IOC_THREAD_EXIT, NULL), 0);
	CHECK_IS(issue(file, RPAL_IOC_THREAD_EXIT, NULL), ENXIO);
	own = NULL;
	test_end();
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void alarms(bool on)
{
	/* Again and again: the first may come too early. */
	struct itimerval t = { .it_value.tv_usec = on ? 50000 : 0, .it_interval.tv_usec = 50000 };
	struct sigaction sa = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &sa, NULL);
	MUST(!setitimer(ITIMER_REAL, &t, NULL));
}

static void without_a_thread(int which)
{
	const struct subject *s = &subjects[which];
	int fd;

	is_allowed(s);
	fd = prepare(s);
	need_thread(false);
	WANT(s, note(s->cmd, -raw_ioctl(fd, s->cmd, &room)), ENXIO, "not registered");
	is_allowed(s);
}

static bool helper_has_waited(void)
{
	return helper_waits;
}

static void errors_of_wait(void)
{
	const struct subject *s = &subjects[WAIT];
	struct rpal_wake wake = { .size = sizeof(wake), .tid = helper_tid };
	int fd;

	test_begin("WAIT: arguments, signals");
	without_a_thread(WAIT);
	REFUSED(WAIT, rpal_wait, fd, -2, EINVAL);
	REFUSED(WAIT, rpal_wait, fd, 0x80000000, EINVAL);
	REFUSED(WAIT, rpal_wait, fd, 900, EBADF);
	REFUSED(WAIT, rpal_wait, fd, 0x7fffffff, EBADF);
	REFUSED(WAIT, rpal_wait, timeout_ns, -2, EINVAL);
	REFUSED(WAIT, rpal_wait, timeout_ns, 1ULL << 63, EINVAL);
	fd = prepare(s);
	((struct rpal_wait *)&room)->timeout_ns = -1;
	alarms(true);
	WANT(s, attempt(s, fd, &room), EINTR, "a signal");
	alarms(false);
	test_end();

	test_begin("WAIT: with a call of its own");
	good_reply(&room);
	fd = prepare(s);
	WANT(s, note(s->cmd, -raw_ioctl(fd, s->cmd, &room)), EINVAL, "a call is open");
	undo_reply(false);
	is_allowed(s);
	test_end();

	test_begin("WAIT: a state word that is nonsense");
	wait_until("the helper waits", helper_can_be_called);
	helper_waits = 0;
	/* Looked at when something is to end the wait. */
	helper->word = 0x55;
	helper->news = RPAL_NEWS_MESSAGE;
	CHECK_IS(issue(file, RPAL_IOC_WAKE, &wake), 0);
	wait_until("the end of the helper's wait", helper_has_waited);
	CHECK_IS(note(RPAL_IOC_WAIT, -helper_code), EPROTO);
	wait_until("the helper waits", helper_can_be_called);
	test_end();
}

static void errors_of_reply(void)
{
	const struct subject *s = &subjects[AWAIT_REPLY];
	struct rpal_reply r = { .size = sizeof(r) };

	test_begin("AWAIT_REPLY");
	/* Who is in a call stays registered, so before. */
	need_thread(false);
	WANT(s, issue(file, s->cmd, &r), ENXIO, "not registered");
	is_allowed(s);
	/* Answered, and so no call. */
	WANT(s, issue(file, s->cmd, &r), EINVAL, "no call");

	call_helper();
	alarms(true);
	WANT(s, issue(file, s->cmd, &r), EINTR, "a signal");
	alarms(false);
	own->deadline = test_now_ns() + 1000000;
	let_helper_answer();
	/* Without the flag there is no deadline. */
	WANT(s, issue(file, s->cmd, &r), 0, "the answer");
	own->deadline = 0;
	CHECK(!r.status && r.result == 42, "%lld, %lld", r.status, r.result);

	call_helper();
	own->deadline = test_now_ns() + 1000000;
	r.flags = RPAL_REPLY_DEADLINE;
	WANT(s, issue(file, s->cmd, &r), ETIMEDOUT, "a deadline");
	own->deadline = 0;
	let_helper_answer();
	r.flags = 0;
	WANT(s, issue(file, s->cmd, &r), EINVAL, "given up");
	is_allowed(s);
	test_end();
}

static void errors_of_names(void)
{
	const u32 nobody[] = { 0,
			       RPAL_TID(peer.self.slot, 5),
			       RPAL_TID(peer.self.slot, 1279),
			       RPAL_TID(peer.self.slot, 1280),
			       RPAL_TID(peer.self.slot, 65535),
			       RPAL_TID(255, 0),
			       RPAL_TID(65535, 0),
			       RPAL_TID_GUARD,
			       stranger_tid };
	const u32 no_service[] = { 0, 255, 256, 65536, 0x80000000, 0xffffffff, stranger.self.slot };
	u32 self = RPAL_TID_SERVICE(helper_tid);
	size_t i;

	test_begin("WAKE, DEADLINE: threads");
	for (i = 0; i < ARRAY_SIZE(nobody); i++) {
		REFUSED(WAKE, rpal_wake, tid, nobody[i], ESRCH);
		REFUSED(DEADLINE, rpal_deadline, tid, nobody[i], ESRCH);
	}
	REFUSED(DEADLINE, rpal_deadline, tid, peer_tid, ESRCH);
	test_end();

	test_begin("AWAIT, PEER_FD, NOTIFY: services");
	for (i = 0; i < ARRAY_SIZE(no_service); i++) {
		REFUSED(AWAIT, rpal_await, id, no_service[i], ESRCH);
		REFUSED(PEER_FD, rpal_peer_fd, id, no_service[i], ESRCH);
		REFUSED(NOTIFY, rpal_notify, id, no_service[i], ESRCH);
	}
	REFUSED(AWAIT, rpal_await, id, self, ESRCH);
	REFUSED(PEER_FD, rpal_peer_fd, id, self, ESRCH);
	REFUSED(NOTIFY, rpal_notify, id, peer.self.slot, ESRCH);
	REFUSED(NOTIFY, rpal_notify, number, 0, ESRCH);
	REFUSED(NOTIFY, rpal_notify, number, 1000, ESRCH);
	REFUSED(NOTIFY, rpal_notify, number, 1025, ESRCH);
	REFUSED(NOTIFY, rpal_notify, number, -1, ESRCH);
	test_end();

	test_begin("AWAIT: time-outs, signals");
	REFUSED(AWAIT, rpal_await, timeout_ns, -2, EINVAL);
	REFUSED(AWAIT, rpal_await, timeout_ns, 1ULL << 63, EINVAL);
	{
		const struct subject *s = &subjects[AWAIT];
		struct rpal_await *arg = (struct rpal_await *)&room;
		int fd = prepare(s);

		MUST(!puppet_store(&peer, peer_word, RPAL_ST_RUNNING));
		arg->timeout_ns = 1000000;
		WANT(s, attempt(s, fd, &room), ETIMEDOUT, "nobody is free");
		arg->timeout_ns = -1;
		alarms(true);
		/* It comes back from time to time. */
		for (i = 0; !issue(fd, s->cmd, &room) && i < 1000; i++)
			;
		alarms(false);
		CHECK(i < 1000, "no signal has ended it");
	}
	is_allowed(&subjects[AWAIT]);
	test_end();
}

/* ------------------------------------------------------------------ descriptors */

static int unix_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	MUST(fd >= 0);
	return fd;
}

/* One that is connected with a listener that does not accept. */
static int not_accepted(int *listener)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a.sun_family) + 16;
	int fd = unix_socket(SOCK_STREAM);

	snprintf(a.sun_path + 1, 16, "arguments-%d", getpid());
	*listener = unix_socket(SOCK_STREAM);
	MUST(!bind(*listener, (struct sockaddr *)&a, len) && !listen(*listener, 1));
	MUST(!connect(fd, (struct sockaddr *)&a, len));
	return fd;
}

static void errors_of_sockets(void)
{
	int inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), alone = unix_socket(SOCK_STREAM);
	int both[2], datagrams[2], listener, fd = not_accepted(&listener), copy;

	MUST(inet >= 0);
	MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams));
	test_begin("PEER_FD");
	REFUSED(PEER_FD, rpal_peer_fd, fd, -1, EBADF);
	REFUSED(PEER_FD, rpal_peer_fd, fd, 900, EBADF);
	REFUSED(PEER_FD, rpal_peer_fd, fd, go[0], ENOTSOCK);
	REFUSED(PEER_FD, rpal_peer_fd, fd, file, ENOTSOCK);
	REFUSED(PEER_FD, rpal_peer_fd, fd, inet, EPROTONOSUPPORT);
	REFUSED(PEER_FD, rpal_peer_fd, fd, datagrams[0], EPROTONOSUPPORT);
	REFUSED(PEER_FD, rpal_peer_fd, fd, alone, ENOTCONN);
	REFUSED(PEER_FD, rpal_peer_fd, fd, listener, ENOTCONN);
	REFUSED(PEER_FD, rpal_peer_fd, fd, fd, EAGAIN);
	REFUSED(PEER_FD, rpal_peer_fd, fd, both[0], EREMOTE);
	is_allowed(&subjects[PEER_FD]);
	copy = puppet_sys(&peer, SYS_dup, TEST_FD_DRIVER);
	CHECK(copy > 0, "dup: %d", copy);
	prepare(&subjects[PEER_FD]);
	WANT(&subjects[PEER_FD], attempt(&subjects[PEER_FD], file, &room), ENOTUNIQ, "two numbers");
	CHECK_IS(puppet_sys(&peer, SYS_close, copy), 0);
	is_allowed(&subjects[PEER_FD]);
	CHECK(((struct rpal_peer_fd *)&room)->peer_fd == TEST_FD_DRIVER, "descriptor %d",
	      ((struct rpal_peer_fd *)&room)->peer_fd);
	test_end();

	test_begin("PEER_OF");
	REFUSED(PEER_OF, rpal_peer_of, fd, -1, EBADF);
	REFUSED(PEER_OF, rpal_peer_of, fd, 900, EBADF);
	REFUSED(PEER_OF, rpal_peer_of, fd, go[0], ENOTSOCK);
	REFUSED(PEER_OF, rpal_peer_of, fd, file, ENOTSOCK);
	REFUSED(PEER_OF, rpal_peer_of, fd, inet, EPROTONOSUPPORT);
	REFUSED(PEER_OF, rpal_peer_of, fd, alone, ENOTCONN);
	test_end();
	close(both[0]);
	close(both[1]);
	close(datagrams[0]);
	close(datagrams[1]);
	close(listener);
	close(fd);
	close(inet);
	close(alone);
}

static void errors_of_watch(void)
{
	int regular = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), two;

	mkdir("/tmp", 0777);
	unlink("/tmp/arguments-fifo");
	MUST(!mkfifo("/tmp/arguments-fifo", 0600));
	/* Open for both it has a queue for readers and one for writers. */
	two = open("/tmp/arguments-fifo", O_RDWR | O_CLOEXEC);
	MUST(regular >= 0 && two >= 0);
	test_begin("WATCH");
	without_a_thread(WATCH);
	REFUSED(WATCH, rpal_watch, fd, -2, EBADF);
	REFUSED(WATCH, rpal_watch, fd, 900, EBADF);
	REFUSED(WATCH, rpal_watch, fd, 0x7fffffff, EBADF);
	REFUSED(WATCH, rpal_watch, fd, regular, EPERM);
	REFUSED(WATCH, rpal_watch, fd, file, EPERM);
	REFUSED(WATCH, rpal_watch, fd, fresh, EPERM);
	REFUSED(WATCH, rpal_watch, fd, two, EOPNOTSUPP);
	CHECK_IS(issue(file, RPAL_IOC_WATCH,
		       &(struct rpal_watch){ .size = sizeof(struct rpal_watch), .fd = -1 }),
		 0);
	unlink("/tmp/arguments-fifo");
	close(two);
	close(regular);
	test_end();
}

#define MAX_CHANNELS 1024

static void errors_of_channel(void)
{
	const struct subject *s = &subjects[CHANNEL];
	struct rlimit limit = { 4096, 4096 };
	struct rpal_channel c = { .size = sizeof(c), .service = file };
	static int many[MAX_CHANNELS + 1];
	int n = 0, err;

	test_begin("CHANNEL");
	REFUSED(CHANNEL, rpal_channel, service, -1, EBADF);
	REFUSED(CHANNEL, rpal_channel, service, 900, EBADF);
	REFUSED(CHANNEL, rpal_channel, service, go[0], EINVAL);
	REFUSED(CHANNEL, rpal_channel, service, fresh, ENXIO);
	is_allowed(s);
	WANT(s, issue(channel, s->cmd, &c), EBUSY, "twice");
	WANT(s, issue(file, s->cmd, &c), EBUSY, "the service itself");
	close(channel);
	channel = -1;
	MUST(!setrlimit(RLIMIT_NOFILE, &limit));
	do {
		many[n] = test_open();
		MUST(many[n] >= 0);
		err = issue(many[n++], s->cmd, &c);
	} while (!err && n <= MAX_CHANNELS);
	WANT(s, err, ENOSPC, "after %d", n - 1);
	CHECK_IS(n, MAX_CHANNELS + 1);
	close(many[0]);
	WANT(s, issue(many[n - 1], s->cmd, &c), 0, "one is free again");
	while (n > 1)
		close(many[--n]);
	is_allowed(s);
	test_end();
}

/* ------------------------------------------------------------------------ read() */

static int read_file(int fd, void *to, size_t len)
{
	ssize_t n = syscall(SYS_read, fd, to, len);

	return n >= 0 ? 0 : note(RPAL_IOC_READ, errno);
}

/* The stranger lets us know that it has gone. */
static void errors_of_read(void)
{
	struct rpal_notice notice[2];
	u64 key = stranger.key;
	struct rpal_self self = { .size = sizeof(self) };

	test_begin("read()");
	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	CHECK_IS(read_file(file, notice, sizeof(notice[0]) - 1), EINVAL);
	CHECK_IS(read_file(file, notice, 0), EINVAL);
	CHECK_IS(read_file(fresh, notice, sizeof(notice)), ENXIO);
	alarms(true);
	CHECK_IS(read_file(file, notice, sizeof(notice)), EINTR);
	alarms(false);
	MUST(!fcntl(file, F_SETFL, O_NONBLOCK));
	CHECK_IS(read_file(file, notice, sizeof(notice)), EAGAIN);
	good_release(&room);
	CHECK_IS(puppet_request(&stranger, self.key, NULL), 0);
	CHECK_IS(puppet_release(&stranger, self.key, NULL), 0);
	CHECK_IS(read_file(file, (void *)8, sizeof(notice)), EFAULT);
	CHECK_IS(read_file(file, pages + 2 * PAGE, sizeof(notice)), EFAULT);
	CHECK_IS(read_file(file, pages + 2 * PAGE - 8, sizeof(notice)), EFAULT);
	/* It is not lost. */
	memset(notice, 0, sizeof(notice));
	CHECK_IS(read_file(file, notice, sizeof(notice)), 0);
	CHECK(notice[0].key == key && notice[0].reason == RPAL_GONE_RELEASED && !notice[1].key,
	      "key %llx reason %u", notice[0].key, notice[0].reason);
	CHECK_IS(read_file(file, notice, sizeof(notice)), EAGAIN);
	test_end();
}

/* ------------------------------------------------------------------------- roles */

/* A service with its area and a receiver. */
static u32 with_receiver(struct puppet *p, u64 *word, bool register_it)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_RECEIVER };
	size_t size = (1 + RPAL_MAX_SENDERS) * RPAL_BLOCK_SIZE;

	size = (size + PAGE - 1) & ~(PAGE - 1);
	if (!p->key)
		MUST(!puppet_register(p));
	if (!register_it)
		return 0;
	MUST((u64)puppet_sys(p, SYS_mmap, 0, size, RW, MAP_SHARED, p->fd, 0) < -4096UL);
	MUST(!puppet_ioctl(p, p->fd, RPAL_IOC_THREAD, &t, sizeof(t)));
	*word = t.block;
	return t.tid;
}

static void link_with_peer(void)
{
	struct rpal_self self = { .size = sizeof(self) };
	struct rpal_request r = { .size = sizeof(r), .key = peer.key };

	MUST(!raw_ioctl(fresh, RPAL_IOC_SELF, &self));
	MUST(!issue(file, RPAL_IOC_REQUEST, &r));
	MUST(!puppet_request(&peer, self.key, NULL));
	pkru_write(pkru_with(pkru_read(), peer.self.pkey, RIGHTS_WRITE));
}

static void new_peers(void)
{
	struct rpal_await await = { .size = sizeof(await) };
	u64 unused;

	test_begin("AWAIT: a service without a receiver");
	puppet_new(&peer, "arguments");
	with_receiver(&peer, NULL, false);
	link_with_peer();
	await.id = peer.self.slot;
	CHECK_IS(issue(file, RPAL_IOC_AWAIT, &await), EPIPE);
	peer_tid = with_receiver(&peer, &peer_word, true);
	is_allowed(&subjects[AWAIT]);
	puppet_new(&stranger, "arguments");
	stranger_tid = with_receiver(&stranger, &unused, true);
	test_end();
}

static int caller_role(void)
{
	tramp = test_have_pkeys() ? &rpal_tramp_pk : &rpal_tramp_nopk;
	file = test_open();
	fresh = test_open();
	pages = mmap(NULL, 3 * PAGE, RW, ANON, -1, 0);
	MUST(file >= 0 && fresh >= 0 && pages != MAP_FAILED);
	MUST(!mprotect(pages + 2 * PAGE, PAGE, PROT_NONE));

	conventions(QUERY, REGISTER);
	errors_of_place();
	errors_of_register();
	become_service();
	the_area();
	start_helper();
	new_peers();
	conventions(QUERY, SELF);
	conventions(REQUEST, PEER_OF);
	errors_of_links();
	not_allowed();
	same_key();
	errors_of_thread();
	errors_of_wait();
	errors_of_reply();
	errors_of_names();
	errors_of_sockets();
	errors_of_watch();
	errors_of_channel();
	errors_of_read();
	all_seen();
	puppet_kill(&peer);
	puppet_kill(&stranger);
	return 0;
}

static const struct test_role roles[] = { { "caller", caller_role }, {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "caller", .group = "arguments" };
	struct test_child c;
	int status;

	/* Registered threads have none, and nobody is there to turn it off. */
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	test_init(argc, argv, roles);
	errno = test_spawn(&c, &s);
	MUST(!errno);
	MUST(waitpid(c.pid, &status, 0) == c.pid);
	CHECK(!status, "%s", test_status(status));
	return test_finish();
}
