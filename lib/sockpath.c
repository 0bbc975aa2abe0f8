// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What is at the path of a socket?
 *
 * bind() says EADDRINUSE of a directory as of a service that runs, and connect() says
 * ECONNREFUSED of a regular file as of a socket that was left behind.
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

/* 0 or the errno with which one cannot connect. */
static int try_it(const struct sockaddr_un *addr, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

	if (fd < 0)
		return errno;
	err = connect(fd, (const struct sockaddr *)addr, len) ? errno : 0;
	close(fd);
	return err;
}

bool rpal_sockpath_stale(const struct sockaddr_un *addr, socklen_t len)
{
	struct stat st;

	/* Connecting to what is no socket is refused just the same. */
	if (!addr->sun_path[0] || lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	return try_it(addr, len) == ECONNREFUSED;
}

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a named pipe";
	case S_IFSOCK:
		return "a socket";
	}
	return "a device";
}

int rpal_sockpath_taken(const char *path, const struct sockaddr_un *addr, socklen_t len)
{
	struct stat st;

	if (path[0] == '@')
		return rpal_failf(-EADDRINUSE, "another socket has the name %s", path);
	if (lstat(path, &st))
		return rpal_failf(-EADDRINUSE, "cannot look at what is at %s: %s", path,
				  strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return rpal_failf(-EADDRINUSE,
				  "there is %s at %s: remove it, or use another path for the socket",
				  kind_of(st.st_mode), path);
	switch (try_it(addr, len)) {
	case ECONNREFUSED:
		return rpal_failf(-EADDRINUSE,
				  "user %u has left a socket at %s, which this process may not "
				  "remove: let that user or root do so, or use another path",
				  st.st_uid, path);
	case EACCES:
	case EPERM:
		return rpal_failf(-EADDRINUSE,
				  "there is a socket of user %u at %s, to which this process may "
				  "not connect: use another path",
				  st.st_uid, path);
	case EPROTOTYPE:
		return rpal_failf(-EADDRINUSE, "another program has a socket of another type at %s",
				  path);
	}
	return rpal_failf(-EADDRINUSE, "another program or thread listens at %s", path);
}

static int nobody(const char *path, int err)
{
	struct stat st;

	if (path[0] == '@' || lstat(path, &st))
		return rpal_failf(-err, "nobody listens at %s", path);
	if (!stat(path, &st) && !S_ISSOCK(st.st_mode))
		return rpal_failf(-err, "nobody listens at %s, where %s is", path,
				  kind_of(st.st_mode));
	return rpal_failf(-err, "nobody listens at %s any more, although a socket is there", path);
}

int rpal_sockpath_unreachable(const char *path, int err)
{
	struct stat st;

	switch (err) {
	case ENOENT:
	case ECONNREFUSED:
		return nobody(path, err);
	case EACCES:
	case EPERM:
		if (path[0] == '@' || lstat(path, &st))
			return rpal_failf(-err, "no permission to connect to %s", path);
		return rpal_failf(-err,
				  "no permission to connect to %s, %s of user %u and with mode %04o",
				  path, kind_of(st.st_mode), st.st_uid, st.st_mode & 07777);
	case EAGAIN:
		return rpal_failf(-ETIMEDOUT, "the program at %s does not accept", path);
	case EPROTOTYPE:
		return rpal_failf(-err,
				  "the socket at %s is of another type: rpal_listen() makes "
				  "SOCK_STREAM",
				  path);
	}
	return rpal_failf(-err, "cannot connect to %s: %s", path, strerror(err));
}
