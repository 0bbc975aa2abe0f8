// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The library's functions with bad arguments, in a process that is a service and has
 * a peer: each gives what is documented, and a sentence. tests/unit/library.c has what
 * they do without the module.
 */
#include "call.h"

#include <sys/epoll.h>
#include <sys/socket.h>

PROC(p_nothing)
{
	return 17;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[] = { p_nothing };

	return call_server(procs, 1);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;
static int dev, epoll, pipes[2], sockets[2];

/* It gives @want, with a sentence that was not there before. */
#define REFUSED(expr, want)                                                      \
	do {                                                                     \
		rpal_export(RPAL_MAX_PROCEDURES, NULL, NULL);                    \
		snprintf(before, sizeof(before), "%s", rpal_last_error());       \
		CHECK_IS(expr, want);                                            \
		CHECK(strcmp(before, rpal_last_error()) && rpal_last_error()[0], \
		      "no sentence: %s", #expr);                                 \
	} while (0)

static char before[320];

/* One that says it by errno, as the function that it is like. */
#define REFUSED_ERRNO(expr, want)                                                   \
	do {                                                                        \
		errno = 0;                                                          \
		CHECK_IS(expr, -1);                                                 \
		CHECK(errno == (want), "%s: errno %d, not %d", #expr, errno, want); \
	} while (0)

static void services(void)
{
	uint64_t key = 0;
	size_t i;
	static const int ids[] = { 0, -1, 255, 256, 1 << 30, -0x40000000 };

	test_begin("services and keys");
	CHECK_IS(rpal_get_service_key(&key), RPAL_SUCCESS);
	REFUSED(rpal_get_service_key(NULL), RPAL_FAILURE);
	REFUSED(rpal_request_service(0), -ENOENT);
	REFUSED(rpal_request_service(12345), -ENOENT);
	REFUSED(rpal_request_service(key), -EINVAL);
	REFUSED(rpal_release_service(0), RPAL_FAILURE);
	REFUSED(rpal_release_service(12345), RPAL_FAILURE);
	REFUSED(rpal_release_service(key), RPAL_FAILURE);
	REFUSED(rpal_get_request_service_id(0), -1);
	REFUSED(rpal_get_request_service_id(12345), -1);
	CHECK_IS(rpal_init(1, 0, NULL), -1);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		REFUSED(rpal_copy_prepare(ids[i]), RPAL_FAILURE);
		REFUSED(rpal_call(ids[i], 0, NULL, 0, NULL), -ESRCH);
	}
	REFUSED(rpal_copy_finish(), RPAL_FAILURE);
	CHECK_IS(rpal_copy_prepare(a.id), RPAL_SUCCESS);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	test_end();
}

static void calls(void)
{
	static char memory[64];
	int64_t r = 0;
	unsigned int bit;

	test_begin("calls");
	CHECK_IS(rpal_call(a.id, 0, memory, sizeof(memory), NULL), 0);
	CHECK_IS(rpal_call(a.id, 0, NULL, 0, &r), 0);
	CHECK_IS(r, 17);
	REFUSED(rpal_call(a.id, 1, NULL, 0, &r), -ENOENT);
	REFUSED(rpal_call(a.id, RPAL_MAX_PROCEDURES, NULL, 0, &r), -ENOENT);
	REFUSED(rpal_call(a.id, 0xffffffff, NULL, 0, &r), -ENOENT);
	REFUSED(rpal_call(a.id, 0, NULL, 1, &r), -EFAULT);
	REFUSED(rpal_call(a.id, 0, memory, (size_t)-1, &r), -EFAULT);
	REFUSED(rpal_call(a.id, 0, (void *)8, 8, &r), -EFAULT);
	REFUSED(rpal_call(a.id, 0, (void *)-4096, 8, &r), -EFAULT);
	REFUSED(rpal_call(a.id, 0, (void *)(RPAL_SLOT_SIZE * 200), 8, &r), -EFAULT);
	for (bit = 8; bit; bit <<= 1)
		REFUSED(rpal_call_flags(a.id, 0, NULL, 0, &r, bit), -EINVAL);
	REFUSED(rpal_call_flags(a.id, 0, NULL, 0, &r, RPAL_CALL_GRANT_NONE | RPAL_CALL_GRANT_WRITE),
		-EINVAL);
	REFUSED(rpal_call_timeout(a.id, 0, NULL, 0, &r, 8, 1000), -EINVAL);
	REFUSED(rpal_call_timeout(-1, 0, NULL, 0, &r, 0, 1000), -ESRCH);
	CHECK_IS(rpal_call_timeout(a.id, 0, NULL, 0, &r, 0, 0x7fffffff), 0);
	CHECK_IS(rpal_call_timeout(a.id, 0, NULL, 0, &r, 0, -0x7fffffff), 0);
	REFUSED(rpal_call_cancel(-1), -ESRCH);
	REFUSED(rpal_call_cancel(RPAL_MAX_RECEIVERS + RPAL_MAX_SENDERS), -ESRCH);
	REFUSED(rpal_call_cancel(0x7fffffff), -ESRCH);
	REFUSED(rpal_call_cancel(rpal_thread_number()), -ESRCH);
	REFUSED(rpal_read_access_safety(NULL, NULL), RPAL_FAILURE);
	test_end();
}

static void serving(void)
{
	int regular = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	MUST(regular >= 0);
	test_begin("serving");
	REFUSED(rpal_serve(900, 0), -EBADF);
	REFUSED(rpal_serve(regular, 0), -EPERM);
	CHECK_IS(rpal_serve(pipes[0], 0), RPAL_SERVE_TIMEOUT);
	CHECK_IS(rpal_serve(-1, 0), RPAL_SERVE_TIMEOUT);
	close(regular);
	test_end();
}

static void linking(void)
{
	char longer[300];
	int fd, sock;

	test_begin("linking");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	REFUSED(rpal_connect(NULL, 0, NULL), -EINVAL);
	REFUSED(rpal_connect("", 0, NULL), -EINVAL);
	REFUSED(rpal_connect(longer, 0, NULL), -ENAMETOOLONG);
	REFUSED(rpal_connect("/nonexistent/s", 0, &sock), -ENOENT);
	REFUSED(rpal_connect("@nobody", 0, &sock), -ECONNREFUSED);
	REFUSED(rpal_exchange(-1, 0), -EBADF);
	CHECK(rpal_exchange(900, 0) < 0, "with no descriptor");
	CHECK(rpal_exchange(pipes[0], 0) < 0, "with a pipe");
	REFUSED(rpal_exchange(sockets[0], 1), -ETIMEDOUT);
	/* What it has said there is not to be taken for somebody's. */
	CHECK_IS(rpal_offered(sockets[1]), 1);
	CHECK_IS(rpal_offered(-1), 0);
	CHECK_IS(rpal_offered(pipes[0]), 0);
	REFUSED(rpal_peer_is_service(-1), -EBADF);
	REFUSED(rpal_peer_is_service(900), -EBADF);
	REFUSED(rpal_peer_is_service(pipes[0]), -ENOTSOCK);
	CHECK_IS(rpal_peer_is_service(sockets[0]), 1);
	fd = rpal_listen("@misuse");
	CHECK(fd >= 0, "%d", fd);
	REFUSED(rpal_accept(fd, 0, &sock), -ETIMEDOUT);
	REFUSED(rpal_accept(fd, 0, NULL), -ETIMEDOUT);
	CHECK_IS(rpal_accept(-EADDRINUSE, 0, NULL), -EADDRINUSE);
	CHECK(rpal_accept(900, 0, NULL) < 0, "with no descriptor");
	CHECK(rpal_accept(pipes[1], 0, NULL) < 0, "with a pipe");
	close(fd);
	test_end();
}

#define SID(id, fd) ((uint64_t)(uint32_t)(id) << 32 | (uint32_t)(fd))

static void messages(void)
{
	int64_t words[RPAL_MAX_WORDS + 1] = {};
	struct rpal_buffer buffer = {};
	uint64_t handle = 0;
	char room[8];
	size_t i;
	static const int lens[] = { 0, -1, RPAL_MAX_WORDS + 1, 0x7fffffff };

	test_begin("messages");
	REFUSED(rpal_uds_fdmap(SID(a.id, a.sock), NULL), RPAL_FAILURE);
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, a.sock), NULL, 0), -EINVAL);
	REFUSED(rpal_uds_fdmap_timeout(SID(0, a.sock), &handle, 0), -ESRCH);
	REFUSED(rpal_uds_fdmap_timeout(SID(-1, a.sock), &handle, 0), -ESRCH);
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, -1), &handle, 0), -EBADF);
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, pipes[0]), &handle, 0), -ENOTSOCK);
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, sockets[0]), &handle, 0), -EREMOTE);
	/* It has no queue there. */
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, a.sock), &handle, 0), -EAGAIN);
	REFUSED(rpal_uds_fdmap_timeout(SID(a.id, a.sock), &handle, 1), -ETIMEDOUT);
	REFUSED(rpal_get_peer_rid(SID(a.id, -1)), -1);
	CHECK_IS(handle, 0);

	for (i = 0; i < ARRAY_SIZE(lens); i++)
		REFUSED(rpal_write_ptrs(a.id, 0, words, lens[i]), -RPAL_INVALID_ARG);
	REFUSED(rpal_write_ptrs(a.id, 0, NULL, 1), -RPAL_INVALID_ARG);
	REFUSED(rpal_write_ptrs_ex(a.id, 0, words, 1, 2, NULL), -RPAL_INVALID_ARG);
	REFUSED(rpal_write_ptrs_ex(a.id, 0, words, 1, 1U << 31, NULL), -RPAL_INVALID_ARG);
	REFUSED(rpal_write_ptrs(0, 0, words, 1), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_write_ptrs(-1, 0, words, 1), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_write_ptrs(256, 0, words, 1), -RPAL_INVAL_SERVICE);
	for (i = 0; i < 64; i++)
		REFUSED(rpal_write_ptrs(a.id, 1ULL << i, words, 1), -RPAL_FDE_OUTDATED);
	REFUSED(rpal_read_ptrs(-1, words, 1), -1);
	REFUSED(rpal_read_ptrs(900, words, 1), -1);
	REFUSED(rpal_read_ptrs(0x7fffffff, words, 1), -1);
	REFUSED(rpal_read_ptrs(sockets[0], words, 1), -1);
	REFUSED(rpal_read_ptrs(sockets[0], NULL, 1), -1);
	REFUSED(rpal_read_ptrs(sockets[0], words, -1), -1);
	test_end();

	test_begin("buffers");
	REFUSED(rpal_send_buffer(-1, 0, words, sizeof(words), 0), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_release_buffer(a.id, 0, NULL), -RPAL_INVALID_ARG);
	REFUSED(rpal_release_buffer(-1, 0, &buffer), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_recv_buffer(sockets[0], NULL), -1);
	REFUSED(rpal_recv_buffer(-1, &buffer), -1);
	REFUSED(rpal_copy_buffer(a.id, room, NULL, 0, 1), -EINVAL);
	buffer = (struct rpal_buffer){ .addr = words, .len = sizeof(words) };
	REFUSED(rpal_copy_buffer(a.id, NULL, &buffer, 0, 1), -EINVAL);
	REFUSED(rpal_copy_buffer(-1, room, &buffer, 0, 1), -ESRCH);
	/* Ours, which is not the peer's. */
	REFUSED(rpal_copy_buffer(a.id, room, &buffer, 0, 1), -EINVAL);
	REFUSED(rpal_copy_buffer(a.id, room, &buffer, 8, (size_t)-1), -EINVAL);
	CHECK_IS(rpal_copy_buffer(a.id, room, &buffer, sizeof(words), 1), 0);
	CHECK_IS(rpal_copy_buffer(a.id, room, &buffer, (size_t)-1, 1), 0);
	buffer.addr = (void *)(RPAL_SLOT_SIZE * a.id + (1UL << 38));
	REFUSED(rpal_copy_buffer(a.id, room, &buffer, 0, 1), -EFAULT);
	test_end();
}

static void waiting(void)
{
	struct epoll_event ev = { .events = EPOLLIN }, all[2];
	struct timespec bad = { .tv_nsec = -1 };
	int fd;

	test_begin("epoll");
	REFUSED_ERRNO(rpal_epoll_ctl(-1, EPOLL_CTL_ADD, sockets[0], &ev), EBADF);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, -1, &ev), EBADF);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[0], NULL), EFAULT);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, 77, sockets[0], &ev), EINVAL);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, sockets[0], &ev), ENOENT);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_DEL, sockets[0], NULL), ENOENT);
	REFUSED_ERRNO(rpal_epoll_ctl(pipes[0], EPOLL_CTL_ADD, sockets[0], &ev), EINVAL);
	ev.events = EPOLLRPALIN;
	REFUSED_ERRNO(rpal_epoll_ctl(-1, EPOLL_CTL_ADD, sockets[0], &ev), EBADF);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, -1, &ev), EBADF);
	REFUSED_ERRNO(rpal_epoll_wait_user(epoll, all, 2, 0), EBADF);
	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[0], &ev), 0);
	REFUSED_ERRNO(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[0], &ev), EEXIST);
	REFUSED_ERRNO(rpal_epoll_wait_user(epoll, all, 0, 0), EINVAL);
	REFUSED_ERRNO(rpal_epoll_wait_user(epoll, all, -1, 0), EINVAL);
	REFUSED_ERRNO(rpal_epoll_wait_user(epoll, NULL, 2, 0), EFAULT);
	REFUSED_ERRNO(rpal_epoll_wait_user(-1, all, 2, 0), EBADF);
	CHECK_IS(rpal_epoll_wait_user(epoll, all, 2, 0), 0);
	/* As a receiver, which this thread is since it has served. */
	REFUSED_ERRNO(rpal_epoll_wait(epoll, all, 0, 0), EINVAL);
	REFUSED_ERRNO(rpal_epoll_wait(epoll, all, -1, 0), EINVAL);
	REFUSED_ERRNO(rpal_epoll_wait(epoll, NULL, 2, 0), EFAULT);
	REFUSED_ERRNO(rpal_epoll_wait(-1, all, 2, 0), EBADF);
	REFUSED_ERRNO(rpal_epoll_wait(pipes[0], all, 2, 0), EINVAL);
	REFUSED_ERRNO(rpal_epoll_pwait(epoll, all, 0, 0, NULL), EINVAL);
	REFUSED_ERRNO(rpal_epoll_pwait2(epoll, all, 2, &bad, NULL), EINVAL);
	bad = (struct timespec){ .tv_sec = -1 };
	REFUSED_ERRNO(rpal_epoll_pwait2(epoll, all, 2, &bad, NULL), EINVAL);
	bad = (struct timespec){ .tv_nsec = 1000000000 };
	REFUSED_ERRNO(rpal_epoll_pwait2(epoll, all, 2, &bad, NULL), EINVAL);
	CHECK_IS(rpal_epoll_wait(epoll, all, 2, 0), 0);
	fd = rpal_ready_fd(-1);
	CHECK(fd < 0, "rpal_ready_fd(-1) is %d", fd);
	fd = rpal_ready_fd(epoll);
	CHECK(fd >= 0, "rpal_ready_fd() is %d: %s", fd, rpal_last_error());
	REFUSED(rpal_wait(-1, -1, 0), -EBADF);
	REFUSED(rpal_wait(900, -1, 0), -EBADF);
	REFUSED(rpal_wait(epoll, 900, 0), -EBADF);
	MUST(write(pipes[1], "", 1) == 1);
	CHECK_IS(rpal_wait(epoll, pipes[0], 0), RPAL_WAIT_INPUT);
	CHECK_IS(rpal_wait(epoll, -1, 0), 0);
	REFUSED_ERRNO(rpal_close(-1), EBADF);
	REFUSED_ERRNO(rpal_close(900), EBADF);
	REFUSED_ERRNO(rpal_close(0x7fffffff), EBADF);
	test_end();
}

static void *not_a_receiver(void *unused)
{
	REFUSED(rpal_wait(epoll, -1, 0), -EPERM);
	return unused;
}

static void peers_gone(void)
{
	struct rpal_gone gone = {};
	pthread_t thread;
	int64_t ptr = 0;

	test_begin("peers that have gone, and a thread that is no receiver");
	REFUSED(rpal_read_gone(NULL, 1), -EINVAL);
	REFUSED(rpal_read_gone(&gone, -1), -EINVAL);
	CHECK_IS(rpal_read_gone(NULL, 0), 0);
	CHECK_IS(rpal_read_gone(&gone, 1), 0);
	REFUSED(rpal_clean_service_start(NULL), RPAL_FAILURE);
	REFUSED(rpal_clean_service_start(&ptr), RPAL_FAILURE);
	REFUSED(rpal_clean_service_next(&ptr, &gone), 0);
	REFUSED(rpal_clean_service_next(NULL, &gone), 0);
	rpal_clean_service_end(&ptr);
	rpal_clean_service_end(NULL);
	MUST(!pthread_create(&thread, NULL, not_a_receiver, NULL));
	pthread_join(thread, NULL);
	/* None of it was lost by that. */
	call_peer_end(&a);
	while (rpal_clean_service_start(&ptr))
		usleep(1000);
	REFUSED(rpal_clean_service_next(&ptr, NULL), 0);
	CHECK_IS(rpal_clean_service_next(&ptr, &gone), 1);
	CHECK(gone.service_id == a.id && gone.reason == RPAL_GONE_ENDED, "id %d reason %d",
	      gone.service_id, gone.reason);
	CHECK_IS(rpal_clean_service_next(&ptr, &gone), 0);
	rpal_clean_service_end(&ptr);
	CHECK_IS(ptr, 0);
	REFUSED(rpal_clean_service_next(&ptr, &gone), 0);
	rpal_clean_service_end(&ptr);
	test_end();
}

static int client_role(void)
{
	dev = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(dev >= 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(epoll >= 0 && !pipe(pipes) && !socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	call_peer_new(&a, "server", 1);
	services();
	serving();
	calls();
	linking();
	messages();
	waiting();
	peers_gone();
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
