// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Linking two services over a Unix socket.
 *
 * Each side sends its key, asks the kernel for the other, and tells the result,
 * and whether the link is there: who asks second sees it. If neither does one has
 * changed its identity after the other had asked, which makes that void; so both
 * ask again.
 */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define RETRY_MS 10
#define BACKLOG	 64

struct hello {
	char magic[4]; /* "RPAL" */
	uint32_t version;
	uint64_t key;
};

struct verdict {
	char magic[4];	/* "link" */
	int32_t result; /* LINKED, ASKED or a negative errno */
};

#define VERSION 1

enum { ASKED, LINKED };

/* Who changes its identity more often while it links is refused. */
#define ROUNDS 4

/* --- time */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static int64_t deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

/* For poll(): -1 for ever, never below 0 otherwise. */
static int left(int64_t end)
{
	int64_t ms;

	if (end < 0)
		return -1;
	ms = end - now_ms();
	return ms > 0 ? ms : 0;
}

/* --- bytes */

static int wait_for(int fd, short events, int64_t end)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&p, 1, left(end));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return rpal_failf(-errno, "cannot wait for the socket: %s", strerror(errno));
	if (!n)
		return rpal_fail(-ETIMEDOUT, "the peer has not answered in time");
	return 0;
}

static int broken(int err)
{
	if (err == EPIPE || err == ECONNRESET || !err)
		return rpal_fail(-ECONNABORTED,
				 "the peer has closed the socket before both were linked");
	return rpal_failf(-err, "the socket fails: %s", strerror(err));
}

static int send_all(int sock, const void *buf, size_t len, int64_t end)
{
	const char *p = buf;
	ssize_t n;
	int ret;

	while (len) {
		n = send(sock, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			p += n;
			len -= n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return broken(errno);
		ret = wait_for(sock, POLLOUT, end);
		if (ret)
			return ret;
	}
	return 0;
}

static int recv_all(int sock, void *buf, size_t len, int64_t end)
{
	char *p = buf;
	ssize_t n;
	int ret;

	while (len) {
		n = recv(sock, p, len, MSG_DONTWAIT);
		if (n > 0) {
			p += n;
			len -= n;
			continue;
		}
		if (!n)
			return broken(0);
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return broken(errno);
		ret = wait_for(sock, POLLIN, end);
		if (ret)
			return ret;
	}
	return 0;
}

/* --- the protocol */

static int swap_keys(int sock, int64_t end, uint64_t *key)
{
	struct hello mine = { .magic = "RPAL", .version = VERSION }, its;
	int ret;

	if (rpal_get_service_key(&mine.key))
		return -ENXIO;
	ret = send_all(sock, &mine, sizeof(mine), end);
	if (!ret)
		ret = recv_all(sock, &its, sizeof(its), end);
	if (ret == -ETIMEDOUT)
		return rpal_fail(ret, "the peer has not answered in time: it is busy with others, "
				      "or does not use RPAL");
	if (ret)
		return ret;
	if (memcmp(its.magic, mine.magic, sizeof(its.magic)) || its.version != VERSION)
		return rpal_fail(-EPROTO, "the other end of the socket does not speak the key "
					  "exchange of this librpal");
	if (its.key == mine.key)
		return rpal_fail(-EINVAL, "the other end of the socket is this process, or sends "
					  "back what it gets and does not know RPAL");
	*key = its.key;
	return 0;
}

/* LINKED if either says so, ASKED, or a negative errno. */
static int swap_verdicts(int sock, int64_t end, int result)
{
	struct verdict mine = { .magic = "link", .result = result }, its;
	int ret;

	ret = send_all(sock, &mine, sizeof(mine), end);
	if (!ret)
		ret = recv_all(sock, &its, sizeof(its), end);
	if (ret)
		return ret;
	if (memcmp(its.magic, mine.magic, sizeof(its.magic)))
		return rpal_fail(-EPROTO, "the other end of the socket does not keep to the key "
					  "exchange");
	if (its.result < 0)
		return rpal_refusal_peer(sock, its.result);
	return result == LINKED || its.result == LINKED ? LINKED : ASKED;
}

/* Both ask, and tell each other. @mine: that the kernel knows of it is our doing. */
static int ask_both(int sock, int64_t end, uint64_t key, bool *mine)
{
	int asked = rpal_request_service(key);

	/* Linked by another socket before: fine. */
	if (asked && asked != -EALREADY) {
		swap_verdicts(sock, end, asked);
		return rpal_refusal_own(sock, asked);
	}
	*mine |= !asked;
	return swap_verdicts(sock, end, rpal_link_state(key) > 0 ? LINKED : ASKED);
}

/* What was asked for here does not outlive an error. */
static int take_back(uint64_t key, bool mine, int err)
{
	const char *why = rpal_last_error();

	if (mine)
		rpal_release_service(key);
	return rpal_fail(err, why);
}

static int exchange(int sock, int64_t end)
{
	int ret, id, round;
	uint64_t key = 0;
	bool mine = false;

	ret = swap_keys(sock, end, &key);
	if (ret)
		return ret;
	for (round = 0; ret == ASKED && round < ROUNDS; round++)
		ret = ask_both(sock, end, key, &mine);
	if (ret == ASKED)
		ret = rpal_fail(-ECONNABORTED, "one of the two changes its user, its group or its "
					       "capabilities all the time; link when that is done");
	if (ret < 0)
		return take_back(key, mine, ret);
	id = rpal_link_state(key);
	if (id < 0)
		return rpal_fail(-ECONNABORTED, "the peer went away just after both were linked");
	return id;
}

EXPORT int rpal_exchange(int sock, int timeout_ms)
{
	if (sock < 0)
		return rpal_fail(-EBADF, "a connected socket is needed");
	return exchange(sock, deadline(timeout_ms));
}

EXPORT int rpal_offered(int sock)
{
	struct hello its;

	return rpal_up() && recv(sock, &its, sizeof(its), MSG_PEEK | MSG_DONTWAIT) == sizeof(its) &&
	       !memcmp(its.magic, "RPAL", sizeof(its.magic));
}

EXPORT int rpal_peer_is_service(int sock)
{
	struct rpal_peer_of req = { .size = sizeof(req), .fd = sock };
	int ret;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	ret = rpal_ioctl(RPAL_IOC_PEER_OF, &req);
	switch (ret) {
	case 0:
		break;
	case -ENOTCONN:
		return rpal_failf(ret, "socket %d is not connected", sock);
	case -EPROTONOSUPPORT:
		return rpal_failf(ret, "descriptor %d is no Unix socket", sock);
	case -EBADF:
		return rpal_failf(ret, "descriptor %d is not open", sock);
	case -ENOTSOCK:
		return rpal_failf(ret, "descriptor %d is no socket", sock);
	default:
		return rpal_failf(ret, "cannot ask about descriptor %d: %s", sock, strerror(-ret));
	}
	if (req.state & RPAL_PEER_OF_SERVICE)
		return 1;
	return rpal_fail(0, "the process at the other end of the socket does not use RPAL, or "
			    "had not called rpal_init() yet");
}

/* --- sockets with a name */

static int make_addr(const char *path, struct sockaddr_un *addr, socklen_t *len)
{
	size_t n = path ? strlen(path) : 0;

	if (!n)
		return rpal_fail(-EINVAL, "a socket needs a path");
	if (n >= sizeof(addr->sun_path))
		return rpal_failf(-ENAMETOOLONG, "the path of a socket can have %zu bytes, not %zu",
				  sizeof(addr->sun_path) - 1, n);
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, n + 1);
	*len = offsetof(struct sockaddr_un, sun_path) + n + 1;
	if (path[0] == '@') {
		addr->sun_path[0] = '\0';
		(*len)--;
	}
	return 0;
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 ? fd : rpal_failf(-errno, "cannot make a socket: %s", strerror(errno));
}

EXPORT int rpal_listen(const char *path)
{
	struct sockaddr_un addr;
	socklen_t len;
	int fd, ret;

	ret = make_addr(path, &addr, &len);
	if (ret)
		return ret;
	fd = new_socket();
	if (fd < 0)
		return fd;
	ret = bind(fd, (struct sockaddr *)&addr, len) ? errno : 0;
	if (ret == EADDRINUSE && rpal_sockpath_stale(&addr, len) && !unlink(path))
		ret = bind(fd, (struct sockaddr *)&addr, len) ? errno : 0;
	if (!ret && listen(fd, BACKLOG))
		ret = errno;
	if (!ret)
		return fd;
	close(fd);
	if (ret == EADDRINUSE)
		return rpal_sockpath_taken(path, &addr, len);
	if (ret == ENOENT)
		return rpal_failf(-ret, "cannot listen at %s: its directory is not there", path);
	return rpal_failf(-ret, "cannot listen at %s: %s", path, strerror(ret));
}

/* Link over a new connection; the socket then is the caller's, or closed. */
static int finish(int fd, int64_t end, int *sock)
{
	int id = exchange(fd, end);

	if (id < 0 || !sock)
		close(fd);
	else
		*sock = fd;
	return id;
}

EXPORT int rpal_accept(int listen_fd, int timeout_ms, int *sock)
{
	int64_t end = deadline(timeout_ms);
	int fd, ret;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	/* What rpal_listen() gave, with its sentence. */
	if (listen_fd < 0)
		return listen_fd;
	for (;;) {
		ret = wait_for(listen_fd, POLLIN, end);
		if (ret)
			return ret == -ETIMEDOUT ? rpal_fail(ret, "nobody came in time") : ret;
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			return finish(fd, end, sock);
		/* Someone who has given up, or was served by another thread. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return rpal_failf(-errno, "cannot accept: %s", strerror(errno));
	}
}

/* *again: it may be otherwise soon, when a program starts in another's place */
static int try_connect(const char *path, const struct sockaddr_un *addr, socklen_t len, int64_t end,
		       int *sock, bool *again)
{
	int fd = new_socket(), ret;

	*again = false;
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)addr, len)) {
		ret = errno;
		close(fd);
		*again = ret == ENOENT || ret == ECONNREFUSED || ret == EAGAIN || ret == EINTR;
		return rpal_sockpath_unreachable(path, ret);
	}
	fcntl(fd, F_SETFL, 0);
	ret = finish(fd, end, sock);
	*again = ret == -ECONNABORTED || ret == -ENOENT;
	return ret;
}

EXPORT int rpal_connect(const char *path, int timeout_ms, int *sock)
{
	struct timespec retry = { .tv_nsec = RETRY_MS * 1000000L };
	int64_t end = deadline(timeout_ms);
	struct sockaddr_un addr;
	socklen_t len;
	bool again;
	int ret;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	ret = make_addr(path, &addr, &len);
	if (ret)
		return ret;
	for (;;) {
		ret = try_connect(path, &addr, len, end, sock, &again);
		if (!again || !left(end))
			return ret;
		nanosleep(&retry, NULL);
	}
}
