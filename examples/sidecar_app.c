// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An application that has a sidecar in front. Requests are read where they lie,
 * in the sidecar's memory; answers are sent from where they lie, in this one's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <rpal/rpal.h>

#include "sidecar.h"

static int ep, sidecar = -1, sock = -1;
static uint64_t rpal; /* the sidecar's end of sock */

struct request {
	char path[128];
	char number[32];
};

/* Copies what follows after a word, up to the next blank or line's end. */
static void copy_word(char *to, size_t size, const char *text, size_t len, const char *word)
{
	const char *p = memmem(text, len, word, strlen(word));
	size_t n = 0;

	for (p = p ? p + strlen(word) : text + len; p < text + len && n < size - 1; p++) {
		if (*p == ' ' || *p == '\r' || *p == '\n')
			break;
		to[n++] = *p;
	}
	to[n] = '\0';
}

/* Looks into the sidecar's memory, which may go away: nothing but that. */
static int parse(va_list args)
{
	const struct rpal_buffer *in = va_arg(args, const struct rpal_buffer *);
	struct request *req = va_arg(args, struct request *);

	copy_word(req->path, sizeof(req->path), in->addr, in->len, "GET ");
	copy_word(req->number, sizeof(req->number), in->addr, in->len, "X-Request: ");
	return req->path[0] == '/' ? 0 : -1;
}

static int read_request(const struct rpal_buffer *in, struct request *req)
{
	int ret = -1;

	if (rpal_copy_prepare(sidecar))
		return -1;
	if (rpal_read_access_safety(parse, &ret, in, req))
		ret = -1;
	rpal_copy_finish();
	return ret;
}

static int answer(const struct rpal_buffer *in)
{
	struct request req = { "", "" };
	char *text, body[256];
	int ok, n;

	ok = !read_request(in, &req) && !strncmp(req.path, "/hello/", 7);
	n = ok ? snprintf(body, sizeof(body), "hello, %s; you are request %s\n", req.path + 7,
			  req.number) :
		 snprintf(body, sizeof(body), "there is nothing at %s\n", req.path);
	text = malloc(TEXT_SIZE);
	if (!text)
		return -1;
	n = snprintf(text, TEXT_SIZE, "HTTP/1.0 %s\r\nContent-Length: %d\r\n\r\n%s",
		     ok ? "200 OK" : "404 Not Found", n, body);
	/* It says by the cookie which request it answers, which is thereby released. */
	return rpal_send_buffer(sidecar, rpal, text, n, in->cookie);
}

static int serve(void)
{
	struct rpal_buffer in;
	int ret;

	if (!rpal && rpal_uds_fdmap((uint64_t)sidecar << 32 | sock, &rpal))
		return -1;
	while ((ret = rpal_recv_buffer(sock, &in)) > 0) {
		if (in.released)
			free(in.addr); /* an answer comes back */
		else if (answer(&in))
			return -1;
	}
	return ret;
}

static int failed(void)
{
	fprintf(stderr, "sidecar_app: %s\n", rpal_last_error());
	return 1;
}

int main(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };
	int listener, n;

	ep = epoll_create1(0);
	if (rpal_init(1, 0, NULL) < 0 || rpal_thread_init())
		return failed();
	listener = rpal_listen(APP_SOCKET);
	if (listener < 0)
		return failed();
	sidecar = rpal_accept(listener, -1, &sock);
	if (sidecar < 0 || rpal_epoll_ctl(ep, EPOLL_CTL_ADD, sock, &ev))
		return failed();
	for (;;) {
		n = rpal_epoll_wait(ep, &ev, 1, -1);
		if (n < 0 && errno != EINTR)
			return failed();
		if (n > 0 && !(ev.events & EPOLLRPALIN))
			return 0; /* the socket has an end: the sidecar has ended */
		if (n > 0 && serve())
			return failed();
	}
}
