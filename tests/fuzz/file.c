// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Descriptors: opened, closed, doubled, passed to others, polled and read.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *sun, const char *what, u32 i)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path + 1, sizeof(sun->sun_path) - 1, "fuzz-%s-%u", what, i);
	return sizeof(*sun);
}

/* Descriptor @fd becomes number @number. */
static void put_at(int fd, int number)
{
	if (fd < 0)
		return;
	dup3(fd, number, one_in(2) ? O_CLOEXEC : 0);
	close(fd);
}

static void open_file(int i)
{
	put_at(open(TEST_DEV, one_in(2) ? O_RDWR : O_RDWR | O_NONBLOCK), FUZZ_FD + i);
}

static void open_sockets(void)
{
	struct sockaddr_un sun;
	int fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	bind(fd, (void *)&sun, address(&sun, "mail", fuzz_me));
	put_at(fd, FUZZ_MAIL);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	bind(fd, (void *)&sun, address(&sun, "door", fuzz_me));
	listen(fd, 4);
	put_at(fd, FUZZ_DOOR);
}

/* What was inherited from before an exec stays, if it does not get replaced. */
void fuzz_open_files(void)
{
	int i, fd[2];

	for (i = 0; i < FUZZ_FILES; i++)
		if (fcntl(FUZZ_FD + i, F_GETFD) < 0 || one_in(2))
			open_file(i);
	close(FUZZ_MAIL);
	close(FUZZ_DOOR);
	open_sockets();
	put_at(epoll_create1(0), FUZZ_EPOLL);
	put_at(eventfd(0, EFD_NONBLOCK), FUZZ_EVENT);
	if (!pipe2(fd, O_NONBLOCK)) {
		put_at(fd[1], FUZZ_PIPE + 1);
		put_at(fd[0], FUZZ_PIPE);
	}
	fd[0] = memfd_create("fuzz", 0);
	if (ftruncate(fd[0], FUZZ_ARENA_SIZE))
		return;
	put_at(fd[0], FUZZ_MEMFD);
}

/* A number to be used again; rarely that of the file that owns the service. */
static int any_number(void)
{
	int fd = FUZZ_FD + below(FUZZ_FILES);

	if (fd == fuzz_service_fd && !one_in(32))
		fd = FUZZ_FD + (fd - FUZZ_FD + 1) % FUZZ_FILES;
	return fd;
}

void op_open(void)
{
	open_file(any_number() - FUZZ_FD);
}

void op_close(void)
{
	close(any_number());
}

void op_dup(void)
{
	dup3(any_file(), any_number(), one_in(2) ? O_CLOEXEC : 0);
}

static void pass(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {};
	struct iovec iov = { "f", 1 };
	struct sockaddr_un sun;
	struct msghdr m = { .msg_name = &sun,
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	m.msg_namelen = address(&sun, "mail", below(FUZZ_PLACES));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(FUZZ_MAIL, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		fuzz_count(&board->passed);
}

static void take(void)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))), byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(FUZZ_MAIL, &m, MSG_DONTWAIT) != 1)
		return;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	put_at(fd, any_number());
}

void op_pass(void)
{
	if (one_in(2))
		pass(one_in(4) ? any_fd() : any_file());
	else
		take();
}

void op_connect(void)
{
	struct sockaddr_un sun;
	int i = FUZZ_SOCK + below(FUZZ_SOCKS), fd;

	if (one_in(2)) {
		put_at(accept4(FUZZ_DOOR, NULL, NULL, SOCK_NONBLOCK), i);
		return;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(fd, (void *)&sun, address(&sun, "door", below(FUZZ_PLACES))))
		close(fd);
	else
		put_at(fd, i);
}

void op_read(void)
{
	int fd = any_file(), v = one_in(2);
	u64 addr, len = below(64);

	/* Nobody shall sleep for long. */
	fcntl(fd, F_SETFL, one_in(16) ? 0 : O_NONBLOCK);
	addr = any_address(len);
	switch (below(8)) {
	case 0:
		/* It may be another file, which somebody has passed. */
		if (write(fd, (void *)addr, len) > 0 && one_in(2))
			return;
		break;
	case 1:
		if (pread(fd, (void *)addr, len, below(2)) > 0 && one_in(2))
			return;
		break;
	case 2:
		ioctl(fd, one_in(2) ? FIOASYNC : FIONBIO, &v);
		fcntl(fd, F_SETOWN, getpid());
		break;
	case 3:
		sendfile(FUZZ_PIPE + 1, fd, NULL, 64);
		break;
	case 4:
		splice(fd, NULL, FUZZ_PIPE + 1, NULL, 64, SPLICE_F_NONBLOCK);
		break;
	default:
		if (read(fd, (void *)addr, len) < 0)
			return;
	}
}

static void use_event(void)
{
	u64 one = 1;

	if (one_in(2) ? write(FUZZ_EVENT, &one, 8) : read(FUZZ_EVENT, &one, 8))
		return;
}

void op_poll(void)
{
	struct epoll_event ev = { .events = test_random() & (EPOLLIN | EPOLLOUT | EPOLLET |
							     EPOLLONESHOT | EPOLLEXCLUSIVE) };
	struct pollfd pfd[3] = { { any_file(), POLLIN, 0 },
				 { any_fd(), POLLIN, 0 },
				 { FUZZ_EPOLL, POLLIN, 0 } };

	switch (below(6)) {
	case 0:
	case 1:
		epoll_ctl(FUZZ_EPOLL, 1 + below(3), one_in(2) ? any_file() : any_fd(), &ev);
		break;
	case 2:
		epoll_wait(FUZZ_EPOLL, &ev, 1, below(2));
		break;
	case 3:
		put_at(epoll_create1(0), FUZZ_EPOLL);
		break;
	case 4:
		use_event();
		break;
	default:
		poll(pfd, 3, below(3));
	}
}
