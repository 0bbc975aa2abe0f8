/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the echo examples share: the socket, and a clock. */
#ifndef EXAMPLES_ECHO_H
#define EXAMPLES_ECHO_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET	 "/tmp/rpal-echo.sock"
#define BUF_SIZE 4096

static inline int echo_socket(const char *path, struct sockaddr_un *addr)
{
	addr->sun_family = AF_UNIX;
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline int echo_listen(const char *path)
{
	struct sockaddr_un addr;
	int fd = echo_socket(path, &addr);

	unlink(path);
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 64) ? -1 : fd;
}

static inline int echo_connect(const char *path)
{
	struct sockaddr_un addr;
	int fd = echo_socket(path, &addr), i;

	for (i = 0; i < 500; i++, usleep(10000))
		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			return fd;
	return -1;
}

static inline uint64_t echo_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

#endif /* EXAMPLES_ECHO_H */
