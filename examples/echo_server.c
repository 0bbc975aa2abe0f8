// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* An echo server with epoll, as there are many. See echo_rpal_server.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "echo.h"

static int ep;

struct conn {
	int fd;
	char buf[BUF_SIZE];
};

static int serve(struct conn *c, uint32_t events)
{
	ssize_t n;

	(void)events;
	n = read(c->fd, c->buf, BUF_SIZE);
	return n > 0 && write(c->fd, c->buf, n) == n ? 0 : -1;
}

static void drop(struct conn *c)
{
	close(c->fd);
	free(c);
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
	listener = echo_listen(argc > 1 ? argv[1] : SOCKET);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev)) {
		perror("echo_server");
		return 1;
	}
	for (;;) {
		n = epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c)
				accept_one(listener);
			else if (serve(c, events[i].events))
				drop(c);
		}
	}
}
