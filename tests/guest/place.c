// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The smallest launcher: place [-g GROUP] [-p] PROGRAM [ARG]...
 *
 * Executes PROGRAM in a slot of its own. With -p, says on standard error in
 * which process first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/rpal.h>

int main(int argc, char **argv)
{
	struct rpal_place place = { .size = sizeof(place) };
	int fd, opt, pid = 0;

	while ((opt = getopt(argc, argv, "+g:p")) != -1) {
		switch (opt) {
		case 'g':
			strncpy((char *)place.group, optarg, sizeof(place.group) - 1);
			break;
		case 'p':
			pid = 1;
			break;
		default:
			return 125;
		}
	}
	if (optind == argc) {
		fprintf(stderr, "usage: place [-g GROUP] [-p] PROGRAM [ARG]...\n");
		return 125;
	}
	fd = open("/dev/rpal", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, RPAL_IOC_PLACE, &place)) {
		perror("place: /dev/rpal");
		return 125;
	}
	if (pid)
		fprintf(stderr, "%d\n", getpid());
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "place: %s: %s\n", argv[optind], strerror(errno));
	return 126;
}
