// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The same with RPAL if both can, else over the socket: diff it with echo_client.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <rpal/rpal.h>

#include "echo.h"

static int fd, ep;
static int server = -1; /* its service, if it is one */
static uint64_t rpal;	/* its end of the connection */

/* Sends n bytes, and waits for the answer: how many bytes that has, or -1. */
static ssize_t ask(const char *text, size_t n, char *answer)
{
	struct rpal_buffer in;
	struct epoll_event ev;

	if (server >= 0) {
		if (rpal_send_buffer(server, rpal, text, n, 0) ||
		    rpal_epoll_wait(ep, &ev, 1, -1) != 1 || rpal_recv_buffer(fd, &in) != 1)
			return -1;
		return rpal_copy_buffer(server, answer, &in, 0, BUF_SIZE);
	}
	if (write(fd, text, n) != (ssize_t)n || rpal_epoll_wait(ep, &ev, 1, -1) != 1)
		return -1;
	return read(fd, answer, BUF_SIZE);
}

static int link_with_server(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };

	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init())
		return -1;
	if (rpal_peer_is_service(fd) <= 0)
		return -1; /* it would take the next for a request */
	server = rpal_exchange(fd, 5000);
	if (server < 0 || rpal_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ||
	    rpal_uds_fdmap((uint64_t)server << 32 | fd, &rpal))
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000, i;
	struct epoll_event ev = { .events = EPOLLIN };
	static char text[64], answer[BUF_SIZE];
	uint64_t begin;
	ssize_t n;

	fd = echo_connect(SOCKET);
	ep = epoll_create1(0);
	if (link_with_server()) {
		fprintf(stderr, "echo_rpal_client: over the socket: %s\n", rpal_last_error());
		server = -1;
		rpal_close(fd);
		fd = echo_connect(SOCKET);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev)) {
			perror("echo_rpal_client");
			return 1;
		}
	}
	begin = echo_ns();
	for (i = 0; i < rounds; i++) {
		n = snprintf(text, sizeof(text), "this is round %d of %d", i, rounds) + 1;
		if (ask(text, n, answer) != n || strcmp(answer, text)) {
			fprintf(stderr, "echo_rpal_client: wrong answer in round %d\n", i);
			return 1;
		}
	}
	printf("echo: %d rounds %s, %.1f us each\n", rounds,
	       server >= 0 ? "by RPAL" : "over a socket", (echo_ns() - begin) / 1e3 / rounds);
	return 0;
}
