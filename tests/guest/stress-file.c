// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-file [N]: eight threads of one process do N commands of all kinds, at
 * random, on the same two files of /dev/rpal. One registers while another
 * unregisters, closes the file, links, makes channels or wakes; one thread waits to
 * be called; and another process asks for whatever service there is just then. Every
 * result must be one that is documented, and in the end all must be as in the
 * beginning. Arguments are good ones, so -EFAULT and -E2BIG do not count.
 */
#include "call.h"

#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../../lib/internal.h"

#define RW	   (PROT_READ | PROT_WRITE)
#define NR_THREADS 8
#define NR_FILES   2
#define RECEIVERS  2

/* Not commands. */
#define RPAL_IOC_EXEC _IO(RPAL_IOC_MAGIC, 0xf0)
#define RPAL_IOC_MMAP _IO(RPAL_IOC_MAGIC, 0xf1)
#define RPAL_IOC_READ _IO(RPAL_IOC_MAGIC, 0xf2)

struct shared {
	u64 key;	/* of the last service that was registered */
	u64 friend_key; /* of the other process */
	u32 slot;	/* ours */
	u32 friend_slot;
	u32 stop;
	u32 links; /* seen by the other process */
};

static struct shared *shared;
static unsigned int bad;

/* ------------------------------------------------------------------- results */

static const struct {
	unsigned int cmd;
	int err;
} documented[] = {
#define HERE(cmd, err)		 { RPAL_IOC_##cmd, err },
#define THERE(cmd, err, program) HERE(cmd, err)
#define NOWHERE(cmd, err, why)	 HERE(cmd, err)
#include "documented.h"
};

/* How often each command was done, and was refused. */
static unsigned int done[256], refused[256];
/* Of who has registered last. */
static u32 last_tid;

static bool is_documented(unsigned int cmd, int err)
{
	size_t i;

	if (err == EFAULT || err == E2BIG)
		return false;
	for (i = 0; i < ARRAY_SIZE(documented); i++)
		if (documented[i].cmd == cmd && documented[i].err == err)
			return true;
	return false;
}

static int judge(unsigned int cmd, int err)
{
	if (!err) {
		__atomic_fetch_add(&done[_IOC_NR(cmd)], 1, __ATOMIC_RELAXED);
		return 0;
	}
	__atomic_fetch_add(&refused[_IOC_NR(cmd)], 1, __ATOMIC_RELAXED);
	if (!CHECK(is_documented(cmd, err), "command %x gives %s", cmd, strerror(err)))
		__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	return err;
}

static int issue(int fd, unsigned int cmd, void *arg)
{
	return judge(cmd, ioctl(fd, cmd, arg) ? errno : 0);
}

/* ---------------------------------------------------------------- the friend */

/* Asks for the service that is there, and gives it up. */
static int friend_role(void)
{
	struct rpal_register reg;
	struct rpal_request r;
	struct rpal_self self;
	struct rpal_notice notices[8];
	int fd = test_open();

	shared = test_shared_map(PAGE, TEST_FD_SHARED);
	MUST(!test_self(fd, &self) && !test_register(fd, &reg));
	MUST(!fcntl(fd, F_SETFL, O_NONBLOCK));
	shared->friend_slot = self.slot;
	__atomic_store_n(&shared->friend_key, reg.key, __ATOMIC_RELEASE);
	test_seed(2);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
		r = (struct rpal_request){ .size = sizeof(r), .key = shared->key };
		if (!issue(fd, RPAL_IOC_REQUEST, &r) && (r.state & RPAL_LINK_LINKED))
			shared->links++;
		if (test_random() % 4 == 0)
			usleep(test_random() % 2000);
		issue(fd, RPAL_IOC_RELEASE, &r);
		while (read(fd, notices, sizeof(notices)) > 0)
			;
	}
	return bad != 0;
}

/* --------------------------------------------------------------- the threads */

static int files[NR_FILES];
static int sockets[2];
static unsigned int rounds;

struct worker {
	pthread_t thread;
	unsigned int nr;
	unsigned int random;
	int channel;
	struct rpal_block *block;
};

static unsigned int draw(struct worker *w, unsigned int n)
{
	w->random = w->random * 1103515245 + 12345;
	return (w->random >> 16) % n;
}

static const struct tramp *tramp(void)
{
	return test_have_pkeys() ? &rpal_tramp_pk : &rpal_tramp_nopk;
}

static void do_register(struct worker *w, int fd)
{
	struct rpal_register r = { .size = sizeof(r), .nr_receivers = RECEIVERS };

	(void)w;
	r.ranges = tramp()->ranges;
	if (!issue(fd, RPAL_IOC_REGISTER, &r))
		shared->key = r.key;
}

static void do_unregister(struct worker *w, int fd)
{
	/* Now and then, so that others find it. */
	if (draw(w, 3) == 0)
		issue(fd, RPAL_IOC_UNREGISTER, NULL);
}

static void do_request(struct worker *w, int fd)
{
	struct rpal_request r = { .size = sizeof(r), .key = shared->friend_key };

	(void)w;
	issue(fd, RPAL_IOC_REQUEST, &r);
}

static void do_release(struct worker *w, int fd)
{
	struct rpal_request r = { .size = sizeof(r), .key = shared->friend_key };

	(void)w;
	issue(fd, RPAL_IOC_RELEASE, &r);
}

static void do_peer(struct worker *w, int fd)
{
	struct rpal_peer p = { .size = sizeof(p) };

	if (draw(w, 2))
		p.key = shared->friend_key;
	else
		p.id = shared->friend_slot;
	issue(fd, RPAL_IOC_PEER, &p);
}

/*
 * One thread alone is a receiver: so the first block is nobody else's, whatever
 * becomes of the service. That of a sender may be another's when it looks.
 */
static void do_thread(struct worker *w, int fd)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };

	if (!w->nr)
		t.flags = RPAL_THREAD_RECEIVER;
	if (issue(fd, RPAL_IOC_THREAD, &t))
		return;
	if (!w->nr)
		w->block = (struct rpal_block *)t.block;
	__atomic_store_n(&last_tid, t.tid, __ATOMIC_RELAXED);
}

static void do_thread_exit(struct worker *w, int fd)
{
	(void)w;
	issue(fd, RPAL_IOC_THREAD_EXIT, NULL);
}

static void do_wait(struct worker *w, int fd)
{
	struct tramp_in in = {
		.pkru = pkru_read(),
		.dev = fd,
		.wait = { .size = sizeof(in.wait),
			  .fd = -1,
			  .timeout_ns = draw(w, 2) * draw(w, 2000) * 1000 },
	};
	long ret;

	/* Others have no block that is theirs alone, and are refused in time. */
	if (!w->block) {
		in.wait.fd = 1000;
		issue(fd, RPAL_IOC_WAIT, &in.wait);
		return;
	}
	ret = tramp()->wait(w->block, &in);
	judge(RPAL_IOC_WAIT, ret <= -4000 ? 0 : -ret);
}

static void do_reply(struct worker *w, int fd)
{
	struct rpal_reply r = { .size = sizeof(r) };

	(void)w;
	issue(fd, RPAL_IOC_AWAIT_REPLY, &r);
}

static u32 some_tid(struct worker *w)
{
	if (draw(w, 2))
		return __atomic_load_n(&last_tid, __ATOMIC_RELAXED);
	return RPAL_TID(shared->slot, draw(w, RECEIVERS + NR_THREADS));
}

static void do_wake(struct worker *w, int fd)
{
	struct rpal_wake k = { .size = sizeof(k), .tid = some_tid(w) };

	issue(fd, RPAL_IOC_WAKE, &k);
}

static void do_deadline(struct worker *w, int fd)
{
	struct rpal_deadline d = { .size = sizeof(d), .tid = some_tid(w) };

	issue(fd, RPAL_IOC_DEADLINE, &d);
}

static void do_await(struct worker *w, int fd)
{
	struct rpal_await a = { .size = sizeof(a),
				.id = shared->friend_slot,
				.timeout_ns = draw(w, 100000) };

	issue(fd, RPAL_IOC_AWAIT, &a);
}

static void do_peer_fd(struct worker *w, int fd)
{
	struct rpal_peer_fd p = { .size = sizeof(p),
				  .id = shared->friend_slot,
				  .fd = sockets[draw(w, 2)] };

	issue(fd, RPAL_IOC_PEER_FD, &p);
}

static void do_peer_of(struct worker *w, int fd)
{
	struct rpal_peer_of p = { .size = sizeof(p), .fd = sockets[draw(w, 2)] };

	issue(fd, RPAL_IOC_PEER_OF, &p);
}

static void do_watch(struct worker *w, int fd)
{
	struct rpal_watch a = { .size = sizeof(a), .fd = draw(w, 3) ? sockets[0] : -1 };

	issue(fd, RPAL_IOC_WATCH, &a);
}

static void do_channel(struct worker *w, int fd)
{
	struct rpal_channel c = { .size = sizeof(c), .service = fd };

	if (w->channel >= 0 && draw(w, 2)) {
		close(w->channel);
		w->channel = -1;
	}
	if (w->channel < 0)
		w->channel = test_open();
	issue(w->channel, RPAL_IOC_CHANNEL, &c);
}

static void do_notify(struct worker *w, int fd)
{
	struct rpal_notify n = { .size = sizeof(n),
				 .id = shared->slot,
				 .number = 1 + draw(w, NR_THREADS) };

	issue(fd, RPAL_IOC_NOTIFY, &n);
}

static void do_query(struct worker *w, int fd)
{
	struct rpal_query q = { .size = sizeof(q) };

	(void)w;
	issue(fd, RPAL_IOC_QUERY, &q);
}

static void do_self(struct worker *w, int fd)
{
	struct rpal_self s = { .size = sizeof(s) };

	(void)w;
	issue(fd, RPAL_IOC_SELF, &s);
}

static void do_place(struct worker *w, int fd)
{
	struct rpal_place p = { .size = sizeof(p) };

	(void)w;
	if (!test_have_pkeys())
		p.flags = RPAL_PLACE_NO_PKEYS;
	issue(fd, RPAL_IOC_PLACE, &p);
}

/* A file, or a channel of the thread's own. */
static void do_read(struct worker *w, int fd)
{
	struct rpal_notice n[4];
	struct pollfd p = { .fd = draw(w, 2) && w->channel >= 0 ? w->channel : fd,
			    .events = POLLIN };

	poll(&p, 1, 0);
	judge(RPAL_IOC_READ, read(p.fd, n, sizeof(n)) < 0 ? errno : 0);
}

static void do_mmap(struct worker *w, int fd)
{
	void *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);

	(void)w;
	judge(RPAL_IOC_MMAP, p == MAP_FAILED ? errno : 0);
}

static int open_file(void)
{
	int fd = test_open();

	MUST(fd >= 0 && !fcntl(fd, F_SETFL, O_NONBLOCK));
	return fd;
}

/* The number is always that of a file, while others are in commands on the last. */
static void do_replace(struct worker *w, int fd)
{
	int new;

	/* The first one owns the area, and would go on without a number. */
	if (fd == files[0] || draw(w, 4))
		return;
	new = open_file();
	MUST(dup2(new, fd) == fd);
	close(new);
}

static void (*const operations[])(struct worker *w, int fd) = {
	do_register, do_register, do_unregister, do_request, do_release,     do_peer,	 do_thread,
	do_thread,   do_thread,	  do_wait,	 do_wait,    do_thread_exit, do_reply,	 do_wake,
	do_deadline, do_await,	  do_peer_fd,	 do_peer_of, do_watch,	     do_channel, do_notify,
	do_query,    do_self,	  do_place,	 do_read,    do_mmap,	     do_replace,
};

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned int i;

	for (i = 0; i < rounds; i++)
		operations[draw(w, ARRAY_SIZE(operations))](w, files[draw(w, NR_FILES)]);
	return NULL;
}

/* All as in the beginning: a service, a link, a thread. */
static void in_order(void)
{
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = RECEIVERS };
	struct rpal_request r = { .size = sizeof(r), .key = shared->friend_key };
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_RECEIVER };
	struct rpal_self self;
	int i;

	reg.ranges = tramp()->ranges;
	for (i = 0; i < NR_FILES; i++)
		ioctl(files[i], RPAL_IOC_UNREGISTER, NULL);
	MUST(!test_self(files[0], &self));
	CHECK(self.state == RPAL_SELF_PLACED, "state %x", self.state);
	for (i = 0; i < NR_FILES; i++) {
		CHECK_IS(ioctl(files[i], RPAL_IOC_REGISTER, &reg), 0);
		CHECK_IS(ioctl(files[i], RPAL_IOC_REQUEST, &r), 0);
		CHECK_IS(ioctl(files[i], RPAL_IOC_THREAD, &t), 0);
		CHECK_IS(t.tid, RPAL_TID(self.slot, 0));
		CHECK_IS(ioctl(files[i], RPAL_IOC_THREAD_EXIT, NULL), 0);
		CHECK_IS(ioctl(files[i], RPAL_IOC_UNREGISTER, NULL), 0);
	}
}

static void all_happened(void)
{
	static const unsigned int once[] = {
		RPAL_IOC_REGISTER, RPAL_IOC_UNREGISTER,	 RPAL_IOC_REQUEST, RPAL_IOC_RELEASE,
		RPAL_IOC_THREAD,   RPAL_IOC_THREAD_EXIT, RPAL_IOC_WAIT,	   RPAL_IOC_WAKE,
		RPAL_IOC_DEADLINE, RPAL_IOC_CHANNEL,	 RPAL_IOC_NOTIFY,  RPAL_IOC_WATCH,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(once); i++) {
		unsigned int nr = _IOC_NR(once[i]);

		CHECK(done[nr], "command %x was never done", nr);
		CHECK(refused[nr], "command %x was never refused", nr);
	}
	CHECK(shared->links, "there was never a link");
}

static int worker_role(void)
{
	struct worker workers[NR_THREADS];
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = RECEIVERS };
	struct rpal_self self;
	unsigned int i;

	shared = test_shared_map(PAGE, TEST_FD_SHARED);
	rounds = (strtoul(test_arg, NULL, 0) + NR_THREADS - 1) / NR_THREADS;
	for (i = 0; i < NR_FILES; i++)
		files[i] = open_file();
	MUST(!test_self(files[0], &self));
	shared->slot = self.slot;
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	reg.ranges = tramp()->ranges;
	MUST(!ioctl(files[0], RPAL_IOC_REGISTER, &reg));
	/* It stays the area of all services that there are going to be. */
	MUST(mmap(NULL, reg.area_size, RW, MAP_SHARED, files[0], 0) != MAP_FAILED);
	for (i = 0; i < NR_THREADS; i++) {
		workers[i] = (struct worker){ .nr = i, .random = i + 1, .channel = -1 };
		MUST(!pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	in_order();
	all_happened();
	return bad != 0;
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "friend", friend_role },
					  { "worker", worker_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "friend", .group = "file" };
	unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	struct test_child friend, worker;
	char arg[32];
	int status;

	/* Registered threads have none, and nobody is there to turn it off. */
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	test_init(argc, argv, roles);
	shared = test_shared_new(PAGE, &s.shared);
	errno = test_spawn(&friend, &s);
	MUST(!errno);
	while (!__atomic_load_n(&shared->friend_key, __ATOMIC_ACQUIRE))
		usleep(1000);
	snprintf(arg, sizeof(arg), "%lu", n);
	s.role = "worker";
	s.arg = arg;
	errno = test_spawn(&worker, &s);
	MUST(!errno);
	MUST(waitpid(worker.pid, &status, 0) == worker.pid);
	CHECK(!status, "worker: %s", test_status(status));
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
	status = test_wait(friend.pid);
	CHECK(!status, "friend: %s", test_status(status));
	printf("stress: name=file n=%lu bad=%d links=%u\n", n, test_failures() != 0, shared->links);
	return test_finish();
}
