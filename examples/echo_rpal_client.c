// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The same with RPAL: diff it with echo_client.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <rpal/rpal.h>

#include "echo.h"

static int failed(void)
{
	fprintf(stderr, "echo_rpal_client: %s\n", rpal_last_error());
	return 1;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000, fd = echo_connect(SOCKET), i;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };
	int ep = epoll_create1(0), server;
	static char text[64], buf[BUF_SIZE];
	struct rpal_buffer answer;
	uint64_t begin, rpal;
	ssize_t n;

	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init())
		return failed();
	server = rpal_exchange(fd, 5000);
	if (server < 0 || rpal_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) ||
	    rpal_uds_fdmap((uint64_t)server << 32 | fd, &rpal))
		return failed();
	begin = echo_ns();
	for (i = 0; i < rounds; i++) {
		n = snprintf(text, sizeof(text), "this is round %d of %d", i, rounds) + 1;
		if (rpal_send_buffer(server, rpal, text, n, i) ||
		    rpal_epoll_wait(ep, &ev, 1, -1) != 1)
			return failed();
		if (rpal_recv_buffer(fd, &answer) != 1 ||
		    rpal_copy_buffer(server, buf, &answer, 0, sizeof(buf)) != n ||
		    strcmp(buf, text)) {
			fprintf(stderr, "echo_client: wrong answer in round %d\n", i);
			return 1;
		}
	}
	printf("echo: %d rounds by RPAL, %.1f us each\n", rounds,
	       (echo_ns() - begin) / 1e3 / rounds);
	return 0;
}
