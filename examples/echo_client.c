// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Asks an echo server N times with epoll. See echo_rpal_client.c. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "echo.h"

static int fd, ep;

/* Sends n bytes, and waits for the answer: how many bytes that has, or -1. */
static ssize_t ask(const char *text, size_t n, char *answer)
{
	struct epoll_event ev;

	if (write(fd, text, n) != (ssize_t)n || epoll_wait(ep, &ev, 1, -1) != 1)
		return -1;
	return read(fd, answer, BUF_SIZE);
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
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev)) {
		perror("echo_client");
		return 1;
	}
	begin = echo_ns();
	for (i = 0; i < rounds; i++) {
		n = snprintf(text, sizeof(text), "this is round %d of %d", i, rounds) + 1;
		if (ask(text, n, answer) != n || strcmp(answer, text)) {
			fprintf(stderr, "echo_client: wrong answer in round %d\n", i);
			return 1;
		}
	}
	printf("echo: %d rounds over a socket, %.1f us each\n", rounds,
	       (echo_ns() - begin) / 1e3 / rounds);
	return 0;
}
