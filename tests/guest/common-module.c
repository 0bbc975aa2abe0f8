// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Taking the module out and putting it in again.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MODULE "/vm/rpal.ko"

static struct stat device;

bool test_module_file(void)
{
	return !access(MODULE, R_OK);
}

int test_module_unload(void)
{
	struct stat st;

	/* udev would set owner and mode again. */
	if (!stat(TEST_DEV, &st))
		device = st;
	return syscall(SYS_delete_module, "rpal", O_NONBLOCK) ? -errno : 0;
}

int test_module_unload_soon(int seconds)
{
	u64 end = test_now_ns() + seconds * 1000000000ULL;
	int e;

	while ((e = test_module_unload()) && test_now_ns() < end)
		usleep(20000);
	return e;
}

int test_insmod(const char *file, const char *parameters)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC), e;

	if (fd < 0)
		return -errno;
	e = syscall(SYS_finit_module, fd, parameters, 0) ? -errno : 0;
	close(fd);
	return e;
}

int test_module_load(const char *parameters)
{
	int e = test_insmod(MODULE, parameters), i;

	if (e)
		return e;
	for (i = 0; i < 500 && access(TEST_DEV, F_OK); i++)
		usleep(10000);
	if (device.st_mode && (chown(TEST_DEV, device.st_uid, device.st_gid) ||
			       chmod(TEST_DEV, device.st_mode & 07777)))
		return -errno;
	return access(TEST_DEV, F_OK) ? -errno : 0;
}
