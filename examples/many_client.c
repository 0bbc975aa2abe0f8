// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Asks many_server over many connections, with as many questions on their way as
 * the queues hold. usage: many_client [CONNECTIONS [QUESTIONS-ON-EACH]]
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <rpal/rpal.h>

#include "many.h"

#define THREADS 2

static int nr_conns = 300, nr_questions = 100;
static long answers, times_full;
static long by_poller[256];

struct conn {
	int fd;
	int server;
	uint64_t rpal;
	int number;
	int asked, answered;
	bool blocked;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "many_client: %s: %s\n", what, why);
	exit(1);
}

/* Level-triggered, as it is, EPOLLRPALOUT is asked for only when it is needed. */
static void block(struct conn *c, int ep, bool blocked)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = c };

	if (c->blocked == blocked)
		return;
	c->blocked = blocked;
	if (blocked)
		ev.events |= EPOLLRPALOUT;
	if (rpal_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev))
		die("rpal_epoll_ctl", rpal_last_error());
}

static void ask(struct conn *c, int ep)
{
	int ret;

	while (c->asked < nr_questions) {
		int64_t msg[WORDS] = { [CONNECTION] = c->number, [NUMBER] = c->asked };

		ret = rpal_write_ptrs(c->server, c->rpal, msg, WORDS);
		if (ret == -RPAL_QUEUE_PUT_FAILED) {
			__atomic_add_fetch(&times_full, 1, __ATOMIC_RELAXED);
			block(c, ep, true);
			return;
		}
		if (ret < 0)
			die("a question", rpal_last_error());
		c->asked++;
	}
	block(c, ep, false);
}

/* True if the last was among them. */
static bool take_answers(struct conn *c)
{
	int64_t msg[WORDS];
	int before = c->answered;

	while (rpal_read_ptrs(c->fd, msg, WORDS) == WORDS) {
		if (msg[CONNECTION] != c->number || msg[NUMBER] != c->answered ||
		    msg[PRODUCT] != (int64_t)c->number * c->answered || (uint64_t)msg[POLLER] > 255)
			die("an answer", "is not what it should be");
		c->answered++;
		__atomic_add_fetch(&answers, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&by_poller[msg[POLLER]], 1, __ATOMIC_RELAXED);
	}
	return before < nr_questions && c->answered == nr_questions;
}

static void connect_one(struct conn *c, int ep, int number)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = c };

	c->number = number;
	c->server = rpal_connect(MANY_SOCKET, 10000, &c->fd);
	if (c->server < 0 || rpal_epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) ||
	    rpal_uds_fdmap((uint64_t)c->server << 32 | c->fd, &c->rpal))
		die("a connection", rpal_last_error());
}

static void *client(void *arg)
{
	int first = *(int *)arg, ep = epoll_create1(EPOLL_CLOEXEC), n, i;
	struct conn *conns = calloc(nr_conns, sizeof(*conns)), *c;
	struct epoll_event events[64];
	int finished = 0, mine = 0;

	if (!conns || ep < 0 || rpal_thread_init())
		die("a thread", rpal_last_error());
	for (i = first; i < nr_conns; i += THREADS)
		connect_one(&conns[mine++], ep, i);
	for (i = 0; i < mine; i++)
		ask(&conns[i], ep);
	while (finished < mine) {
		n = rpal_epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			c = events[i].data.ptr;
			if (!(events[i].events & (EPOLLRPALIN | EPOLLRPALOUT)))
				die("a connection", "the server has gone");
			finished += take_answers(c);
			ask(c, ep);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];
	int first[THREADS], pollers = 0, i;

	if (argc > 1)
		nr_conns = atoi(argv[1]);
	if (argc > 2)
		nr_questions = atoi(argv[2]);
	if (rpal_init(THREADS, 0, NULL) < 0)
		die("rpal_init", rpal_last_error());
	for (i = 0; i < THREADS; i++) {
		first[i] = i;
		if (pthread_create(&thread[i], NULL, client, &first[i]))
			die("pthread_create", "no thread");
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < 256; i++)
		pollers += by_poller[i] > 0;
	printf("many: %d connections, %ld answers from %d pollers; a queue was full %ld times\n",
	       nr_conns, answers, pollers, times_full);
	return answers == (long)nr_conns * nr_questions ? 0 : 1;
}
