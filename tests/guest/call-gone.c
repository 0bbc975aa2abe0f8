// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Peers that have gone: who is told of it, once; and what a dead peer leaves behind
 * in queues and waits holds up nobody.
 */
#include "call.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "../../lib/events.h"
#include "../../lib/internal.h"

#define MANY   60    /* peers that die at once */
#define ENDS   80    /* of one process; more than are collected at a time */
#define TAKERS 3     /* threads that read notices at once */
#define CLAIM  0xffU /* places of a queue */

static int management;

static int ms(void)
{
	return test_patience() * 1000;
}

static uint64_t own_key(void)
{
	uint64_t key = 0;

	MUST(rpal_get_service_key(&key) == RPAL_SUCCESS);
	return key;
}

static bool readable(int fd, int timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout) == 1 && p.revents == POLLIN;
}

/* ------------------------------------------------------ one of many, to be killed */

static int member_role(void)
{
	char path[64];
	uint64_t key;
	int group, sock;

	MUST(sscanf(test_arg, "%d %63s", &group, path) == 2);
	MUST(!setpgid(0, group));
	call_init(1);
	key = own_key();
	/* Those with the client's protection key cannot; they stay, and so does the key. */
	if (rpal_connect(path, ms(), &sock) > 0)
		test_send(sock, &key, sizeof(key));
	for (;;)
		pause();
}

/* ------------------------------------------- a service that comes again and again */

static int again_role(void)
{
	char path[64];
	uint64_t key;
	int n, sock;

	MUST(sscanf(test_arg, "%d %63s", &n, path) == 2);
	while (n--) {
		call_init(1);
		key = own_key();
		if (rpal_connect(path, ms(), &sock) <= 0) {
			printf("connect: %s\n", rpal_last_error());
			return 1;
		}
		test_send(sock, &key, sizeof(key));
		/* It is ready with us. */
		test_recv(sock, &key, 1);
		rpal_exit();
		close(sock);
	}
	return 0;
}

/* ---------------------------------------------------------------------- a talker */

/* What its main thread is told, over the socket to its driver. */
enum { T_ACCEPT, T_RELEASE };

enum { P_KEY, P_SLEEP, P_GETPID, P_WRITE, P_CLAIM, P_NR };

static int talk_sock, talk_peer, talk_epoll;

PROC(p_key)
{
	return own_key();
}

PROC(p_sleep)
{
	*(volatile int *)arg = 1;
	while (pause())
		;
	return 0;
}

PROC(p_pid)
{
	return getpid();
}

/* Messages of one word, until there is no room; how many. */
PROC(p_write)
{
	int64_t most = *(int64_t *)arg, word, n;
	uint64_t handle;

	NEED(!rpal_uds_fdmap_timeout((uint64_t)talk_peer << 32 | talk_sock, &handle, ms()));
	for (n = 0; n < most; n++) {
		word = n;
		word = rpal_write_ptrs(talk_peer, handle, &word, 1);
		if (word == -RPAL_QUEUE_PUT_FAILED)
			break;
		NEED(word == 1);
	}
	return n;
}

/* Begin a message to the caller as the library does, and never finish it. */
PROC(p_claim)
{
	uint64_t *used = arg;

	__atomic_fetch_or(used, (uint64_t)CLAIM << 16, __ATOMIC_SEQ_CST);
	return 0;
}

static void talker_accept(int listener)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };

	talk_peer = rpal_accept(listener, ms(), &talk_sock);
	if (!CHECK(talk_peer > 0, "accept: %d: %s", talk_peer, rpal_last_error()))
		_exit(1);
	MUST(!rpal_epoll_ctl(talk_epoll, EPOLL_CTL_ADD, talk_sock, &ev));
}

static int talker_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_KEY] = p_key,     [P_SLEEP] = p_sleep, [P_GETPID] = p_pid,
		[P_WRITE] = p_write, [P_CLAIM] = p_claim,
	};
	int i, listener, receivers;
	uint64_t key;
	char path[64];

	MUST(sscanf(test_arg, "%d %63s", &receivers, path) == 2);
	for (i = 0; i < P_NR; i++)
		MUST(!rpal_export(i, procs[i], NULL));
	call_init(receivers);
	call_receivers(receivers);
	talk_epoll = epoll_create1(EPOLL_CLOEXEC);
	listener = rpal_listen(path);
	MUST(talk_epoll >= 0 && listener >= 0);
	talker_accept(listener);
	for (;;) {
		switch (test_recv_u64(TEST_FD_DRIVER)) {
		case T_ACCEPT:
			talker_accept(listener);
			break;
		case T_RELEASE:
			key = test_recv_u64(TEST_FD_DRIVER);
			CHECK_IS(rpal_release_service(key), RPAL_SUCCESS);
			break;
		}
		test_send_u64(TEST_FD_DRIVER, 0);
	}
}

/* --------------------------------------------------------------- client: helpers */

static struct test_child start(const char *role, const char *path, int number)
{
	struct test_spawn s = { .role = role };
	struct test_child c;
	char arg[96];

	snprintf(arg, sizeof(arg), "%d %s", number, path);
	s.arg = arg;
	/* Members may have any key; others must have one that is not ours. */
	s.group = strcmp(role, "member") ? "call" : NULL;
	MUST(!test_spawn(&c, &s));
	return c;
}

static void end_child(struct test_child *c)
{
	test_reap(c);
	close(c->sock);
}

/* A service that has linked with us, and its key. */
struct gone_peer {
	int id;
	uint64_t key;
	int told;
};

/* False: it could not. */
static bool accept_peer(int listener, struct gone_peer *p)
{
	int sock;

	*p = (struct gone_peer){};
	p->id = rpal_accept(listener, ms(), &sock);
	if (p->id < 0) {
		CHECK(p->id == -ENOTUNIQ || p->id == -EREMOTEIO, "accept: %d: %s", p->id,
		      rpal_last_error());
		return false;
	}
	test_recv(sock, &p->key, sizeof(p->key));
	test_send(sock, "", 1);
	close(sock);
	return true;
}

static struct gone_peer *find_peer(struct gone_peer *peers, int n, uint64_t key)
{
	while (n--)
		if (peers[n].key == key)
			return &peers[n];
	return NULL;
}

static void take(struct gone_peer *peers, int n, const struct rpal_gone *gone, int reason)
{
	struct gone_peer *p = find_peer(peers, n, gone->key);

	if (!CHECK(p, "somebody else has gone: %d, key %lx", gone->service_id, (long)gone->key))
		return;
	CHECK(p->id == gone->service_id && gone->reason == reason, "id %d, not %d; reason %d",
	      gone->service_id, p->id, gone->reason);
	__atomic_add_fetch(&p->told, 1, __ATOMIC_RELAXED);
}

static void all_told(const struct gone_peer *peers, int n)
{
	int i;

	for (i = 0; i < n; i++)
		CHECK(peers[i].told == 1, "peer %d, service %d: told %d times", i, peers[i].id,
		      peers[i].told);
	CHECK(!readable(management, 0), "there is still something to read");
}

static void one_gone(int id, uint64_t key, int reason)
{
	struct gone_peer p = { .id = id, .key = key };
	struct rpal_gone gone[2];

	CHECK(readable(management, ms() / 2), "nothing is told");
	CHECK_IS(rpal_read_gone(gone, 2), 1);
	take(&p, 1, &gone[0], reason);
	all_told(&p, 1);
}

/* A talker, and a connection to it. */
struct talk {
	struct test_child child;
	char path[64];
	int id;
	int sock;
	uint64_t key;
	uint64_t handle;
};

static void talk_connect(struct talk *t)
{
	int64_t key = 0;

	t->id = rpal_connect(t->path, ms(), &t->sock);
	if (!CHECK(t->id > 0, "connect: %d: %s", t->id, rpal_last_error()))
		_exit(1);
	CHECK_IS(rpal_call(t->id, P_KEY, NULL, 0, &key), 0);
	t->key = key;
}

static void talk_new(struct talk *t, int receivers)
{
	static int n;

	snprintf(t->path, sizeof(t->path), "@call-gone-%d", n++);
	t->child = start("talker", t->path, receivers);
	talk_connect(t);
}

static void talk_add(struct talk *t, int epoll, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = t->sock };

	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, t->sock, &ev), 0);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)t->id << 32 | t->sock, &t->handle, ms()), 0);
}

static void talk_do(struct talk *t, u64 what)
{
	test_send_u64(t->child.sock, what);
	if (what == T_RELEASE)
		test_send_u64(t->child.sock, own_key());
}

static int talk_put(struct talk *t)
{
	int64_t word = 1;

	return rpal_write_ptrs(t->id, t->handle, &word, 1);
}

static int64_t talk_write(struct talk *t, int64_t most)
{
	int64_t r = -1;

	CHECK_IS(rpal_call(t->id, P_WRITE, &most, sizeof(most), &r), 0);
	return r;
}

/* It dies; all that is told of it is read. */
static void talk_kill(struct talk *t)
{
	end_child(&t->child);
	one_gone(t->id, t->key, RPAL_GONE_ENDED);
}

/* ------------------------------------------------------------------ many at once */

static void many_die(void)
{
	struct test_child child[MANY + 16];
	struct gone_peer peers[MANY];
	struct epoll_event ev = { .events = EPOLLIN };
	int listener = rpal_listen("@call-gone-many"), ep = epoll_create1(EPOLL_CLOEXEC);
	int started = 0, linked = 0, left, i, n;
	struct rpal_gone gone[3];
	struct talk other;
	int64_t r;

	test_begin("%d peers die at once, and the reader is slow", MANY);
	MUST(listener >= 0 && ep >= 0);
	talk_new(&other, 1);
	while (linked < MANY && started < (int)ARRAY_SIZE(child)) {
		child[started] = start("member", "@call-gone-many", started ? child[0].pid : 0);
		started++;
		linked += accept_peer(listener, &peers[linked]);
	}
	CHECK_IS(linked, MANY);
	MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, management, &ev));
	CHECK_IS(epoll_wait(ep, &ev, 1, 0), 0);
	MUST(!kill(-child[0].pid, SIGKILL));
	for (left = linked; left > 0; left -= n) {
		CHECK_IS(epoll_wait(ep, &ev, 1, ms()), 1);
		n = rpal_read_gone(gone, 1 + left % 3);
		if (!CHECK(n > 0, "%d are missing, and there is nothing to read: %d", left, n))
			break;
		for (i = 0; i < n; i++)
			take(peers, linked, &gone[i], RPAL_GONE_ENDED);
		usleep(3000);
		CHECK_IS(rpal_call(other.id, P_GETPID, NULL, 0, &r), 0);
	}
	all_told(peers, linked);
	CHECK_IS(epoll_wait(ep, &ev, 1, 0), 0);
	for (i = 0; i < linked; i++)
		CHECK_IS(rpal_call(peers[i].id, P_GETPID, NULL, 0, NULL), -EPIPE);
	for (i = 0; i < started; i++)
		end_child(&child[i]);
	close(listener);
	close(ep);
	talk_kill(&other);
	test_end();
}

struct taker {
	pthread_t thread;
	struct gone_peer *peers;
	volatile int *left;
};

static void *taker_thread(void *arg)
{
	struct taker *t = arg;
	struct rpal_gone gone[4];
	u64 end = test_now_ns() + ms() * 1000000ULL;
	int i, n;

	while (__atomic_load_n(t->left, __ATOMIC_RELAXED) > 0 && test_now_ns() < end) {
		n = rpal_read_gone(gone, ARRAY_SIZE(gone));
		CHECK(n >= 0, "%d", n);
		for (i = 0; i < n; i++)
			take(t->peers, ENDS, &gone[i], RPAL_GONE_ENDED);
		__atomic_sub_fetch(t->left, n, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* A process that was a service so often, and is none any more. */
static void come_and_go(struct gone_peer *peers, int n)
{
	int listener = rpal_listen("@call-gone-again"), i;
	struct test_child c;

	MUST(listener >= 0);
	c = start("again", "@call-gone-again", n);
	for (i = 0; i < n; i++)
		CHECK(accept_peer(listener, &peers[i]), "round %d", i);
	CHECK_IS(test_wait(c.pid), 0);
	close(c.sock);
	close(listener);
}

static void many_takers(void)
{
	struct gone_peer peers[ENDS];
	struct taker t[TAKERS];
	volatile int left = ENDS;
	int i;

	test_begin("%d ends are read by %d threads at once", ENDS, TAKERS);
	come_and_go(peers, ENDS);
	for (i = 0; i < TAKERS; i++) {
		t[i] = (struct taker){ .peers = peers, .left = &left };
		MUST(!pthread_create(&t[i].thread, NULL, taker_thread, &t[i]));
	}
	for (i = 0; i < TAKERS; i++)
		pthread_join(t[i].thread, NULL);
	all_told(peers, ENDS);
	test_end();
}

static void collected(void)
{
	struct gone_peer peers[ENDS];
	struct rpal_gone gone;
	int64_t list = 0;
	int batches = 0;

	test_begin("%d ends are collected", ENDS);
	come_and_go(peers, ENDS);
	while (!rpal_clean_service_start(&list)) {
		batches++;
		while (rpal_clean_service_next(&list, &gone))
			take(peers, ENDS, &gone, RPAL_GONE_ENDED);
		rpal_clean_service_end(&list);
	}
	CHECK_IS(batches, 2);
	all_told(peers, ENDS);
	test_end();
}

/* What cannot be stored is not lost. */
static void bad_reads(void)
{
	struct rpal_notice notice = {};
	struct gone_peer peer;

	test_begin("a notice that cannot be read stays");
	CHECK(read(management, &notice, sizeof(notice)) < 0 && errno == EAGAIN, "errno %d", errno);
	come_and_go(&peer, 1);
	CHECK(read(management, &notice, sizeof(notice) - 1) < 0 && errno == EINVAL, "errno %d",
	      errno);
	CHECK(syscall(SYS_read, management, 16, sizeof(notice)) < 0 && errno == EFAULT, "errno %d",
	      errno);
	one_gone(peer.id, peer.key, RPAL_GONE_ENDED);
	test_end();
}

/* -------------------------------------------------------------- links that return */

static void released(void)
{
	struct rpal_gone gone;
	int64_t list = 0, r = 0;
	struct talk t;

	test_begin("a peer that has released the link");
	talk_new(&t, 1);
	talk_do(&t, T_RELEASE);
	test_recv_u64(t.child.sock);
	one_gone(t.id, t.key, RPAL_GONE_RELEASED);
	CHECK_IS(rpal_call(t.id, P_GETPID, NULL, 0, NULL), -EPIPE);
	close(t.sock);
	test_end();

	test_begin("one that is linked again before it was told of");
	talk_do(&t, T_ACCEPT);
	talk_connect(&t);
	test_recv_u64(t.child.sock);
	talk_do(&t, T_RELEASE);
	test_recv_u64(t.child.sock);
	talk_do(&t, T_ACCEPT);
	close(t.sock);
	talk_connect(&t);
	test_recv_u64(t.child.sock);
	CHECK_IS(rpal_clean_service_start(&list), RPAL_SUCCESS);
	CHECK_IS(rpal_clean_service_next(&list, &gone), 1);
	CHECK(gone.key == t.key && gone.reason == RPAL_GONE_RELEASED, "%d", gone.reason);
	rpal_clean_service_end(&list);
	CHECK_IS(rpal_call(t.id, P_GETPID, NULL, 0, &r), 0);
	CHECK_IS(r, t.child.pid);
	talk_kill(&t);
	close(t.sock);
	test_end();
}

/* ------------------------------------------------------------ who waits for the dead */

static void *timeout_thread(void *arg)
{
	struct call_thread *c = arg;

	c->err = rpal_call_timeout(c->peer->id, c->proc, NULL, 0, NULL, 0, 10 * ms());
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void wait_for_receiver(void)
{
	static volatile int begun;
	struct call_thread in, waits, timed;
	struct call_peer p = {};
	struct talk t;
	int i;

	for (i = 0; i < 5; i++) {
		test_begin("waits for a free receiver of one that dies, %d", i);
		begun = 0;
		talk_new(&t, 1);
		p.id = t.id;
		call_begin(&in, &p, P_SLEEP, (void *)&begun, sizeof(begun));
		CHECK(call_wait_for(&begun, 1), "it does not begin");
		call_begin(&waits, &p, P_GETPID, NULL, 0);
		timed = (struct call_thread){ .peer = &p, .proc = P_GETPID };
		MUST(!pthread_create(&timed.thread, NULL, timeout_thread, &timed));
		usleep(i * 10000);
		CHECK(!waits.done && !timed.done, "they do not wait");
		talk_kill(&t);
		CHECK_IS(call_join(&in), -EPIPE);
		CHECK_IS(call_join(&waits), -EPIPE);
		CHECK_IS(call_join(&timed), -EPIPE);
		close(t.sock);
		test_end();
	}
}

struct waiter {
	pthread_t thread;
	int epoll;
	bool receiver;
	volatile int begun;
	int n;
	struct epoll_event ev[4];
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	if (w->receiver)
		MUST(!rpal_thread_init());
	w->begun = 1;
	w->n = rpal_epoll_wait(w->epoll, w->ev, ARRAY_SIZE(w->ev), ms());
	return NULL;
}

static void wait_begin(struct waiter *w, int epoll, bool receiver)
{
	*w = (struct waiter){ .epoll = epoll, .receiver = receiver };
	MUST(!pthread_create(&w->thread, NULL, waiter_thread, w));
	CHECK(call_wait_for(&w->begun, 1), "it does not begin");
	/* It should sleep; if it does not yet it comes to the same. */
	usleep(20000);
}

static void wait_for_room(bool receiver)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), n, err;
	struct waiter w;
	struct talk t;

	test_begin("waits for room at one that dies: a %s", receiver ? "receiver" : "plain thread");
	talk_new(&t, 1);
	talk_add(&t, ep, EPOLLRPALOUT | EPOLLET);
	for (n = 0; (err = talk_put(&t)) == 1; n++)
		;
	CHECK_IS(err, -RPAL_QUEUE_PUT_FAILED);
	CHECK_IS(n, RPAL_MAX_WORDS);
	wait_begin(&w, ep, receiver);
	talk_kill(&t);
	pthread_join(w.thread, NULL);
	CHECK_IS(w.n, 1);
	CHECK(w.ev[0].events & EPOLLHUP, "events %x", w.ev[0].events);
	CHECK_IS(talk_put(&t), -RPAL_INVAL_SERVICE);
	rpal_close(t.sock);
	rpal_close(ep);
	test_end();
}

/* A wait with nobody alive ends, each time, until the sockets are closed. */
static void only_dead(bool receiver)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), i, n, seen = 0;
	struct epoll_event ev[4];
	struct waiter w;
	struct talk t[2];

	test_begin("waits for messages of the dead: a %s", receiver ? "receiver" : "plain thread");
	for (i = 0; i < 2; i++) {
		talk_new(&t[i], 1);
		talk_add(&t[i], ep, EPOLLIN | EPOLLRPALIN);
	}
	wait_begin(&w, ep, receiver);
	talk_kill(&t[0]);
	pthread_join(w.thread, NULL);
	CHECK_IS(w.n, 1);
	CHECK(w.ev[0].events & EPOLLHUP && w.ev[0].data.fd == t[0].sock, "events %x of %d",
	      w.ev[0].events, w.ev[0].data.fd);
	talk_kill(&t[1]);
	n = rpal_epoll_wait(ep, ev, ARRAY_SIZE(ev), ms());
	for (i = 0; i < n; i++)
		if (ev[i].events & EPOLLHUP)
			seen |= ev[i].data.fd == t[0].sock ? 1 : ev[i].data.fd == t[1].sock ? 2 : 4;
	CHECK(n == 2 && seen == 3, "%d events, %x", n, seen);
	rpal_close(t[0].sock);
	rpal_close(t[1].sock);
	CHECK_IS(rpal_epoll_wait(ep, ev, ARRAY_SIZE(ev), 50), 0);
	rpal_close(ep);
	test_end();
}

/* The management file among others wakes an event loop. */
static void management_wakes(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = management };
	struct waiter w;
	struct talk t;

	test_begin("an event loop hears of who has gone");
	talk_new(&t, 1);
	CHECK_IS(rpal_epoll_ctl(ep, EPOLL_CTL_ADD, management, &ev), 0);
	wait_begin(&w, ep, true);
	end_child(&t.child);
	pthread_join(w.thread, NULL);
	CHECK_IS(w.n, 1);
	CHECK(w.ev[0].events == EPOLLIN && w.ev[0].data.fd == management, "events %x",
	      w.ev[0].events);
	CHECK_IS(rpal_epoll_wait(ep, &ev, 1, 0), 1);
	one_gone(t.id, t.key, RPAL_GONE_ENDED);
	CHECK_IS(rpal_epoll_wait(ep, &ev, 1, 0), 0);
	close(t.sock);
	rpal_close(ep);
	test_end();
}

/* ------------------------------------------------------------- what the dead leave */

/* What a queue holds is read, in order. */
static void read_all(int fd, int64_t n)
{
	int64_t words[RPAL_MAX_WORDS + 1], i;

	CHECK_IS(rpal_read_ptrs(fd, words, ARRAY_SIZE(words)), n);
	for (i = 0; i < n; i++)
		CHECK(words[i] == i, "word %ld is %ld", (long)i, (long)words[i]);
	CHECK_IS(rpal_read_ptrs(fd, words, 1), 0);
}

static void claimed(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), fd, i;
	struct channel *ch;
	struct talk t;

	test_begin("a writer dies between claim and message");
	for (i = 0; i < 3; i++) {
		talk_new(&t, 1);
		talk_add(&t, ep, EPOLLIN | EPOLLRPALIN);
		CHECK_IS(talk_write(&t, 3), 3);
		ch = events_channel(t.sock);
		CHECK(ch, "no queue");
		CHECK_IS(rpal_call_flags(t.id, P_CLAIM, &ch->q->used, 8, NULL,
					 RPAL_CALL_GRANT_WRITE),
			 0);
		/* What it has sent before is there; what it has begun costs room. */
		read_all(t.sock, 3);
		CHECK_IS(talk_write(&t, 100), RPAL_MAX_WORDS - 8);
		talk_kill(&t);
		read_all(t.sock, RPAL_MAX_WORDS - 8);
		fd = t.sock;
		rpal_close(t.sock);
		/* The next one with this number has all of its room. */
		talk_new(&t, 1);
		CHECK_IS(t.sock, fd);
		talk_add(&t, ep, EPOLLIN | EPOLLRPALIN);
		CHECK_IS(talk_write(&t, 100), RPAL_MAX_WORDS);
		read_all(t.sock, RPAL_MAX_WORDS);
		talk_kill(&t);
		rpal_close(t.sock);
	}
	rpal_close(ep);
	test_end();
}

/* It wanted to be told of room, and is not there any more. */
static void wanted_room(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), i;
	struct talk t;

	test_begin("a writer that waits for room dies");
	for (i = 0; i < 3; i++) {
		talk_new(&t, 1);
		talk_add(&t, ep, EPOLLIN | EPOLLRPALIN);
		CHECK_IS(talk_write(&t, 100), RPAL_MAX_WORDS);
		if (i)
			talk_kill(&t);
		else
			end_child(&t.child);
		read_all(t.sock, RPAL_MAX_WORDS);
		if (!i)
			one_gone(t.id, t.key, RPAL_GONE_ENDED);
		rpal_close(t.sock);
	}
	rpal_close(ep);
	test_end();
}

static void unread(void)
{
	struct gone_peer peers[10];

	test_begin("a service ends with notices that nobody has read");
	come_and_go(peers, ARRAY_SIZE(peers));
	rpal_exit();
	management = rpal_init(2, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(management >= 0);
	CHECK(!readable(management, 0), "they are told to the next one");
	test_end();
}

static int client_role(void)
{
	management = rpal_init(8, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(management >= 0);
	many_die();
	many_takers();
	collected();
	bad_reads();
	released();
	wait_for_receiver();
	wait_for_room(true);
	wait_for_room(false);
	only_dead(true);
	only_dead(false);
	management_wakes();
	claimed();
	wanted_room();
	unread();
	return test_failures() != 0;
}

static const struct test_role roles[] = { { "member", member_role },
					  { "again", again_role },
					  { "talker", talker_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
