// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Waiting for an io_uring and for messages at once: completions that are there
 * already, that come while the thread sleeps, calls meanwhile, time, refusals.
 */
#include "call.h"

#include <poll.h>
#include <sys/epoll.h>

#include <rpal/io_uring.h>

#define PATH "@call-uring"

static struct call_peer a;
static struct io_uring ring;
static int epoll, pipe_fd[2];

/* ------------------------------------------------------------------- server */

/* Sends a word for each that it is told to. */
static int server_role(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };
	int fd, peer, sock, ep = epoll_create1(EPOLL_CLOEXEC);
	uint64_t handle;
	int64_t word;

	call_init(1);
	MUST(!rpal_thread_init());
	fd = rpal_listen(PATH);
	MUST(fd >= 0);
	peer = rpal_accept(fd, test_patience() * 1000, &sock);
	MUST(peer > 0 && !rpal_epoll_ctl(ep, EPOLL_CTL_ADD, sock, &ev));
	MUST(!rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, &handle, test_patience() * 1000));
	for (;;) {
		word = test_recv_u64(TEST_FD_DRIVER);
		usleep(100000); /* so that it is waited for */
		MUST(rpal_write_ptrs(peer, handle, &word, 1) == 1);
	}
}

/* ------------------------------------------------------------------- client */

static void await_pipe(u64 data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_poll_add(sqe, pipe_fd[0], POLLIN);
	io_uring_sqe_set_data64(sqe, data);
}

/* What comes is the completion with this number. */
static void expect_cqe(u64 data)
{
	struct io_uring_cqe *cqe;

	CHECK_IS(rpal_io_uring_wait_cqe(&ring, epoll, &cqe, test_patience() * 1000), 0);
	if (!CHECK(cqe, "no completion"))
		return;
	CHECK(io_uring_cqe_get_data64(cqe) == data, "another one");
	CHECK_IS(cqe->res, POLLIN);
	io_uring_cqe_seen(&ring, cqe);
}

static void expect_message(int64_t want)
{
	struct io_uring_cqe *cqe;
	struct epoll_event ev;
	int64_t word = 0;

	CHECK_IS(rpal_io_uring_wait_cqe(&ring, epoll, &cqe, test_patience() * 1000), 1);
	CHECK(!cqe, "a completion");
	CHECK_IS(rpal_epoll_wait_user(epoll, &ev, 1, 0), 1);
	CHECK_IS(rpal_read_ptrs(a.sock, &word, 1), 1);
	CHECK_IS(word, want);
}

static void *write_later(void *arg CALL_UNUSED)
{
	usleep(100000);
	MUST(write(pipe_fd[1], "x", 1) == 1);
	return NULL;
}

static void completions(void)
{
	pthread_t thread;
	char c;

	test_begin("completions: there already, and while it sleeps");
	await_pipe(1);
	MUST(write(pipe_fd[1], "x", 1) == 1);
	expect_cqe(1);
	MUST(read(pipe_fd[0], &c, 1) == 1);
	await_pipe(2);
	MUST(!pthread_create(&thread, NULL, write_later, NULL));
	expect_cqe(2);
	pthread_join(thread, NULL);
	MUST(read(pipe_fd[0], &c, 1) == 1);
	test_end();
}

static void messages(void)
{
	char c;
	int i;

	test_begin("messages, with a completion pending and without");
	for (i = 1; i <= 5; i++) {
		test_send_u64(a.child.sock, i);
		expect_message(i);
	}
	await_pipe(3);
	test_send_u64(a.child.sock, 99);
	expect_message(99);
	MUST(write(pipe_fd[1], "x", 1) == 1);
	expect_cqe(3);
	MUST(read(pipe_fd[0], &c, 1) == 1);
	test_end();
}

static void refusals(void)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	struct io_uring_cqe *cqe;
	struct io_uring other;
	u64 begin = test_now_ns();

	test_begin("time, and a ring that cannot be waited for");
	CHECK_IS(rpal_io_uring_wait_cqe(&ring, epoll, &cqe, 0), -ETIME);
	CHECK_IS(rpal_io_uring_wait_cqe(&ring, epoll, &cqe, 50), -ETIME);
	CHECK(!cqe, "a completion");
	CHECK(test_now_ns() - begin >= 50000000, "too early");
	if (io_uring_queue_init_params(8, &other, &params)) {
		test_skip_case("no IORING_SETUP_DEFER_TASKRUN here");
	} else {
		CHECK_IS(rpal_io_uring_wait_cqe(&other, epoll, &cqe, 0), -EINVAL);
		io_uring_queue_exit(&other);
	}
	test_end();
}

static int client_role(void)
{
	struct epoll_event ev = { .events = EPOLLRPALIN };
	struct test_spawn s = { .role = "server", .group = "call" };
	int err;

	call_init(1);
	MUST(!rpal_thread_init());
	err = io_uring_queue_init(8, &ring, 0);
	if (err == -ENOSYS || err == -EPERM) {
		test_begin("io_uring");
		test_skip_case("not on this kernel");
		test_end();
		return 0;
	}
	MUST(!err && !pipe(pipe_fd) && (epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	MUST(!test_spawn(&a.child, &s));
	snprintf(a.path, sizeof(a.path), "%s", PATH);
	call_connect(&a);
	MUST(!rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, a.sock, &ev));
	completions();
	messages();
	refusals();
	io_uring_queue_exit(&ring);
	call_peer_end(&a);
	return 0;
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
