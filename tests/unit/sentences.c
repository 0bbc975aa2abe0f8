// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What the library says is the case: of what is at the path of a socket, and of two
 * who may not link. Some cases are about other users, and need root to become them.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../lib/internal.h"

#define NOBODY 65534

static char dir[] = "/tmp/rpal-sentences.XXXXXX", path[64];

static void set_up(void)
{
	strcpy(dir, "/tmp/rpal-sentences.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
}

static void tear_down(void)
{
	unlink(path);
	rmdir(path);
	rmdir(dir);
}

static void says(const char *text)
{
	ck_assert_msg(strstr(rpal_last_error(), text), "'%s' does not say '%s'", rpal_last_error(),
		      text);
}

static int make_socket(int type, bool do_listen)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(addr.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (do_listen)
		ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

/* In a child, as another user: 0 if it says so. */
static void as_nobody(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
			_exit(2);
		_exit(what());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static int check_sentence(int ret, int want, const char *text)
{
	if (ret == want && strstr(rpal_last_error(), text))
		return 0;
	fprintf(stderr, "%d, '%s' without '%s'\n", ret, rpal_last_error(), text);
	return 1;
}

/* --- where one wants to listen */

START_TEST(taken_by_what_is_no_socket)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("there is a regular file at");
	ck_assert_int_eq(access(path, F_OK), 0);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("there is a directory at");
	rmdir(path);
	ck_assert_int_eq(symlink("nowhere", path), 0);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("there is a symbolic link at");
	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("there is a named pipe at");
}
END_TEST

START_TEST(taken_by_a_socket)
{
	int fd = make_socket(SOCK_STREAM, true);

	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("another program or thread listens at");
	close(fd);
	unlink(path);
	fd = make_socket(SOCK_DGRAM, false);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("a socket of another type");
	close(fd);
	snprintf(path, sizeof(path), "@rpal-sentences-%d", getpid());
	fd = rpal_listen(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(rpal_listen(path), -EADDRINUSE);
	says("another socket has the name @rpal-sentences");
	close(fd);
	ck_assert_int_eq(rpal_listen("/nonexistent/s"), -ENOENT);
	says("its directory is not there");
}
END_TEST

static int listen_at_dead(void)
{
	return check_sentence(rpal_listen(path), -EADDRINUSE, "user 0 has left a socket at");
}

static int listen_at_closed(void)
{
	return check_sentence(rpal_listen(path), -EADDRINUSE, "a socket of user 0");
}

/* In /tmp nobody removes what is another's. */
START_TEST(taken_by_another_user)
{
	int fd = make_socket(SOCK_STREAM, true);

	ck_assert_int_eq(chmod(dir, 01777), 0);
	ck_assert_int_eq(chmod(path, 0700), 0);
	as_nobody(listen_at_closed);
	ck_assert_int_eq(chmod(path, 0777), 0);
	close(fd);
	as_nobody(listen_at_dead);
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

/* --- where one wants to connect */

START_TEST(unreachable)
{
	int fd;

	ck_assert_int_eq(rpal_sockpath_unreachable(path, ENOENT), -ENOENT);
	says("nobody listens at");
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_int_eq(rpal_sockpath_unreachable(path, ECONNREFUSED), -ECONNREFUSED);
	says("where a regular file is");
	unlink(path);
	close(make_socket(SOCK_STREAM, true));
	ck_assert_int_eq(rpal_sockpath_unreachable(path, ECONNREFUSED), -ECONNREFUSED);
	says("any more, although a socket is there");
	ck_assert_int_eq(chmod(path, 0640), 0);
	ck_assert_int_eq(rpal_sockpath_unreachable(path, EACCES), -EACCES);
	says("a socket of user ");
	says("mode 0640");
	ck_assert_int_eq(rpal_sockpath_unreachable("@x", ECONNREFUSED), -ECONNREFUSED);
	says("nobody listens at @x");
}
END_TEST

/* --- who may not link */

START_TEST(refused_of_one_user)
{
	int sock[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	ck_assert_int_eq(rpal_refusal_own(sock[0], -EACCES), -EACCES);
	says("this process may not read the other's memory: ");
	says("one user, group and user namespace");
	says("undumpable");
	ck_assert_int_eq(rpal_refusal_peer(sock[0], -EACCES), -EREMOTEIO);
	says("the peer may not read this process's memory: ");
	says("undumpable");
	/* What is told of the peer is not said of this process. */
	ck_assert_int_eq(rpal_refusal_peer(sock[0], -EPERM), -EREMOTEIO);
	says("the peer cannot link: it is no service");
	ck_assert_int_eq(rpal_refusal_peer(sock[0], -ENOTUNIQ), -EREMOTEIO);
	says("--group");
	ck_assert_int_eq(rpal_refusal_own(sock[0], -ENOTUNIQ), -ENOTUNIQ);
	says("--group");
	close(sock[0]);
	close(sock[1]);
}
END_TEST

static int theirs;

static int refused_as_nobody(void)
{
	/* The end was made by root, and may be of this user by now: no more is said. */
	return check_sentence(rpal_refusal_own(theirs, -EACCES), -EACCES,
			      "user 0 of group 0 made the socket's other end (and may be another "
			      "now), this process is of user 65534, group 65534; both must") ||
	       check_sentence(rpal_refusal_own(theirs, -EACCES), -EACCES, "as setuid() makes it") ||
	       /* The end of the sentence: all of it has room. */
	       check_sentence(rpal_refusal_own(theirs, -EACCES), -EACCES, "must let them") ||
	       check_sentence(rpal_refusal_peer(theirs, -EACCES), -EREMOTEIO,
			      "the peer may not read this process's memory: user 0 of group 0");
}

/* The pair was made by root, as was a listening socket that a service was handed. */
START_TEST(refused_of_other_users)
{
	int sock[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	theirs = sock[1];
	as_nobody(refused_as_nobody);
	close(sock[0]);
	close(sock[1]);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("sentences");
	Suite *s = suite_create("sentences");
	SRunner *sr;
	int failed;

	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, taken_by_what_is_no_socket);
	tcase_add_test(tc, taken_by_a_socket);
	tcase_add_test(tc, unreachable);
	tcase_add_test(tc, refused_of_one_user);
	if (!geteuid()) {
		tcase_add_test(tc, taken_by_another_user);
		tcase_add_test(tc, refused_of_other_users);
	} else {
		fputs("not root: the cases of other users are left out\n", stderr);
	}
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
