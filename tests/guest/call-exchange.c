// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The key exchange between two whose identity changes while they link: what is
 * said goes through a relay, which has one of them changed at the right moment.
 * And what can be known of the other end before anything is said.
 */
#include "call.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PATH	 "@call-exchange"
#define LEAVING	 "@call-leaving"
#define STRANGER "@call-stranger"

#define OTHER_USER 1000

/* Who changes before a message of the other's comes on; hellos do not count. */
enum { NOBODY, SERVER_ONCE, CLIENT_ONCE, BOTH };

struct result {
	int id;
	char why[240];
};

struct shared {
	volatile int change, changed; /* of the server's identity: asked for, done */
	volatile int link, linked;    /* exchanges of the server */
	uint64_t key;		      /* the server's */
	struct result result;
};

struct relay {
	int client, server;
	int mode;
	int changes;
};

static struct shared *shared;

static void *exchange_thread(void *arg)
{
	struct result *res = arg;
	int *fd = (int *)&res->id; /* first what to use, then what came of it */

	res->id = rpal_exchange(*fd, test_patience() * 1000);
	snprintf(res->why, sizeof(res->why), "%s", rpal_last_error());
	return NULL;
}

/* Of all threads, as glibc does it; and who does it is not dumpable any more. */
static void change_identity(void)
{
	static gid_t gid = 1000;

	gid++;
	MUST(!setresgid(gid, gid, gid));
}

static socklen_t make_addr(struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(addr->sun_path + 1, PATH + 1, strlen(PATH) - 1);
	return offsetof(struct sockaddr_un, sun_path) + strlen(PATH);
}

/* ------------------------------------------------------------------- server */

static void *server_thread(void *arg CALL_UNUSED)
{
	struct sockaddr_un addr;
	socklen_t len = make_addr(&addr);
	int i, fd;

	for (i = 1;; i++) {
		MUST(call_wait_for(&shared->link, i));
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		MUST(!connect(fd, (struct sockaddr *)&addr, len));
		shared->result.id = fd;
		exchange_thread(&shared->result);
		close(fd);
		__atomic_store_n(&shared->linked, i, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int server_role(void)
{
	pthread_t thread;
	int i;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	call_init(1);
	MUST(!rpal_get_service_key(&shared->key));
	MUST(!pthread_create(&thread, NULL, server_thread, NULL));
	for (i = 1;; i++) {
		MUST(call_wait_for(&shared->change, i));
		change_identity();
		__atomic_store_n(&shared->changed, i, __ATOMIC_RELEASE);
	}
}

/* ------------------------------------------------------------------- client */

static void before(struct relay *r, bool from_client)
{
	bool changes = r->mode == BOTH || (!r->changes && from_client && r->mode == SERVER_ONCE) ||
		       (!r->changes && !from_client && r->mode == CLIENT_ONCE);

	if (!changes)
		return;
	r->changes++;
	if (!from_client) {
		change_identity();
		return;
	}
	shared->change++;
	MUST(call_wait_for(&shared->changed, shared->change));
}

/* One message on. False: this side is at its end. */
static bool pass_on(struct relay *r, bool from_client)
{
	int from = from_client ? r->client : r->server, to = from_client ? r->server : r->client;
	char buf[256];
	ssize_t n = recv(from, buf, sizeof(buf), 0);

	if (n <= 0)
		return false;
	before(r, from_client);
	MUST(send(to, buf, n, MSG_NOSIGNAL) == n || errno == EPIPE);
	return true;
}

/*
 * The server's hello goes first, so that the client has asked, by what it knows
 * of the server, when its own hello and its word come to the server.
 */
static void relay(struct relay *r)
{
	struct pollfd p[2] = { { r->client, POLLIN, 0 }, { r->server, POLLIN, 0 } };
	char hello[256];
	ssize_t n, m;

	n = recv(r->client, hello, sizeof(hello), 0);
	MUST(n > 0);
	MUST((m = recv(r->server, hello + n, sizeof(hello) - n, 0)) > 0);
	MUST(send(r->client, hello + n, m, 0) == m);
	MUST(poll(p, 1, test_patience() * 1000) == 1);
	before(r, true);
	MUST(send(r->server, hello, n, 0) == n);
	do
		MUST(poll(p, 2, test_patience() * 1000) > 0);
	while ((!p[0].revents || pass_on(r, true)) && (!p[1].revents || pass_on(r, false)));
}

/* What both say of one exchange. */
static void exchange(int mode, int listener, struct result *mine)
{
	struct relay r = { .mode = mode };
	pthread_t thread;
	int fd[2];

	test_socketpair(fd);
	shared->link++;
	r.client = fd[1];
	r.server = accept(listener, NULL, NULL);
	MUST(r.server >= 0);
	mine->id = fd[0];
	MUST(!pthread_create(&thread, NULL, exchange_thread, mine));
	relay(&r);
	close(r.client);
	close(r.server);
	pthread_join(thread, NULL);
	close(fd[0]);
	MUST(call_wait_for(&shared->linked, shared->link));
	CHECK(mode == NOBODY || r.changes, "nothing has changed");
}

/* Listens, as a program of any kind; is a service when it is told to. */
static int late_role(void)
{
	struct sockaddr_un addr;
	socklen_t len = make_addr(&addr);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	addr.sun_path[len - offsetof(struct sockaddr_un, sun_path)] = '2';
	MUST(!bind(fd, (struct sockaddr *)&addr, len + 1) && !listen(fd, 1));
	test_send_u64(TEST_FD_DRIVER, 0);
	test_recv_u64(TEST_FD_DRIVER);
	call_init(1);
	test_send_u64(TEST_FD_DRIVER, 0);
	test_recv_u64(TEST_FD_DRIVER);
	rpal_exit();
	test_send_u64(TEST_FD_DRIVER, 0);
	pause();
	return 0;
}

static void no_services(void)
{
	int sv[2];

	CHECK_IS(rpal_peer_is_service(-1), -EBADF);
	CHECK_IS(rpal_peer_is_service(1000), -EBADF);
	CHECK(strstr(rpal_last_error(), "not open"), "%s", rpal_last_error());
	MUST(!pipe(sv));
	CHECK_IS(rpal_peer_is_service(sv[0]), -ENOTSOCK);
	CHECK(strstr(rpal_last_error(), "no socket"), "%s", rpal_last_error());
	close(sv[0]);
	close(sv[1]);
	sv[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (sv[0] >= 0)
		CHECK_IS(rpal_peer_is_service(sv[0]), -EPROTONOSUPPORT);
	close(sv[0]);
	sv[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_IS(rpal_peer_is_service(sv[0]), -ENOTCONN);
	CHECK(strstr(rpal_last_error(), "not connected"), "%s", rpal_last_error());
	close(sv[0]);
}

static void other_end(void)
{
	struct test_spawn s = { .role = "late", .group = "call" };
	struct sockaddr_un addr;
	socklen_t len = make_addr(&addr);
	struct test_child late;
	int fd;

	test_begin("whether there is a service at the other end");
	MUST(!test_spawn(&late, &s));
	test_recv_u64(late.sock);
	addr.sun_path[len - offsetof(struct sockaddr_un, sun_path)] = '2';
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(!connect(fd, (struct sockaddr *)&addr, len + 1));
	CHECK_IS(rpal_peer_is_service(fd), 0);
	CHECK(strstr(rpal_last_error(), "rpal_init"), "%s", rpal_last_error());
	test_send_u64(late.sock, 0);
	test_recv_u64(late.sock);
	CHECK_IS(rpal_peer_is_service(fd), 1);
	test_send_u64(late.sock, 0);
	test_recv_u64(late.sock);
	CHECK_IS(rpal_peer_is_service(fd), 0);
	test_reap(&late);
	CHECK_IS(rpal_peer_is_service(fd), 0);
	close(fd);
	no_services();
	test_end();
}

/* Goes away in the middle of a link, some times, and then does link. */
static int leaving_role(void)
{
	int fd, sock, left = 2;
	struct pollfd p;

	call_init(1);
	fd = rpal_listen(LEAVING);
	MUST(fd >= 0);
	test_send_u64(TEST_FD_DRIVER, 0);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	while (left && poll(&p, 1, -1) == 1) {
		sock = accept(fd, NULL, NULL);
		if (sock < 0)
			continue;
		close(sock);
		left--;
	}
	test_send_u64(TEST_FD_DRIVER, rpal_accept(fd, test_patience() * 1000, &sock) > 0);
	pause();
	return 0;
}

static void goes_away(void)
{
	struct test_spawn s = { .role = "leaving", .group = "call" };
	struct test_child leaving;
	int id, sock;

	test_begin("a service that goes away while it is linked is tried again");
	MUST(!test_spawn(&leaving, &s));
	test_recv_u64(leaving.sock);
	id = rpal_connect(LEAVING, test_patience() * 1000, &sock);
	if (CHECK(id > 0, "%d: %s", id, rpal_last_error())) {
		CHECK_IS(test_recv_u64(leaving.sock), 1);
		close(sock);
	}
	test_reap(&leaving);
	test_end();
}

/* Of another user: it may not be linked, and says why. */
static int stranger_role(void)
{
	int fd, id;

	call_init(1);
	fd = rpal_listen(STRANGER);
	MUST(fd >= 0);
	test_send_u64(TEST_FD_DRIVER, 0);
	id = rpal_accept(fd, test_patience() * 1000, NULL);
	CHECK_IS(id, -EACCES);
	CHECK(strstr(rpal_last_error(), "this process may not read the other's memory") &&
		      strstr(rpal_last_error(), "user 0 of group ") &&
		      strstr(rpal_last_error(), "this process is of user 1000,"),
	      "%s", rpal_last_error());
	test_send_u64(TEST_FD_DRIVER, test_failures());
	pause();
	return 0;
}

static void other_user(void)
{
	struct test_spawn s = { .role = "stranger", .group = "call", .uid = OTHER_USER };
	struct test_child stranger;
	int id;

	test_begin("with another user's service neither says more or less than that");
	MUST(!test_spawn(&stranger, &s));
	test_recv_u64(stranger.sock);
	id = rpal_connect(STRANGER, test_patience() * 1000, NULL);
	/* Root may ask; the other may not. */
	CHECK_IS(id, -EREMOTEIO);
	CHECK(strstr(rpal_last_error(), "the peer may not read this process's memory") &&
		      strstr(rpal_last_error(), "user 1000 of group ") &&
		      strstr(rpal_last_error(), "this process is of user 0,"),
	      "%s", rpal_last_error());
	CHECK_IS(test_recv_u64(stranger.sock), 0);
	test_reap(&stranger);
	test_end();
}

static int client_role(void)
{
	static const char *const names[] = { "nobody changes identity while linking",
					     "the server changes identity while linking",
					     "the client changes identity while linking",
					     "both change identity all the time" };
	struct sockaddr_un addr;
	socklen_t len = make_addr(&addr);
	int mode, listener;

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	call_init(1);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(!bind(listener, (struct sockaddr *)&addr, len) && !listen(listener, 1));
	for (mode = NOBODY; mode <= BOTH; mode++) {
		struct result mine = {}, *its = &shared->result;

		test_begin("%s", names[mode]);
		exchange(mode, listener, &mine);
		CHECK((mine.id > 0) == (its->id > 0), "%d and %d", mine.id, its->id);
		if (mine.id > 0) {
			CHECK_IS(rpal_release_service(shared->key), RPAL_SUCCESS);
		} else {
			/* A moment without a change is all it takes, but there may be none. */
			CHECK(mode == BOTH && mine.id == -ECONNABORTED, "%d: %s", mine.id,
			      mine.why);
			CHECK(its->id == -ECONNABORTED, "%d: %s", its->id, its->why);
		}
		test_end();
	}
	other_end();
	goes_away();
	other_user();
	return 0;
}

static const struct test_role roles[] = {
	{ "server", server_role },   { "client", client_role },	    { "late", late_role },
	{ "leaving", leaving_role }, { "stranger", stranger_role }, {}
};

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "call" };
	struct test_child server, client;
	int status;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &s.shared);
	s.role = "server";
	MUST(!test_spawn(&server, &s));
	s.role = "client";
	MUST(!test_spawn(&client, &s));
	status = test_wait(client.pid);
	CHECK(!status, "client: %s", test_status(status));
	test_reap(&server);
	return test_finish();
}
