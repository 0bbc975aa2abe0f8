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
static struct conn *dropped;

struct conn {
	int fd;
	int peer;      /* its service, if it is one */
	uint64_t rpal; /* its end of the connection */
	struct conn *next;
	char buf[BUF_SIZE];
};

/* Out of the client's memory, into ours, where the client finds the answer. */
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

/* The client has begun with a key exchange, not with a request. */
static int link_with(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = c };

	c->peer = rpal_exchange(c->fd, 1000);
	return c->peer < 0 ? -1 : rpal_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static int serve(struct conn *c, uint32_t events)
{
	ssize_t n;

	if (events & EPOLLRPALIN)
		return serve_messages(c);
	if (!c->peer && rpal_offered(c->fd))
		return link_with(c);
	n = read(c->fd, c->buf, BUF_SIZE);
	return n > 0 && write(c->fd, c->buf, n) == n ? 0 : -1;
}

/* There may be another event for it: the kernel's and RPAL's are apart. */
static void drop(struct conn *c)
{
	rpal_close(c->fd);
	c->fd = -1;
	c->next = dropped;
	dropped = c;
}

static void free_dropped(void)
{
	struct conn *c;

	while ((c = dropped)) {
		dropped = c->next;
		free(c);
	}
}

static void accept_one(int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	if (!c)
		return;
	c->fd = accept(listener, NULL, NULL);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev))
		drop(c);
}

int main(int argc, char **argv)
{
	struct epoll_event ev = { .events = EPOLLIN }, events[64];
	int listener, i, n;

	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(0);
	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init())
		fprintf(stderr, "echo_rpal_server: sockets only: %s\n", rpal_last_error());
	listener = echo_listen(argc > 1 ? argv[1] : SOCKET);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev)) {
		perror("echo_rpal_server");
		return 1;
	}
	for (;;) {
		n = rpal_epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c)
				accept_one(listener);
			else if (c->fd >= 0 && serve(c, events[i].events))
				drop(c);
		}
		free_dropped();
	}
}
