// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the library does without the module: refusals and their sentences. */
#include <check.h>
#include <fcntl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../lib/internal.h"

/* Each error number has a sentence of its own. */
START_TEST(sentences)
{
	static const int codes[] = {
		RPAL_ERR_NONE,
		RPAL_ERR_BAD_ARG,
		RPAL_ERR_NO_SERVICE,
		RPAL_ERR_MAPPED,
		RPAL_ERR_RETRY,
		RPAL_ERR_BAD_SERVICE_STATUS,
		RPAL_ERR_BAD_THREAD_STATUS,
		RPAL_ERR_REACH_LIMIT,
		RPAL_ERR_NOMEM,
		RPAL_ERR_NOMAPPING,
		RPAL_ERR_INVAL,
		RPAL_ERR_RPALFILE_OPS,
		RPAL_ERR_RPAL_DISABLED,
		RPAL_ERR_GET_CAP_VERSION,
		RPAL_KERNEL_API_NOTSUPPORT,
		RPAL_HARDWARE_NOTSUPPORT,
		RPAL_ERR_SERVICE_KEY,
		RPAL_ERR_SENDERS_METADATA,
		RPAL_ERR_ENABLE_SERVICE,
		RPAL_ERR_SENDER_PAGES,
		RPAL_DONT_INITED,
		RPAL_ERR_SENDER_INIT,
		RPAL_ERR_SENDER_REG,
		RPAL_INVALID_ARG,
		RPAL_CACHE_FULL,
		RPAL_FDE_OUTDATED,
		RPAL_QUEUE_PUT_FAILED,
		RPAL_ERR_PEER_MEM,
		RPAL_ERR_NOTIFY_RECVER,
		RPAL_INVAL_THREAD,
		RPAL_INVAL_SERVICE,
		-ESRCH,
		-ENOTCONN,
		-ENOENT,
		-EPIPE,
		-ECONNREFUSED,
		-EAGAIN,
		-EBUSY,
		-ELOOP,
		-EFAULT,
		-EINVAL,
		-EPROTO,
		-ENXIO,
		-ENOSPC,
		-EOPNOTSUPP,
		-ENOMEM,
		-EEXIST,
		-ETIMEDOUT,
		-ECONNABORTED,
		-EREMOTEIO,
		-EADDRINUSE,
		-EALREADY,
		-EACCES,
		-ENOTUNIQ,
		-EINTR,
		-EPERM,
	};
	const char *unknown = rpal_strerror(12345);
	size_t i, j;

	ck_assert_ptr_nonnull(unknown);
	ck_assert_str_eq(rpal_strerror(-12345), unknown);
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		ck_assert_str_ne(rpal_strerror(codes[i]), unknown);
		for (j = 0; j < i; j++)
			if (codes[i] != -ENOMEM) /* both are out of memory */
				ck_assert_msg(strcmp(rpal_strerror(codes[i]),
						     rpal_strerror(codes[j])) ||
						      codes[i] == -ENXIO || codes[i] == -EINVAL,
					      "%d and %d: %s", codes[i], codes[j],
					      rpal_strerror(codes[i]));
	}
}
END_TEST

/* Numbers that programs were built with. */
START_TEST(numbers)
{
	ck_assert_int_eq(RPAL_ERR_INVAL, 10);
	ck_assert_int_eq(RPAL_KERNEL_MAX_CODE, 100);
	ck_assert_int_eq(RPAL_ERR_RPALFILE_OPS, 101);
	ck_assert_int_eq(RPAL_KERNEL_API_NOTSUPPORT, 104);
	ck_assert_int_eq(RPAL_DONT_INITED, 110);
	ck_assert_int_eq(RPAL_INVALID_ARG, 113);
	ck_assert_int_eq(RPAL_ERR_PEER_MEM, 117);
	ck_assert_int_eq(RPAL_INVAL_SERVICE, 120);
	ck_assert_int_eq(RPAL_FAILURE, -1);
	ck_assert_int_eq(RPAL_SUCCESS, 0);
	ck_assert_int_eq(RPAL_SENDER_RECEIVER, 1);
}
END_TEST

START_TEST(init_arguments)
{
	static const int bad[] = { 0, -1, 257, 1 << 30 };
	rpal_error_code_t code;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		code = RPAL_ERR_NONE;
		ck_assert_int_eq(rpal_init(bad[i], 0, &code), -1);
		ck_assert_int_eq(code, RPAL_INVALID_ARG);
		ck_assert_ptr_nonnull(strstr(rpal_last_error(), "256"));
	}
	ck_assert_int_eq(rpal_init(1, 2, &code), -1);
	ck_assert_int_eq(code, RPAL_INVALID_ARG);
	ck_assert_int_eq(rpal_init(0, 0, NULL), -1);
	rpal_exit();
	rpal_exit();
}
END_TEST

/* Before rpal_init() everything is refused, and says so. */
START_TEST(before_init)
{
	rpal_error_code_t code = RPAL_ERR_NONE;
	uint64_t key = 1;

#define REFUSED(expr, want)                              \
	do {                                             \
		rpal_fail(0, "");                        \
		ck_assert_int_eq(expr, want);            \
		ck_assert_str_ne(rpal_last_error(), ""); \
	} while (0)
	REFUSED(rpal_call(1, 1, NULL, 0, NULL), -ENXIO);
	REFUSED(rpal_call_timeout(1, 1, NULL, 0, NULL, 0, 1), -ENXIO);
	REFUSED(rpal_call_cancel(0), -ENXIO);
	REFUSED(rpal_thread_number(), -ENXIO);
	REFUSED(rpal_serve(-1, 0), -ENXIO);
	REFUSED(rpal_thread_init(), -ENXIO);
	REFUSED(rpal_receiver_init(), -ENXIO);
	REFUSED(rpal_sender_init(&code), RPAL_FAILURE);
	ck_assert_int_eq(code, RPAL_DONT_INITED);
	REFUSED(rpal_sender_exit(), RPAL_FAILURE);
	REFUSED(rpal_get_service_id(), -1);
	REFUSED(rpal_get_service_key(&key), RPAL_FAILURE);
	REFUSED(rpal_get_service_key(NULL), RPAL_FAILURE);
	REFUSED(rpal_request_service(1), -ENXIO);
	REFUSED(rpal_release_service(1), RPAL_FAILURE);
	REFUSED(rpal_get_request_service_id(1), -1);
	REFUSED(rpal_copy_prepare(1), RPAL_FAILURE);
	REFUSED(rpal_copy_finish(), RPAL_FAILURE);
	REFUSED(rpal_connect("/nonexistent", 0, NULL), -ENXIO);
	REFUSED(rpal_accept(0, 0, NULL), -ENXIO);
	REFUSED(rpal_exchange(0, 0), -ENXIO);
	rpal_serve_stop();
	rpal_thread_exit();
	rpal_receiver_exit();
}
END_TEST

START_TEST(messages_before_init)
{
	struct epoll_event ev = { .events = EPOLLRPALIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC), pipes[2];
	struct rpal_buffer buffer = {};
	struct rpal_gone gone;
	int64_t words[1] = {};
	uint64_t handle;
	int64_t ptr = 0;

	ck_assert_int_ge(epoll, 0);
	ck_assert_int_eq(pipe(pipes), 0);
	REFUSED(rpal_call_flags(1, 1, NULL, 0, NULL, 0), -ENXIO);
	REFUSED(rpal_uds_fdmap(0, &handle), RPAL_FAILURE);
	REFUSED(rpal_uds_fdmap_timeout(0, &handle, 0), -ENXIO);
	REFUSED(rpal_uds_fdmap_timeout(0, NULL, 0), -EINVAL);
	REFUSED(rpal_get_peer_rid(0), -1);
	REFUSED(rpal_write_ptrs(1, 0, words, 1), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_write_ptrs(1, 0, NULL, 1), -RPAL_INVALID_ARG);
	REFUSED(rpal_write_ptrs_ex(1, 0, words, 1, 0, NULL), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_read_ptrs(pipes[0], words, 1), -1);
	REFUSED(rpal_read_ptrs(pipes[0], NULL, 1), -1);
	REFUSED(rpal_read_ptrs(pipes[0], words, -1), -1);
	REFUSED(rpal_send_buffer(1, 0, words, 1, 0), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_release_buffer(1, 0, &buffer), -RPAL_INVAL_SERVICE);
	REFUSED(rpal_release_buffer(1, 0, NULL), -RPAL_INVALID_ARG);
	REFUSED(rpal_recv_buffer(pipes[0], &buffer), -1);
	REFUSED(rpal_recv_buffer(pipes[0], NULL), -1);
	REFUSED(rpal_copy_buffer(1, words, &buffer, 0, 1), -ENXIO);
	REFUSED(rpal_copy_buffer(1, words, NULL, 0, 1), -EINVAL);
	REFUSED(rpal_copy_buffer(1, NULL, &buffer, 0, 1), -EINVAL);
	REFUSED(rpal_ready_fd(epoll), -ENXIO);
	REFUSED(rpal_wait(epoll, -1, 0), -EPERM);
	REFUSED(rpal_peer_is_service(0), -ENXIO);
	REFUSED(rpal_read_gone(&gone, 1), -ENXIO);
	REFUSED(rpal_clean_service_start(NULL), RPAL_FAILURE);
	REFUSED(rpal_clean_service_start(&ptr), RPAL_FAILURE);
	REFUSED(rpal_clean_service_next(&ptr, &gone), 0);
	REFUSED(rpal_clean_service_next(NULL, &gone), 0);
	rpal_clean_service_end(&ptr);
	rpal_clean_service_end(NULL);
	REFUSED(rpal_read_access_safety(NULL, NULL), RPAL_FAILURE);
	ck_assert_int_eq(rpal_offered(0), 0);
	errno = 0;
	REFUSED(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &ev), -1);
	ck_assert_int_eq(errno, ENXIO);
	/* As if there were no RPAL. */
	ev.events = EPOLLIN;
	ck_assert_int_eq(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &ev), 0);
	ck_assert_int_eq(rpal_epoll_wait(epoll, &ev, 1, 0), 0);
	ck_assert_int_eq(rpal_epoll_wait(epoll, &ev, 0, 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(rpal_epoll_wait_user(epoll, &ev, 1, 0), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(rpal_epoll_wait_user(epoll, &ev, 0, 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(rpal_close(pipes[0]), 0);
	ck_assert_int_eq(rpal_close(pipes[0]), -1);
	ck_assert_int_eq(errno, EBADF);
	close(pipes[1]);
	close(epoll);
}
END_TEST

static int64_t nothing(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return 0;
}

START_TEST(exporting)
{
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES, nothing, NULL), -EINVAL);
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES - 1, nothing, NULL), 0);
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES - 1, nothing, NULL), -EEXIST);
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES - 1, NULL, NULL), 0);
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES - 1, NULL, NULL), 0);
	ck_assert_int_eq(rpal_export(RPAL_MAX_PROCEDURES - 1, nothing, NULL), 0);
}
END_TEST

START_TEST(listening)
{
	char dir[] = "/tmp/rpal-unit.XXXXXX", path[64], longer[300];
	int fd, fd2;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	fd = rpal_listen(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(rpal_last_error(), path));
	/* Closed, not removed: as a dead program leaves it. */
	close(fd);
	ck_assert_int_eq(access(path, F_OK), 0);
	fd = rpal_listen(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	unlink(path);
	/* Something else of that name is not touched. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	fd = rpal_listen(path);
	ck_assert_int_lt(fd, 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	unlink(path);
	rmdir(dir);
	snprintf(path, sizeof(path), "@rpal-unit-%d", getpid());
	fd = rpal_listen(path);
	ck_assert_int_ge(fd, 0);
	fd2 = rpal_listen(path);
	ck_assert_int_eq(fd2, -EADDRINUSE);
	close(fd);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(rpal_listen(longer), -ENAMETOOLONG);
	ck_assert_int_eq(rpal_listen(""), -EINVAL);
	ck_assert_int_eq(rpal_listen(NULL), -EINVAL);
	ck_assert_int_lt(rpal_listen("/nonexistent/s"), 0);
}
END_TEST

START_TEST(rights)
{
	/* Own key 1, callee's key 2; two bits each, from key 0 on. */
	ck_assert_uint_eq(rpal_pkru_for(1, 2, RPAL_CALL_GRANT_NONE), 0x55555544);
	ck_assert_uint_eq(rpal_pkru_for(1, 2, 0), 0x55555548);
	ck_assert_uint_eq(rpal_pkru_for(1, 2, RPAL_CALL_GRANT_WRITE), 0x55555540);
	ck_assert_uint_eq(rpal_pkru_for(15, 1, RPAL_CALL_GRANT_WRITE), 0x15555550);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("library");
	Suite *s = suite_create("library");
	SRunner *sr;
	int failed;

	suite_add_tcase(s, tc);
	tcase_add_test(tc, sentences);
	tcase_add_test(tc, numbers);
	tcase_add_test(tc, init_arguments);
	tcase_add_test(tc, before_init);
	tcase_add_test(tc, messages_before_init);
	tcase_add_test(tc, exporting);
	tcase_add_test(tc, listening);
	tcase_add_test(tc, rights);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
