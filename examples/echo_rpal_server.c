// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The same with RPAL: diff it with echo_server.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <rpal/rpal.h>

#include "echo.h"

static int ep;

struct conn {
	int fd;
	int peer;      /* its service, if it is one */
	uint64_t rpal; /* its end of the connection */
	char buf[BUF_SIZE];
};

/* Out of the client's memory, into ours, from where the client takes it. */
static void serve_message(struct conn *c)
{
	struct rpal_buffer in;
	int64_t n;

	while (rpal_recv_buffer(c->fd, &in) > 0) {
		if (in.released)
			continue;
		n = rpal_copy_buffer(c->peer, c->buf, &in, 0, BUF_SIZE);
		if (n >= 0 && !c->rpal)
			rpal_uds_fdmap((uint64_t)c->peer << 32 | c->fd, &c->rpal);
		if (n >= 0)
			rpal_send_buffer(c->peer, c->rpal, c->buf, n, in.cookie);
	}
}

static void close_conn(struct conn *c)
{
	rpal_close(c->fd);
	free(c);
}

/* The client has begun with a key exchange, not with a request. */
static void link_with(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = c };

	c->peer = rpal_exchange(c->fd, 1000);
	if (c->peer < 0 || rpal_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev))
		close_conn(c);
}

static void serve(struct conn *c, uint32_t events)
{
	char buf[BUF_SIZE];
	ssize_t n;

	if (events & EPOLLRPALIN) {
		serve_message(c);
		return;
	}
	if (!c->peer && rpal_offered(c->fd)) {
		link_with(c);
		return;
	}
	n = read(c->fd, buf, sizeof(buf));
	if (n > 0 && write(c->fd, buf, n) == n)
		return;
	close_conn(c);
}

static void accept_one(int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	c->fd = accept(listener, NULL, NULL);
	rpal_epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

int main(int argc, char **argv)
{
	int listener = echo_listen(argc > 1 ? argv[1] : SOCKET), i, n;
	struct epoll_event ev = { .events = EPOLLIN }, events[64];

	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(0);
	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init())
		fprintf(stderr, "echo_rpal_server: sockets only: %s\n", rpal_last_error());
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		n = rpal_epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			if (events[i].data.ptr)
				serve(events[i].data.ptr, events[i].events);
			else
				accept_one(listener);
		}
	}
}
