// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What all processes of a run have in common; see shared.h. */
#include <sys/mman.h>
#include <unistd.h>

#include "shared.h"

struct shared *shared;

static int descriptor = -1;

static void map(int fd)
{
	descriptor = fd;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(shared != MAP_FAILED);
}

void shared_init(void)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	MUST(fd >= 0 && !ftruncate(fd, sizeof(*shared)));
	map(fd);
	MUST(!sched_getaffinity(0, sizeof(shared->cpus), &shared->cpus));
}

int shared_fd(void)
{
	return descriptor;
}

void shared_join(int fd)
{
	map(fd);
	timer = shared->timer;
}
