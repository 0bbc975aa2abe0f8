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
};

static void serve(struct conn *c, uint32_t events)
{
	char buf[BUF_SIZE];
	ssize_t n = read(c->fd, buf, sizeof(buf));

	(void)events;
	if (n > 0 && write(c->fd, buf, n) == n)
		return;
	close(c->fd);
	free(c);
}

static void accept_one(int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	c->fd = accept(listener, NULL, NULL);
	epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

int main(int argc, char **argv)
{
	int listener = echo_listen(argc > 1 ? argv[1] : SOCKET), i, n;
	struct epoll_event ev = { .events = EPOLLIN }, events[64];

	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		n = epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			if (events[i].data.ptr)
				serve(events[i].data.ptr, events[i].events);
			else
				accept_one(listener);
		}
	}
}
