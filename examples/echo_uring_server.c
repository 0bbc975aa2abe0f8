// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An echo server whose event loop is an io_uring: it accepts, reads and writes
 * sockets by that, and is called by RPAL messages in between. The epoll instance
 * holds nothing but RPAL events. See echo_rpal_server.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <rpal/io_uring.h>

#include "echo.h"

static struct io_uring ring;
static int ep, listener, with_rpal;

/* What of it is with the io_uring: never more than one thing. */
enum stage { POLLING, READING, WRITING };

struct conn {
	int fd;
	enum stage at;
	int peer;      /* its service, if it is one */
	uint64_t rpal; /* its end of the connection */
	char buf[BUF_SIZE];
};

static struct io_uring_sqe *new_sqe(void *data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	io_uring_sqe_set_data(sqe, data);
	return sqe;
}

static void begin(struct conn *c, enum stage at, size_t len)
{
	struct io_uring_sqe *sqe = new_sqe(c);

	c->at = at;
	if (at == POLLING)
		io_uring_prep_poll_add(sqe, c->fd, POLLIN);
	else if (at == READING)
		io_uring_prep_recv(sqe, c->fd, c->buf, len, 0);
	else
		io_uring_prep_send(sqe, c->fd, c->buf, len, MSG_NOSIGNAL);
}

static void begin_accept(void)
{
	io_uring_prep_accept(new_sqe(NULL), listener, NULL, NULL, SOCK_CLOEXEC);
}

static void drop(struct conn *c)
{
	rpal_close(c->fd);
	free(c);
}

static int serve_messages(struct conn *c)
{
	struct rpal_buffer in;
	int64_t n;

	while (rpal_recv_buffer(c->fd, &in) > 0) {
		n = rpal_copy_buffer(c->peer, c->buf, &in, 0, BUF_SIZE);
		if (!c->rpal && rpal_uds_fdmap((uint64_t)c->peer << 32 | c->fd, &c->rpal))
			return -1;
		if (n < 0 || rpal_send_buffer(c->peer, c->rpal, c->buf, n, in.cookie))
			return -1;
	}
	return 0;
}

/* Of what has come for connections with RPAL. */
static void serve_all_messages(void)
{
	struct epoll_event events[64];
	int i, n = rpal_epoll_wait_user(ep, events, 64, 0);

	for (i = 0; i < n; i++) {
		struct conn *c = events[i].data.ptr;

		/* The read that is under way ends then, and the connection with it. */
		if (serve_messages(c))
			shutdown(c->fd, SHUT_RDWR);
	}
}

static int link_with(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLRPALIN, .data.ptr = c };

	c->peer = rpal_exchange(c->fd, 1000);
	return c->peer < 0 ? -1 : rpal_epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

static void complete(struct conn *c, int res)
{
	if (res <= 0 || (c->at == POLLING && rpal_offered(c->fd) && link_with(c)))
		drop(c);
	else if (c->at == READING)
		begin(c, WRITING, res);
	else
		begin(c, READING, BUF_SIZE); /* with RPAL, too: to see the end */
}

/* Before it is read, one must look whether it begins with a key exchange. */
static void accepted(int fd)
{
	struct conn *c = fd < 0 ? NULL : calloc(1, sizeof(*c));

	if (c) {
		c->fd = fd;
		begin(c, POLLING, 0);
	}
	begin_accept();
}

static int wait_cqe(struct io_uring_cqe **cqe)
{
	if (with_rpal)
		return rpal_io_uring_wait_cqe(&ring, ep, cqe, -1);
	io_uring_submit(&ring);
	return io_uring_wait_cqe(&ring, cqe);
}

int main(int argc, char **argv)
{
	struct io_uring_cqe *cqe;
	int ret;

	with_rpal = rpal_init(1, 0, NULL) >= 0 && !rpal_thread_init();
	if (!with_rpal)
		fprintf(stderr, "echo_uring_server: sockets only: %s\n", rpal_last_error());
	ep = epoll_create1(0);
	listener = echo_listen(argc > 1 ? argv[1] : SOCKET);
	ret = io_uring_queue_init(64, &ring, 0);
	if (ep < 0 || listener < 0 || ret) {
		fprintf(stderr, "echo_uring_server: %s\n", strerror(ret ? -ret : errno));
		return 1;
	}
	begin_accept();
	for (;;) {
		ret = wait_cqe(&cqe);
		if (!ret) {
			struct conn *c = io_uring_cqe_get_data(cqe);

			if (c)
				complete(c, cqe->res);
			else
				accepted(cqe->res);
			io_uring_cqe_seen(&ring, cqe);
		} else if (ret < 0 && ret != -EINTR) {
			fprintf(stderr, "echo_uring_server: %s\n", strerror(-ret));
			return 1;
		}
		if (with_rpal)
			serve_all_messages();
	}
}
