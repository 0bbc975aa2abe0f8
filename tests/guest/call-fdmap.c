// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Handles of sockets: what becomes of rpal_uds_fdmap() and of rpal_write_ptrs()
 * when the other end is not ready, has a copy, is elsewhere, was closed, or has
 * died. Each refusal has its number and a sentence that says what is wrong.
 */
#include "call.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { P_LISTEN, P_ACCEPT, P_CTL, P_DUP, P_CLOSE, P_PASS, P_READ, P_NR };

/* What the server is to do, and with what. */
struct order {
	int fd;
	int64_t what;
	struct sockaddr_un at;
	socklen_t len;
};

/* ------------------------------------------------------------------- server */

static int epoll;

PROC(p_listen)
{
	struct order o = *(struct order *)arg;
	int fd = socket(AF_UNIX, o.what | SOCK_CLOEXEC, 0);

	NEED(!bind(fd, (void *)&o.at, o.len) && !listen(fd, 5));
	return fd;
}

PROC(p_accept)
{
	return accept4(((struct order *)arg)->fd, NULL, NULL, SOCK_CLOEXEC);
}

PROC(p_ctl)
{
	struct order o = *(struct order *)arg;
	struct epoll_event ev = { .events = EPOLLRPALIN };

	NEED(!rpal_epoll_ctl(epoll, o.what, o.fd, &ev));
	return 0;
}

PROC(p_dup)
{
	return dup(((struct order *)arg)->fd);
}

/* In the library's way or behind its back. */
PROC(p_close)
{
	struct order o = *(struct order *)arg;

	return o.what ? rpal_close(o.fd) : close(o.fd);
}

/* To the keeper, and it has it. */
PROC(p_pass)
{
	struct order o = *(struct order *)arg;
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &o.fd, sizeof(int));
	NEED(sendmsg(TEST_FD_PEER, &msg, 0) == 1);
	NEED(!rpal_close(o.fd));
	NEED(read(TEST_FD_PEER, &byte, 1) == 1);
	return 0;
}

/* So many words at most, which go on counting where the last ones ended. */
PROC(p_read)
{
	static int64_t last;
	struct order o = *(struct order *)arg;
	int64_t words[RPAL_MAX_WORDS];
	int i, n = rpal_read_ptrs(o.fd, words, o.what);

	for (i = 0; i < n; i++)
		NEED(words[i] == ++last);
	return n;
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_LISTEN] = p_listen, [P_ACCEPT] = p_accept, [P_CTL] = p_ctl,	 [P_DUP] = p_dup,
	[P_CLOSE] = p_close,   [P_PASS] = p_pass,     [P_READ] = p_read,
};

/* Links with one client; releases it when it is told its key. */
static int server_role(void)
{
	int fd, i, sock;
	u64 key;

	for (i = 0; i < P_NR; i++)
		MUST(!rpal_export(i, procs[i], NULL));
	call_init(1);
	call_receivers(1);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	fd = rpal_listen(test_arg);
	MUST(fd >= 0 && rpal_accept(fd, -1, &sock) > 0);
	while (read(TEST_FD_DRIVER, &key, sizeof(key)) == sizeof(key))
		test_send_u64(TEST_FD_DRIVER, rpal_release_service(key));
	return 0;
}

/* Somebody else, to whom a socket is passed: says a word there, and keeps it. */
static int keeper_role(void)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg;
	int fd;

	for (;;) {
		msg = (struct msghdr){ .msg_iov = &iov,
				       .msg_iovlen = 1,
				       .msg_control = control,
				       .msg_controllen = sizeof(control) };
		if (recvmsg(TEST_FD_PEER, &msg, 0) != 1)
			return 0;
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
		MUST(write(fd, "k", 1) == 1 && write(TEST_FD_PEER, "k", 1) == 1);
	}
}

/* ------------------------------------------------------------------- client */

/* A refusal, with its own sentence: none that was said before. */
#define SAYS(expr, want, word)                                                                     \
	do {                                                                                       \
		rpal_uds_fdmap_timeout(0, NULL, 0);                                                \
		CHECK_IS(expr, want);                                                              \
		CHECK(strstr(rpal_last_error(), word), "%s: \"%s\" is not in \"%s\"", #expr, word, \
		      rpal_last_error());                                                          \
	} while (0)

static int management; /* file descriptor */
static struct call_peer server;
static struct test_child keeper;

/* A connection with the server. */
struct conn {
	int sock;
	int fd; /* the server's */
	uint64_t handle;
};

static int64_t ask(int proc, int fd, int64_t what)
{
	struct order o = { .fd = fd, .what = what };

	return call_result(&server, proc, &o, sizeof(o), 0);
}

/* Of our own: another socket, or what is none. */
static int map_of(int id, int fd, int timeout_ms)
{
	uint64_t handle;

	return rpal_uds_fdmap_timeout((uint64_t)(uint32_t)id << 32 | (uint32_t)fd, &handle,
				      timeout_ms);
}

static int map_now(int fd)
{
	return map_of(server.id, fd, 0);
}

static status_t map_upstream(int fd)
{
	uint64_t handle;

	return rpal_uds_fdmap((uint64_t)server.id << 32 | (uint32_t)fd, &handle);
}

static struct order address;

static int listening(int type)
{
	static int n;

	address = (struct order){ .what = type, .at = { .sun_family = AF_UNIX } };
	address.len = offsetof(struct sockaddr_un, sun_path) + 1 +
		      snprintf(address.at.sun_path + 1, sizeof(address.at.sun_path) - 1,
			       "call-fdmap-%d-%d", getpid(), n++);
	return call_result(&server, P_LISTEN, &address, sizeof(address), 0);
}

static int connected(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	MUST(fd >= 0 && !connect(fd, (void *)&address.at, address.len));
	return fd;
}

static void handle_of(struct conn *c)
{
	int err = rpal_uds_fdmap_timeout((uint64_t)server.id << 32 | c->sock, &c->handle, 0);

	CHECK(!err, "%d: %s", err, rpal_last_error());
	CHECK((uint32_t)c->handle == (uint32_t)c->fd, "handle %lx of %d", (unsigned long)c->handle,
	      c->fd);
}

/* Accepted, with a queue and a handle. */
static void open_conn(struct conn *c, int listen_fd)
{
	c->sock = connected(SOCK_STREAM);
	c->fd = ask(P_ACCEPT, listen_fd, 0);
	CHECK_IS(ask(P_CTL, c->fd, EPOLL_CTL_ADD), 0);
	handle_of(c);
}

static void close_conn(struct conn *c)
{
	rpal_close(c->sock);
	CHECK_IS(ask(P_CLOSE, c->fd, 1), 0);
}

static void start_server(void)
{
	static int n;
	struct test_spawn s = { .role = "server", .arg = server.path, .group = "call" };
	struct test_spawn k = { .role = "keeper", .unplaced = true };
	int pair[2];

	test_socketpair(pair);
	snprintf(server.path, sizeof(server.path), "@call-fdmap-%d-server-%d", getpid(), n++);
	s.peer = pair[0];
	k.peer = pair[1];
	MUST(!test_spawn(&keeper, &k));
	MUST(!test_spawn(&server.child, &s));
	close(pair[0]);
	close(pair[1]);
	call_connect(&server);
}

static void end_server(void)
{
	call_peer_end(&server);
	test_reap(&keeper);
}

/* What goes on counting from one message to the next; see p_read(). */
static int64_t counted;

/* The server has as many words as were written since. */
static int put(struct conn *c, int n)
{
	int64_t words[RPAL_MAX_WORDS + 1];
	rpal_delivery_t how = 0;
	int i, ret;

	for (i = 0; i < RPAL_MAX_WORDS + 1; i++)
		words[i] = counted + 1 + i;
	ret = rpal_write_ptrs_ex(server.id, c->handle, words, n, 0, &how);
	if (ret > 0) {
		counted += ret;
		/* It serves, and does not wait for messages. */
		CHECK_IS(how, RPAL_QUEUED);
	}
	return ret;
}

/* -------------------------------------------------------------- rpal_uds_fdmap */

static void not_ready(int type, const char *name)
{
	struct conn c;
	int fd;

	test_begin("a %s socket that the peer has not accepted yet", name);
	fd = listening(type);
	c.sock = connected(type);
	SAYS(map_now(c.sock), -EAGAIN, "not accepted");
	SAYS(map_of(server.id, c.sock, 20), -ETIMEDOUT, "must accept");
	SAYS(rpal_get_peer_rid((uint64_t)server.id << 32 | c.sock), -1, "not accepted");
	if (type == SOCK_STREAM)
		SAYS(map_upstream(c.sock), RPAL_FAILURE, "must accept");
	c.fd = ask(P_ACCEPT, fd, 0);
	CHECK(c.fd >= 0, "accept: %d", c.fd);
	/* It has no queue. */
	SAYS(map_now(c.sock), -EAGAIN, "rpal_epoll_ctl()");
	SAYS(map_of(server.id, c.sock, 20), -ETIMEDOUT, "rpal_epoll_ctl()");
	CHECK_IS(ask(P_CTL, c.fd, EPOLL_CTL_ADD), 0);
	handle_of(&c);
	CHECK_IS(map_upstream(c.sock), RPAL_SUCCESS);
	CHECK_IS(rpal_get_peer_rid((uint64_t)server.id << 32 | c.sock), 0);
	CHECK_IS(put(&c, 3), 3);
	CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 3);
	/* And has none again. */
	CHECK_IS(ask(P_CTL, c.fd, EPOLL_CTL_DEL), 0);
	SAYS(map_now(c.sock), -EAGAIN, "rpal_epoll_ctl()");
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

static void *map_thread(void *arg)
{
	struct conn *c = arg;

	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)server.id << 32 | c->sock, &c->handle, -1), 0);
	return NULL;
}

static void waited_for(void)
{
	int i, fd = listening(SOCK_STREAM);
	pthread_t thread;
	struct conn c;

	test_begin("a connection that becomes ready while it is waited for");
	for (i = 0; i < 20; i++) {
		c = (struct conn){ .sock = connected(SOCK_STREAM) };
		MUST(!pthread_create(&thread, NULL, map_thread, &c));
		usleep(test_random() % 3000);
		c.fd = ask(P_ACCEPT, fd, 0);
		usleep(test_random() % 3000);
		CHECK_IS(ask(P_CTL, c.fd, EPOLL_CTL_ADD), 0);
		pthread_join(thread, NULL);
		CHECK_IS((uint32_t)c.handle, c.fd);
		CHECK_IS(put(&c, 1), 1);
		CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 1);
		close_conn(&c);
	}
	ask(P_CLOSE, fd, 0);
	test_end();
}

static void duplicated(void)
{
	int fd = listening(SOCK_STREAM), copy;
	struct conn c;

	test_begin("an end that the peer has duplicated");
	open_conn(&c, fd);
	copy = ask(P_DUP, c.fd, 0);
	SAYS(map_now(c.sock), -ENOTUNIQ, "duplicated");
	/* That is not waited for: there is time enough for it to be seen. */
	SAYS(map_of(server.id, c.sock, -1), -ENOTUNIQ, "duplicated");
	SAYS(map_upstream(c.sock), RPAL_FAILURE, "duplicated");
	SAYS(rpal_get_peer_rid((uint64_t)server.id << 32 | c.sock), -1, "duplicated");
	/* The handle of before is as good as before. */
	CHECK_IS(put(&c, 2), 2);
	CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 2);
	CHECK_IS(ask(P_CLOSE, copy, 0), 0);
	handle_of(&c);
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

static void elsewhere(void)
{
	int fd = listening(SOCK_STREAM);
	struct conn c;
	char byte = 0;

	test_begin("an end that the peer has passed on, or closed");
	open_conn(&c, fd);
	CHECK_IS(ask(P_PASS, c.fd, 0), 0);
	/* It is open, but not there. */
	CHECK(read(c.sock, &byte, 1) == 1 && byte == 'k', "the keeper has it not");
	SAYS(map_now(c.sock), -EREMOTE, "passed on");
	SAYS(map_of(server.id, c.sock, -1), -EREMOTE, "passed on");
	SAYS(map_upstream(c.sock), RPAL_FAILURE, "passed on");
	SAYS(put(&c, 1), -RPAL_FDE_OUTDATED, "closed");
	rpal_close(c.sock);

	open_conn(&c, fd);
	CHECK_IS(ask(P_CLOSE, c.fd, 1), 0);
	SAYS(map_now(c.sock), -EREMOTE, "closed");
	SAYS(put(&c, 1), -RPAL_FDE_OUTDATED, "closed");
	rpal_close(c.sock);

	/* Nobody will ever accept it. */
	c.sock = connected(SOCK_STREAM);
	CHECK_IS(ask(P_CLOSE, fd, 0), 0);
	SAYS(map_now(c.sock), -EREMOTE, "closed");
	close(c.sock);
	test_end();
}

/* What accept() is about to get has no number yet, and looks the same. */
static void elsewhere_or_coming(void)
{
	int fd = listening(SOCK_STREAM), err, other;
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	struct order o = { .fd = fd };
	struct call_thread accepts;
	struct conn c;
	char byte;

	test_begin("an end that was passed on by a peer that is in accept()");
	open_conn(&c, fd);
	CHECK_IS(ask(P_PASS, c.fd, 0), 0);
	CHECK_IS(read(c.sock, &byte, 1), 1);
	SAYS(map_now(c.sock), -EREMOTE, "passed on");
	call_begin(&accepts, &server, P_ACCEPT, &o, sizeof(o));
	do
		err = map_now(c.sock);
	while (err == -EREMOTE && test_now_ns() < end);
	CHECK_IS(err, -EAGAIN);
	SAYS(map_of(server.id, c.sock, 20), -ETIMEDOUT, "accept");
	other = connected(SOCK_STREAM);
	CHECK_IS(call_join(&accepts), 0);
	SAYS(map_now(c.sock), -EREMOTE, "passed on");
	close(other);
	ask(P_CLOSE, accepts.result, 0);
	rpal_close(c.sock);
	ask(P_CLOSE, fd, 0);
	test_end();
}

static void wrong_sockets(void)
{
	int stream = socket(AF_UNIX, SOCK_STREAM, 0), inet = socket(AF_INET, SOCK_STREAM, 0);
	int event = eventfd(0, 0), null = open("/dev/null", O_RDWR), i;
	int fds[2], types[] = { SOCK_STREAM, SOCK_SEQPACKET };
	struct sockaddr_un any = { .sun_family = AF_UNIX };

	test_begin("descriptors that are no such sockets");
	MUST(stream >= 0 && inet >= 0 && event >= 0 && null >= 0);
	SAYS(map_now(event), -ENOTSOCK, "no socket");
	SAYS(map_now(null), -ENOTSOCK, "no socket");
	SAYS(map_now(inet), -EPROTONOSUPPORT, "Unix");
	SAYS(map_now(stream), -ENOTCONN, "not connected");
	MUST(!bind(stream, (void *)&any, sizeof(sa_family_t)) && !listen(stream, 1));
	SAYS(map_now(stream), -ENOTCONN, "not connected");
	MUST(!pipe(fds));
	SAYS(map_now(fds[0]), -ENOTSOCK, "no socket");
	SAYS(map_of(server.id, fds[1], -1), -ENOTSOCK, "no socket");
	close(fds[0]);
	close(fds[1]);
	SAYS(map_now(fds[0]), -EBADF, "not open");
	SAYS(map_now(-1), -EBADF, "not open");
	SAYS(map_now(1 << 30), -EBADF, "not open");
	SAYS(map_upstream(fds[0]), RPAL_FAILURE, "not open");
	MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
	SAYS(map_now(fds[0]), -EPROTONOSUPPORT, "stream or seqpacket");
	close(fds[0]);
	close(fds[1]);
	for (i = 0; i < 2; i++) {
		MUST(!socketpair(AF_UNIX, types[i], 0, fds));
		SAYS(map_now(fds[0]), -EREMOTE, "another one's");
		close(fds[1]);
		SAYS(map_now(fds[0]), -EREMOTE, "closed");
		close(fds[0]);
	}
	close(stream);
	close(inet);
	close(event);
	close(null);
	test_end();
}

static void wrong_services(void)
{
	static const int none[] = { 0, -1, 255, 99999 };
	int fd = listening(SOCK_STREAM), own = rpal_get_service_id();
	int64_t word = 1;
	struct puppet p;
	struct conn c;
	size_t i;

	test_begin("services that are not linked");
	open_conn(&c, fd);
	for (i = 0; i < ARRAY_SIZE(none); i++) {
		SAYS(map_of(none[i], c.sock, -1), -ESRCH, "no service id");
		SAYS(rpal_write_ptrs(none[i], c.handle, &word, 1), -RPAL_INVAL_SERVICE,
		     "no service id");
	}
	SAYS(map_of(own, c.sock, -1), -ESRCH, "not asked for");
	SAYS(rpal_write_ptrs(own, c.handle, &word, 1), -RPAL_INVAL_SERVICE, "not asked for");
	puppet_new(&p, "call");
	CHECK_IS(puppet_register(&p), 0);
	SAYS(map_of(p.self.slot, c.sock, -1), -ESRCH, "not asked for");
	CHECK_IS(rpal_request_service(p.key), 0);
	SAYS(map_of(p.self.slot, c.sock, -1), -ENOTCONN, "has not asked for this process");
	SAYS(rpal_write_ptrs(p.self.slot, c.handle, &word, 1), -RPAL_INVAL_SERVICE,
	     "has not asked for this process");
	CHECK_IS(puppet_end(&p), 0);
	SAYS(map_of(p.self.slot, c.sock, -1), -EPIPE, "ended");
	SAYS(map_of(server.id, -1, -1), -EBADF, "not open");
	SAYS(rpal_uds_fdmap_timeout((uint64_t)server.id << 32 | c.sock, NULL, 0), -EINVAL, "place");
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

/* ------------------------------------------------------------- rpal_write_ptrs */

static void lengths(void)
{
	static const int bad[] = { 0, -1, RPAL_MAX_WORDS + 1, INT32_MAX, INT32_MIN };
	int fd = listening(SOCK_STREAM), n;
	struct conn c;

	test_begin("lengths of messages");
	open_conn(&c, fd);
	for (n = 0; n < (int)ARRAY_SIZE(bad); n++)
		SAYS(put(&c, bad[n]), -RPAL_INVALID_ARG, "1 to 32 words");
	SAYS(rpal_write_ptrs(server.id, c.handle, NULL, 1), -RPAL_INVALID_ARG, "words");
	CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 0);
	for (n = 1; n <= RPAL_MAX_WORDS; n++) {
		CHECK_IS(put(&c, n), n);
		CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), n);
	}
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

/* An edge of EPOLLRPALOUT, and nothing else; or none. */
static void expect_room(int ep, bool room)
{
	struct epoll_event ev = {};

	CHECK_IS(rpal_epoll_wait(ep, &ev, 1, room ? test_patience() * 1000 : 0), room);
	CHECK_IS(ev.events, room ? EPOLLRPALOUT : 0);
}

static void full(void)
{
	struct epoll_event ev = { .events = EPOLLRPALIN | EPOLLRPALOUT | EPOLLET };
	int fd = listening(SOCK_STREAM), ep = epoll_create1(EPOLL_CLOEXEC), i, n;
	struct conn c;

	test_begin("a full queue takes all of a message or nothing, and room is told of");
	open_conn(&c, fd);
	CHECK_IS(rpal_epoll_ctl(ep, EPOLL_CTL_ADD, c.sock, &ev), 0);
	expect_room(ep, true);
	for (i = 0; i < 40; i++) {
		/* So many are free, and one more is wanted. */
		n = i % (RPAL_MAX_WORDS - 1) + 1;
		CHECK_IS(put(&c, RPAL_MAX_WORDS - n), RPAL_MAX_WORDS - n);
		SAYS(put(&c, n + 1), -RPAL_QUEUE_PUT_FAILED, "EPOLLRPALOUT");
		expect_room(ep, false);
		CHECK_IS(put(&c, n), n);
		SAYS(put(&c, 1), -RPAL_QUEUE_PUT_FAILED, "full");
		SAYS(put(&c, RPAL_MAX_WORDS), -RPAL_QUEUE_PUT_FAILED, "full");
		expect_room(ep, false);
		CHECK_IS(ask(P_READ, c.fd, 1), 1);
		expect_room(ep, true);
		SAYS(put(&c, 2), -RPAL_QUEUE_PUT_FAILED, "full");
		expect_room(ep, false);
		CHECK_IS(put(&c, 1), 1);
		/* What there is, is what was said to have been sent: they count on. */
		CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), RPAL_MAX_WORDS);
		CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 0);
		expect_room(ep, true);
	}
	rpal_close(ep);
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

/* How the peer gives a connection's number to another connection. */
static void number_used_again(bool library, const char *how)
{
	int fd = listening(SOCK_STREAM);
	struct conn old, c;

	test_begin("a handle whose number was closed by %s and is another connection's", how);
	open_conn(&old, fd);
	CHECK_IS(put(&old, 1), 1);
	CHECK_IS(ask(P_READ, old.fd, 1), 1);
	CHECK_IS(ask(P_CLOSE, old.fd, library), 0);
	if (library)
		SAYS(put(&old, 1), -RPAL_FDE_OUTDATED, "closed");
	c.sock = connected(SOCK_STREAM);
	c.fd = ask(P_ACCEPT, fd, 0);
	CHECK_IS(c.fd, old.fd);
	if (library)
		SAYS(put(&old, 1), -RPAL_FDE_OUTDATED, "rpal_uds_fdmap()");
	CHECK_IS(ask(P_CTL, c.fd, EPOLL_CTL_ADD), 0);
	handle_of(&c);
	CHECK(c.handle != old.handle, "one handle for both");
	SAYS(put(&old, 1), -RPAL_FDE_OUTDATED, "rpal_uds_fdmap()");
	SAYS(map_now(old.sock), -EREMOTE, "closed");
	CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 0);
	CHECK_IS(put(&c, 4), 4);
	CHECK_IS(ask(P_READ, c.fd, RPAL_MAX_WORDS), 4);
	rpal_close(old.sock);
	close_conn(&c);
	ask(P_CLOSE, fd, 0);
	test_end();
}

static void released(void)
{
	struct rpal_gone gone = {};
	struct conn c;
	u64 key;

	test_begin("a peer that has released the link");
	open_conn(&c, listening(SOCK_STREAM));
	CHECK_IS(put(&c, 1), 1);
	MUST(!rpal_get_service_key(&key));
	test_send_u64(server.child.sock, key);
	CHECK_IS(test_recv_u64(server.child.sock), RPAL_SUCCESS);
	SAYS(put(&c, 1), -RPAL_INVAL_SERVICE, "ended");
	SAYS(put(&c, 1), -RPAL_INVAL_SERVICE, "released");
	SAYS(map_of(server.id, c.sock, -1), -EPIPE, "released");
	CHECK_IS(rpal_read_gone(&gone, 1), 1);
	CHECK(gone.service_id == server.id && gone.reason == RPAL_GONE_RELEASED, "%d, %d",
	      gone.service_id, gone.reason);
	rpal_close(c.sock);
	end_server();
	test_end();
}

/* Of a call that finds the peer dying at any point of it. */
static bool is_end(int ret)
{
	return ret == -RPAL_INVAL_SERVICE || ret == -RPAL_ERR_PEER_MEM ||
	       ret == -RPAL_FDE_OUTDATED || ret == -RPAL_QUEUE_PUT_FAILED;
}

static void killed(void)
{
	struct pollfd told = { .fd = management, .events = POLLIN };
	int64_t word = ++counted;
	struct rpal_gone gone = {};
	struct conn c;
	int ret;

	test_begin("a peer that is killed");
	open_conn(&c, listening(SOCK_STREAM));
	kill(server.child.pid, SIGKILL);
	do {
		ret = rpal_write_ptrs(server.id, c.handle, &word, 1);
		if (!CHECK(ret == 1 || is_end(ret), "%d: %s", ret, rpal_last_error()))
			break;
	} while (!poll(&told, 1, 0) || ret == 1);
	CHECK_IS(rpal_read_gone(&gone, 1), 1);
	CHECK(gone.service_id == server.id && gone.reason == RPAL_GONE_ENDED, "%d, %d",
	      gone.service_id, gone.reason);
	SAYS(rpal_write_ptrs(server.id, c.handle, &word, 1), -RPAL_INVAL_SERVICE, "ended");
	SAYS(rpal_write_ptrs_ex(server.id, c.handle, &word, 1, RPAL_WRITE_QUEUE, NULL),
	     -RPAL_INVAL_SERVICE, "ended");
	SAYS(map_of(server.id, c.sock, -1), -EPIPE, "ended");
	rpal_close(c.sock);
	end_server();
	test_end();
}

/* The same, but nobody has written to it since. */
static void killed_unseen(void)
{
	struct conn c;

	test_begin("a peer that has died is found by rpal_uds_fdmap()");
	open_conn(&c, listening(SOCK_STREAM));
	test_reap(&server.child);
	SAYS(map_of(server.id, c.sock, -1), -EPIPE, "ended");
	SAYS(rpal_write_ptrs(server.id, c.handle, &counted, 1), -RPAL_INVAL_SERVICE, "ended");
	rpal_close(c.sock);
	end_server();
	test_end();
}

/* A program that is started anew may get the id and the descriptors of before. */
static void stamps(void)
{
	uint64_t stamp[3];
	struct conn c;
	int i;

	test_begin("handles of a service that was started anew are others");
	for (i = 0; i < 3; i++) {
		start_server();
		open_conn(&c, listening(SOCK_STREAM));
		stamp[i] = c.handle >> 48;
		rpal_close(c.sock);
		end_server();
	}
	/* By chance two may be alike. */
	CHECK(stamp[0] != stamp[1] || stamp[0] != stamp[2], "%u", (unsigned int)stamp[0]);
	test_end();
}

static void new_server(void)
{
	counted = 0;
	start_server();
}

static void before_init(void)
{
	int64_t word = 1;

	test_begin("before rpal_init()");
	SAYS(map_of(1, 0, 0), -ENXIO, "rpal_init()");
	SAYS(rpal_write_ptrs(1, 0, &word, 1), -RPAL_INVAL_SERVICE, "rpal_init()");
	test_end();
}

static int client_role(void)
{
	before_init();
	management = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(management >= 0 && !rpal_thread_init());
	new_server();
	not_ready(SOCK_STREAM, "stream");
	not_ready(SOCK_SEQPACKET, "seqpacket");
	waited_for();
	duplicated();
	elsewhere();
	elsewhere_or_coming();
	wrong_sockets();
	wrong_services();
	lengths();
	full();
	number_used_again(true, "rpal_close()");
	number_used_again(false, "close()");
	released();
	new_server();
	killed();
	new_server();
	killed_unseen();
	stamps();
	return test_failures() != 0;
}

static const struct test_role roles[] = {
	{ "server", server_role }, { "keeper", keeper_role }, { "client", client_role }, {}
};

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
