// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Asks an echo server N times with epoll. See echo_rpal_client.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "echo.h"

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000, fd = echo_connect(SOCKET), i;
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);
	char text[64], buf[BUF_SIZE];
	uint64_t begin;
	ssize_t n;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	begin = echo_ns();
	for (i = 0; i < rounds; i++) {
		n = snprintf(text, sizeof(text), "this is round %d of %d", i, rounds) + 1;
		if (write(fd, text, n) != n || epoll_wait(ep, &ev, 1, -1) != 1)
			return 1;
		if (read(fd, buf, sizeof(buf)) != n || strcmp(buf, text)) {
			fprintf(stderr, "echo_client: wrong answer in round %d\n", i);
			return 1;
		}
	}
	printf("echo: %d rounds over a socket, %.1f us each\n", rounds,
	       (echo_ns() - begin) / 1e3 / rounds);
	return 0;
}
