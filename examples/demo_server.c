// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * One half of the demonstration: answers messages of 32 bytes, those of a Unix
 * socket in an epoll loop, and those of RPAL calls by a procedure.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <rpal/rpal.h>

#include "demo.h"

static void die(const char *what)
{
	fprintf(stderr, "demo_server: %s: %s\n", what, rpal_last_error());
	exit(1);
}

/* Reads the client's memory, and writes to it: the client grants that. */
static int64_t answer(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	uint64_t received = __rdtsc();
	struct demo_call *call = arg;

	(void)caller, (void)ctx;
	if (len != sizeof(*call))
		return -EINVAL;
	demo_answer(&call->request, &call->reply, received);
	return call->request.number;
}

static void *receiver(void *unused)
{
	(void)unused;
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return NULL;
}

static bool echo(int sock)
{
	struct demo_message request, reply;
	ssize_t n;

	n = read(sock, &request, sizeof(request));
	if (n != sizeof(request))
		return false;
	demo_answer(&request, &reply, __rdtsc());
	return write(sock, &reply, sizeof(reply)) == sizeof(reply);
}

static void serve_socket(int sock)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), n;

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, sock, &ev)) {
		perror("demo_server: epoll");
		exit(1);
	}
	do
		n = epoll_wait(ep, &ev, 1, -1);
	while ((n < 0 && errno == EINTR) || (n == 1 && echo(sock)));
	close(ep);
}

int main(void)
{
	int listener, sock;
	pthread_t thread;

	if (rpal_init(1, 0, NULL) < 0)
		die("rpal_init");
	if (rpal_export(DEMO_PROCEDURE, answer, NULL))
		die("rpal_export");
	listener = rpal_listen(DEMO_SOCKET);
	if (listener < 0)
		die("rpal_listen");
	if (pthread_create(&thread, NULL, receiver, NULL))
		die("pthread_create");
	if (rpal_accept(listener, 60000, &sock) < 0)
		die("rpal_accept");
	serve_socket(sock);
	rpal_serve_stop();
	pthread_join(thread, NULL);
	rpal_exit();
	return 0;
}
