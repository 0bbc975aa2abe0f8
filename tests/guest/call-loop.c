// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Messages, calls and the kernel's events at one event loop: what the functions of
 * <rpal/rpal.h> about them do and refuse, on both sides of a link.
 */
#include "call.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { P_ADD, P_PAGE, P_UNMAP, P_DRAIN };

/* First word of a message to the server. */
enum { ECHO, HOLD, CLOSE };

static int epoll, sock, peer;
static uint64_t handle;

/* ------------------------------------------------------------------- server */

static void *page;

PROC(p_add)
{
	const int64_t *two = arg;

	return two[0] + two[1];
}

PROC(p_page)
{
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*(int64_t *)page = 4711;
	return (intptr_t)page;
}

PROC(p_unmap)
{
	return munmap(page, PAGE);
}

static bool hold; /* leave all in the queue */

/* How many words there were. */
PROC(p_drain)
{
	int64_t words[RPAL_MAX_WORDS];
	int n, sum = 0;

	hold = false;
	while ((n = rpal_read_ptrs(sock, words, RPAL_MAX_WORDS)) > 0)
		sum += n;
	return sum;
}

static void answer(void)
{
	int64_t words[RPAL_MAX_WORDS];
	int n;

	while (!hold && (n = rpal_read_ptrs(sock, words, 2)) > 0) {
		switch (words[0]) {
		case ECHO:
			words[1]++;
			MUST(rpal_write_ptrs(peer, handle, words, n) == n);
			break;
		case HOLD:
			hold = true;
			break;
		case CLOSE:
			rpal_close(sock);
			sock = -1;
			return;
		}
	}
}

static void add_socket(uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = 7 };

	if (!epoll)
		epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(epoll >= 0 && !rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &ev));
	MUST(!rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, &handle, test_patience() * 1000));
}

static int server_role(void)
{
	struct epoll_event ev[4], listen_ev = { .events = EPOLLIN };
	int fd, i, n;

	call_init(1);
	MUST(!rpal_thread_init());
	MUST(!rpal_export(P_ADD, p_add, NULL) && !rpal_export(P_PAGE, p_page, NULL) &&
	     !rpal_export(P_UNMAP, p_unmap, NULL) && !rpal_export(P_DRAIN, p_drain, NULL));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	fd = rpal_listen(test_arg);
	MUST(fd >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &listen_ev));
	for (;;) {
		n = rpal_epoll_wait(epoll, ev, 4, -1);
		for (i = 0; i < n; i++) {
			if (ev[i].data.u64 != 7) {
				if (sock > 0)
					rpal_close(sock);
				peer = rpal_accept(fd, -1, &sock);
				MUST(peer > 0);
				/* Edges: what is left unread does not come again. */
				add_socket(EPOLLRPALIN | EPOLLET);
			} else if (ev[i].events & EPOLLRPALIN) {
				answer();
			}
		}
	}
}

/* ------------------------------------------------------------------- client */

static int management; /* file descriptor */

static void client_init(void)
{
	management = rpal_init(2, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(management >= 0);
	MUST(!rpal_thread_init());
}

static void connect_to(const char *path, uint32_t events)
{
	peer = rpal_connect(path, test_patience() * 1000, &sock);
	if (!CHECK(peer > 0, "connect: %d: %s", peer, rpal_last_error()))
		_exit(1);
	add_socket(events);
}

static int put(int64_t what, int64_t word)
{
	int64_t words[2] = { what, word };

	return rpal_write_ptrs(peer, handle, words, 2);
}

static void echo(int64_t word)
{
	struct epoll_event ev;
	int64_t words[2] = {};

	CHECK_IS(put(ECHO, word), 2);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK(ev.events == EPOLLRPALIN && ev.data.u64 == 7, "events %x", ev.events);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(words[1], word + 1);
}

static void calls_and_messages(void)
{
	int64_t two[2] = { 40, 2 }, r;
	int i;

	test_begin("procedures are called where messages are waited for");
	for (i = 0; i < 1000; i++) {
		two[0] = i;
		r = -1;
		CHECK_IS(rpal_call(peer, P_ADD, two, sizeof(two), &r), 0);
		CHECK_IS(r, i + 2);
		echo(i);
	}
	test_end();
}

static void *no_receiver(void *arg)
{
	struct epoll_event ev;

	/* A message is there; only the kernel's events are told. */
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, 20), 0);
	CHECK_IS(rpal_epoll_wait_user(epoll, &ev, 1, 0), 1);
	return arg;
}

static void plain_threads(void)
{
	int64_t words[2];
	pthread_t thread;
	struct pollfd p;

	test_begin("threads that are no receivers");
	CHECK_IS(put(ECHO, 1), 2);
	while (rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0) != 1)
		usleep(1000);
	MUST(!pthread_create(&thread, NULL, no_receiver, NULL));
	pthread_join(thread, NULL);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 0);
	p = (struct pollfd){ .fd = rpal_ready_fd(epoll), .events = POLLIN };
	CHECK(p.fd >= 0, "%d: %s", p.fd, rpal_last_error());
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(put(ECHO, 2), 2);
	CHECK_IS(poll(&p, 1, test_patience() * 1000), 1);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 1);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 0);
	CHECK_IS(poll(&p, 1, 0), 0);
	test_end();
}

/* It is called when it waits, and so when it has seen what was written before. */
static void make_it_hold(void)
{
	int64_t two[2] = {}, r;

	CHECK_IS(put(HOLD, 0), 2);
	CHECK_IS(rpal_call(peer, P_ADD, two, sizeof(two), &r), 0);
}

static void full_queues(void)
{
	struct epoll_event ev = { .events = EPOLLRPALIN | EPOLLRPALOUT | EPOLLET, .data.u64 = 7 };
	int64_t many[RPAL_MAX_WORDS] = {}, r;
	rpal_delivery_t how = 0;
	int i;

	test_begin("a full queue");
	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, sock, &ev), 0);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK_IS(ev.events, EPOLLRPALOUT);
	make_it_hold();
	while (rpal_write_ptrs(peer, handle, many, 1) == 1)
		;
	CHECK_IS(rpal_call(peer, P_DRAIN, NULL, 0, &r), 0);
	CHECK_IS(r, RPAL_MAX_WORDS);
	/* All of a message or nothing. */
	make_it_hold();
	for (i = 0; i < RPAL_MAX_WORDS - 2; i++)
		CHECK_IS(rpal_write_ptrs_ex(peer, handle, many, 1, 0, &how), 1);
	CHECK(how == RPAL_DELIVERED || how == RPAL_QUEUED, "how %d", how);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 3), -RPAL_QUEUE_PUT_FAILED);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 2), 2);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 1), -RPAL_QUEUE_PUT_FAILED);
	while (rpal_epoll_wait(epoll, &ev, 1, 0) == 1)
		;
	CHECK_IS(rpal_call(peer, P_DRAIN, NULL, 0, &r), 0);
	CHECK_IS(r, RPAL_MAX_WORDS);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK_IS(ev.events, EPOLLRPALOUT);
	ev.events = EPOLLIN | EPOLLRPALIN;
	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, sock, &ev), 0);
	test_end();
}

static int touch_page(va_list args)
{
	volatile int64_t *at = va_arg(args, int64_t *);

	return *at == 4711;
}

static void vanished_memory(void)
{
	int64_t at = 0, r;
	int ret = -1;

	test_begin("memory of a peer that goes away");
	CHECK_IS(rpal_call(peer, P_PAGE, NULL, 0, &at), 0);
	MUST(at);
	CHECK_IS(rpal_copy_prepare(peer), RPAL_SUCCESS);
	CHECK_IS(rpal_read_access_safety(touch_page, &ret, (int64_t *)(intptr_t)at), RPAL_SUCCESS);
	CHECK_IS(ret, 1);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	CHECK_IS(rpal_call(peer, P_UNMAP, NULL, 0, &r), 0);
	CHECK_IS(rpal_copy_prepare(peer), RPAL_SUCCESS);
	CHECK_IS(rpal_read_access_safety(touch_page, &ret, (int64_t *)(intptr_t)at), RPAL_FAILURE);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	echo(5);
	test_end();
}

static void refusals(void)
{
	int64_t words[RPAL_MAX_WORDS + 1] = {};
	struct epoll_event ev = { .events = EPOLLRPALIN };
	int pair[2], tcp = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t other;

	test_begin("refusals");
	CHECK_IS(rpal_write_ptrs(peer, handle, words, 0), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(peer, handle, words, RPAL_MAX_WORDS + 1), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(peer, handle, NULL, 1), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs_ex(peer, handle, words, 1, 1U << 9, NULL), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(0, handle, words, 1), -RPAL_INVAL_SERVICE);
	CHECK_IS(rpal_write_ptrs(255, handle, words, 1), -RPAL_INVAL_SERVICE);
	CHECK_IS(rpal_write_ptrs(peer, handle + 1, words, 1), -RPAL_FDE_OUTDATED);
	CHECK_IS(rpal_write_ptrs(peer, handle ^ 1ULL << 50, words, 1), -RPAL_FDE_OUTDATED);
	CHECK_IS(rpal_read_ptrs(1000, words, 1), -1);
	CHECK_IS(rpal_read_ptrs(sock, words, -1), -1);
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &ev) == -1 && errno == EEXIST, "%d",
	      errno);
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, NULL) == -1, "no event");
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, 999, &ev) == -1 && errno == EBADF, "%d", errno);
	CHECK(rpal_epoll_wait(epoll, &ev, 0, 0) == -1 && errno == EINVAL, "errno %d", errno);
	CHECK(rpal_epoll_wait_user(999, &ev, 1, 0) == -1 && errno == EBADF, "errno %d", errno);
	MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | pair[0], &other, 0), -EREMOTE);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | tcp, &other, 0), -EPROTONOSUPPORT);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | epoll, &other, 0), -ENOTSOCK);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | 999, &other, 0), -EBADF);
	CHECK_IS(rpal_uds_fdmap_timeout(250ULL << 32 | sock, &other, 0), -ESRCH);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, NULL, 0), -EINVAL);
	CHECK_IS(rpal_get_peer_rid((uint64_t)peer << 32 | sock), 0);
	close(pair[0]);
	close(pair[1]);
	close(tcp);
	test_end();
}

static void again(const char *path)
{
	test_begin("the other end is closed; the service ends and begins again");
	CHECK_IS(put(CLOSE, 0), 2);
	while (put(ECHO, 0) == 2)
		usleep(1000);
	CHECK_IS(put(ECHO, 0), -RPAL_FDE_OUTDATED);
	rpal_close(sock);
	connect_to(path, EPOLLIN | EPOLLRPALIN);
	echo(6);
	rpal_close(sock);
	rpal_close(epoll);
	epoll = 0;
	rpal_exit();
	CHECK_IS(put(ECHO, 0), -RPAL_INVAL_SERVICE);
	client_init();
	connect_to(path, EPOLLIN | EPOLLRPALIN);
	echo(7);
	test_end();
}

static void gone(struct test_child *server)
{
	struct pollfd p = { .fd = management, .events = POLLIN };
	struct rpal_gone who = {};
	int old = peer, err;
	int64_t list = 0;

	test_begin("a peer that has died is told of");
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(rpal_clean_service_start(&list), RPAL_FAILURE);
	test_reap(server);
	CHECK_IS(poll(&p, 1, test_patience() * 1000), 1);
	CHECK_IS(rpal_clean_service_start(&list), RPAL_SUCCESS);
	CHECK_IS(rpal_clean_service_next(&list, &who), 1);
	CHECK(who.service_id == old && who.reason == RPAL_GONE_ENDED && who.key, "%d, %d",
	      who.service_id, who.reason);
	CHECK_IS(rpal_clean_service_next(&list, &who), 0);
	rpal_clean_service_end(&list);
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(rpal_read_gone(&who, 1), 0);
	err = put(ECHO, 0);
	CHECK_IS(err, -RPAL_INVAL_SERVICE);
	test_end();
}

static int client_role(void)
{
	struct test_spawn s = { .role = "server", .arg = "@call-loop", .group = "call" };
	struct test_child server;

	client_init();
	MUST(!test_spawn(&server, &s));
	connect_to(s.arg, EPOLLIN | EPOLLRPALIN);
	calls_and_messages();
	plain_threads();
	full_queues();
	vanished_memory();
	refusals();
	again(s.arg);
	gone(&server);
	return test_failures() != 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
