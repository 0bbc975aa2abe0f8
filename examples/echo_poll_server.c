// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An echo server with poll(), which stands for event loops that wait by themselves:
 * they cannot be called, but a descriptor tells them of RPAL events. See
 * echo_rpal_server.c.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <rpal/rpal.h>

#include "echo.h"

enum { LISTENER, READY, FIRST, MAX = 1024 };

static int ep; /* holds nothing but RPAL events */
static int nr = FIRST;
static struct pollfd fds[MAX];

static struct conn {
	int peer;      /* its service, if it is one */
	uint64_t rpal; /* its end of the connection */
	char buf[BUF_SIZE];
} conns[MAX];

static int serve_messages(int fd, struct conn *c)
{
	struct rpal_buffer in;
	int64_t n;

	while (rpal_recv_buffer(fd, &in) > 0) {
		n = rpal_copy_buffer(c->peer, c->buf, &in, 0, BUF_SIZE);
		if (!c->rpal && rpal_uds_fdmap((uint64_t)c->peer << 32 | fd, &c->rpal))
			return -1;
		if (n < 0 || rpal_send_buffer(c->peer, c->rpal, c->buf, n, in.cookie))
			return -1;
	}
	return 0;
}

/* Until there are no more: only then the descriptor can tell of others. */
static void serve_all_messages(void)
{
	struct epoll_event ev;

	while (rpal_epoll_wait_user(ep, &ev, 1, 0) > 0) {
		int i = ev.data.u32;

		/* It is dropped when poll() says that it has an end. */
		if (serve_messages(fds[i].fd, &conns[i]))
			shutdown(fds[i].fd, SHUT_RDWR);
	}
}

static int serve(int i)
{
	struct epoll_event ev = { .events = EPOLLRPALIN, .data.u32 = i };
	struct conn *c = &conns[i];
	ssize_t n;

	if (!c->peer && rpal_offered(fds[i].fd)) {
		c->peer = rpal_exchange(fds[i].fd, 1000);
		return c->peer < 0 ? -1 : rpal_epoll_ctl(ep, EPOLL_CTL_ADD, fds[i].fd, &ev);
	}
	n = read(fds[i].fd, c->buf, BUF_SIZE);
	return n > 0 && write(fds[i].fd, c->buf, n) == n ? 0 : -1;
}

/* Places are used again; poll() passes over those with -1. */
static void accept_one(void)
{
	int fd = accept(fds[LISTENER].fd, NULL, NULL), i;

	for (i = FIRST; i < nr && fds[i].fd >= 0; i++)
		;
	if (i == MAX) {
		close(fd);
		return;
	}
	fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
	conns[i].peer = 0;
	conns[i].rpal = 0;
	if (i == nr)
		nr++;
}

int main(int argc, char **argv)
{
	int i;

	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(0);
	fds[LISTENER].events = POLLIN;
	fds[READY].fd = -1;
	fds[READY].events = POLLIN;
	/* A receiver, too: by it clients find the queues. */
	if (rpal_init(1, 0, NULL) >= 0 && !rpal_thread_init())
		fds[READY].fd = rpal_ready_fd(ep);
	if (fds[READY].fd < 0)
		fprintf(stderr, "echo_poll_server: sockets only: %s\n", rpal_last_error());
	fds[LISTENER].fd = echo_listen(argc > 1 ? argv[1] : SOCKET);
	while (poll(fds, nr, -1) > 0) {
		if (fds[READY].revents)
			serve_all_messages();
		for (i = FIRST; i < nr; i++) {
			if (fds[i].fd < 0 || !fds[i].revents || !serve(i))
				continue;
			rpal_close(fds[i].fd);
			fds[i].fd = -1;
		}
		if (fds[LISTENER].revents)
			accept_one();
	}
	perror("echo_poll_server");
	return 1;
}
