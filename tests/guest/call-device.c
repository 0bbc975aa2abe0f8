// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What else can be done to an open /dev/rpal: commands that there are not, and the
 * system calls of files, in each state that a file can be in.
 */
#include "common.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define RW (PROT_READ | PROT_WRITE)

static long neg(long r)
{
	return r < 0 ? -errno : r;
}

/* ------------------------------------------------------------------- commands */

static bool is_command(unsigned int cmd)
{
	static const unsigned int cmds[] = {
		RPAL_IOC_QUERY,	     RPAL_IOC_PLACE,	   RPAL_IOC_SELF,     RPAL_IOC_REGISTER,
		RPAL_IOC_UNREGISTER, RPAL_IOC_REQUEST,	   RPAL_IOC_RELEASE,  RPAL_IOC_PEER,
		RPAL_IOC_THREAD,     RPAL_IOC_THREAD_EXIT, RPAL_IOC_WAIT,     RPAL_IOC_AWAIT_REPLY,
		RPAL_IOC_WAKE,	     RPAL_IOC_AWAIT,	   RPAL_IOC_DEADLINE, RPAL_IOC_PEER_FD,
		RPAL_IOC_WATCH,	     RPAL_IOC_CHANNEL,	   RPAL_IOC_NOTIFY,   RPAL_IOC_PEER_OF,
		RPAL_IOC_ADOPT,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		/* Those without an argument have no size that could have grown. */
		unsigned int ignored = _IOC_SIZE(cmds[i]) ? IOCSIZE_MASK : 0;

		if (!((cmds[i] ^ cmd) & ~ignored))
			return true;
	}
	return false;
}

/* All numbers, all directions; also of the magics next to ours. */
static void unknown_commands(int fd)
{
	static const unsigned int sizes[] = { 0, 4, 8, 16, 24, 40, 112, 4096, 16383 };
	static u32 arg[4096];
	unsigned int nr, dir, i, found = 0, tried = 0;
	int magic;

	for (magic = RPAL_IOC_MAGIC - 1; magic <= RPAL_IOC_MAGIC + 1; magic++) {
		for (nr = 0; nr < 256; nr++) {
			for (dir = 0; dir < 4; dir++) {
				for (i = 0; i < ARRAY_SIZE(sizes); i++) {
					unsigned int cmd = _IOC(dir, magic, nr, sizes[i]);
					long r;

					tried++;
					if (is_command(cmd)) {
						found++;
						continue;
					}
					r = neg(ioctl(fd, cmd, arg));
					CHECK(r == -ENOTTY, "command %x: %ld", cmd, r);
				}
			}
		}
	}
	CHECK(found == 18 * ARRAY_SIZE(sizes) + 3, "%u commands of %u", found, tried);
}

/* Some numbers mean the same for every file; none of them may do harm. */
static void generic_commands(int fd)
{
	int n = 0;

	CHECK_IS(neg(ioctl(fd, FIONREAD, &n)), -ENOTTY);
	CHECK_IS(neg(ioctl(fd, FIONBIO, &n)), 0);
	CHECK_IS(neg(ioctl(fd, FIOASYNC, &n)), 0);
	n = 1;
	CHECK_IS(neg(ioctl(fd, FIOASYNC, &n)), -ENOTTY);
	CHECK_IS(neg(ioctl(fd, FIOCLEX)), 0);
}

/* ---------------------------------------------------------------- system calls */

/* What a file never does, whatever it is. */
static void never(int fd)
{
	char b[64] = {};
	struct iovec v = { b, sizeof(b) };
	int p[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	loff_t off = 0;

	MUST(!pipe(p) && null >= 0);
	MUST(write(p[1], b, sizeof(b)) == sizeof(b));
	CHECK_IS(neg(write(fd, b, sizeof(b))), -EINVAL);
	CHECK_IS(neg(write(fd, b, 0)), -EINVAL);
	CHECK_IS(neg(writev(fd, &v, 1)), -EINVAL);
	CHECK_IS(neg(lseek(fd, 0, SEEK_SET)), -ESPIPE);
	CHECK_IS(neg(lseek(fd, 0, SEEK_END)), -ESPIPE);
	CHECK_IS(neg(pread(fd, b, sizeof(b), 0)), -ESPIPE);
	CHECK_IS(neg(pwrite(fd, b, sizeof(b), 0)), -ESPIPE);
	CHECK_IS(neg(splice(fd, NULL, p[1], NULL, sizeof(b), SPLICE_F_NONBLOCK)), -EINVAL);
	CHECK_IS(neg(splice(fd, &off, p[1], NULL, sizeof(b), SPLICE_F_NONBLOCK)), -EINVAL);
	CHECK_IS(neg(splice(p[0], NULL, fd, NULL, sizeof(b), SPLICE_F_NONBLOCK)), -EINVAL);
	CHECK(sendfile(null, fd, NULL, sizeof(b)) < 0, "sendfile from it");
	CHECK(sendfile(fd, null, NULL, sizeof(b)) <= 0, "sendfile to it");
	CHECK(copy_file_range(fd, NULL, null, NULL, sizeof(b), 0) < 0, "copied");
	CHECK_IS(neg(ftruncate(fd, 0)), -EINVAL);
	CHECK(fallocate(fd, 0, 0, 1) < 0, "allocated");
	CHECK_IS(neg(fsync(fd)), -EINVAL);
	CHECK(syscall(SYS_getdents64, fd, b, sizeof(b)) < 0, "a directory");
	CHECK(fcntl(fd, F_SETLEASE, F_RDLCK) < 0, "a lease");
	close(p[0]);
	close(p[1]);
	close(null);
}

static short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = ~0 };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents & ~POLLNVAL;
}

/* The same by epoll, which takes the file in. */
static u32 epoll_now(int fd)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN };

	MUST(epoll >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
	e.events = 0;
	epoll_wait(epoll, &e, 1, 0);
	close(epoll);
	return e.events;
}

static void state(const char *name, int fd, short events, long read_ret)
{
	struct rpal_notice n[2];
	struct iovec v[2] = { { n, sizeof(n[0]) }, { n + 1, sizeof(n[1]) } };

	test_begin("%s", name);
	never(fd);
	generic_commands(fd);
	CHECK_IS(poll_now(fd), events);
	CHECK_IS(epoll_now(fd), events & (POLLIN | POLLERR));
	MUST(!fcntl(fd, F_SETFL, O_NONBLOCK));
	CHECK_IS(neg(readv(fd, v, 0)), 0);
	CHECK_IS(neg(syscall(SYS_read, fd, 8, sizeof(n))), read_ret < 0 ? read_ret : -EFAULT);
	CHECK_IS(neg(syscall(SYS_read, fd, -4096L, sizeof(n))), -EFAULT);
	CHECK_IS(neg(read(fd, n, 7)), read_ret == -ENXIO ? -ENXIO : -EINVAL);
	CHECK_IS(neg(readv(fd, v, 2)), read_ret);
	test_end();
}

/* In a child, which has the file but not the memory; then in one that has both. */
static void in_children(const char *name, int fd, short events)
{
	struct rpal_notice n;
	int status;
	pid_t pid;

	test_begin("%s, in a child", name);
	pid = fork();
	if (!pid) {
		CHECK_IS(poll_now(fd), events);
		never(fd);
		CHECK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0) == MAP_FAILED, "mapped");
		CHECK(read(fd, &n, sizeof(n)) < 0, "read");
		_exit(test_failures());
	}
	status = test_wait(pid);
	CHECK(!status, "%s", test_status(status));
	test_end();
}

static void end_link(struct puppet *p, int fd, u64 key)
{
	struct rpal_request r;

	CHECK_IS(test_request(fd, p->key, &r), 0);
	CHECK_IS(puppet_request(p, key, NULL), 0);
	CHECK_IS(puppet_release(p, key, NULL), 0);
}

static int role(void)
{
	struct rpal_register reg;
	struct rpal_channel c = { .size = sizeof(c) };
	struct rpal_notify notify = { .size = sizeof(notify) };
	int fd = test_open(), channel = test_open(), copy;
	struct puppet p;

	test_begin("unknown commands");
	unknown_commands(fd);
	test_end();
	state("a file without a service", fd, POLLERR, -ENXIO);
	in_children("a file without a service", fd, POLLERR);

	MUST(!test_register(fd, &reg));
	state("a service's file", fd, 0, -EAGAIN);
	in_children("a service's file", fd, 0);
	test_begin("unknown commands, with a service");
	unknown_commands(fd);
	test_end();

	puppet_new(&p, "device");
	MUST(!puppet_register(&p));
	end_link(&p, fd, reg.key);
	state("a service's file with a notice", fd, POLLIN | POLLRDNORM,
	      sizeof(struct rpal_notice));
	state("a service's file, when it is read", fd, 0, -EAGAIN);

	c.service = fd;
	notify.id = reg.id;
	MUST(!ioctl(channel, RPAL_IOC_CHANNEL, &c));
	notify.number = c.number;
	state("a channel", channel, 0, -EAGAIN);
	in_children("a channel", channel, 0);
	MUST(!ioctl(fd, RPAL_IOC_NOTIFY, &notify));
	state("a channel with a notice", channel, POLLIN | POLLRDNORM, 8);
	CHECK(mmap(NULL, PAGE, RW, MAP_SHARED, channel, 0) == MAP_FAILED && errno == ENXIO,
	      "errno %d", errno);

	/* Notices go with the service. */
	end_link(&p, fd, reg.key);
	MUST(!ioctl(fd, RPAL_IOC_UNREGISTER));
	state("a channel that has ended", channel, POLLERR, -ENXIO);
	state("a file whose service has ended", fd, POLLERR, -ENXIO);

	test_begin("a file that is closed under another name");
	MUST(!test_register(fd, &reg));
	copy = dup(fd);
	MUST(copy >= 0 && !close(fd));
	CHECK_IS(neg(ioctl(fd, RPAL_IOC_UNREGISTER)), -EBADF);
	CHECK_IS(poll_now(copy), 0);
	CHECK_IS(neg(ioctl(copy, RPAL_IOC_UNREGISTER)), 0);
	close(copy);
	test_end();

	test_begin("a file without access");
	fd = open(TEST_DEV, O_PATH | O_CLOEXEC);
	MUST(fd >= 0);
	CHECK_IS(neg(ioctl(fd, RPAL_IOC_UNREGISTER)), -EBADF);
	close(fd);
	test_end();
	puppet_kill(&p);
	return 0;
}

static const struct test_role roles[] = { { "device", role }, {} };

int main(int argc, char **argv)
{
	struct test_spawn s = { .role = "device", .group = "device" };
	struct test_child c;
	int status;

	test_init(argc, argv, roles);
	errno = test_spawn(&c, &s);
	MUST(!errno);
	status = test_wait(c.pid);
	CHECK(!status, "%s", test_status(status));
	return test_finish();
}
