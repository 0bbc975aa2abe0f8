// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A sidecar: takes HTTP requests from plain clients, adds a header, and passes
 * them by RPAL to the application, whose answers it writes to the clients out of
 * the application's memory. The application may end and be started again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <rpal/rpal.h>

#include "sidecar.h"

struct client {
	int fd;
	size_t len;
	struct client *next;
	char text[TEXT_SIZE];
};

static int ep, listener;
static int app, app_fd = -1;   /* its service, and the socket to it */
static uint64_t rpal;	       /* its end of that socket */
static struct client *waiting; /* with complete requests */
static struct client **last = &waiting;
static struct client *sent[WINDOW]; /* the application has their requests */
static unsigned int number;

static void finish(struct client *c)
{
	close(c->fd);
	free(c);
}

/* To a client that does not read, this and pass_on() would have to wait. */
static void refuse(struct client *c)
{
	static const char text[] = "HTTP/1.0 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

	if (write(c->fd, text, sizeof(text) - 1) < 0)
		perror("sidecar_proxy: a client");
	finish(c);
}

/* --- towards the application */

static void forget_app(void)
{
	int i;

	rpal_close(app_fd);
	app_fd = -1;
	for (i = 0; i < WINDOW; i++) {
		if (sent[i])
			refuse(sent[i]);
		sent[i] = NULL;
	}
}

static int find_app(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN, .data.ptr = &app };

	if (app_fd >= 0)
		return 0;
	app = rpal_connect(APP_SOCKET, 1000, &app_fd);
	if (app >= 0 && !rpal_epoll_ctl(ep, EPOLL_CTL_ADD, app_fd, &ev) &&
	    !rpal_uds_fdmap((uint64_t)app << 32 | app_fd, &rpal))
		return 0;
	fprintf(stderr, "sidecar_proxy: no application: %s\n", rpal_last_error());
	forget_app();
	return -1;
}

/* As many requests as the application may have. */
static void forward(void)
{
	struct client *c;
	int i;

	for (i = 0; i < WINDOW && waiting; i++) {
		if (sent[i])
			continue;
		c = waiting;
		waiting = c->next;
		if (!waiting)
			last = &waiting;
		sent[i] = c;
		/* The application runs in here, in most cases until it has answered. */
		if (find_app() || rpal_send_buffer(app, rpal, c->text, c->len, i))
			forget_app();
	}
}

/* write() reads the application's memory. */
static void pass_on(struct client *c, const struct rpal_buffer *answer)
{
	if (rpal_copy_prepare(app) ||
	    write(c->fd, answer->addr, answer->len) != (ssize_t)answer->len)
		fprintf(stderr, "sidecar_proxy: an answer got lost\n");
	rpal_copy_finish();
	finish(c);
}

static void take_answers(void)
{
	struct rpal_buffer answer;
	struct client *c;

	while (app_fd >= 0 && rpal_recv_buffer(app_fd, &answer) > 0) {
		c = answer.cookie < WINDOW ? sent[answer.cookie] : NULL;
		if (c) {
			sent[answer.cookie] = NULL;
			pass_on(c, &answer);
		}
		if (rpal_release_buffer(app, rpal, &answer))
			forget_app();
	}
}

/* --- towards the clients */

/* After the first line, where the application finds it before any other. */
static void add_header(struct client *c)
{
	char *rest = memchr(c->text, '\n', c->len), header[32];
	int n = snprintf(header, sizeof(header), "X-Request: %u\r\n", ++number);

	rest++;
	memmove(rest + n, rest, c->text + c->len - rest);
	memcpy(rest, header, n);
	c->len += n;
}

static void read_request(struct client *c)
{
	ssize_t n = read(c->fd, c->text + c->len, TEXT_SIZE - 32 - c->len);

	if (n <= 0) {
		finish(c);
		return;
	}
	c->len += n;
	if (!memmem(c->text, c->len, "\r\n\r\n", 4))
		return;
	epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
	add_header(c);
	c->next = NULL;
	*last = c;
	last = &c->next;
}

static void accept_one(void)
{
	struct client *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	if (!c)
		return;
	c->fd = accept(listener, NULL, NULL);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev))
		finish(c);
}

static int listen_at(int port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct epoll_event ev = { .events = EPOLLIN };
	int one = 1;

	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, 64) ||
	       epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
}

int main(int argc, char **argv)
{
	struct epoll_event events[64];
	int i, n;

	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(0);
	if (listen_at(argc > 1 ? atoi(argv[1]) : 8080)) {
		perror("sidecar_proxy");
		return 1;
	}
	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init()) {
		fprintf(stderr, "sidecar_proxy: %s\n", rpal_last_error());
		return 1;
	}
	for (;;) {
		n = rpal_epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			if (!events[i].data.ptr)
				accept_one();
			else if (events[i].data.ptr != &app)
				read_request(events[i].data.ptr);
			else if (events[i].events & EPOLLRPALIN)
				take_answers();
			else
				forget_app();
		}
		forward();
	}
}
