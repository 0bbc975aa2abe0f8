// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The commands of /dev/rpal with arguments that are right, nearly right, or not
 * at all.
 */
#include "fuzz.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

union argument {
	u32 word[2 * PAGE / 4];
	struct rpal_query query;
	struct rpal_place place;
	struct rpal_self self;
	struct rpal_register reg;
	struct rpal_request request;
	struct rpal_peer peer;
	struct rpal_thread thread;
	struct rpal_wait wait;
	struct rpal_reply reply;
	struct rpal_wake wake;
	struct rpal_await await;
	struct rpal_deadline deadline;
	struct rpal_peer_fd peer_fd;
	struct rpal_peer_of peer_of;
	struct rpal_watch watch;
	struct rpal_channel channel;
	struct rpal_notify notify;
};

volatile int fuzz_service_fd = FUZZ_FD;
volatile u64 fuzz_area_size;
__thread struct rpal_block *fuzz_block;

static __thread union argument arg;
static __thread struct rpal_block no_block;

/* ------------------------------------------------------------------- pools */

int any_file(void)
{
	return one_in(4) ? FUZZ_FD + (int)below(FUZZ_FILES) : fuzz_service_fd;
}

int any_fd(void)
{
	switch (below(12)) {
	case 0:
		return -1;
	case 1:
		return (int)test_random();
	case 2:
		return below(3);
	case 3:
	case 4:
		return any_file();
	default:
		return FUZZ_EPOLL + below(FUZZ_END - FUZZ_EPOLL);
	}
}

u64 any_key(void)
{
	switch (below(16)) {
	case 0:
		return 0;
	case 1:
		return random64();
	case 2:
		return place->key;
	default:
		return any_place()->key;
	}
}

u32 any_id(void)
{
	switch (below(12)) {
	case 0:
		return 0;
	case 1:
		return below(RPAL_MAX_SLOT + 4);
	case 2:
		return test_random();
	case 3:
		return board->good_id[below(2)];
	case 4:
	case 5:
		return place->id;
	default:
		return any_place()->id;
	}
}

u32 any_tid(void)
{
	switch (below(8)) {
	case 0:
		return place->tid;
	case 1:
		return test_random();
	case 2:
		return RPAL_TID(any_id(), test_random());
	case 3:
		return RPAL_TID_GUARD;
	default:
		return RPAL_TID(any_id(), below(8));
	}
}

static int64_t any_timeout(void)
{
	static const int64_t usual[] = { 0, 0, 1, 1000, 100000, 1000000, 5000000, 20000000 };

	switch (below(32)) {
	case 0:
		return -1;
	case 1:
		return (int64_t)random64();
	case 2:
		return INT64_MAX;
	default:
		return PICK(usual);
	}
}

/* ------------------------------------------------------------- well-formed */

static void fill_none(void)
{
}

static void fill_place(void)
{
	static const char *const groups[] = { "", FUZZ_GROUP, "other", "yet another" };

	strcpy((char *)arg.place.group, PICK(groups));
}

static void fill_ranges(struct rpal_ranges *r)
{
	test_ranges(r);
	r->lazy_ip = (u64)fuzz_back;
	r->wait_ip = (u64)fuzz_back;
}

static void fill_register(void)
{
	static const u32 receivers[] = { 1, 2, 4, 8, RPAL_MAX_RECEIVERS };

	arg.reg.nr_receivers = PICK(receivers);
	fill_ranges(&arg.reg.ranges);
}

static void fill_request(void)
{
	arg.request.key = any_key();
}

static void fill_peer(void)
{
	if (one_in(2))
		arg.peer.key = any_key();
	else
		arg.peer.id = any_id();
}

static void fill_thread(void)
{
	/* Mostly those that can be called, too. */
	arg.thread.flags = one_in(4) ? 1 + below(3) : RPAL_THREAD_RECEIVER;
}

static void fill_wait(void)
{
	arg.wait.flags = below(4);
	arg.wait.fd = one_in(2) ? -1 : any_fd();
	arg.wait.timeout_ns = any_timeout();
}

static void fill_wake(void)
{
	arg.wake.tid = any_tid();
}

static void fill_await(void)
{
	arg.await.id = any_id();
	arg.await.timeout_ns = any_timeout();
}

static void fill_peer_fd(void)
{
	arg.peer_fd.id = any_id();
	arg.peer_fd.fd = one_in(2) ? FUZZ_SOCK + (int)below(FUZZ_SOCKS) : any_fd();
}

static void fill_peer_of(void)
{
	arg.peer_of.fd = one_in(2) ? FUZZ_SOCK + (int)below(FUZZ_SOCKS) : any_fd();
}

static void fill_reply(void)
{
	arg.reply.flags = below(2);
}

/* Mostly the own one, now or soon. */
static void fill_deadline(void)
{
	arg.deadline.tid = one_in(4) || !place->tid ? any_tid() : place->tid;
	if (fuzz_block)
		test_store(&fuzz_block->deadline, test_now_ns() + below(3000000));
}

static void fill_watch(void)
{
	arg.watch.fd = any_fd();
}

static void fill_channel(void)
{
	arg.channel.service = one_in(4) ? any_fd() : fuzz_service_fd;
}

static void fill_notify(void)
{
	arg.notify.id = any_id();
	arg.notify.number = one_in(8) ? test_random() : below(6);
}

/* ---------------------------------------------------------------- outcomes */

static void done_none(int fd)
{
	(void)fd;
}

static void done_register(int fd)
{
	fuzz_service_fd = fd;
	fuzz_area_size = arg.reg.area_size;
	place->id = arg.reg.id;
	place->key = arg.reg.key;
}

static void done_unregister(int fd)
{
	(void)fd;
	place->key = 0;
}

static void done_request(int fd)
{
	(void)fd;
	if (arg.request.state & RPAL_LINK_LINKED)
		fuzz_count(&board->links);
}

/* Nobody of theirs has asked for us. */
static bool is_stranger(u32 id)
{
	return id && (id == board->good_id[0] || id == board->good_id[1]);
}

static void done_peer(int fd)
{
	(void)fd;
	/* The address is the kernel's word; that it has returned 0 need not be. */
	if (is_stranger(arg.peer.id) && arg.peer.base == (u64)arg.peer.id << RPAL_SLOT_SHIFT)
		fuzz_bad("was shown service %u", arg.peer.id);
}

static void done_thread(int fd)
{
	(void)fd;
	fuzz_block = (void *)arg.thread.block;
	place->tid = arg.thread.tid;
	if (!place->area) /* the library has mapped it */
		place->area = arg.thread.block - RPAL_TID_INDEX(arg.thread.tid) * RPAL_BLOCK_SIZE;
	fuzz_count(&board->threads);
}

static void done_thread_exit(int fd)
{
	(void)fd;
	fuzz_block = NULL;
}

struct command {
	const char *name;
	u32 cmd;
	void (*fill)(void);
	void (*done)(int fd);
};

static const struct command commands[] = {
	{ "query", RPAL_IOC_QUERY, fill_none, done_none },
	{ "place", RPAL_IOC_PLACE, fill_place, done_none },
	{ "self", RPAL_IOC_SELF, fill_none, done_none },
	{ "adopt", RPAL_IOC_ADOPT, fill_none, done_none },
	{ "register", RPAL_IOC_REGISTER, fill_register, done_register },
	{ "unregister", RPAL_IOC_UNREGISTER, fill_none, done_unregister },
	{ "request", RPAL_IOC_REQUEST, fill_request, done_request },
	{ "release", RPAL_IOC_RELEASE, fill_request, done_none },
	{ "peer", RPAL_IOC_PEER, fill_peer, done_peer },
	{ "thread", RPAL_IOC_THREAD, fill_thread, done_thread },
	{ "thread exit", RPAL_IOC_THREAD_EXIT, fill_none, done_thread_exit },
	{ "wait", RPAL_IOC_WAIT, fill_wait, done_none },
	{ "await reply", RPAL_IOC_AWAIT_REPLY, fill_reply, done_none },
	{ "deadline", RPAL_IOC_DEADLINE, fill_deadline, done_none },
	{ "wake", RPAL_IOC_WAKE, fill_wake, done_none },
	{ "await", RPAL_IOC_AWAIT, fill_await, done_none },
	{ "peer fd", RPAL_IOC_PEER_FD, fill_peer_fd, done_none },
	{ "peer of", RPAL_IOC_PEER_OF, fill_peer_of, done_none },
	{ "watch", RPAL_IOC_WATCH, fill_watch, done_none },
	{ "channel", RPAL_IOC_CHANNEL, fill_channel, done_none },
	{ "notify", RPAL_IOC_NOTIFY, fill_notify, done_none },
};

/* How many of the well-formed ones have been accepted. */
void fuzz_print_commands(void)
{
	size_t i;

	printf("# accepted:");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf(" %s %lu/%lu", commands[i].name, board->done[i], board->tried[i]);
	printf("\n");
}

/* -------------------------------------------------------------- operations */

/* The block may have been unmapped. */
static struct rpal_block *usable_block(void)
{
	u64 v;

	if (fuzz_block && !test_load(&fuzz_block->sp, &v) && !test_store(&fuzz_block->sp, v))
		return fuzz_block;
	return &no_block;
}

long fuzz_ioctl(int fd, u32 cmd, void *p)
{
	/* The library has its own way of coming back. */
	if (fuzz_library && cmd == RPAL_IOC_WAIT && !one_in(64))
		return -1;
	return fuzz_enter(usable_block(), fd, cmd, (u64)p, pkru_read());
}

static void fill(const struct command *c)
{
	memset(&arg, 0, sizeof(arg));
	arg.word[0] = _IOC_SIZE(c->cmd);
	c->fill();
}

static void run(const struct command *c)
{
	int fd = any_file();

	fill(c);
	fuzz_count(&board->tried[c - commands]);
	if (fuzz_ioctl(fd, c->cmd, &arg))
		return;
	fuzz_count(&board->done[c - commands]);
	c->done(fd);
}

static const struct command *find(u32 cmd)
{
	const struct command *c = commands;

	while (c->cmd != cmd)
		c++;
	return c;
}

/* Rarely those that end what the others need. */
static const struct command *any_command(void)
{
	const struct command *c = &PICK(commands);

	if ((c->cmd == RPAL_IOC_UNREGISTER || c->cmd == RPAL_IOC_PLACE) && !one_in(16))
		c = find(RPAL_IOC_REQUEST);
	return c;
}

void op_ioctl(void)
{
	run(any_command());
}

void op_wait(void)
{
	run(find(one_in(2) ? RPAL_IOC_WAIT : RPAL_IOC_AWAIT));
}

void op_link(void)
{
	run(find(RPAL_IOC_REQUEST));
}

static u32 wrong_size(u32 size)
{
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return below(12);
	case 2:
		return size - 1 - below(8);
	case 3:
		return size + 1 + below(64);
	case 4:
		return PAGE;
	case 5:
		return PAGE + 1;
	case 6:
		return ~0U;
	default:
		return test_random();
	}
}

/* One thing, or several. */
static u32 spoil(u32 cmd)
{
	u32 size = _IOC_SIZE(cmd);

	switch (below(8)) {
	case 0:
		arg.word[0] = wrong_size(size);
		break;
	case 1:
		/* Of later versions, and all zero; or not. */
		arg.word[0] = size + 8 * below(16);
		if (one_in(2))
			arg.word[size / 4 + below(32)] = 1;
		break;
	case 2:
		arg.word[1] ^= 1U << below(32);
		break;
	case 3:
	case 4:
		arg.word[2 + below(size / 4 + 1)] = test_random();
		break;
	case 5:
		return cmd ^ below(PAGE) << _IOC_SIZESHIFT;
	case 6:
		return cmd ^ (1 + below(3)) << _IOC_DIRSHIFT;
	default:
		return cmd ^ 1U << below(32);
	}
	return cmd;
}

/* A thread that can be called for a while. */
void fuzz_be_called(u32 times)
{
	fill(find(RPAL_IOC_THREAD));
	arg.thread.flags = RPAL_THREAD_RECEIVER;
	if (fuzz_ioctl(fuzz_service_fd, RPAL_IOC_THREAD, &arg))
		return;
	done_thread(fuzz_service_fd);
	while (times--) {
		fill(find(RPAL_IOC_WAIT));
		arg.wait.timeout_ns = 20000000;
		fuzz_ioctl(fuzz_service_fd, RPAL_IOC_WAIT, &arg);
	}
}

/* Somewhere, where it may be changed, unmapped or not there at all. */
void op_wrong_ioctl(void)
{
	const struct command *c = any_command();
	u64 addr = (u64)&arg;
	int fd = one_in(8) ? any_fd() : any_file();
	u32 cmd = c->cmd;

	fill(c);
	if (one_in(32))
		cmd = test_random();
	else if (!one_in(4))
		cmd = spoil(cmd);
	if (one_in(2)) {
		addr = any_address(sizeof(arg.reg));
		fuzz_put(addr, &arg, _IOC_SIZE(c->cmd) + 8);
	}
	/* Who waits with a wrong context is lost, which is no news. */
	if (!fuzz_ioctl(fd, cmd, (void *)addr) && addr == (u64)&arg && cmd == c->cmd)
		c->done(fd);
	/* Where its block is it must know, or it cannot save its context there. */
	if (c->cmd == RPAL_IOC_THREAD)
		run(c);
}

/* A service as it should be, with this thread registered: what is missing of it. */
void op_service(void)
{
	int fd = place->key ? fuzz_service_fd : FUZZ_FD + (int)below(FUZZ_FILES);
	void *p;

	fill(find(RPAL_IOC_REGISTER));
	if (!fuzz_ioctl(fd, RPAL_IOC_REGISTER, &arg)) {
		fuzz_count(&board->services);
		done_register(fd);
	}
	p = mmap(NULL, fuzz_area_size, PROT_READ | PROT_WRITE, MAP_SHARED, fuzz_service_fd, 0);
	if (p != MAP_FAILED)
		place->area = (u64)p;
	fill(find(RPAL_IOC_THREAD));
	if (!fuzz_ioctl(fuzz_service_fd, RPAL_IOC_THREAD, &arg))
		done_thread(fuzz_service_fd);
}
