// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A server with one poller thread for each CPU, and any number of connections.
 * The main thread accepts and links, which may take its time, and deals the
 * connections out to the pollers.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <rpal/rpal.h>

#include "many.h"

#define MAX_POLLERS 256

static int pollers[MAX_POLLERS]; /* their epoll instances */

struct conn {
	int fd;
	int poller;
	int peer;		       /* the client's service */
	uint64_t rpal;		       /* its end of the connection */
	int64_t words[RPAL_MAX_WORDS]; /* questions that were read */
	int next, n;		       /* of those, the first not answered; all */
	bool blocked;
	struct conn *dropped;
};

static int failed(void)
{
	fprintf(stderr, "many_server: %s\n", rpal_last_error());
	return 1;
}

/* Who does not read answers gets no more questions read. */
static int block(struct conn *c, bool blocked)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	if (c->blocked == blocked)
		return 0;
	c->blocked = blocked;
	ev.events |= blocked ? EPOLLRPALOUT : EPOLLRPALIN;
	return rpal_epoll_ctl(pollers[c->poller], EPOLL_CTL_MOD, c->fd, &ev);
}

static int serve(struct conn *c)
{
	int64_t *msg;
	int ret;

	if (!c->rpal && rpal_uds_fdmap((uint64_t)c->peer << 32 | c->fd, &c->rpal))
		return -1;
	for (;;) {
		if (c->next == c->n) {
			c->next = 0;
			c->n = rpal_read_ptrs(c->fd, c->words, RPAL_MAX_WORDS);
			if (c->n <= 0)
				return c->n ? -1 : block(c, false);
		}
		msg = &c->words[c->next];
		msg[PRODUCT] = msg[CONNECTION] * msg[NUMBER];
		msg[POLLER] = c->poller;
		ret = rpal_write_ptrs(c->peer, c->rpal, msg, WORDS);
		if (ret == -RPAL_QUEUE_PUT_FAILED)
			return block(c, true);
		if (ret < 0)
			return -1;
		c->next += WORDS;
	}
}

static void *poller(void *arg)
{
	int ep = *(int *)arg, i, n;
	struct epoll_event events[64];
	struct conn *c, *dropped = NULL;

	if (rpal_thread_init())
		exit(failed());
	for (;;) {
		n = rpal_epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			c = events[i].data.ptr;
			if (c->fd < 0)
				continue;
			if (events[i].events & (EPOLLRPALIN | EPOLLRPALOUT) && !serve(c))
				continue;
			/* Its socket has an end. There may be another event for it. */
			rpal_close(c->fd);
			c->fd = -1;
			c->dropped = dropped;
			dropped = c;
		}
		while ((c = dropped)) {
			dropped = c->dropped;
			free(c);
		}
	}
}

static int add(int peer, int fd, int poller)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = c };

	if (!c)
		return -1;
	c->fd = fd;
	c->peer = peer;
	c->poller = poller;
	return rpal_epoll_ctl(pollers[poller], EPOLL_CTL_ADD, fd, &ev);
}

int main(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN), i;
	int listener, peer, fd;
	pthread_t thread;

	if (cpus > MAX_POLLERS)
		cpus = MAX_POLLERS;
	if (rpal_init(cpus, 0, NULL) < 0)
		return failed();
	for (i = 0; i < cpus; i++) {
		pollers[i] = epoll_create1(EPOLL_CLOEXEC);
		if (pollers[i] < 0 || pthread_create(&thread, NULL, poller, &pollers[i])) {
			perror("many_server");
			return 1;
		}
	}
	listener = rpal_listen(MANY_SOCKET);
	if (listener < 0)
		return failed();
	for (i = 0;; i++) {
		peer = rpal_accept(listener, -1, &fd);
		if (peer < 0 || add(peer, fd, i % cpus))
			failed();
	}
}
